/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/ram/cache.h"

#include <sys/mman.h>

#include "migration/stream/protocol.h"
#include "vmm/base/cleanup.h"

#define KEEP_PASSES 2

struct page_cache {
	uint64_t nslots; /* a power of two */
	struct cache_slot *slots;
	uint8_t *data;
};

struct page_cache *page_cache_new(uint64_t size_bytes, struct error **errp)
{
	struct page_cache *cache = xcalloc(1, sizeof(*cache));

	cache->nslots = 1;
	while (cache->nslots <= size_bytes / (2 * RAM_PAGE_SIZE))
		cache->nslots *= 2;
	cache->data = mmap(NULL, cache->nslots * RAM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cache->slots = calloc(cache->nslots, sizeof(*cache->slots));
	if (cache->data == MAP_FAILED || !cache->slots) {
		error_set(errp, "no memory for a page cache of %llu bytes",
			  (unsigned long long)size_bytes);
		page_cache_free(cache);
		return NULL;
	}
	return cache;
}

void page_cache_free(struct page_cache *cache)
{
	if (!cache)
		return;
	if (cache->data != MAP_FAILED)
		munmap(cache->data, cache->nslots * RAM_PAGE_SIZE);
	free(cache->slots);
	free(cache);
}

uint64_t page_cache_slots(const struct page_cache *cache)
{
	return cache->nslots;
}

static struct cache_slot *slot_of(struct page_cache *cache, uint64_t page)
{
	return &cache->slots[page & (cache->nslots - 1)];
}

struct cache_slot *page_cache_lookup(struct page_cache *cache, uint64_t page, uint32_t pass)
{
	struct cache_slot *slot = slot_of(cache, page);

	if (slot->key != page + 1)
		return NULL;
	slot->last_pass = pass;
	return slot;
}

struct cache_slot *page_cache_claim(struct page_cache *cache, uint64_t page, uint32_t pass,
				    bool may_evict)
{
	struct cache_slot *slot = slot_of(cache, page);

	if (slot->key && (!may_evict || slot->last_pass + KEEP_PASSES >= pass))
		return NULL;
	slot->key = page + 1;
	slot->last_pass = pass;
	return slot;
}

uint8_t *page_cache_data(struct page_cache *cache, const struct cache_slot *slot)
{
	return cache->data + (uint64_t)(slot - cache->slots) * RAM_PAGE_SIZE;
}
