/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands and messages of the return path, one after the other; and the texts that people and peers give: addresses, sizes,
 * durations. What was read is written as it was. */
#include "migration/return_path.h"
#include "migration/stream/transport.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/units.h"

static void read_messages(const uint8_t *data, size_t size)
{
	struct error *err = NULL;
	struct message msg;
	struct reader r;
	struct writer w;
	size_t len, text_len;
	bool ok;

	reader_open(&r, data, size);
	writer_open(&w);
	while (!stream_in_at_end(r.in)) {
		message_get(r.in, &msg);
		MUST(msg.len <= COMMAND_DATA_MAX && msg.data[msg.len] == '\0');
		if (!stream_in_ok(r.in))
			break;
		message_put(w.out, msg.type, msg.data, msg.len);
		text_len = strlen(message_text(&msg));
		MUST(text_len == msg.len);
	}
	ok = stream_in_take_error(r.in, &err);
	MUST(!memcmp(writer_bytes(&w, &len), data, len) && len <= size && (len == size || !ok));
	expect_outcome(ok, err);
	reader_close(&r);
	writer_close(&w);
}

static void read_text(const char *text)
{
	struct error *err = NULL;
	struct address *addr = address_parse(text, &err);
	uint64_t value = 7;
	bool ok = addr != NULL;

	MUST(ok == !err);
	MUST(!ok || !strcmp(addr->uri, text));
	error_free(err);
	address_free(addr);
	err = NULL;
	ok = parse_size(text, "size", &value, &err);
	MUST(ok == !err && (ok || value == 7));
	error_free(err);
	err = NULL;
	value = 7;
	ok = parse_duration(text, "time", &value, &err);
	MUST(ok == !err && (ok || value == 7));
	error_free(err);
	err = NULL;
	value = 7;
	ok = parse_number(text, "number", 3, 1000, &value, &err);
	MUST(ok == !err && (ok ? value >= 3 && value <= 1000 : value == 7));
	error_free(err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	scoped_free char *text = NULL;

	if (size >= 2) /* a text: its first two bytes would be a message's number */
		text = strndup((const char *)data, size);
	read_messages(data, size);
	if (text)
		read_text(text);
	return 0;
}
