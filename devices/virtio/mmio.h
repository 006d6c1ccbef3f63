/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all virtio devices share: the register file of virtio-mmio version 2, and who runs when.
 *
 * A device is a struct that begins with struct virtio_device, and a table of what it does. The register file does everything
 * else: features, queues, status, interrupts, reset, and the state that travels.
 *
 *	vCPU writes QueueNotify --(ioeventfd)--> eventfd of the queue --> event loop: ops->kicked(v, queue), lock held
 *	                        \-(without)----> write to the register --/
 *	device: virtio_pop(), virtio_push() ... virtio_interrupt() --> ISR bit, then an edge --(irqfd)--> KVM: line up and down
 *	vCPU writes InterruptACK --> ISR bit cleared
 *
 * Device work is done on the event loop's thread, or where there is no loop (unit tests) at once on the caller's.
 *
 * An interrupt is an edge: a pulse on the line, by one write to an eventfd that KVM_IRQFD has bound to it, or where that cannot be
 * had by KVM_IRQ_LINE. So an acknowledgement, which a vCPU waits for, costs no system call. An edge takes the device 2.5 us where KVM
 * has to wake its work queue for it, 0.23 us where that is awake; KVM_IRQ_LINE up and down 0.7 and 0.49 us (one host).
 *
 * Every interrupt is an edge, also if ISR has bits already, for the driver may have read them before the new one came:
 *
 *	driver: reads ISR: the queue's bit
 *	device:                            config change: ISR gets its bit; no edge, since ISR is not 0
 *	driver: acknowledges the queue's bit, serves the queue, returns
 *	                                   ISR has the other bit, and nobody will ever look
 *
 * An edge too many is harmless: the driver finds ISR 0. KVM puts the write on a work queue, so the edge may be behind what a migration
 * saves: see virtio_resume().
 *
 * A guest that was told of levels when it booted, by a tree of an older build, has levels: the line is that of "ISR is not 0", set by
 * KVM_IRQ_LINE. A pulse would be lost on its pin while that is in service.
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
	bool level;	   /* how the guest takes irq */
	int irq_fd;	   /* an eventfd, bound to irq; -1: none */
	uint64_t features; /* offered */
	struct virtio_kick kicks[VIRTIO_QUEUES_MAX];
	pthread_mutex_t lock;
	/* lock */
	uint8_t config
		[VIRTIO_CONFIG_MAX]; /* the device's own registers, little-endian; read-only to the driver */
	uint32_t config_bytes;
	bool paused;
	bool complained; /* the user knows of a driver at fault */
	bool irq_level;	 /* of a line with levels, as the interrupt controller was last told */
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
/*
 * Goes on, and looks at all queues: a notification may have come while paused, or before the migration. An interrupt that the driver
 * has not acknowledged is given again, for its edge may not have come along:
 *
 *	source: the device is drained, pushes an answer, ISR gets its bit, the edge is written to the eventfd
 *	        KVM: the work queue waits for a CPU
 *	        saves the interrupt controllers, then the device: ISR has the bit, the controllers know of nothing
 *	        KVM: the line goes up and down, in a machine that has moved
 */
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
