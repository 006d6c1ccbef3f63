/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the XBZRLE encoder writes exactly the bytes of stream-format.md section 3, never one beyond
 * its room, and the decoder undoes it, refuses every malformed encoding, and never writes outside
 * its page.
 *
 * How: a naive encoder and decoder below look at one byte at a time; random pages of every kind
 * must give the same bytes there and here. What is decoded lies in blocks of the exact size, for
 * the address sanitizer; what is written to has guard bytes behind it, for runs without it.
 */
#include "migration/ram/xbzrle.h"
#include "tests/unit/support.h"

#define SEED 0x5eed0101
#define PAGE 4096u
#define GUARD 0xa5
#define GUARDS 16u

/* --- the shadow model: one byte at a time, straight from the format's page --- */

struct bytes {
	uint8_t *at;
	size_t len, room;
};

static void naive_put(struct bytes *to, unsigned int byte)
{
	if (to->len < to->room)
		to->at[to->len] = (uint8_t)byte;
	to->len++;
}

static void naive_put_uleb(struct bytes *to, size_t value)
{
	while (value > 127) {
		naive_put(to, 128 | (value & 127));
		value >>= 7;
	}
	naive_put(to, (unsigned int)value);
}

/* The encoding's length, whether it fits in room or not; 0: the pages are equal. */
static size_t naive_encode(const uint8_t *old, const uint8_t *new, size_t len, uint8_t *dst,
			   size_t room)
{
	struct bytes to = { dst, 0, room };
	size_t i = 0, zeroes, changed;

	for (;;) {
		for (zeroes = 0; i < len && old[i] == new[i]; i++)
			zeroes++;
		if (i == len)
			return to.len;
		for (changed = 0; i < len && old[i] != new[i]; i++)
			changed++;
		naive_put_uleb(&to, zeroes);
		naive_put_uleb(&to, changed);
		for (size_t k = i - changed; k < i; k++)
			naive_put(&to, new[k]);
	}
}

static bool naive_uleb(const uint8_t *src, size_t len, size_t *at, unsigned int *value)
{
	unsigned int shift = 0, byte;

	*value = 0;
	do {
		if (*at == len || shift == 14)
			return false;
		byte = src[(*at)++];
		*value |= (byte & 127) << shift;
		shift += 7;
	} while (byte & 128);
	return true;
}

/* How far into the page the encoding reaches, or -1. */
static int naive_decode(const uint8_t *src, size_t len, uint8_t *page, size_t page_len)
{
	size_t at = 0, to = 0;
	unsigned int run;

	while (at < len) {
		if (!naive_uleb(src, len, &at, &run) || (!run && to > 0))
			return -1;
		for (; run > 0; run--)
			if (to++ == page_len)
				return -1;
		if (!naive_uleb(src, len, &at, &run) || !run)
			return -1;
		for (; run > 0; run--) {
			if (at == len || to == page_len)
				return -1;
			page[to++] = src[at++];
		}
	}
	return (int)to;
}

/* --- random pages --- */

/* A new page made from an old one; every kind of change comes up. */
static void change(struct prng *rng, uint8_t *new, size_t len)
{
	size_t at, n;

	switch (prng_below(rng, 6)) {
	case 0: /* some words */
		for (n = 1 + prng_below(rng, 8); n > 0; n--)
			for (at = prng_below(rng, len) & ~(size_t)7; at < len; at++) {
				new[at] = (uint8_t)prng_next(rng);
				if (at % 8 == 7)
					break;
			}
		break;
	case 1: /* some bytes */
		for (n = 1 + prng_below(rng, 20); n > 0; n--)
			new[prng_below(rng, len)] ^= (uint8_t)(1 + prng_below(rng, 255));
		break;
	case 2: /* all, but for chance */
		prng_fill(rng, new, len);
		break;
	case 3: /* runs that mind no boundary */
		for (n = 1 + prng_below(rng, 12); n > 0; n--) {
			size_t run = 1 + prng_below(rng, 40);

			for (at = prng_below(rng, len); run > 0 && at < len; run--)
				new[at++] ^= (uint8_t)(1 + prng_below(rng, 255));
		}
		break;
	case 4: /* every second byte or so */
		for (at = 0; at < len; at++)
			new[at] ^= (uint8_t)prng_below(rng, 2);
		break;
	default: /* a long run: counts of two bytes */
		at = prng_below(rng, len);
		for (n = prng_below(rng, len - at + 1); n > 0; n--)
			new[at++] ^= 0x80;
	}
}

