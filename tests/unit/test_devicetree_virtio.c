/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: virtio devices that the command line asks for are in the tree, and in the plan as they were
 * asked for; the guest's copy does not tell it of the host; no tree leads to a device elsewhere.
 *
 * How: round trips, edited trees, and flipped bits, as test_devicetree.c does for the rest.
 */
#include <libfdt.h>

#include "tests/unit/support.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/devicetree.h"

SUITE(devicetree_virtio);

#define SEED 0x5eed0420

static const struct machine_options usual = {
	.memory_bytes = UINT64_C(256) << 20,
	.ncpus = 1,
	.cmdline = "",
	.kernel_bytes = 4096,
	.virtio = { { .kind = "rng", .id = "rng0" },
		    { .kind = "block", .id = "disk0", .path = "/tmp/a b,c.img", .read_only = true },
		    { .kind = "net",
		      .id = "lan",
		      .path = "tap7",
		      .has_mac = true,
		      .mac = { 0x52, 0x54, 0, 1, 2, 3 } },
		    { .kind = "console", .id = "con_1.x-" } },
	.nvirtio = 4,
};

static const struct machine_device *find(const struct machine_plan *plan, const char *id)
{
	const struct machine_device *found = NULL;

	for (unsigned int i = 0; i < plan->ndevices; i++)
		if (plan->devices[i].id && strcmp(plan->devices[i].id, id) == 0)
			found = &plan->devices[i];
	cr_assert_not_null(found, "no device '%s'", id);
	return found;
}

Test(devicetree_virtio, what_is_built_is_parsed)
{
	const struct machine_device *d;
	struct error *err = NULL;
	struct machine_plan plan;
	size_t size;
	void *fdt = devicetree_build(&usual, &size, &err);

	expect_ok(fdt, err);
	expect_ok(devicetree_parse(fdt, size, &plan, &err), err);
	for (unsigned int i = 0; i < usual.nvirtio; i++) {
		d = find(&plan, usual.virtio[i].id);
		cr_assert_str_eq(d->compatible, "virtio,mmio");
		cr_assert_str_eq(d->kind, usual.virtio[i].kind);
		cr_assert_eq(d->base, UINT64_C(0xd0000000) + i * 0x1000);
		cr_assert_eq(d->length, 0x1000);
		for (unsigned int k = 0; k < plan.ndevices; k++)
			cr_assert(&plan.devices[k] == d || plan.devices[k].irq != d->irq,
				  "two devices on interrupt %u", d->irq);
	}
	d = find(&plan, "disk0");
	cr_assert(d->read_only && !d->mac);
	cr_assert_str_eq(d->path_hint, "/tmp/a b,c.img");
	d = find(&plan, "lan");
	cr_assert(!d->read_only && memcmp(d->mac, usual.virtio[2].mac, 6) == 0);
	cr_assert_str_eq(d->path_hint, "tap7");
	cr_assert_null(find(&plan, "rng0")->path_hint);
	free(fdt);
}

static bool has_text(const uint8_t *fdt, size_t size, const char *text)
{
	return memmem(fdt, size, text, strlen(text)) != NULL;
}

Test(devicetree_virtio, the_guest_is_not_told_of_the_host)
{
	struct error *err = NULL;
	struct machine_plan plan;
	size_t size, guest_size;
	void *fdt = devicetree_build(&usual, &size, &err);
	void *guest = devicetree_for_guest(fdt, false, &guest_size, &err);

	expect_ok(guest, err);
	cr_assert(has_text(fdt, size, "/tmp/a b,c.img") && has_text(fdt, size, "tap7"));
	cr_assert(!has_text(guest, guest_size, "/tmp/a b,c.img") &&
		  !has_text(guest, guest_size, "tap7"));
	expect_ok(devicetree_parse(guest, guest_size, &plan, &err), err);
	cr_assert_null(find(&plan, "disk0")->path_hint);
	cr_assert(find(&plan, "disk0")->read_only);
	free(guest);
	free(fdt);
}

Test(devicetree_virtio, options_that_cannot_be_are_refused)
{
	static const char *const ids[] = { "", "a b", "a/b", "12345678901234567890123456789012",
					   "rng0" };
	static const char *const errors[] = { "expected 1 to 31", "expected 1 to 31",
					      "expected 1 to 31", "expected 1 to 31", "twice" };
	struct error *err = NULL;
	char path[1025];
	size_t size;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct machine_options o = usual;

		o.virtio[2].id = ids[i];
		cr_assert_null(devicetree_build(&o, &size, &err), "'%s'", ids[i]);
		expect_error(err, errors[i]);
	}
	struct machine_options o = usual;

	memset(path, 'x', 1024);
	path[1024] = '\0';
	o.virtio[1].path = path;
	cr_assert_null(devicetree_build(&o, &size, &err));
	expect_error(err, "at most 1023");
}

/* The tree of `usual` with another property, to be freed. value NULL: without it. */
static void *edit(const char *node, const char *property, const void *value, int len)
{
	struct error *err = NULL;
	size_t size;
	void *fdt = devicetree_build(&usual, &size, &err), *big = malloc(size + 4096);
	int at;

	cr_assert_eq(fdt_open_into(fdt, big, (int)size + 4096), 0);
	at = fdt_path_offset(big, node);
	cr_assert_geq(at, 0);
	if (value)
		cr_assert_eq(fdt_setprop(big, at, property, value, len), 0);
	else
		cr_assert_eq(fdt_delprop(big, at, property), 0);
	fdt_pack(big);
	free(fdt);
	return big;
}

