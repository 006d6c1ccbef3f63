/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hierarchical bitmap as a whole: merge, truncate, serialization, meta bitmap. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/hbitmap.h"
#include "vmm/base/hbitmap_levels.h"

/* --- merge --- */

/* Or a value into word w; the levels above are told by the caller. */
static void merge_word(HBitmap *to, uint64_t w, uint64_t value)
{
	uint64_t *word = &to->levels[LAST][w];
	uint64_t add = value & ~*word, bit = w << WORD_SHIFT;

	if (!add)
		return;
	*word |= add;
	to->count += hbitmap_ones(add);
	if (to->meta)
		hbitmap_touch_meta(to, bit + (uint64_t)__builtin_ctzll(add),
				   bit + WORD_BITS - 1 - (uint64_t)__builtin_clzll(add));
}

/* Of one granularity: word by word, and only those of `from` with something in them. */
static void merge_words(HBitmap *to, const HBitmap *from)
{
	for (uint64_t g = 0; (g = hbitmap_next_at(from, LAST - 2, g)) != NO_BIT; g++) {
		uint64_t group = from->levels[LAST - 1][g];

		for (uint64_t left = group; left; left &= left - 1) {
			uint64_t w = (g << WORD_SHIFT) + (uint64_t)__builtin_ctzll(left);

			merge_word(to, w, from->levels[LAST][w]);
		}
		hbitmap_words_woke(to, g, group);
	}
}

/* Of another granularity: run by run. Behind a run goes on with `to`'s next grain, as all of the one before is set now. */
static void merge_runs(HBitmap *to, const HBitmap *from)
{
	uint64_t grain = UINT64_C(1) << to->granularity, start = 0;
	int64_t first, n;

	while (start < from->size &&
	       hbitmap_next_dirty_area(from, (int64_t)start, INT64_MAX, INT64_MAX, &first, &n)) {
		hbitmap_set(to, (uint64_t)first, (uint64_t)n);
		start = align_up((uint64_t)(first + n), grain);
	}
}

static void merge_into(HBitmap *to, const HBitmap *from)
{
	if (to->granularity == from->granularity)
		merge_words(to, from);
	else
		merge_runs(to, from);
}

void hbitmap_merge(const HBitmap *a, const HBitmap *b, HBitmap *result)
{
	assert(!a->loading && !b->loading && !result->loading);
	assert(a->size == result->size && b->size == result->size);
	if (a != result && b != result)
		hbitmap_reset_all(result);
	if (a != result)
		merge_into(result, a);
	if (b != result && b != a)
		merge_into(result, b);
}

/* --- truncate --- */

/* More words for each level that grows, all or none; where none grows nothing can fail. */
static bool grow_levels(const HBitmap *hb, const uint64_t words[HBITMAP_LEVELS],
			uint64_t *grown[HBITMAP_LEVELS])
{
	for (int i = 0; i < HBITMAP_LEVELS; i++) {
		grown[i] = NULL;
		if (words[i] <= hb->words[i])
			continue;
		grown[i] = calloc(words[i], sizeof(uint64_t));
		if (!grown[i]) {
			while (i-- > 0)
				free(grown[i]);
			return false;
		}
	}
	return true;
}

static void replace_level(HBitmap *hb, int level, uint64_t *grown, uint64_t words)
{
	uint64_t *old = hb->levels[level];

	if (grown) {
		/* Zeroes are there already; not writing them keeps pages that nobody has touched from being made. */
		for (uint64_t w = 0; w < hb->words[level]; w++)
			if (old[w])
				grown[w] = old[w];
		free(old);
		hb->levels[level] = grown;
	} else if (words < hb->words[level]) {
		grown = realloc(old, words * sizeof(uint64_t));
		hb->levels[level] = grown ? grown : old;
	}
	hb->words[level] = words;
}