static void expect_guard(const uint8_t *at, const char *what)
{
	for (size_t i = 0; i < GUARDS; i++)
		cr_assert_eq(at[i], GUARD, "%s: byte %zu behind the end was written", what, i);
}

/* A copy whose next byte the address sanitizer guards. */
static uint8_t *exact(const void *from, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	memcpy(copy, from, len);
	return copy;
}

/* Encode into a buffer of exactly `room` bytes plus guards, and check the guards. */
static int encode(const uint8_t *old, const uint8_t *new, size_t len, uint8_t *dst, size_t room)
{
	int n;

	memset(dst, GUARD, room + GUARDS);
	n = xbzrle_encode_buffer(old, new, len, dst, room);
	expect_guard(dst + room, "encoder");
	return n;
}

/* The pair in every way: encoding as the model's, decodable, with every room around its length. */
static void check_pair(const uint8_t *old, const uint8_t *new, size_t len, unsigned int iteration)
{
	static uint8_t have[3 * PAGE + GUARDS], want[3 * PAGE], page[PAGE + GUARDS];
	size_t n = naive_encode(old, new, len, want, sizeof(want));

	cr_assert_leq(n, sizeof(want));
	cr_assert_eq(encode(old, new, len, have, n + 7), (int)n,
		     "seed %#x iteration %u, %zu bytes: length differs from %zu", SEED, iteration,
		     len, n);
	cr_assert_arr_eq(have, want, n, "seed %#x iteration %u: bytes differ", SEED, iteration);
	if (!n)
		return;
	for (size_t room = n > 4 ? n - 4 : 0; room <= n + 1; room++)
		cr_assert_eq(encode(old, new, len, have, room), room < n ? XBZRLE_OVERFLOW : (int)n,
			     "seed %#x iteration %u: room for %zu of %zu bytes", SEED, iteration,
			     room, n);
	memcpy(page, old, len);
	memset(page + len, GUARD, GUARDS);
	cr_assert_gt(xbzrle_decode_buffer(want, n, page, len), 0, "seed %#x iteration %u", SEED,
		     iteration);
	cr_assert_arr_eq(page, new, len, "seed %#x iteration %u: decoded wrongly", SEED, iteration);
	expect_guard(page + len, "decoder");
}

Test(xbzrle, the_formats_own_vector)
{
	static const uint8_t want[24] = { 0xe9, 0x07, 0x0f, 0x01, 0x02, 0x03, 0x04, 0x05,
					  0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d,
					  0x0e, 0x0f, 0x03, 0x01, 0x67, 0x01, 0x01, 0x69 };
	uint8_t old[PAGE] = { 0 }, new[PAGE] = { 0 }, dst[PAGE];

	for (uint8_t i = 0; i < 15; i++)
		new[1001 + i] = i + 1;
	new[1019] = 0x67;
	new[1021] = 0x69;
	cr_assert_eq(xbzrle_encode_buffer(old, new, PAGE, dst, PAGE), 24);
	cr_assert_arr_eq(dst, want, 24);
	cr_assert_eq(xbzrle_encode_buffer(old, new, PAGE, dst, 24), 24);
	cr_assert_eq(xbzrle_encode_buffer(old, new, PAGE, dst, 23), XBZRLE_OVERFLOW);
	cr_assert_eq(xbzrle_decode_buffer(want, 24, old, PAGE), 1022, "as far as the last change");
	cr_assert_arr_eq(old, new, PAGE);
}

