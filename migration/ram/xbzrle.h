/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XBZRLE: a page as the difference to its older self.
 *
 *	page = (zrun nzrun)+    zrun  = uleb128 count of equal bytes
 *	                        nzrun = uleb128 count of changed bytes, then the new bytes
 *
 * Counts take one or two bytes (at most 16383). Only the first zrun may be 0, no nzrun may; an equal run at the end is left out.
 *
 * Example: 1001 equal bytes, 15 new ones (01 .. 0f), 3 equal, 1 new, 1 equal, 1 new, the rest equal:
 *	e9 07 0f 01 02 .. 0f 03 01 67 01 01 69	(24 bytes)
 *
 * Names and results are those in use in the field, so that public test suites of this format can be held against it; buffers that
 * are only read are const here.
 *
 * Source: stream format, section 3. Pure functions; the old and the new page must not change meanwhile, so a running guest's page
 * is copied first.
 */
#ifndef FERRY_RAM_XBZRLE_H
#define FERRY_RAM_XBZRLE_H

#include <stddef.h>
#include <stdint.h>

#define XBZRLE_UNCHANGED 0
#define XBZRLE_OVERFLOW (-1)
#define ULEB128_SMALL_MAX 0x3fff
#define XBZRLE_MAX_PAGE ULEB128_SMALL_MAX

/* Encode the difference of two pages of slen bytes (0 to XBZRLE_MAX_PAGE) into dst, which has room for dlen. The encoding's length;
 * or XBZRLE_UNCHANGED; or XBZRLE_OVERFLOW where it does not fit. Nothing is written beyond dlen; where it does not fit, what lies
 * before is undefined. */
int xbzrle_encode_buffer(const uint8_t *old_buf, const uint8_t *new_buf, int slen, uint8_t *dst,
			 int dlen);
/* Apply an encoding of slen bytes, from anybody, to the page of dlen bytes in dst. How many bytes of the page it covers (0 for an
 * empty encoding; what lies behind stays as it is), or -1 where it is malformed, cut off, or reaches beyond the page, or where a
 * length is negative; dst may then be partly changed. Nothing outside the two buffers is read or written. */
int xbzrle_decode_buffer(const uint8_t *src, int slen, uint8_t *dst, int dlen);

/* n, at most ULEB128_SMALL_MAX, in one or two bytes of out; returns how many. The shortest form is written. */
int uleb128_encode_small(uint8_t *out, uint32_t n);
/* The number at in, of one or two bytes; returns how many, or -1, with *n 0, where there would be a third. It is told no length: it
 * reads in[1] if in[0] has its top bit set, and only then, so the caller makes sure that in[1] is there in that case. */
int uleb128_decode_small(const uint8_t *in, uint32_t *n);

#endif
