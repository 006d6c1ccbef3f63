/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An address space of device registers: the port I/O space, or memory-mapped registers.
 *
 * Regions do not overlap and lie in an array sorted by address; an access is found by bisection. Regions are added while
 * the machine is built, before a vCPU runs, and never removed, so dispatch takes no lock; each device locks itself.
 * Reads of nothing give all ones and writes to nothing are dropped, as on a PC.
 */
#ifndef FERRY_KVM_BUS_H
#define FERRY_KVM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"

#define BUS_MAX_REGIONS 64

struct bus_ops {
	/* offset is from the region's start; size is 1, 2, 4 or 8. Called from vCPU threads. */
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned int size);
	void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned int size);
};

struct bus_region {
	uint64_t start;
	uint64_t length;
	const char *name; /* for messages; a string constant or owned by the device */
	const struct bus_ops *ops;
	void *opaque;
};

struct bus {
	const char *name;
	struct bus_region regions[BUS_MAX_REGIONS]; /* sorted by start */
	unsigned int nregions;
};

bool bus_add(struct bus *bus, const struct bus_region *region, struct error **errp);
uint64_t bus_read(struct bus *bus, uint64_t address, unsigned int size);
void bus_write(struct bus *bus, uint64_t address, uint64_t value, unsigned int size);

#endif
