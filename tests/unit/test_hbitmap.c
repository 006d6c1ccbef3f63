/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the hierarchical bitmap does what an array of bools would do; its upper levels, its sentinel, its count and its meta bitmap
 * are right after every operation.
 *
 * How: the shadow of hbitmap_support.h under every operation there is, in random order, with random sizes (tails of a grain and of a
 * word, up to 2^63) and granularities; then what the header promises, by example.
 */
#include "tests/unit/hbitmap_support.h"

SUITE(hbitmap);

#define SEED 0x5eed0b17

/* --- the operations, here and in the shadow --- */

static void op_set(struct shadowed *s, struct prng *rng)
{
	uint64_t start, count;

	random_range(s, rng, &start, &count);
	hbitmap_set(s->hb, start, count);
	shadow_fill(s, start, start + count, true);
}

/* Aligned, as it must be, except at the end. */
static void random_reset_range(const struct shadowed *s, struct prng *rng, uint64_t *start,
			       uint64_t *count)
{
	uint64_t grain = UINT64_C(1) << s->granularity;

	random_range(s, rng, start, count);
	*start = align_down(*start, grain);
	*count = prng_below(rng, 4) ? align_down(*count, grain) : s->size - *start;
}

static void op_reset(struct shadowed *s, struct prng *rng)
{
	uint64_t start, count;

	random_reset_range(s, rng, &start, &count);
	hbitmap_reset(s->hb, start, count);
	shadow_fill(s, start, start + count, false);
}

static void op_reset_all(struct shadowed *s, struct prng *rng)
{
	(void)rng;
	hbitmap_reset_all(s->hb);
	shadow_fill(s, 0, s->size, false);
}

/* A bitmap of the same size, another granularity maybe, with something in it; *t is its shadow. */
static void other(const struct shadowed *s, struct shadowed *t, struct prng *rng)
{
	int least = 0, granularity;

	while ((s->size - 1) >> least >= MAX_BITS)
		least++;
	granularity = least + (int)prng_below(rng, (uint64_t)MIN_OF(8, 64 - least));
	if (prng_below(rng, 3) == 0)
		granularity = s->granularity;
	*t = (struct shadowed){ .seed = s->seed, .round = s->round, .step = s->step, .op = s->op };
	shadow_shape(t, s->size, granularity);
	t->hb = hbitmap_alloc(t->size, granularity);
	for (uint64_t n = prng_below(rng, 4); n > 0; n--)
		op_set(t, rng);
}

/* What is set in t is set in s. */
static void shadow_merge(struct shadowed *s, const struct shadowed *t)
{
	for (uint64_t b = 0; b < t->bits; b++)
		if (t->set[b])
			shadow_fill(s, first_item(t, b), behind(t, b), true);
}

/* A merge shows whole words and runs; what did change must be among it. From here on the shadow has what was shown. */
static void meta_shows_changes(struct shadowed *s, const struct shadowed *was)
{
	for (uint64_t b = 0; s->chunk && b < s->bits; b++)
		CHECK(s, hbitmap_get(s->hb->meta, first_item(s, b)) ||
				 (was->set[b] == s->set[b] && !was->meta[b / s->chunk]));
	for (uint64_t b = 0; s->chunk && b < s->bits; b++)
		s->meta[b / s->chunk] = hbitmap_get(s->hb->meta, first_item(s, b));
}

/* Each pair of the bitmaps as sources, each of them, or a third, as the result. */
static void op_merge(struct shadowed *s, struct prng *rng)
{
	static struct shadowed t, u, was;
	unsigned int how = (unsigned int)prng_below(rng, 6);
	bool fresh = how >= 3;

	was = *s;
	other(s, &t, rng);
	other(s, &u, rng);
	if (how == 0)
		hbitmap_merge(s->hb, t.hb, s->hb);
	else if (how == 1)
		hbitmap_merge(t.hb, s->hb, s->hb);
	else if (how == 2)
		hbitmap_merge(s->hb, s->hb, s->hb);
	else
		hbitmap_merge(t.hb, how == 3 ? t.hb : u.hb, s->hb);
	if (fresh)
		shadow_fill(s, 0, s->size, false);
	if (how != 2)
		shadow_merge(s, &t);
	if (how > 3)
		shadow_merge(s, &u);
	meta_shows_changes(s, &was);
	check_bits(&t);
	check_bits(&u);
	hbitmap_free(t.hb);
	hbitmap_free(u.hb);
}

