/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where does a hierarchical bitmap gain over a flat one, and what does it cost where it does not?
 *
 * Both hold the same bits and do the same work in turns: only the work is timed, not what prepares it. A flat bitmap serializes by
 * copying its words, and is merged word by word. Sparse is 100 dirty grains at random places, dense every second one.
 */
#include "bench/bitmaps.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/hbitmap.h"

#define GRAIN_BITS 16
#define TURN_NS (20 * NS_PER_MS)
#define SPARSE 100

struct pair {
	uint64_t size, bits;
	HBitmap *hb, *other_hb;
	struct bitmap flat, other_flat;
	uint8_t *buf;
	volatile uint64_t sink;
};

typedef void work_fn(struct pair *p);

static void pair_init(struct pair *p, uint64_t size)
{
	*p = (struct pair){ .size = size, .bits = size >> GRAIN_BITS };
	p->hb = hbitmap_alloc(size, GRAIN_BITS);
	p->other_hb = hbitmap_alloc(size, GRAIN_BITS);
	p->buf = calloc(bitmap_words(p->bits), sizeof(uint64_t));
	if (!p->hb || !p->other_hb || !p->buf || !bitmap_init(&p->flat, p->bits) ||
	    !bitmap_init(&p->other_flat, p->bits))
		abort();
	memset(p->buf, 1, bitmap_words(p->bits) * sizeof(uint64_t));
}

static void pair_release(struct pair *p)
{
	hbitmap_free(p->hb);
	hbitmap_free(p->other_hb);
	bitmap_release(&p->flat);
	bitmap_release(&p->other_flat);
	free(p->buf);
}

/* --- what is prepared --- */

static void clear_both(struct pair *p)
{
	hbitmap_reset_all(p->hb);
	bitmap_clear(&p->flat, 0, p->bits);
}

static void set_in_both(struct pair *p, uint64_t bit)
{
	hbitmap_set(p->hb, bit << GRAIN_BITS, 1);
	bitmap_test_and_set(&p->flat, bit);
	hbitmap_set(p->other_hb, bit << GRAIN_BITS, 1);
	bitmap_test_and_set(&p->other_flat, bit);
}

static void prepare_sparse(struct pair *p)
{
	uint64_t x = 88172645463325252ull;

	for (unsigned int i = 0; i < SPARSE; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		set_in_both(p, x % p->bits);
	}
}

/* All of them are clear before. */
static void prepare_dense(struct pair *p)
{
	uint64_t words = bitmap_words(p->bits);

	memset(p->buf, 0x55, words * sizeof(uint64_t));
	hbitmap_deserialize_part(p->hb, p->buf, 0, p->size, true);
	hbitmap_deserialize_part(p->other_hb, p->buf, 0, p->size, true);
	bitmap_merge(&p->flat, 0, (const uint64_t *)p->buf, words);
	bitmap_merge(&p->other_flat, 0, (const uint64_t *)p->buf, words);
	memset(p->buf, 1, words * sizeof(uint64_t));
}

/* --- the work --- */

static void set_hb(struct pair *p)
{
	hbitmap_set(p->hb, 1 << GRAIN_BITS, p->size - (3 << GRAIN_BITS));
}

static void set_flat(struct pair *p)
{
	bitmap_set(&p->flat, 1, p->bits - 3);
}

static void search_hb(struct pair *p)
{
	HBitmapIter it;
	int64_t item;

	hbitmap_iter_init(&it, p->hb, 0);
	while ((item = hbitmap_iter_next(&it)) >= 0)
		p->sink += (uint64_t)item;
}

static void search_flat(struct pair *p)
{
	for (uint64_t bit = 0; (bit = bitmap_next_set(&p->flat, bit)) < p->bits; bit++)
		p->sink += bit;
}

static void reset_hb(struct pair *p)
{
	hbitmap_reset_all(p->hb);
}

static void reset_flat(struct pair *p)
{
	bitmap_clear(&p->flat, 0, p->bits);
}

