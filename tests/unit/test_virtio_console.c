/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what the driver writes to the console reaches the reader whole and in order, and what is
 * typed reaches the driver, however slow either is, and if the device travels in the middle of it.
 *
 * How: the driver of virtio_support.h; the line behind the device is the test's own, in place of
 * devices/backend/chardev.c, so that a reader takes, leaves and types when the test says so.
 */
#include <linux/virtio_console.h>

#include "devices/backend/chardev.h"
#include "devices/virtio/console.h"
#include "tests/unit/virtio_support.h"

SUITE(virtio_console);

#define RX 0
#define TX 1
#define SEED 0x5eed0450

/* --- the line: what chardev.h promises, and no more --- */

struct chardev {
	const struct chardev_client *client;
	void *opaque;
	bool connected;
	size_t room, ntaken;
	uint8_t taken[1 << 16];
	uint16_t cols, rows;
	bool room_again;
};

void chardev_attach(struct chardev *cd, const struct chardev_client *client, void *opaque)
{
	cd->client = client;
	cd->opaque = opaque;
}

size_t chardev_write(struct chardev *cd, const uint8_t *data, size_t len)
{
	size_t n = cd->connected ? MIN_OF(cd->room, len) : 0;

	cr_assert_leq(cd->ntaken + n, sizeof(cd->taken));
	memcpy(cd->taken + cd->ntaken, data, n);
	cd->ntaken += n;
	cd->room -= n;
	return n;
}

bool chardev_connected(struct chardev *cd)
{
	return cd->connected;
}

void chardev_size(struct chardev *cd, uint16_t *cols, uint16_t *rows)
{
	*cols = cd->cols;
	*rows = cd->rows;
}

void chardev_room_again(struct chardev *cd)
{
	cd->room_again = true;
}

static void reader_takes(struct chardev *cd, size_t n)
{
	cd->room += n;
	cd->client->can_send(cd->opaque);
}

/* Types what there is room for; returns how much. */
static size_t type(struct chardev *cd, const void *data, size_t len)
{
	size_t n = MIN_OF(cd->client->room(cd->opaque), len);

	cd->room_again = false;
	if (n)
		cd->client->receive(cd->opaque, data, n);
	return n;
}

/* --- machine --- */

#define CONSOLE(m, line_)                                                                \
	struct virtio_machine m = { 0 };                                                 \
	VIRTIO_MACHINE_OR_SKIP(&m, false);                                               \
	do {                                                                             \
		struct device_config config_ = { .backend = line_ };                     \
		struct error *err_ = NULL;                                               \
		expect_ok(add_virtio(&m, &virtio_console_class, &config_, &err_), err_); \
	} while (0)

static struct chardev *new_line(size_t room)
{
	struct chardev *cd = calloc(1, sizeof(*cd));

	cd->connected = true;
	cd->room = room;
	cd->cols = 132;
	cd->rows = 43;
	return cd;
}

static void write_text(struct virtio_machine *m, uint16_t i, const void *text, uint32_t len)
{
	memcpy(data_at(m, DRIVER_DATA + i * 0x1000), text, len);
	put_desc(m, TX, i, DRIVER_DATA + i * 0x1000, len, 0);
	offer(m, TX, i);
	kick(m, TX);
}

/* An empty buffer for input, by its number. */
static void give_buffer(struct virtio_machine *m, uint16_t i, uint32_t len)
{
	put_desc(m, RX, i, DRIVER_DATA + 0x80000 + i * 0x1000, len, VRING_DESC_F_WRITE);
	offer(m, RX, i);
	kick(m, RX);
}

static const char *input(struct virtio_machine *m, uint16_t i)
{
	return (const char *)data_at(m, DRIVER_DATA + 0x80000 + i * 0x1000);
}

