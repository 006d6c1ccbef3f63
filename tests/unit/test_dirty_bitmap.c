/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: section "dirty-bitmap" has the bytes that docs/stream-format.md says; what was saved while the disk was written to is loaded
 * whole; and a stream in which one bitmap is wrong loses that bitmap, never its own place, and never gives a bitmap that lacks bits.
 *
 * How: bytes written by hand for each kind of chunk, both ways; random disks, bitmaps and writes between chunks, compared bit by bit;
 * a table of wrong streams, each followed by a byte that must be what is read next.
 */
#include <sched.h>

#include "migration/bitmaps/format.h"
#include "migration/bitmaps/load.h"
#include "migration/bitmaps/save.h"
#include "tests/unit/support.h"
#include "vmm/base/cleanup.h"

SUITE(dirty_bitmap);

#define SEED UINT64_C(0x5eed0520)
#define MIB (UINT64_C(1) << 20)
#define TIB (UINT64_C(1) << 40)
#define BEHIND 0x5a

/* --- machines and streams --- */

struct machine {
	struct disk_bitmaps_list list;
	struct disk_bitmaps disks[2];
	unsigned int n;
};

static void add_disk(struct machine *m, const char *node, uint64_t bytes)
{
	struct disk_bitmaps *d = &m->disks[m->n++];

	if (m->n == 1)
		TAILQ_INIT(&m->list);
	disk_bitmaps_init(d, node, bytes);
	TAILQ_INSERT_TAIL(&m->list, d, entry);
}

static void machine_end(struct machine *m)
{
	while (m->n)
		disk_bitmaps_release(&m->disks[--m->n]);
}

static struct disk_bitmap *get(struct disk_bitmaps *d, const char *name)
{
	struct disk_bitmap *bm;

	TAILQ_FOREACH (bm, &d->list, entry)
		if (strcmp(bm->name, name) == 0)
			break;
	return bm;
}

static void add(struct disk_bitmaps *d, const char *name, uint64_t granularity, bool enabled)
{
	struct error *err = NULL;

	expect_ok(disk_bitmap_add(d, name, granularity, enabled, &err), err);
}

/* What has been put since the last time. */
static void expect_put(struct channel *ch, struct stream_out *out, const char *hex,
		       const char *what)
{
	static size_t seen;
	const uint8_t *data;
	size_t len;

	stream_flush(out);
	data = channel_memory_data(ch, &len);
	expect_hex(data + seen, len - seen, hex, what);
	seen = len;
}

struct loaded {
	struct bitmap_load load;
	struct channel *ch;
	struct stream_in *in;
};

static void load_begin(struct loaded *l, struct machine *m, const void *data, size_t len)
{
	struct stream_out *out;

	l->ch = channel_memory();
	out = stream_out_new(l->ch);
	put_bytes(out, data, len);
	put_u8(out, BEHIND);
	stream_flush(out);
	stream_out_free(out);
	l->in = stream_in_new(l->ch);
	bitmap_load_init(&l->load, &m->list);
}

static void load_end(struct loaded *l)
{
	bitmap_load_release(&l->load);
	stream_in_free(l->in);
	channel_free(l->ch);
}

/* So many sections, all of them good. */
static void load_all(struct machine *m, struct channel *from, unsigned int sections)
{
	struct error *err = NULL;
	const uint8_t *data;
	struct loaded l;
	size_t len;

	data = channel_memory_data(from, &len);
	load_begin(&l, m, data, len);
	for (unsigned int i = 0; i < sections; i++)
		bitmap_load_section(&l.load, l.in);
	cr_assert_eq(get_u8(l.in), BEHIND);
	expect_ok(stream_in_take_error(l.in, &err), err);
	cr_assert_eq(bitmap_load_finish(&l.load), 0);
	load_end(&l);
}