/* Chunks whose meta bit may be looked at afterwards: those that the size reaches. */
static void shadow_truncate(struct shadowed *s, uint64_t size)
{
	uint64_t had = s->bits, chunks;

	shadow_fill(s, ((size ? (size - 1) >> s->granularity : 0) + 1) << s->granularity, s->size,
		    false);
	shadow_shape(s, size, s->granularity);
	for (uint64_t b = had; b < s->bits; b++)
		s->set[b] = false;
	chunks = s->chunk ? div_round_up(MIN_OF(had, s->bits), s->chunk) : 0;
	for (uint64_t c = chunks; c < MAX_BITS; c++)
		s->meta[c] = false;
}

static void op_truncate(struct shadowed *s, struct prng *rng)
{
	uint64_t size = random_size(rng, random_bits(rng), s->granularity);

	if (prng_below(rng, 4) == 0) { /* by a little */
		size = s->size + prng_below(rng, 5);
		size = MIN_OF(size, (uint64_t)INT64_MAX) - MIN_OF(s->size - 1, 2);
	}
	if (((size - 1) >> s->granularity) >= MAX_BITS)
		return;
	CHECK(s, hbitmap_truncate(s->hb, size));
	shadow_truncate(s, size);
}

/* --- parts --- */

static void random_part(const struct shadowed *s, struct prng *rng, uint64_t *start,
			uint64_t *count)
{
	uint64_t align = hbitmap_serialization_align(s->hb), parts = 1 + prng_below(rng, 3);

	*start = align_down(prng_below(rng, s->size), align);
	*count = s->size - *start;
	if (prng_below(rng, 4) && parts < *count / align)
		*count = parts * align;
}

/* Into a dirty copy, in parts, from behind. The copy then takes over. */
static void op_move(struct shadowed *s, struct prng *rng)
{
	uint64_t align, end = s->size;
	HBitmap *copy;

	if (s->chunk || !hbitmap_is_serializable(s->hb))
		return;
	align = hbitmap_serialization_align(s->hb);
	copy = hbitmap_alloc(s->size, s->granularity);
	if (prng_below(rng, 2))
		hbitmap_set(copy, 0, copy->size);
	while (end > 0) {
		uint64_t start = align_down(end - 1, align);
		uint64_t back = prng_below(rng, 3) * align;
		uint8_t buf[MAX_BITS / 8 + 8];

		start -= MIN_OF(back, start);
		CHECK(s, hbitmap_serialization_size(s->hb, start, end - start) <= sizeof(buf));
		hbitmap_serialize_part(s->hb, buf, start, end - start);
		hbitmap_deserialize_part(copy, buf, start, end - start, start == 0 && align > 64);
		end = start;
	}
	hbitmap_deserialize_finish(copy);
	hbitmap_free(s->hb);
	s->hb = copy;
}

/* The meta bitmap learns of a part where something in it changes. */
static void shadow_part(struct shadowed *s, uint64_t start, uint64_t count, const uint8_t *bytes)
{
	uint64_t first = start >> s->granularity, end = ((start + count - 1) >> s->granularity) + 1;
	bool changes = false;

	for (uint64_t b = first; b < end; b++) {
		bool value = bytes[(b - first) / 8] >> ((b - first) % 8) & 1;

		changes |= s->set[b] != value;
		s->set[b] = value;
	}
	for (uint64_t b = first; changes && b < end; b++)
		shadow_touch(s, b);
}

