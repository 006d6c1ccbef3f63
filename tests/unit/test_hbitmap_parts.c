/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the serialized form of a hierarchical bitmap is one linear run of little-endian bits, whatever the word size and byte order
 * of the host that writes and of the one that reads it; what a stream says cannot do harm.
 *
 * How: golden bytes; a writer and a reader that know nothing but "bit n is bit n % 8 of byte n / 8"; and hosts of other sorts,
 * simulated: their memory is bytes, their words have 1 to 8 of them in the host's order, and they write words as such a host does.
 */
#include "tests/unit/hbitmap_support.h"

SUITE(hbitmap_parts);

#define SEED 0x5eed0b18
#define RUN 640 /* bytes: 5120 bits */

static void bytewise_put(uint8_t *run, uint64_t bit)
{
	run[bit / 8] = (uint8_t)(run[bit / 8] | 1u << (bit % 8));
}

static bool bytewise_get(const uint8_t *run, uint64_t bit)
{
	return run[bit / 8] & 1u << (bit % 8);
}

/* --- hosts of other sorts --- */

struct host {
	const char *name;
	unsigned int word; /* bytes */
	bool big_endian;
	uint8_t memory[RUN]; /* its bitmap: an array of words */
};

static const struct host hosts[] = {
	{ .name = "bytes", .word = 1 },
	{ .name = "16 bits, little-endian", .word = 2 },
	{ .name = "16 bits, big-endian", .word = 2, .big_endian = true },
	{ .name = "32 bits, little-endian", .word = 4 },
	{ .name = "32 bits, big-endian", .word = 4, .big_endian = true },
	{ .name = "64 bits, little-endian", .word = 8 },
	{ .name = "64 bits, big-endian", .word = 8, .big_endian = true },
};

static uint64_t host_read(const struct host *h, const uint8_t *at)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < h->word; i++)
		value = value << 8 | at[h->big_endian ? i : h->word - 1 - i];
	return value;
}

static void host_write(const struct host *h, uint8_t *at, uint64_t value)
{
	for (unsigned int i = 0; i < h->word; i++, value >>= 8)
		at[h->big_endian ? h->word - 1 - i : i] = (uint8_t)value;
}

/* What such a host's "to little-endian" makes of a word: an exchange of its bytes, or nothing. */
static uint64_t host_to_le(const struct host *h, uint64_t value)
{
	uint64_t swapped = 0;

	for (unsigned int i = 0; i < h->word; i++)
		swapped |= (value >> (8 * i) & 0xff) << (8 * (h->word - 1 - i));
	return h->big_endian ? swapped : value;
}

static void host_set(struct host *h, uint64_t bit)
{
	uint8_t *at = h->memory + bit / (8 * h->word) * h->word;

	host_write(h, at, host_read(h, at) | UINT64_C(1) << (bit % (8 * h->word)));
}

static bool host_get(const struct host *h, uint64_t bit)
{
	const uint8_t *at = h->memory + bit / (8 * h->word) * h->word;

	return host_read(h, at) >> (bit % (8 * h->word)) & 1;
}

static void host_serialize(const struct host *h, uint8_t *run, size_t len)
{
	for (size_t at = 0; at < len; at += h->word)
		host_write(h, run + at, host_to_le(h, host_read(h, h->memory + at)));
}

static void host_deserialize(struct host *h, const uint8_t *run, size_t len)
{
	for (size_t at = 0; at < len; at += h->word)
		host_write(h, h->memory + at, host_to_le(h, host_read(h, run + at)));
}

/* Without the exchange a big-endian host would write something else: the simulation can tell. */
Test(hbitmap_parts, the_simulated_hosts_differ)
{
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct host h = hosts[i];
		uint8_t run[RUN];

		host_set(&h, 3);
		host_serialize(&h, run, RUN);
		cr_assert_eq(run[0], 8, "%s", h.name);
		cr_assert_eq(memcmp(run, h.memory, RUN) == 0, h.word == 1 || !h.big_endian, "%s",
			     h.name);
	}
}

