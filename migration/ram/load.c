/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/ram/load.h"

#include <string.h>

#include "migration/ram/xbzrle.h"
#include "migration/ram/zero.h"
#include "migration/stream/protocol.h"

#define FLAG_MASK (RAM_PAGE_SIZE - 1)

bool ram_load_init(struct ram_load *load, struct memory *mem, struct error **errp)
{
	*load = (struct ram_load){ .mem = mem };
	for (unsigned int i = 0; i < mem->nblocks; i++) {
		if (!bitmap_init(&load->received[i], ram_block_pages(&mem->blocks[i]))) {
			error_set(errp, "RAM block '%s': no memory for a bitmap",
				  mem->blocks[i].name);
			ram_load_release(load);
			return false;
		}
	}
	return true;
}

void ram_load_release(struct ram_load *load)
{
	for (unsigned int i = 0; i < MEMORY_MAX_BLOCKS; i++)
		bitmap_release(&load->received[i]);
}

/* One entry of the block list; its length, or 0 on failure. */
static uint64_t load_block_entry(struct ram_load *load, struct stream_in *in, uint64_t *seen)
{
	char name[STREAM_NAME_MAX + 1];
	struct ram_block *block;
	uint64_t length;

	get_name(in, name);
	length = get_u64(in);
	if (!stream_in_ok(in))
		return 0;
	block = memory_find_block(load->mem, name);
	if (!block) {
		stream_in_fail(in, "ram: block '%s' is not part of this machine", name);
	} else if (block->size_bytes != length) {
		stream_in_fail(in, "ram: block '%s' has %llu bytes in the stream, %llu here", name,
			       (unsigned long long)length, (unsigned long long)block->size_bytes);
	} else if (*seen >> (block - load->mem->blocks) & 1) {
		stream_in_fail(in, "ram: block '%s' is listed twice", name);
	} else {
		*seen |= UINT64_C(1) << (block - load->mem->blocks);
		return length;
	}
	return 0;
}

static void load_block_list(struct ram_load *load, struct stream_in *in, uint64_t total)
{
	uint64_t seen = 0;

	if (load->have_list) {
		stream_in_fail(in, "ram: a second block list");
		return;
	}
	while (total && stream_in_ok(in)) {
		uint64_t length = load_block_entry(load, in, &seen);

		if (length > total)
			stream_in_fail(in, "ram: the blocks' lengths exceed the total");
		else
			total -= length;
	}
	if (stream_in_ok(in) && seen != (UINT64_C(1) << load->mem->nblocks) - 1)
		stream_in_fail(in, "ram: the stream lacks a block that this machine has");
	load->have_list = stream_in_ok(in);
}

/* The block and page that a record is about; NULL with the stream failed. */
static struct ram_block *load_place(struct ram_load *load, struct stream_in *in, uint64_t head,
				    uint64_t *page)
{
	char name[STREAM_NAME_MAX + 1];

	if (!load->have_list) {
		stream_in_fail(in, "ram: a page before the block list");
		return NULL;
	}
	if (!(head & RAM_FLAG_CONTINUE)) {
		get_name(in, name);
		if (!stream_in_ok(in))
			return NULL;
		load->last_block = memory_find_block(load->mem, name);
		if (!load->last_block)
			stream_in_fail(in, "ram: block '%s' is not part of this machine", name);
	} else if (!load->last_block) {
		stream_in_fail(in, "ram: a record that continues a block, but none came before");
	}
	if (!load->last_block)
		return NULL;
	*page = head >> RAM_PAGE_BITS;
	if (*page >= ram_block_pages(load->last_block)) {
		stream_in_fail(in, "ram: offset 0x%llx lies beyond block '%s' of 0x%llx bytes",
			       (unsigned long long)(head & ~(uint64_t)FLAG_MASK),
			       load->last_block->name,
			       (unsigned long long)load->last_block->size_bytes);
		return NULL;
	}
	return load->last_block;
}

static void load_delta(struct stream_in *in, uint8_t *host, bool received)
{
	uint8_t delta[RAM_PAGE_SIZE];
	uint8_t encoding = get_u8(in);
	uint16_t len = get_u16(in);

	if (encoding != RAM_XBZRLE_ENCODING) {
		stream_in_fail(in, "ram: XBZRLE encoding %u, expected %u", encoding,
			       RAM_XBZRLE_ENCODING);
		return;
	}
	if (len > sizeof(delta)) {
		stream_in_fail(in, "ram: a delta of %u bytes, a page has %zu", len, sizeof(delta));
		return;
	}
	get_bytes(in, delta, len);
	if (!stream_in_ok(in))
		return;
	if (!received)
		stream_in_fail(in, "ram: a delta for a page that never came");
	else if (xbzrle_decode_buffer(delta, len, host, RAM_PAGE_SIZE) < 0)
		stream_in_fail(in, "ram: a delta that is malformed or exceeds its page");
}

static void load_zero(struct stream_in *in, uint8_t *host, bool received)
{
	uint8_t fill = get_u8(in);

	if (fill)
		stream_in_fail(in, "ram: fill byte 0x%02x of a zero page", fill);
	else if (received && !page_is_zero(host, RAM_PAGE_SIZE))
		memset(host, 0, RAM_PAGE_SIZE);
}

static void load_page(struct ram_load *load, struct stream_in *in, uint64_t head)
{
	uint64_t page;
	struct ram_block *block = load_place(load, in, head, &page);
	struct bitmap *received;
	uint8_t *host;

	if (!block)
		return;
	host = block->host + (page << RAM_PAGE_BITS);
	received = &load->received[block - load->mem->blocks];
	switch (head & FLAG_MASK & ~RAM_FLAG_CONTINUE) {
	case RAM_FLAG_PAGE:
		get_bytes(in, host, RAM_PAGE_SIZE);
		break;
	case RAM_FLAG_ZERO:
		load_zero(in, host, bitmap_test(received, page));
		break;
	case RAM_FLAG_XBZRLE:
		load_delta(in, host, bitmap_test(received, page));
		break;
	}
	if (!stream_in_ok(in))
		return;
	bitmap_test_and_set(received, page);
	load->pages++;
}

void ram_load_section(struct ram_load *load, struct stream_in *in)
{
	load->last_block = NULL;
	while (stream_in_ok(in)) {
		uint64_t head = get_u64(in);

		if (!stream_in_ok(in))
			return;
		switch (head & FLAG_MASK & ~RAM_FLAG_CONTINUE) {
		case RAM_FLAG_PAGE:
		case RAM_FLAG_ZERO:
		case RAM_FLAG_XBZRLE:
			load_page(load, in, head);
			break;
		case RAM_FLAG_MEM_SIZE:
			load_block_list(load, in, head & ~(uint64_t)FLAG_MASK);
			break;
		case RAM_FLAG_EOS:
			return;
		default:
			stream_in_fail(in, "ram: record 0x%llx has flags that are not understood",
				       (unsigned long long)head);
		}
	}
}
