/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VMDESCRIPTION, found from the end of a stream, and a stream's file.
 *
 *	... 00 | 06 | be32 length | {"page_size":4096, ... } end of file
 *
 * As readers of this format do it: behind the last NUL byte of the file (the length has one) the first '{' begins the JSON. Here
 * the type byte and the length must then say the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "migration/analyze.h"
#include "migration/stream/protocol.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

/* Values in the JSON; a parsed one takes some 60 bytes, so this bounds the memory. */
#define VALUES_MAX (2u << 20)
#define HEAD 5u /* type, length */

/* An upper bound of the values in a text, without parsing it. */
static size_t count_values(const char *text, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++)
		n += text[i] == ',' || text[i] == '{' || text[i] == '[';
	return n;
}

/* Devices by instance and name: a hostile list must not be searched for each section. */
static json_t *index_devices(const json_t *json)
{
	json_t *devices = json_object_get(json, "devices"), *index = json_object(), *device;
	size_t i;

	json_array_foreach(devices, i, device)
	{
		const char *name = json_string_value(json_object_get(device, "name"));
		json_t *instance = json_object_get(device, "instance_id");
		json_int_t id = json_integer_value(instance);
		scoped_free char *key = NULL;

		if (!name || !json_is_integer(instance) || id < 0 || id > UINT32_MAX)
			continue;
		key = xasprintf("%u %s", (uint32_t)id, name);
		json_object_set(index, key, device);
	}
	return index;
}

/* The JSON is hostile, like all of the stream. False: *why says what is wrong. */
static bool parse(struct analyze_description *d, const char *text, size_t len)
{
	json_error_t error;

	if (count_values(text, len) > VALUES_MAX) {
		d->why = xasprintf("has more than %u values, which none needs", VALUES_MAX);
		return false;
	}
	d->json = json_loadb(text, len, 0, &error);
	if (!d->json) {
		d->why = xasprintf("has malformed JSON at offset 0x%" PRIx64 ": %s",
				   d->offset + HEAD + (uint64_t)MAX_OF(error.position, 0),
				   error.text);
	} else if (!json_is_object(d->json) ||
		   !json_is_array(json_object_get(d->json, "devices"))) {
		d->why = xstrdup("has no array 'devices', expected one");
		json_decref(d->json);
		d->json = NULL;
	}
	return d->json != NULL;
}

void analyze_find_description(const uint8_t *tail, size_t len, uint64_t base,
			      struct analyze_description *d)
{
	const uint8_t *nul = len ? memrchr(tail, 0, len) : NULL;
	const uint8_t *brace = nul ? memchr(nul, '{', len - (size_t)(nul - tail)) : NULL;
	size_t at = brace ? (size_t)(brace - tail) : 0;

	*d = (struct analyze_description){ 0 };
	if (at < HEAD || brace[-(int)HEAD] != SECTION_VMDESCRIPTION) {
		d->why = xstrdup("is missing at the file's end");
		return;
	}
	d->offset = base + at - HEAD;
	if (get_be32(brace - 4) != len - at) {
		d->why = xasprintf("at 0x%" PRIx64 " has %zu bytes, expected %u by its length",
				   d->offset, len - at, get_be32(brace - 4));
		return;
	}
	d->found = true;
	if (parse(d, (const char *)brace, len - at))
		d->devices = index_devices(d->json);
}

void analyze_description_release(struct analyze_description *d)
{
	json_decref(d->devices);
	json_decref(d->json);
	free(d->why);
	*d = (struct analyze_description){ 0 };
}

bool analyze_memory(const void *data, size_t len, const struct analyze_visitor *visitor,
		    struct analyze_result *result, struct error **errp)
{
	struct channel *ch = channel_memory();
	struct iovec iov = { (void *)data, len };
	struct analyze_description d;
	size_t tail = MIN_OF(len, ANALYZE_TAIL_MAX);
	struct stream_in *in;
	bool ok;

	channel_writev(ch, &iov, 1, NULL);
	in = stream_in_new(ch);
	analyze_find_description((const uint8_t *)data + (len - tail), tail, len - tail, &d);
	ok = analyze_stream(in, &d, visitor, result, errp);
	analyze_description_release(&d);
	stream_in_free(in);
	channel_free(ch);
	return ok;
}

static bool read_tail(int fd, uint8_t *tail, size_t len, uint64_t base, struct error **errp)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, tail + done, len - done, (off_t)(base + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			error_set_errno(errp, errno, "cannot read at 0x%" PRIx64, base + done);
			return false;
		}
		if (n == 0) {
			error_set(errp, "has become shorter, expected %zu more bytes at 0x%" PRIx64,
				  len - done, base + done);
			return false;
		}
		done += (size_t)n;
	}
	return true;
}

static bool find_in_file(int fd, struct analyze_description *d, struct error **errp)
{
	scoped_free uint8_t *tail = NULL;
	struct stat st;
	size_t len;

	*d = (struct analyze_description){ 0 };
	if (fstat(fd, &st) < 0) {
		error_set_errno(errp, errno, "cannot be looked at");
		return false;
	}
	if (!S_ISREG(st.st_mode)) {
		d->why = xstrdup("cannot be looked for at the end of what is no file");
		return true;
	}
	len = (size_t)MIN_OF((uint64_t)st.st_size, (uint64_t)ANALYZE_TAIL_MAX);
	tail = calloc(1, len + 1);
	if (!tail) {
		error_set(errp, "no memory for its last %zu bytes", len);
		return false;
	}
	if (!read_tail(fd, tail, len, (uint64_t)st.st_size - len, errp))
		return false;
	analyze_find_description(tail, len, (uint64_t)st.st_size - len, d);
	return true;
}

static bool analyze_fd(int fd, const char *path, const struct analyze_visitor *visitor,
		       struct analyze_result *result, struct error **errp)
{
	struct analyze_description d;
	struct channel *ch;
	struct stream_in *in;
	bool ok;

	if (!find_in_file(fd, &d, errp)) {
		close(fd);
		error_prefix(errp, "%s: ", path);
		return false;
	}
	ch = channel_from_fd(fd, path, errp);
	if (!ch) {
		analyze_description_release(&d);
		return false;
	}
	in = stream_in_new(ch);
	ok = analyze_stream(in, &d, visitor, result, errp);
	if (!ok)
		error_prefix(errp, "%s: ", path);
	analyze_description_release(&d);
	stream_in_free(in);
	channel_free(ch);
	return ok;
}

bool analyze_file(const char *path, const struct analyze_visitor *visitor,
		  struct analyze_result *result, struct error **errp)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*result = (struct analyze_result){ 0 };
	if (fd >= 0)
		return analyze_fd(fd, path, visitor, result, errp);
	error_set_errno(errp, errno, "%s: cannot open", path);
	return false;
}
