/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/base/bitmap.h"

#include <assert.h>
#include <stdlib.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

bool bitmap_init(struct bitmap *bm, uint64_t bits)
{
	*bm = (struct bitmap){ .words = calloc(bitmap_words(bits) + 1, sizeof(uint64_t)) };
	if (!bm->words)
		return false;
	bm->bits = bits;
	return true;
}

void bitmap_release(struct bitmap *bm)
{
	free(bm->words);
	*bm = (struct bitmap){ 0 };
}

bool bitmap_test(const struct bitmap *bm, uint64_t bit)
{
	assert(bit < bm->bits);
	return bm->words[bit / BITMAP_WORD_BITS] >> (bit % BITMAP_WORD_BITS) & 1;
}

bool bitmap_test_and_set(struct bitmap *bm, uint64_t bit)
{
	uint64_t mask = 1ull << (bit % BITMAP_WORD_BITS);
	uint64_t *word = &bm->words[bit / BITMAP_WORD_BITS];
	bool was = *word & mask;

	assert(bit < bm->bits);
	*word |= mask;
	bm->count += !was;
	return was;
}

bool bitmap_test_and_clear(struct bitmap *bm, uint64_t bit)
{
	uint64_t mask = 1ull << (bit % BITMAP_WORD_BITS);
	uint64_t *word = &bm->words[bit / BITMAP_WORD_BITS];
	bool was = *word & mask;

	assert(bit < bm->bits);
	*word &= ~mask;
	bm->count -= was;
	return was;
}

/* Bits lo..hi-1 of a word, 0 <= lo < hi <= 64. */
static uint64_t word_mask(unsigned int lo, unsigned int hi)
{
	return (~0ull << lo) & (~0ull >> (BITMAP_WORD_BITS - hi));
}

/* Walk the words of [first, first + n) and set or clear the part of each that lies inside. */
static void change_range(struct bitmap *bm, uint64_t first, uint64_t n, bool value)
{
	uint64_t bit = first;
	uint64_t end = first + n;

	assert(range_within(first, n, bm->bits));
	while (bit < end) {
		uint64_t *word = &bm->words[bit / BITMAP_WORD_BITS];
		unsigned int lo = bit % BITMAP_WORD_BITS;
		unsigned int hi = (unsigned int)MIN_OF(end - bit + lo, BITMAP_WORD_BITS);
		uint64_t mask = word_mask(lo, hi);

		if (value) {
			bm->count += (uint64_t)__builtin_popcountll(mask & ~*word);
			*word |= mask;
		} else {
			bm->count -= (uint64_t)__builtin_popcountll(mask & *word);
			*word &= ~mask;
		}
		bit += hi - lo;
	}
}

void bitmap_set(struct bitmap *bm, uint64_t first, uint64_t n)
{
	change_range(bm, first, n, true);
}

void bitmap_clear(struct bitmap *bm, uint64_t first, uint64_t n)
{
	change_range(bm, first, n, false);
}

/* The first bit at or after from whose value differs from the bits of flip. */
static uint64_t next_differing(const struct bitmap *bm, uint64_t from, uint64_t flip)
{
	uint64_t nwords = bitmap_words(bm->bits);
	uint64_t w = from / BITMAP_WORD_BITS;
	uint64_t word;
	uint64_t bit;

	if (from >= bm->bits)
		return bm->bits;
	word = (bm->words[w] ^ flip) & (~0ull << (from % BITMAP_WORD_BITS));
	while (!word) {
		if (++w == nwords)
			return bm->bits;
		word = bm->words[w] ^ flip;
	}
	bit = w * BITMAP_WORD_BITS + (uint64_t)__builtin_ctzll(word);
	return bit < bm->bits ? bit : bm->bits;
}

uint64_t bitmap_next_set(const struct bitmap *bm, uint64_t from)
{
	return next_differing(bm, from, 0);
}

uint64_t bitmap_next_clear(const struct bitmap *bm, uint64_t from)
{
	return next_differing(bm, from, ~0ull);
}

uint64_t bitmap_merge(struct bitmap *bm, uint64_t first_word, const uint64_t *words,
		      uint64_t nwords)
{
	uint64_t total = bitmap_words(bm->bits);
	uint64_t fresh = 0;
	uint64_t i;

	for (i = 0; i < nwords && first_word + i < total; i++) {
		uint64_t *word = &bm->words[first_word + i];
		uint64_t add = words[i];

		if (first_word + i == total - 1 && bm->bits % BITMAP_WORD_BITS)
			add &= ~0ull >> (BITMAP_WORD_BITS - bm->bits % BITMAP_WORD_BITS);
		add &= ~*word;
		if (!add)
			continue;
		fresh += (uint64_t)__builtin_popcountll(add);
		*word |= add;
	}
	bm->count += fresh;
	return fresh;
}
