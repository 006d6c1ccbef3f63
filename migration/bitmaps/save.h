/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing section "dirty-bitmap": all dirty bitmaps of a machine's disks.
 *
 *	START  each bitmap's granularity and whether it is enabled
 *	PART   each bitmap's bits, chunk by chunk, while the guest writes
 *	END    the chunks that have changed since they were sent, by the meta bitmap; then each bitmap is complete
 *
 * While they are being sent they are busy: users cannot change them, so that bits only come and none goes. A bitmap that is added
 * after the start does not travel. One thread; the disks may be written to by others.
 */
#ifndef FERRY_BITMAPS_SAVE_H
#define FERRY_BITMAPS_SAVE_H

#include "migration/stream/stream.h"
#include "vmm/base/disk_bitmap.h"

struct bitmap_save {
	struct stream_out *out;
	struct disk_bitmaps_list *disks;
	/* of the chunk before; NULL: there was none */
	const struct disk_bitmaps *last_disk;
	const struct disk_bitmap *last;
	/* where bitmap_save_some() goes on */
	struct disk_bitmaps *disk;
	struct disk_bitmap *bitmap;
	uint64_t offset;
};

/* Holds all bitmaps; false: error, none is held. save->disk is NULL where there are none. */
bool bitmap_save_begin(struct bitmap_save *save, struct stream_out *out,
		       struct disk_bitmaps_list *disks, struct error **errp);
/* Lets them go; may be called twice. */
void bitmap_save_end(struct bitmap_save *save);

/* The data of START. */
void bitmap_save_setup(struct bitmap_save *save);
/* One more chunk of a PART, without EOS; false: all have been sent. */
bool bitmap_save_some(struct bitmap_save *save);
void bitmap_save_eos(struct bitmap_save *save);
/* The data of END. Nobody writes any more, and all has been sent once. */
void bitmap_save_rest(struct bitmap_save *save);

#endif
