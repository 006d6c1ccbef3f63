/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the saving and the loading side of section "dirty-bitmap" share. Source: docs/stream-format.md, "dirty-bitmap". */
#ifndef FERRY_BITMAPS_FORMAT_H
#define FERRY_BITMAPS_FORMAT_H

#include <stdint.h>

#define BITMAP_SECTION_NAME "dirty-bitmap"
#define BITMAP_SECTION_VERSION 1

/* The first byte of a chunk. */
#define BITMAP_EOS 0x01
#define BITMAP_ZEROES 0x02
#define BITMAP_HAS_NAME 0x04
#define BITMAP_HAS_NODE 0x08
#define BITMAP_START 0x10
#define BITMAP_COMPLETE 0x20
#define BITMAP_BITS 0x40

/* Of START. */
#define BITMAP_ENABLED 0x01
#define BITMAP_PERSISTENT 0x02

#define BITMAP_SECTOR 512u
#define BITMAP_CHUNK_BITS 8192
/* A chunk's bits in bytes are a multiple of this. */
#define BITMAP_BUF_ALIGN 32u

/* Bits a chunk, of a granularity in bytes: fewer where the chunk's sectors would not fit in 32 bits. */
static inline int bitmap_chunk_bits(uint64_t granularity)
{
	uint64_t sectors = granularity / BITMAP_SECTOR;
	int bits = BITMAP_CHUNK_BITS;

	while (sectors * (uint64_t)bits > UINT32_MAX)
		bits /= 2;
	return bits;
}

#endif