Test(hbitmap_parts, golden_bytes)
{
	static const uint64_t bits[] = { 0, 9, 31, 32, 62, 63, 64, 71, 127, 130, 199 };
	static const char golden[] = "01 02 00 80 01 00 00 c0 81 00 00 00 00 00 00 80 "
				     "04 00 00 00 00 00 00 00 80 00 00 00 00 00 00 00";

	for (int granularity = 0; granularity <= 55; granularity += 5) {
		/* The tail's grain is cut where there is something to cut. */
		uint64_t grain = UINT64_C(1) << granularity, size = 200 * grain - grain / 2;
		HBitmap *hb = hbitmap_alloc(size, granularity),
			*back = hbitmap_alloc(size, granularity);
		uint8_t buf[32];

		for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
			hbitmap_set(hb, bits[i] * grain, 1);
		cr_assert_eq(hbitmap_serialization_size(hb, 0, size), 32);
		hbitmap_serialize_part(hb, buf, 0, size);
		expect_hex(buf, 32, golden, "serialized");
		bytes_of(golden, buf, sizeof(buf));
		hbitmap_deserialize_part(back, buf, 0, size, true);
		cr_assert_eq(hbitmap_count(back), ARRAY_SIZE(bits) * grain);
		for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
			cr_assert(hbitmap_get(back, bits[i] * grain), "bit %" PRIu64, bits[i]);
		hbitmap_free(hb);
		hbitmap_free(back);
	}
}

Test(hbitmap_parts, every_host_writes_and_reads_the_same_bytes)
{
	struct prng rng = { SEED };

	for (unsigned int round = 0; round < 300; round++) {
		uint64_t bits = 1 + prng_below(&rng, RUN * 8);
		HBitmap *hb = hbitmap_alloc(bits, 0), *back = hbitmap_alloc(bits, 0);
		uint8_t want[RUN] = { 0 }, have[RUN] = { 0 };
		struct host h = hosts[round % ARRAY_SIZE(hosts)];
		uint64_t len = hbitmap_serialization_size(hb, 0, bits);

		cr_assert_eq(len, (bits + 63) / 64 * 8);
		for (uint64_t n = prng_below(&rng, 200); n > 0; n--) {
			uint64_t bit = prng_below(&rng, bits);

			hbitmap_set(hb, bit, 1);
			host_set(&h, bit);
			bytewise_put(want, bit);
		}
		hbitmap_serialize_part(hb, have, 0, bits);
		cr_assert_arr_eq(have, want, RUN, "seed %#x round %u: as the bytes have it", SEED,
				 round);
		memset(have, 0, sizeof(have));
		host_serialize(&h, have, len);
		cr_assert_arr_eq(have, want, RUN, "seed %#x round %u: as %s writes it", SEED, round,
				 h.name);

		hbitmap_deserialize_part(back, have, 0, bits, true);
		memset(h.memory, 0xff, sizeof(h.memory));
		host_deserialize(&h, want, len);
		for (uint64_t b = 0; b < bits; b++) {
			cr_assert_eq(hbitmap_get(back, b), bytewise_get(want, b));
			cr_assert_eq(host_get(&h, b), bytewise_get(want, b), "%s reads", h.name);
		}
		hbitmap_free(hb);
		hbitmap_free(back);
	}
}

/* --- parts --- */

Test(hbitmap_parts, alignment_is_64_grains)
{
	for (int granularity = 0; granularity < 64; granularity++) {
		HBitmap *hb = hbitmap_alloc(INT64_MAX >> (granularity < 30 ? 33 : 0), granularity);

		cr_assert_eq(hbitmap_is_serializable(hb), granularity <= 57);
		if (granularity <= 57) {
			cr_assert_eq(hbitmap_serialization_align(hb), UINT64_C(64) << granularity);
			cr_assert_eq(hbitmap_serialization_granularity(hb), UINT64_C(64)
										    << granularity);
		}
		hbitmap_free(hb);
	}
}

