/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-mmio devices: the state that a stream gives them, and then a driver that does what it likes with registers, rings and the
 * memory under them, which lies between pages that may not be touched. Whatever it does, the device can be reset, paused and saved,
 * and what was saved loads into another one.
 *
 * First byte: bit 7: with a section to load; the rest: the device. What is left drives the device.
 */
#include "tests/fuzz/fuzz.h"

#define STEPS_MAX 128
#define RAM_BYTES (8 * GUEST_PAGE_SIZE)

static unsigned int device_of(uint8_t which)
{
	return (which & 0x7f) % FUZZ_VIRTIO_DEVICES;
}

static const struct section *section_of(struct fuzz_machine *m, uint8_t which)
{
	return &m->sections.items[m->sections.n - FUZZ_VIRTIO_DEVICES + device_of(which)];
}

static bool load(struct fuzz_machine *m, uint8_t which, struct input *in)
{
	const struct section *section = section_of(m, which);
	struct error *err = NULL;
	struct reader r;
	size_t taken;
	bool ok;

	reader_open(&r, in->data, in->left);
	ok = section_load(r.in, section, 7, section->desc->version_id, &err);
	taken = (size_t)stream_in_position(r.in);
	in->data += taken;
	in->left -= taken;
	expect_outcome(ok, err);
	reader_close(&r);
	return ok;
}

static void poke(struct fuzz_machine *m, struct input *in)
{
	uint64_t at = take_u16(in) % (RAM_BYTES - 16);

	for (unsigned int i = 0; i < 16; i++)
		m->vm.memory.blocks[0].host[at + i] = take_u8(in);
}

static void drive(struct fuzz_machine *m, uint8_t which, struct input *in)
{
	uint64_t base = FUZZ_VIRTIO_BASE + FUZZ_VIRTIO_BYTES * device_of(which);
	unsigned int steps = 0;
	uint64_t reg;

	while (in->left && steps++ < STEPS_MAX) {
		uint8_t op = take_u8(in);

		switch (op & 7) {
		case 0:
		case 1:
		case 2:
			reg = base + take_u8(in) * 4u;
			bus_write(&m->vm.mmio, reg, take_u16(in), 4);
			break;
		case 3:
			bus_read(&m->vm.mmio, base + take_u16(in) % FUZZ_VIRTIO_BYTES,
				 1u << (op >> 3 & 3));
			break;
		case 4:
		case 5:
			poke(m, in);
			break;
		case 6:
			m->line.room = take_u8(in);
			devices_pause(&m->vm);
			devices_resume(&m->vm);
			break;
		default:
			devices_reset(&m->vm);
		}
	}
}

static void expect_travels(struct fuzz_machine *m, uint8_t which)
{
	static struct fuzz_machine other;
	const struct section *section = section_of(m, which);
	struct error *err = NULL;
	struct writer w;
	struct input in;
	bool ok;

	devices_pause(&m->vm);
	writer_open(&w);
	ok = vmstate_save(w.out, section->desc, section->opaque, NULL, &err);
	MUST(ok);
	expect_outcome(ok, err);
	section_put_footer(w.out, 7);
	in.data = writer_bytes(&w, &in.left);
	machine_make_beside(&other);
	machine_add_virtio(&other);
	MUST(load(&other, which, &in));
	machine_end(&other);
	writer_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_machine m;
	struct input in = { data, size };
	uint8_t which = take_u8(&in);

	machine_make(&m);
	machine_add_virtio(&m);
	if (!(which & 0x80) || load(&m, which, &in)) {
		devices_resume(&m.vm);
		drive(&m, which, &in);
		expect_travels(&m, which);
	}
	devices_pause(&m.vm);
	machine_end(&m);
	return 0;
}
