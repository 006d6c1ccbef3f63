/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the registers of virtio-mmio version 2 do what section 4.2.2 says to a driver that keeps to
 * the rules, and one that does not hurts its own device alone; the device travels with all of it.
 *
 * How: the entropy device, for it is the simplest, driven through the bus of a VM with KVM's
 * interrupt controllers. Once with device work on the caller's thread, once on an event loop.
 */
#include "devices/virtio/rng.h"
#include "tests/unit/virtio_support.h"
#include "vmm/base/log.h"

SUITE(virtio_mmio);

#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define DRIVER_OK VIRTIO_CONFIG_S_DRIVER_OK

static const struct device_config plain = { 0 };

#define RNG(m, with_loop)                                                                  \
	struct virtio_machine m = { 0 };                                                   \
	VIRTIO_MACHINE_OR_SKIP(&m, with_loop);                                             \
	do {                                                                               \
		struct error *rng_err_ = NULL;                                             \
		expect_ok(add_virtio(&m, &virtio_rng_class, &plain, &rng_err_), rng_err_); \
	} while (0)

Test(virtio_mmio, the_device_says_what_it_is)
{
	RNG(m, false);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_VERSION), 2);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_DEVICE_ID), 4);
	cr_assert_eq(offered_features(&m), UINT64_C(1) << 32 | 3u << 28);
	set_reg(&m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_QUEUE_NUM_MAX), VIRTQUEUE_SIZE_MAX);
	for (uint32_t i = 1; i < 4; i++) {
		set_reg(&m, VIRTIO_MMIO_QUEUE_SEL, i);
		cr_assert_eq(reg(&m, VIRTIO_MMIO_QUEUE_NUM_MAX), 0, "there is one queue");
	}
	/* Registers are read in words, and there is no shared memory. */
	cr_assert_eq(bus_read(&m.vm.mmio, VIRTIO_BASE, 1), 0);
	cr_assert_eq(bus_read(&m.vm.mmio, VIRTIO_BASE + 2, 4), 0);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_SHM_LEN_LOW), ~0u);
	cr_assert_eq(bus_read(&m.vm.mmio, VIRTIO_BASE + VIRTIO_MMIO_CONFIG, 8), 0);
	virtio_machine_end(&m);
}

