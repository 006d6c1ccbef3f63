/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what is built from options is parsed as the same machine; a tree that lacks something, or
 * says what this build cannot have, is refused; no tree from a stranger is a danger.
 *
 * How: round trips, then trees that libfdt has edited, cut ones and ones with flipped bits. A tree
 * to be parsed ends right before a page that may not be touched, for libfdt is not instrumented.
 */
#include <libfdt.h>
#include <sys/mman.h>

#include "tests/unit/support.h"
#include "vmm/base/bytes.h"
#include "vmm/boot/devicetree.h"

#define SEED 0x5eed0106
#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define ROOM (256 * KIB)

static const struct machine_options usual = {
	.memory_bytes = 6 * GIB,
	.ncpus = 2,
	.cmdline = "console=ttyS0 quiet",
	.kernel_bytes = 123456,
	.initrd_bytes = 789,
};

static void *build(const struct machine_options *options, size_t *size)
{
	struct error *err = NULL;
	void *fdt = devicetree_build(options, size, &err);

	expect_ok(fdt, err);
	cr_assert(*size > 0 && *size <= DEVICETREE_MAX_BYTES);
	cr_assert_eq(fdt_totalsize(fdt), *size);
	return fdt;
}

/* --- a place whose end is guarded --- */

static uint8_t *guarded_area(void)
{
	uint8_t *area =
		mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(area, MAP_FAILED);
	cr_assert_eq(mprotect(area + ROOM, 4096, PROT_NONE), 0);
	return area;
}

static bool inside(const void *p, const void *fdt, size_t size)
{
	return (uintptr_t)p >= (uintptr_t)fdt && (uintptr_t)p < (uintptr_t)fdt + size;
}

/* What a plan promises to whoever builds the machine from it, wherever the tree came from. */
static void expect_sane(const struct machine_plan *plan, const void *fdt, size_t size)
{
	cr_assert(plan->ncpus >= 1 && plan->ncpus <= 64);
	cr_assert(plan->nmemory == 1 || plan->nmemory == 2);
	cr_assert(plan->memory[0].start == 0 && plan->memory[0].size >= 2 * MIB &&
		  plan->memory[0].size <= 3 * GIB);
	for (unsigned int i = 0; i < plan->nmemory; i++)
		cr_assert(plan->memory[i].size && plan->memory[i].size % 4096 == 0 &&
			  plan->memory[i].size <= UINT64_C(1) << 45);
	cr_assert(plan->nmemory == 1 || plan->memory[1].start == 4 * GIB);
	cr_assert(inside(plan->cmdline, fdt, size) && strlen(plan->cmdline) <= 4095);
	cr_assert(plan->kernel_bytes && plan->kernel_bytes <= UINT64_C(1) << 45 &&
		  plan->initrd_bytes <= UINT64_C(1) << 45);
	cr_assert_leq(plan->ndevices, 32);
	for (unsigned int i = 0; i < plan->ndevices; i++) {
		const struct machine_device *d = &plan->devices[i];

		cr_assert(inside(d->name, fdt, size) && inside(d->compatible, fdt, size));
		cr_assert(strlen(d->name) < size && strlen(d->compatible) < size);
		if (!d->id)
			cr_assert(d->base + d->length <= 0x10000 && d->irq <= 15);
	}
}

/* Parse a copy that ends at the guard. The plan's pointers are only good until the next call. */
static bool parse(uint8_t *area, const void *fdt, size_t size, struct machine_plan *plan,
		  struct error **errp)
{
	uint8_t *copy = memcpy(area + ROOM - align_up(size, 8), fdt, size); /* as libfdt wants */
	bool ok;

	memset(copy + size, 0xff, align_up(size, 8) - size);
	ok = devicetree_parse(copy, size, plan, errp);
	cr_assert_eq(ok, !errp || !*errp, "the result and the error differ");
	if (ok)
		expect_sane(plan, copy, size);
	return ok;
}

/* --- round trips --- */

static const struct {
	const char *name, *compatible;
	uint64_t base, length;
	uint32_t irq;
	bool level;
} devices[] = {
	{ "serial@3f8", "ns16550a", 0x3f8, 8, 4, false },
	{ "debug-exit@f4", "ferry,debug-exit", 0xf4, 4, 0, false },
	{ "i8042@60", "ferry,i8042-reset", 0x60, 5, 0, false },
	{ "reset@cf9", "ferry,pch-reset", 0xcf9, 1, 0, false },
	{ "acpi@600", "ferry,acpi-pm", 0x600, 8, 9, true },
};
#define NDEVICES (sizeof(devices) / sizeof(devices[0]))

