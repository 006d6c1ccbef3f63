/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The records of "ram" (stream format, sections 2 and 3), counted and dropped. */
#include <inttypes.h>
#include <string.h>

#include "migration/analyze_parts.h"
#include "migration/ram/xbzrle.h"
#include "migration/stream/protocol.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

#define RAM_FLAG_MULTIFD_FLUSH 0x200u
/* Of a huge page; a block list may tell it. */
#define BLOCK_PAGE_SIZE_MAX (UINT64_C(1) << 40)

static struct analyze_block *find_block(struct analyzer *a, const char *name)
{
	for (unsigned int i = 0; i < a->result->nblocks; i++)
		if (strcmp(a->result->blocks[i].name, name) == 0)
			return &a->result->blocks[i];
	return NULL;
}

/* --- the block list --- */

/*
 * Behind a length there may be the block's page size, where it is not the target's; nothing says whether. But a power of two
 * above the target's page size is neither the begin of an entry (a name of no bytes) nor of a record (no flags).
 */
static bool take_block_page_size(struct analyzer *a, struct analyze_block *block)
{
	const uint8_t *p = peek_bytes(a->in, 8);
	uint64_t value = p ? get_be64(p) : 0;

	if (value <= a->result->page_size || value > BLOCK_PAGE_SIZE_MAX || value & (value - 1))
		return true;
	block->page_size = value;
	return analyze_skip(a, 8);
}

static bool take_block(struct analyzer *a, uint64_t *left)
{
	struct analyze_result *r = a->result;
	struct analyze_block *block = &r->blocks[r->nblocks];
	uint64_t offset = analyze_position(a);

	if (r->nblocks == ANALYZE_BLOCKS_MAX)
		return analyze_fail(a, offset, "ram: block number %u, expected no more than %u",
				    r->nblocks + 1, ANALYZE_BLOCKS_MAX);
	*block = (struct analyze_block){ .offset = offset };
	if (!analyze_take_name(a, "a block", block->name) ||
	    !analyze_take_u64(a, &block->size_bytes))
		return false;
	if (find_block(a, block->name))
		return analyze_fail(a, offset, "ram: block '%s' a second time, expected it once",
				    block->name);
	if (block->size_bytes > *left)
		return analyze_fail(a, offset,
				    "ram: block '%s' of 0x%" PRIx64
				    " bytes, expected at most the 0x%" PRIx64
				    " that are left of the total",
				    block->name, block->size_bytes, *left);
	if (!take_block_page_size(a, block))
		return false;
	*left -= block->size_bytes;
	r->nblocks++;
	if (a->v->block)
		a->v->block(a->v->opaque, block);
	return true;
}

static bool take_block_list(struct analyzer *a, uint64_t offset, uint64_t total)
{
	if (a->have_list)
		return analyze_fail(a, offset, "ram: a second block list, expected one");
	a->have_list = true;
	while (total)
		if (!take_block(a, &total))
			return false;
	return true;
}

/* --- pages --- */

/* The block that a record is about, whose address must lie in it. */
static bool take_place(struct analyzer *a, uint64_t offset, uint64_t head)
{
	uint64_t address = head & ~(uint64_t)(a->result->page_size - 1);
	char name[STREAM_NAME_MAX + 1];

	if (!(head & RAM_FLAG_CONTINUE)) {
		uint64_t at = analyze_position(a);

		if (!analyze_take_name(a, "a block", name))
			return false;
		a->last_block = find_block(a, name);
		if (!a->last_block)
			return analyze_fail(a, at, "ram: block '%s', expected one of the list",
					    name);
	} else if (!a->last_block) {
		return analyze_fail(a, offset,
				    "ram: record 0x%" PRIx64 " continues a block, expected a "
				    "record with a block before",
				    head);
	}
	if (address < a->last_block->size_bytes)
		return true;
	return analyze_fail(a, offset,
			    "ram: address 0x%" PRIx64
			    " of block '%s', expected less than 0x%" PRIx64,
			    address, a->last_block->name, a->last_block->size_bytes);
}

