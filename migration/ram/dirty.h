/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages the destination still lacks.
 *
 * One bitmap per RAM block, alive only while a migration runs. It starts all ones; a page's bit is cleared just before the
 * page is read, and set again when a sync finds that it was written since. `remaining` is the sum of the bitmaps' counts.
 *
 * Where KVM's log is cleared by hand, a chunk of CLEAR_CHUNK_PAGES is cleared just before its first page of a pass is taken:
 *
 *	sync:          bitmap |= log; every chunk becomes "uncleared"
 *	take page p:   chunk of p uncleared?  KVM_CLEAR_DIRTY_LOG(chunk, the bitmap's bits), chunk cleared
 *	               clear bit p, then read p
 *
 * A bit of KVM's log that is set in an uncleared chunk is set in the bitmap as well, or its page was taken after the chunk was
 * cleared; so clearing what the bitmap shows never loses a write. When the guest is stopped nothing needs clearing.
 *
 * A migration that failed has consumed the log; the next one starts from all ones again. One thread.
 */
#ifndef FERRY_RAM_DIRTY_H
#define FERRY_RAM_DIRTY_H

#include "vmm/base/bitmap.h"
#include "vmm/kvm/dirty_log.h"

#define CLEAR_CHUNK_PAGES UINT64_C(16384) /* 64 MiB; one ioctl write-protects it in about 0.1 ms */

struct ram_dirty_block {
	struct ram_block *block;
	struct bitmap pages;
	struct bitmap uncleared; /* one bit a chunk */
	uint64_t first_page;	 /* the block's first page in a numbering of all pages */
};

struct ram_dirty {
	const struct dirty_log_ops *ops;
	struct memory *mem;
	struct ram_dirty_block blocks[MEMORY_MAX_BLOCKS];
	unsigned int nblocks;
	uint64_t *scratch; /* a log as read, for the largest block */
	bool logging;
	/* where the next search begins */
	unsigned int at_block;
	uint64_t at_page;
};

/* Switch logging on and make all pages dirty. On failure nothing is left behind. */
bool ram_dirty_start(struct ram_dirty *dirty, struct memory *mem, const struct dirty_log_ops *ops,
		     struct error **errp);
/* Switch logging off and free; safe on a struct of zeroes. */
void ram_dirty_stop(struct ram_dirty *dirty);
/* Fetch what was written since the last sync; *fresh is how many pages became dirty. Starts a new pass. */
bool ram_dirty_sync(struct ram_dirty *dirty, uint64_t *fresh, struct error **errp);
uint64_t ram_dirty_remaining(const struct ram_dirty *dirty);
/* The next dirty page in this pass, which is taken (its bit is cleared, its chunk write-protected). False with *error NULL: the
 * pass is over. guest_stopped: no write-protecting. */
bool ram_dirty_take(struct ram_dirty *dirty, bool guest_stopped, struct ram_dirty_block **block,
		    uint64_t *page, struct error **errp);

#endif
