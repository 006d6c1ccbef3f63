/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the flat bitmap does what an array of bools would do, keeps its count exact, and never sets
 * a bit beyond its end.
 *
 * How: a naive shadow model, one bool a bit. Random operations on bitmaps of random sizes, small
 * ones most of all (0 to 3 words, with and without a broken last word); bits, count and both
 * searches are compared after every operation.
 */
#include "tests/unit/support.h"
#include "vmm/base/bitmap.h"

SUITE(bitmap);

#define SEED 0x5eed0010
#define MAX_BITS 260

struct pair {
	struct bitmap bm;
	bool shadow[MAX_BITS];
	unsigned int round, step;
};

#define CHECK(p, cond)                                                                      \
	cr_assert(cond, "seed %#x round %u step %u bits %" PRIu64 ": %s", SEED, (p)->round, \
		  (p)->step, (p)->bm.bits, #cond)

static uint64_t shadow_next(const struct pair *p, uint64_t from, bool value)
{
	while (from < p->bm.bits && p->shadow[from] != value)
		from++;
	return from < p->bm.bits ? from : p->bm.bits;
}

static void compare(struct pair *p)
{
	uint64_t count = 0, bits = p->bm.bits;

	for (uint64_t i = 0; i < bits; i++) {
		CHECK(p, bitmap_test(&p->bm, i) == p->shadow[i]);
		count += p->shadow[i];
	}
	CHECK(p, p->bm.count == count);
	for (uint64_t i = bits; i < bitmap_words(bits) * BITMAP_WORD_BITS; i++)
		CHECK(p, !(p->bm.words[i / 64] >> (i % 64) & 1)); /* nothing beyond the end */
}

/* Bits of noise: thin, thick, or in runs, so that carries between words are met. */
static uint64_t random_word(struct prng *rng)
{
	switch (prng_below(rng, 5)) {
	case 0:
		return 0;
	case 1:
		return ~UINT64_C(0);
	case 2:
		return prng_next(rng) & prng_next(rng) & prng_next(rng);
	case 3:
		return UINT64_C(1) << prng_below(rng, 64);
	default:
		return prng_next(rng);
	}
}

static void random_merge(struct pair *p, struct prng *rng)
{
	uint64_t words[8], nwords = prng_below(rng, 8), first = prng_below(rng, 6), fresh = 0;

	for (uint64_t i = 0; i < nwords; i++)
		words[i] = random_word(rng);
	for (uint64_t i = 0; i < nwords * 64; i++) {
		uint64_t bit = first * 64 + i;

		if (bit < p->bm.bits && words[i / 64] >> (i % 64) & 1 && !p->shadow[bit]) {
			p->shadow[bit] = true;
			fresh++;
		}
	}
	CHECK(p, bitmap_merge(&p->bm, first, words, nwords) == fresh);
}

static void random_step(struct pair *p, struct prng *rng)
{
	uint64_t bits = p->bm.bits;
	uint64_t first = prng_below(rng, bits + 1), n = prng_below(rng, bits - first + 1);
	uint64_t from = prng_below(rng, bits + 3);
	bool value = prng_below(rng, 2);

	switch (prng_below(rng, 6)) {
	case 0:
		bitmap_set(&p->bm, first, n);
		for (uint64_t i = first; i < first + n; i++)
			p->shadow[i] = true;
		break;
	case 1:
		bitmap_clear(&p->bm, first, n);
		for (uint64_t i = first; i < first + n; i++)
			p->shadow[i] = false;
		break;
	case 2:
	case 3:
		if (first == bits)
			break;
		if (value)
			CHECK(p, bitmap_test_and_set(&p->bm, first) == p->shadow[first]);
		else
			CHECK(p, bitmap_test_and_clear(&p->bm, first) == p->shadow[first]);
		p->shadow[first] = value;
		break;
	case 4:
		random_merge(p, rng);
		break;
	default:
		CHECK(p, bitmap_next_set(&p->bm, from) == shadow_next(p, from, true));
		CHECK(p, bitmap_next_clear(&p->bm, from) == shadow_next(p, from, false));
	}
}

Test(bitmap, random_operations_match_the_shadow)
{
	static const uint64_t edges[] = { 0, 1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 193 };
	const unsigned int nedges = sizeof(edges) / sizeof(edges[0]);
	struct prng rng = { SEED };

	for (unsigned int round = 0; round < 60; round++) {
		struct pair p = { .round = round };
		uint64_t bits = round < nedges ? edges[round] : prng_below(&rng, MAX_BITS + 1);

		cr_assert(bitmap_init(&p.bm, bits));
		cr_assert(p.bm.bits == bits && p.bm.count == 0);
		for (p.step = 0; p.step < 250; p.step++) {
			random_step(&p, &rng);
			compare(&p);
		}
		bitmap_release(&p.bm);
		cr_assert_eq(p.bm.bits, 0);
		bitmap_release(&p.bm); /* twice is allowed: it is an empty one by now */
	}
}

Test(bitmap, the_example_of_the_header)
{
	struct bitmap bm;

	cr_assert(bitmap_init(&bm, 70));
	bitmap_set(&bm, 64, 6);
	cr_assert(bm.words[0] == 0 && bm.words[1] == 0x3f && bm.count == 6);
	cr_assert_eq(bitmap_next_set(&bm, 0), 64);
	cr_assert_eq(bitmap_next_set(&bm, 70), 70);
	cr_assert_eq(bitmap_next_clear(&bm, 64), 70);
	cr_assert_eq(bitmap_next_clear(&bm, 0), 0);
	bitmap_release(&bm);
}

Test(bitmap, merging_drops_what_lies_beyond_the_end)
{
	const uint64_t ones[] = { ~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0) };
	struct bitmap bm;

	cr_assert(bitmap_init(&bm, 70));
	cr_assert_eq(bitmap_merge(&bm, 1, ones, 3), 6);
	cr_assert(bm.words[1] == 0x3f && bm.count == 6);
	cr_assert_eq(bitmap_merge(&bm, 2, ones, 1), 0);
	cr_assert_eq(bitmap_merge(&bm, UINT64_MAX / 64, ones, 1), 0);
	cr_assert_eq(bitmap_merge(&bm, 0, ones, 3), 64);
	cr_assert_eq(bitmap_merge(&bm, 0, ones, 3), 0);
	cr_assert_eq(bm.count, 70);
	bitmap_release(&bm);
	cr_assert(bitmap_init(&bm, 128)); /* no broken word */
	cr_assert_eq(bitmap_merge(&bm, 0, ones, 3), 128);
	bitmap_release(&bm);
}

Test(bitmap, words_are_rounded_up)
{
	cr_assert_eq(bitmap_words(0), 0);
	cr_assert_eq(bitmap_words(1), 1);
	cr_assert_eq(bitmap_words(64), 1);
	cr_assert_eq(bitmap_words(65), 2);
	cr_assert_eq(bitmap_words(UINT64_MAX), UINT64_C(1) << 58);
}

/* The address sanitizer would rather stop the process than give NULL, as calloc does. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* A size that cannot be had is reported, not died of. */
Test(bitmap, memory_that_is_not_there)
{
	struct bitmap bm;

	if (bitmap_init(&bm, UINT64_MAX))
		cr_assert_fail("2^64 bits were allocated");
	cr_assert(bm.bits == 0 && bm.count == 0);
	bitmap_release(&bm);
}

Test(bitmap, atomic_bits_leave_their_neighbours)
{
	uint64_t words[2] = { UINT64_C(1) << 62, 0 };

	bitmap_set_atomic(words, 63);
	bitmap_set_atomic(words, 64);
	bitmap_set_atomic(words, 64);
	cr_assert(words[0] == UINT64_C(3) << 62 && words[1] == 1);
}
