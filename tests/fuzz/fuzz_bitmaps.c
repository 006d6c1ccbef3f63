/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data of START, PART and END of "dirty-bitmap", one after the other, for two disks of which one has a bitmap. Nobody's bitmap is
 * touched, each one that is given is sound and of its disk's size, also where the disk becomes smaller before, and what came can be
 * saved and loaded by a second machine, which then has the same.
 */
#include "migration/bitmaps/load.h"
#include "migration/bitmaps/save.h"
#include "tests/fuzz/fuzz.h"

#define MIB (UINT64_C(1) << 20)

struct disks {
	struct disk_bitmaps_list list;
	struct disk_bitmaps d[2];
};

static void disks_make(struct disks *m)
{
	TAILQ_INIT(&m->list);
	disk_bitmaps_init(&m->d[0], "d0", MIB);
	disk_bitmaps_init(&m->d[1], "d1", 100 * MIB + 512);
	for (unsigned int i = 0; i < 2; i++)
		TAILQ_INSERT_TAIL(&m->list, &m->d[i], entry);
}

static void disks_end(struct disks *m)
{
	for (unsigned int i = 0; i < 2; i++)
		disk_bitmaps_release(&m->d[i]);
}

static void expect_sound(const struct disk_bitmaps *d)
{
	struct disk_bitmap *bm;

	TAILQ_FOREACH (bm, &d->list, entry) {
		uint64_t grains = 0;
		HBitmapIter it;

		MUST(hbitmap_size(bm->bits) == d->bytes && *bm->name && !bm->user);
		hbitmap_iter_init(&it, bm->bits, 0);
		while (hbitmap_iter_next(&it) >= 0)
			grains++;
		MUST(hbitmap_count(bm->bits) == grains << hbitmap_granularity(bm->bits));
	}
}

/* Sections as long as there are any; true: all could be read. */
static bool load(struct disks *m, const uint8_t *data, size_t size, uint64_t shrink_to,
		 unsigned int *failed)
{
	struct bitmap_load load;
	struct error *err = NULL;
	struct reader r;
	bool ok;

	bitmap_load_init(&load, &m->list);
	reader_open(&r, data, size);
	while (!stream_in_at_end(r.in))
		bitmap_load_section(&load, r.in);
	ok = stream_in_take_error(r.in, &err);
	MUST(disk_bitmaps_resize(&m->d[1], shrink_to, NULL));
	*failed = ok ? bitmap_load_finish(&load) : 0;
	expect_outcome(ok, err);
	reader_close(&r);
	bitmap_load_release(&load);
	return ok;
}

static void carry_over(struct disks *from)
{
	struct bitmap_save save;
	struct disk_bitmap *a, *b;
	struct disks to;
	struct writer w;
	const uint8_t *bytes;
	unsigned int failed;
	size_t len;

	writer_open(&w);
	MUST(bitmap_save_begin(&save, w.out, &from->list, NULL));
	bitmap_save_setup(&save);
	while (bitmap_save_some(&save))
		;
	bitmap_save_close(&save);
	bitmap_save_rest(&save);
	bitmap_save_end(&save);
	MUST(stream_flush(w.out));
	bytes = writer_bytes(&w, &len);
	disks_make(&to);
	MUST(load(&to, bytes, len, from->d[1].bytes, &failed) && !failed);
	for (unsigned int i = 0; i < 2; i++) {
		MUST(from->d[i].n == to.d[i].n);
		b = TAILQ_FIRST(&to.d[i].list);
		TAILQ_FOREACH (a, &from->d[i].list, entry) {
			MUST(!strcmp(a->name, b->name) && a->enabled == b->enabled);
			MUST(hbitmap_count(a->bits) == hbitmap_count(b->bits));
			b = TAILQ_NEXT(b, entry);
		}
		expect_sound(&to.d[i]);
	}
	writer_close(&w);
	disks_end(&to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t shrink_to = (100 * MIB + 512) >> (size ? data[size - 1] % 3 : 0) & ~UINT64_C(511);
	struct disk_bitmap_info info;
	struct disks m;
	unsigned int failed;

	disks_make(&m);
	MUST(disk_bitmap_add(&m.d[0], "old", 65536, true, NULL));
	if (load(&m, data, size, shrink_to, &failed))
		MUST(m.d[0].n + m.d[1].n + failed <= 1 + size / 5);
	expect_sound(&m.d[0]);
	expect_sound(&m.d[1]);
	MUST(disk_bitmap_query(&m.d[0], 0, &info) && !strcmp(info.name, "old"));
	MUST(info.dirty_bytes == 0);
	carry_over(&m);
	disks_end(&m);
	return 0;
}
