/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing guest memory into the stream: section "ram", version 4.
 *
 * One record a page. What is sent of a page is chosen here:
 *
 *	all zero                         ZERO record
 *	page in the cache                nothing (unchanged), a delta, or the whole page where the delta is no smaller
 *	page enters the cache            PAGE record, referring to the copy in the cache
 *	otherwise                        PAGE record, referring to guest memory, which writev reads
 *
 * A guest that writes while its page is being sent does no harm where the page is sent whole: its bit is set again. A page that
 * enters the cache is another matter, for the cache must hold exactly what was sent: it is copied first and sent from the copy.
 *
 * use_xbzrle and fill_cache say of a pass whether pages may enter the cache: with the former any page, in place of an older one; with
 * the latter alone only into free slots. A page that is in the cache goes by way of it whatever they say, for what the cache holds
 * must stay what the destination holds. In the first pass no page is there yet, so nothing differs from anything; but where the link is
 * slow that pass fills free slots, which saves sending every page whole a second time. One thread.
 */
#ifndef FERRY_RAM_SAVE_H
#define FERRY_RAM_SAVE_H

#include "migration/ram/cache.h"
#include "migration/ram/dirty.h"
#include "migration/stream/stream.h"

struct ram_counters {
	uint64_t zero_pages;
	uint64_t normal_pages;
	uint64_t page_bytes; /* on the wire, of all records, with their headers */
	uint64_t xbzrle_pages;
	uint64_t xbzrle_bytes; /* of the deltas */
	uint64_t xbzrle_unchanged;
	uint64_t xbzrle_misses; /* pages that were not in the cache */
	uint64_t xbzrle_overflows;
};

struct ram_save {
	struct stream_out *out;
	struct page_cache *cache; /* NULL: XBZRLE is off */
	bool use_xbzrle; /* this pass: new pages may enter the cache, and misses are counted */
	bool fill_cache; /* put pages that are sent whole into free slots */
	uint32_t pass;	 /* from 1 */
	const struct ram_block
		*last_block; /* of the last record on the channel, for CONTINUE; NULL: none */
	struct ram_counters counters;
	uint8_t page[4096]; /* a page as it was at one moment */
	uint8_t delta[4096];
};

/* The block list that begins the section's START part; the caller writes header and footer. */
void ram_save_setup(struct ram_save *save, struct memory *mem);
/* One page; errors are the stream's. */
void ram_save_page(struct ram_save *save, const struct ram_dirty_block *block, uint64_t page);
/* The record that ends each part. */
void ram_save_eos(struct ram_save *save);

#endif