Test(virtio_console, the_driver_sees_the_terminal_s_size_and_its_change)
{
	struct chardev *line = new_line(0);
	uint64_t config = VIRTIO_BASE + VIRTIO_MMIO_CONFIG;
	uint32_t generation;

	CONSOLE(m, line);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_DEVICE_ID), 3);
	cr_assert_eq(offered_features(&m) & 0xff, 1u << VIRTIO_CONSOLE_F_SIZE);
	start_driver(&m, 1u << VIRTIO_CONSOLE_F_SIZE, 2, 8);
	generation = reg(&m, VIRTIO_MMIO_CONFIG_GENERATION);
	cr_assert(bus_read(&m.vm.mmio, config, 2) == 132 &&
		  bus_read(&m.vm.mmio, config + 2, 2) == 43);
	virtio_console_resized(m.dev);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_INTERRUPT_STATUS), 0, "it is the same");
	line->cols = 80;
	virtio_console_resized(m.dev);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	cr_assert_neq(reg(&m, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	cr_assert_eq(bus_read(&m.vm.mmio, config, 4), 43u << 16 | 80);
	virtio_machine_end(&m);
	free(line);
}

Test(virtio_console, a_slow_reader_gets_all_of_it)
{
	static uint8_t sent[20000];
	struct chardev *line = new_line(0);
	struct prng p = { SEED };
	size_t n = 0;

	CONSOLE(m, line);
	start_driver(&m, 0, 2, 8);
	prng_fill(&p, sent, sizeof(sent));
	for (uint16_t i = 0; i < 8; i++, n += 2500)
		write_text(&m, i, sent + n, 2500);
	cr_assert_not(has_used(&m, TX));
	for (size_t done = 0; done < sizeof(sent); done = line->ntaken) {
		reader_takes(line, prng_below(&p, 700) + 1);
		while (has_used(&m, TX))
			cr_assert_eq(next_used(&m, TX).len, 0);
		cr_assert_eq(m.q[TX].seen, line->ntaken / 2500, "each as soon as it is taken");
	}
	cr_assert_eq(memcmp(line->taken, sent, sizeof(sent)), 0);
	cr_assert_eq(m.q[TX].seen, 8);
	virtio_machine_end(&m);
	free(line);
}

Test(virtio_console, nobody_is_waited_for)
{
	struct chardev *line = new_line(3);

	CONSOLE(m, line);
	start_driver(&m, 0, 2, 8);
	write_text(&m, 0, "hello", 5);
	cr_assert_not(has_used(&m, TX));
	line->connected = false; /* in the middle of it */
	line->client->can_send(line->opaque);
	cr_assert(has_used(&m, TX));
	next_used(&m, TX);
	write_text(&m, 1, "into the void", 13);
	next_used(&m, TX);
	cr_assert_eq(line->ntaken, 3);
	virtio_machine_end(&m);
	free(line);
}

Test(virtio_console, without_a_line_output_vanishes)
{
	CONSOLE(m, NULL);
	start_driver(&m, 0, 2, 8);
	write_text(&m, 0, "hello", 5);
	next_used(&m, TX);
	give_buffer(&m, 0, 10);
	devices_pause(&m.vm);
	devices_resume(&m.vm);
	cr_assert_eq(bus_read(&m.vm.mmio, VIRTIO_BASE + VIRTIO_MMIO_CONFIG, 4), 0);
	virtio_machine_end(&m);
}

Test(virtio_console, input_waits_for_buffers)
{
	struct chardev *line = new_line(0);
	struct vring_used_elem used;

	CONSOLE(m, line);
	cr_assert_eq(type(line, "lost", 4), 4, "there is no driver");
	start_driver(&m, 0, 2, 8);
	cr_assert_eq(type(line, "abc", 3), 0, "there is no buffer");
	give_buffer(&m, 0, 2);
	cr_assert(line->room_again);
	cr_assert_eq(type(line, "abcdefg", 7), 7);
	used = next_used(&m, RX);
	cr_assert(used.id == 0 && used.len == 2 && memcmp(input(&m, 0), "ab", 2) == 0);
	cr_assert(interrupted(&m));
	cr_assert_eq(type(line, "x", 1), 0, "some waits");
	give_buffer(&m, 1, 4);
	cr_assert_not(line->room_again);
	used = next_used(&m, RX);
	cr_assert(used.len == 4 && memcmp(input(&m, 1), "cdef", 4) == 0);
	give_buffer(&m, 2, 100);
	used = next_used(&m, RX);
	cr_assert(used.len == 1 && input(&m, 2)[0] == 'g');
	cr_assert(line->room_again);
	give_buffer(&m, 3, 100);
	cr_assert_eq(type(line, "hi", 2), 2);
	cr_assert_eq(next_used(&m, RX).len, 2);
	virtio_machine_end(&m);
	free(line);
}

Test(virtio_console, it_travels_with_what_is_half_done)
{
	struct chardev *la = new_line(3), *lb = new_line(0);
	struct saved saved;

	CONSOLE(a, la);
	CONSOLE(b, lb);
	lb->cols = 100;
	devices_pause(&b.vm);
	start_driver(&a, 1u << VIRTIO_CONSOLE_F_SIZE, 2, 8);
	write_text(&a, 0, "hello", 5);
	write_text(&a, 1, " world", 6);
	give_buffer(&a, 0, 1);
	type(la, "xyz", 3);
	next_used(&a, RX);
	devices_pause(&a.vm);
	cr_assert_eq(type(la, "q", 1), 0);
	reader_takes(la, 100);
	cr_assert_eq(la->ntaken, 3, "it stands still");
	saved = save_device(&a);
	move_driver(&a, &b);
	load_ok(virtio_console_class.vmstate, virtio_console_class.state(b.dev), 1, &saved);
	cr_assert_eq(bus_read(&b.vm.mmio, VIRTIO_BASE + VIRTIO_MMIO_CONFIG, 2), 132);
	lb->room = 100;
	devices_resume(&b.vm);
	cr_assert(lb->ntaken == 8 && memcmp(lb->taken, "lo world", 8) == 0, "%.*s", (int)lb->ntaken,
		  lb->taken);
	cr_assert(next_used(&b, TX).id == 0 && next_used(&b, TX).id == 1);
	cr_assert_eq(bus_read(&b.vm.mmio, VIRTIO_BASE + VIRTIO_MMIO_CONFIG, 2), 100);
	cr_assert(reg(&b, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	give_buffer(&b, 1, 10);
	cr_assert(next_used(&b, RX).len == 2 && memcmp(input(&b, 1), "yz", 2) == 0);
	/* The migration has failed: the same here. */
	devices_resume(&a.vm);
	cr_assert(la->ntaken == 11 && memcmp(la->taken, "hello world", 11) == 0);
	free(saved.data);
	virtio_machine_end(&a);
	virtio_machine_end(&b);
	free(la);
	free(lb);
}

Test(virtio_console, a_state_that_cannot_be_is_refused)
{
	struct chardev *la = new_line(3), *lb = new_line(0);
	struct error *err = NULL;
	struct saved saved;

	CONSOLE(a, la);
	CONSOLE(b, lb);
	start_driver(&a, 0, 2, 8);
	write_text(&a, 0, "hello", 5);
	devices_pause(&a.vm);
	saved = save_device(&a);
	/* At the end: tx_held, tx_done, head, nout, nsegs, address, length, rx_len. */
	cr_assert(saved.data[saved.len - 31] == 1 && saved.data[saved.len - 27] == 3);
	saved.data[saved.len - 16] = 0xff; /* the address */
	cr_assert_not(load_from_bytes(virtio_console_class.vmstate,
				      virtio_console_class.state(b.dev), 1, saved.data, saved.len,
				      NULL, &err));
	expect_error(err, "tx: chain 0: a segment at 0xff");
	free(saved.data);
	virtio_machine_end(&a);
	virtio_machine_end(&b);
	free(la);
	free(lb);
}
