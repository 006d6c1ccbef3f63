/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: page_is_zero() is true for a page of zeroes and false for every other one, whichever byte
 * is not zero, and reads nothing outside the page. So is each of the ways it has for a CPU.
 *
 * How: each bit value at each of the 4096 places, alone; every length that is allowed, in a block
 * of exactly that size (for the address sanitizer) and one whose neighbours are not zero. The
 * source is included, so that a CPU's way is tested where another one would be chosen.
 */
#include "migration/ram/zero.c"
#include "tests/unit/support.h"

#define PAGE 4096u

static bool by_sse2(const void *page, size_t len)
{
	return is_zero_sse2(page, len);
}

/* Where there is none of it, once more what is chosen. */
static bool by_avx2(const void *page, size_t len)
{
	return __builtin_cpu_supports("avx2") ? is_zero_avx2(page, len) : page_is_zero(page, len);
}

static const struct {
	const char *name;
	bool (*is_zero)(const void *page, size_t len);
} ways[] = { { "as chosen", page_is_zero }, { "SSE2", by_sse2 }, { "AVX2", by_avx2 } };

#define EACH_WAY(w) (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++)

Test(zero, one_byte_at_each_place)
{
	uint64_t words[PAGE / 8] = { 0 };
	uint8_t *page = (uint8_t *)words;

	for
		EACH_WAY(w)
		{
			cr_assert(ways[w].is_zero(page, PAGE));
			for (size_t at = 0; at < PAGE; at++) {
				for (unsigned int bit = 0; bit < 8; bit++) {
					page[at] = (uint8_t)(1u << bit);
					cr_assert_not(ways[w].is_zero(page, PAGE),
						      "%s: bit %u of byte %zu", ways[w].name, bit,
						      at);
				}
				page[at] = 0;
			}
			cr_assert(ways[w].is_zero(page, PAGE));
		}
}

static void check_length(size_t w, size_t len)
{
	uint8_t *block = malloc(len + 16);
	uint8_t *page = block + 8;

	memset(block, 0xff, len + 16);
	memset(page, 0, len);
	cr_assert(ways[w].is_zero(page, len), "%s: %zu bytes", ways[w].name, len);
	for (size_t at = 0; at < len; at += 63) {
		page[at] = 0x80;
		cr_assert_not(ways[w].is_zero(page, len), "%s: byte %zu of %zu", ways[w].name, at,
			      len);
		page[at] = 0;
	}
	page[len - 1] = 1;
	cr_assert_not(ways[w].is_zero(page, len), "%s: the last of %zu bytes", ways[w].name, len);
	free(block);
	page = calloc(1, len);
	cr_assert(ways[w].is_zero(page, len));
	free(page);
}

Test(zero, every_length_and_nothing_beside_it)
{
	for
		EACH_WAY(w)
	for (size_t len = 64; len <= PAGE; len += 64)
		check_length(w, len);
}