/* A guest keeps the kind of interrupt that it was told of when it booted: trees of before have one cell, and meant levels. */
Test(devicetree_virtio, the_type_of_an_interrupt)
{
	static const struct {
		uint8_t cells[8];
		int len;
		bool level;
	} rows[] = {
		{ { 0, 0, 0, 20 }, 4, true },
		{ { 0, 0, 0, 20, 0, 0, 0, 1 }, 8, true },
		{ { 0, 0, 0, 20, 0, 0, 0, 3 }, 8, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		void *fdt = edit("/virtio_mmio@d0001000", "interrupts", rows[i].cells, rows[i].len);
		struct error *err = NULL;
		struct machine_plan plan;

		expect_ok(devicetree_parse(fdt, fdt_totalsize(fdt), &plan, &err), err);
		cr_assert_eq(find(&plan, "disk0")->irq, 20);
		cr_assert_eq(find(&plan, "disk0")->level, rows[i].level, "row %zu", i);
		cr_assert_not(find(&plan, "rng0")->level);
		free(fdt);
	}
}

static void edited(const char *node, const char *property, const void *value, int len,
		   const char *error)
{
	void *fdt = edit(node, property, value, len);
	struct error *err = NULL;
	struct machine_plan plan;

	cr_assert_not(devicetree_parse(fdt, fdt_totalsize(fdt), &plan, &err), "%s", property);
	expect_error(err, error);
	free(fdt);
}

static void edited_reg(uint64_t base, uint64_t length)
{
	uint8_t reg[16];

	put_be64(reg, base);
	put_be64(reg + 8, length);
	edited("/virtio_mmio@d0001000", "reg", reg, 16, "out of range");
}

Test(devicetree_virtio, a_tree_with_a_device_that_cannot_be_is_refused)
{
	static const char *const needed[] = { "reg", "interrupts", "ferry,device", "ferry,id" };
	static const uint8_t irqs[][4] = {
		{ 0, 0, 0, 0 }, { 0, 0, 0, 24 }, { 1, 0, 0, 5 }, { 0, 0, 0, 5 }, { 0, 0, 0, 4 }
	};
	static const uint8_t types[][8] = {
		{ 0, 0, 0, 8, 0, 0, 0, 0 },	    { 0, 0, 0, 8, 0, 0, 0, 2 },
		{ 0, 0, 0, 8, 0, 0, 0, 4 },	    { 0, 0, 0, 8, 1, 0, 0, 3 },
		{ 0, 0, 0, 8, 255, 255, 255, 255 },
	};
	const char *const node = "/virtio_mmio@d0001000";

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		edited(node, needed[i], NULL, 0, "does not understand");
	for (size_t i = 0; i < 3; i++)
		edited(node, "interrupts", irqs[i], 4, "out of range");
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		edited(node, "interrupts", types[i], 8, "'virtio_mmio@d0001000': interrupt type ");
	edited(node, "interrupts", "\0\0\0\10\0\0\0", 7, "interrupts of 7 bytes");
	edited(node, "interrupts", "\0\0\0\10\0\0\0\3\0\0\0\0", 12, "interrupts of 12 bytes");
	for (size_t i = 3; i < 5; i++) /* another virtio device's, and the serial port's */
		edited(node, "interrupts", irqs[i], 4, "the same name or interrupt");
	edited(node, "ferry,id", "rng0", 5, "the same name or interrupt");
	edited(node, "ferry,id", "a b", 4, "that cannot be");
	edited(node, "ferry,device", "gpu", 4, "that cannot be");
	edited(node, "ferry,device", "block", 5, "does not understand"); /* no NUL */
	edited(node, "local-mac-address", "12345", 5, "does not understand");
	edited_reg(0, 0x1000); /* where RAM is */
	edited_reg(0xd0001800, 0x1000);
	edited_reg(0xd0001000, 0x2000);
	edited_reg(0xfee00000, 0x1000);
	edited_reg(0xe0000000, 0x1000);
	edited_reg(UINT64_C(0x1d0001000), 0x1000);
	edited_reg(0xd0001000, UINT64_MAX);
}

Test(devicetree_virtio, flipped_bits_are_refused_or_mean_a_machine)
{
	struct prng rng = { SEED };
	struct error *err = NULL;
	unsigned int refused = 0;
	size_t size;
	uint8_t *fdt = devicetree_build(&usual, &size, &err), *copy = malloc(size);

	for (unsigned int i = 0; i < 20000; i++) {
		struct machine_plan plan;

		memcpy(copy, fdt, size);
		for (uint64_t n = 1 + prng_below(&rng, 4); n > 0; n--)
			copy[prng_below(&rng, size)] ^= (uint8_t)(1u << prng_below(&rng, 8));
		if (!devicetree_parse(copy, size, &plan, &err)) {
			refused++;
			error_free(err);
			err = NULL;
			continue;
		}
		for (unsigned int k = 0; k < plan.ndevices; k++) {
			const struct machine_device *d = &plan.devices[k];

			if (d->id)
				cr_assert(d->base >= 0xd0000000 && d->base < 0xe0000000 &&
						  d->length == 0x1000 && d->irq >= 1 &&
						  d->irq <= 23 && strlen(d->id) <= MACHINE_ID_MAX,
					  "seed 0x%x round %u", SEED, i);
			else
				cr_assert(d->base + d->length <= 0x10000 && d->irq <= 15);
		}
	}
	cr_assert(refused > 2000 && refused < 19900, "%u of 20000 were refused", refused);
	free(copy);
	free(fdt);
}