Test(xbzrle, counts_of_one_and_two_bytes)
{
	static uint8_t old[XBZRLE_MAX_PAGE], new[XBZRLE_MAX_PAGE], dst[2 * XBZRLE_MAX_PAGE];

	new[127] = 1;
	cr_assert_eq(xbzrle_encode_buffer(old, new, sizeof(new), dst, sizeof(dst)), 3);
	expect_hex(dst, 3, "7f 01 01", "127 equal bytes");
	new[127] = 0;
	new[128] = 1;
	cr_assert_eq(xbzrle_encode_buffer(old, new, sizeof(new), dst, sizeof(dst)), 4);
	expect_hex(dst, 4, "80 01 01 01", "128 equal bytes");
	new[128] = 0;
	new[16382] = 1;
	cr_assert_eq(xbzrle_encode_buffer(old, new, sizeof(new), dst, sizeof(dst)), 4);
	expect_hex(dst, 4, "fe 7f 01 01", "16382 equal bytes");
	memset(new, 1, sizeof(new));
	cr_assert_eq(xbzrle_encode_buffer(old, new, sizeof(new), dst, sizeof(dst)), 3 + 16383);
	expect_hex(dst, 4, "00 ff 7f 01", "16383 changed bytes");
	cr_assert_eq(xbzrle_decode_buffer(dst, 3 + 16383, old, sizeof(old)), 16383);
	cr_assert_arr_eq(old, new, sizeof(new));
}

Test(xbzrle, small_numbers_there_and_back)
{
	static const struct {
		uint32_t n;
		const char *hex;
	} golden[] = {
		{ 0, "00" },	    { 1, "01" },	{ 127, "7f" },	    { 128, "80 01" },
		{ 129, "81 01" },   { 1001, "e9 07" },	{ 8191, "ff 3f" },  { 8192, "80 40" },
		{ 16255, "ff 7e" }, { 16256, "80 7f" }, { 16383, "ff 7f" },
	};

	for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
		uint8_t out[2];

		expect_hex(out, (size_t)uleb128_encode_small(out, golden[i].n), golden[i].hex,
			   "a number");
	}
	for (uint32_t n = 0; n <= ULEB128_SMALL_MAX; n++) {
		uint8_t out[3] = { GUARD, GUARD, GUARD };
		uint32_t back = ~n;
		int len = uleb128_encode_small(out, n);

		cr_assert_eq(len, n < 128 ? 1 : 2, "%u", n);
		cr_assert_eq(out[len], GUARD, "%u: a byte too many was written", n);
		cr_assert_eq(uleb128_decode_small(out, &back), len, "%u", n);
		cr_assert_eq(back, n);
	}
}

/* Whatever the two bytes are; and where the first says that it is the last, there is no second one to read. */
Test(xbzrle, small_numbers_from_anybody)
{
	for (unsigned int first = 0; first < 256; first++) {
		for (unsigned int second = 0; second < 256; second++) {
			const uint8_t in[2] = { (uint8_t)first, (uint8_t)second };
			int want = first < 128 ? 1 : second < 128 ? 2 : -1;
			uint8_t *exactly = exact(in, want == 1 ? 1 : 2);
			uint32_t n = 77;

			cr_assert_eq(uleb128_decode_small(exactly, &n), want, "%02x %02x", first,
				     second);
			cr_assert_eq(n, want == 1   ? first
					: want == 2 ? (first & 127) + 128 * second
						    : 0);
			free(exactly);
		}
	}
}

/* The last byte alone: counts of two bytes and of one, and it covers the whole page. */
Test(xbzrle, the_last_byte_of_a_page)
{
	uint8_t old[PAGE] = { 0 }, new[PAGE] = { 0 }, dst[PAGE], number[2];

	new[PAGE - 1] = 1;
	cr_assert_eq(xbzrle_encode_buffer(old, new, PAGE, dst, PAGE),
		     uleb128_encode_small(number, PAGE - 1) + 2);
	cr_assert_eq(xbzrle_decode_buffer(dst, 4, old, PAGE), PAGE);
	cr_assert_arr_eq(old, new, PAGE);
}

/* Three bytes for each second one of the page: more than the page itself. */
Test(xbzrle, every_second_byte_does_not_fit_in_a_page)
{
	uint8_t old[PAGE] = { 0 }, new[PAGE] = { 0 }, dst[PAGE + GUARDS];

	for (size_t i = 0; i + 2 < PAGE; i += 2)
		new[i] = 1;
	cr_assert_eq(encode(old, new, PAGE, dst, PAGE), XBZRLE_OVERFLOW);
}

Test(xbzrle, a_negative_length_decodes_to_nothing)
{
	uint8_t src[] = { 0, 1, 0xaa }, page[4] = { 0 };

	cr_assert_eq(xbzrle_decode_buffer(src, -1, page, sizeof(page)), -1);
	cr_assert_eq(xbzrle_decode_buffer(src, sizeof(src), page, -1), -1);
	cr_assert_eq(page[0], 0);
}