static void expect_same(struct disk_bitmaps *a, struct disk_bitmaps *b)
{
	struct disk_bitmap *bm;

	cr_assert_eq(a->n, b->n);
	TAILQ_FOREACH (bm, &a->list, entry) {
		struct disk_bitmap *other = get(b, bm->name);
		int64_t at = 0, there;

		cr_assert_not_null(other, "bitmap '%s'", bm->name);
		cr_assert_eq(bm->enabled, other->enabled);
		cr_assert_eq(hbitmap_granularity(bm->bits), hbitmap_granularity(other->bits));
		cr_assert_eq(hbitmap_count(bm->bits), hbitmap_count(other->bits));
		while ((at = hbitmap_next_dirty(bm->bits, at, INT64_MAX)) >= 0) {
			there = hbitmap_next_dirty(other->bits, at, INT64_MAX);
			cr_assert_eq(at, there, "bitmap '%s'", bm->name);
			at += INT64_C(1) << hbitmap_granularity(bm->bits);
		}
	}
}

/* --- the bytes --- */

#define ZEROES_16 "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "

Test(dirty_bitmap, bytes)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct machine m = { 0 }, to = { 0 };
	struct bitmap_save save;
	struct error *err = NULL;

	add_disk(&m, "d0", MIB);
	add_disk(&m, "d1", MIB);
	add(&m.disks[0], "a", 65536, true);
	add(&m.disks[0], "b", 512, false);
	add(&m.disks[1], "b", 4096, true);
	disk_bitmaps_mark(&m.disks[0], 0, 1);
	disk_bitmaps_mark(&m.disks[0], 4 * 65536 + 7, 512);
	expect_ok(bitmap_save_begin(&save, out, &m.list, &err), err);
	bitmap_save_setup(&save);
	expect_put(ch, out,
		   "1c 02 64 30 01 61 00 01 00 00 01 " /* START, both names: enabled */
		   "14 01 62 00 00 02 00 00 "	       /* the same disk: disabled */
		   "1c 02 64 31 01 62 00 00 10 00 01 "
		   "01", /* EOS */
		   "START");
	/* What changes before it is sent is sent once. */
	disk_bitmaps_mark(&m.disks[1], 0, 1);
	while (bitmap_save_some(&save))
		;
	bitmap_save_eos(&save);
	expect_put(ch, out,
		   "4c 02 64 30 01 61 00 00 00 00 00 00 00 00 00 00 08 00 " /* BITS: 2048 sectors */
		   "00 00 00 00 00 00 00 20 11 00 " ZEROES_16
		   "00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
		   "46 01 62 00 00 00 00 00 00 00 00 00 00 08 00 " /* BITS, ZEROES */
		   "4c 02 64 31 01 62 00 00 00 00 00 00 00 00 00 00 08 00 "
		   "00 00 00 00 00 00 00 20 01 00 " ZEROES_16
		   "00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
		   "01",
		   "PART");
	disk_bitmaps_mark(&m.disks[0], MIB - 1, 1);
	bitmap_save_rest(&save);
	expect_put(ch, out,
		   "4c 02 64 30 01 61 00 00 00 00 00 00 00 00 00 00 08 00 "
		   "00 00 00 00 00 00 00 20 11 80 " ZEROES_16
		   "00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
		   "20 " /* COMPLETE, the names of the chunk before */
		   "24 01 62 2c 02 64 31 01 62 "
		   "01",
		   "END");
	bitmap_save_end(&save);
	add_disk(&to, "d0", MIB);
	add_disk(&to, "d1", MIB);
	load_all(&to, ch, 3);
	expect_same(&m.disks[0], &to.disks[0]);
	expect_same(&m.disks[1], &to.disks[1]);
	stream_out_free(out);
	channel_free(ch);
	machine_end(&m);
	machine_end(&to);
}

/* --- there and back --- */

static void write_somewhere(struct disk_bitmaps *d, struct prng *p)
{
	uint64_t offset = prng_below(p, d->bytes);

	disk_bitmaps_mark(d, offset, prng_below(p, MIN_OF(d->bytes - offset, 64 * MIB)) + 1);
}