/* Parts of noise, of zeroes and of ones, in any order; then, or in place of it, an end. */
static void op_load(struct shadowed *s, struct prng *rng)
{
	uint8_t buf[MAX_BITS / 8 + 8];

	if (!hbitmap_is_serializable(s->hb))
		return;
	for (uint64_t n = 1 + prng_below(rng, 3); n > 0; n--) {
		bool finish = prng_below(rng, 4) == 0;
		uint64_t start, count, bytes, kind = prng_below(rng, 3);

		random_part(s, rng, &start, &count);
		bytes = hbitmap_serialization_size(s->hb, start, count);
		memset(buf, kind == 1 ? 0 : 0xff, bytes);
		if (kind == 0) {
			prng_fill(rng, buf, bytes);
			hbitmap_deserialize_part(s->hb, buf, start, count, finish);
		} else if (kind == 1) {
			hbitmap_deserialize_zeroes(s->hb, start, count, finish);
		} else {
			hbitmap_deserialize_ones(s->hb, start, count, finish);
		}
		shadow_part(s, start, count, buf);
	}
	if (prng_below(rng, 6) || !s->hb->loading) {
		hbitmap_deserialize_finish(s->hb);
		return;
	}
	hbitmap_reset_all(s->hb);
	for (uint64_t b = 0; b < s->bits; b++) {
		s->set[b] = false;
		shadow_touch(s, b);
	}
}

static void op_meta(struct shadowed *s, struct prng *rng)
{
	if (!s->chunk) {
		int room = MIN_OF(63 - s->granularity, 10);

		s->chunk = 1u << prng_below(rng, (uint64_t)room + 1);
		CHECK(s, hbitmap_create_meta(s->hb, (int)s->chunk) == s->hb->meta);
	} else if (prng_below(rng, 3)) {
		hbitmap_reset_all(s->hb->meta);
	} else {
		hbitmap_free_meta(s->hb);
		s->chunk = 0;
	}
	memset(s->meta, 0, sizeof(s->meta));
}

/* An iterator, while bits come and go around it: always the next one that is set now. */
static void op_iterate(struct shadowed *s, struct prng *rng)
{
	uint64_t from = prng_below(rng, s->size);
	HBitmapIter it;

	hbitmap_iter_init(&it, s->hb, from);
	from = align_down(from, UINT64_C(1) << s->granularity);
	for (;;) {
		int64_t want = shadow_next(s, from, INT64_MAX, true);

		CHECK(s, hbitmap_iter_next(&it) == want);
		if (want < 0)
			return;
		from = behind(s, (uint64_t)want >> s->granularity);
		if (prng_below(rng, 3) == 0)
			op_reset(s, rng);
		if (prng_below(rng, 20) == 0)
			op_set(s, rng);
		if (prng_below(rng, 50) == 0)
			op_truncate(s, rng);
		if (prng_below(rng, 50) == 0)
			op_reset_all(s, rng);
	}
}

Test(hbitmap, does_what_the_shadow_does)
{
	static const struct {
		const char *name;
		unsigned int weight;
		void (*run)(struct shadowed *s, struct prng *rng);
	} ops[] = {
		{ "set", 10, op_set },
		{ "reset", 6, op_reset },
		{ "reset_all", 1, op_reset_all },
		{ "merge", 4, op_merge },
		{ "truncate", 3, op_truncate },
		{ "move", 2, op_move },
		{ "load", 3, op_load },
		{ "meta", 3, op_meta },
		{ "iterate", 2, op_iterate },
	};
	struct prng rng = { SEED };
	static struct shadowed s = { .seed = SEED };

	for (s.round = 0; s.round < 150; s.round++) {
		random_begin(&s, &rng);
		for (s.step = 0; s.step < 60; s.step++) {
			uint64_t pick = prng_below(&rng, 34);
			size_t op = 0;

			while (pick >= ops[op].weight)
				pick -= ops[op++].weight;
			s.op = ops[op].name;
			ops[op].run(&s, &rng);
			check_all(&s, &rng);
		}
		hbitmap_free(s.hb);
	}
}

/* --- by example --- */

