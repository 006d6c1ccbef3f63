/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a virtio device gives an edge for each interrupt, by an irqfd or without one, and none is lost when it travels; where its guest
 * was told of levels, the line is up as long as the driver has not acknowledged all.
 *
 * How: the PIC's requests and lines tell what KVM has seen. Where edges are counted, or are to come late, the test takes the eventfd
 * away from KVM: then what the device writes stays in it.
 */
#include <sys/resource.h>

#include "devices/virtio/rng.h"
#include "tests/unit/virtio_support.h"

SUITE(virtio_irq);

static const struct device_config edge = { 0 }, level = { .level = true };

static void add_rng(struct virtio_machine *m, const struct device_config *config)
{
	struct error *err = NULL;

	expect_ok(add_virtio(m, &virtio_rng_class, config, &err), err);
	cr_assert_eq(virtio_of(m)->irq_fd >= 0, !config->level && m->vm.kvm.cap[CAP_IRQFD]);
}

#define RNG(m, config)                     \
	struct virtio_machine m = { 0 };   \
	VIRTIO_MACHINE_OR_SKIP(&m, false); \
	add_rng(&m, config)

#define IRQFD_OR_SKIP(m)                                  \
	do {                                              \
		if (virtio_of(m)->irq_fd < 0)             \
			cr_skip_test("KVM has no irqfd"); \
	} while (0)

static void request(struct virtio_machine *m)
{
	put_desc(m, 0, 0, DRIVER_DATA, 16, VRING_DESC_F_WRITE);
	offer(m, 0, 0);
	kick(m, 0);
	cr_assert_eq(next_used(m, 0).len, 16);
}

static void change_config(struct virtio_machine *m)
{
	pthread_mutex_lock(&virtio_of(m)->lock);
	virtio_config_changed(virtio_of(m));
	pthread_mutex_unlock(&virtio_of(m)->lock);
}

