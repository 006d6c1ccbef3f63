/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hierarchical bitmap: a very large, sparse bitmap that is searched in a few steps.
 *
 * `size` items, one bit for each 2^granularity of them (a grain). Seven levels of 64-bit words: bit n of a level says that word n of
 * the level below is not zero; the last level holds the bits themselves. A sentinel, the top bit of level 0, ends every search.
 *
 *	50 GiB in bytes, granularity 16: 819200 bits; levels of 1, 1, 1, 1, 4, 200, 12800 words.
 *	set(2292187136, 262144): bits 34976..34979: word 546 of the last level gets the mask 0xf00000000, word 8 of the one
 *	above 0x400000000, and so on upwards. get(2292187136) looks at mask 0x100000000 of word 546.
 *
 * Searching the next set bit looks at one word of the last level; if nothing is there it climbs until a word has something, and
 * descends: at most 13 reads. Clearing, merging and resetting visit only words with something in them; setting and searching a zero
 * go word by word. No function visits bit by bit.
 *
 * Invariants, outside a deserialization: an upper bit is set if and only if its word is not zero; bits beyond the end are
 * zero; `count` is the number of set bits. Between deserialize_part() and deserialize_finish() only the last level is right:
 * besides the deserialize functions only free(), reset_all() (which ends it) and what asks for shape may be called; the others assert.
 *
 * A range given in items is widened to whole grains by set (an item's bit stands for its neighbours, too). reset would lose
 * dirtiness that way: its range must be aligned to the granularity, except at the end, which is asserted.
 *
 * Lengths and sizes are at most INT64_MAX, so that an item fits in the searches' results. Asserts are about our own calls. What a
 * stream says is checked with alloc()'s and truncate()'s results, with is_part(), and by dropping stray bits.
 *
 * One thread. Names and signatures are those in use in the field, so that public test suites can be held against it. What differs:
 *	alloc() and create_meta() return NULL, and truncate() false, where others abort
 *	status() cuts its range at the end, where others assert; free_meta() without a meta bitmap does nothing
 *	deserialize_part() takes a const buffer, and parts show in the meta bitmap
 *	size(), is_part(), assign_part() are ours; there is no iter_next_word(), no sha256(), no can_merge() (sizes are equal, or it is asserted)
 */
#ifndef FERRY_BASE_HBITMAP_H
#define FERRY_BASE_HBITMAP_H

#include <stdbool.h>
#include <stdint.h>

#define HBITMAP_LEVELS 7
#define HBITMAP_LOG_MAX_BITS 41

typedef struct HBitmap HBitmap;

/* Honours resets that happen while it is under way, and sets ahead of it; it misses sets behind it. It survives a truncate. */
typedef struct HBitmapIter {
	const HBitmap *hb;
	uint64_t bit; /* the search goes on here */
} HBitmapIter;

/* All zero. NULL where there cannot be one: granularity is not 0..63, size exceeds INT64_MAX, or there would be more than 2^41
 * bits; or where memory is out. It takes size >> granularity >> 3 bytes and 1/63 more, which the system provides as they are
 * first written to. */
HBitmap *hbitmap_alloc(uint64_t size, int granularity);
/* Frees the meta bitmap as well. NULL is allowed. */
void hbitmap_free(HBitmap *hb);

uint64_t hbitmap_size(const HBitmap *hb);
int hbitmap_granularity(const HBitmap *hb);
bool hbitmap_empty(const HBitmap *hb);
/* Set items: set bits times 2^granularity, the last bit counted as whole. */
uint64_t hbitmap_count(const HBitmap *hb);
/* item is less than the size. */
bool hbitmap_get(const HBitmap *hb, uint64_t item);
/* [start, start + count) lies within the size; a count of 0 does nothing. */
void hbitmap_set(HBitmap *hb, uint64_t start, uint64_t count);
void hbitmap_reset(HBitmap *hb, uint64_t start, uint64_t count);
void hbitmap_reset_all(HBitmap *hb);

void hbitmap_iter_init(HBitmapIter *hbi, const HBitmap *hb, uint64_t first);
/* The next set bit's first item, or -1. */
int64_t hbitmap_iter_next(HBitmapIter *hbi);
/* The first item in [start, start + count) that is set (is zero), or -1. The range may reach beyond the end; count INT64_MAX does. */
int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count);
int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count);
/* The first run of set items in [start, end), at most max_dirty_count (at least 1) long. False: none, the outputs are untouched. */
bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max_dirty_count,
			     int64_t *dirty_start, int64_t *dirty_count);
/* Is `start`, less than the size, set? *pnum is how many items of [start, start + count) are like it, from start on; count > 0. */
bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count, int64_t *pnum);

/* result = a | b: what result had is lost, unless it is a or b, which it may be. All are of one size; granularities may differ. */
void hbitmap_merge(const HBitmap *a, const HBitmap *b, HBitmap *result);
/* Change the size; what is beyond a smaller one is lost, a larger one adds zeroes (a grain that both the old and the new size cut
 * stays as it is). False: there cannot be such a size, or memory is out, and nothing changed; a smaller size never fails. */
bool hbitmap_truncate(HBitmap *hb, uint64_t size);

/* Serialized is the last level, as one linear run of little-endian bits, whatever the host: bit n is bit n % 8 of byte n / 8.
 * It goes in parts, which start and end at multiples of hbitmap_serialization_align() items, except for the end of the last.
 * Each takes serialization_size() bytes, a multiple of 8; what is beyond the end is zero. A granularity above 57 is not serializable:
 * such a multiple would not fit in 64 bits. */
bool hbitmap_is_serializable(const HBitmap *hb);
uint64_t hbitmap_serialization_align(const HBitmap *hb);
/* May [start, start + count), from anybody, be serialized or deserialized as a part? The functions below assert it. */
bool hbitmap_is_part(const HBitmap *hb, uint64_t start, uint64_t count);
uint64_t hbitmap_serialization_size(const HBitmap *hb, uint64_t start, uint64_t count);
void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf, uint64_t start, uint64_t count);
/* finish: call hbitmap_deserialize_finish() behind it. Stray bits beyond the end are dropped; what no part covers stays. */
void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf, uint64_t start, uint64_t count,
			      bool finish);
void hbitmap_deserialize_zeroes(HBitmap *hb, uint64_t start, uint64_t count, bool finish);
void hbitmap_deserialize_ones(HBitmap *hb, uint64_t start, uint64_t count, bool finish);
/* Rebuilds the upper levels, the sentinel and the count: it reads all of the bitmap. */
void hbitmap_deserialize_finish(HBitmap *hb);
/* The same as deserialize_part(), but all is right at once, and the bitmap is not read: what few parts want. */
void hbitmap_assign_part(HBitmap *hb, const uint8_t *buf, uint64_t start, uint64_t count);

/* An older name. */
static inline uint64_t hbitmap_serialization_granularity(const HBitmap *hb)
{
	return hbitmap_serialization_align(hb);
}

/* A bitmap over hb's items, in which one bit stands for chunk_size (a power of two) bits of hb: set wherever hb changes. It may be
 * set where nothing changed, but not by a set of what is set or a reset of what is zero. Read and reset it as any other; it is
 * owned by hb and goes along with truncate(). NULL where memory is out, or chunk_size << granularity is 2^64 or more. */
HBitmap *hbitmap_create_meta(HBitmap *hb, int chunk_size);
void hbitmap_free_meta(HBitmap *hb);

#endif
