/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the hierarchical bitmap share: its levels, and the walks over them. For hbitmap*.c and their tests alone.
 */
#ifndef FERRY_BASE_HBITMAP_LEVELS_H
#define FERRY_BASE_HBITMAP_LEVELS_H

#include "vmm/base/hbitmap.h"

#define WORD_BITS 64
#define WORD_SHIFT 6
#define LAST (HBITMAP_LEVELS - 1)
/* At most 32 words of level 1 exist, so bit 63 of level 0 stands for none. */
#define SENTINEL (UINT64_C(1) << (WORD_BITS - 1))
#define NO_BIT UINT64_MAX

struct HBitmap {
	uint64_t size; /* items */
	int granularity;
	bool loading; /* parts have come, deserialize_finish() has not: only the last level is right */
	uint64_t bits;	/* of the last level */
	uint64_t count; /* set bits */
	uint64_t words[HBITMAP_LEVELS];
	uint64_t *levels[HBITMAP_LEVELS];
	HBitmap *meta;
};

/* Can there be a bitmap like this? *bits and *words, of each level (none is empty), tell how large it is. */
bool hbitmap_shape(uint64_t size, int granularity, uint64_t *bits, uint64_t words[HBITMAP_LEVELS]);

/* The first set bit of a level at or after pos, which is not behind the level's last word by more than one bit, or NO_BIT. In the
 * level above the last one this is the next word that is not zero. */
uint64_t hbitmap_next_at(const HBitmap *hb, int level, uint64_t pos);

/* The words of the last level that the mask names, out of the 64 from 64 * group on, are not zero: tell the levels above. */
void hbitmap_words_woke(HBitmap *hb, uint64_t group, uint64_t mask);

/* Word w of the last level has become zero: tell the levels above. */
void hbitmap_word_fell_asleep(HBitmap *hb, uint64_t w);

/* Clear bits first..last of the last level, and all that follows from it but for the meta bitmap. How many were set. */
uint64_t hbitmap_clear_bits(HBitmap *hb, uint64_t first, uint64_t last);

/* Bits first..last have changed, or may have. */
void hbitmap_touch_meta(HBitmap *hb, uint64_t first, uint64_t last);

/* The set bits of a word. Most words of a bitmap that is not small are all zero or all ones; and x86-64 has an instruction for the others
 * only by way of an option, without which the compiler's own is a call. */
static inline unsigned int hbitmap_ones(uint64_t word)
{
	if (!word)
		return 0;
	if (!~word)
		return WORD_BITS;
	word -= word >> 1 & 0x5555555555555555;
	word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return (unsigned int)(word * 0x0101010101010101 >> 56);
}

#endif
