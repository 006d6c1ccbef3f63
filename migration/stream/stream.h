/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A typed stream over a channel: big-endian integers, bytes, and runs of guest pages that are never copied.
 *
 * stream_out gathers what is put into an iovec: small items go into its own arena, pages are referred to where they
 * lie. One writev moves up to STREAM_BATCH bytes, because one system call per page costs half of a socket's speed.
 *
 *   put_u8 put_be64 put_ref(page) put_be64 put_ref(page)
 *   iov:   [arena 0..8] [page] [arena 9..16] [page]
 *
 * Errors are sticky: after the first, puts do nothing and gets give zeroes; the caller asks once, at a point where
 * stopping makes sense, with stream_out_ok() or stream_in_ok(). One thread at a time each.
 */
#ifndef FERRY_STREAM_STREAM_H
#define FERRY_STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migration/stream/channel.h"
#include "vmm/base/error.h"

#define STREAM_BATCH (512u << 10)
#define STREAM_NAME_MAX \
	127 /* bytes of a name, without its length byte; stream format, opening paragraph */

struct stream_out;
/* The channel stays the caller's. A NULL channel counts and drops what is put. */
struct stream_out *stream_out_new(struct channel *ch);
void stream_out_free(struct stream_out *out);

void put_u8(struct stream_out *out, uint8_t value);
void put_u16(struct stream_out *out, uint16_t value);
void put_u32(struct stream_out *out, uint32_t value);
void put_u64(struct stream_out *out, uint64_t value);
void put_bytes(struct stream_out *out, const void *data, size_t len);
/* u8 length, then the bytes; at most STREAM_NAME_MAX, which is asserted: names are ours. */
void put_name(struct stream_out *out, const char *name);
/* data is referred to, not copied: it must stay in place until the stream's generation has changed. */
void put_ref(struct stream_out *out, const void *data, size_t len);
/* Write out what is gathered. */
bool stream_flush(struct stream_out *out);
/* Counts the writes that have been made: what was referred to in an earlier generation is no longer needed. */
uint64_t stream_generation(const struct stream_out *out);
/* Bytes put so far, whether written or not. */
uint64_t stream_out_position(const struct stream_out *out);
/* Nanoseconds spent in writing, for a measure of the link that idle time does not spoil. */
uint64_t stream_send_ns(const struct stream_out *out);
bool stream_out_ok(const struct stream_out *out);
/* The sticky error becomes the caller's; false where there is one. */
bool stream_out_take_error(struct stream_out *out, struct error **errp);

struct stream_in;
struct stream_in *stream_in_new(struct channel *ch);
void stream_in_free(struct stream_in *in);

uint8_t get_u8(struct stream_in *in);
uint16_t get_u16(struct stream_in *in);
uint32_t get_u32(struct stream_in *in);
uint64_t get_u64(struct stream_in *in);
/* On error dst is filled with zeroes. */
void get_bytes(struct stream_in *in, void *dst, size_t len);
void skip_bytes(struct stream_in *in, uint64_t len);
/* A name with its length byte; longer than STREAM_NAME_MAX or with a NUL inside is an error. */
void get_name(struct stream_in *in, char name[static STREAM_NAME_MAX + 1]);
/* The next len bytes without taking them; NULL where the stream ends before (no error) or len is over 256. */
const uint8_t *peek_bytes(struct stream_in *in, size_t len);
/* Bytes that lie in the buffer and can be had without a wait. */
size_t stream_in_buffered(const struct stream_in *in);
/* Is a byte, or the end, to be had without a wait? */
bool stream_in_ready(struct stream_in *in);
/* At the end of the stream? Waits for a byte where none is there; an error counts as the end. */
bool stream_in_at_end(struct stream_in *in);
uint64_t stream_in_position(const struct stream_in *in);
bool stream_in_ok(const struct stream_in *in);
/* Has a read failed because the stream was at its end? */
bool stream_in_ended(const struct stream_in *in);
/* Set the sticky error unless there is one already. The byte offset is added in front. */
void stream_in_fail(struct stream_in *in, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
bool stream_in_take_error(struct stream_in *in, struct error **errp);

#endif
