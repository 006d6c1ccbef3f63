/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the "ram" section into guest memory.
 *
 * The stream is a stranger's: the block list must be this machine's, every offset must lie in its block, a delta must fit
 * its page and must have a page to apply to. A page that was never received is known to be zero (the memory is fresh), so a
 * zero record for it costs nothing and touches nothing. One thread.
 */
#ifndef FERRY_RAM_LOAD_H
#define FERRY_RAM_LOAD_H

#include "migration/stream/stream.h"
#include "vmm/base/bitmap.h"
#include "vmm/kvm/memory.h"

struct ram_load {
	struct memory *mem;
	struct ram_block *last_block; /* for CONTINUE */
	struct bitmap received[MEMORY_MAX_BLOCKS];
	bool have_list;
	uint64_t pages; /* records that were applied */
};

bool ram_load_init(struct ram_load *load, struct memory *mem, struct error **errp);
void ram_load_release(struct ram_load *load);
/* The data of one START, PART or END section, up to and with its EOS; errors are the stream's. */
void ram_load_section(struct ram_load *load, struct stream_in *in);

#endif
