/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hierarchical bitmap's levels: setting and clearing ranges, and searching. What works on a bitmap as a whole (merge, truncate,
 * serialization, meta bitmap) is in hbitmap_whole.c.
 */
#include "vmm/base/hbitmap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/hbitmap_levels.h"

bool hbitmap_shape(uint64_t size, int granularity, uint64_t *bits, uint64_t words[HBITMAP_LEVELS])
{
	uint64_t n;

	if (granularity < 0 || granularity > 63 || size > INT64_MAX)
		return false;
	n = size ? ((size - 1) >> granularity) + 1 : 0;
	if (n > UINT64_C(1) << HBITMAP_LOG_MAX_BITS)
		return false;
	*bits = n;
	for (int i = LAST; i >= 0; i--) {
		n = MAX_OF(div_round_up(n, WORD_BITS), UINT64_C(1));
		words[i] = n;
	}
	return true;
}

HBitmap *hbitmap_alloc(uint64_t size, int granularity)
{
	HBitmap *hb = calloc(1, sizeof(*hb));

	if (!hb)
		return NULL;
	hb->size = size;
	hb->granularity = granularity;
	if (!hbitmap_shape(size, granularity, &hb->bits, hb->words)) {
		free(hb);
		return NULL;
	}
	for (int i = 0; i < HBITMAP_LEVELS; i++) {
		hb->levels[i] = calloc(hb->words[i], sizeof(uint64_t));
		if (!hb->levels[i]) {
			hbitmap_free(hb);
			return NULL;
		}
	}
	hb->levels[0][0] |= SENTINEL;
	return hb;
}

void hbitmap_free(HBitmap *hb)
{
	if (!hb)
		return;
	hbitmap_free(hb->meta);
	for (int i = 0; i < HBITMAP_LEVELS; i++)
		free(hb->levels[i]);
	free(hb);
}

uint64_t hbitmap_size(const HBitmap *hb)
{
	return hb->size;
}

int hbitmap_granularity(const HBitmap *hb)
{
	return hb->granularity;
}

bool hbitmap_empty(const HBitmap *hb)
{
	return hbitmap_count(hb) == 0;
}

uint64_t hbitmap_count(const HBitmap *hb)
{
	assert(!hb->loading);
	return hb->count << hb->granularity;
}

bool hbitmap_get(const HBitmap *hb, uint64_t item)
{
	uint64_t bit = item >> hb->granularity;

	assert(!hb->loading && item < hb->size);
	return hb->levels[LAST][bit >> WORD_SHIFT] >> (bit % WORD_BITS) & 1;
}

/* --- ranges --- */

/* Bits from..to (inclusive) of the word they both lie in. */
static uint64_t mask_between(uint64_t from, uint64_t to)
{
	return (~UINT64_C(0) << (from % WORD_BITS)) &
	       (~UINT64_C(0) >> (WORD_BITS - 1 - to % WORD_BITS));
}

/* The mask of word w for the bits first..last. */
static uint64_t mask_of_word(uint64_t w, uint64_t first, uint64_t last)
{
	return mask_between(w == first >> WORD_SHIFT ? first : 0,
			    w == last >> WORD_SHIFT ? last : WORD_BITS - 1);
}

/* Set the mask's bits of a word. Added to *fresh: how many were clear. Has the word become other than zero? */
static inline bool set_in_word(uint64_t *word, uint64_t mask, uint64_t *fresh)
{
	uint64_t was = *word;

	if (!(mask & ~was))
		return false;
	*fresh += hbitmap_ones(mask & ~was);
	*word = was | mask;
	return !was;
}

/* Set bits first..last of one level. Added to *fresh: how many were clear. Has any word become other than zero? */
static bool set_in_level(uint64_t *words, uint64_t first, uint64_t last, uint64_t *fresh)
{
	uint64_t from = first >> WORD_SHIFT, to = last >> WORD_SHIFT;
	bool woke = set_in_word(&words[from], mask_of_word(from, first, last), fresh);

	for (uint64_t w = from + 1; w < to; w++)
		woke |= set_in_word(&words[w], ~UINT64_C(0), fresh);
	if (to > from)
		woke |= set_in_word(&words[to], mask_of_word(to, first, last), fresh);
	return woke;
}

