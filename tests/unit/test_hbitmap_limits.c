/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: nothing about the hierarchical bitmap goes wrong where 64 bits end, and where a caller breaks the contract.
 *
 * How: sizes of INT64_MAX and around, in the coarsest grains and in the finest there can be; and for each asserted rule a test that
 * breaks it and must be stopped.
 */
#include "tests/unit/hbitmap_support.h"

#include <signal.h>

SUITE(hbitmap_limits);

Test(hbitmap_limits, what_there_cannot_be)
{
	cr_expect_null(hbitmap_alloc(1, -1));
	cr_expect_null(hbitmap_alloc(1, 64));
	cr_expect_null(hbitmap_alloc((uint64_t)INT64_MAX + 1, 63));
	cr_expect_null(hbitmap_alloc(UINT64_MAX, 63));
	cr_expect_null(hbitmap_alloc((UINT64_C(1) << 41) + 1, 0));
	cr_expect_null(hbitmap_alloc(INT64_MAX, 21));
}

/* The shape of the largest, which is more than memory holds: it has every level, and room for the sentinel. */
Test(hbitmap_limits, the_largest_shape)
{
	uint64_t bits, words[HBITMAP_LEVELS];

	cr_assert(hbitmap_shape(UINT64_C(1) << 41, 0, &bits, words));
	cr_expect_eq(bits, UINT64_C(1) << 41);
	for (int i = LAST; i > 0; i--)
		cr_expect_eq(words[i], UINT64_C(1) << (35 - 6 * (LAST - i)), "level %d", i);
	cr_expect_eq(words[0], 1);
	cr_assert(hbitmap_shape(INT64_MAX, 22, &bits, words));
	cr_expect_eq(bits, UINT64_C(1) << 41);
}

/* Every size at the end of what there can be, in grains from 2^40 to 2^63. */
Test(hbitmap_limits, sizes_near_2_to_the_63)
{
	for (int granularity = 40; granularity < 64; granularity++) {
		for (uint64_t less = 0; less < 3; less++) {
			uint64_t size = INT64_MAX - less, grain = UINT64_C(1) << granularity;
			uint64_t tail = (size - 1) / grain * grain;
			HBitmap *hb = hbitmap_alloc(size, granularity);
			int64_t first, n;
			HBitmapIter it;

			hbitmap_set(hb, size - 1, 1);
			cr_expect_eq(hbitmap_count(hb), grain);
			cr_expect(hbitmap_get(hb, tail) && hbitmap_get(hb, size - 1));
			hbitmap_iter_init(&it, hb, 0);
			cr_expect_eq(hbitmap_iter_next(&it), (int64_t)tail);
			cr_expect_eq(hbitmap_iter_next(&it), -1);
			cr_expect_eq(hbitmap_next_dirty(hb, 0, INT64_MAX), (int64_t)tail);
			cr_expect_eq(hbitmap_next_dirty(hb, (int64_t)size - 1, INT64_MAX),
				     (int64_t)size - 1);
			cr_expect_eq(hbitmap_next_dirty(hb, (int64_t)size, INT64_MAX), -1);
			cr_expect_eq(hbitmap_next_dirty(hb, INT64_MAX, INT64_MAX), -1);
			cr_expect_eq(hbitmap_next_zero(hb, (int64_t)tail, INT64_MAX), -1);
			cr_expect(hbitmap_next_dirty_area(hb, 0, INT64_MAX, INT64_MAX, &first, &n));
			cr_expect_eq(first, (int64_t)tail);
			cr_expect_eq((uint64_t)n, size - tail);
			cr_expect_not(
				hbitmap_next_dirty_area(hb, INT64_MAX, INT64_MAX, 1, &first, &n));
			cr_expect(hbitmap_status(hb, (int64_t)size - 1, INT64_MAX, &n));
			cr_expect_eq(n, 1);
			hbitmap_set(hb, 0, size);
			cr_expect_eq(hbitmap_count(hb), hb->bits << granularity);
			cr_expect(hbitmap_status(hb, 0, INT64_MAX, &n));
			cr_expect_eq((uint64_t)n, size);
			hbitmap_reset(hb, tail, size - tail);
			cr_expect_eq(hbitmap_next_zero(hb, 0, INT64_MAX), (int64_t)tail);
			hbitmap_reset(hb, 0, size);
			cr_expect(hbitmap_empty(hb));
			hbitmap_free(hb);
		}
	}
}

