/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/stream/stream.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define ARENA_SIZE (64u << 10)
#define IOV_MAX_USED 1024
#define IN_BUFFER (256u << 10)
#define PEEK_MAX 256

struct stream_out {
	struct channel *ch;
	struct error *err;
	uint64_t position;
	uint64_t generation;
	uint64_t send_ns;
	size_t batch; /* bytes gathered */
	size_t arena_used;
	size_t niov;
	struct iovec iov[IOV_MAX_USED];
	uint8_t arena[ARENA_SIZE];
};

struct stream_out *stream_out_new(struct channel *ch)
{
	struct stream_out *out = xcalloc(1, sizeof(*out));

	out->ch = ch;
	out->generation = 1;
	return out;
}

void stream_out_free(struct stream_out *out)
{
	if (!out)
		return;
	error_free(out->err);
	free(out);
}

bool stream_flush(struct stream_out *out)
{
	uint64_t start;

	if (out->niov && out->ch && !out->err) {
		start = clock_now_ns();
		channel_writev(out->ch, out->iov, out->niov, &out->err);
		out->send_ns += clock_now_ns() - start;
	}
	out->niov = 0;
	out->batch = 0;
	out->arena_used = 0;
	out->generation++;
	return !out->err;
}

static void gather(struct stream_out *out, const void *data, size_t len)
{
	struct iovec *last = out->niov ? &out->iov[out->niov - 1] : NULL;

	if (last && (const uint8_t *)last->iov_base + last->iov_len == data)
		last->iov_len += len;
	else
		out->iov[out->niov++] = (struct iovec){ (void *)data, len };
	out->batch += len;
	out->position += len;
}

void put_ref(struct stream_out *out, const void *data, size_t len)
{
	if (out->err || !len)
		return;
	if (out->niov == IOV_MAX_USED || out->batch >= STREAM_BATCH)
		stream_flush(out);
	gather(out, data, len);
}

void put_bytes(struct stream_out *out, const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len && !out->err) {
		size_t n = MIN_OF(len, ARENA_SIZE - out->arena_used);

		if (!n || out->niov == IOV_MAX_USED || out->batch >= STREAM_BATCH) {
			stream_flush(out);
			continue;
		}
		memcpy(out->arena + out->arena_used, from, n);
		gather(out, out->arena + out->arena_used, n);
		out->arena_used += n;
		from += n;
		len -= n;
	}
}

void put_u8(struct stream_out *out, uint8_t value)
{
	put_bytes(out, &value, 1);
}

void put_u16(struct stream_out *out, uint16_t value)
{
	uint8_t buf[2];

	put_be16(buf, value);
	put_bytes(out, buf, sizeof(buf));
}

void put_u32(struct stream_out *out, uint32_t value)
{
	uint8_t buf[4];

	put_be32(buf, value);
	put_bytes(out, buf, sizeof(buf));
}

void put_u64(struct stream_out *out, uint64_t value)
{
	uint8_t buf[8];

	put_be64(buf, value);
	put_bytes(out, buf, sizeof(buf));
}

void put_name(struct stream_out *out, const char *name)
{
	size_t len = strlen(name);

	assert(len <= STREAM_NAME_MAX);
	put_u8(out, (uint8_t)len);
	put_bytes(out, name, len);
}

uint64_t stream_generation(const struct stream_out *out)
{
	return out->generation;
}

uint64_t stream_out_position(const struct stream_out *out)
{
	return out->position;
}

uint64_t stream_send_ns(const struct stream_out *out)
{
	return out->send_ns;
}

bool stream_out_ok(const struct stream_out *out)
{
	return !out->err;
}

bool stream_out_take_error(struct stream_out *out, struct error **errp)
{
	if (!out->err)
		return true;
	error_propagate(errp, error_copy(out->err));
	return false;
}

struct stream_in {
	struct channel *ch;
	struct error *err;
	bool eof;
	bool ended;	   /* the error is that a read needed more */
	uint64_t position; /* of the next byte to be taken */
	size_t start, end; /* what is buffered */
	uint8_t buf[IN_BUFFER];
};

struct stream_in *stream_in_new(struct channel *ch)
{
	struct stream_in *in = xcalloc(1, sizeof(*in));

	in->ch = ch;
	return in;
}

void stream_in_free(struct stream_in *in)
{
	if (!in)
		return;
	error_free(in->err);
	free(in);
}

