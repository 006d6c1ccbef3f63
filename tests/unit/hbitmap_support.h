/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hierarchical bitmap and its shadow: one bool a bit, one a chunk of the meta bitmap, and nothing clever. A range [start, end) of
 * items touches the grains that overlap with it; that is all the shadow knows of granularity.
 */
#ifndef FERRY_TESTS_HBITMAP_SUPPORT_H
#define FERRY_TESTS_HBITMAP_SUPPORT_H

#include "tests/unit/support.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/hbitmap_levels.h"

#define MAX_BITS 5000

struct shadowed {
	HBitmap *hb;
	uint64_t size, bits;
	int granularity;
	bool set[MAX_BITS];
	unsigned int chunk; /* bits that a bit of the meta bitmap stands for; 0: there is none */
	bool meta[MAX_BITS];
	unsigned int seed, round, step;
	const char *op;
};

#define CHECK(s, cond)                                                                        \
	cr_assert(cond, "seed %#x round %u step %u, %s, size %" PRIu64 " granularity %d: %s", \
		  (s)->seed, (s)->round, (s)->step, (s)->op ? (s)->op : "", (s)->size,        \
		  (s)->granularity, #cond)

static inline uint64_t first_item(const struct shadowed *s, uint64_t bit)
{
	return bit << s->granularity;
}

/* Behind the grain, cut at the end. */
static inline uint64_t behind(const struct shadowed *s, uint64_t bit)
{
	return bit + 1 == s->bits ? s->size : (bit + 1) << s->granularity;
}

static inline bool overlaps(const struct shadowed *s, uint64_t bit, uint64_t start, uint64_t end)
{
	return first_item(s, bit) < end && behind(s, bit) > start;
}

static inline void shadow_touch(struct shadowed *s, uint64_t bit)
{
	if (s->chunk)
		s->meta[bit / s->chunk] = true;
}

/* Give the grains that overlap with [start, end) a value. If that changes one, the meta bitmap learns of all. */
static inline void shadow_fill(struct shadowed *s, uint64_t start, uint64_t end, bool value)
{
	bool changes = false;

	for (uint64_t b = 0; start < end && b < s->bits; b++)
		changes |= overlaps(s, b, start, end) && s->set[b] != value;
	for (uint64_t b = 0; changes && b < s->bits; b++) {
		if (!overlaps(s, b, start, end))
			continue;
		s->set[b] = value;
		shadow_touch(s, b);
	}
}

/* The first item in [start, start + count) of that value, or -1. */
static inline int64_t shadow_next(const struct shadowed *s, uint64_t start, uint64_t count,
				  bool value)
{
	uint64_t end = start < s->size && count < s->size - start ? start + count : s->size;

	for (uint64_t b = 0; start < end && b < s->bits; b++)
		if (s->set[b] == value && overlaps(s, b, start, end))
			return (int64_t)MAX_OF(first_item(s, b), start);
	return -1;
}

/* --- what must hold after every operation --- */

static inline void check_levels(const struct shadowed *s)
{
	const HBitmap *hb = s->hb;

	CHECK(s, hb->levels[0][0] & SENTINEL);
	for (int i = 0; i < LAST; i++) {
		uint64_t below = hb->words[i + 1];

		for (uint64_t b = 0; b < hb->words[i] * 64; b++) {
			bool bit = hb->levels[i][b / 64] >> (b % 64) & 1;

			if (i > 0 || b < 63)
				CHECK(s, bit == (b < below && hb->levels[i + 1][b] != 0));
		}
	}
	for (uint64_t b = s->bits; b < hb->words[LAST] * 64; b++)
		CHECK(s, !(hb->levels[LAST][b / 64] >> (b % 64) & 1));
}

static inline void check_bits(const struct shadowed *s)
{
	const HBitmap *hb = s->hb;
	uint64_t count = 0;
	HBitmapIter it;

	CHECK(s, hbitmap_size(hb) == s->size && hbitmap_granularity(hb) == s->granularity);
	hbitmap_iter_init(&it, hb, 0);
	for (uint64_t b = 0; b < s->bits; b++) {
		CHECK(s, hbitmap_get(hb, first_item(s, b)) == s->set[b]);
		CHECK(s, hbitmap_get(hb, behind(s, b) - 1) == s->set[b]);
		if (!s->set[b])
			continue;
		count++;
		CHECK(s, hbitmap_iter_next(&it) == (int64_t)first_item(s, b));
	}
	CHECK(s, hbitmap_iter_next(&it) == -1);
	CHECK(s, hbitmap_iter_next(&it) == -1);
	CHECK(s, hbitmap_count(hb) == count << s->granularity);
	CHECK(s, hbitmap_empty(hb) == !count);
}

static inline void check_meta(const struct shadowed *s)
{
	const HBitmap *meta = s->hb->meta;

	CHECK(s, !!meta == !!s->chunk);
	if (!meta)
		return;
	CHECK(s, hbitmap_size(meta) == s->size);
	for (uint64_t b = 0; b < s->bits; b++)
		CHECK(s, hbitmap_get(meta, first_item(s, b)) == s->meta[b / s->chunk]);
}

/* Every search from one place over one range. */
static inline void check_searches(const struct shadowed *s, uint64_t start, uint64_t count,
				  uint64_t max)
{
	int64_t from = (int64_t)start, n = (int64_t)count, first = -2, len = -2;
	uint64_t end = start < s->size && count < s->size - start ? start + count : s->size;
	int64_t dirty = shadow_next(s, start, count, true), zero;
	bool area = hbitmap_next_dirty_area(s->hb, from, (int64_t)MIN_OF(start + count, INT64_MAX),
					    (int64_t)max, &first, &len);

	CHECK(s, hbitmap_next_dirty(s->hb, from, n) == dirty);
	CHECK(s, hbitmap_next_zero(s->hb, from, n) == shadow_next(s, start, count, false));
	CHECK(s, area == (dirty >= 0));
	if (area) {
		zero = shadow_next(s, (uint64_t)dirty, end - (uint64_t)dirty, false);
		CHECK(s, first == dirty);
		CHECK(s, (uint64_t)len ==
				 MIN_OF((zero < 0 ? end : (uint64_t)zero) - (uint64_t)dirty, max));
	} else {
		CHECK(s, first == -2 && len == -2);
	}
	if (start >= s->size || !count)
		return;
	CHECK(s, hbitmap_status(s->hb, from, n, &len) == s->set[start >> s->granularity]);
	zero = shadow_next(s, start, count, !s->set[start >> s->granularity]);
	CHECK(s, (uint64_t)len == (zero < 0 ? end : (uint64_t)zero) - start);
}

/* --- sizes and ranges that find the edges --- */

static inline uint64_t random_bits(struct prng *rng)
{
	uint64_t words = prng_below(rng, MAX_BITS / 64 - 1) * 64;

	switch (prng_below(rng, 8)) {
	case 0:
		return 1 + prng_below(rng, MAX_BITS);
	case 1:
		return words + 64;
	case 2:
		return words + 65;
	case 3:
		return words + 63;
	default:
		return 1 + prng_below(rng, 300);
	}
}

/* A size of that many bits at most, its last grain cut somewhere, or not. */
static inline uint64_t random_size(struct prng *rng, uint64_t bits, int granularity)
{
	uint64_t grain = UINT64_C(1) << granularity;
	uint64_t size;

	if (bits > (uint64_t)INT64_MAX >> granularity)
		return INT64_MAX;
	size = bits << granularity;
	return prng_below(rng, 3) ? size - prng_below(rng, grain) : size;
}

static inline void random_range(const struct shadowed *s, struct prng *rng, uint64_t *start,
				uint64_t *count)
{
	uint64_t grain = UINT64_C(1) << s->granularity;

	*start = prng_below(rng, s->size);
	switch (prng_below(rng, 4)) {
	case 0:
		*count = prng_below(rng, s->size);
		break;
	case 1:
		*start -= *start % 64;
		*count = prng_below(rng, 200);
		break;
	default: /* around the edges of grains and words */
		*start -= *start % grain;
		*count = prng_below(rng, 200) * grain;
		*start += *start && prng_below(rng, 2) ? prng_below(rng, 3) - 1 : 0;
		*count += *count && prng_below(rng, 2) ? prng_below(rng, 3) - 1 : 0;
	}
	*start = MIN_OF(*start, s->size - 1);
	*count = MIN_OF(*count, s->size - *start);
}

static inline void shadow_shape(struct shadowed *s, uint64_t size, int granularity)
{
	s->size = size;
	s->granularity = granularity;
	s->bits = size ? ((size - 1) >> granularity) + 1 : 0;
	cr_assert_leq(s->bits, MAX_BITS);
}

/* Mostly small granularities; now and then one that brings the size near 2^63. */
static inline void random_begin(struct shadowed *s, struct prng *rng)
{
	int granularity = (int)prng_below(rng, prng_below(rng, 4) ? 6 : 64);

	memset(s->set, 0, sizeof(s->set));
	s->chunk = 0;
	shadow_shape(s, random_size(rng, random_bits(rng), granularity), granularity);
	s->hb = hbitmap_alloc(s->size, granularity);
	cr_assert_not_null(s->hb);
}

static inline void check_all(const struct shadowed *s, struct prng *rng)
{
	check_levels(s);
	check_bits(s);
	check_meta(s);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t start, count;

		random_range(s, rng, &start, &count);
		check_searches(s, start, count,
			       1 + prng_below(rng, UINT64_C(3) << s->granularity % 32));
		check_searches(s, start, INT64_MAX, INT64_MAX);
	}
}

#endif