static bool take_zero(struct analyzer *a, struct analyze_pages *pages)
{
	uint64_t offset = analyze_position(a);
	uint8_t fill;

	if (!analyze_take_u8(a, &fill))
		return false;
	if (fill)
		return analyze_fail(a, offset, "ram: fill byte 0x%02x of a zero page, expected 0",
				    fill);
	pages->zero++;
	return true;
}

static bool take_delta(struct analyzer *a, struct analyze_pages *pages)
{
	uint64_t offset = analyze_position(a);
	uint32_t page_size = a->result->page_size;
	uint8_t encoding;
	uint16_t len;

	if (!analyze_take_u8(a, &encoding) || !analyze_take_u16(a, &len))
		return false;
	if (encoding != RAM_XBZRLE_ENCODING)
		return analyze_fail(a, offset, "ram: XBZRLE encoding 0x%02x, expected 0x%02x",
				    encoding, RAM_XBZRLE_ENCODING);
	if (len > page_size)
		return analyze_fail(a, offset + 1,
				    "ram: an XBZRLE payload of %u bytes, expected at most %u", len,
				    page_size);
	if (!analyze_take(a, a->data, len))
		return false;
	if (xbzrle_decode_buffer(a->data, len, a->scratch, page_size) < 0)
		return analyze_fail(a, offset + 3,
				    "ram: an XBZRLE payload of %u bytes that is malformed, "
				    "expected runs that fill no more than %u",
				    len, page_size);
	pages->xbzrle++;
	pages->xbzrle_bytes += len;
	return true;
}

static void add_pages(struct analyze_pages *to, const struct analyze_pages *more)
{
	to->normal += more->normal;
	to->zero += more->zero;
	to->xbzrle += more->xbzrle;
	to->xbzrle_bytes += more->xbzrle_bytes;
	to->bytes += more->bytes;
}

static bool take_page(struct analyzer *a, uint64_t offset, uint64_t head, uint16_t flag)
{
	struct analyze_pages one = { 0 };
	struct analyze_page page;

	if (!take_place(a, offset, head))
		return false;
	switch (flag) {
	case RAM_FLAG_PAGE:
		one.normal = 1;
		if (!analyze_skip(a, a->result->page_size))
			return false;
		break;
	case RAM_FLAG_ZERO:
		if (!take_zero(a, &one))
			return false;
		break;
	default:
		if (!take_delta(a, &one))
			return false;
	}
	one.bytes = analyze_position(a) - offset;
	add_pages(&a->last_block->pages, &one);
	add_pages(&a->section.pages, &one);
	page = (struct analyze_page){ .offset = offset,
				      .bytes = one.bytes,
				      .flag = flag,
				      .address = head & ~(uint64_t)(a->result->page_size - 1),
				      .block = a->last_block };
	if (a->v->page)
		a->v->page(a->v->opaque, &page);
	return true;
}

bool analyze_ram(struct analyzer *a)
{
	uint64_t mask = a->result->page_size - 1;

	for (;;) {
		uint64_t offset = analyze_position(a), head;
		uint16_t flags;

		if (!analyze_take_u64(a, &head))
			return false;
		flags = (uint16_t)(head & mask);
		switch (flags & ~RAM_FLAG_CONTINUE) {
		case RAM_FLAG_PAGE:
		case RAM_FLAG_ZERO:
		case RAM_FLAG_XBZRLE:
			if (!take_page(a, offset, head, (uint16_t)(flags & ~RAM_FLAG_CONTINUE)))
				return false;
			break;
		case RAM_FLAG_MEM_SIZE:
			if (!take_block_list(a, offset, head & ~mask))
				return false;
			break;
		case RAM_FLAG_MULTIFD_FLUSH:
			break;
		case RAM_FLAG_EOS:
			return true;
		default:
			return analyze_fail(a, offset,
					    "ram: record 0x%016" PRIx64 " with flags 0x%x, "
					    "expected one kind of record",
					    head, flags);
		}
	}
}