Test(hbitmap_parts, what_may_be_a_part)
{
	static const struct {
		uint64_t start, count;
		bool may;
	} parts[] = {
		{ 0, 0, true },
		{ 0, 512, true },
		{ 0, 1024, true },
		{ 512, 512, true },
		{ 512, 513, true },
		{ 1024, 1, true },
		{ 0, 1025, true },
		{ 1024, 0, true },
		{ 512, 0, true },
		{ 1, 512, false },
		{ 8, 512, false },
		{ 0, 511, false },
		{ 0, 8, false },
		{ 1024, 2, false },
		{ 1024, 512, false },
		{ 1536, 0, false },
		{ 512, 512 + 8, false },
		{ 0, UINT64_MAX, false },
		{ 512, UINT64_MAX - 511, false },
		{ UINT64_MAX - 511, 512, false },
		{ UINT64_MAX & ~UINT64_C(511), 0, false },
	};
	HBitmap *hb = hbitmap_alloc(1025, 3), *no = hbitmap_alloc(1025, 58);

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		cr_expect_eq(hbitmap_is_part(hb, parts[i].start, parts[i].count), parts[i].may,
			     "%" PRIu64 " +%" PRIu64, parts[i].start, parts[i].count);
	cr_expect_eq(hbitmap_serialization_size(hb, 0, 1025), 24);
	cr_expect_eq(hbitmap_serialization_size(hb, 512, 512), 8);
	cr_expect_eq(hbitmap_serialization_size(hb, 1024, 1), 8);
	cr_expect_eq(hbitmap_serialization_size(hb, 512, 0), 0);
	cr_expect_not(hbitmap_is_part(no, 0, 1025), "not serializable");
	hbitmap_free(hb);
	hbitmap_free(no);
}

