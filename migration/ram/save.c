/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/ram/save.h"

#include <assert.h>
#include <string.h>

#include "migration/ram/xbzrle.h"
#include "migration/ram/zero.h"
#include "migration/stream/protocol.h"

/* A longer delta makes a record, with its three bytes of header, no smaller than the page's. */
#define DELTA_MAX (RAM_PAGE_SIZE - 4)

_Static_assert(GUEST_PAGE_SIZE == RAM_PAGE_SIZE, "guest pages are the stream's pages");
_Static_assert(sizeof(((struct ram_save *)0)->page) == RAM_PAGE_SIZE, "room for a page");

void ram_save_setup(struct ram_save *save, struct memory *mem)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < mem->nblocks; i++)
		total += mem->blocks[i].size_bytes;
	put_u64(save->out, total | RAM_FLAG_MEM_SIZE);
	for (unsigned int i = 0; i < mem->nblocks; i++) {
		put_name(save->out, mem->blocks[i].name);
		put_u64(save->out, mem->blocks[i].size_bytes);
	}
	ram_save_eos(save);
}

void ram_save_eos(struct ram_save *save)
{
	put_u64(save->out, RAM_FLAG_EOS);
	save->last_block = NULL; /* each part stands for itself */
}

static void put_page_header(struct ram_save *save, const struct ram_block *block, uint64_t page,
			    uint64_t flag)
{
	uint64_t head = page << RAM_PAGE_BITS | flag;

	if (block == save->last_block) {
		put_u64(save->out, head | RAM_FLAG_CONTINUE);
		return;
	}
	put_u64(save->out, head);
	put_name(save->out, block->name);
	save->last_block = block;
}

/* Before a slot's bytes change: what still refers to them must have been written. */
static void release_slot(struct ram_save *save, struct cache_slot *slot)
{
	if (slot->generation == stream_generation(save->out))
		stream_flush(save->out);
}

static void save_zero(struct ram_save *save, const struct ram_dirty_block *b, uint64_t page)
{
	struct cache_slot *slot;

	put_page_header(save, b->block, page, RAM_FLAG_ZERO);
	put_u8(save->out, 0);
	save->counters.zero_pages++;
	slot = save->cache ? page_cache_lookup(save->cache, b->first_page + page, save->pass)
			   : NULL;
	if (slot) {
		release_slot(save, slot);
		memset(page_cache_data(save->cache, slot), 0, RAM_PAGE_SIZE);
	}
}

/* A whole page out of the cache, where it stays put until the slot is released. */
static void put_slot(struct ram_save *save, const struct ram_dirty_block *b, uint64_t page,
		     struct cache_slot *slot)
{
	put_page_header(save, b->block, page, RAM_FLAG_PAGE);
	put_ref(save->out, page_cache_data(save->cache, slot), RAM_PAGE_SIZE);
	slot->generation = stream_generation(save->out);
	save->counters.normal_pages++;
}

static void save_whole(struct ram_save *save, const struct ram_dirty_block *b, uint64_t page,
		       const uint8_t *host)
{
	struct cache_slot *slot = NULL;

	if (save->cache && (save->use_xbzrle || save->fill_cache))
		slot = page_cache_claim(save->cache, b->first_page + page, save->pass,
					save->use_xbzrle);
	if (slot) {
		release_slot(save, slot);
		memcpy(page_cache_data(save->cache, slot), host, RAM_PAGE_SIZE);
		put_slot(save, b, page, slot);
		return;
	}
	put_page_header(save, b->block, page, RAM_FLAG_PAGE);
	put_ref(save->out, host, RAM_PAGE_SIZE);
	save->counters.normal_pages++;
}

static void save_delta(struct ram_save *save, const struct ram_dirty_block *b, uint64_t page,
		       struct cache_slot *slot)
{
	uint8_t *cached = page_cache_data(save->cache, slot);
	/* From a private copy: the guest may write to the page at any time. */
	const uint8_t *now =
		memcpy(save->page, b->block->host + (page << RAM_PAGE_BITS), RAM_PAGE_SIZE);
	int len = xbzrle_encode_buffer(cached, now, RAM_PAGE_SIZE, save->delta, DELTA_MAX);

	if (len == XBZRLE_UNCHANGED) {
		save->counters.xbzrle_unchanged++;
		return;
	}
	release_slot(save, slot);
	memcpy(cached, now, RAM_PAGE_SIZE);
	if (len == XBZRLE_OVERFLOW) {
		save->counters.xbzrle_overflows++;
		put_slot(save, b, page, slot);
		return;
	}
	put_page_header(save, b->block, page, RAM_FLAG_XBZRLE);
	put_u8(save->out, RAM_XBZRLE_ENCODING);
	put_u16(save->out, (uint16_t)len);
	put_bytes(save->out, save->delta, (size_t)len);
	save->counters.xbzrle_pages++;
	save->counters.xbzrle_bytes += (uint64_t)len;
}

void ram_save_page(struct ram_save *save, const struct ram_dirty_block *block, uint64_t page)
{
	const uint8_t *host = block->block->host + (page << RAM_PAGE_BITS);
	uint64_t start = stream_out_position(save->out);
	struct cache_slot *slot = NULL;

	if (page_is_zero(host, RAM_PAGE_SIZE)) {
		save_zero(save, block, page);
	} else {
		if (save->cache)
			slot = page_cache_lookup(save->cache, block->first_page + page, save->pass);
		if (slot) {
			save_delta(save, block, page, slot);
		} else {
			save->counters.xbzrle_misses += save->use_xbzrle;
			save_whole(save, block, page, host);
		}
	}
	save->counters.page_bytes += stream_out_position(save->out) - start;
}