static void expect_plan(const struct machine_plan *plan, const struct machine_options *options)
{
	uint64_t low = options->memory_bytes < 3 * GIB ? options->memory_bytes : 3 * GIB;

	cr_assert_eq(plan->ncpus, options->ncpus);
	cr_assert_eq(plan->nmemory, options->memory_bytes > low ? 2 : 1);
	cr_assert(plan->memory[0].start == 0 && plan->memory[0].size == low);
	if (plan->nmemory == 2)
		cr_assert(plan->memory[1].start == 4 * GIB &&
			  plan->memory[1].size == options->memory_bytes - low);
	cr_assert_str_eq(plan->cmdline, options->cmdline);
	cr_assert_eq(plan->kernel_bytes, options->kernel_bytes);
	cr_assert_eq(plan->initrd_bytes, options->initrd_bytes);
	cr_assert_eq(plan->ndevices, NDEVICES);
	for (size_t i = 0; i < NDEVICES; i++) {
		cr_assert_str_eq(plan->devices[i].name, devices[i].name);
		cr_assert_str_eq(plan->devices[i].compatible, devices[i].compatible);
		cr_assert_eq(plan->devices[i].base, devices[i].base, "%s", devices[i].name);
		cr_assert_eq(plan->devices[i].length, devices[i].length, "%s", devices[i].name);
		cr_assert_eq(plan->devices[i].irq, devices[i].irq, "%s", devices[i].name);
		cr_assert_eq(plan->devices[i].level, devices[i].level, "%s", devices[i].name);
	}
}

Test(devicetree, what_is_built_is_parsed)
{
	static const uint64_t sizes[] = { 2 * MIB,	  256 * MIB, 3 * GIB - 4096, 3 * GIB,
					  3 * GIB + 4096, 6 * GIB,   32 * 1024 * GIB };
	static const unsigned int cpus[] = { 1, 2, 63, 64 };
	uint8_t *area = guarded_area();
	char cmdline[4096];

	memset(cmdline, 'x', 4095);
	cmdline[4095] = '\0';
	for (size_t i = 0; i < 7 * 4; i++) {
		struct machine_options options = usual;
		struct error *err = NULL;
		struct machine_plan plan;
		size_t size;
		void *fdt;

		options.memory_bytes = sizes[i / 4];
		options.ncpus = cpus[i % 4];
		options.cmdline = i % 3 == 0 ? "" : i % 3 == 1 ? cmdline : "a=\"b c\"";
		options.initrd_bytes = i % 2;
		fdt = build(&options, &size);
		memset(&plan, 0xa5, sizeof(plan));
		expect_ok(parse(area, fdt, size, &plan, &err), err);
		expect_plan(&plan, &options);
		free(fdt);
	}
	munmap(area, ROOM + 4096);
}

/* What the guest reads there, by the Devicetree Specification. */
Test(devicetree, the_guest_finds_what_it_looks_for)
{
	size_t size;
	void *fdt = build(&usual, &size);
	int memory = fdt_path_offset(fdt, "/memory@100000000");
	int cpu = fdt_path_offset(fdt, "/cpus/cpu@1"), chosen = fdt_path_offset(fdt, "/chosen");
	int isa = fdt_path_offset(fdt, "/isa"), len;
	const uint8_t *reg = fdt_getprop(fdt, memory, "reg", &len);

	cr_assert_eq(fdt_check_full(fdt, size), 0);
	cr_assert_eq(fdt_node_check_compatible(fdt, 0, "ferry,microvm"), 0);
	cr_assert(fdt_address_cells(fdt, 0) == 2 && fdt_size_cells(fdt, 0) == 2);
	cr_assert(len == 16 && get_be64(reg) == 4 * GIB && get_be64(reg + 8) == 3 * GIB);
	cr_assert_str_eq(fdt_getprop(fdt, memory, "device_type", NULL), "memory");
	cr_assert_str_eq(fdt_getprop(fdt, cpu, "device_type", NULL), "cpu");
	cr_assert_eq(get_be32(fdt_getprop(fdt, cpu, "reg", NULL)), 1, "the APIC id");
	cr_assert_eq(fdt_size_cells(fdt, fdt_path_offset(fdt, "/cpus")), 0);
	cr_assert(fdt_address_cells(fdt, isa) == 2 && fdt_size_cells(fdt, isa) == 1);
	cr_assert_str_eq(fdt_getprop(fdt, chosen, "bootargs", NULL), usual.cmdline);
	cr_assert_geq(fdt_path_offset(fdt, fdt_getprop(fdt, chosen, "stdout-path", NULL)), 0);
	free(fdt);
}