static void add_late(struct machine *m, struct prng *p, const char *name, unsigned int log_min)
{
	add(&m->disks[1], name, UINT64_C(1) << (log_min + prng_below(p, 32 - log_min)),
	    prng_below(p, 2));
}

static void round_trip(struct prng *p, uint64_t bytes, unsigned int log_min, uint64_t image_bytes)
{
	static const char *const names[] = { "one", "two", "three" };
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct machine m = { 0 }, to = { 0 };
	unsigned int nwrites = (unsigned int)prng_below(p, 20);
	struct bitmap_save save;
	struct error *err = NULL;
	struct loaded l;
	const uint8_t *data;
	size_t len;

	add_disk(&m, "empty", MIB);
	add_disk(&m, "disk", bytes);
	for (unsigned int i = 0; i < 3; i++)
		add(&m.disks[1], names[i], UINT64_C(1) << (log_min + prng_below(p, 32 - log_min)),
		    i == 0 || prng_below(p, 2));
	for (unsigned int i = 0; i < nwrites; i++)
		write_somewhere(&m.disks[1], p);
	expect_ok(bitmap_save_begin(&save, out, &m.list, &err), err);
	bitmap_save_setup(&save);
	add_late(&m, p, "late", log_min);
	while (bitmap_save_some(&save))
		if (prng_below(p, 8) == 0)
			write_somewhere(&m.disks[1], p);
	bitmap_save_eos(&save);
	for (unsigned int i = 0; i < nwrites; i++)
		write_somewhere(&m.disks[1], p);
	bitmap_save_rewind(&save);
	while (bitmap_save_some(&save))
		if (prng_below(p, 8) == 0)
			write_somewhere(&m.disks[1], p);
	bitmap_save_eos(&save);
	add_late(&m, p, "later", log_min);
	write_somewhere(&m.disks[1], p);
	bitmap_save_close(&save);
	cr_assert_not(disk_bitmap_add(&m.disks[1], "too late", 4096, true, &err));
	expect_error(err, "'too late': the guest is about to leave");
	err = NULL;
	bitmap_save_rest(&save);
	bitmap_save_end(&save);
	stream_flush(out);

	add_disk(&to, "disk", image_bytes);
	data = channel_memory_data(ch, &len);
	load_begin(&l, &to, data, len);
	for (unsigned int i = 0; i < 4; i++)
		bitmap_load_section(&l.load, l.in);
	cr_assert_eq(get_u8(l.in), BEHIND);
	expect_ok(stream_in_take_error(l.in, &err), err);
	cr_assert(disk_bitmaps_resize(&to.disks[0], bytes,
				      NULL)); /* as the disk's own section does */
	cr_assert_eq(bitmap_load_finish(&l.load), 0);
	expect_same(&m.disks[1], &to.disks[0]);
	load_end(&l);
	stream_out_free(out);
	channel_free(ch);
	machine_end(&m);
	machine_end(&to);
}

Test(dirty_bitmap, random_disks)
{
	struct prng p = { SEED };

	for (unsigned int i = 0; i < 150; i++) {
		uint64_t sectors = prng_below(&p, 64 * MIB / 512) + 1;
		uint64_t more = prng_below(&p, 3) * prng_below(&p, 300000);

		round_trip(&p, sectors * 512, 9, (sectors + more) * 512);
	}
}

/* Where a chunk of 8192 bits would have more sectors than 32 bits hold. */
Test(dirty_bitmap, large_disks)
{
	struct prng p = { SEED + 1 };

	cr_assert_eq(bitmap_chunk_bits(UINT64_C(1) << 27), 8192);
	cr_assert_eq(bitmap_chunk_bits(UINT64_C(1) << 28), 4096);
	cr_assert_eq(bitmap_chunk_bits(UINT64_C(1) << 31), 512);
	for (unsigned int i = 0; i < 20; i++)
		round_trip(&p, TIB + prng_below(&p, 4096) * 512, 20, 2 * TIB);
	for (unsigned int i = 0; i < 5; i++)
		round_trip(&p, 64 * TIB, 26, 64 * TIB);
}