/* Set bits first..last; how many were clear. Every word of a range has a set bit then, so above it is a range as well; where no word
 * woke, the levels above know. */
static uint64_t set_bits(HBitmap *hb, uint64_t first, uint64_t last)
{
	uint64_t fresh = 0, above = 0;
	bool woke = set_in_level(hb->levels[LAST], first, last, &fresh);

	for (int level = LAST - 1; woke && level >= 0; level--) {
		first >>= WORD_SHIFT;
		last >>= WORD_SHIFT;
		woke = set_in_level(hb->levels[level], first, last, &above);
	}
	return fresh;
}

void hbitmap_words_woke(HBitmap *hb, uint64_t group, uint64_t mask)
{
	bool woke = true;

	for (int level = LAST - 1; woke && level >= 0; level--) {
		uint64_t *word = &hb->levels[level][group];

		woke = !*word;
		*word |= mask;
		mask = UINT64_C(1) << (group % WORD_BITS);
		group >>= WORD_SHIFT;
	}
}

/* The sentinel keeps level 0 from ever being zero. */
void hbitmap_word_fell_asleep(HBitmap *hb, uint64_t w)
{
	uint64_t *word;
	int level = LAST;

	do {
		word = &hb->levels[--level][w >> WORD_SHIFT];
		*word &= ~(UINT64_C(1) << (w % WORD_BITS));
		w >>= WORD_SHIFT;
	} while (!*word);
}

uint64_t hbitmap_clear_bits(HBitmap *hb, uint64_t first, uint64_t last)
{
	uint64_t had = 0;

	/* Only words with something in them are visited. */
	for (uint64_t w = first >> WORD_SHIFT;; w++) {
		uint64_t drop;

		w = hbitmap_next_at(hb, LAST - 1, w);
		if (w > last >> WORD_SHIFT) /* or NO_BIT */
			return had;
		drop = hb->levels[LAST][w] & mask_of_word(w, first, last);
		had += hbitmap_ones(drop);
		hb->levels[LAST][w] &= ~drop;
		if (!hb->levels[LAST][w])
			hbitmap_word_fell_asleep(hb, w);
	}
}

void hbitmap_set(HBitmap *hb, uint64_t start, uint64_t count)
{
	uint64_t first, last, fresh;

	assert(!hb->loading);
	if (!count)
		return;
	assert(range_within(start, count, hb->size));
	first = start >> hb->granularity;
	last = (start + count - 1) >> hb->granularity;
	fresh = set_bits(hb, first, last);
	hb->count += fresh;
	if (fresh)
		hbitmap_touch_meta(hb, first, last);
}

void hbitmap_reset(HBitmap *hb, uint64_t start, uint64_t count)
{
	uint64_t grain = UINT64_C(1) << hb->granularity;
	uint64_t first, last, had;

	assert(!hb->loading);
	if (!count)
		return;
	assert(range_within(start, count, hb->size));
	assert(is_aligned(start, grain) && (is_aligned(count, grain) || start + count == hb->size));
	first = start >> hb->granularity;
	last = (start + count - 1) >> hb->granularity;
	had = hbitmap_clear_bits(hb, first, last);
	hb->count -= had;
	if (had)
		hbitmap_touch_meta(hb, first, last);
}

void hbitmap_reset_all(HBitmap *hb)
{
	if (hb->loading) {
		/* The upper levels cannot guide anybody; with no bit left they are right again. */
		memset(hb->levels[LAST], 0, hb->words[LAST] * sizeof(uint64_t));
		hbitmap_deserialize_finish(hb);
	} else if (hb->count) {
		hbitmap_clear_bits(hb, 0, hb->bits - 1);
		hb->count = 0;
	} else {
		return;
	}
	if (hb->bits)
		hbitmap_touch_meta(hb, 0, hb->bits - 1);
}

/* --- searches --- */

