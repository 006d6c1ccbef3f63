/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dirty bitmaps of a disk: each is named, and holds which grains of the disk were written since it was made or cleared.
 *
 * A bit is never clear where the disk has changed. Therefore a write (a discard, a writing of zeroes) marks before it starts, and a
 * second time when it has come to its end, if meanwhile a bitmap has begun anew:
 *
 *	begin_write()  marks        clear(), add(), enable()        the data reach the disk, end_write() marks again
 *
 * What begins anew counts up the era; a write remembers the era in which it has marked, and only another one makes it mark again.
 * A write that fails or is cancelled may have changed something: it ends like any other.
 *
 * What is not recorded costs the writer a load and a test. Every function takes the disk's lock by itself; any thread may call any,
 * but init and release, which are the owner's while nobody else uses the disk, and resize, while nobody writes to it.
 */
#ifndef FERRY_BASE_DISK_BITMAP_H
#define FERRY_BASE_DISK_BITMAP_H

#include <pthread.h>

#include "vmm/base/error.h"
#include "vmm/base/hbitmap.h"
#include "vmm/base/queue.h"

#define DISK_BITMAP_NAME_MAX 127 /* bytes; what a name in a stream may have */
#define DISK_BITMAP_GRANULARITY_MIN 512u
#define DISK_BITMAP_GRANULARITY_MAX (UINT32_C(1) << 31)
#define DISK_BITMAP_GRANULARITY 65536u
#define DISK_BITMAPS_MAX 256 /* of a disk */

struct disk_bitmap {
	char name[DISK_BITMAP_NAME_MAX + 1];
	bool enabled; /* writes are recorded */
	const char
		*user; /* "a migration" or "a backup" uses it: others may look only; NULL: nobody */
	HBitmap *bits;
	HBitmap *meta;	/* of a busy one: what has not been sent, or changed since; owned by bits */
	bool announced; /* of a busy one, the migration's: the destination has heard of it */
	TAILQ_ENTRY(disk_bitmap) entry;
};

struct disk_bitmaps {
	const char *node; /* the disk's name; borrowed */
	uint64_t bytes;	  /* of the disk; changed by resize() only, with the lock */
	pthread_mutex_t lock;
	/* lock; written atomically, for they are read without it, too */
	unsigned int recording; /* how many are enabled */
	uint64_t era;
	/* lock */
	TAILQ_HEAD(, disk_bitmap) list; /* in the order in which they were made */
	unsigned int n;
	int (*chunk_bits)(uint64_t granularity); /* a migration holds all, also new ones; or NULL */
	bool closed;				 /* it takes no new one any more */
	TAILQ_ENTRY(disk_bitmaps) entry;	 /* among the disks of a machine */
};
TAILQ_HEAD(disk_bitmaps_list, disk_bitmaps);

/* bytes is at least 1. */
void disk_bitmaps_init(struct disk_bitmaps *d, const char *node, uint64_t bytes);
void disk_bitmaps_release(struct disk_bitmaps *d);
/* NULL where there is no disk of that name. */
struct disk_bitmaps *disk_bitmaps_find(struct disk_bitmaps_list *disks, const char *node,
				       struct error **errp);

/* --- for who writes; a range beyond the disk's end is cut --- */

void disk_bitmaps_mark(struct disk_bitmaps *d, uint64_t offset, uint64_t bytes);
/* Before a write starts; the era, for end_write(). */
static inline uint64_t disk_bitmaps_begin_write(struct disk_bitmaps *d, uint64_t offset,
						uint64_t bytes)
{
	/* Whoever changes the two writes them in the other order: in the new era the new number is seen. */
	uint64_t era = __atomic_load_n(&d->era, __ATOMIC_ACQUIRE);

	if (__atomic_load_n(&d->recording, __ATOMIC_ACQUIRE))
		disk_bitmaps_mark(d, offset, bytes);
	return era;
}
/* It is over, however it went. */
static inline void disk_bitmaps_end_write(struct disk_bitmaps *d, uint64_t offset, uint64_t bytes,
					  uint64_t era)
{
	if (__atomic_load_n(&d->era, __ATOMIC_ACQUIRE) != era)
		disk_bitmaps_mark(d, offset, bytes);
}

/* --- for users; an error names disk and bitmap --- */

/* One that is busy, because a migration sends it or a backup reads by it, is only looked at: remove, clear, enable and merge (as
 * target or source) refuse it. One that is added while a migration sends them joins them, and is busy at once.
 *
 * granularity: bytes, a power of two from GRANULARITY_MIN to _MAX. All clean. */
bool disk_bitmap_add(struct disk_bitmaps *d, const char *name, uint64_t granularity, bool enabled,
		     struct error **errp);
bool disk_bitmap_remove(struct disk_bitmaps *d, const char *name, struct error **errp);
bool disk_bitmap_clear(struct disk_bitmaps *d, const char *name, struct error **errp);
bool disk_bitmap_enable(struct disk_bitmaps *d, const char *name, bool on, struct error **errp);

struct disk_bitmap_ref {
	struct disk_bitmaps *disk;
	const char *name;
};
/* What any of them holds becomes dirty in the target. All disks are of one size; granularities may differ. Nothing changes on
 * failure. */
bool disk_bitmap_merge(const struct disk_bitmap_ref *target, const struct disk_bitmap_ref *sources,
		       unsigned int nsources, struct error **errp);

/* --- for a backup --- */

/* From now on it records anew; what it held is the caller's. It is busy until thaw. NULL: an error. */
HBitmap *disk_bitmap_freeze(struct disk_bitmaps *d, const char *name, struct error **errp);
/* back: what freeze gave, of which nothing is to be lost, or NULL. */
void disk_bitmap_thaw(struct disk_bitmaps *d, const char *name, const HBitmap *back);

/* --- for a migration --- */

/* All that there are become busy, and those that are added from now on, each with a meta bitmap, all set, of chunks of so many bits:
 * chunk_bits() of its granularity, in bytes. On failure none is. */
bool disk_bitmaps_hold(struct disk_bitmaps *d, int (*chunk_bits)(uint64_t granularity),
		       struct error **errp);
/* The last bits are being sent: adding one is refused until they are let go. */
void disk_bitmaps_close(struct disk_bitmaps *d);
/* Undoes both; where none is held, nothing. */
void disk_bitmaps_let_go(struct disk_bitmaps *d);
/* Is there a place for such a one? */
bool disk_bitmap_check(struct disk_bitmaps *d, const char *name, uint64_t granularity,
		       struct error **errp);
/* A bitmap that has been loaded: bits are of the disk's size, and taken over unless it fails. */
bool disk_bitmap_adopt(struct disk_bitmaps *d, const char *name, HBitmap *bits, bool enabled,
		       struct error **errp);
/* The disk turns out to have another size, at least 1: so get its bitmaps. A smaller one never fails. */
bool disk_bitmaps_resize(struct disk_bitmaps *d, uint64_t bytes, struct error **errp);

/* --- for looking --- */

struct disk_bitmap_info {
	char name[DISK_BITMAP_NAME_MAX + 1];
	uint64_t dirty_bytes; /* in whole grains */
	uint32_t granularity;
	bool enabled, busy;
};
/* The bitmap number `index`; false: there are not so many. */
bool disk_bitmap_query(struct disk_bitmaps *d, unsigned int index, struct disk_bitmap_info *info);

#endif
