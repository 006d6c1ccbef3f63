/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing section "dirty-bitmap": all dirty bitmaps of a machine's disks.
 *
 *	START  each bitmap's granularity and whether it is enabled
 *	PART   the first: each bitmap's bits, chunk by chunk, while the guest writes; each further one: those that have changed since
 *	END    the chunks that have changed since; then each bitmap is complete
 *
 * A meta bitmap tells which chunks are to be sent: at first all of them. While they are being sent they are busy: users cannot change
 * them, so that bits only come and none goes. A bitmap that is added meanwhile is started in the next PART, or in END, before its
 * bits; when END has begun none can be added. One thread; the disks may be written to by others.
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
	/* where bitmap_save_some() goes on; NULL: at the end */
	struct disk_bitmaps *disk;
	struct disk_bitmap *bitmap;
	uint64_t offset;
};

/* Holds all bitmaps; false: error, none is held. */
bool bitmap_save_begin(struct bitmap_save *save, struct stream_out *out,
		       struct disk_bitmaps_list *disks, struct error **errp);
/* Lets them go; may be called twice. */
void bitmap_save_end(struct bitmap_save *save);

/* Is there any to be sent? */
bool bitmap_save_has_any(struct bitmap_save *save);
/* The data of START. */
void bitmap_save_setup(struct bitmap_save *save);
/* A further PART begins: all bitmaps are gone through once more. */
void bitmap_save_rewind(struct bitmap_save *save);
/* One more chunk of it that has not been sent or has changed, without EOS; false: there is none from here to the end. */
bool bitmap_save_some(struct bitmap_save *save);
void bitmap_save_eos(struct bitmap_save *save);
/* How many bytes bitmap_save_some() would write from the first bitmap on, at most, but for names. */
uint64_t bitmap_save_left(struct bitmap_save *save);
/* From now on none is added. */
void bitmap_save_close(struct bitmap_save *save);
/* The data of END, after that. Nobody writes any more. */
void bitmap_save_rest(struct bitmap_save *save);

#endif
