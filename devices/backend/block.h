/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A raw disk image: a file or a block device, locked, read and written beside the caller.
 *
 * Reads, writes and flushes go through io_uring; where the kernel or its rules do not allow that, and for what io_uring is not
 * asked to do (discarding, writing zeroes, the rest of a short transfer), there are a few threads.
 *
 *	caller: block_submit(request) ... --> io_uring --\
 *	                                  \-> threads ----+--> eventfd --> event loop: done(opaque)
 *	caller: block_take_done() until NULL
 *
 * Draining waits for what has begun and cancels what has not, which comes back with the error ECANCELED. What is cancelled has
 * not been done, or not wholly: to do it again, here or by another process, is right.
 *
 * Locks on three bytes of the image (open file description locks, so they also hold between two disks of one process):
 *
 *	WRITERS   shared by everybody who has it open for a machine that writes; for a moment exclusive when such a machine starts
 *	READERS   shared by machines that only read
 *	RUNNING   exclusive: the one machine that writes now
 *
 * A migration between two processes of a host has both hold WRITERS, and hands RUNNING over: the source lets it go when its
 * device is drained and takes it back if the migration fails, the destination takes it when the guest is its own. Nobody can
 * come in between, for to start a machine takes WRITERS alone.
 *
 * What may change the image marks the disk's dirty bitmaps, in block_submit() before it starts, and, if a bitmap has begun anew since,
 * in block_take_done() again.
 *
 * Threads: the caller's lock around everything but block_drain(), and done(), which is called without one on the loop's thread.
 */
#ifndef FERRY_BACKEND_BLOCK_H
#define FERRY_BACKEND_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/disk_bitmap.h"
#include "vmm/base/error.h"
#include "vmm/base/queue.h"
#include "vmm/kvm/loop.h"

#define BLOCK_SEGMENTS_MAX 128

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_ZERO };

struct block_request {
	/* set by the caller, and left alone until the request comes back */
	enum block_op op;
	uint64_t offset, bytes; /* of the image; bytes is the sum of iov where there is one */
	struct iovec *iov;
	unsigned int niov;
	bool may_unmap; /* ZERO */
	/* the answer: 0, an errno, or ECANCELED: not done */
	int error;
	uint64_t era; /* of the disk's bitmaps when it was submitted; block.c's */
	TAILQ_ENTRY(block_request) entry;
};
TAILQ_HEAD(block_requests, block_request);

enum block_engine { BLOCK_AUTO, BLOCK_URING, BLOCK_THREADS };

struct block_options {
	const char *path;
	bool read_only;
	bool incoming; /* another process may be running the machine still: RUNNING is not taken */
	struct disk_bitmaps
		*bitmaps; /* whatever changes the image marks them; borrowed. NULL: none */
	enum block_engine engine;
	struct loop *loop; /* NULL: done() is never called */
	void (*done)(void *opaque);
	void *opaque;
};

struct block;

struct block *block_open(const struct block_options *options, struct error **errp);
/* Drained before. NULL is allowed. */
void block_close(struct block *b);
uint64_t block_bytes(const struct block *b);
/* "io_uring" or "threads" */
const char *block_engine_name(const struct block *b);

/* One that cannot begin comes back with its error, too. */
void block_submit(struct block *b, struct block_request *req);
/* One that has come back, or NULL. */
struct block_request *block_take_done(struct block *b);
/* Returns when nothing is in flight; then all come back by block_take_done(), which another thread may call meanwhile: what the host's
 * disk has begun may take long, which is told in the log after a second. Nobody submits. */
void block_drain(struct block *b);

/* RUNNING; a read-only image has none and succeeds. Taking it twice is allowed. */
bool block_take_running(struct block *b, struct error **errp);
void block_leave_running(struct block *b);

#endif
