/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/reset_port.h"

#include "migration/stream/vmstate.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/vm.h"

#define I8042_COMMAND 4 /* offset of port 0x64 */
#define I8042_PULSE_RESET 0xfe
#define RST_CNT_CPU 0x04
#define RST_CNT_KEPT 0x0e

struct reset_port {
	struct device dev;
	uint8_t value; /* pch-reset; written by vCPU threads, one of which resets: the last one wins */
};

static uint64_t i8042_read(void *opaque, uint64_t offset, unsigned int size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return 0;
}

static void i8042_write(void *opaque, uint64_t offset, uint64_t value, unsigned int size)
{
	struct reset_port *port = opaque;

	(void)size;
	if (offset == I8042_COMMAND && (uint8_t)value == I8042_PULSE_RESET)
		vm_make_request(port->dev.vm, VM_REQUEST_RESET, 0, xstrdup("i8042 command 0xfe"));
}

static uint64_t pch_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct reset_port *port = opaque;

	(void)offset;
	(void)size;
	return __atomic_load_n(&port->value, __ATOMIC_RELAXED);
}

static void pch_write(void *opaque, uint64_t offset, uint64_t value, unsigned int size)
{
	struct reset_port *port = opaque;
	uint8_t old = __atomic_exchange_n(&port->value, value & RST_CNT_KEPT, __ATOMIC_RELAXED);

	(void)offset;
	(void)size;
	if (value & ~(uint64_t)old & RST_CNT_CPU)
		vm_make_request(port->dev.vm, VM_REQUEST_RESET, 0, xstrdup("port 0xcf9"));
}

static const struct bus_ops i8042_ops = { i8042_read, i8042_write };
static const struct bus_ops pch_ops = { pch_read, pch_write };

static struct device *create(struct vm *vm, struct bus_region region, struct error **errp)
{
	struct reset_port *port = xcalloc(1, sizeof(*port));

	port->dev.vm = vm;
	region.opaque = port;
	if (bus_add(&vm->pio, &region, errp))
		return &port->dev;
	free(port);
	return NULL;
}

static struct device *i8042_create(struct vm *vm, const struct device_config *config,
				   struct error **errp)
{
	/* Ports 0x60 to 0x64, of which KVM's own timer chip takes 0x61 before it comes here. */
	return create(vm, (struct bus_region){ config->base, 5, "i8042", &i8042_ops, NULL }, errp);
}

static struct device *pch_create(struct vm *vm, const struct device_config *config,
				 struct error **errp)
{
	return create(vm, (struct bus_region){ config->base, 1, "pch-reset", &pch_ops, NULL },
		      errp);
}

static void reset(struct device *dev)
{
	container_of(dev, struct reset_port, dev)->value = 0;
}

static void destroy(struct device *dev)
{
	free(container_of(dev, struct reset_port, dev));
}

static void *state(struct device *dev)
{
	return container_of(dev, struct reset_port, dev);
}

static const struct vmstate_field pch_fields[] = {
	VMSTATE_ONE(UINT8, value, struct reset_port),
	VMSTATE_END,
};
static const struct vmstate_desc pch_vmstate = { .name = "pch-reset",
						 .version_id = 1,
						 .minimum_version_id = 1,
						 .fields = pch_fields };

const struct device_class i8042_class = {
	.name = "i8042",
	.compatible = "ferry,i8042-reset",
	.create = i8042_create,
	.reset = reset,
	.destroy = destroy,
};

const struct device_class pch_reset_class = {
	.name = "pch-reset",
	.compatible = "ferry,pch-reset",
	.vmstate = &pch_vmstate,
	.create = pch_create,
	.state = state,
	.reset = reset,
	.destroy = destroy,
};
