/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking by KVM, as a table of ways to do it.
 *
 *	name            reading the log                    afterwards
 *	manual-protect  copies it                          dirty_log_clear() clears and write-protects what was
 *	                                                   read, in chunks, just before the pages are sent
 *	plain           copies, clears and write-protects  nothing
 *
 * With manual protect every page starts dirty in KVM's log (INITIALLY_SET), so enabling costs little and the first pass
 * write-protects chunk by chunk. The rule for dirty_log_clear(): only bits that a read has returned (or that were dirty
 * from the start) may be cleared, else a write is lost.
 *
 * Source: Linux Documentation/virt/kvm/api.rst, sections 4.8, 4.117 and 7.18.
 */
#ifndef FERRY_KVM_DIRTY_LOG_H
#define FERRY_KVM_DIRTY_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/kvm/memory.h"

struct dirty_log_ops {
	const char *name;
	/* Reading does not clear: dirty_log_clear() must. */
	bool clears_by_hand;
	bool (*supported)(const struct kvm *kvm);
	/* Set up before the slots' logs are switched on; and back. */
	bool (*prepare)(struct kvm *kvm, bool on, struct error **errp);
};

/* The row of that name, or the best one that KVM supports where name is NULL or "auto". */
const struct dirty_log_ops *dirty_log_select(const struct kvm *kvm, const char *name,
					     struct error **errp);

/* Log writes to every block with a slot. On failure nothing is logged. */
bool dirty_log_start(const struct dirty_log_ops *ops, struct memory *mem, struct error **errp);
void dirty_log_stop(const struct dirty_log_ops *ops, struct memory *mem);

/* Read a block's log: words (one bit a page, room for whole words) are overwritten, and hold the VMM's own writes, too.
 * A hidden block has no writers: zeroes. */
bool dirty_log_read(const struct dirty_log_ops *ops, struct memory *mem, struct ram_block *block,
		    uint64_t *words, struct error **errp);
/* Clear the pages of [first, first + n) whose bits are set in words, where words[0] holds the bits of page `first`.
 * first is a multiple of 64, n is one, too, or reaches the block's end. Only where clears_by_hand. */
bool dirty_log_clear(const struct dirty_log_ops *ops, struct memory *mem, struct ram_block *block,
		     uint64_t first, uint64_t n, const uint64_t *words, struct error **errp);

#endif
