/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading section "dirty-bitmap".
 *
 * The bitmaps are built aside, and are whole bitmaps all the time: at the switch there is no work left but that of its own chunks. When the rest of the machine is loaded they are given to its disks, enabled or disabled as they were.
 *
 * Two kinds of wrong. What makes the stream unreadable (an unknown flag, a chunk of nothing, a buffer beyond all measure) is an error of
 * the stream, and fails the migration. What is wrong with one bitmap (no such disk, a name that is taken, a range that does not fit, a
 * part that never came) fails that bitmap: it is told in one message, its chunks are read over, and the guest moves without it. A
 * bitmap that lacks something must never be taken for a whole one: a backup by it would lose data.
 *
 * One thread.
 */
#ifndef FERRY_BITMAPS_LOAD_H
#define FERRY_BITMAPS_LOAD_H

#include "migration/stream/stream.h"
#include "vmm/base/disk_bitmap.h"

struct bitmap_incoming;

struct bitmap_load {
	struct disk_bitmaps_list *disks;
	/* the chunk's names, or those of the one before */
	char node[STREAM_NAME_MAX + 1], name[STREAM_NAME_MAX + 1];
	TAILQ_HEAD(, bitmap_incoming) list;
	struct bitmap_incoming *last; /* of these names; NULL: to be looked for */
	unsigned int n;
	/* What is logged of a bitmap is said here, too, for the source. NULL: nobody hears it. */
	void (*tell)(void *opaque, const char *text);
	void *opaque;
};

void bitmap_load_init(struct bitmap_load *load, struct disk_bitmaps_list *disks);
void bitmap_load_release(struct bitmap_load *load);
/* The data of one START, PART or END section, up to and with its EOS; errors are the stream's. */
void bitmap_load_section(struct bitmap_load *load, struct stream_in *in);
/* The disks are loaded: gives them their bitmaps. How many of them failed, which was said. */
unsigned int bitmap_load_finish(struct bitmap_load *load);

#endif
