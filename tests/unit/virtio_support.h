/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio driver for the tests of devices: it speaks to the registers through the bus, as a vCPU would, and keeps its rings in
 * guest memory. The machine has KVM's interrupt controllers, so that the line can be looked at, and an event loop on a thread of
 * its own where a test asks for one.
 */
#ifndef FERRY_TESTS_VIRTIO_SUPPORT_H
#define FERRY_TESTS_VIRTIO_SUPPORT_H

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "devices/virtio/mmio.h"
#include "migration/stream/section.h"
#include "tests/unit/kvm_support.h"
#include "tests/unit/vmstate_support.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/irqchip.h"

#define VIRTIO_BASE UINT64_C(0xd0000000)
#define VIRTIO_IRQ 5
#define VIRTIO_RAM (UINT64_C(4) << 20)
#define DRIVER_RINGS 0x10000u /* three pages a queue */
#define DRIVER_DATA 0x100000u

struct driver_queue {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t size, idx,
		seen; /* available index; used index up to which the driver has looked */
};

struct virtio_machine {
	struct vm vm;
	struct ram_block *ram;
	pthread_t loop_thread;
	struct device *dev;
	struct driver_queue q[VIRTIO_QUEUES_MAX];
};

static inline void *loop_main(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

static inline void virtio_machine_build(struct virtio_machine *m, bool with_loop)
{
	struct error *err = NULL;

	memory_init(&m->vm.memory, &m->vm.kvm);
	m->ram = memory_add_ram(&m->vm.memory, "ram.low", 0, VIRTIO_RAM, &err);
	expect_ok(m->ram, err);
	expect_ok(irqchip_create(&m->vm, &err), err);
	if (with_loop) {
		m->vm.loop = loop_new(&err);
		expect_ok(m->vm.loop, err);
		cr_assert_eq(pthread_create(&m->loop_thread, NULL, loop_main, m->vm.loop), 0);
	}
}

#define VIRTIO_MACHINE_OR_SKIP(m, with_loop)                           \
	do {                                                           \
		struct vm_observer nobody_ = { 0 };                    \
		vm_init(&(m)->vm, NULL, &nobody_, RUNSTATE_PRELAUNCH); \
		KVM_OR_SKIP(&(m)->vm.kvm);                             \
		virtio_machine_build(m, with_loop);                    \
	} while (0)

static inline bool add_virtio(struct virtio_machine *m, const struct device_class *cls,
			      const struct device_config *host, struct error **errp)
{
	struct device_config config = *host;

	config.base = VIRTIO_BASE;
	config.length = VIRTIO_MMIO_BYTES;
	config.irq = VIRTIO_IRQ;
	config.id = config.id ? config.id : "test0";
	m->dev = cls->create(&m->vm, &config, errp);
	if (!m->dev)
		return false;
	m->dev->cls = cls;
	TAILQ_INSERT_TAIL(&m->vm.devices, m->dev, entry);
	return true;
}

static inline void stop_loop(struct virtio_machine *m)
{
	if (!m->vm.loop)
		return;
	loop_quit(m->vm.loop);
	pthread_join(m->loop_thread, NULL);
}

static inline void virtio_machine_end(struct virtio_machine *m)
{
	struct loop *loop = m->vm.loop;

	stop_loop(m);
	vm_release(&m->vm);
	loop_free(loop);
}

static inline uint32_t reg(struct virtio_machine *m, uint64_t offset)
{
	return (uint32_t)bus_read(&m->vm.mmio, VIRTIO_BASE + offset, 4);
}

static inline void set_reg(struct virtio_machine *m, uint64_t offset, uint32_t value)
{
	bus_write(&m->vm.mmio, VIRTIO_BASE + offset, value, 4);
}

static inline struct virtio_device *virtio_of(struct virtio_machine *m)
{
	return container_of(m->dev, struct virtio_device, dev);
}

/* KVM_IRQFD for the device's eventfd. KVM_IRQFD_FLAG_DEASSIGN also waits for what KVM has put on its work queue. */
static inline void bind_irqfd(struct virtio_machine *m, uint32_t flags)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)virtio_of(m)->irq_fd,
				   .gsi = VIRTIO_IRQ,
				   .flags = flags };

	cr_assert_eq(ioctl(m->vm.kvm.vm_fd, KVM_IRQFD, &irqfd), 0);
}

static inline struct kvm_pic_state read_pic(struct virtio_machine *m)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	cr_assert_eq(ioctl(m->vm.kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	return chip.chip.pic;
}

static inline void write_pic(struct virtio_machine *m, struct kvm_pic_state pic)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER, .chip.pic = pic };

	cr_assert_eq(ioctl(m->vm.kvm.vm_fd, KVM_SET_IRQCHIP, &chip), 0);
}

/* Is the device's line up at the PIC? */
static inline bool line_is_up(struct virtio_machine *m)
{
	return read_pic(m).last_irr >> VIRTIO_IRQ & 1;
}