/* A section that has none at first, and one that is added in END: a START comes before its bits. */
Test(dirty_bitmap, bytes_of_a_late_one)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct machine m = { 0 }, to = { 0 };
	struct bitmap_save save;
	struct error *err = NULL;

	add_disk(&m, "d0", MIB);
	expect_ok(bitmap_save_begin(&save, out, &m.list, &err), err);
	cr_assert_not(bitmap_save_has_any(&save));
	add(&m.disks[0], "a", 65536, true);
	cr_assert(bitmap_save_has_any(&save));
	bitmap_save_setup(&save);
	expect_put(ch, out, "1c 02 64 30 01 61 00 01 00 00 01 01", "START");
	add(&m.disks[0], "b", 512, false);
	bitmap_save_close(&save);
	bitmap_save_rest(&save);
	expect_put(ch, out,
		   "42 00 00 00 00 00 00 00 00 00 00 08 00 "
		   "14 01 62 00 00 02 00 00 42 00 00 00 00 00 00 00 00 00 00 08 00 "
		   "24 01 61 24 01 62 01",
		   "END");
	bitmap_save_end(&save);
	expect_ok(disk_bitmap_remove(&m.disks[0], "b", &err), err);
	add(&m.disks[0], "b", 512, false);
	add_disk(&to, "d0", MIB);
	load_all(&to, ch, 2);
	expect_same(&m.disks[0], &to.disks[0]);
	stream_out_free(out);
	channel_free(ch);
	machine_end(&m);
	machine_end(&to);
}

/* --- while others write --- */

struct writer_thread {
	struct disk_bitmaps *disk;
	struct prng p;
	/* atomic */
	bool stop;
	uint64_t writes;
};