uint64_t hbitmap_next_at(const HBitmap *hb, int bottom, uint64_t pos)
{
	int level = bottom;
	uint64_t w, word;

	/* Up, until a word has something at or behind pos: in level 0 at the latest, by the sentinel. */
	for (;; level--) {
		w = pos >> WORD_SHIFT;
		word = w < hb->words[level]
			       ? hb->levels[level][w] & (~UINT64_C(0) << (pos % WORD_BITS))
			       : 0;
		if (word)
			break;
		pos = w + 1;
	}
	if (level == 0 && word == SENTINEL)
		return NO_BIT;
	pos = (w << WORD_SHIFT) + (uint64_t)__builtin_ctzll(word);
	/* Down, to the first bit below. */
	while (level < bottom) {
		level++;
		pos = (pos << WORD_SHIFT) + (uint64_t)__builtin_ctzll(hb->levels[level][pos]);
	}
	return pos;
}

/* The first set bit in [bit, end), or end. */
static uint64_t next_set(const HBitmap *hb, uint64_t bit, uint64_t end)
{
	return bit < end ? MIN_OF(hbitmap_next_at(hb, LAST, bit), end) : end;
}

/* The first zero bit in [bit, end), or end. The levels above do not help: they tell of words that are not zero. */
static uint64_t next_clear(const HBitmap *hb, uint64_t bit, uint64_t end)
{
	const uint64_t *words = hb->levels[LAST];
	uint64_t w = bit >> WORD_SHIFT;
	uint64_t zeroes;

	if (bit >= end)
		return end;
	zeroes = ~words[w] & (~UINT64_C(0) << (bit % WORD_BITS));
	while (!zeroes) {
		if (++w > (end - 1) >> WORD_SHIFT)
			return end;
		zeroes = ~words[w];
	}
	return MIN_OF((w << WORD_SHIFT) + (uint64_t)__builtin_ctzll(zeroes), end);
}

void hbitmap_iter_init(HBitmapIter *hbi, const HBitmap *hb, uint64_t first)
{
	*hbi = (HBitmapIter){ hb, first >> hb->granularity };
}

int64_t hbitmap_iter_next(HBitmapIter *hbi)
{
	const HBitmap *hb = hbi->hb;
	uint64_t bit;

	assert(!hb->loading);
	bit = next_set(hb, hbi->bit, hb->bits);
	if (bit == hb->bits)
		return -1;
	hbi->bit = bit + 1;
	return (int64_t)(bit << hb->granularity);
}

/* The end of [start, start + count), cut at the bitmap's. */
static uint64_t end_of(const HBitmap *hb, int64_t start, int64_t count)
{
	uint64_t from = (uint64_t)start;

	assert(!hb->loading && start >= 0 && count >= 0);
	return from < hb->size ? from + MIN_OF((uint64_t)count, hb->size - from) : hb->size;
}

static int64_t next_in(const HBitmap *hb, int64_t start, int64_t count,
		       uint64_t (*next)(const HBitmap *hb, uint64_t bit, uint64_t end))
{
	uint64_t end = end_of(hb, start, count), from = (uint64_t)start;
	uint64_t bit, end_bit;

	if (from >= end)
		return -1;
	end_bit = ((end - 1) >> hb->granularity) + 1;
	bit = next(hb, from >> hb->granularity, end_bit);
	/* The first grain begins before start, maybe. */
	return bit < end_bit ? (int64_t)MAX_OF(bit << hb->granularity, from) : -1;
}

int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count)
{
	return next_in(hb, start, count, next_set);
}

int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count)
{
	return next_in(hb, start, count, next_clear);
}

bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max_dirty_count,
			     int64_t *dirty_start, int64_t *dirty_count)
{
	int64_t first, zero, limit;

	assert(start >= 0 && end >= 0 && max_dirty_count > 0);
	end = (int64_t)MIN_OF((uint64_t)end, hb->size);
	if (start >= end)
		return false;
	first = hbitmap_next_dirty(hb, start, end - start);
	if (first < 0)
		return false;
	limit = MIN_OF(end - first, max_dirty_count);
	zero = hbitmap_next_zero(hb, first, limit);
	*dirty_start = first;
	*dirty_count = zero < 0 ? limit : zero - first;
	return true;
}

bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count, int64_t *pnum)
{
	bool set = hbitmap_get(hb, (uint64_t)start);
	int64_t other =
		set ? hbitmap_next_zero(hb, start, count) : hbitmap_next_dirty(hb, start, count);

	assert(count > 0);
	*pnum = (other < 0 ? (int64_t)end_of(hb, start, count) : other) - start;
	return set;
}
