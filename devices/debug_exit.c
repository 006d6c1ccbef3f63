/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/debug_exit.h"

#include "vmm/base/cleanup.h"
#include "vmm/kvm/vm.h"

static uint64_t exit_read(void *opaque, uint64_t offset, unsigned int size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return 0;
}

static void exit_write(void *opaque, uint64_t offset, uint64_t value, unsigned int size)
{
	struct device *dev = opaque;

	(void)offset;
	(void)size;
	vm_make_request(dev->vm, VM_REQUEST_SHUTDOWN, (int)((value << 1 | 1) & 0xff), NULL);
}

static const struct bus_ops exit_ops = { exit_read, exit_write };

static struct device *exit_create(struct vm *vm, const struct device_config *config,
				  struct error **errp)
{
	struct device *dev = xcalloc(1, sizeof(*dev));
	struct bus_region region = { config->base, 4, "debug-exit", &exit_ops, dev };

	dev->vm = vm;
	if (bus_add(&vm->pio, &region, errp))
		return dev;
	free(dev);
	return NULL;
}

static void exit_reset(struct device *dev)
{
	(void)dev;
}

static void exit_destroy(struct device *dev)
{
	free(dev);
}

const struct device_class debug_exit_class = {
	.name = "debug-exit",
	.compatible = "ferry,debug-exit",
	.create = exit_create,
	.reset = exit_reset,
	.destroy = exit_destroy,
};