Test(hbitmap_limits, merging_near_2_to_the_63)
{
	HBitmap *fine = hbitmap_alloc(INT64_MAX, 45), *coarse = hbitmap_alloc(INT64_MAX, 63);

	hbitmap_set(fine, INT64_MAX - 1, 1);
	hbitmap_merge(fine, coarse, coarse);
	cr_expect_eq(hbitmap_count(coarse), UINT64_C(1) << 63);
	hbitmap_merge(coarse, fine, fine);
	cr_expect_eq(hbitmap_count(fine), UINT64_C(1) << 63);
	cr_expect_eq(hbitmap_next_zero(fine, 0, INT64_MAX), -1);
	hbitmap_free(fine);
	hbitmap_free(coarse);
}

Test(hbitmap_limits, truncating_near_2_to_the_63)
{
	HBitmap *hb = hbitmap_alloc(INT64_MAX, 50);

	hbitmap_set(hb, 0, INT64_MAX);
	cr_expect_not(hbitmap_truncate(hb, UINT64_MAX));
	cr_expect_not(hbitmap_truncate(hb, (uint64_t)INT64_MAX + 1));
	cr_expect_eq(hbitmap_size(hb), INT64_MAX);
	cr_assert(hbitmap_truncate(hb, 1));
	cr_expect_eq(hbitmap_count(hb), UINT64_C(1) << 50);
	cr_assert(hbitmap_truncate(hb, INT64_MAX));
	cr_expect_eq(hbitmap_next_zero(hb, 0, INT64_MAX), INT64_C(1) << 50);
	hbitmap_free(hb);
	hb = hbitmap_alloc(100, 0);
	cr_expect_not(hbitmap_truncate(hb, INT64_MAX), "too many bits");
	cr_expect_eq(hbitmap_size(hb), 100);
	hbitmap_free(hb);
}

Test(hbitmap_limits, a_bitmap_of_nothing)
{
	HBitmap *hb = hbitmap_alloc(0, 0), *meta = hbitmap_create_meta(hb, 1);
	uint8_t nothing[1] = { 0xa5 };
	int64_t first = -2, n = -2;
	HBitmapIter it;

	cr_expect(hbitmap_empty(hb) && hbitmap_count(hb) == 0 && hbitmap_size(hb) == 0);
	hbitmap_set(hb, 0, 0);
	hbitmap_reset(hb, 0, 0);
	hbitmap_reset_all(hb);
	hbitmap_merge(hb, hb, hb);
	hbitmap_iter_init(&it, hb, 0);
	cr_expect_eq(hbitmap_iter_next(&it), -1);
	cr_expect_eq(hbitmap_next_dirty(hb, 0, INT64_MAX), -1);
	cr_expect_eq(hbitmap_next_zero(hb, 0, INT64_MAX), -1);
	cr_expect_not(hbitmap_next_dirty_area(hb, 0, INT64_MAX, INT64_MAX, &first, &n));
	cr_expect(hbitmap_is_part(hb, 0, 0));
	cr_expect_eq(hbitmap_serialization_size(hb, 0, 0), 0);
	hbitmap_serialize_part(hb, nothing, 0, 0);
	cr_expect_eq(nothing[0], 0xa5);
	hbitmap_deserialize_part(hb, nothing, 0, 0, false);
	hbitmap_reset_all(hb);
	hbitmap_deserialize_ones(hb, 0, 0, true);
	cr_expect(hbitmap_empty(hb) && hbitmap_empty(meta));
	cr_assert(hbitmap_truncate(hb, 10));
	hbitmap_set(hb, 9, 1);
	cr_expect_eq(hbitmap_next_dirty(meta, 0, INT64_MAX), 9);
	cr_assert(hbitmap_truncate(hb, 0));
	cr_expect(hbitmap_empty(hb) && hbitmap_empty(meta));
	hbitmap_free(hb);
}

/* An iterator that the end has moved across. */
Test(hbitmap_limits, iterating_over_a_truncate)
{
	HBitmap *hb = hbitmap_alloc(10000, 0);
	HBitmapIter it;

	hbitmap_set(hb, 9000, 1);
	hbitmap_set(hb, 9999, 1);
	hbitmap_iter_init(&it, hb, 0);
	cr_expect_eq(hbitmap_iter_next(&it), 9000);
	cr_assert(hbitmap_truncate(hb, 10));
	cr_expect_eq(hbitmap_iter_next(&it), -1);
	cr_assert(hbitmap_truncate(hb, 20000));
	hbitmap_set(hb, 19999, 1);
	cr_expect_eq(hbitmap_iter_next(&it), 19999);
	hbitmap_free(hb);
}

/* --- rules --- */

#define STOPPED 77

/* An ordered end, so that a coverage report knows of the assert as well. */
static void stopped(int signal)
{
	(void)signal;
	exit(STOPPED);
}

