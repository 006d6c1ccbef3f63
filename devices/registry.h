/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device classes, in one place. Adding a device: write its class, name it here, describe its node in machine.c. */
#ifndef FERRY_DEVICES_REGISTRY_H
#define FERRY_DEVICES_REGISTRY_H

#include "vmm/kvm/device.h"

/* The class whose `compatible` and `kind` (NULL: none) these are, or NULL. */
const struct device_class *device_class_find(const char *compatible, const char *kind);
/* All classes; *n of them. */
const struct device_class *const *device_classes(unsigned int *n);

#endif
