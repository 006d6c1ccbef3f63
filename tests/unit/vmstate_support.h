/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saving to bytes and loading from bytes, for the tests of VMState. */
#ifndef FERRY_TESTS_VMSTATE_SUPPORT_H
#define FERRY_TESTS_VMSTATE_SUPPORT_H

#include "migration/stream/channel.h"
#include "migration/stream/stream.h"
#include "migration/stream/vmstate.h"
#include "tests/unit/support.h"

struct saved {
	uint8_t *data; /* owned: free() */
	size_t len;
};

/* Saves opaque; `out` is only valid on success. */
static inline bool save_to_bytes(const struct vmstate_desc *desc, void *opaque, json_t *json,
				 struct saved *saved, struct error **errp)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	bool ok = vmstate_save(out, desc, opaque, json, errp);
	const uint8_t *data;

	if (ok) {
		cr_assert(stream_flush(out));
		data = channel_memory_data(ch, &saved->len);
		saved->data = malloc(saved->len + 1);
		memcpy(saved->data, data, saved->len);
		cr_assert_eq(stream_out_position(out), saved->len);
	}
	stream_out_free(out);
	channel_free(ch);
	return ok;
}

static inline struct saved save_ok(const struct vmstate_desc *desc, void *opaque)
{
	struct saved saved = { 0 };
	struct error *err = NULL;

	expect_ok(save_to_bytes(desc, opaque, NULL, &saved, &err), err);
	return saved;
}

/* Loads from bytes; *used (may be NULL) is how many of them were taken. */
static inline bool load_from_bytes(const struct vmstate_desc *desc, void *opaque, uint32_t version,
				   const void *data, size_t len, uint64_t *used,
				   struct error **errp)
{
	struct channel *ch = channel_memory();
	struct iovec iov = { (void *)data, len };
	struct stream_in *in;
	bool ok;

	cr_assert(channel_writev(ch, &iov, 1, NULL));
	in = stream_in_new(ch);
	ok = vmstate_load(in, desc, opaque, version, errp);
	if (used)
		*used = stream_in_position(in);
	/* Success with a broken stream would be a lie. */
	cr_assert(!ok || stream_in_ok(in));
	stream_in_free(in);
	channel_free(ch);
	return ok;
}

/* A load that succeeds and takes every byte. */
static inline void load_ok(const struct vmstate_desc *desc, void *opaque, uint32_t version,
			   const struct saved *saved)
{
	struct error *err = NULL;
	uint64_t used = 0;

	expect_ok(load_from_bytes(desc, opaque, version, saved->data, saved->len, &used, &err),
		  err);
	cr_assert_eq(used, saved->len, "%s: took %" PRIu64 " of %zu bytes", desc->name, used,
		     saved->len);
}

/* A load of "01 ab ..." that fails; the error begins with `path` and contains `text`. The device is as before. */
static inline void load_hex_fails(const struct vmstate_desc *desc, void *opaque, uint32_t version,
				  const char *hex, const char *path, const char *text)
{
	struct error *err = NULL;
	uint8_t bytes[1024];
	size_t len = bytes_of(hex, bytes, sizeof(bytes));
	struct saved before = save_ok(desc, opaque), after;

	cr_assert_not(load_from_bytes(desc, opaque, version, bytes, len, NULL, &err),
		      "loaded %s, expected '%s'", hex, text);
	cr_assert_not_null(err);
	cr_assert_eq(strncmp(err->msg, path, strlen(path)), 0, "'%s' does not begin with '%s'",
		     err->msg, path);
	expect_error(err, text);
	after = save_ok(desc, opaque);
	cr_assert(after.len == before.len && !memcmp(after.data, before.data, after.len),
		  "%s: the failed load of %s changed it", desc->name, hex);
	free(before.data);
	free(after.data);
}

static inline void expect_saved(const struct vmstate_desc *desc, void *opaque, const char *hex)
{
	struct saved saved = save_ok(desc, opaque);

	expect_hex(saved.data, saved.len, hex, desc->name);
	free(saved.data);
}

#endif