Test(xbzrle, equal_pages_are_unchanged_whatever_the_room)
{
	struct prng rng = { SEED };
	uint8_t page[PAGE], dst[GUARDS];

	prng_fill(&rng, page, sizeof(page));
	for (size_t len = 0; len <= PAGE; len += len < 130 ? 1 : 331)
		cr_assert_eq(encode(page, page, len, dst, 0), XBZRLE_UNCHANGED, "%zu bytes", len);
}

Test(xbzrle, random_pages_as_the_model_has_them)
{
	struct prng rng = { SEED };

	for (unsigned int i = 0; i < 3000; i++) {
		size_t len = i % 4 ? PAGE : 1 + prng_below(&rng, PAGE);
		uint8_t *old = malloc(len), *new;

		if (i % 3)
			prng_fill(&rng, old, len);
		else
			memset(old, 0, len);
		new = exact(old, len);
		change(&rng, new, len);
		check_pair(old, new, len, i);
		free(old);
		free(new);
	}
}

/* Every length and alignment of one run among short pages: nothing is special about a word. */
Test(xbzrle, each_run_in_each_place)
{
	uint8_t old[40] = { 0 }, new[40];
	unsigned int n = 0;

	for (size_t len = 1; len <= sizeof(old); len++) {
		for (size_t from = 0; from < len; from++) {
			for (size_t to = from + 1; to <= len; to++) {
				memset(new, 0, sizeof(new));
				memset(new + from, 0x80, to - from);
				check_pair(old, new, len, n++);
			}
		}
	}
}

/* Differences that borrow-and-carry tricks take for each other: 0x00, 0x01, 0x80, 0xff. */
Test(xbzrle, words_made_of_the_awkward_bytes)
{
	static const uint8_t awkward[4] = { 0x00, 0x01, 0x80, 0xff };
	uint8_t old[24], new[24];
	struct prng rng = { SEED + 1 };

	for (unsigned int i = 0; i < 20000; i++) {
		for (size_t k = 0; k < sizeof(old); k++) {
			old[k] = awkward[prng_below(&rng, 4)];
			new[k] = old[k] ^ awkward[prng_below(&rng, 4)];
		}
		check_pair(old, new, 1 + prng_below(&rng, sizeof(old)), i);
	}
}

/* Decode with the address sanitizer's eyes on both buffers; the answer must be the model's. */
static int decode_both(const uint8_t *src, size_t len, size_t page_len, const char *what)
{
	uint8_t *in = exact(src, len), *page = malloc(page_len + GUARDS), *model = malloc(page_len);
	int n, want;

	memset(page, 0x5a, page_len);
	memset(page + page_len, GUARD, GUARDS);
	memset(model, 0x5a, page_len);
	n = xbzrle_decode_buffer(in, len, page, page_len);
	want = naive_decode(src, len, model, page_len);
	cr_assert_eq(n, want, "%s: %d, expected %d", what, n, want);
	if (n >= 0)
		cr_assert_arr_eq(page, model, page_len, "%s: decoded wrongly", what);
	expect_guard(page + page_len, what);
	free(in);
	free(page);
	free(model);
	return n;
}