/* Make at least want bytes available, want <= IN_BUFFER. False at the end or on error. */
static bool fill(struct stream_in *in, size_t want)
{
	if (in->err)
		return false;
	while (in->end - in->start < want) {
		ssize_t n;

		if (in->eof)
			return false;
		if (in->start == in->end) {
			in->start = in->end = 0;
		} else if (in->start + want > IN_BUFFER) {
			memmove(in->buf, in->buf + in->start, in->end - in->start);
			in->end -= in->start;
			in->start = 0;
		}
		n = channel_read(in->ch, in->buf + in->end, IN_BUFFER - in->end, &in->err);
		if (n < 0)
			return false;
		in->end += (size_t)n;
		in->eof = n == 0;
	}
	return true;
}

static void ended(struct stream_in *in)
{
	in->ended = !in->err;
	stream_in_fail(in, "%s: the stream ends in the middle of a record", channel_name(in->ch));
}

/* Large reads go straight to their place once the buffer is empty. */
static bool read_direct(struct stream_in *in, uint8_t *dst, size_t len)
{
	while (len) {
		ssize_t n = channel_read(in->ch, dst, len, &in->err);

		if (n <= 0) {
			in->eof = n == 0;
			return false;
		}
		dst += n;
		len -= (size_t)n;
		in->position += (size_t)n;
	}
	return true;
}

void get_bytes(struct stream_in *in, void *dst, size_t len)
{
	uint8_t *to = dst;
	size_t whole = len;

	while (len && !in->err) {
		size_t n = MIN_OF(len, in->end - in->start);

		memcpy(to, in->buf + in->start, n);
		in->start += n;
		in->position += n;
		to += n;
		len -= n;
		if (!len)
			return;
		if (len >= IN_BUFFER ? read_direct(in, to, len) : fill(in, len)) {
			if (len >= IN_BUFFER)
				return;
			continue;
		}
		ended(in);
	}
	if (len) /* part of a value is not a value */
		memset(dst, 0, whole);
}

void skip_bytes(struct stream_in *in, uint64_t len)
{
	uint8_t sink[4096];

	while (len && !in->err) {
		size_t n = MIN_OF(len, sizeof(sink));

		get_bytes(in, sink, n);
		len -= n;
	}
}

uint8_t get_u8(struct stream_in *in)
{
	uint8_t value;

	if (in->start < in->end && !in->err) {
		in->position++;
		return in->buf[in->start++];
	}
	get_bytes(in, &value, 1);
	return value;
}

uint16_t get_u16(struct stream_in *in)
{
	uint8_t buf[2];

	get_bytes(in, buf, sizeof(buf));
	return get_be16(buf);
}

uint32_t get_u32(struct stream_in *in)
{
	uint8_t buf[4];

	get_bytes(in, buf, sizeof(buf));
	return get_be32(buf);
}

uint64_t get_u64(struct stream_in *in)
{
	uint8_t buf[8];

	get_bytes(in, buf, sizeof(buf));
	return get_be64(buf);
}

void get_name(struct stream_in *in, char name[static STREAM_NAME_MAX + 1])
{
	uint8_t len = get_u8(in);

	name[0] = '\0';
	if (len > STREAM_NAME_MAX) {
		stream_in_fail(in, "a name of %u bytes, at most %u are allowed", len,
			       STREAM_NAME_MAX);
		return;
	}
	get_bytes(in, name, len);
	name[in->err ? 0 : len] = '\0';
	if (strlen(name) != len && !in->err) {
		stream_in_fail(in, "a name of %u bytes has a NUL inside", len);
		name[0] = '\0';
	}
}

const uint8_t *peek_bytes(struct stream_in *in, size_t len)
{
	if (len > PEEK_MAX || !fill(in, len))
		return NULL;
	return in->buf + in->start;
}

size_t stream_in_buffered(const struct stream_in *in)
{
	return in->end - in->start;
}

bool stream_in_ready(struct stream_in *in)
{
	return in->end > in->start || in->err || in->eof || channel_readable(in->ch);
}

bool stream_in_at_end(struct stream_in *in)
{
	return !fill(in, 1);
}

uint64_t stream_in_position(const struct stream_in *in)
{
	return in->position;
}

bool stream_in_ok(const struct stream_in *in)
{
	return !in->err;
}

bool stream_in_ended(const struct stream_in *in)
{
	return in->ended;
}

void stream_in_fail(struct stream_in *in, const char *fmt, ...)
{
	scoped_free char *text = NULL;
	va_list ap;

	if (in->err)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	error_set(&in->err, "at byte %" PRIu64 ": %s", in->position, text);
}

bool stream_in_take_error(struct stream_in *in, struct error **errp)
{
	if (!in->err)
		return true;
	error_propagate(errp, error_copy(in->err));
	return false;
}
