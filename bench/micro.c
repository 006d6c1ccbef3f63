/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * micro - the inner loops of a migration beside what the machine can do.
 *
 *	T7  the XBZRLE encoder beside memcpy of as many pages, and beside one that goes by bytes
 *	T8  the zero page scan beside reading the same memory
 *	T9  merging a dirty log of 1 GiB into the bitmap, and taking pages out of it
 *
 * and, in tables of their own, the hierarchical bitmap beside a flat one (bitmaps.c), and what dirty bitmaps cost a write to a disk
 * (marking.c).
 *
 * Ours and the reference take turns within one run; a turn lasts TURN_NS at least, and its speed
 * is one sample. The pages lie in pools larger than a core's own caches, walked in order, as a pass
 * does; the reference walks the same ones. Reading bandwidth is the best of three loops, two of them
 * with AVX2 where there is AVX2, one of these with prefetching.
 */
#include <getopt.h>
#include <stdint.h>
#include <sys/mman.h>

#include "bench/bitmaps.h"
#include "bench/marking.h"
#include "bench/saving.h"
#include "bench/table.h"
#include "migration/ram/xbzrle.h"
#include "migration/ram/zero.h"
#include "vmm/base/bitmap.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define PAGE 4096ul
#define WORDS (PAGE / sizeof(uint64_t))
#define POOL_PAGES 16384ul /* 64 MiB */
#define GIB_PAGES 262144ul
#define TURN_NS (60 * NS_PER_MS)

struct pools {
	uint8_t *old, *new, *to, *zero;
	uint8_t delta[PAGE];
	uint64_t *log;
	struct bitmap bitmap;
	volatile uint64_t sink;
};

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static uint8_t *new_pool(void)
{
	size_t bytes = POOL_PAGES * PAGE;
	uint8_t *p = aligned_alloc(2ul << 20, bytes);

	if (!p)
		abort();
	madvise(p, bytes, MADV_HUGEPAGE);
	memset(p, 0, bytes);
	return p;
}

/* new = old = noise */
static void fill_equal(struct pools *p)
{
	uint64_t x = 1, *w = (uint64_t *)p->old;

	for (size_t i = 0; i < POOL_PAGES * WORDS; i++)
		w[i] = next_random(&x);
	memcpy(p->new, p->old, POOL_PAGES * PAGE);
}

/* --- what differs --- */

static void change_words(struct pools *p, unsigned int words_a_page)
{
	uint64_t x = 2;

	fill_equal(p);
	for (size_t page = 0; page < POOL_PAGES; page++) {
		uint64_t *w = (uint64_t *)(p->new + page *PAGE);

		for (unsigned int i = 0; i < words_a_page; i++)
			w[next_random(&x) % WORDS] += 0x0101010101010101ull;
	}
}

/* Every second word: as many runs as there can be of whole words, and it still fits. */
static void change_every_other_word(struct pools *p)
{
	fill_equal(p);
	for (size_t i = 0; i < POOL_PAGES * WORDS; i += 2)
		((uint64_t *)p->new)[i] ^= 0xffffffffffffffffull;
}

/* All of it: an encoder has to look at nearly the whole page to see that it does not fit. */
static void change_everything(struct pools *p)
{
	uint64_t x = 3;

	fill_equal(p);
	for (size_t i = 0; i < POOL_PAGES * WORDS; i++)
		((uint64_t *)p->new)[i] = next_random(&x);
}

/* --- turns: one walk over a pool; bytes or pages worked on --- */

static void walk_encode(struct pools *p)
{
	for (size_t page = 0; page < POOL_PAGES; page++)
		p->sink += (uint64_t)xbzrle_encode_buffer(p->old + page * PAGE, p->new + page *PAGE,
							  PAGE, p->delta, sizeof(p->delta));
}

/* The plainest encoder there can be: a byte at a time. */
static int encode_by_bytes(const uint8_t *old, const uint8_t *new, uint8_t *dst, size_t room)
{
	size_t at = 0, used = 0;

	for (;;) {
		size_t from = at, change, n;

		while (at < PAGE && old[at] == new[at])
			at++;
		if (at == PAGE)
			return (int)used;
		change = at;
		while (at < PAGE && old[at] != new[at])
			at++;
		n = at - change;
		if (used + 4 + n > room)
			return XBZRLE_OVERFLOW;
		used += (size_t)uleb128_encode_small(dst + used, (uint32_t)(change - from));
		used += (size_t)uleb128_encode_small(dst + used, (uint32_t)n);
		memcpy(dst + used, new + change, n);
		used += n;
	}
}