bool hbitmap_truncate(HBitmap *hb, uint64_t size)
{
	uint64_t bits, words[HBITMAP_LEVELS];
	uint64_t *grown[HBITMAP_LEVELS];

	assert(!hb->loading);
	if (!hbitmap_shape(size, hb->granularity, &bits, words) || !grow_levels(hb, words, grown))
		return false;
	if (bits < hb->bits) {
		uint64_t had = hbitmap_clear_bits(hb, bits, hb->bits - 1);

		hb->count -= had;
		if (had)
			hbitmap_touch_meta(hb, bits, hb->bits - 1);
	}
	/* The meta bitmap grows and shrinks with this one: if it fails, no bit was cleared above. */
	if (hb->meta && !hbitmap_truncate(hb->meta, size)) {
		for (int i = 0; i < HBITMAP_LEVELS; i++)
			free(grown[i]);
		return false;
	}
	for (int i = 0; i < HBITMAP_LEVELS; i++)
		replace_level(hb, i, grown[i], words[i]);
	hb->size = size;
	hb->bits = bits;
	return true;
}

/* --- serialization --- */

bool hbitmap_is_serializable(const HBitmap *hb)
{
	return hb->granularity <= 63 - WORD_SHIFT;
}

uint64_t hbitmap_serialization_align(const HBitmap *hb)
{
	assert(hbitmap_is_serializable(hb));
	return (uint64_t)WORD_BITS << hb->granularity;
}

bool hbitmap_is_part(const HBitmap *hb, uint64_t start, uint64_t count)
{
	uint64_t align;

	if (!hbitmap_is_serializable(hb) || !range_within(start, count, hb->size))
		return false;
	align = hbitmap_serialization_align(hb);
	return is_aligned(start, align) && (is_aligned(count, align) || start + count == hb->size);
}

/* The words that a part covers: *first and how many. */
static uint64_t part_words(const HBitmap *hb, uint64_t start, uint64_t count, uint64_t *first)
{
	assert(hbitmap_is_part(hb, start, count));
	*first = (start >> hb->granularity) >> WORD_SHIFT;
	if (!count)
		return 0;
	return (((start + count - 1) >> hb->granularity) >> WORD_SHIFT) - *first + 1;
}

uint64_t hbitmap_serialization_size(const HBitmap *hb, uint64_t start, uint64_t count)
{
	uint64_t first;

	return part_words(hb, start, count, &first) * sizeof(uint64_t);
}

/* Bit n of the word is bit n % 8 of byte n / 8: said byte by byte, so that no host's byte order or word size has a part in it. (A
 * compiler makes one access of it where that is the same.) */
static void put_word(uint8_t *to, uint64_t word)
{
	to[0] = (uint8_t)word;
	to[1] = (uint8_t)(word >> 8);
	to[2] = (uint8_t)(word >> 16);
	to[3] = (uint8_t)(word >> 24);
	to[4] = (uint8_t)(word >> 32);
	to[5] = (uint8_t)(word >> 40);
	to[6] = (uint8_t)(word >> 48);
	to[7] = (uint8_t)(word >> 56);
}

static uint64_t get_word(const uint8_t *from)
{
	return (uint64_t)from[0] | (uint64_t)from[1] << 8 | (uint64_t)from[2] << 16 |
	       (uint64_t)from[3] << 24 | (uint64_t)from[4] << 32 | (uint64_t)from[5] << 40 |
	       (uint64_t)from[6] << 48 | (uint64_t)from[7] << 56;
}

void hbitmap_serialize_part(const HBitmap *hb, uint8_t *buf, uint64_t start, uint64_t count)
{
	uint64_t first, n = part_words(hb, start, count, &first);

	for (uint64_t i = 0; i < n; i++)
		put_word(buf + i * sizeof(uint64_t), hb->levels[LAST][first + i]);
}

/* What comes from elsewhere may have anything beyond the end: of word w only what lies before it. */
static uint64_t cut_word(const HBitmap *hb, uint64_t w, uint64_t value)
{
	uint64_t left = hb->bits - (w << WORD_SHIFT);

	return left < WORD_BITS ? value & ~UINT64_C(0) >> (WORD_BITS - left) : value;
}