Test(virtio_mmio, features_are_negotiated)
{
	static const struct {
		uint64_t take;
		bool ok;
	} rows[] = {
		{ UINT64_C(1) << VIRTIO_F_VERSION_1, true },
		{ UINT64_C(1) << VIRTIO_F_VERSION_1 | 3u << 28, true },
		{ 0, false }, /* a legacy driver */
		{ 3u << 28, false },
		{ UINT64_C(1) << VIRTIO_F_VERSION_1 | 1, false }, /* not offered */
		{ UINT64_MAX, false },
	};

	RNG(m, false);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		set_reg(&m, VIRTIO_MMIO_STATUS, 0);
		cr_assert_eq(reg(&m, VIRTIO_MMIO_STATUS), 0);
		add_status(&m, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		take_features(&m, rows[i].take);
		add_status(&m, VIRTIO_CONFIG_S_FEATURES_OK);
		cr_assert_eq((reg(&m, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK) != 0,
			     rows[i].ok, "row %zu", i);
		/* Whoever goes on all the same gets nowhere. */
		setup_queue(&m, 0, 8);
		add_status(&m, DRIVER_OK);
		cr_assert_eq((reg(&m, VIRTIO_MMIO_STATUS) & DRIVER_OK) != 0, rows[i].ok);
		put_desc(&m, 0, 0, DRIVER_DATA, 16, VRING_DESC_F_WRITE);
		offer(&m, 0, 0);
		kick(&m, 0);
		cr_assert_eq(has_used(&m, 0), rows[i].ok);
	}
	/* After FEATURES_OK they stay as they are. */
	start_driver(&m, 0, 1, 8);
	take_features(&m, UINT64_MAX);
	add_status(&m, VIRTIO_CONFIG_S_FEATURES_OK);
	cr_assert(reg(&m, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK);
	virtio_machine_end(&m);
}

static void expect_random(struct virtio_machine *m, uint64_t gpa, uint32_t len)
{
	uint8_t zero[64] = { 0 };

	cr_assert(len >= 16 && len <= sizeof(zero));
	cr_assert_neq(memcmp(data_at(m, gpa), zero, len), 0, "16 zeroes by chance: 1 in 2^128");
}

static void use_it(bool with_loop)
{
	RNG(m, with_loop);
	start_driver(&m, 3u << 28, 1, 8);
	m.q[0].avail->ring[8] = 0; /* used_event */
	for (unsigned int i = 0; i < 40; i++) {
		struct vring_used_elem used;

		memset(data_at(&m, DRIVER_DATA), 0, 64);
		put_desc(&m, 0, 0, DRIVER_DATA, 20, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
		put_desc(&m, 0, 1, DRIVER_DATA + 30, 20, VRING_DESC_F_WRITE);
		m.q[0].avail->ring[8] = (uint16_t)i; /* an interrupt for this one */
		offer(&m, 0, 0);
		kick(&m, 0);
		used = next_used(&m, 0);
		cr_assert(used.id == 0 && used.len == 40);
		expect_random(&m, DRIVER_DATA, 20);
		expect_random(&m, DRIVER_DATA + 30, 20);
		for (unsigned int k = 20; k < 30; k++)
			cr_assert_eq(data_at(&m, DRIVER_DATA)[k], 0, "between the segments");
		while (!(reg(&m, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING))
			sched_yield();
		cr_assert(interrupted(&m));
		set_reg(&m, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
		cr_assert_eq(reg(&m, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING,
			     "another bit was acknowledged");
		set_reg(&m, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
		cr_assert_not(interrupted(&m));
		cr_assert_eq(reg(&m, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	}
	virtio_machine_end(&m);
}

Test(virtio_mmio, entropy_without_a_loop)
{
	use_it(false);
}

Test(virtio_mmio, entropy_by_the_loop)
{
	use_it(true);
}

Test(virtio_mmio, a_request_has_an_upper_bound)
{
	RNG(m, false);
	start_driver(&m, 0, 1, 8);
	put_desc(&m, 0, 0, DRIVER_DATA, 1 << 20, VRING_DESC_F_WRITE);
	offer(&m, 0, 0);
	kick(&m, 0);
	cr_assert_eq(next_used(&m, 0).len, VIRTIO_RNG_BYTES_MAX);
	cr_assert_eq(data_at(&m, DRIVER_DATA)[VIRTIO_RNG_BYTES_MAX + 5], 0);
	virtio_machine_end(&m);
}

/* --- a driver at fault --- */

static _Atomic unsigned int complaints;

static void count_line(enum log_level level, const char *line)
{
	complaints += level == LOG_ERROR && strstr(line, "test0") != NULL;
}

/* The device says NEEDS_RESET and tells the driver; nothing is done until the reset; then all works. */
static void expect_broken_until_reset(struct virtio_machine *m, bool told)
{
	cr_assert(reg(m, VIRTIO_MMIO_STATUS) & NEEDS_RESET);
	if (told) {
		cr_assert_eq(reg(m, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
		cr_assert(interrupted(m));
		cr_assert_eq(reg(m, VIRTIO_MMIO_CONFIG_GENERATION), complaints ? 1 : 0);
	}
	add_status(m, DRIVER_OK);
	kick(m, 0);
	cr_assert_not(has_used(m, 0));
	start_driver(m, 0, 1, 8);
	cr_assert_not(interrupted(m));
	put_desc(m, 0, 0, DRIVER_DATA, 16, VRING_DESC_F_WRITE);
	offer(m, 0, 0);
	kick(m, 0);
	cr_assert_eq(next_used(m, 0).len, 16);
}

Test(virtio_mmio, a_damaged_queue_stops_the_device_with_one_message)
{
	RNG(m, false);
	log_set_sink(count_line, LOG_INFO);
	start_driver(&m, 0, 1, 8);
	offer(&m, 0, 200);
	kick(&m, 0);
	cr_assert_eq(complaints, 1);
	expect_broken_until_reset(&m, true);
	/* Once and again: the user has heard of it. */
	offer(&m, 0, 200);
	kick(&m, 0);
	cr_assert(reg(&m, VIRTIO_MMIO_STATUS) & NEEDS_RESET);
	cr_assert_eq(complaints, 1);
	virtio_machine_end(&m);
}

Test(virtio_mmio, a_queue_that_is_nowhere_stops_the_device)
{
	RNG(m, false);
	log_set_sink(count_line, LOG_INFO);
	start_driver(&m, 0, 0, 8);
	setup_queue(&m, 0, 12);
	cr_assert_eq(complaints, 1);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_QUEUE_READY), 0);
	expect_broken_until_reset(&m, true);
	virtio_machine_end(&m);
}

Test(virtio_mmio, a_queue_that_is_ready_keeps_its_place)
{
	RNG(m, false);
	start_driver(&m, 0, 1, 8);
	set_reg(&m, VIRTIO_MMIO_QUEUE_SEL, 0);
	set_reg(&m, VIRTIO_MMIO_QUEUE_NUM, 4096);
	set_reg(&m, VIRTIO_MMIO_QUEUE_DESC_LOW, 0xfffffff0);
	set_reg(&m, VIRTIO_MMIO_QUEUE_USED_HIGH, 0xffffffff);
	put_desc(&m, 0, 0, DRIVER_DATA, 16, VRING_DESC_F_WRITE);
	offer(&m, 0, 0);
	kick(&m, 0);
	cr_assert_eq(next_used(&m, 0).len, 16);
	/* Notifications of queues that are not there. */
	kick(&m, 1);
	kick(&m, ~0u);
	virtio_machine_end(&m);
}

/* Random words to random registers: nothing falls over, and after a reset all works. */
Test(virtio_mmio, random_writes_hurt_nobody)
{
	struct prng p = { 0x5eed0410 };

	RNG(m, false);
	for (unsigned int round = 0; round < 300; round++) {
		start_driver(&m, 0, 1, 8);
		prng_fill(&p, m.q[0].avail, 64);
		for (unsigned int i = 0; i < 100; i++) {
			uint64_t at = prng_below(&p, 0x120);
			unsigned int size = 1u << prng_below(&p, 4);
			uint64_t value = prng_below(&p, 2) ? prng_next(&p) : prng_below(&p, 256);

			if (prng_below(&p, 2))
				bus_write(&m.vm.mmio, VIRTIO_BASE + (at & ~UINT64_C(3)), value, 4);
			else
				bus_write(&m.vm.mmio, VIRTIO_BASE + at, value, size);
			bus_read(&m.vm.mmio, VIRTIO_BASE + at, size);
		}
	}
	start_driver(&m, 0, 1, 8);
	put_desc(&m, 0, 0, DRIVER_DATA, 16, VRING_DESC_F_WRITE);
	offer(&m, 0, 0);
	kick(&m, 0);
	cr_assert_eq(next_used(&m, 0).len, 16);
	virtio_machine_end(&m);
}

/* --- pause and travel --- */

Test(virtio_mmio, while_paused_nothing_happens_and_nothing_is_lost)
{
	for (int with_loop = 0; with_loop < 2; with_loop++) {
		RNG(m, with_loop);
		start_driver(&m, 0, 1, 8);
		devices_pause(&m.vm);
		put_desc(&m, 0, 0, DRIVER_DATA, 16, VRING_DESC_F_WRITE);
		offer(&m, 0, 0);
		kick(&m, 0);
		/* What the loop is to do before this is done then. */
		if (with_loop) {
			stop_loop(&m);
			cr_assert_eq(pthread_create(&m.loop_thread, NULL, loop_main, m.vm.loop), 0);
		}
		cr_assert_not(has_used(&m, 0));
		devices_resume(&m.vm);
		if (!with_loop) {
			cr_assert_eq(next_used(&m, 0).len, 16);
		}
		virtio_machine_end(&m);
	}
}

Test(virtio_mmio, the_device_travels_in_the_middle_of_its_work)
{
	struct virtio_machine b = { 0 };
	struct error *err = NULL;
	struct saved saved;

	RNG(a, false);
	VIRTIO_MACHINE_OR_SKIP(&b, true);
	expect_ok(add_virtio(&b, &virtio_rng_class, &plain, &err), err);
	devices_pause(&b.vm);
	start_driver(&a, 3u << 28, 1, 8);
	for (unsigned int i = 0; i < 3; i++) {
		put_desc(&a, 0, (uint16_t)i, DRIVER_DATA + i * 64, 16, VRING_DESC_F_WRITE);
		offer(&a, 0, (uint16_t)i);
		kick(&a, 0);
	}
	next_used(&a,
		  0); /* two more have been done that the driver has not seen, nor the interrupt */
	cr_assert(interrupted(&a));
	devices_pause(&a.vm);
	put_desc(&a, 0, 5, DRIVER_DATA + 0x1000, 16, VRING_DESC_F_WRITE);
	offer(&a, 0, 5);
	kick(&a, 0); /* in vain, for the device has stopped */
	saved = save_device(&a);
	move_driver(&a, &b);
	load_ok(virtio_rng_class.vmstate, virtio_rng_class.state(b.dev), 1, &saved);
	for (uint64_t at = 0; at < VIRTIO_MMIO_CONFIG; at += 4)
		cr_assert_eq(reg(&a, at), reg(&b, at), "register 0x%" PRIx64, at);
	devices_resume(&b.vm);
	for (unsigned int i = 1; i < 3; i++)
		cr_assert_eq(next_used(&b, 0).id, i);
	cr_assert_eq(next_used(&b, 0).id, 5, "done here, though nobody kicked here");
	cr_assert(interrupted(&b));
	expect_random(&b, DRIVER_DATA + 0x1000, 16);
	/* The migration has failed: the source goes on, and does it, too. */
	devices_resume(&a.vm);
	for (unsigned int i = 1; i < 3; i++)
		cr_assert_eq(next_used(&a, 0).id, i);
	cr_assert_eq(next_used(&a, 0).id, 5);
	free(saved.data);
	virtio_machine_end(&a);
	virtio_machine_end(&b);
}

Test(virtio_mmio, a_state_that_cannot_be_is_refused)
{
	struct virtio_machine b = { 0 };
	struct virtio_device *va, *vb;
	struct error *err = NULL;

	RNG(a, false);
	VIRTIO_MACHINE_OR_SKIP(&b, false);
	expect_ok(add_virtio(&b, &virtio_rng_class, &plain, &err), err);
	va = virtio_of(&a);
	vb = virtio_of(&b);
	for (unsigned int row = 0; row < 4; row++) {
		static const char *const texts[] = { "uses features", "descriptor table",
						     "12 entries", "no such queue" };
		struct saved saved;

		start_driver(&a, 0, 1, 8);
		switch (row) {
		case 0:
			va->driver_features |= 1;
			break;
		case 1:
			va->queues[0].desc = VIRTIO_RAM;
			break;
		case 2:
			va->queues[0].size = 12;
			break;
		default:
			va->queues[1] = va->queues[0];
		}
		saved = save_ok(&virtio_vmstate, va);
		cr_assert_not(
			load_from_bytes(&virtio_vmstate, vb, 1, saved.data, saved.len, NULL, &err),
			"row %u", row);
		expect_error(err, texts[row]);
		free(saved.data);
	}
	virtio_machine_end(&a);
	virtio_machine_end(&b);
}
