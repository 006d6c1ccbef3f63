/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long does a dirty bitmap take to go into a stream, and out of it?
 *
 * One bitmap of 64 KiB grains, as section "dirty-bitmap" has it: START, all chunks, COMPLETE; into nowhere, and out of memory. Clean:
 * no grain is dirty; sparse: 1000 at random places; full: all. "Changed" is what is left for the switch: the chunks of 100 random
 * writes, after everything was sent once. The reference is memcpy() of as many bits as the disk has grains.
 */
#include "bench/saving.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "migration/bitmaps/load.h"
#include "migration/bitmaps/save.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define TURN_NS (20 * NS_PER_MS)
#define SPARSE 1000
#define CHANGES 100
#define TIB (UINT64_C(1) << 40)

struct saving {
	struct disk_bitmaps_list list;
	struct disk_bitmaps disk;
	struct channel *stream; /* what it is on the wire */
	uint8_t *bits, *copy;
	size_t nbits; /* bytes in each of the two */
	uint64_t random;
};

typedef double time_fn(struct saving *s);

/* --- what is prepared --- */

static void fill_clean(struct saving *s)
{
	(void)s;
}

static void mark_random(struct saving *s, unsigned int n)
{
	while (n--) {
		s->random ^= s->random << 13;
		s->random ^= s->random >> 7;
		s->random ^= s->random << 17;
		disk_bitmaps_mark(&s->disk, s->random % s->disk.bytes, 1);
	}
}

static void fill_sparse(struct saving *s)
{
	mark_random(s, SPARSE);
}

static void fill_full(struct saving *s)
{
	disk_bitmaps_mark(&s->disk, 0, s->disk.bytes);
}

static void begin(struct saving *s, struct bitmap_save *save, struct stream_out *out)
{
	if (!bitmap_save_begin(save, out, &s->list, NULL))
		abort();
	bitmap_save_setup(save);
}

static void send_all(struct bitmap_save *save)
{
	while (bitmap_save_some(save))
		;
}

static void saving_init(struct saving *s, uint64_t bytes, void (*fill)(struct saving *s))
{
	struct bitmap_save save;
	struct stream_out *out;

	*s = (struct saving){ .random = 88172645463325252ull,
			      .stream = channel_memory(),
			      .nbits = bytes / DISK_BITMAP_GRANULARITY / 8 };
	TAILQ_INIT(&s->list);
	disk_bitmaps_init(&s->disk, "disk0", bytes);
	TAILQ_INSERT_TAIL(&s->list, &s->disk, entry);
	if (!disk_bitmap_add(&s->disk, "a", DISK_BITMAP_GRANULARITY, true, NULL))
		abort();
	fill(s);
	s->bits = xcalloc(1, s->nbits);
	s->copy = xcalloc(1, s->nbits);
	memset(s->bits, 1, s->nbits);
	memset(s->copy, 1, s->nbits);
	out = stream_out_new(s->stream);
	begin(s, &save, out);
	send_all(&save);
	bitmap_save_eos(&save);
	mark_random(s, CHANGES);
	bitmap_save_close(&save);
	bitmap_save_rest(&save);
	bitmap_save_end(&save);
	stream_flush(out);
	stream_out_free(out);
	if (fill == fill_clean)
		disk_bitmap_clear(&s->disk, "a", NULL);
}

static void saving_release(struct saving *s)
{
	disk_bitmaps_release(&s->disk);
	channel_free(s->stream);
	free(s->bits);
	free(s->copy);
}

/* --- the work: ns --- */

static double time_save(struct saving *s)
{
	struct stream_out *out = stream_out_new(NULL);
	uint64_t start = clock_now_ns();
	struct bitmap_save save;

	begin(s, &save, out);
	send_all(&save);
	bitmap_save_close(&save);
	bitmap_save_rest(&save);
	bitmap_save_end(&save);
	start = clock_now_ns() - start;
	stream_out_free(out);
	return (double)start;
}

