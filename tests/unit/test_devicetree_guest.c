/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an operating system can run by the tree alone: every interrupt leads to an input of the I/O APIC, every port and register to
 * an address. Where there are ACPI tables as well, the guest's copy leaves to them what they name. Older trees, which have no
 * interrupt controllers, still are machines.
 *
 * How: the tree is read by the rules of the Devicetree Specification, as a guest would. (That Linux agrees is seen with a kernel
 * built with CONFIG_OF, by hand.)
 */
#include <libfdt.h>

#include "tests/unit/support.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/devicetree.h"
#include "vmm/boot/layout.h"

SUITE(devicetree_guest);

#define ROOM (256 << 10)

static const struct machine_options usual = {
	.memory_bytes = UINT64_C(256) << 20,
	.ncpus = 2,
	.cmdline = "quiet",
	.kernel_bytes = 4096,
	.virtio = { { .kind = "block", .id = "disk0", .path = "/tmp/disk.img" },
		    { .kind = "net", .id = "lan", .path = "tap7" },
		    { .kind = "rng", .id = "rng0" } },
	.nvirtio = 3,
};

static void *build(const struct machine_options *o)
{
	struct error *err = NULL;
	size_t size;
	void *fdt = devicetree_build(o, &size, &err);

	expect_ok(fdt, err);
	return fdt;
}

static void *for_guest(const void *fdt, bool acpi)
{
	struct error *err = NULL;
	size_t size = 0;
	void *copy = devicetree_for_guest(fdt, acpi, &size, &err);

	expect_ok(copy, err);
	cr_assert_eq(fdt_totalsize(copy), size);
	cr_assert_eq(fdt_check_full(copy, size), 0);
	return copy;
}

/* The number in a property of one cell. */
static uint32_t cell(const void *fdt, int node, const char *name)
{
	int len;
	const uint8_t *value = fdt_getprop(fdt, node, name, &len);

	cr_assert(value && len == 4, "%s of %s", name, fdt_get_name(fdt, node, NULL));
	return get_be32(value);
}

static bool has_prop(const void *fdt, int node, const char *name)
{
	return fdt_getprop(fdt, node, name, NULL) != NULL;
}

/* A node's interrupt-parent, or its parents'. */
static int interrupt_parent(const void *fdt, int node)
{
	while (node >= 0 && !has_prop(fdt, node, "interrupt-parent"))
		node = fdt_parent_offset(fdt, node);
	cr_assert_geq(node, 0);
	node = fdt_node_offset_by_phandle(fdt, cell(fdt, node, "interrupt-parent"));
	cr_assert_geq(node, 0);
	return node;
}

Test(devicetree_guest, interrupts_lead_to_the_io_apic)
{
	void *fdt = build(&usual);
	unsigned int found = 0;

	for (int node = 0; node >= 0; node = fdt_next_node(fdt, node, NULL)) {
		int len, apic;
		const uint8_t *irq = fdt_getprop(fdt, node, "interrupts", &len);
		const char *name = fdt_get_name(fdt, node, NULL);

		if (!irq)
			continue;
		apic = interrupt_parent(fdt, node);
		cr_assert_eq(fdt_node_check_compatible(fdt, apic, "intel,ce4100-ioapic"), 0);
		cr_assert(has_prop(fdt, apic, "interrupt-controller"));
		cr_assert_eq(cell(fdt, apic, "#interrupt-cells"), 2);
		cr_assert(len == 8 && get_be32(irq) < 24, "%s", name);
		/* 1: level, active high; 3: rising edge. The ACPI interrupt alone is a level. */
		cr_assert_eq(get_be32(irq + 4), strcmp(name, "acpi@600") ? 3 : 1, "%s", name);
		found++;
	}
	cr_assert_eq(found, 3 + 2, "three virtio devices, the serial port and ACPI's");
	free(fdt);
}

static void expect_apic(const void *fdt, const char *compatible, uint64_t base)
{
	int node = fdt_node_offset_by_compatible(fdt, -1, compatible), len;
	const uint8_t *reg = fdt_getprop(fdt, node, "reg", &len);

	cr_assert(node >= 0 && reg && len == 16, "%s", compatible);
	cr_assert_eq(get_be64(reg), base, "%s", compatible);
}

Test(devicetree_guest, what_it_takes_to_run_by_the_tree_alone)
{
	void *fdt = build(&usual);
	int isa = fdt_path_offset(fdt, "/isa"), len;
	int serial = fdt_path_offset(fdt, "/isa/serial@3f8");
	const uint8_t *ranges = fdt_getprop(fdt, isa, "ranges", &len);
	int lapic = fdt_node_offset_by_compatible(fdt, -1, "intel,ce4100-lapic");

	expect_apic(fdt, "intel,ce4100-ioapic", 0xfec00000);
	expect_apic(fdt, "intel,ce4100-lapic", 0xfee00000);
	cr_assert(has_prop(fdt, lapic, "intel,virtual-wire-mode"));
	/* I/O space from 0: the same above the bus, all 64 Ki ports. */
	cr_assert(ranges && len == 20 && get_be32(ranges) == 1 && get_be32(ranges + 4) == 0);
	cr_assert(get_be64(ranges + 8) == 0 && get_be32(ranges + 16) == 0x10000);
	cr_assert_eq(cell(fdt, serial, "clock-frequency"), 1843200);
	free(fdt);
}