/* The assert's own words are not worth a line on the screen each. */
static void await_stop(void)
{
	cr_assert_not_null(freopen("/dev/null", "w", stderr));
	signal(SIGABRT, stopped);
}

/* Static and kept, so that they are no leaks where it stops. */
#define BREAKS(name, size, granularity, ...)                                          \
	Test(hbitmap_limits, breaks_##name, .init = await_stop, .exit_code = STOPPED) \
	{                                                                             \
		static HBitmap *volatile hb, *volatile two;                           \
		uint8_t buf[64] = { 0 };                                              \
		int64_t first, n;                                                     \
		HBitmapIter it;                                                       \
                                                                                      \
		hb = hbitmap_alloc(size, granularity);                                \
		two = hbitmap_alloc(101, granularity);                                \
		hbitmap_iter_init(&it, hb, 0);                                        \
		(void)two, (void)buf, (void)first, (void)n;                           \
		__VA_ARGS__;                                                          \
	}

BREAKS(get_beyond_the_end, 100, 2, hbitmap_get(hb, 100))
BREAKS(set_beyond_the_end, 100, 0, hbitmap_set(hb, 99, 2))
BREAKS(set_that_wraps, 100, 0, hbitmap_set(hb, 99, UINT64_MAX - 98))
BREAKS(set_from_beyond, 100, 0, hbitmap_set(hb, UINT64_MAX, 1))
BREAKS(reset_beyond_the_end, 100, 0, hbitmap_reset(hb, 0, 101))
BREAKS(reset_that_wraps, 100, 0, hbitmap_reset(hb, 64, UINT64_MAX - 63))
BREAKS(reset_of_half_a_grain, 100, 2, hbitmap_reset(hb, 0, 2))
BREAKS(reset_from_half_a_grain, 100, 2, hbitmap_reset(hb, 2, 4))
BREAKS(reset_of_half_a_grain_before_the_end, 102, 2, hbitmap_reset(hb, 4, 97))
BREAKS(a_search_before_0, 100, 0, hbitmap_next_dirty(hb, -1, 10))
BREAKS(a_search_for_less_than_0, 100, 0, hbitmap_next_zero(hb, 0, -1))
BREAKS(an_area_before_0, 100, 0, hbitmap_next_dirty_area(hb, -1, 10, 1, &first, &n))
BREAKS(an_area_that_ends_before_0, 100, 0, hbitmap_next_dirty_area(hb, 0, -1, 1, &first, &n))
BREAKS(an_area_of_0, 100, 0, hbitmap_next_dirty_area(hb, 0, 10, 0, &first, &n))
BREAKS(status_beyond_the_end, 100, 0, hbitmap_status(hb, 100, 1, &n))
BREAKS(status_of_nothing, 100, 0, hbitmap_status(hb, 0, 0, &n))
BREAKS(merging_two_sizes, 100, 0, hbitmap_merge(hb, two, hb))
BREAKS(merging_two_sizes_the_other_way, 100, 0, hbitmap_merge(two, hb, hb))
BREAKS(a_crooked_part, 100, 0, hbitmap_serialize_part(hb, buf, 1, 64))
BREAKS(a_part_beyond_the_end, 100, 0, hbitmap_deserialize_part(hb, buf, 64, 64, true))
BREAKS(a_part_that_cannot_be, 100, 58, hbitmap_serialization_align(hb))
BREAKS(a_crooked_chunk, 100, 0, hbitmap_create_meta(hb, 3))
BREAKS(a_chunk_of_nothing, 100, 0, hbitmap_create_meta(hb, 0))
BREAKS(two_metas, 100, 0, hbitmap_create_meta(hb, 1), hbitmap_create_meta(hb, 1))

#define LOADING(name, ...)                                                               \
	BREAKS(name##_while_loading, 101, 0, hbitmap_deserialize_ones(hb, 0, 64, false), \
	       __VA_ARGS__)

LOADING(get, hbitmap_get(hb, 0))
LOADING(set, hbitmap_set(hb, 0, 1))
LOADING(reset, hbitmap_reset(hb, 0, 1))
LOADING(count, hbitmap_count(hb))
LOADING(empty, hbitmap_empty(hb))
LOADING(iterating, hbitmap_iter_next(&it))
LOADING(searching, hbitmap_next_dirty(hb, 0, 1))
LOADING(searching_an_area, hbitmap_next_dirty_area(hb, 0, 1, 1, &first, &n))
LOADING(truncating, hbitmap_truncate(hb, 1))
LOADING(merging_from, hbitmap_merge(hb, two, two))
LOADING(merging_from_b, hbitmap_merge(two, hb, two))
LOADING(merging_into, hbitmap_merge(two, two, hb))
