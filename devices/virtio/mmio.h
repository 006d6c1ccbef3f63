/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all virtio devices share: the register file of virtio-mmio version 2, and who runs when.
 *
 * A device is a struct that begins with struct virtio_device, and a table of what it does. The register file does everything
 * else: features, queues, status, interrupts, reset, and the state that travels.
 *
 *	vCPU writes QueueNotify --(ioeventfd)--> eventfd of the queue --> event loop: ops->kicked(v, queue), lock held
 *	                        \-(without)----> write to the register --/
 *	device: virtio_pop(), virtio_push() ... virtio_interrupt() --> ISR bit, interrupt line up
 *	vCPU writes InterruptACK --> ISR bit cleared, line down when no bit is left
 *
 * Device work is done on the event loop's thread, or where there is no loop (unit tests) at once on the caller's.
 *
 * The line is the level of "ISR is not 0", set by KVM_IRQ_LINE, and not an irqfd. An irqfd is for kernel code that raises
 * interrupts by itself; here it costs a system call as the ioctl does (365 ns and 265 ns on one host). Without resampling it gives a pulse, which a pin that
 * the guest has set to level does not latch while it is in service; with resampling it wakes the loop once more for each
 * interrupt. A level is right for pins in either mode, and after a migration it is simply set again.
 *
 * A driver that damages its queue gets DEVICE_NEEDS_RESET, the user one message, and the machine goes on.
 *
 * Locks: virtio_device.lock covers all; it comes after vm->lock and before memory.dirty_lock. Source: virtio 1.2, section 4.2.2
 * (registers), 2.1 (status), 2.2 (features), 2.4 (notifications), 3.1 (initialisation).
 */
#ifndef FERRY_VIRTIO_MMIO_H
#define FERRY_VIRTIO_MMIO_H

#include <pthread.h>

#include "devices/virtio/queue.h"
#include "vmm/kvm/device.h"
#include "vmm/kvm/vm.h"

#define VIRTIO_MMIO_BYTES 0x1000 /* of a device's registers */
#define VIRTIO_QUEUES_MAX 2
#define VIRTIO_CONFIG_MAX 64

struct virtio_device;

/* What a type of device does. All are called with the device's lock held. */
struct virtio_ops {
	uint32_t device_id; /* VIRTIO_ID_x */
	unsigned int nqueues;
	/* The driver has notified a queue of a running device, or the device has begun to run. */
	void (*kicked)(struct virtio_device *v, unsigned int queue);
	/* The driver resets the device or takes a queue away: forget what is in flight; when this returns nothing writes to
	 * guest memory any more. May be NULL. */
	void (*forget)(struct virtio_device *v);
};

struct virtio_kick {
	struct virtio_device *v;
	int fd; /* an eventfd; -1: none */
	struct loop_handle *handle;
	bool by_kvm; /* an ioeventfd */
};

struct virtio_device {
	struct device dev;
	/* set at creation */
	const struct virtio_ops *ops;
	char *id; /* the user's name for it; owned */
	uint64_t base;
	unsigned int irq;
	uint64_t features; /* offered */
	struct virtio_kick kicks[VIRTIO_QUEUES_MAX];
	pthread_mutex_t lock;
	/* lock */
	uint8_t config
		[VIRTIO_CONFIG_MAX]; /* the device's own registers, little-endian; read-only to the driver */
	uint32_t config_bytes;
	bool paused;
	bool complained; /* the user knows of a driver at fault */
	bool irq_level;	 /* as the interrupt controller was last told */
	uint32_t status, isr, generation;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
};

/* Fields, lock, eventfds, and the registers on the bus. features: beyond the transport's own. On failure nothing is left. */
bool virtio_init(struct virtio_device *v, struct vm *vm, const struct device_config *config,
		 const struct virtio_ops *ops, uint64_t features, struct error **errp);
void virtio_release(struct virtio_device *v);

/* For struct device_class. */
void virtio_reset(struct virtio_device *v);
void virtio_pause(struct virtio_device *v);
/* Goes on, and looks at all queues: a notification may have come while paused, or before the migration. */
void virtio_resume(struct virtio_device *v);

/* --- for device types; lock held --- */
bool virtio_has(const struct virtio_device *v, unsigned int feature);
/* Does the device run: driven, not paused, not damaged? */
bool virtio_runs(const struct virtio_device *v, unsigned int queue);
/* virtqueue_pop(); a damaged queue stops the device and gives false. */
bool virtio_pop(struct virtio_device *v, unsigned int queue, struct virtqueue_element *elem);
/* Raise an interrupt if the driver wants one for what has been pushed. */
void virtio_interrupt(struct virtio_device *v, unsigned int queue);
/* Have kicked() called again from the loop. */
void virtio_kick_again(struct virtio_device *v, unsigned int queue);
/* Pops and serves until the queue is empty, then asks for notifications. serve() returns false when it has no room for more;
 * then the device calls virtio_kick_again() when it has. One round is bounded, so that no guest holds the loop. */
void virtio_serve(struct virtio_device *v, unsigned int queue, struct virtqueue_element *elem,
		  bool (*has_room)(struct virtio_device *v),
		  void (*serve)(struct virtio_device *v, struct virtqueue_element *elem));
/* The device's configuration has changed. */
void virtio_config_changed(struct virtio_device *v);
/* The driver has broken the rules: DEVICE_NEEDS_RESET. err is taken over. */
void virtio_break(struct virtio_device *v, struct error *err);

/* Nested first in a device's description. */
extern const struct vmstate_desc virtio_vmstate;

#endif
