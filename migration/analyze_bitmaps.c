/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The chunks of "dirty-bitmap" (docs/stream-format.md), counted and dropped. */
#include <inttypes.h>
#include <string.h>

#include "migration/analyze_parts.h"
#include "migration/bitmaps/format.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

/* START flags that older programs have set, and that mean nothing. */
#define START_IGNORED 0x04
#define BUF_MAX (UINT64_C(10) << 20)

static struct analyze_bitmap *find_bitmap(struct analyzer *a)
{
	for (unsigned int i = 0; i < a->result->nbitmaps; i++)
		if (strcmp(a->result->bitmaps[i].node, a->node) == 0 &&
		    strcmp(a->result->bitmaps[i].name, a->bitmap_name) == 0)
			return &a->result->bitmaps[i];
	return NULL;
}

/* The names, or those of the chunk before. */
static bool take_names(struct analyzer *a, uint64_t offset, uint8_t flags)
{
	if (flags & BITMAP_HAS_NODE && !analyze_take_long_name(a, "a disk", a->node))
		return false;
	if (flags & BITMAP_HAS_NAME && !analyze_take_long_name(a, "a bitmap", a->bitmap_name))
		return false;
	if (flags & (BITMAP_HAS_NODE | BITMAP_HAS_NAME))
		a->last_bitmap = find_bitmap(a);
	return (*a->node && *a->bitmap_name) ||
	       analyze_fail(a, offset,
			    "dirty-bitmap: a chunk without a name, expected a chunk with one "
			    "before");
}

static bool take_start(struct analyzer *a, uint64_t offset, struct analyze_chunk *chunk)
{
	struct analyze_result *r = a->result;
	uint64_t at = analyze_position(a);
	struct analyze_bitmap *bm;
	uint32_t granularity;
	uint8_t flags;

	(void)chunk;
	if (!analyze_take_u32(a, &granularity) || !analyze_take_u8(a, &flags))
		return false;
	if (granularity < BITMAP_SECTOR || granularity & (granularity - 1))
		return analyze_fail(a, at,
				    "dirty-bitmap: granularity %u of '%s', expected a power of two "
				    "of at least %u",
				    granularity, a->bitmap_name, BITMAP_SECTOR);
	if (flags & ~(BITMAP_ENABLED | BITMAP_PERSISTENT | START_IGNORED))
		return analyze_fail(a, at + 4,
				    "dirty-bitmap: flags 0x%02x of '%s', expected some of 0x07",
				    flags, a->bitmap_name);
	if (a->last_bitmap)
		return analyze_fail(a, offset,
				    "dirty-bitmap: '%s' of '%s' is started a second time, expected "
				    "it once",
				    a->bitmap_name, a->node);
	if (r->nbitmaps == ANALYZE_BITMAPS_MAX)
		return analyze_fail(a, offset,
				    "dirty-bitmap: bitmap number %u, expected no more than %u",
				    r->nbitmaps + 1, ANALYZE_BITMAPS_MAX);
	bm = &r->bitmaps[r->nbitmaps++];
	*bm = (struct analyze_bitmap){ .granularity = granularity,
				       .enabled = flags & BITMAP_ENABLED,
				       .persistent = flags & BITMAP_PERSISTENT };
	strcpy(bm->node, a->node);
	strcpy(bm->name, a->bitmap_name);
	a->last_bitmap = bm;
	return true;
}

/* --- bits --- */

static bool take_range(struct analyzer *a, uint64_t offset, struct analyze_chunk *chunk)
{
	struct analyze_bitmap *bm = a->last_bitmap;
	uint64_t at = analyze_position(a), sector, end;
	uint32_t sectors;

	if (!analyze_take_u64(a, &sector) || !analyze_take_u32(a, &sectors))
		return false;
	if (!sectors || sector > (uint64_t)INT64_MAX / BITMAP_SECTOR - sectors)
		return analyze_fail(a, at,
				    "dirty-bitmap: %u sectors at %" PRIu64
				    ", expected 1 or more of a disk",
				    sectors, sector);
	chunk->start = sector * BITMAP_SECTOR;
	chunk->length = (uint64_t)sectors * BITMAP_SECTOR;
	if (chunk->start % bm->granularity)
		return analyze_fail(a, at,
				    "dirty-bitmap: bits from byte 0x%" PRIx64
				    ", expected a multiple of the granularity %u",
				    chunk->start, bm->granularity);
	if (bm->complete)
		return analyze_fail(a, offset,
				    "dirty-bitmap: bits of '%s', expected none as it is complete",
				    bm->name);
	if (chunk->start > bm->covered)
		return analyze_fail(a, at,
				    "dirty-bitmap: bits of '%s' from byte 0x%" PRIx64
				    ", expected no gap behind 0x%" PRIx64,
				    bm->name, chunk->start, bm->covered);
	end = chunk->start + chunk->length;
	bm->covered = MAX_OF(bm->covered, end);
	chunk->bits = (chunk->length + bm->granularity - 1) / bm->granularity;
	return true;
}

