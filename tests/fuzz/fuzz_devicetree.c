/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device tree, which comes from a stranger: the plan that is read from it keeps to its bounds, points into the tree, and what a
 * fresh machine could be asked for gives a tree that reads the same. */
#include <libfdt.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/devicetree.h"

static bool within(const void *fdt, size_t size, const char *text)
{
	const char *start = fdt;

	return text >= start && text < start + size &&
	       memchr(text, '\0', size - (size_t)(text - start));
}

static void expect_bounds(const struct machine_plan *plan, const void *fdt, size_t size)
{
	MUST(plan->ncpus >= 1 && plan->ncpus <= VM_MAX_VCPUS);
	MUST(plan->nmemory >= 1 && plan->nmemory <= MACHINE_MAX_MEMORY_RANGES);
	for (unsigned int i = 0; i < plan->nmemory; i++)
		MUST(plan->memory[i].size && plan->memory[i].size <= MACHINE_MEMORY_MAX &&
		     plan->memory[i].size % GUEST_PAGE_SIZE == 0 &&
		     plan->memory[i].start == (i ? MEMORY_HOLE_END : 0));
	MUST(plan->memory[0].size >= MACHINE_MEMORY_MIN &&
	     plan->memory[0].size <= MEMORY_HOLE_START);
	MUST(within(fdt, size, plan->cmdline) && strlen(plan->cmdline) <= MACHINE_CMDLINE_MAX);
	MUST(plan->kernel_bytes && plan->kernel_bytes <= MACHINE_MEMORY_MAX);
	MUST(plan->ndevices <= MACHINE_MAX_DEVICES);
	for (unsigned int i = 0; i < plan->ndevices; i++) {
		const struct machine_device *d = &plan->devices[i];

		MUST(within(fdt, size, d->compatible) && within(fdt, size, d->name));
		if (d->kind)
			MUST(within(fdt, size, d->kind) && within(fdt, size, d->id) &&
			     d->base >= MACHINE_VIRTIO_START && d->base < MACHINE_VIRTIO_END &&
			     d->length == MACHINE_VIRTIO_BYTES && d->irq >= 1 && d->irq <= 23);
		else
			MUST(d->base <= 0x10000 && d->length <= 0x10000 - d->base && d->irq <= 15);
	}
}

static void expect_same(const struct machine_plan *plan)
{
	struct machine_options options = {
		.memory_bytes = plan->memory[0].size + plan->memory[1].size,
		.ncpus = plan->ncpus,
		.cmdline = plan->cmdline,
		.kernel_bytes = plan->kernel_bytes,
		.initrd_bytes = plan->initrd_bytes,
	};
	struct machine_plan again;
	struct error *err = NULL;
	size_t size;
	scoped_free void *fdt = devicetree_build(&options, &size, &err);
	bool possible = fdt != NULL;

	expect_outcome(possible, err);
	/* Only a tree that this machine would not write can be beyond what may be asked for. */
	if (!possible)
		return;
	MUST(size <= DEVICETREE_MAX_BYTES && devicetree_parse(fdt, size, &again, NULL));
	MUST(again.ncpus == plan->ncpus && !strcmp(again.cmdline, plan->cmdline));
	MUST(again.memory[0].size + again.memory[1].size == options.memory_bytes);
	MUST(again.kernel_bytes == plan->kernel_bytes && again.initrd_bytes == plan->initrd_bytes);
}

static void expect_guests_copy(const void *fdt, bool acpi)
{
	struct error *err = NULL;
	size_t size;
	scoped_free void *copy = devicetree_for_guest(fdt, acpi, &size, &err);
	bool ok = copy != NULL;

	expect_outcome(ok, err);
	MUST(ok || acpi); /* there is room for all but what ACPI asks for */
	if (ok)
		MUST(size <= DEVICETREE_GUEST_MAX && fdt_check_full(copy, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	scoped_free void *fdt = malloc(size ? size : 1);
	struct machine_plan plan;
	struct error *err = NULL;
	bool ok;

	MUST(fdt);
	if (size)
		memcpy(fdt, data, size);
	ok = devicetree_parse(fdt, size, &plan, &err);
	expect_outcome(ok, err);
	if (ok) {
		expect_bounds(&plan, fdt, size);
		expect_same(&plan);
		expect_guests_copy(fdt, false);
		expect_guests_copy(fdt, true);
	}
	return 0;
}