/* The examples of the header, by the words and masks it names. */
Test(hbitmap, the_worked_example)
{
	static const uint64_t words[HBITMAP_LEVELS] = { 1, 1, 1, 1, 4, 200, 12800 };
	HBitmap *hb = hbitmap_alloc(UINT64_C(50) << 30, 16);

	cr_expect_eq(hb->bits, 819200);
	for (int i = 0; i < HBITMAP_LEVELS; i++)
		cr_expect_eq(hb->words[i], words[i], "level %d", i);
	hbitmap_set(hb, 2292187136, 262144);
	for (uint64_t bit = 34975; bit <= 34980; bit++)
		cr_expect_eq(hbitmap_get(hb, bit << 16), bit >= 34976 && bit <= 34979);
	cr_expect_eq(hb->levels[6][546], UINT64_C(0xf00000000));
	cr_expect_eq(hb->levels[5][8], UINT64_C(0x400000000));
	cr_expect_eq(hb->levels[4][0], UINT64_C(1) << 8);
	for (int i = 1; i < 4; i++)
		cr_expect_eq(hb->levels[i][0], 1, "level %d", i);
	cr_expect_eq(hb->levels[0][0], SENTINEL | 1);
	cr_expect_eq(hbitmap_count(hb), 262144);
	cr_expect_eq(hbitmap_next_dirty(hb, 0, INT64_MAX), 2292187136);
	hbitmap_free(hb);
}

Test(hbitmap, the_worked_example_of_get)
{
	HBitmap *hb = hbitmap_alloc(UINT64_C(50) << 30, 16);

	cr_expect_not(hbitmap_get(hb, 2292187136));
	hb->levels[6][546] = UINT64_C(0x100000000);
	cr_expect(hbitmap_get(hb, 2292187136));
	cr_expect(hbitmap_get(hb, 2292187136 + 65535));
	cr_expect_not(hbitmap_get(hb, 2292187136 - 1));
	cr_expect_not(hbitmap_get(hb, 2292187136 + 65536));
	hb->levels[6][546] = ~UINT64_C(0x100000000);
	cr_expect_not(hbitmap_get(hb, 2292187136));
	hbitmap_free(hb);
}

Test(hbitmap, an_iterator_honours_resets)
{
	HBitmap *hb = hbitmap_alloc(1000, 0);
	HBitmapIter it;

	hbitmap_set(hb, 10, 5);
	hbitmap_set(hb, 900, 2);
	hbitmap_iter_init(&it, hb, 0);
	cr_expect_eq(hbitmap_iter_next(&it), 10);
	hbitmap_reset(hb, 11, 890); /* in the word under the iterator, and up to 900 */
	cr_expect_eq(hbitmap_iter_next(&it), 901);
	hbitmap_set(hb, 950, 1);
	hbitmap_set(hb, 5, 1); /* behind it: missed */
	cr_expect_eq(hbitmap_iter_next(&it), 950);
	hbitmap_reset_all(hb);
	cr_expect_eq(hbitmap_iter_next(&it), -1);
	hbitmap_free(hb);
}

Test(hbitmap, merging_across_granularities)
{
	HBitmap *fine = hbitmap_alloc(1000, 0), *coarse = hbitmap_alloc(1000, 4);
	HBitmap *sum = hbitmap_alloc(1000, 2);

	hbitmap_set(fine, 33, 1);
	hbitmap_set(coarse, 999, 1);
	hbitmap_set(sum, 500, 1); /* is overwritten */
	hbitmap_merge(fine, coarse, sum);
	cr_expect_eq(hbitmap_next_dirty(sum, 0, INT64_MAX), 32);
	cr_expect_eq(hbitmap_next_zero(sum, 32, INT64_MAX), 36);
	cr_expect_eq(hbitmap_next_dirty(sum, 36, INT64_MAX), 992);
	cr_expect_eq(hbitmap_count(sum), 4 + 8);
	hbitmap_merge(sum, fine, sum);
	cr_expect_eq(hbitmap_count(sum), 12, "the count of what was there already");
	hbitmap_reset_all(fine);
	hbitmap_merge(fine, fine, sum);
	cr_expect(hbitmap_empty(sum), "nothing or nothing is nothing");
	hbitmap_free(fine);
	hbitmap_free(coarse);
	hbitmap_free(sum);
}

