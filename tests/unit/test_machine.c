/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a device's interrupt is what the tree says, also that of an older build, whatever this build would write.
 * How: machines from edited trees.
 */
#include <libfdt.h>

#include "devices/virtio/mmio.h"
#include "tests/unit/kvm_support.h"
#include "vmm/app/machine.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/vcpu.h"

SUITE(machine);

static const struct machine_options options = {
	.memory_bytes = 2 << 20,
	.ncpus = 1,
	.cmdline = "",
	.kernel_bytes = 1,
	.virtio = { { .kind = "rng", .id = "rng0" } },
	.nvirtio = 1,
};

/* Whether a machine whose rng has these interrupts has levels. */
static bool has_level(struct loop *loop, const void *interrupts, int len)
{
	struct machine m = { 0 };
	struct machine_host host = { 0 };
	struct vm_observer nobody = { 0 };
	struct error *err = NULL;
	struct chardev *line = chardev_open(loop, "null", false, NULL, NULL, &err);
	struct virtio_device *v = NULL;
	struct device *dev;
	size_t size;
	bool level;
	void *fdt = realloc(devicetree_build(&options, &size, &err), DEVICETREE_MAX_BYTES);

	expect_ok(line, err);
	cr_assert_eq(fdt_open_into(fdt, fdt, DEVICETREE_MAX_BYTES), 0);
	if (interrupts)
		cr_assert_eq(fdt_setprop(fdt, fdt_path_offset(fdt, "/virtio_mmio@d0000000"),
					 "interrupts", interrupts, len),
			     0);
	host.serial = line;
	vm_init(&m.vm, loop, &nobody, RUNSTATE_PRELAUNCH);
	expect_ok(machine_build(&m, fdt, fdt_totalsize(fdt), &host, NULL, &err), err);
	TAILQ_FOREACH (dev, &m.vm.devices, entry)
		if (dev->cls->kind)
			v = container_of(dev, struct virtio_device, dev);
	cr_assert(v && v->irq == 5);
	level = v->level;
	machine_release(&m);
	chardev_close(line);
	return level;
}

Test(machine, interrupts_are_as_the_tree_says)
{
	static const uint8_t old[4] = { 0, 0, 0, 5 }, levels[8] = { 0, 0, 0, 5, 0, 0, 0, 1 },
			     edges[8] = { 0, 0, 0, 5, 0, 0, 0, 3 };
	struct error *err = NULL;
	struct loop *loop;
	struct kvm kvm;

	KVM_OR_SKIP(&kvm);
	kvm_close(&kvm);
	vcpu_init_signals();
	loop = loop_new(&err);
	expect_ok(loop, err);
	cr_assert_not(has_level(loop, NULL, 0), "what this build writes");
	cr_assert_not(has_level(loop, edges, 8));
	cr_assert(has_level(loop, levels, 8));
	cr_assert(has_level(loop, old, 4));
	loop_free(loop);
}