static bool has_device(const struct machine_plan *plan, const char *compatible)
{
	for (unsigned int i = 0; i < plan->ndevices; i++)
		if (strcmp(plan->devices[i].compatible, compatible) == 0)
			return true;
	return false;
}

Test(devicetree_guest, a_machine_without_acpi_lacks_its_registers_alone)
{
	struct machine_options o = usual;
	struct machine_plan with, without;
	void *fdt = build(&usual), *bare;
	struct error *err = NULL;

	o.no_acpi = true;
	bare = build(&o);
	expect_ok(devicetree_parse(fdt, fdt_totalsize(fdt), &with, &err), err);
	expect_ok(devicetree_parse(bare, fdt_totalsize(bare), &without, &err), err);
	cr_assert(has_device(&with, "ferry,acpi-pm") && !has_device(&without, "ferry,acpi-pm"));
	cr_assert_eq(with.ndevices, without.ndevices + 1);
	cr_assert(has_device(&without, "ns16550a") && has_device(&without, "virtio,mmio"));
	free(bare);
	free(fdt);
}

/* What may be different between a tree and the guest's copy where it is alone: nothing but the hints. */
Test(devicetree_guest, without_acpi_the_copy_says_all)
{
	void *fdt = build(&usual), *copy = for_guest(fdt, false);
	int node = 0, same = 0;

	for (; node >= 0; node = fdt_next_node(fdt, node, NULL)) {
		int prop;

		cr_assert_str_eq(fdt_get_name(copy, same, NULL), fdt_get_name(fdt, node, NULL));
		fdt_for_each_property_offset(prop, fdt, node)
		{
			const char *name;
			int len, copied;
			const void *value = fdt_getprop_by_offset(fdt, prop, &name, &len);
			const void *other = fdt_getprop(copy, same, name, &copied);

			if (strcmp(name, "ferry,path-hint") == 0)
				cr_assert_null(other);
			else
				cr_assert(other && len == copied && !memcmp(value, other, len),
					  "%s", name);
		}
		cr_assert_not(has_prop(copy, same, "status"));
		same = fdt_next_node(copy, same, NULL);
	}
	cr_assert(same < 0, "the copy has more");
	free(copy);
	free(fdt);
}

static bool is_disabled(const void *fdt, const char *path)
{
	int node = fdt_path_offset(fdt, path);
	const char *status = fdt_getprop(fdt, node, "status", NULL);

	cr_assert_geq(node, 0, "%s", path);
	return status && strcmp(status, "disabled") == 0;
}

Test(devicetree_guest, beside_acpi_the_copy_leaves_devices_to_it)
{
	void *fdt = build(&usual), *copy = for_guest(fdt, true);
	const char *bootargs;

	cr_assert(is_disabled(copy, "/isa") && is_disabled(copy, "/virtio_mmio@d0000000") &&
		  is_disabled(copy, "/virtio_mmio@d0001000") &&
		  is_disabled(copy, "/virtio_mmio@d0002000"));
	cr_assert(!is_disabled(copy, "/memory@0") && !is_disabled(copy, "/chosen"));
	cr_assert_eq(fdt_path_offset(copy, "/cpus"), -FDT_ERR_NOTFOUND);
	for (int node = 0; node >= 0; node = fdt_next_node(copy, node, NULL))
		cr_assert(!has_prop(copy, node, "interrupt-controller") &&
			  !has_prop(copy, node, "interrupt-parent"));
	cr_assert_null(memmem(copy, fdt_totalsize(copy), "/tmp/disk.img", 13));
	cr_assert_null(memmem(copy, fdt_totalsize(copy), "tap7", 4));
	bootargs = fdt_getprop(copy, fdt_path_offset(copy, "/chosen"), "bootargs", NULL);
	cr_assert_str_eq(bootargs, "quiet");
	free(copy);
	free(fdt);
}

/* --- trees that ferry would not write --- */

static void *editable(void)
{
	void *fdt = build(&usual), *big = malloc(ROOM);

	cr_assert_eq(fdt_open_into(fdt, big, ROOM), 0);
	free(fdt);
	return big;
}

