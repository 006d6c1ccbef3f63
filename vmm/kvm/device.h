/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What being a device means.
 *
 * There is one way to be built and one way to be restored: create() makes a wired device in its reset state; then it is
 * either used, or its VMState is loaded over it and post_load makes it take effect. pause() stops everything that the device
 * does by itself (a backend's callbacks), drain() then finishes or gives back what is in flight, resume() undoes pause().
 * While paused a device changes neither its state nor guest memory.
 *
 * create, reset, pause, drain, resume and destroy are called while no vCPU runs.
 */
#ifndef FERRY_KVM_DEVICE_H
#define FERRY_KVM_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/base/queue.h"

struct vm;
struct device;
struct vmstate_desc;

/* What the machine's description says of a device, and the host's side of it. */
struct device_config {
	uint64_t base; /* of its registers */
	uint64_t length;
	unsigned int irq;
	bool level;	       /* the guest takes irq by its level, else by its rising edge */
	unsigned int instance; /* among devices of its class */
	const char *id;	       /* the user's name for it; NULL: it has none */
	const char *path;      /* of the host's side: an image, a tap's name; NULL: none */
	bool read_only;
	bool incoming; /* the machine comes by migration: its host's side may be in use at the source still */
	const uint8_t *mac; /* 6 bytes; NULL: none */
	void *backend; /* what the class expects: a struct chardev * for a serial port. Not owned. */
};

struct device_class {
	const char *name;	/* of the section in the stream */
	const char *compatible; /* of the node in the device tree */
	const char *kind; /* of a virtio device, the node's ferry,device; NULL: another device */
	const struct vmstate_desc
		*vmstate; /* NULL: stateless. Its opaque is what state() returns. */
	struct device *(*create)(struct vm *vm, const struct device_config *config,
				 struct error **errp);
	void *(*state)(struct device *dev);
	void (*reset)(struct device *dev);
	void (*pause)(struct device *dev); /* this and the next two may be NULL */
	void (*drain)(struct device *dev);
	void (*resume)(struct device *dev);
	void (*destroy)(struct device *dev);
};

/* The first member of every device. */
struct device {
	const struct device_class *cls;
	struct vm *vm;
	unsigned int instance;
	TAILQ_ENTRY(device) entry;
};

/* For all devices of a machine. */
void devices_pause(struct vm *vm); /* and drain */
void devices_resume(struct vm *vm);
void devices_reset(struct vm *vm);

#endif