/* The words of a part: from buf, or where that is NULL all like `fill`. */
static void deserialize(HBitmap *hb, const uint8_t *buf, uint64_t fill, uint64_t start,
			uint64_t count, bool finish)
{
	uint64_t first, n = part_words(hb, start, count, &first);
	uint64_t end = MIN_OF((first + n) << WORD_SHIFT, hb->bits);
	bool changed = false;

	hb->loading = true;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t *word = &hb->levels[LAST][first + i];
		uint64_t next = buf ? get_word(buf + i * sizeof(uint64_t)) : fill;

		next = cut_word(hb, first + i, next);
		if (*word == next)
			continue; /* a page of zeroes that nobody has touched stays so */
		*word = next;
		changed = true;
	}
	if (changed)
		hbitmap_touch_meta(hb, first << WORD_SHIFT, end - 1);
	if (finish)
		hbitmap_deserialize_finish(hb);
}

void hbitmap_deserialize_part(HBitmap *hb, const uint8_t *buf, uint64_t start, uint64_t count,
			      bool finish)
{
	deserialize(hb, buf, 0, start, count, finish);
}

void hbitmap_deserialize_zeroes(HBitmap *hb, uint64_t start, uint64_t count, bool finish)
{
	deserialize(hb, NULL, 0, start, count, finish);
}

void hbitmap_deserialize_ones(HBitmap *hb, uint64_t start, uint64_t count, bool finish)
{
	deserialize(hb, NULL, ~UINT64_C(0), start, count, finish);
}

void hbitmap_assign_part(HBitmap *hb, const uint8_t *buf, uint64_t start, uint64_t count)
{
	uint64_t first, n = part_words(hb, start, count, &first);
	bool changed = false;

	assert(!hb->loading);
	for (uint64_t w = first; w < first + n; w++) {
		uint64_t *word = &hb->levels[LAST][w], was = *word;
		uint64_t next = cut_word(hb, w, get_word(buf + (w - first) * sizeof(uint64_t)));

		if (was == next)
			continue;
		*word = next;
		hb->count += hbitmap_ones(next);
		hb->count -= hbitmap_ones(was);
		if (!was)
			hbitmap_words_woke(hb, w >> WORD_SHIFT, UINT64_C(1) << (w % WORD_BITS));
		else if (!next)
			hbitmap_word_fell_asleep(hb, w);
		changed = true;
	}
	if (changed)
		hbitmap_touch_meta(hb, first << WORD_SHIFT,
				   MIN_OF((first + n) << WORD_SHIFT, hb->bits) - 1);
}

/* One word of a level: which of the 64 words below it are not zero? */
static uint64_t word_above(const uint64_t *below, uint64_t n)
{
	uint64_t word = 0;

	for (uint64_t i = 0; i < MIN_OF(n, WORD_BITS); i++)
		word |= (uint64_t)(below[i] != 0) << i;
	return word;
}

void hbitmap_deserialize_finish(HBitmap *hb)
{
	hb->count = 0;
	for (uint64_t w = 0; w < hb->words[LAST]; w++)
		hb->count += hbitmap_ones(hb->levels[LAST][w]);
	for (int i = LAST - 1; i >= 0; i--) {
		for (uint64_t w = 0; w < hb->words[i]; w++) {
			uint64_t below = w << WORD_SHIFT;

			hb->levels[i][w] =
				word_above(hb->levels[i + 1] + below, hb->words[i + 1] - below);
		}
	}
	hb->levels[0][0] |= SENTINEL;
	hb->loading = false;
}

/* --- meta bitmap --- */

void hbitmap_touch_meta(HBitmap *hb, uint64_t first, uint64_t last)
{
	uint64_t start = first << hb->granularity;
	uint64_t end = MIN_OF((last + 1) << hb->granularity, hb->size);

	if (hb->meta)
		hbitmap_set(hb->meta, start, end - start);
}

HBitmap *hbitmap_create_meta(HBitmap *hb, int chunk_size)
{
	assert(chunk_size > 0 && !(chunk_size & (chunk_size - 1)) && !hb->meta);
	hb->meta =
		hbitmap_alloc(hb->size, hb->granularity + __builtin_ctz((unsigned int)chunk_size));
	return hb->meta;
}

void hbitmap_free_meta(HBitmap *hb)
{
	hbitmap_free(hb->meta);
	hb->meta = NULL;
}
