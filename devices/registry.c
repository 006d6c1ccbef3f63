/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/registry.h"

#include <string.h>

#include "devices/acpi_pm.h"
#include "devices/debug_exit.h"
#include "devices/reset_port.h"
#include "devices/uart16550.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "vmm/base/cleanup.h"

static const struct device_class *const classes[] = {
	&uart16550_class,  &debug_exit_class,	  &i8042_class,
	&pch_reset_class,  &acpi_pm_class,	  &virtio_rng_class,
	&virtio_blk_class, &virtio_console_class, &virtio_net_class,
};

const struct device_class *device_class_find(const char *compatible, const char *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		const struct device_class *cls = classes[i];

		if (strcmp(cls->compatible, compatible) == 0 && !cls->kind == !kind &&
		    (!kind || strcmp(cls->kind, kind) == 0))
			return cls;
	}
	return NULL;
}

const struct device_class *const *device_classes(unsigned int *n)
{
	*n = ARRAY_SIZE(classes);
	return classes;
}
