/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What does a write pay for being recorded?
 *
 * A write of 4 KiB to a file in memory is as cheap as a write can be, so the ratio is the worst that there is. The places that are
 * marked are random over the whole disk, in bitmaps of 64 KiB grains; the file is small, whatever size the disk is said to have.
 * Clean: all bitmaps are cleared every so many writes, so that nearly each mark is a new one. "Mark" is the marking alone.
 */
#include "bench/marking.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/disk_bitmap.h"

#define WRITE_BYTES 4096
#define FILE_BYTES (UINT64_C(16) << 20)
#define BATCH 4096
#define TURN_NS (30 * NS_PER_MS)
#define TIB (UINT64_C(1) << 40)
#define BITMAPS_MAX 4

struct marking {
	struct disk_bitmaps disk;
	unsigned int nbitmaps;
	int fd; /* -1: nothing is written */
	uint64_t random;
};

static const char *const names[BITMAPS_MAX] = { "a", "b", "c", "d" };

static void write_some(struct marking *m)
{
	static const uint8_t data[WRITE_BYTES];

	for (unsigned int i = 0; i < BATCH; i++) {
		uint64_t offset, era;

		m->random ^= m->random << 13;
		m->random ^= m->random >> 7;
		m->random ^= m->random << 17;
		offset = m->random % m->disk.bytes / WRITE_BYTES * WRITE_BYTES;
		era = disk_bitmaps_begin_write(&m->disk, offset, WRITE_BYTES);
		if (m->fd >= 0 &&
		    pwrite(m->fd, data, sizeof(data), (off_t)(offset % FILE_BYTES)) != WRITE_BYTES)
			abort();
		disk_bitmaps_end_write(&m->disk, offset, WRITE_BYTES, era);
	}
}

static void clear_all(struct marking *m)
{
	for (unsigned int i = 0; i < m->nbitmaps; i++)
		disk_bitmap_clear(&m->disk, names[i], NULL);
}

/* ns a write */
static double time_of(struct marking *m)
{
	uint64_t spent = 0, n = 0;

	while (spent < TURN_NS) {
		uint64_t start = clock_now_ns();

		write_some(m);
		spent += clock_now_ns() - start;
		n += BATCH;
		clear_all(m);
	}
	return (double)spent / (double)n;
}

static void marking_init(struct marking *m, uint64_t bytes, unsigned int nbitmaps, int fd)
{
	*m = (struct marking){ .nbitmaps = nbitmaps, .fd = fd, .random = 88172645463325252ull };
	disk_bitmaps_init(&m->disk, "disk0", bytes);
	for (unsigned int i = 0; i < nbitmaps; i++)
		if (!disk_bitmap_add(&m->disk, names[i], DISK_BITMAP_GRANULARITY, true, NULL))
			abort();
	/* The bitmaps' memory is there; a page of it that is not costs 2 us once, for 2 GiB of disk. */
	disk_bitmaps_mark(&m->disk, 0, bytes);
	clear_all(m);
}

static void measure_one(struct table *t, const char *size_name, uint64_t bytes,
			unsigned int nbitmaps, int fd, unsigned int runs)
{
	struct marking ours, none;
	char what[64];
	struct row *row;

	snprintf(what, sizeof(what), "%s, %u bitmap%s, %s, ns", size_name, nbitmaps,
		 nbitmaps == 1 ? "" : "s", fd < 0 ? "mark" : "write");
	row = table_row(t, what, "none");
	marking_init(&ours, bytes, nbitmaps, fd);
	marking_init(&none, bytes, 0, fd);
	for (unsigned int run = 0; run < runs; run++) {
		samples_add(&row->ours, time_of(&ours));
		samples_add(&row->ref, time_of(&none));
	}
	disk_bitmaps_release(&ours.disk);
	disk_bitmaps_release(&none.disk);
}

void measure_marking(struct table *t, unsigned int runs)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} disks[] = { { "1 GiB", TIB / 1024 }, { "1 TiB", TIB }, { "64 TiB", 64 * TIB } };
	static const unsigned int counts[] = { 0, 1, 4 };
	int fd = memfd_create("disk", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0)
		abort();
	for (size_t d = 0; d < ARRAY_SIZE(disks); d++)
		for (size_t c = 0; c < ARRAY_SIZE(counts); c++)
			for (int with_write = 1; with_write >= 0; with_write--)
				measure_one(t, disks[d].name, disks[d].bytes, counts[c],
					    with_write ? fd : -1, runs);
	close(fd);
	table_note(t, "a write of 4 KiB at a random place; bitmaps are cleared each %d writes",
		   BATCH);
}