static void walk_encode_by_bytes(struct pools *p)
{
	for (size_t page = 0; page < POOL_PAGES; page++)
		p->sink += (uint64_t)encode_by_bytes(p->old + page * PAGE, p->new + page *PAGE,
						     p->delta, sizeof(p->delta));
}

static void walk_memcpy(struct pools *p)
{
	for (size_t page = 0; page < POOL_PAGES; page++) {
		memcpy(p->to + page * PAGE, p->new + page *PAGE, PAGE);
		__asm__ volatile("" : : "r"(p->to) : "memory");
	}
}

static void walk_zero(struct pools *p)
{
	for (size_t page = 0; page < POOL_PAGES; page++)
		p->sink += page_is_zero(p->zero + page * PAGE, PAGE);
}

typedef uint64_t vec2 __attribute__((vector_size(16)));
typedef uint64_t vec4 __attribute__((vector_size(32)));

#define SUM_LOOP(type, ahead)                                                           \
	do {                                                                            \
		const type *v = (const type *)p->zero;                                  \
		type a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };                        \
		for (size_t i = 0; i < POOL_PAGES * PAGE / sizeof(type); i += 4) {      \
			if (ahead)                                                      \
				__builtin_prefetch((const char *)(v + i) + ahead);      \
			if (ahead && sizeof(type) > 16)                                 \
				__builtin_prefetch((const char *)(v + i) + ahead + 64); \
			a += v[i];                                                      \
			b += v[i + 1];                                                  \
			c += v[i + 2];                                                  \
			d += v[i + 3];                                                  \
		}                                                                       \
		a += b + c + d;                                                         \
		p->sink += a[0] + a[1];                                                 \
	} while (0)

static void walk_sum_sse(struct pools *p)
{
	SUM_LOOP(vec2, 0);
}

__attribute__((target("avx2"))) static void walk_sum_avx2(struct pools *p)
{
	SUM_LOOP(vec4, 0);
}

__attribute__((target("avx2"))) static void walk_sum_ahead(struct pools *p)
{
	SUM_LOOP(vec4, 2048);
}

/* --- rows --- */

/* How many walks a second. */
static double speed(struct pools *p, void (*walk)(struct pools *))
{
	uint64_t start = clock_now_ns(), now;
	unsigned int n = 0;

	do {
		walk(p);
		n++;
		now = clock_now_ns();
	} while (now - start < TURN_NS);
	return n * 1e9 / (double)(now - start);
}

/* GiB a second of a pool walked once a walk. */
static double pool_speed(struct pools *p, void (*walk)(struct pools *))
{
	return speed(p, walk) * (double)(POOL_PAGES * PAGE) / (double)(1ul << 30);
}

/* Beside memcpy; and where that has a target, beside the plain encoder as well. */
static void measure_encoder(struct table *t, struct pools *p, unsigned int runs, const char *what,
			    double ratio_min)
{
	struct row *row = table_row(t, what, "memcpy");
	struct row *plain = ratio_min > 0 ? table_row(t, "   as above", "by bytes") : NULL;

	row->ratio_min = ratio_min;
	if (plain)
		plain->ratio_min = 2;
	for (unsigned int run = 0; run < runs; run++) {
		samples_add(&row->ours, pool_speed(p, walk_encode));
		samples_add(&row->ref, pool_speed(p, walk_memcpy));
		if (!plain)
			continue;
		samples_add(&plain->ours, pool_speed(p, walk_encode));
		samples_add(&plain->ref, pool_speed(p, walk_encode_by_bytes));
	}
}

static void measure_xbzrle(struct table *t, struct pools *p, unsigned int runs)
{
	fill_equal(p);
	measure_encoder(t, p, runs, "T7 encoder, page unchanged, GiB/s", 0);
	change_words(p, 1);
	measure_encoder(t, p, runs, "T7 encoder, 1 word changed, GiB/s", 1.0 / 3);
	change_words(p, 8);
	measure_encoder(t, p, runs, "T7 encoder, 8 words changed, GiB/s", 1.0 / 3);
	change_every_other_word(p);
	measure_encoder(t, p, runs, "T7 encoder, every other word, GiB/s", 0.1);
	change_everything(p);
	measure_encoder(t, p, runs, "T7 encoder, all changed, GiB/s", 0.1);
}

