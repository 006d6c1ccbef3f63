/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XBZRLE. Decoding: the input is a delta, for pages of several sizes. Encoding: two pages and the room for the delta come from
 * the input; decoded onto the old page the delta gives the new one. Buffers have their exact sizes, for the address sanitizer.
 */
#include "migration/ram/xbzrle.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/cleanup.h"

static uint8_t *copy_of(const void *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	MUST(copy);
	if (len)
		memcpy(copy, data, len);
	return copy;
}

static void decode(const uint8_t *data, size_t size, size_t page_len)
{
	scoped_free uint8_t *src = copy_of(data, size);
	scoped_free uint8_t *page = malloc(page_len ? page_len : 1);
	int covered;

	MUST(page);
	memset(page, 0xa5, page_len ? page_len : 1);
	covered = xbzrle_decode_buffer(src, (int)size, page, (int)page_len);
	MUST(covered >= -1 && covered <= (int)page_len);
	MUST((covered == 0) == (size == 0));
	for (size_t i = covered < 0 ? page_len : (size_t)covered; i < page_len; i++)
		MUST(page[i] == 0xa5);
}

/* Returns the delta's length or what encode said instead. */
static int encode(const uint8_t *old, const uint8_t *new, size_t len, size_t room)
{
	scoped_free uint8_t *delta = malloc(room ? room : 1);
	scoped_free uint8_t *page = copy_of(old, len);
	int n;

	MUST(delta);
	n = xbzrle_encode_buffer(old, new, (int)len, delta, (int)room);
	MUST(n >= XBZRLE_OVERFLOW && n <= (int)room);
	MUST((n == XBZRLE_UNCHANGED) == !memcmp(old, new, len));
	if (n > 0) {
		int covered = xbzrle_decode_buffer(delta, n, page, (int)len);

		MUST(covered > 0 && covered <= (int)len && !memcmp(page, new, len));
		/* Canonical: behind what it covers nothing differs, and its last byte does. */
		MUST(old[covered - 1] != new[covered - 1]);
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t lengths[] = { 4096, 1, 64, 16383 };
	struct input in = { data, size };
	size_t room = take_u16(&in), len = in.left / 2;
	scoped_free uint8_t *old = NULL, *new = NULL;
	int small, large;

	for (size_t i = 0; i < 4; i++)
		decode(data, size, lengths[i]);
	if (len > XBZRLE_MAX_PAGE)
		return 0;
	old = copy_of(in.data, len);
	new = copy_of(in.data + len, len);
	/* Mostly equal, as pages are, where the room is odd. */
	for (size_t i = 0; room & 1 && i < len; i++)
		new[i] = new[i] & 0xf ? old[i] : new[i];
	small = encode(old, new, len, room);
	large = encode(old, new, len, 4 * len + 4);
	MUST(large >= 0);
	MUST(small == XBZRLE_OVERFLOW ? (size_t)large > room : small == large);
	return 0;
}