Test(xbzrle, each_malformed_encoding_is_refused)
{
	static const struct {
		const char *hex, *what;
	} bad[] = {
		{ "00", "a zrun alone" },
		{ "05", "equal bytes with nothing behind them" },
		{ "00 00", "an nzrun of 0" },
		{ "01 00 aa", "an nzrun of 0 and a byte" },
		{ "01 80 00 aa", "an nzrun of 0 in two bytes" },
		{ "00 01 aa 00 01 bb", "a second zrun of 0" },
		{ "00 01 aa 80 00 01 bb", "a second zrun of 0 in two bytes" },
		{ "80 80 01 01 aa", "a zrun of three bytes" },
		{ "00 81 80 00 aa", "an nzrun of three bytes" },
		{ "80", "half a zrun" },
		{ "01 80", "half an nzrun" },
		{ "00 02 aa", "fewer bytes than counted" },
		{ "40 01 aa", "a change just behind the page" },
		{ "3f 02 aa bb", "a change across the page's end" },
		{ "41 01 aa", "equal bytes beyond the page" },
		{ "00 01 aa 3f 01 bb", "a second change behind the page" },
		{ "ff 7f 01 aa", "the largest zrun" },
		{ "00 ff 7f aa", "the largest nzrun" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t src[32];
		size_t len = bytes_of(bad[i].hex, src, sizeof(src));

		cr_assert_eq(decode_both(src, len, 64, bad[i].what), -1, "%s: accepted",
			     bad[i].what);
	}
}

/* Not because it is long, but because it is of three bytes: these would fit. */
Test(xbzrle, a_count_of_three_bytes_is_refused_even_where_it_fits)
{
	static const uint8_t zrun[] = { 0x80, 0x80, 0x01, 0x01, 0xaa };
	static uint8_t nzrun[4 + 16385] = { 0x00, 0x81, 0x80, 0x01 };

	cr_assert_eq(decode_both(zrun, sizeof(zrun), 20000, "zrun"), -1);
	cr_assert_eq(decode_both(nzrun, sizeof(nzrun), 20000, "nzrun"), -1);
}

Test(xbzrle, the_decoder_takes_what_is_legal_at_the_edges)
{
	static const struct {
		const char *hex;
		int covers;
	} good[] = {
		{ "00 01 aa", 1 },    { "3f 01 aa", 64 },	   { "3e 02 aa bb", 64 },
		{ "01 01 aa", 2 },    { "00 01 aa 3e 01 bb", 64 }, { "80 00 01 aa", 1 },
		{ "01 81 00 aa", 2 },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint8_t src[16];
		size_t len = bytes_of(good[i].hex, src, sizeof(src));

		cr_assert_eq(decode_both(src, len, 64, good[i].hex), good[i].covers, "%s",
			     good[i].hex);
	}
}

/* What lies behind the last run, and between runs, stays as it was. */
Test(xbzrle, the_rest_is_left_as_it_is)
{
	static const uint8_t src[] = { 2, 2, 0xaa, 0xbb, 3, 1, 0xcc };
	static const uint8_t want[] = { 1, 2, 0xaa, 0xbb, 5, 6, 7, 0xcc, 9, 10, 11, 12 };
	uint8_t page[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

	cr_assert_eq(xbzrle_decode_buffer(src, sizeof(src), page, sizeof(page)), 8);
	cr_assert_arr_eq(page, want, sizeof(want));
	cr_assert_eq(xbzrle_decode_buffer(NULL, 0, page, sizeof(page)), 0,
		     "nothing changes nothing");
	cr_assert_arr_eq(page, want, sizeof(want));
}

/* A cut is refused, but between two pairs, where it is a shorter encoding. */
Test(xbzrle, cut_at_every_byte)
{
	struct prng rng = { SEED + 2 };

	for (unsigned int i = 0; i < 40; i++) {
		uint8_t old[PAGE], new[PAGE], src[3 * PAGE];
		unsigned int refused = 0;
		size_t n;

		prng_fill(&rng, old, sizeof(old));
		memcpy(new, old, sizeof(new));
		for (n = 1 + prng_below(&rng, 6); n > 0; n--)
			memset(new + prng_below(&rng, PAGE - 160), (int)prng_next(&rng), 150);
		n = naive_encode(old, new, PAGE, src, sizeof(src));
		for (size_t cut = 0; cut < n; cut++)
			refused += decode_both(src, cut, PAGE, "cut") < 0;
		cr_assert_gt(refused, n / 2, "seed %#x iteration %u: %u of %zu cuts refused",
			     SEED + 2, i, refused, n);
	}
}

/* Noise of small and of all bytes: never outside the page, and always the model's answer. */
Test(xbzrle, noise)
{
	struct prng rng = { SEED + 3 };
	unsigned int taken = 0;
	char what[64];

	for (unsigned int i = 0; i < 30000; i++) {
		size_t len = prng_below(&rng, 40), page_len = 1 + prng_below(&rng, 200);
		uint8_t src[40];

		for (size_t k = 0; k < len; k++)
			src[k] = (uint8_t)(i % 2 ? prng_below(&rng, 6) : prng_next(&rng));
		snprintf(what, sizeof(what), "seed %#x iteration %u", SEED + 3, i);
		taken += decode_both(src, len, page_len, what) > 0;
	}
	cr_assert_gt(taken, 100, "the noise is of the wrong sort: %u were taken", taken);
}
