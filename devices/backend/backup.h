/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A backup: what a disk held at one point in time, copied while its guest goes on writing.
 *
 * The point in time is backup_start(). From then on a write (a discard, a writing of zeroes) to what is not copied yet is held: first its
 * clusters are copied, before all others, then it goes on.
 *
 *	block_submit(write) --> held --+                  +--> begins
 *	                               v                  |
 *	the backup's thread:  next piece to copy, read, write to the target
 *	                      (those of held writes first; the others no faster than `speed`)
 *
 * With a bitmap, an incremental backup copies what the bitmap holds, a full one everything; either way the bitmap starts anew with the point
 * in time. Unless the backup completes, the bitmap gets back what it held: nothing is lost, and the next backup with it has all of it.
 * While it runs the bitmap is busy. A full one refuses a disabled bitmap, with which a chain cannot begin.
 *
 * `partial` keeps what was copied when a full, raw backup does not complete: NAME.partial-XXXXXX, and a dirty bitmap of the disk of the name
 * partial-XXXXXX, which holds what that file lacks, goes on recording, and travels as others do. The next backup with `partial` to the same NAME
 * finds both and goes on there, with a point in time of its own.
 *
 * A guest whose target is slow waits where it writes; draining the disk gives held writes back as not begun.
 *
 * Threads: the functions here are one thread's, the owner's; ended() is called on the backup's.
 */
#ifndef FERRY_BACKEND_BACKUP_H
#define FERRY_BACKEND_BACKUP_H

#include "devices/backend/backup_target.h"
#include "devices/backend/block.h"

struct backup_options {
	struct block *block;
	struct disk_bitmaps
		*disk; /* outlive the backup, like block; name and size are the disk's */
	struct backup_target_options target; /* but for bytes and whole; borrowed for the call */
	const char *bitmap;		     /* NULL: none, the backup is full */
	bool incremental;
	bool partial;	/* of a full backup into a raw file */
	uint64_t speed; /* bytes a second; 0: no limit */
	void (*ended)(void *opaque);
	void *opaque;
};

enum backup_end { BACKUP_RUNNING, BACKUP_COMPLETED, BACKUP_CANCELLED, BACKUP_FAILED };

struct backup_status {
	const char *disk;
	uint64_t total, copied; /* bytes; what was found to be zero counts as copied */
	uint64_t speed;
	enum backup_end end;
	const char *error; /* of a failed one */
	const char *
		partial; /* "partial-XXXXXX": kept behind the end of one that did not complete; NULL: nothing */
};

struct backup;

/* On failure nothing has changed, and there is no target. */
struct backup *backup_start(const struct backup_options *options, struct error **errp);
void backup_query(struct backup *b, struct backup_status *status);
/* Takes effect at once. */
void backup_set_speed(struct backup *b, uint64_t speed);
/* It ends soon, unless it is just completing. */
void backup_cancel(struct backup *b);
/* The same, at the end of the process, with which bitmaps end: nothing is kept, for nothing could go on with it. */
void backup_give_up(struct backup *b);
/* Returns after ended(). Where that takes more than a second the log says so. */
void backup_wait(struct backup *b);
/* Waits as well. Called exactly once. */
void backup_free(struct backup *b);

#endif