/* How many edges the device has given since this was asked last. KVM does not have the eventfd. */
static uint64_t edges(struct virtio_machine *m)
{
	uint64_t count;

	return read(virtio_of(m)->irq_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void acknowledge(struct virtio_machine *m, uint32_t bits)
{
	set_reg(m, VIRTIO_MMIO_INTERRUPT_ACK, bits);
}

Test(virtio_irq, an_edge_for_each_interrupt)
{
	RNG(m, &edge);
	IRQFD_OR_SKIP(&m);
	bind_irqfd(&m, KVM_IRQFD_FLAG_DEASSIGN);
	start_driver(&m, 0, 1, 8);
	cr_assert_eq(edges(&m), 0);
	request(&m);
	cr_assert_eq(edges(&m), 1);
	/* Though nothing was acknowledged. */
	request(&m);
	request(&m);
	cr_assert_eq(edges(&m), 2);
	change_config(&m);
	cr_assert_eq(edges(&m), 1);
	acknowledge(&m, VIRTIO_MMIO_INT_VRING);
	cr_assert_eq(reg(&m, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	acknowledge(&m, VIRTIO_MMIO_INT_CONFIG);
	cr_assert_eq(edges(&m), 0, "nobody is told of an acknowledgement");
	/* A driver at fault. */
	offer(&m, 0, 200);
	kick(&m, 0);
	cr_assert_eq(edges(&m), 1);
	set_reg(&m, VIRTIO_MMIO_STATUS, 0);
	devices_reset(&m.vm);
	cr_assert_eq(edges(&m), 0);
	virtio_machine_end(&m);
}

Test(virtio_irq, a_driver_that_wants_none_gets_none)
{
	RNG(m, &edge);
	start_driver(&m, 0, 1, 8);
	m.q[0].avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	request(&m);
	cr_assert_not(interrupted(&m));
	m.q[0].avail->flags = 0;
	request(&m);
	cr_assert(interrupted(&m));
	virtio_machine_end(&m);
}

/* The device works, by KVM_IRQ_LINE. */
static void expect_edges_without_irqfd(struct virtio_machine *m)
{
	cr_assert_lt(virtio_of(m)->irq_fd, 0);
	start_driver(m, 0, 1, 8);
	cr_assert_not(interrupted(m));
	for (unsigned int i = 0; i < 3; i++) {
		request(m);
		cr_assert(interrupted(m), "with ISR %u", reg(m, VIRTIO_MMIO_INTERRUPT_STATUS));
	}
	acknowledge(m, VIRTIO_MMIO_INT_VRING);
	cr_assert_not(interrupted(m));
}

Test(virtio_irq, without_the_capability)
{
	struct virtio_machine m = { 0 };

	VIRTIO_MACHINE_OR_SKIP(&m, false);
	m.vm.kvm.cap[CAP_IRQFD] = 0;
	add_rng(&m, &edge);
	expect_edges_without_irqfd(&m);
	virtio_machine_end(&m);
}

Test(virtio_irq, without_a_descriptor)
{
	struct virtio_machine m = { 0 };
	struct error *err = NULL;
	struct rlimit old, none;

	VIRTIO_MACHINE_OR_SKIP(&m, false);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){ 0, old.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	expect_ok(add_virtio(&m, &virtio_rng_class, &edge, &err), err);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	expect_edges_without_irqfd(&m);
	virtio_machine_end(&m);
}

/* KVM has a machine without interrupt controllers refuse. */
Test(virtio_irq, where_kvm_refuses)
{
	struct virtio_machine m = { 0 };
	struct error *err = NULL;
	struct vm_observer nobody = { 0 };

	vm_init(&m.vm, NULL, &nobody, RUNSTATE_PRELAUNCH);
	KVM_OR_SKIP(&m.vm.kvm);
	memory_init(&m.vm.memory, &m.vm.kvm);
	m.ram = memory_add_ram(&m.vm.memory, "ram.low", 0, VIRTIO_RAM, &err);
	expect_ok(m.ram, err);
	expect_ok(add_virtio(&m, &virtio_rng_class, &edge, &err), err);
	expect_ok(irqchip_create(&m.vm, &err), err);
	expect_edges_without_irqfd(&m);
	virtio_machine_end(&m);
}

static unsigned int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

Test(virtio_irq, no_descriptor_is_left)
{
	struct virtio_machine m = { 0 };
	unsigned int before;

	VIRTIO_MACHINE_OR_SKIP(&m, false);
	before = open_descriptors();
	add_rng(&m, &edge);
	cr_assert_eq(open_descriptors(), before + (virtio_of(&m)->irq_fd >= 0));
	TAILQ_REMOVE(&m.vm.devices, m.dev, entry);
	m.dev->cls->destroy(m.dev);
	cr_assert_eq(open_descriptors(), before);
	virtio_machine_end(&m);
}

/* --- travelling --- */

/* What a migration does once the guest has stopped: the interrupt controllers, then the device, which `to` has paused. */
static void move(struct virtio_machine *from, struct virtio_machine *to)
{
	struct saved saved;

	write_pic(to, read_pic(from));
	saved = save_device(from);
	move_driver(from, to);
	load_ok(virtio_rng_class.vmstate, virtio_rng_class.state(to->dev), 1, &saved);
	free(saved.data);
}

Test(virtio_irq, an_edge_that_comes_after_the_save_is_given_again)
{
	struct virtio_machine b = { 0 };

	RNG(a, &edge);
	IRQFD_OR_SKIP(&a);
	VIRTIO_MACHINE_OR_SKIP(&b, false);
	add_rng(&b, &edge);
	devices_pause(&b.vm);
	start_driver(&a, 0, 1, 8);
	bind_irqfd(&a, KVM_IRQFD_FLAG_DEASSIGN);
	request(&a);
	devices_pause(&a.vm);
	move(&a, &b);
	bind_irqfd(&a, 0); /* KVM's work queue gets to it */
	cr_assert(interrupted(&a));
	cr_assert_not(interrupted(&b));
	devices_resume(&b.vm);
	cr_assert(interrupted(&b));
	/* The source, where the migration has failed, may give one too many. */
	devices_resume(&a.vm);
	cr_assert(interrupted(&a));
	virtio_machine_end(&a);
	virtio_machine_end(&b);
}

Test(virtio_irq, what_is_acknowledged_is_not_given_again)
{
	struct virtio_machine b = { 0 };

	RNG(a, &edge);
	VIRTIO_MACHINE_OR_SKIP(&b, false);
	add_rng(&b, &edge);
	devices_pause(&b.vm);
	start_driver(&a, 0, 1, 8);
	request(&a);
	cr_assert(interrupted(&a));
	acknowledge(&a, VIRTIO_MMIO_INT_VRING);
	devices_pause(&a.vm);
	move(&a, &b);
	devices_resume(&b.vm);
	devices_resume(&a.vm);
	cr_assert_not(interrupted(&b));
	cr_assert_not(interrupted(&a));
	virtio_machine_end(&a);
	virtio_machine_end(&b);
}

/* The PIC sees no edge where the line is up already. */
Test(virtio_irq, controllers_saved_in_the_middle_of_a_pulse)
{
	struct virtio_machine b = { 0 };

	RNG(a, &edge);
	VIRTIO_MACHINE_OR_SKIP(&b, false);
	add_rng(&b, &edge);
	devices_pause(&b.vm);
	start_driver(&a, 0, 1, 8);
	devices_pause(&a.vm);
	vm_irq_line(&a.vm, VIRTIO_IRQ, true);
	move(&a, &b);
	cr_assert_not(line_is_up(&b));
	cr_assert(interrupted(&b));
	devices_resume(&b.vm);
	request(&b);
	cr_assert(interrupted(&b));
	virtio_machine_end(&a);
	virtio_machine_end(&b);
}

/* --- levels --- */

Test(virtio_irq, a_level_is_up_until_all_is_acknowledged)
{
	RNG(m, &level);
	cr_assert_lt(virtio_of(&m)->irq_fd, 0);
	start_driver(&m, 0, 1, 8);
	cr_assert_not(line_is_up(&m));
	for (unsigned int i = 0; i < 3; i++) {
		request(&m);
		cr_assert(line_is_up(&m));
		change_config(&m);
		acknowledge(&m, VIRTIO_MMIO_INT_VRING);
		cr_assert(line_is_up(&m), "there was a change as well");
		acknowledge(&m, VIRTIO_MMIO_INT_CONFIG);
		cr_assert_not(line_is_up(&m));
	}
	request(&m);
	set_reg(&m, VIRTIO_MMIO_STATUS, 0);
	cr_assert_not(line_is_up(&m));
	virtio_machine_end(&m);
}

Test(virtio_irq, a_level_travels)
{
	struct virtio_machine b = { 0 };

	RNG(a, &level);
	VIRTIO_MACHINE_OR_SKIP(&b, false);
	add_rng(&b, &level);
	devices_pause(&b.vm);
	start_driver(&a, 0, 1, 8);
	for (unsigned int up = 0; up < 2; up++) {
		if (up)
			request(&a);
		else
			vm_irq_line(&b.vm, VIRTIO_IRQ, true);
		devices_pause(&a.vm);
		move(&a, &b);
		cr_assert_eq(line_is_up(&b), up);
		devices_resume(&a.vm);
		cr_assert_eq(line_is_up(&a), up);
	}
	devices_resume(&b.vm);
	cr_assert(line_is_up(&b));
	acknowledge(&b, VIRTIO_MMIO_INT_VRING);
	cr_assert_not(line_is_up(&b));
	virtio_machine_end(&a);
	virtio_machine_end(&b);
}
