/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each section's loader, and then the device that was loaded: whatever state a stream has put into it, a guest that uses it, a
 * reset and the next migration must not find anything that they cannot bear.
 *
 * First byte: the section. Then its data with footer; what is left drives the device. What the tables can express they write as
 * it was read: a load without hooks, saved again, gives the bytes that were taken; a load that fails
 * changes nothing.
 */
#include "devices/backend/chardev.h"
#include "migration/stream/protocol.h"
#include "tests/fuzz/fuzz.h"

#define SECTION_ID 7

/* The same fields without what talks to KVM. */
static struct vmstate_desc bare(const struct vmstate_desc *desc)
{
	struct vmstate_desc copy = *desc;

	copy.pre_save = NULL;
	copy.post_save = NULL;
	copy.pre_load = NULL;
	copy.post_load = NULL;
	return copy;
}

static void load_and_save(const struct section *section, const uint8_t *data, size_t size)
{
	struct vmstate_desc desc = bare(section->desc);
	struct error *err = NULL;
	struct reader r;
	struct writer w, before;
	const uint8_t *bytes;
	uint64_t taken;
	size_t len, len_before;
	bool ok;

	writer_open(&before);
	MUST(vmstate_save(before.out, &desc, section->opaque, NULL, NULL));
	reader_open(&r, data, size);
	ok = vmstate_load(r.in, &desc, section->opaque, desc.version_id, &err);
	taken = stream_in_position(r.in);
	MUST(!ok || stream_in_ok(r.in));
	expect_outcome(ok, err);
	reader_close(&r);
	writer_open(&w);
	MUST(vmstate_save(w.out, &desc, section->opaque, NULL, NULL));
	bytes = writer_bytes(&w, &len);
	if (ok)
		MUST(len == taken && !memcmp(bytes, data, taken));
	else
		MUST(!memcmp(bytes, writer_bytes(&before, &len_before), len) && len == len_before);
	writer_close(&w);
	writer_close(&before);
}

/* Input on the serial line, as much as there is room for. */
static void type(struct fuzz_machine *m, struct input *in)
{
	const struct chardev_client *client = m->line.client;
	size_t room = client->room(m->line.opaque);
	uint8_t bytes[16];

	MUST(room <= sizeof(bytes)); /* the FIFO */
	for (size_t i = 0; i < room; i++)
		bytes[i] = take_u8(in);
	client->receive(m->line.opaque, bytes, room);
	client->can_send(m->line.opaque);
}

/* The guest and the line's other end, one after the other. */
static void use(struct fuzz_machine *m, struct input *in)
{
	static const uint16_t ports[] = { 0x3f8, 0xcf9, 0x60, 0x600 };
	unsigned int steps = 0;

	while (in->left && steps++ < 256) {
		uint8_t op = take_u8(in);
		uint16_t port = (uint16_t)(ports[(op >> 3) % 4] + (op & 7));

		switch (op >> 6) {
		case 0:
			bus_write(&m->vm.pio, port, take_u8(in), 1);
			break;
		case 1:
			bus_read(&m->vm.pio, port, 1);
			break;
		case 2:
			m->line.connected = op & 1;
			m->line.room = take_u8(in);
			devices_pause(&m->vm);
			devices_resume(&m->vm);
			break;
		default:
			if (op & 1)
				devices_reset(&m->vm);
			else
				type(m, in);
		}
	}
}

static void save_all(struct fuzz_machine *m)
{
	struct writer w;

	devices_pause(&m->vm);
	writer_open(&w);
	for (unsigned int i = 0; i < m->sections.n; i++)
		MUST(section_save(w.out, &m->sections.items[i], i, NULL, NULL));
	writer_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_machine m;
	const struct section *section;
	struct error *err = NULL;
	struct reader r;
	struct input rest;
	bool ok;

	if (size < 1)
		return -1;
	machine_make(&m);
	section = &m.sections.items[data[0] % m.sections.n];
	load_and_save(section, data + 1, size - 1);
	machine_end(&m);

	machine_make(&m);
	section = &m.sections.items[data[0] % m.sections.n];
	reader_open(&r, data + 1, size - 1);
	ok = section_load(r.in, section, SECTION_ID, section->desc->version_id, &err);
	MUST(ok || !strncmp(err->msg, section->idstr, strlen(section->idstr)));
	rest.left = size - 1 - (size_t)stream_in_position(r.in);
	rest.data = data + size - rest.left;
	expect_outcome(ok, err);
	reader_close(&r);
	if (ok) {
		use(&m, &rest);
		save_all(&m);
	}
	machine_end(&m);
	return 0;
}
