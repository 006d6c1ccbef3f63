/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A flat bitmap: bit n is bit n % 64 of word n / 64.
 *
 * This is KVM's own layout for dirty logs on a little-endian host, so a log is merged word by word. The bitmap
 * carries its number of set bits, kept exact by every operation; bits at and above `bits` are always zero. One
 * thread at a time, except bitmap_set_atomic on a plain word array.
 *
 * Example: bits = 70, set(64, 6): words = { 0, 0x3f }, count = 6; next_set(0) = 64, next_set(70) = 70 = "none".
 *
 * It does not search in less than one read per word: a sparse search over billions of bits wants the hierarchical
 * bitmap.
 */
#ifndef FERRY_BASE_BITMAP_H
#define FERRY_BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_WORD_BITS 64

struct bitmap {
	uint64_t *words; /* owned */
	uint64_t bits;	 /* valid bits */
	uint64_t count;	 /* bits that are set */
};

static inline uint64_t bitmap_words(uint64_t bits)
{
	return bits / BITMAP_WORD_BITS + !!(bits % BITMAP_WORD_BITS);
}

/* All zero. False where memory is out; the bitmap is then empty and may be released. */
bool bitmap_init(struct bitmap *bm, uint64_t bits);
void bitmap_release(struct bitmap *bm);

bool bitmap_test(const struct bitmap *bm, uint64_t bit);
/* The bit's former value is returned. */
bool bitmap_test_and_set(struct bitmap *bm, uint64_t bit);
bool bitmap_test_and_clear(struct bitmap *bm, uint64_t bit);
void bitmap_set(struct bitmap *bm, uint64_t first, uint64_t n);
void bitmap_clear(struct bitmap *bm, uint64_t first, uint64_t n);

/* First bit at or after from that is set (is clear); bm->bits where there is none. */
uint64_t bitmap_next_set(const struct bitmap *bm, uint64_t from);
uint64_t bitmap_next_clear(const struct bitmap *bm, uint64_t from);

/* Or nwords words into the bitmap starting at word first_word; bits beyond the end are dropped. Returns how many
 * bits were newly set. */
uint64_t bitmap_merge(struct bitmap *bm, uint64_t first_word, const uint64_t *words,
		      uint64_t nwords);

/* On a plain array that several threads mark at once. */
static inline void bitmap_set_atomic(uint64_t *words, uint64_t bit)
{
	__atomic_fetch_or(&words[bit / BITMAP_WORD_BITS], 1ull << (bit % BITMAP_WORD_BITS),
			  __ATOMIC_RELAXED);
}

#endif