Test(devicetree, options_out_of_range_are_refused)
{
	static const struct {
		uint64_t memory;
		unsigned int cpus;
		const char *error;
	} bad[] = {
		{ 0, 1, "expected 2M to 32T" },
		{ 2 * MIB - 4096, 1, "expected 2M to 32T" },
		{ 2 * MIB + 1, 1, "in pages of 4K" },
		{ 2 * MIB + 2048, 1, "in pages of 4K" },
		{ 32 * 1024 * GIB + 4096, 1, "expected 2M to 32T" },
		{ UINT64_MAX - 4095, 1, "expected 2M to 32T" },
		{ 2 * MIB, 0, "expected 1 to 64" },
		{ 2 * MIB, 65, "expected 1 to 64" },
		{ 2 * MIB, UINT32_MAX, "expected 1 to 64" },
	};
	struct machine_options options = usual;
	struct error *err = NULL;
	char cmdline[4097];
	size_t size = 77;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		options.memory_bytes = bad[i].memory;
		options.ncpus = bad[i].cpus;
		cr_assert_null(devicetree_build(&options, &size, &err), "%zu", i);
		expect_error(err, bad[i].error);
	}
	memset(cmdline, 'x', 4096);
	cmdline[4096] = '\0';
	options = usual;
	options.cmdline = cmdline;
	cr_assert_null(devicetree_build(&options, &size, &err));
	expect_error(err, "4096 bytes: at most 4095");
	cr_assert_eq(size, 77, "outputs are untouched");
}

/* --- trees that were edited --- */

/* The usual tree with room to edit. */
static void *editable(void)
{
	size_t size;
	void *fdt = build(&usual, &size), *big = malloc(ROOM);

	cr_assert_eq(fdt_open_into(fdt, big, ROOM), 0);
	free(fdt);
	return big;
}

static void expect_refused(void *fdt, const char *error, const char *what)
{
	uint8_t *area = guarded_area();
	struct error *err = NULL;
	struct machine_plan plan;

	cr_assert_eq(fdt_pack(fdt), 0);
	cr_assert_not(parse(area, fdt, fdt_totalsize(fdt), &plan, &err), "%s: accepted", what);
	expect_error(err, error);
	munmap(area, ROOM + 4096);
	free(fdt);
}

Test(devicetree, what_is_missing_is_missed)
{
	static const struct {
		const char *node, *property, *error; /* property NULL: the node itself */
	} needed[] = {
		{ "/", "ferry,machine", "machine '(none)'" },
		{ "/memory@0", "device_type", "memory" },
		{ "/memory@0", "reg", "a memory node that" },
		{ "/memory@100000000", "reg", "a memory node that" },
		{ "/memory@0", NULL, "memory lies where" },
		{ "/cpus", NULL, "no /cpus" },
		{ "/chosen", NULL, "no /chosen" },
		{ "/chosen", "bootargs", "bootargs is missing" },
		{ "/chosen", "ferry,kernel-size", "sizes of the boot images are missing" },
		{ "/chosen", "ferry,initrd-size", "sizes of the boot images are missing" },
		{ "/isa", NULL, "no /isa" },
		{ "/isa/serial@3f8", "compatible", "/isa that this build" },
		{ "/isa/serial@3f8", "reg", "/isa that this build" },
		{ "/isa/reset@cf9", "compatible", "/isa that this build" },
	};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		void *fdt = editable();
		int node = fdt_path_offset(fdt, needed[i].node);

		cr_assert_geq(node, 0, "%s", needed[i].node);
		if (needed[i].property)
			cr_assert_eq(fdt_delprop(fdt, node, needed[i].property), 0);
		else
			cr_assert_eq(fdt_del_node(fdt, node), 0);
		expect_refused(fdt, needed[i].error, needed[i].node);
	}
}