static void measure_zero(struct table *t, struct pools *p, unsigned int runs)
{
	struct row *row = table_row(t, "T8 zero page scan, GiB/s", "reading");

	row->ratio_min = 0.8;
	__builtin_cpu_init();
	for (unsigned int run = 0; run < runs; run++) {
		double best;

		samples_add(&row->ours, pool_speed(p, walk_zero));
		best = pool_speed(p, walk_sum_sse);
		if (__builtin_cpu_supports("avx2")) {
			double wide = pool_speed(p, walk_sum_avx2);
			double ahead = pool_speed(p, walk_sum_ahead);

			best = MAX_OF(best, MAX_OF(wide, ahead));
		}
		samples_add(&row->ref, best);
	}
}

/* --- the bitmap of 1 GiB --- */

static void walk_merge(struct pools *p)
{
	p->sink += bitmap_merge(&p->bitmap, 0, p->log, bitmap_words(GIB_PAGES));
}

static void walk_take(struct pools *p)
{
	for (uint64_t page = 0; (page = bitmap_next_set(&p->bitmap, page)) < GIB_PAGES; page++)
		bitmap_test_and_clear(&p->bitmap, page);
}

/* us a walk, with the bitmap made clean or full before each. */
static double walk_us(struct pools *p, void (*walk)(struct pools *), bool full)
{
	uint64_t spent = 0;
	unsigned int n = 0;

	while (spent < TURN_NS / 4) {
		uint64_t start;

		if (full)
			bitmap_set(&p->bitmap, 0, GIB_PAGES);
		else
			bitmap_clear(&p->bitmap, 0, GIB_PAGES);
		start = clock_now_ns();
		walk(p);
		spent += clock_now_ns() - start;
		n++;
	}
	return (double)spent / 1e3 / n;
}

static void measure_merge(struct table *t, struct pools *p, unsigned int runs, const char *what,
			  unsigned int one_in)
{
	struct row *row = table_row(t, what, NULL);
	uint64_t x = 4;

	row->ours_max = 50;
	memset(p->log, 0, GIB_PAGES / 8);
	for (uint64_t page = 0; one_in && page < GIB_PAGES; page++)
		if (next_random(&x) % one_in == 0)
			p->log[page / 64] |= 1ull << page % 64;
	for (unsigned int run = 0; run < runs; run++)
		samples_add(&row->ours, walk_us(p, walk_merge, false));
}

static void measure_bitmap(struct table *t, struct pools *p, unsigned int runs)
{
	struct row *take;

	measure_merge(t, p, runs, "T9 merging an empty log, us/GiB", 0);
	measure_merge(t, p, runs, "T9 merging, one page in 100 dirty, us/GiB", 100);
	measure_merge(t, p, runs, "T9 merging, all dirty, us/GiB", 1);
	take = table_row(t, "   taking all pages, ns a page", NULL);
	for (unsigned int run = 0; run < runs; run++)
		samples_add(&take->ours, walk_us(p, walk_take, true) * 1e3 / GIB_PAGES);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "runs", required_argument, NULL, 'r' }, { 0 } };
	struct pools *p = xcalloc(1, sizeof(*p));
	struct table *t = table_new("inner loops");
	struct table *bitmaps = table_new("hierarchical and flat bitmap, 64 KiB grains");
	struct table *saving = table_new("a dirty bitmap into a migration stream and out of it");
	struct table *marking = table_new("writes to a disk with dirty bitmaps");
	unsigned int runs = 5;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		runs = opt == 'r' ? (unsigned int)strtoul(optarg, NULL, 10) : 0;
		if (!runs || runs > SAMPLES_MAX) {
			fprintf(stderr, "usage: micro [--runs N]\n");
			return 2;
		}
	}
	p->old = new_pool();
	p->new = new_pool();
	p->to = new_pool();
	p->zero = new_pool();
	p->log = xcalloc(bitmap_words(GIB_PAGES), sizeof(*p->log));
	if (!bitmap_init(&p->bitmap, GIB_PAGES))
		abort();
	table_note(t, "pools of %lu MiB, walked in order", POOL_PAGES * PAGE >> 20);
	table_note(t, "of T9 this is only the merge; the sync's other walks are not in it");
	measure_xbzrle(t, p, runs);
	measure_zero(t, p, runs);
	measure_bitmap(t, p, runs);
	table_print(t);
	bitmap_release(&p->bitmap);
	free(p->old);
	free(p->new);
	free(p->to);
	free(p->zero);
	free(p->log);
	free(p);
	table_free(t);
	measure_bitmaps(bitmaps, runs);
	table_print(bitmaps);
	table_free(bitmaps);
	measure_saving(saving, runs);
	table_print(saving);
	table_free(saving);
	measure_marking(marking, runs);
	table_print(marking);
	table_free(marking);
	return 0;
}