static double time_changed(struct saving *s)
{
	struct stream_out *out = stream_out_new(NULL);
	struct bitmap_save save;
	uint64_t start;

	begin(s, &save, out);
	send_all(&save);
	mark_random(s, CHANGES);
	bitmap_save_close(&save);
	start = clock_now_ns();
	bitmap_save_rest(&save);
	start = clock_now_ns() - start;
	bitmap_save_end(&save);
	stream_out_free(out);
	disk_bitmap_clear(&s->disk, "a", NULL);
	return (double)start;
}

/* From the first byte, or from where the switch begins, until the disk has its bitmap. */
static double time_reading(struct saving *s, bool at_the_switch)
{
	struct disk_bitmaps_list list = TAILQ_HEAD_INITIALIZER(list);
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct stream_in *in = stream_in_new(ch);
	struct disk_bitmaps disk;
	struct bitmap_load load;
	const uint8_t *data;
	uint64_t start;
	size_t len;

	data = channel_memory_data(s->stream, &len);
	put_bytes(out, data, len);
	stream_flush(out);
	disk_bitmaps_init(&disk, "disk0", s->disk.bytes);
	TAILQ_INSERT_TAIL(&list, &disk, entry);
	start = clock_now_ns();
	bitmap_load_init(&load, &list);
	bitmap_load_section(&load, in);
	bitmap_load_section(&load, in);
	if (at_the_switch)
		start = clock_now_ns();
	bitmap_load_section(&load, in);
	if (bitmap_load_finish(&load) || disk.n != 1 || !stream_in_ok(in))
		abort();
	start = clock_now_ns() - start;
	bitmap_load_release(&load);
	disk_bitmaps_release(&disk);
	stream_in_free(in);
	stream_out_free(out);
	channel_free(ch);
	return (double)start;
}

static double time_load(struct saving *s)
{
	return time_reading(s, false);
}

static double time_load_changed(struct saving *s)
{
	return time_reading(s, true);
}

static double time_copy(struct saving *s)
{
	uint64_t start = clock_now_ns();

	memcpy(s->copy, s->bits, s->nbits);
	__asm__ volatile("" : : "r"(s->copy) : "memory");
	return (double)(clock_now_ns() - start);
}

/* --- rows --- */

/* us a time */
static double time_of(struct saving *s, time_fn *work)
{
	uint64_t begun = clock_now_ns();
	double spent = 0;
	unsigned int n = 0;

	while (spent < (double)TURN_NS && clock_now_ns() - begun < 4 * TURN_NS) {
		spent += work(s);
		n++;
	}
	return spent / 1e3 / n;
}

static const struct measure {
	const char *what;
	void (*fill)(struct saving *s);
	time_fn *work;
} measures[] = {
	{ "save, clean", fill_clean, time_save },
	{ "save, sparse", fill_sparse, time_save },
	{ "save, full", fill_full, time_save },
	{ "save, changed", fill_clean, time_changed },
	{ "load, clean", fill_clean, time_load },
	{ "load, sparse", fill_sparse, time_load },
	{ "load, full", fill_full, time_load },
	{ "load, changed", fill_clean, time_load_changed },
};

static void measure_one(struct table *t, const struct measure *m, uint64_t bytes, const char *name,
			unsigned int runs)
{
	struct saving s;
	char what[64];
	struct row *row;

	saving_init(&s, bytes, m->fill);
	snprintf(what, sizeof(what), "%s, %s, us", name, m->what);
	row = table_row(t, what, "copy");
	for (unsigned int run = 0; run < runs; run++) {
		samples_add(&row->ours, time_of(&s, m->work));
		samples_add(&row->ref, time_of(&s, time_copy));
	}
	saving_release(&s);
}

void measure_saving(struct table *t, unsigned int runs)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} disks[] = { { "1 GiB", TIB / 1024 }, { "1 TiB", TIB }, { "64 TiB", 64 * TIB } };

	for (size_t d = 0; d < ARRAY_SIZE(disks); d++)
		for (size_t m = 0; m < ARRAY_SIZE(measures); m++)
			measure_one(t, &measures[m], disks[d].bytes, disks[d].name, runs);
	table_note(t, "sparse: %d dirty grains; changed: the chunks of %d writes, at the switch",
		   SPARSE, CHANGES);
}
