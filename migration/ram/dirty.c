/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/ram/dirty.h"

#include <stdlib.h>

#include "vmm/base/cleanup.h"

static bool add_block(struct ram_dirty *dirty, struct ram_block *block, uint64_t first_page,
		      struct error **errp)
{
	struct ram_dirty_block *b = &dirty->blocks[dirty->nblocks++];
	uint64_t pages = ram_block_pages(block);
	uint64_t chunks = (pages + CLEAR_CHUNK_PAGES - 1) / CLEAR_CHUNK_PAGES;

	b->block = block;
	b->first_page = first_page;
	if (!bitmap_init(&b->pages, pages) || !bitmap_init(&b->uncleared, chunks)) {
		error_set(errp, "RAM block '%s': no memory for the dirty bitmap", block->name);
		return false;
	}
	bitmap_set(&b->pages, 0, pages);
	bitmap_set(&b->uncleared, 0, chunks);
	return true;
}

bool ram_dirty_start(struct ram_dirty *dirty, struct memory *mem, const struct dirty_log_ops *ops,
		     struct error **errp)
{
	uint64_t largest = 0, first_page = 0;

	*dirty = (struct ram_dirty){ .ops = ops, .mem = mem };
	for (unsigned int i = 0; i < mem->nblocks; i++) {
		struct ram_block *block = &mem->blocks[i];

		if (!add_block(dirty, block, first_page, errp))
			goto fail;
		first_page += ram_block_pages(block);
		largest = MAX_OF(largest, ram_block_pages(block));
	}
	dirty->scratch = calloc(bitmap_words(largest), sizeof(*dirty->scratch));
	if (!dirty->scratch) {
		error_set(errp, "no memory for a copy of the dirty log");
		goto fail;
	}
	if (!dirty_log_start(ops, mem, errp))
		goto fail;
	dirty->logging = true;
	return true;
fail:
	ram_dirty_stop(dirty);
	return false;
}

void ram_dirty_stop(struct ram_dirty *dirty)
{
	if (dirty->logging)
		dirty_log_stop(dirty->ops, dirty->mem);
	for (unsigned int i = 0; i < dirty->nblocks; i++) {
		bitmap_release(&dirty->blocks[i].pages);
		bitmap_release(&dirty->blocks[i].uncleared);
	}
	free(dirty->scratch);
	*dirty = (struct ram_dirty){ 0 };
}

bool ram_dirty_sync(struct ram_dirty *dirty, uint64_t *fresh, struct error **errp)
{
	*fresh = 0;
	for (unsigned int i = 0; i < dirty->nblocks; i++) {
		struct ram_dirty_block *b = &dirty->blocks[i];

		if (b->block->slot == RAM_BLOCK_NO_SLOT)
			continue; /* nobody writes to it */
		if (!dirty_log_read(dirty->ops, dirty->mem, b->block, dirty->scratch, errp))
			return false;
		*fresh += bitmap_merge(&b->pages, 0, dirty->scratch, bitmap_words(b->pages.bits));
		bitmap_set(&b->uncleared, 0, b->uncleared.bits);
	}
	dirty->at_block = 0;
	dirty->at_page = 0;
	return true;
}

uint64_t ram_dirty_remaining(const struct ram_dirty *dirty)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < dirty->nblocks; i++)
		n += dirty->blocks[i].pages.count;
	return n;
}

/* Write-protect the chunk of a page that is about to be read. */
static bool clear_chunk(struct ram_dirty *dirty, struct ram_dirty_block *b, uint64_t page,
			struct error **errp)
{
	uint64_t chunk = page / CLEAR_CHUNK_PAGES;
	uint64_t first = chunk * CLEAR_CHUNK_PAGES;
	uint64_t n = MIN_OF(CLEAR_CHUNK_PAGES, b->pages.bits - first);

	if (!bitmap_test_and_clear(&b->uncleared, chunk))
		return true;
	return dirty_log_clear(dirty->ops, dirty->mem, b->block, first, n,
			       &b->pages.words[first / BITMAP_WORD_BITS], errp);
}

bool ram_dirty_take(struct ram_dirty *dirty, bool guest_stopped, struct ram_dirty_block **block,
		    uint64_t *page, struct error **errp)
{
	for (; dirty->at_block < dirty->nblocks; dirty->at_block++, dirty->at_page = 0) {
		struct ram_dirty_block *b = &dirty->blocks[dirty->at_block];
		uint64_t p;

		if (!b->pages.count)
			continue;
		p = bitmap_next_set(&b->pages, dirty->at_page);
		if (p == b->pages.bits)
			continue;
		if (dirty->ops->clears_by_hand && !guest_stopped && !clear_chunk(dirty, b, p, errp))
			return false;
		bitmap_test_and_clear(&b->pages, p);
		dirty->at_page = p + 1;
		*block = b;
		*page = p;
		return true;
	}
	return false;
}
