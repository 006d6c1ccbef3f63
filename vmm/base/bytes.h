/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integers as bytes in a stated order, at any alignment, on any host; and arithmetic that reports overflow.
 * Everything here is pure.
 */
#ifndef FERRY_BASE_BYTES_H
#define FERRY_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_DEFINE(bits, order, to, from)                                   \
	static inline void put_##order##bits(void *dst, uint##bits##_t value) \
	{                                                                     \
		uint##bits##_t wire = to(value);                              \
		memcpy(dst, &wire, sizeof(wire));                             \
	}                                                                     \
	static inline uint##bits##_t get_##order##bits(const void *src)       \
	{                                                                     \
		uint##bits##_t wire;                                          \
		memcpy(&wire, src, sizeof(wire));                             \
		return from(wire);                                            \
	}

BYTES_DEFINE(16, be, htobe16, be16toh)
BYTES_DEFINE(32, be, htobe32, be32toh)
BYTES_DEFINE(64, be, htobe64, be64toh)
BYTES_DEFINE(16, le, htole16, le16toh)
BYTES_DEFINE(32, le, htole32, le32toh)
BYTES_DEFINE(64, le, htole64, le64toh)
#undef BYTES_DEFINE

/* Does [start, start + length) lie inside [0, limit)? No sum is formed that could wrap. */
static inline bool range_within(uint64_t start, uint64_t length, uint64_t limit)
{
	return start <= limit && length <= limit - start;
}

/* Is a + b representable? On true *sum holds it. */
static inline bool add_fits(uint64_t a, uint64_t b, uint64_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

static inline bool mul_fits(uint64_t a, uint64_t b, uint64_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* align is a power of two. align_up wraps to 0 above the last multiple: check the operand's range first. */
static inline uint64_t align_down(uint64_t value, uint64_t align)
{
	return value & ~(align - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t align)
{
	return align_down(value + align - 1, align);
}

static inline bool is_aligned(uint64_t value, uint64_t align)
{
	return !(value & (align - 1));
}

static inline uint64_t div_round_up(uint64_t n, uint64_t d)
{
	return n / d + !!(n % d);
}

#endif
