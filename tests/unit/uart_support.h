/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the serial port share: a 16550A in a VM with KVM's interrupt controllers, whose driver the test is. The line
 * behind it is the test's own, in place of devices/backend/chardev.c, so that a reader takes, leaves and types when the test
 * says so.
 *
 * Included by one file of a program: it defines the functions of chardev.h.
 */
#ifndef FERRY_TESTS_UART_SUPPORT_H
#define FERRY_TESTS_UART_SUPPORT_H

#include <sys/ioctl.h>

#include "devices/backend/chardev.h"
#include "devices/uart16550.h"
#include "tests/unit/kvm_support.h"
#include "vmm/kvm/irqchip.h"

#define BASE 0x3f8
#define IRQ 4

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, THR = RBR, FCR = IIR, DLL = RBR, DLM = IER };
enum { NONE = 1, MODEM = 0, THRE = 2, RX = 4, LINE = 6, TIMEOUT = 12 };

/* --- the line: what chardev.h promises, and no more --- */

struct chardev {
	const struct chardev_client *client;
	void *opaque;
	bool connected;
	size_t room; /* for output: what the reader takes before it has to be waited for */
	uint8_t taken[1 << 20]; /* what the reader has */
	size_t ntaken;
	const char *typed; /* input that is not yet in the port */
	bool wait_for_room;
};

void chardev_attach(struct chardev *cd, const struct chardev_client *client, void *opaque)
{
	cd->client = client;
	cd->opaque = opaque;
}

size_t chardev_write(struct chardev *cd, const uint8_t *data, size_t len)
{
	size_t n = !cd->connected ? 0 : len < cd->room ? len : cd->room;

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

void chardev_room_again(struct chardev *cd)
{
	cd->wait_for_room = false;
}

/* The event loop's part: input goes in as long as there is room, and waits where there is none. */
static inline void deliver(struct chardev *cd)
{
	while (*cd->typed && !cd->wait_for_room) {
		size_t room = cd->client->room(cd->opaque), len = strlen(cd->typed);

		cd->wait_for_room = room == 0;
		cd->client->receive(cd->opaque, (const uint8_t *)cd->typed,
				    room < len ? room : len);
		cd->typed += room < len ? room : len;
	}
}

static inline void reader_takes(struct chardev *cd, size_t n)
{
	cd->connected = true;
	cd->room += n;
	cd->client->can_send(cd->opaque);
}

static inline void reader_leaves(struct chardev *cd)
{
	cd->connected = false;
	cd->room = 0;
	cd->client->can_send(cd->opaque);
}

/* --- the machine --- */

struct machine {
	struct chardev line;
	struct vm vm;
	struct device *dev;
	size_t nsent; /* bytes that the driver has written: byte_at(0), byte_at(1) ... */
};

/* A VM with a serial port that a reader is connected to. */
#define MACHINE_OR_SKIP(m)                                             \
	do {                                                           \
		struct vm_observer nobody_ = { 0 };                    \
		vm_init(&(m)->vm, NULL, &nobody_, RUNSTATE_PRELAUNCH); \
		KVM_OR_SKIP(&(m)->vm.kvm);                             \
		machine_build(m);                                      \
	} while (0)

static inline void machine_build(struct machine *m)
{
	struct device_config config = {
		.base = BASE, .length = 8, .irq = IRQ, .backend = &m->line
	};
	struct error *err = NULL;

	m->line.connected = true;
	m->line.room = 16;
	m->line.typed = "";
	expect_ok(irqchip_create(&m->vm, &err), err);
	m->dev = uart16550_class.create(&m->vm, &config, &err);
	expect_ok(m->dev, err);
	m->dev->cls = &uart16550_class;
	TAILQ_INSERT_TAIL(&m->vm.devices, m->dev, entry);
}

static inline void machine_end(struct machine *m)
{
	vm_release(&m->vm);
	cr_assert_null(m->line.client, "still attached");
}

static inline uint8_t rd(struct machine *m, unsigned int reg)
{
	return (uint8_t)bus_read(&m->vm.pio, BASE + reg, 1);
}

static inline void wr(struct machine *m, unsigned int reg, uint8_t value)
{
	bus_write(&m->vm.pio, BASE + reg, value, 1);
}

/* Bytes that come in by loopback, which is on. */
static inline void loop_in(struct machine *m, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		wr(m, THR, (uint8_t)(0x30 + i));
}

/* The level of the interrupt line, as the PIC has seen it last. */
static inline bool line(struct machine *m)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	cr_assert_eq(ioctl(m->vm.kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	return chip.chip.pic.last_irr >> IRQ & 1;
}

/* The line is as the identification says, and that is this one. */
#define EXPECT_INTERRUPT(m, id)                                           \
	do {                                                              \
		bool line_ = line(m);                                     \
		uint8_t iir_ = rd(m, IIR) & 0x0f;                         \
		cr_assert(iir_ == (id) && line_ == ((id) != NONE),        \
			  "IIR %u, line %d, expected " #id, iir_, line_); \
	} while (0)

#define EXPECT_REG(m, reg, value)                                                               \
	do {                                                                                    \
		uint8_t have_ = rd(m, reg);                                                     \
		cr_assert_eq(have_, value, #reg " is 0x%02x, expected 0x%02x", have_, (value)); \
	} while (0)

#endif
