/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cache of pages that the destination is known to hold: what XBZRLE encodes against.
 *
 * Direct-mapped by page number. An entry that was used in this pass or the two before is not evicted, so a working set larger
 * than the cache does not push out its own pages in turn: what is in stays in, the rest goes without. Memory is taken from
 * the system only for slots in use.
 *
 *	slots = 4:  page 6 -> slot 2.  Page 10 -> slot 2: refused while page 6 was used within two passes.
 *
 * Invariant: an entry's bytes are what the destination has after it has read everything put into the stream so far. One
 * thread.
 */
#ifndef FERRY_RAM_CACHE_H
#define FERRY_RAM_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"

struct page_cache;

struct cache_slot {
	uint64_t key; /* page number plus one; 0: free */
	uint64_t
		generation; /* of the stream when its bytes were last referred to by an unwritten record */
	uint32_t last_pass; /* in which it was used */
};

/* Rounded down to a power of two of pages; at least one page. */
struct page_cache *page_cache_new(uint64_t size_bytes, struct error **errp);
void page_cache_free(struct page_cache *cache);
uint64_t page_cache_slots(const struct page_cache *cache);

/* The page's slot, now used in this pass; NULL where it is not cached. */
struct cache_slot *page_cache_lookup(struct page_cache *cache, uint64_t page, uint32_t pass);
/* A slot for a page that is not cached: a free one, or, with may_evict, one that has not been used lately. NULL: none. The
 * caller fills the bytes, having made sure that nothing refers to the old ones. */
struct cache_slot *page_cache_claim(struct page_cache *cache, uint64_t page, uint32_t pass,
				    bool may_evict);
uint8_t *page_cache_data(struct page_cache *cache, const struct cache_slot *slot);

#endif