static void serialize_hb(struct pair *p)
{
	hbitmap_serialize_part(p->hb, p->buf, 0, p->size);
}

static void serialize_flat(struct pair *p)
{
	memcpy(p->buf, p->flat.words, bitmap_words(p->bits) * sizeof(uint64_t));
	__asm__ volatile("" : : "r"(p->buf) : "memory");
}

static void deserialize_hb(struct pair *p)
{
	hbitmap_deserialize_part(p->hb, p->buf, 0, p->size, true);
}

/* The count must be right here, too. */
static void deserialize_flat(struct pair *p)
{
	bitmap_merge(&p->flat, 0, (const uint64_t *)p->buf, bitmap_words(p->bits));
}

static void merge_hb(struct pair *p)
{
	hbitmap_merge(p->hb, p->other_hb, p->hb);
}

static void merge_flat(struct pair *p)
{
	bitmap_merge(&p->flat, 0, p->other_flat.words, bitmap_words(p->bits));
}

/* --- rows --- */

/* us a time; `before` is done before each, untimed. */
static double time_of(struct pair *p, work_fn *before, work_fn *work)
{
	uint64_t spent = 0, begun = clock_now_ns();
	unsigned int n = 0;

	while (spent < TURN_NS && clock_now_ns() - begun < 4 * TURN_NS) {
		uint64_t start;

		if (before)
			before(p);
		start = clock_now_ns();
		work(p);
		spent += clock_now_ns() - start;
		n++;
	}
	return (double)spent / 1e3 / n;
}

struct measure {
	const char *what;
	work_fn *fill;	 /* once */
	work_fn *before; /* each time */
	work_fn *hb, *flat;
	uint64_t size_max; /* 0: none */
};

#define TIB (UINT64_C(1) << 40)

static const struct measure measures[] = {
	{ "set nearly all", NULL, clear_both, set_hb, set_flat, 0 },
	{ "search, sparse", prepare_sparse, NULL, search_hb, search_flat, 0 },
	{ "search, dense", prepare_dense, NULL, search_hb, search_flat, TIB },
	{ "reset, sparse", NULL, prepare_sparse, reset_hb, reset_flat, 0 },
	{ "merge, sparse", prepare_sparse, clear_both, merge_hb, merge_flat, 0 },
	{ "merge, dense", prepare_dense, clear_both, merge_hb, merge_flat, 0 },
	{ "serialize, dense", prepare_dense, NULL, serialize_hb, serialize_flat, 0 },
	{ "deserialize, dense", prepare_dense, clear_both, deserialize_hb, deserialize_flat, 0 },
};

static void measure_one(struct table *t, const struct measure *m, uint64_t size, const char *name,
			unsigned int runs)
{
	char what[64];
	struct row *row;
	struct pair p;

	snprintf(what, sizeof(what), "%s, %s, us", name, m->what);
	row = table_row(t, what, "flat");
	pair_init(&p, size);
	if (m->fill)
		m->fill(&p);
	for (unsigned int run = 0; run < runs; run++) {
		samples_add(&row->ours, time_of(&p, m->before, m->hb));
		samples_add(&row->ref, time_of(&p, m->before, m->flat));
	}
	pair_release(&p);
}

void measure_bitmaps(struct table *t, unsigned int runs)
{
	static const struct {
		const char *name;
		uint64_t size;
	} disks[] = { { "1 GiB", TIB / 1024 }, { "1 TiB", TIB }, { "64 TiB", 64 * TIB } };

	for (size_t d = 0; d < ARRAY_SIZE(disks); d++)
		for (size_t m = 0; m < ARRAY_SIZE(measures); m++)
			if (!measures[m].size_max || disks[d].size <= measures[m].size_max)
				measure_one(t, &measures[m], disks[d].size, disks[d].name, runs);
	table_note(t, "a ratio below 1: the hierarchical bitmap is faster by that much");
}