/* A meta bit for each byte, word, and 512 bytes of the bitmap; ranges around its edges. */
Test(hbitmap, the_meta_bitmap_shows_changes)
{
	static const int chunks[] = { 1, 8, 64, 4096 };

	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
		int64_t c = chunks[i];
		HBitmap *hb = hbitmap_alloc((uint64_t)c * 100, 0);
		HBitmap *meta = hbitmap_create_meta(hb, (int)c);
		const int64_t ranges[][2] = { { 0, 1 },
					      { 0, c },
					      { c - 1, 1 },
					      { c - 1, c + 2 },
					      { 7 * c - 1, c + 2 },
					      { 99 * c, c } };

		for (size_t r = 0; r < ARRAY_SIZE(ranges); r++) {
			uint64_t start = (uint64_t)ranges[r][0], n = (uint64_t)ranges[r][1];
			int64_t from = ranges[r][0] / c * c, first, len;
			int64_t to = (ranges[r][0] + ranges[r][1] - 1) / c * c + c;

			hbitmap_reset(hb, start, n);
			cr_expect(hbitmap_empty(meta), "from clear to clear");
			hbitmap_set(hb, start, n);
			cr_expect(hbitmap_next_dirty_area(meta, 0, INT64_MAX, INT64_MAX, &first,
							  &len));
			cr_expect(first == from && first + len == to, "from clear to set");
			hbitmap_reset_all(meta);
			hbitmap_set(hb, start, n);
			cr_expect(hbitmap_empty(meta), "from set to set");
			hbitmap_reset(hb, start, n);
			cr_expect(hbitmap_next_dirty_area(meta, 0, INT64_MAX, INT64_MAX, &first,
							  &len));
			cr_expect(first == from && first + len == to, "from set to clear");
			hbitmap_reset_all(meta);
		}
		hbitmap_free_meta(hb);
		hbitmap_free_meta(hb);
		hbitmap_free(hb);
	}
}

/* 1 PiB in 64 KiB grains: far more bits than could be visited one by one here. */
Test(hbitmap, ranges_are_handled_by_words)
{
	HBitmap *hb = hbitmap_alloc(UINT64_C(1) << 50, 16);
	int64_t first, n, pieces = 0;

	cr_assert_not_null(hb);
	hbitmap_set(hb, 0, UINT64_C(1) << 42);
	cr_expect_eq(hbitmap_count(hb), UINT64_C(1) << 42);
	/* A search with a limit looks no further: or this would read 2^37 words. */
	for (int64_t at = 0; hbitmap_next_dirty_area(hb, at, INT64_MAX, 1 << 22, &first, &n);
	     at += n)
		pieces++;
	cr_expect_eq(pieces, 1 << 20);
	hbitmap_reset(hb, UINT64_C(1) << 20, UINT64_C(1) << 41);
	cr_assert(hbitmap_next_dirty_area(hb, 1 << 20, INT64_MAX, INT64_MAX, &first, &n));
	cr_expect_eq(first, (INT64_C(1) << 20) + (INT64_C(1) << 41));
	cr_expect_eq(first + n, INT64_C(1) << 42);
	hbitmap_free(hb);
}

/* Few bits among 2^30: iterated, merged and cleared without reading what lies between; deep levels take part. */
Test(hbitmap, few_bits_far_apart)
{
	static uint64_t bit[300];
	HBitmap *hb = hbitmap_alloc(UINT64_C(1) << 50, 20),
		*sum = hbitmap_alloc(UINT64_C(1) << 50, 20);
	struct prng rng = { SEED + 1 };
	HBitmapIter it;

	for (size_t i = 0; i < ARRAY_SIZE(bit); i++) {
		bit[i] = (i ? bit[i - 1] : 0) + 1 + prng_below(&rng, UINT64_C(1) << (i % 23));
		hbitmap_set(hb, bit[i] << 20, 1);
	}
	for (unsigned int turn = 0; turn < 2000; turn++) {
		size_t i = prng_below(&rng, ARRAY_SIZE(bit));

		hbitmap_merge(sum, hb, sum);
		hbitmap_iter_init(&it, sum, bit[i] << 20);
		for (; i < ARRAY_SIZE(bit); i++)
			cr_assert_eq(hbitmap_iter_next(&it), (int64_t)(bit[i] << 20));
		cr_assert_eq(hbitmap_iter_next(&it), -1);
		hbitmap_reset_all(sum);
	}
	for (int i = 1; i < HBITMAP_LEVELS; i++)
		for (uint64_t w = 0; w < sum->words[i]; w++)
			cr_assert_eq(sum->levels[i][w], 0);
	hbitmap_free(hb);
	hbitmap_free(sum);
}