static void *write_until_told(void *opaque)
{
	struct writer_thread *w = opaque;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		uint64_t offset = prng_below(&w->p, w->disk->bytes), era;

		era = disk_bitmaps_begin_write(w->disk, offset, 1);
		disk_bitmaps_end_write(w->disk, offset, 1, era);
		__atomic_fetch_add(&w->writes, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void await_writes(struct writer_thread *w, uint64_t n)
{
	uint64_t until = __atomic_load_n(&w->writes, __ATOMIC_ACQUIRE) + n;

	while (__atomic_load_n(&w->writes, __ATOMIC_ACQUIRE) < until)
		sched_yield();
}

/* A thread marks without pause while others are added and all are sent, again and again: no change is lost. */
Test(dirty_bitmap, threads)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct machine m = { 0 }, to = { 0 };
	struct writer_thread w = { .p = { SEED + 3 } };
	struct prng p = { SEED + 4 };
	unsigned int sections = 1;
	struct bitmap_save save;
	struct error *err = NULL;
	pthread_t thread;
	char name[16];

	add_disk(&m, "disk", UINT64_C(4) << 30);
	add(&m.disks[0], "first", 512, true);
	w.disk = &m.disks[0];
	pthread_create(&thread, NULL, write_until_told, &w);
	expect_ok(bitmap_save_begin(&save, out, &m.list, &err), err);
	bitmap_save_setup(&save);
	for (; sections < 10; sections++) {
		snprintf(name, sizeof(name), "%u", sections);
		add(&m.disks[0], name, UINT64_C(4096) << sections, true);
		bitmap_save_rewind(&save);
		while (bitmap_save_some(&save))
			if (prng_below(&p, 50) == 0)
				await_writes(&w, 10);
		bitmap_save_eos(&save);
		await_writes(&w, 100);
	}
	__atomic_store_n(&w.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	bitmap_save_close(&save);
	bitmap_save_rest(&save);
	bitmap_save_end(&save);
	stream_flush(out);
	cr_assert_gt(hbitmap_count(get(&m.disks[0], "first")->bits), 500 * 512);
	add_disk(&to, "disk", UINT64_C(4) << 30);
	load_all(&to, ch, sections + 1);
	expect_same(&m.disks[0], &to.disks[0]);
	stream_out_free(out);
	channel_free(ch);
	machine_end(&m);
	machine_end(&to);
}

/* --- how much is left --- */

#define CHUNK_1K (1 + 8 + 4 + 8 + 1024) /* one of 8192 bits, without names */

static uint64_t send_pass(struct bitmap_save *save)
{
	uint64_t before = stream_out_position(save->out);

	bitmap_save_rewind(save);
	while (bitmap_save_some(save))
		;
	return stream_out_position(save->out) - before;
}

/* All at first; then what has changed, each chunk once, however often it changes; and what is said to be left is what goes out. */
Test(dirty_bitmap, what_is_left)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct machine m = { 0 };
	struct bitmap_save save;
	struct error *err = NULL;

	add_disk(&m, "d", 512 * MIB * 6 + 512);
	add(&m.disks[0], "a", 65536, true);
	add(&m.disks[0], "b", MIB, true);
	add(&m.disks[0], "off", 65536, false);
	expect_ok(bitmap_save_begin(&save, out, &m.list, &err), err);
	bitmap_save_setup(&save);
	/* 3073 bits of b are 49 words: 416 bytes, with those behind it. */
	cr_assert_eq(bitmap_save_left(&save), 14 * CHUNK_1K + 21 + 416);
	cr_assert_lt(send_pass(&save), 1000, "they are zeroes");
	cr_assert_eq(bitmap_save_left(&save), 0);
	cr_assert_eq(send_pass(&save), 0);
	for (unsigned int i = 0; i < 100; i++)
		disk_bitmaps_mark(&m.disks[0], i * 65536, 512);
	cr_assert_eq(bitmap_save_left(&save), CHUNK_1K + 21 + 416);
	cr_assert_eq(send_pass(&save), CHUNK_1K + 2 + 21 + 416 + 2, "and two names");
	/* What is dirty already does not change. */
	disk_bitmaps_mark(&m.disks[0], 0, 512);
	cr_assert_eq(bitmap_save_left(&save), 0);
	disk_bitmaps_mark(&m.disks[0], 512 * MIB - 512, 1024);
	cr_assert_eq(bitmap_save_left(&save), 2 * CHUNK_1K + 21 + 416);
	bitmap_save_rest(&save);
	cr_assert_eq(bitmap_save_left(&save), 0);
	bitmap_save_end(&save);
	stream_out_free(out);
	channel_free(ch);
	machine_end(&m);
}

/* --- what is wrong --- */

#define START "1c 02 64 30 01 61 00 01 00 00 01 "
#define ZEROES "42 00 00 00 00 00 00 00 00 00 00 08 00 "
#define BITS_32 \
	"00 00 00 00 00 00 00 20 ff ff " ZEROES_16 "00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
#define COMPLETE "20 "
#define EOS "01"

/* The disk d0 has 2048 sectors. `error` is the stream's. */
static const struct wrong {
	const char *what, *hex, *error;
	unsigned int failed, given;
} wrongs[] = {
	{ "nothing is wrong", START ZEROES COMPLETE EOS, NULL, 0, 1 },
	{ "a bitmap that was there already", "1c 02 64 30 03 6f 6c 64 00 01 00 00 01 " EOS, NULL, 1,
	  0 },
	{ "the same one twice", START START ZEROES COMPLETE EOS, NULL, 1, 0 },
	{ "no such disk, and a good one",
	  "1c 02 64 39 01 61 00 01 00 00 01 40 00 00 00 00 00 00 00 00 00 00 08 00 " BITS_32 START
	  "4a 02 64 30 00 00 00 00 00 00 00 00 00 00 08 00 " COMPLETE EOS,
	  NULL, 1, 1 },
	{ "granularity 0", "1c 02 64 30 01 61 00 00 00 00 01 " ZEROES COMPLETE EOS, NULL, 1, 0 },
	{ "granularity 256", "1c 02 64 30 01 61 00 00 01 00 01 " ZEROES COMPLETE EOS, NULL, 1, 0 },
	{ "granularity 3 GiB", "1c 02 64 30 01 61 c0 00 00 00 01 " ZEROES COMPLETE EOS, NULL, 1,
	  0 },
	{ "flags", "1c 02 64 30 01 61 00 01 00 00 04 " ZEROES COMPLETE EOS, NULL, 1, 0 },
	{ "persistent, which it is not here",
	  "1c 02 64 30 01 61 00 01 00 00 03 " ZEROES COMPLETE EOS, NULL, 0, 1 },
	{ "a name that is not UTF-8", "1c 02 64 30 01 ff 00 01 00 00 01 " ZEROES COMPLETE EOS, NULL,
	  1, 0 },
	{ "not started", "4e 02 64 30 01 61 00 00 00 00 00 00 00 00 00 00 08 00 " COMPLETE EOS,
	  NULL, 1, 0 },
	{ "only completed", "2c 02 64 30 01 61 " EOS, NULL, 1, 0 },
	{ "not completed", START ZEROES EOS, NULL, 1, 0 },
	{ "no bits", START COMPLETE EOS, NULL, 1, 0 },
	{ "bits that lack the end", START "42 00 00 00 00 00 00 00 00 00 00 07 ff " COMPLETE EOS,
	  NULL, 1, 0 },
	{ "bits that lack the beginning",
	  START "42 00 00 00 00 00 00 00 80 00 00 07 80 " COMPLETE EOS, NULL, 1, 0 },
	{ "bits that lack the first part",
	  "1c 02 64 30 01 61 00 00 02 00 01 42 00 00 00 00 00 00 00 40 00 00 07 c0 " COMPLETE EOS,
	  NULL, 1, 0 },
	{ "bits that lack a part in the middle",
	  "1c 02 64 30 01 61 00 00 02 00 01 42 00 00 00 00 00 00 00 00 00 00 00 40 "
	  "42 00 00 00 00 00 00 00 80 00 00 07 80 " COMPLETE EOS,
	  NULL, 1, 0 },
	{ "beyond the end", START "42 00 00 00 00 00 00 00 00 00 00 08 01 " ZEROES COMPLETE EOS,
	  NULL, 1, 0 },
	{ "beyond all ends", START "42 ff ff ff ff ff ff ff ff ff ff ff ff " ZEROES COMPLETE EOS,
	  NULL, 1, 0 },
	{ "no sectors", START "42 00 00 00 00 00 00 00 00 00 00 00 00 " ZEROES COMPLETE EOS, NULL,
	  1, 0 },
	{ "not aligned", START ZEROES "42 00 00 00 00 00 00 00 01 00 00 00 01 " COMPLETE EOS, NULL,
	  1, 0 },
	{ "would clear what is behind it",
	  START ZEROES "42 00 00 00 00 00 00 00 00 00 00 00 01 " COMPLETE EOS, NULL, 1, 0 },
	{ "after it was complete", START ZEROES COMPLETE ZEROES EOS, NULL, 1, 0 },
	{ "a short buffer",
	  START
	  "40 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 00 10 " ZEROES_16 COMPLETE EOS,
	  NULL, 1, 0 },
	{ "a huge buffer", START "40 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 00 7f ff ff ff ",
	  "2147483647 bytes of bits", 0, 0 },
	{ "no names", "40 00 00 00 00 00 00 00 00 00 00 08 00 " EOS, "without a name", 0, 0 },
	{ "a node only", "18 02 64 30 00 01 00 00 01 " EOS, "without a name", 0, 0 },
	{ "no kind", "0c 02 64 30 01 61 " EOS, "flags 0x0c are not understood", 0, 0 },
	{ "two kinds", "7c 02 64 30 01 61 " EOS, "flags 0x7c are not understood", 0, 0 },
	{ "zeroes of nothing", START "02 " EOS, "flags 0x02 are not understood", 0, 0 },
	{ "an unknown flag", START "80 00 " EOS, "flags 0x80 are not understood", 0, 0 },
	{ "the end in a chunk", START "42 00 00", "ends in the middle", 0, 0 },
};

/* Each failure, and that a bitmap is no longer persistent, is told once, and named. */
static void count_tell(void *opaque, const char *text)
{
	cr_assert(strncmp(text, "dirty bitmap '", 14) == 0 && strstr(text, "' of disk 'd"), "%s",
		  text);
	++*(unsigned int *)opaque;
}

static void run_wrong(const struct wrong *w)
{
	unsigned int told = 0, persistent = strstr(w->what, "persistent") != NULL;
	uint8_t data[512];
	size_t len = bytes_of(w->hex, data, sizeof(data));
	struct machine m = { 0 };
	struct error *err = NULL;
	struct loaded l;

	add_disk(&m, "d0", MIB);
	add(&m.disks[0], "old", 512, true);
	load_begin(&l, &m, data, len);
	l.load.tell = count_tell;
	l.load.opaque = &told;
	bitmap_load_section(&l.load, l.in);
	if (w->error) {
		cr_assert_not(stream_in_take_error(l.in, &err), "%s", w->what);
		expect_error(err, w->error);
	} else {
		cr_assert_eq(get_u8(l.in), BEHIND, "%s: out of step", w->what);
		expect_ok(stream_in_take_error(l.in, &err), err);
		cr_assert_eq(bitmap_load_finish(&l.load), w->failed, "%s", w->what);
		cr_assert_eq(m.disks[0].n, 1 + w->given, "%s", w->what);
		cr_assert_eq(told, w->failed + persistent, "%s: told %u times", w->what, told);
	}
	load_end(&l);
	machine_end(&m);
}

Test(dirty_bitmap, what_is_wrong_costs_one_bitmap)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++)
		run_wrong(&wrongs[i]);
}

