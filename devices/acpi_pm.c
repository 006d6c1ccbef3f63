/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/acpi_pm.h"

#include <pthread.h>

#include "migration/stream/vmstate.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/vm.h"

#define SCI_ENABLED 0x1u
#define SLEEP_TYPE_SHIFT 10
#define SLEEP_TYPE 0x1c00u
#define SLEEP 0x2000u /* write only: sleep now */
#define CONTROL_KEPT (SLEEP_TYPE | 0x2u)

struct acpi_pm {
	struct device dev;
	pthread_mutex_t lock;
	/* lock; travel */
	uint16_t enable, control;
};

/* Registers are read and written byte by byte, as ACPI allows: the byte at an offset of the block. */
static uint8_t read_byte(const struct acpi_pm *pm, uint64_t offset)
{
	const uint16_t words[ACPI_PM_PORTS / 2] = { 0, pm->enable, pm->control | SCI_ENABLED };

	return (uint8_t)(words[offset / 2] >> (offset & 1) * 8);
}

static uint16_t with_byte(uint16_t word, uint64_t offset, uint8_t byte)
{
	return offset & 1 ? (uint16_t)((word & 0xff) | byte << 8)
			  : (uint16_t)((word & 0xff00) | byte);
}

/* Returns whether the guest powers off. The status has nothing to clear. */
static bool write_byte(struct acpi_pm *pm, uint64_t offset, uint8_t byte)
{
	uint16_t control = pm->control;

	switch (offset / 2) {
	case 1:
		pm->enable = with_byte(pm->enable, offset, byte);
		return false;
	case ACPI_PM_CONTROL / 2:
		control = with_byte(control, offset, byte);
		pm->control = control & CONTROL_KEPT;
		return control & SLEEP &&
		       (control & SLEEP_TYPE) >> SLEEP_TYPE_SHIFT == ACPI_PM_TYPE_OFF;
	default:
		return false;
	}
}

static uint64_t pm_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct acpi_pm *pm = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&pm->lock);
	for (unsigned int i = 0; i < size && offset + i < ACPI_PM_PORTS; i++)
		value |= (uint64_t)read_byte(pm, offset + i) << i * 8;
	pthread_mutex_unlock(&pm->lock);
	return value;
}

static void pm_write(void *opaque, uint64_t offset, uint64_t value, unsigned int size)
{
	struct acpi_pm *pm = opaque;
	bool off = false;

	pthread_mutex_lock(&pm->lock);
	for (unsigned int i = 0; i < size && offset + i < ACPI_PM_PORTS; i++)
		off |= write_byte(pm, offset + i, (uint8_t)(value >> i * 8));
	pthread_mutex_unlock(&pm->lock);
	if (off)
		vm_make_request(pm->dev.vm, VM_REQUEST_SHUTDOWN, 0, NULL);
}

static const struct bus_ops pm_ops = { pm_read, pm_write };

static void destroy(struct device *dev)
{
	struct acpi_pm *pm = container_of(dev, struct acpi_pm, dev);

	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static struct device *create(struct vm *vm, const struct device_config *config, struct error **errp)
{
	struct acpi_pm *pm = xcalloc(1, sizeof(*pm));
	struct bus_region region = { config->base, ACPI_PM_PORTS, "acpi-pm", &pm_ops, pm };

	pm->dev.vm = vm;
	pthread_mutex_init(&pm->lock, NULL);
	if (bus_add(&vm->pio, &region, errp))
		return &pm->dev;
	destroy(&pm->dev);
	return NULL;
}

static void reset(struct device *dev)
{
	struct acpi_pm *pm = container_of(dev, struct acpi_pm, dev);

	pm->enable = 0;
	pm->control = 0;
}

static void *state(struct device *dev)
{
	return container_of(dev, struct acpi_pm, dev);
}

/* What a guest could not have written is not accepted. */
static bool post_load(void *opaque, uint32_t version, struct error **errp)
{
	struct acpi_pm *pm = opaque;

	(void)version;
	if (!(pm->control & ~CONTROL_KEPT))
		return true;
	error_set(errp, "acpi-pm: control 0x%x has bits that are not kept", pm->control);
	return false;
}

static const struct vmstate_field fields[] = {
	VMSTATE_ONE(UINT16, enable, struct acpi_pm),
	VMSTATE_ONE(UINT16, control, struct acpi_pm),
	VMSTATE_END,
};
static const struct vmstate_desc vmstate = { .name = "acpi-pm",
					     .version_id = 1,
					     .minimum_version_id = 1,
					     .fields = fields,
					     .post_load = post_load };

const struct device_class acpi_pm_class = {
	.name = "acpi-pm",
	.compatible = "ferry,acpi-pm",
	.vmstate = &vmstate,
	.create = create,
	.state = state,
	.reset = reset,
	.destroy = destroy,
};
