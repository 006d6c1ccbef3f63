/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: where memory is out, the hierarchical bitmap says so and has changed nothing.
 *
 * How: the sources themselves are included, with allocations that fail when a test wants it; each one fails in turn.
 */
#include "tests/unit/support.h"

/* The calloc() that fails, counted from 1; 0: none. Of realloc()s all or none. */
static struct {
	unsigned int alloc;
	bool shrink;
} failing;

static void *failing_calloc(size_t n, size_t size)
{
	return failing.alloc && --failing.alloc == 0 ? NULL : calloc(n, size);
}

static void *failing_realloc(void *p, size_t size)
{
	return failing.shrink ? NULL : realloc(p, size);
}

#define calloc(n, size) failing_calloc(n, size)
#define realloc(p, size) failing_realloc(p, size)
#include "vmm/base/hbitmap.c"
#include "vmm/base/hbitmap_whole.c"

SUITE(hbitmap_memory);

Test(hbitmap_memory, each_allocation_of_alloc_fails)
{
	HBitmap *hb = NULL;
	unsigned int n = 0;

	while (!hb) {
		failing.alloc = ++n;
		hb = hbitmap_alloc(100000, 0);
	}
	cr_expect_eq(n, 1 + HBITMAP_LEVELS + 1, "one structure, seven levels, and then it works");
	failing.alloc = 1;
	cr_expect_null(hbitmap_create_meta(hb, 64));
	failing.alloc = 0;
	cr_expect_null(hb->meta);
	cr_expect_not_null(hbitmap_create_meta(hb, 64));
	hbitmap_free(hb);
	hb = hbitmap_alloc(1, 60);
	cr_expect_null(hbitmap_create_meta(hb, 16), "a granularity of 64");
	hbitmap_free(hb);
}

/* A truncate that fails has changed nothing, in neither bitmap. */
Test(hbitmap_memory, each_allocation_of_truncate_fails)
{
	HBitmap *hb = hbitmap_alloc(100, 0), *meta = hbitmap_create_meta(hb, 8);
	unsigned int n = 0;
	bool done = false;

	hbitmap_set(hb, 90, 10);
	while (!done) {
		failing.alloc = ++n;
		done = hbitmap_truncate(hb, 1 << 20);
		failing.alloc = 0;
		cr_expect_eq(hbitmap_size(hb), done ? 1 << 20 : 100);
		cr_expect_eq(hbitmap_size(meta), hbitmap_size(hb));
		cr_expect_eq(hbitmap_count(hb), 10);
		cr_expect_eq(hbitmap_next_dirty(hb, 0, INT64_MAX), 90);
		cr_expect_eq(hbitmap_next_zero(hb, 90, INT64_MAX), done ? 100 : -1);
	}
	cr_expect_gt(n, 4);
	/* Downwards there is nothing that could fail. */
	failing.alloc = 1;
	failing.shrink = true;
	cr_expect(hbitmap_truncate(hb, 95));
	cr_expect_eq(hbitmap_count(hb), 5);
	hbitmap_free(hb);
}