/* A stream that starts bitmaps without end does not fill the memory. */
Test(dirty_bitmap, too_many)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct stream_in *in = stream_in_new(ch);
	struct machine m = { 0 };
	struct bitmap_load load;
	struct error *err = NULL;
	char name[16];

	add_disk(&m, "d0", MIB);
	for (unsigned int i = 0; i < 5000; i++) {
		put_u8(out, BITMAP_START | BITMAP_HAS_NODE | BITMAP_HAS_NAME);
		put_name(out, "nobody");
		snprintf(name, sizeof(name), "%u", i);
		put_name(out, name);
		put_u32(out, 512);
		put_u8(out, 0);
	}
	stream_flush(out);
	bitmap_load_init(&load, &m.list);
	bitmap_load_section(&load, in);
	cr_assert_not(stream_in_take_error(in, &err));
	expect_error(err, "more than 4096 bitmaps");
	bitmap_load_release(&load);
	stream_in_free(in);
	stream_out_free(out);
	channel_free(ch);
	machine_end(&m);
}

/* Random damage: whatever is given to the disk has as many bits as it says, and nothing is read beyond the end. */
Test(dirty_bitmap, random_damage)
{
	static const char whole[] =
		START "40 00 00 00 00 00 00 00 00 00 00 08 00 " BITS_32 ZEROES COMPLETE
		      "1c 02 64 30 01 62 00 00 10 00 00 " ZEROES COMPLETE EOS;
	struct prng p = { SEED + 2 };

	for (unsigned int round = 0; round < 20000; round++) {
		uint8_t data[512];
		size_t len = bytes_of(whole, data, sizeof(data));
		struct machine m = { 0 };
		struct loaded l;

		for (uint64_t n = prng_below(&p, 4) + 1; n > 0; n--)
			data[prng_below(&p, len)] = (uint8_t)prng_next(&p);
		add_disk(&m, "d0", MIB);
		load_begin(&l, &m, data, len);
		bitmap_load_section(&l.load, l.in);
		if (stream_in_ok(l.in))
			bitmap_load_finish(&l.load);
		cr_assert_leq(m.disks[0].n, 2);
		disk_bitmaps_mark(&m.disks[0], 0, MIB);
		load_end(&l);
		machine_end(&m);
	}
}