/* As builds before wrote it: no controllers, and interrupts of one cell. */
Test(devicetree_guest, an_older_tree_is_a_machine)
{
	void *fdt = editable(), *copy;
	struct error *err = NULL;
	struct machine_plan plan;

	fdt_delprop(fdt, 0, "interrupt-parent");
	fdt_del_node(fdt, fdt_path_offset(fdt, "/interrupt-controller@fec00000"));
	fdt_del_node(fdt, fdt_path_offset(fdt, "/interrupt-controller@fee00000"));
	fdt_delprop(fdt, fdt_path_offset(fdt, "/isa"), "ranges");
	fdt_delprop(fdt, fdt_path_offset(fdt, "/isa/serial@3f8"), "clock-frequency");
	for (int node = 0; node >= 0; node = fdt_next_node(fdt, node, NULL))
		if (has_prop(fdt, node, "interrupts"))
			fdt_setprop(fdt, node, "interrupts", "\0\0\0\5", 4);
	fdt_setprop_u32(fdt, fdt_path_offset(fdt, "/isa/serial@3f8"), "interrupts", 4);
	fdt_setprop_u32(fdt, fdt_path_offset(fdt, "/isa/acpi@600"), "interrupts", 9);
	fdt_setprop_u32(fdt, fdt_path_offset(fdt, "/virtio_mmio@d0001000"), "interrupts", 6);
	fdt_setprop_u32(fdt, fdt_path_offset(fdt, "/virtio_mmio@d0002000"), "interrupts", 7);
	cr_assert_eq(fdt_pack(fdt), 0);
	expect_ok(devicetree_parse(fdt, fdt_totalsize(fdt), &plan, &err), err);
	cr_assert(plan.ncpus == 2 && has_device(&plan, "ns16550a"));
	copy = for_guest(fdt, true);
	cr_assert(is_disabled(copy, "/virtio_mmio@d0002000"));
	free(copy);
	free(fdt);
}

Test(devicetree_guest, interrupt_controllers_elsewhere_are_refused)
{
	static const struct {
		uint64_t base, length;
		int bytes;
	} bad[] = {
		{ 0xfec01000, 0x1000, 16 }, { 0, 0x1000, 16 },
		{ 0xfec00000, 0x2000, 16 }, { UINT64_C(0x1fec00000), 0x1000, 16 },
		{ 0xfec00000, 0, 16 },	    { 0xfec00000, 0x1000, 8 },
		{ 0xfec00000, 0x1000, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		void *fdt = editable();
		int apic = fdt_path_offset(fdt, "/interrupt-controller@fec00000");
		struct error *err = NULL;
		struct machine_plan plan;
		uint8_t reg[16];

		put_be64(reg, bad[i].base);
		put_be64(reg + 8, bad[i].length);
		cr_assert_eq(fdt_setprop(fdt, apic, "reg", reg, bad[i].bytes), 0);
		cr_assert_eq(fdt_pack(fdt), 0);
		cr_assert_not(devicetree_parse(fdt, fdt_totalsize(fdt), &plan, &err), "%zu", i);
		expect_error(err, "interrupt controller where this machine has none");
		free(fdt);
	}
}

/* The largest tree that may come has room for what is added, if it is one of ours; else it is refused, and nothing overflows. */
Test(devicetree_guest, the_copy_has_its_room)
{
	struct error *err = NULL;
	struct machine_plan plan;
	void *fdt = editable(), *filler, *copy;
	size_t size = 77;
	char name[16];

	cr_assert_leq(DEVICETREE_GUEST_MAX + 16, BOOT_FDT_ROOM);
	fdt_pack(fdt);
	size = DEVICETREE_MAX_BYTES - fdt_totalsize(fdt) - 32;
	cr_assert_eq(fdt_open_into(fdt, fdt, ROOM), 0);
	cr_assert_eq(fdt_setprop_placeholder(fdt, 0, "filler", (int)size, &filler), 0);
	memset(filler, 0, size);
	fdt_pack(fdt);
	expect_ok(devicetree_parse(fdt, fdt_totalsize(fdt), &plan, &err), err);
	copy = for_guest(fdt, true);
	cr_assert_leq(fdt_totalsize(copy), DEVICETREE_GUEST_MAX);
	free(copy);

	cr_assert_eq(fdt_open_into(fdt, fdt, ROOM), 0);
	cr_assert_eq(fdt_delprop(fdt, 0, "filler"), 0);
	for (unsigned int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "x%u", i);
		cr_assert_eq(
			fdt_setprop_string(fdt, fdt_add_subnode(fdt, 0, name), "compatible", "isa"),
			0);
	}
	fdt_pack(fdt);
	size = 77;
	expect_ok(devicetree_parse(fdt, fdt_totalsize(fdt), &plan, &err), err);
	cr_assert_null(devicetree_for_guest(fdt, true, &size, &err));
	expect_error(err, "the guest's copy: FDT_ERR_NOSPACE");
	cr_assert_eq(size, 77, "outputs are untouched");
	free(for_guest(fdt, false));
	free(fdt);
}