/* Has the PIC seen an edge since this was asked last? Once the device has given it, this is sure of it. */
static inline bool interrupted(struct virtio_machine *m)
{
	struct kvm_pic_state pic;
	bool seen;

	if (virtio_of(m)->irq_fd >= 0) {
		bind_irqfd(m, KVM_IRQFD_FLAG_DEASSIGN);
		bind_irqfd(m, 0);
	}
	pic = read_pic(m);
	cr_assert_not(pic.last_irr >> VIRTIO_IRQ & 1, "a pulse has no end");
	seen = pic.irr >> VIRTIO_IRQ & 1;
	pic.irr &= (uint8_t) ~(1u << VIRTIO_IRQ);
	write_pic(m, pic);
	return seen;
}

static inline uint64_t offered_features(struct virtio_machine *m)
{
	uint64_t features;

	set_reg(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)reg(m, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	set_reg(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return features | reg(m, VIRTIO_MMIO_DEVICE_FEATURES);
}

static inline void take_features(struct virtio_machine *m, uint64_t features)
{
	set_reg(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set_reg(m, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	set_reg(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set_reg(m, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
}

static inline void add_status(struct virtio_machine *m, uint32_t bits)
{
	set_reg(m, VIRTIO_MMIO_STATUS, reg(m, VIRTIO_MMIO_STATUS) | bits);
}

static inline void setup_queue(struct virtio_machine *m, unsigned int n, uint16_t size)
{
	uint64_t at = DRIVER_RINGS + n * 0x3000;
	struct driver_queue *q = &m->q[n];

	*q = (struct driver_queue){ (void *)(m->ram->host + at),
				    (void *)(m->ram->host + at + 0x1000),
				    (void *)(m->ram->host + at + 0x2000),
				    size,
				    0,
				    0 };
	memset(q->desc, 0, 0x3000);
	set_reg(m, VIRTIO_MMIO_QUEUE_SEL, n);
	set_reg(m, VIRTIO_MMIO_QUEUE_NUM, size);
	set_reg(m, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)at);
	set_reg(m, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
	set_reg(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)at + 0x1000);
	set_reg(m, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0);
	set_reg(m, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)at + 0x2000);
	set_reg(m, VIRTIO_MMIO_QUEUE_USED_HIGH, 0);
	set_reg(m, VIRTIO_MMIO_QUEUE_READY, 1);
}

#define DRIVER_FEATURES (UINT64_C(1) << VIRTIO_F_VERSION_1)

/* As section 3.1.1 says. */
static inline void start_driver(struct virtio_machine *m, uint64_t features, unsigned int nqueues,
				uint16_t size)
{
	set_reg(m, VIRTIO_MMIO_STATUS, 0);
	add_status(m, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(m, VIRTIO_CONFIG_S_DRIVER);
	take_features(m, features | DRIVER_FEATURES);
	add_status(m, VIRTIO_CONFIG_S_FEATURES_OK);
	cr_assert(reg(m, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned int i = 0; i < nqueues; i++)
		setup_queue(m, i, size);
	add_status(m, VIRTIO_CONFIG_S_DRIVER_OK);
}

static inline void put_desc(struct virtio_machine *m, unsigned int n, uint16_t i, uint64_t gpa,
			    uint32_t len, uint16_t flags)
{
	m->q[n].desc[i] = (struct vring_desc){ gpa, len, flags, (uint16_t)(i + 1) };
}

static inline void offer(struct virtio_machine *m, unsigned int n, uint16_t head)
{
	struct driver_queue *q = &m->q[n];

	q->avail->ring[q->idx % q->size] = head;
	__atomic_store_n(&q->avail->idx, ++q->idx, __ATOMIC_RELEASE);
}

static inline void kick(struct virtio_machine *m, unsigned int n)
{
	set_reg(m, VIRTIO_MMIO_QUEUE_NOTIFY, n);
}

static inline bool has_used(struct virtio_machine *m, unsigned int n)
{
	return __atomic_load_n(&m->q[n].used->idx, __ATOMIC_ACQUIRE) != m->q[n].seen;
}

/* Waits for the next used element. */
static inline struct vring_used_elem next_used(struct virtio_machine *m, unsigned int n)
{
	struct driver_queue *q = &m->q[n];

	while (!has_used(m, n))
		sched_yield();
	return q->used->ring[q->seen++ % q->size];
}

static inline uint8_t *data_at(struct virtio_machine *m, uint64_t gpa)
{
	return m->ram->host + gpa;
}

/* The device's state as bytes; load puts them over the device of another machine. */
static inline struct saved save_device(struct virtio_machine *m)
{
	return save_ok(m->dev->cls->vmstate, m->dev->cls->state(m->dev));
}

/* A second machine that gets the first one's memory and the device's state, as a migration does. Both devices are paused; the
 * driver's view goes along. */
static inline void move_driver(struct virtio_machine *from, struct virtio_machine *to)
{
	memcpy(to->ram->host, from->ram->host, VIRTIO_RAM);
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		struct driver_queue *q = &to->q[i];
		uint64_t at = DRIVER_RINGS + i * 0x3000;

		*q = from->q[i];
		q->desc = (void *)(to->ram->host + at);
		q->avail = (void *)(to->ram->host + at + 0x1000);
		q->used = (void *)(to->ram->host + at + 0x2000);
	}
}

#endif