/* How many of the first n bits of a buffer are set. */
static uint64_t count_bits(const uint8_t *bytes, uint64_t n)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < n / 8; i++)
		count += (uint64_t)__builtin_popcount(bytes[i]);
	if (n % 8)
		count += (uint64_t)__builtin_popcount(bytes[n / 8] & ((1u << n % 8) - 1));
	return count;
}

static bool take_buffer(struct analyzer *a, struct analyze_chunk *chunk)
{
	uint64_t at = analyze_position(a), len;
	uint64_t want = (chunk->bits + 7) / 8;

	want = (want + BITMAP_BUF_ALIGN - 1) / BITMAP_BUF_ALIGN * BITMAP_BUF_ALIGN;
	if (!analyze_take_u64(a, &len))
		return false;
	if (len != want || len > BUF_MAX)
		return analyze_fail(a, at,
				    "dirty-bitmap: %" PRIu64 " bytes for %" PRIu64
				    " bits, expected %" PRIu64 ", at most %" PRIu64,
				    len, chunk->bits, want, BUF_MAX);
	for (uint64_t done = 0, n; done < len; done += n) {
		n = MIN_OF(len - done, (uint64_t)ANALYZE_DATA_MAX);
		if (!analyze_take(a, a->data, n))
			return false;
		if (chunk->bits > done * 8)
			chunk->dirty += count_bits(a->data, MIN_OF(chunk->bits - done * 8, n * 8));
	}
	return true;
}

static bool take_bits(struct analyzer *a, uint64_t offset, struct analyze_chunk *chunk)
{
	bool zeroes = chunk->kind == ANALYZE_CHUNK_ZEROES;

	if (!take_range(a, offset, chunk) || !(zeroes || take_buffer(a, chunk)))
		return false;
	a->last_bitmap->chunks += !zeroes;
	a->last_bitmap->zeroes += zeroes;
	a->section.chunks += !zeroes;
	a->section.zeroes += zeroes;
	return true;
}

static bool take_complete(struct analyzer *a, uint64_t offset, struct analyze_chunk *chunk)
{
	struct analyze_bitmap *bm = a->last_bitmap;

	(void)chunk;
	if (bm->complete)
		return analyze_fail(a, offset,
				    "dirty-bitmap: '%s' is completed a second time, expected it "
				    "once",
				    bm->name);
	bm->complete = true;
	return true;
}

/* --- chunks --- */

static const struct {
	uint8_t flags; /* but for the names */
	enum analyze_chunk_kind kind;
	bool (*take)(struct analyzer *a, uint64_t offset, struct analyze_chunk *chunk);
} kinds[] = {
	{ BITMAP_START, ANALYZE_CHUNK_START, take_start },
	{ BITMAP_BITS, ANALYZE_CHUNK_BITS, take_bits },
	{ BITMAP_BITS | BITMAP_ZEROES, ANALYZE_CHUNK_ZEROES, take_bits },
	{ BITMAP_COMPLETE, ANALYZE_CHUNK_COMPLETE, take_complete },
};

static bool take_chunk(struct analyzer *a, uint64_t offset, uint8_t flags)
{
	struct analyze_chunk chunk = { .offset = offset };
	size_t i = 0;

	while (i < ARRAY_SIZE(kinds) &&
	       kinds[i].flags != (flags & ~(BITMAP_HAS_NODE | BITMAP_HAS_NAME)))
		i++;
	if (i == ARRAY_SIZE(kinds))
		return analyze_fail(
			a, offset, "dirty-bitmap: flags 0x%02x, expected one kind of chunk", flags);
	chunk.kind = kinds[i].kind;
	if (!take_names(a, offset, flags))
		return false;
	if (!a->last_bitmap && chunk.kind != ANALYZE_CHUNK_START)
		return analyze_fail(a, offset,
				    "dirty-bitmap: a chunk of '%s' of '%s', expected its start "
				    "before",
				    a->bitmap_name, a->node);
	if (!kinds[i].take(a, offset, &chunk))
		return false;
	chunk.bytes = analyze_position(a) - offset;
	chunk.bitmap = a->last_bitmap;
	a->last_bitmap->bytes += chunk.bytes;
	if (a->v->chunk)
		a->v->chunk(a->v->opaque, &chunk);
	return true;
}

bool analyze_bitmaps(struct analyzer *a)
{
	for (;;) {
		uint64_t offset = analyze_position(a);
		uint8_t flags;

		if (!analyze_take_u8(a, &flags))
			return false;
		if (flags == BITMAP_EOS)
			return true;
		if (!take_chunk(a, offset, flags))
			return false;
	}
}
