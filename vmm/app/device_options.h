/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio devices on the command line: --disk FILE[,ro][,id=NAME] and its like.
 *
 * For a fresh machine each describes a device; where the machine comes by migration it gives the host's side of a device that the
 * stream describes, found by its id. Without an id a device is called after its kind and number: disk0, disk1, net0.
 */
#ifndef FERRY_APP_DEVICE_OPTIONS_H
#define FERRY_APP_DEVICE_OPTIONS_H

#include "vmm/boot/devicetree.h"

struct device_option {
	const char *kind; /* as in the device tree */
	char id[MACHINE_ID_MAX + 1];
	char *host; /* the host's side: an image's path, a tap's name, a console's other end; NULL: none. Owned. */
	bool read_only;
	bool has_mac;
	uint8_t mac[MACHINE_MAC_BYTES];
};

struct device_options {
	struct device_option list[MACHINE_MAX_VIRTIO];
	unsigned int n;
};

/* option: the word after the dashes ("disk"); text: its value, NULL for one that has none. */
bool device_options_add(struct device_options *o, const char *option, const char *text,
			struct error **errp);
/* Fill the machine's description. Pointers are into o. */
void device_options_describe(const struct device_options *o, struct machine_options *machine);
/* Where a console's other end is (a chardev); NULL for any other device. */
const char *device_option_console(const struct device_option *d);
void device_options_release(struct device_options *o);

#endif