/* Bits beyond the end must not become items: not now, and not when the bitmap grows. */
Test(hbitmap_parts, stray_bits_are_dropped)
{
	for (uint64_t bits = 1; bits <= 200; bits++) {
		HBitmap *hb = hbitmap_alloc(bits * 4 - 1, 2);
		uint64_t last = align_down(bits - 1, 64), len = (bits - last + 7) / 8;
		uint8_t noise[32];

		memset(noise, 0xff, sizeof(noise));
		cr_assert_leq(len, 8);
		hbitmap_deserialize_part(hb, noise, 0, bits * 4 - 1, true);
		cr_assert_eq(hbitmap_count(hb), bits * 4);
		cr_assert_eq(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
		cr_assert(hbitmap_truncate(hb, 1000));
		cr_assert_eq(hbitmap_count(hb), bits * 4);
		cr_assert_eq(hbitmap_next_zero(hb, 0, INT64_MAX), (int64_t)bits * 4);
		cr_assert(hbitmap_truncate(hb, bits * 4 - 1));
		hbitmap_deserialize_ones(hb, last * 4, bits * 4 - 1 - last * 4, false);
		hbitmap_deserialize_finish(hb);
		hbitmap_serialize_part(hb, noise, 0, bits * 4 - 1);
		for (uint64_t b = bits; b < align_up(bits, 64); b++)
			cr_assert_not(bytewise_get(noise, b), "bit %" PRIu64 " of %" PRIu64, b,
				      bits);
		hbitmap_free(hb);
	}
}

Test(hbitmap_parts, parts_of_zeroes_and_ones)
{
	HBitmap *hb = hbitmap_alloc(300, 0);

	hbitmap_set(hb, 5, 100);
	hbitmap_deserialize_zeroes(hb, 0, 64, false);
	hbitmap_deserialize_ones(hb, 192, 108, true);
	cr_expect_eq(hbitmap_count(hb), 41 + 108);
	cr_expect_eq(hbitmap_next_dirty(hb, 0, INT64_MAX), 64);
	cr_expect_eq(hbitmap_next_zero(hb, 192, INT64_MAX), -1);
	hbitmap_free(hb);
}

/* Whatever comes: the count is right at once, and so is everything that stands on it. */
Test(hbitmap_parts, the_count_is_right_at_once)
{
	HBitmap *hb = hbitmap_alloc(130, 0), *to = hbitmap_alloc(130, 0);
	uint8_t buf[24];

	hbitmap_set(hb, 60, 10);
	hbitmap_serialize_part(hb, buf, 0, 130);
	hbitmap_set(to, 100, 30);
	hbitmap_deserialize_part(to, buf, 0, 130, true);
	cr_expect_eq(hbitmap_count(to), 10);
	hbitmap_deserialize_zeroes(to, 0, 130, true);
	cr_expect(hbitmap_empty(to));
	hbitmap_deserialize_ones(to, 0, 130, true);
	cr_expect_eq(hbitmap_count(to), 130);
	hbitmap_merge(hb, to, to);
	cr_expect_eq(hbitmap_count(to), 130);
	cr_assert(hbitmap_truncate(to, 65));
	cr_expect_eq(hbitmap_count(to), 65);
	cr_assert(hbitmap_truncate(to, 130));
	cr_expect_eq(hbitmap_count(to), 65);
	hbitmap_merge(hb, hb, to);
	cr_expect_eq(hbitmap_count(to), 10);
	hbitmap_free(hb);
	hbitmap_free(to);
}

/* What is assigned is what is deserialized, in bits, levels, count and meta bitmap; but all is right at once. */
Test(hbitmap_parts, assigned_is_deserialized)
{
	struct prng rng = { SEED + 1 };

	for (unsigned int round = 0; round < 2000; round++) {
		int granularity = (int)prng_below(&rng, 10);
		uint64_t bits = 1 + prng_below(&rng, RUN * 8), size = bits << granularity;
		uint64_t words = (bits + 63) / 64, first = prng_below(&rng, words);
		uint64_t n = 1 + prng_below(&rng, words - first), start, count;
		HBitmap *a = hbitmap_alloc(size, granularity),
			*b = hbitmap_alloc(size, granularity);
		HBitmap *meta_a = hbitmap_create_meta(a, 64), *meta_b = hbitmap_create_meta(b, 64);
		uint8_t buf[RUN];

		for (uint64_t i = prng_below(&rng, 100); i > 0; i--) {
			uint64_t item = prng_below(&rng, size);

			hbitmap_set(a, item, 1);
			hbitmap_set(b, item, 1);
		}
		hbitmap_reset_all(meta_a);
		hbitmap_reset_all(meta_b);
		start = first * hbitmap_serialization_align(a);
		count = MIN_OF(n * hbitmap_serialization_align(a), size - start);
		/* As it is, zeroes, noise, or noise in some words. */
		hbitmap_serialize_part(a, buf, start, count);
		for (uint64_t w = 0; w < n; w++) {
			if (round % 4 == 1)
				memset(buf + w * 8, 0, 8);
			else if (round % 4 == 2 || (round % 4 == 3 && prng_below(&rng, 2)))
				prng_fill(&rng, buf + w * 8, 8);
		}
		hbitmap_assign_part(a, buf, start, count);
		hbitmap_deserialize_part(b, buf, start, count, true);
		cr_assert_eq(a->count, b->count, "round %u", round);
		cr_assert_eq(hbitmap_count(meta_a), hbitmap_count(meta_b), "round %u", round);
		for (int i = 0; i < HBITMAP_LEVELS; i++)
			cr_assert_arr_eq(a->levels[i], b->levels[i], a->words[i] * 8,
					 "round %u level %d", round, i);
		hbitmap_free(a);
		hbitmap_free(b);
	}
}

/* Only the part that was loaded shows in the meta bitmap, and only if it changed something. */
Test(hbitmap_parts, the_meta_bitmap_shows_parts)
{
	HBitmap *hb = hbitmap_alloc(1000, 0), *meta = hbitmap_create_meta(hb, 64);
	uint8_t buf[128] = { 0 };

	hbitmap_deserialize_part(hb, buf, 0, 1000, true);
	cr_expect(hbitmap_empty(meta));
	bytewise_put(buf, 200);
	hbitmap_deserialize_part(hb, buf + 16, 128, 128, true);
	cr_expect_eq(hbitmap_next_dirty(meta, 0, INT64_MAX), 128);
	cr_expect_eq(hbitmap_count(meta), 128);
	cr_expect(hbitmap_get(hb, 200));
	hbitmap_free(hb);
}
