/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/ram/xbzrle.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/base/bytes.h"

#define WORD sizeof(uint64_t)
#define BLOCK (8 * WORD)

/* The lowest byte of a word that is not zero: as words are read little-endian, the first in memory. */
static size_t first_byte_set(uint64_t word)
{
	return (size_t)__builtin_ctzll(word) / 8;
}

/* The first offset at or after i where the pages differ, or len. */
static size_t equal_until(const uint8_t *a, const uint8_t *b, size_t i, size_t len)
{
	/* Whole cache lines first: most of a sparse page is equal. */
	while (i + BLOCK <= len) {
		uint64_t diff = 0;

		for (size_t k = 0; k < BLOCK; k += WORD)
			diff |= get_le64(a + i + k) ^ get_le64(b + i + k);
		if (diff)
			break;
		i += BLOCK;
	}
	for (; i + WORD <= len; i += WORD) {
		uint64_t diff = get_le64(a + i) ^ get_le64(b + i);

		if (diff)
			return i + first_byte_set(diff);
	}
	while (i < len && a[i] == b[i])
		i++;
	return i;
}

/* Has the word a byte that is zero? Exact as to whether; the lowest bit that is set is exact as to where. */
static uint64_t zero_bytes(uint64_t word)
{
	return (word - 0x0101010101010101ull) & ~word & 0x8080808080808080ull;
}

/* The first offset at or after i where the pages are equal, or len. */
static size_t changed_until(const uint8_t *a, const uint8_t *b, size_t i, size_t len)
{
	for (; i + WORD <= len; i += WORD) {
		uint64_t equal = zero_bytes(get_le64(a + i) ^ get_le64(b + i));

		if (equal)
			return i + first_byte_set(equal);
	}
	while (i < len && a[i] != b[i])
		i++;
	return i;
}

int uleb128_encode_small(uint8_t *out, uint32_t n)
{
	assert(n <= ULEB128_SMALL_MAX);
	if (n < 0x80) {
		out[0] = (uint8_t)n;
		return 1;
	}
	out[0] = (uint8_t)(n | 0x80);
	out[1] = (uint8_t)(n >> 7);
	return 2;
}

int uleb128_decode_small(const uint8_t *in, uint32_t *n)
{
	*n = in[0];
	if (in[0] < 0x80)
		return 1;
	if (in[1] & 0x80) {
		*n = 0;
		return -1;
	}
	*n = (in[0] & 0x7f) | (uint32_t)in[1] << 7;
	return 2;
}

static size_t count_bytes(size_t count)
{
	return count < 0x80 ? 1 : 2;
}

int xbzrle_encode_buffer(const uint8_t *old_buf, const uint8_t *new_buf, int slen, uint8_t *dst,
			 int dlen)
{
	size_t at = 0, used = 0, len = (size_t)slen;

	assert(slen >= 0 && slen <= XBZRLE_MAX_PAGE && dlen >= 0);
	for (;;) {
		size_t change = equal_until(old_buf, new_buf, at, len);
		size_t end, zrun, nzrun;

		if (change == len)
			return (int)used;
		end = changed_until(old_buf, new_buf, change, len);
		zrun = change - at;
		nzrun = end - change;
		if (used + count_bytes(zrun) + count_bytes(nzrun) + nzrun > (size_t)dlen)
			return XBZRLE_OVERFLOW;
		used += (size_t)uleb128_encode_small(dst + used, (uint32_t)zrun);
		used += (size_t)uleb128_encode_small(dst + used, (uint32_t)nzrun);
		memcpy(dst + used, new_buf + change, nzrun);
		used += nzrun;
		at = end;
	}
}

/* The count at src[*at]; false where it is cut off or longer than two bytes. */
static bool take_count(const uint8_t *src, size_t src_len, size_t *at, size_t *count)
{
	uint32_t n;
	int used;

	/* uleb128_decode_small() does not know where src ends: its second byte must be there before it is asked. */
	if (*at >= src_len || (src[*at] & 0x80 && src_len - *at < 2))
		return false;
	used = uleb128_decode_small(src + *at, &n);
	if (used < 0)
		return false;
	*at += (size_t)used;
	*count = n;
	return true;
}

int xbzrle_decode_buffer(const uint8_t *src, int slen, uint8_t *dst, int dlen)
{
	size_t at = 0, to = 0, src_len = (size_t)slen, dst_len = (size_t)dlen;

	if (slen < 0 || dlen < 0)
		return -1;
	while (at < src_len) {
		size_t zrun, nzrun;

		if (!take_count(src, src_len, &at, &zrun) || (zrun == 0 && to != 0) ||
		    zrun > dst_len - to)
			return -1;
		to += zrun;
		if (!take_count(src, src_len, &at, &nzrun) || nzrun == 0 || nzrun > src_len - at ||
		    nzrun > dst_len - to)
			return -1;
		memcpy(dst + to, src + at, nzrun);
		at += nzrun;
		to += nzrun;
	}
	return (int)to;
}