Test(devicetree, values_that_this_build_cannot_have)
{
	static const struct {
		const char *node, *property, *hex, *error;
	} bad[] = {
		{ "/", "ferry,machine", "66 65 72 72 79 2d 32 00", "machine 'ferry-2'" },
		{ "/", "ferry,machine", "66 65 72 72 79 2d 31", "machine '(none)'" }, /* no NUL */
		{ "/", "ferry,machine", "", "machine '(none)'" },
		{ "/memory@0", "reg", "00 00 00 00 00 00 00 00 00 00 00 00 00 1f f0 00",
		  "less than 2" },
		{ "/memory@0", "reg", "00 00 00 00 00 00 00 00 00 00 00 00 00 20 08 00",
		  "out of range" },
		{ "/memory@0", "reg", "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
		  "out of range" },
		{ "/memory@0", "reg", "00 00 00 00 00 00 00 00 00 00 00 00 c0 00 10 00",
		  "lies where" },
		{ "/memory@0", "reg", "00 00 00 00 00 00 10 00 00 00 00 00 00 20 00 00",
		  "lies where" },
		{ "/memory@0", "reg", "00 00 00 00 00 00 00 00 00 00 00 00 00 20 00",
		  "a memory node that" },
		{ "/memory@0", "reg", "00 00 00 00 00 20 00 00", "a memory node that" },
		{ "/memory@100000000", "reg", "00 00 00 01 00 00 00 00 00 00 20 00 00 00 10 00",
		  "out of range" },
		{ "/memory@100000000", "reg", "00 00 00 02 00 00 00 00 00 00 00 00 00 20 00 00",
		  "lies where" },
		{ "/memory@100000000", "reg", "00 00 00 01 00 00 00 00 ff ff ff ff ff ff f0 00",
		  "out of range" },
		{ "/chosen", "bootargs", "61 62 63", "bootargs is missing" }, /* no NUL */
		{ "/chosen", "ferry,kernel-size", "00 00 00 00 00 00 00 00", "out of range" },
		{ "/chosen", "ferry,kernel-size", "00 00 20 00 00 00 00 01", "out of range" },
		{ "/chosen", "ferry,kernel-size", "00 00 00 01", "are missing" },
		{ "/chosen", "ferry,initrd-size", "ff ff ff ff ff ff ff ff", "out of range" },
		{ "/isa/serial@3f8", "compatible", "", "/isa that this build" },
		{ "/isa/serial@3f8", "reg", "00 00 00 00 00 00 03 f8 00 00 00 08",
		  "/isa that this build" },
		{ "/isa/serial@3f8", "reg", "00 00 00 01 00 00 03 f8", "/isa that this build" },
		{ "/isa/serial@3f8", "reg", "00 00 00 01 00 00 ff f9 00 00 00 08", "out of range" },
		{ "/isa/serial@3f8", "reg", "00 00 00 01 ff ff ff ff 00 00 00 08", "out of range" },
		{ "/isa/serial@3f8", "reg", "00 00 00 01 00 00 03 f8 ff ff ff ff", "out of range" },
		{ "/isa/serial@3f8", "interrupts", "00 00 00 10", "out of range" },
		{ "/isa/serial@3f8", "interrupts", "ff ff ff ff", "out of range" },
		{ "/isa/serial@3f8", "interrupts", "04", "'serial@3f8': interrupts of 1 bytes" },
		{ "/isa/serial@3f8", "interrupts", "", "'serial@3f8': interrupts of 0 bytes" },
		{ "/isa/serial@3f8", "interrupts", "00 00 00 10 00 00 00 03", "out of range" },
		{ "/isa/serial@3f8", "interrupts", "00 00 00 04 00 00 00 02",
		  "'serial@3f8': interrupt type 2: expected 1" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		void *fdt = editable();
		uint8_t value[32];
		size_t len = bytes_of(bad[i].hex, value, sizeof(value));

		cr_assert_eq(fdt_setprop(fdt, fdt_path_offset(fdt, bad[i].node), bad[i].property,
					 value, (int)len),
			     0);
		expect_refused(fdt, bad[i].error, bad[i].hex);
	}
}

/* One more than there may be, of everything. */
Test(devicetree, too_many)
{
	static const char *const parents[] = { "/isa", "/cpus", "/" };
	static const char *const errors[] = { "more devices", "number of CPUs",
					      "a memory node that" };
	static const uint8_t isa_reg[12] = { [3] = 1 };
	static const uint8_t low_reg[16] = { [13] = 0x20 }, high_reg[16] = { [3] = 1, [13] = 0x20 };
	char name[16], *line;
	void *fdt;

	for (size_t i = 0; i < 3; i++) {
		unsigned int more = i == 0 ? 33 - NDEVICES : i == 1 ? 65 - 2 : 1;

		fdt = editable();
		for (unsigned int k = 0; k < more; k++) {
			int node;

			snprintf(name, sizeof(name), "more@%x", 0x1000 + k);
			node = fdt_add_subnode(fdt, fdt_path_offset(fdt, parents[i]), name);
			cr_assert_geq(node, 0);
			fdt_setprop_string(fdt, node, "compatible", "ns16550a");
			fdt_setprop(fdt, node, "reg", isa_reg, sizeof(isa_reg));
			if (i < 2)
				continue;
			/* The new node comes first; the one that was first makes room for it. */
			fdt_setprop_string(fdt, node, "device_type", "memory");
			fdt_setprop(fdt, node, "reg", low_reg, sizeof(low_reg));
			fdt_setprop(fdt, fdt_path_offset(fdt, "/memory@0"), "reg", high_reg,
				    sizeof(high_reg));
		}
		expect_refused(fdt, errors[i], parents[i]);
	}
	fdt = editable();
	line = malloc(4097);
	memset(line, 'x', 4096);
	line[4096] = '\0';
	fdt_setprop_string(fdt, fdt_path_offset(fdt, "/chosen"), "bootargs", line);
	expect_refused(fdt, "bootargs is missing or too long", "a long command line");
	free(line);
	fdt = editable();
	fdt_setprop_placeholder(fdt, 0, "padding", 65536, (void **)&line);
	expect_refused(fdt, "device tree: ", "more than 64 KiB");
}

/* --- trees that were damaged --- */

/* A tree of an old version whose names are no paths is followed to NULL by libfdt's own check. */
Test(devicetree, old_versions_of_the_format_are_refused)
{
	struct machine_options options = {
		.memory_bytes = 2 << 20, .ncpus = 1, .cmdline = "", .kernel_bytes = 1
	};
	struct machine_plan plan;
	struct error *err = NULL;
	size_t size;
	void *fdt = devicetree_build(&options, &size, &err);

	expect_ok(fdt, err);
	for (uint32_t version = 0; version < 17; version++) {
		fdt_set_version(fdt, version);
		fdt_set_last_comp_version(fdt, version);
		cr_assert_not(devicetree_parse(fdt, size, &plan, &err), "version %u", version);
		expect_error(err, "FDT_ERR_BADVERSION");
	}
	fdt_set_version(fdt, 17);
	fdt_set_last_comp_version(fdt, 16);
	expect_ok(devicetree_parse(fdt, size, &plan, &err), err);
	free(fdt);
}

Test(devicetree, a_tree_cut_at_any_byte_is_refused)
{
	uint8_t *area = guarded_area();
	size_t size;
	uint8_t *fdt = build(&usual, &size);

	for (size_t len = 0; len < size; len++) {
		struct error *err = NULL;
		struct machine_plan plan;

		cr_assert_not(parse(area, fdt, len, &plan, &err), "cut at %zu of %zu", len, size);
		expect_error(err, "device tree: ");
	}
	munmap(area, ROOM + 4096);
	free(fdt);
}

Test(devicetree, flipped_bits_are_refused_or_mean_a_machine)
{
	uint8_t *area = guarded_area();
	struct prng rng = { SEED };
	unsigned int refused = 0;
	size_t size;
	uint8_t *fdt = build(&usual, &size);

	for (unsigned int i = 0; i < 20000; i++) {
		uint8_t copy[8192];
		struct error *err = NULL;
		struct machine_plan plan;

		memcpy(copy, fdt, size);
		for (uint64_t n = 1 + prng_below(&rng, 4); n > 0; n--) {
			size_t at = prng_below(&rng, i & 1 ? size : 64);

			copy[at] ^= (uint8_t)(1u << prng_below(&rng, 8));
		}
		refused += !parse(area, copy, size, &plan, &err);
		error_free(err);
	}
	cr_assert(refused > 2000 && refused < 19900, "%u of 20000 were refused", refused);
	munmap(area, ROOM + 4096);
	free(fdt);
}
