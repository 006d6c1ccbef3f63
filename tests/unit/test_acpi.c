/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a guest finds the tables, each whole and where its pointer says, and reads from them the machine of the device tree.
 *
 * How: a reader of its own, with the offsets of the ACPI specification, walks from the RSDP; AML is turned into text and
 * compared. The machine is a plan that is made here, or parsed from a device tree. (That an operating system agrees is shown
 * by tests/nested/boot; `iasl -d` reads the tables as well.)
 */
#include "tests/unit/boot_support.h"
#include "vmm/boot/acpi.h"

SUITE(acpi);

#define RSDP UINT64_C(0xe0000)

static const struct machine_plan usual = {
	.ncpus = 2,
	.devices = { { .compatible = "ns16550a", .base = 0x3f8, .length = 8, .irq = 4 },
		     { .compatible = "ferry,debug-exit", .base = 0xf4, .length = 4 },
		     { .compatible = "ferry,pch-reset", .base = 0xcf9, .length = 1 },
		     { .compatible = "ferry,acpi-pm", .base = 0x600, .length = 8, .irq = 9 } },
	.ndevices = 4,
};

/* --- the reader --- */

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t total = 0;

	for (size_t i = 0; i < len; i++)
		total = (uint8_t)(total + p[i]);
	return total;
}

/* A table at an address, whole, in the part of memory that is reserved for it. */
static const uint8_t *table_at(const uint8_t *ram, uint64_t address, const char *signature)
{
	const uint8_t *t = ram + address;

	cr_assert(address > RSDP && address % 8 == 0, "%s at 0x%" PRIx64, signature, address);
	cr_assert(address + get_le32(t + 4) <= 0x100000, "%s is too long", signature);
	cr_assert_arr_eq(t, signature, 4, "%s: %.4s", signature, (const char *)t);
	if (strcmp(signature, "FACS") != 0)
		cr_assert_eq(sum(t, get_le32(t + 4)), 0, "%s: checksum", signature);
	return t;
}

/* The table with a signature, by the XSDT; the RSDT must lead to the same. */
static const uint8_t *find_table(const uint8_t *ram, const char *signature)
{
	const uint8_t *rsdp = ram + RSDP, *rsdt, *xsdt, *found = NULL;
	unsigned int n;

	cr_assert_arr_eq(rsdp, "RSD PTR ", 8);
	cr_assert(sum(rsdp, 20) == 0 && sum(rsdp, 36) == 0, "the RSDP's checksums");
	cr_assert(rsdp[15] == 2 && get_le32(rsdp + 20) == 36, "revision, length");
	rsdt = table_at(ram, get_le32(rsdp + 16), "RSDT");
	xsdt = table_at(ram, get_le64(rsdp + 24), "XSDT");
	n = (get_le32(xsdt + 4) - 36) / 8;
	cr_assert_eq((get_le32(rsdt + 4) - 36) / 4, n);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t address = get_le64(xsdt + 36 + i * 8);

		cr_assert_eq(get_le32(rsdt + 36 + i * 4), address);
		if (memcmp(ram + address, signature, 4) != 0)
			continue;
		cr_assert_null(found, "two of %s", signature);
		found = table_at(ram, address, signature);
	}
	cr_assert_not_null(found, "no %s", signature);
	return found;
}

static const uint8_t *fadt_of(const uint8_t *ram)
{
	return find_table(ram, "FACP");
}

static const uint8_t *dsdt_of(const uint8_t *ram)
{
	return table_at(ram, get_le64(fadt_of(ram) + 140), "DSDT");
}

/* --- AML as text --- */

struct reader {
	const uint8_t *at, *end;
	char text[8192];
	size_t len;
};

static void say(struct reader *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r->len += (size_t)vsnprintf(r->text + r->len, sizeof(r->text) - r->len, fmt, ap);
	va_end(ap);
	cr_assert(r->len < sizeof(r->text));
}

static uint8_t take(struct reader *r)
{
	cr_assert(r->at < r->end, "AML ends early behind: %s", r->text);
	return *r->at++;
}

/* PkgLength counts from itself; returns where that ends. */
static const uint8_t *take_length(struct reader *r)
{
	const uint8_t *begin = r->at;
	uint8_t first = take(r);
	uint32_t value = first >> 6 ? first & 0xf : first & 0x3f;

	for (unsigned int i = 0; i < first >> 6; i++)
		value |= (uint32_t)take(r) << (4 + 8 * i);
	cr_assert(value <= (size_t)(r->end - begin), "a length of %u behind: %s", value, r->text);
	return begin + value;
}

static void say_name(struct reader *r)
{
	if (*r->at == '\\')
		say(r, "%c", take(r));
	for (unsigned int i = 0; i < 4; i++)
		say(r, "%c", take(r));
}

static void read_terms(struct reader *r, const uint8_t *end);

static void read_value(struct reader *r)
{
	uint8_t op = take(r), value[4] = { 0 };
	const uint8_t *end;

	switch (op) {
	case 0x00:
	case 0x01:
		say(r, "%u ", op);
		return;
	case 0x0a:
	case 0x0b:
	case 0x0c:
		for (int i = 0; i < 1 << (op - 0x0a); i++)
			value[i] = take(r);
		say(r, "%x ", get_le32(value));
		return;
	case 0x0d:
		say(r, "\"%s\" ", (const char *)r->at);
		r->at += strlen((const char *)r->at) + 1;
		return;
	case 0x11: /* buffer: its size, its bytes */
		end = take_length(r);
		say(r, "[");
		read_value(r);
		say(r, ":");
		while (r->at < end)
			say(r, " %02x", take(r));
		say(r, "] ");
		return;
	case 0x12: /* package: how many, elements */
		end = take_length(r);
		say(r, "(%u: ", take(r));
		while (r->at < end)
			read_value(r);
		say(r, ") ");
		return;
	default:
		cr_assert_fail("AML value 0x%02x behind: %s", op, r->text);
	}
}

static void read_term(struct reader *r)
{
	const uint8_t *end;

	switch (take(r)) {
	case 0x08:
		say_name(r);
		say(r, "=");
		read_value(r);
		return;
	case 0x10:
		end = take_length(r);
		break;
	case 0x5b:
		cr_assert_eq(take(r), 0x82, "a device");
		end = take_length(r);
		break;
	default:
		cr_assert_fail("AML term 0x%02x behind: %s", r->at[-1], r->text);
		return;
	}
	say_name(r);
	say(r, "{ ");
	read_terms(r, end);
	say(r, "} ");
}

static void read_terms(struct reader *r, const uint8_t *end)
{
	while (r->at < end)
		read_term(r);
	cr_assert_eq(r->at, end, "a term runs over its scope: %s", r->text);
}

static void expect_aml(const uint8_t *dsdt, const char *text)
{
	struct reader *r = calloc(1, sizeof(*r));

	r->at = dsdt + 36;
	r->end = dsdt + get_le32(dsdt + 4);
	read_terms(r, r->end);
	cr_assert_str_eq(r->text, text, "\nhave %s\nwant %s", r->text, text);
	free(r);
}

/* --- the machine --- */

static const uint8_t *write_tables(struct memory *mem, const struct machine_plan *plan)
{
	struct error *err = NULL;
	uint64_t rsdp = 1;

	machine_build(mem, 2 * MIB);
	expect_ok(acpi_write(mem, plan, &rsdp, &err), err);
	cr_assert_eq(rsdp, RSDP);
	return mem->blocks[0].host;
}

Test(acpi, fadt)
{
	struct memory mem;
	const uint8_t *ram = write_tables(&mem, &usual), *fadt = fadt_of(ram), *facs;
	static const uint8_t reset[12] = { 1, 8, 0, 1, 0xf9, 0x0c }; /* I/O, by bytes */
	static const uint8_t event[12] = { 1, 32, 0, 2, 0x00, 0x06 };
	static const uint8_t control[12] = { 1, 16, 0, 2, 0x04, 0x06 };

	cr_assert(fadt[8] == 6 && get_le32(fadt + 4) == 276, "revision, length");
	facs = table_at(ram, get_le32(fadt + 36), "FACS");
	cr_assert((facs - ram) % 64 == 0 && get_le32(facs + 4) == 64);
	cr_assert_eq(get_le32(fadt + 40), get_le64(fadt + 140), "the DSDT, twice");
	cr_assert_eq(get_le16(fadt + 46), 9, "SCI");
	cr_assert_eq(get_le32(fadt + 48), 0, "no SMI command: always in ACPI mode");
	cr_assert(get_le32(fadt + 56) == 0x600 && fadt[88] == 4, "PM1a event");
	cr_assert(get_le32(fadt + 64) == 0x604 && fadt[89] == 2, "PM1a control");
	cr_assert_arr_eq(fadt + 148, event, 12);
	cr_assert_arr_eq(fadt + 172, control, 12);
	cr_assert(fadt[91] == 0 && get_le32(fadt + 76) == 0, "no timer");
	cr_assert_eq(get_le16(fadt + 109), 0x24, "no VGA, no CMOS clock; no 8042, by bit 1");
	cr_assert_eq(get_le32(fadt + 112) & 1u << 20, 0, "not the reduced kind");
	cr_assert(get_le32(fadt + 112) & 1u << 10, "there is a reset register");
	cr_assert_arr_eq(fadt + 116, reset, 12);
	cr_assert_eq(fadt[128], 6, "what to write there");
	memory_release(&mem);
}

Test(acpi, madt)
{
	static const unsigned int counts[] = { 1, 2, 64 };

	for (size_t i = 0; i < 3; i++) {
		struct machine_plan plan = usual;
		struct memory mem;
		const uint8_t *madt, *p, *end;
		unsigned int cpus = 0, others = 0;

		plan.ncpus = counts[i];
		madt = find_table(write_tables(&mem, &plan), "APIC");
		cr_assert(get_le32(madt + 36) == 0xfee00000 && get_le32(madt + 40) == 1);
		end = madt + get_le32(madt + 4);
		for (p = madt + 44; p < end; p += p[1]) {
			if (p[0] == 0) { /* a CPU: number, APIC id, enabled */
				cr_assert(p[1] == 8 && p[2] == cpus && p[3] == cpus &&
					  get_le32(p + 4) == 1);
				cpus++;
				continue;
			}
			if (p[0] == 1) /* I/O APIC */
				cr_assert(p[1] == 12 && p[2] == 0 &&
					  get_le32(p + 4) == 0xfec00000 && get_le32(p + 8) == 0);
			else if (p[0] == 2) /* ISA interrupt 9: active high, level */
				cr_assert(p[1] == 10 && p[2] == 0 && p[3] == 9 &&
					  get_le32(p + 4) == 9 && get_le16(p + 8) == 0xd);
			else if (p[0] == 4) /* NMI: all CPUs, LINT1 */
				cr_assert(p[1] == 6 && p[2] == 0xff && p[5] == 1);
			others |= 1u << p[0];
		}
		cr_assert(p == end && cpus == counts[i] && others == 0x16);
		memory_release(&mem);
	}
}

#define COM1                                                            \
	"COM1{ _HID=105d041 _UID=1 _CRS=[13 : 47 01 f8 03 f8 03 01 08 " \
	"89 06 00 03 01 04 00 00 00 79 00] } "
#define S5 "_S5_=(4: 5 0 0 0 ) "

Test(acpi, devices)
{
	struct machine_plan plan = usual;
	struct memory mem;

	expect_aml(dsdt_of(write_tables(&mem, &plan)), "\\_SB_{ " COM1 "} " S5);
	memory_release(&mem);
	plan.devices[4] = (struct machine_device){
		.compatible = "virtio,mmio", .base = 0xd0000000, .length = 0x1000, .irq = 5
	}; /* an edge */
	plan.devices[5] = (struct machine_device){ .compatible = "virtio,mmio",
						   .base = 0xd0001000,
						   .length = 0x1000,
						   .irq = 15,
						   .level = true };
	plan.ndevices = 6;
	expect_aml(dsdt_of(write_tables(&mem, &plan)),
		   "\\_SB_{ " COM1 "VR01{ _HID=\"LNRO0005\" _UID=1 _CRS=[17 : "
		   "86 09 00 01 00 00 00 d0 00 10 00 00 89 06 00 03 01 05 00 00 00 79 00] } "
		   "VR02{ _HID=\"LNRO0005\" _UID=2 _CRS=[17 : "
		   "86 09 00 01 00 10 00 d0 00 10 00 00 89 06 00 01 01 0f 00 00 00 79 00] } } " S5);
	memory_release(&mem);
}

/* Every number of devices: lengths are written in one, two and three bytes. */
Test(acpi, any_number_of_devices_is_well_formed)
{
	for (unsigned int n = 1; n <= MACHINE_MAX_DEVICES; n++) {
		struct machine_plan plan = { .ncpus = 1, .ndevices = n };
		struct reader *r = calloc(1, sizeof(*r));
		struct memory mem;
		const uint8_t *dsdt;
		unsigned int found = 0;

		plan.devices[0] = usual.devices[3];
		for (unsigned int i = 1; i < n; i++)
			plan.devices[i] = (struct machine_device){ .compatible = "virtio,mmio" };
		dsdt = dsdt_of(write_tables(&mem, &plan));
		r->at = dsdt + 36;
		r->end = dsdt + get_le32(dsdt + 4);
		read_terms(r, r->end);
		for (const char *p = r->text; (p = strstr(p, "_HID")); p++)
			found++;
		cr_assert_eq(found, n - 1);
		memory_release(&mem);
		free(r);
	}
}

/* What options make is what the tables say. */
Test(acpi, from_a_device_tree)
{
	const struct machine_options options = {
		.memory_bytes = 2 * MIB, .ncpus = 2, .cmdline = "", .kernel_bytes = 1
	};
	struct error *err = NULL;
	struct machine_plan plan;
	struct memory mem;
	size_t size;
	void *fdt = devicetree_build(&options, &size, &err);

	expect_ok(fdt, err);
	expect_ok(devicetree_parse(fdt, size, &plan, &err), err);
	expect_aml(dsdt_of(write_tables(&mem, &plan)), "\\_SB_{ " COM1 "} " S5);
	memory_release(&mem);
	free(fdt);
}

/* A machine that came from an older ferry may lack the registers that the tables are about. */
Test(acpi, a_machine_without_the_registers_has_no_tables)
{
	struct machine_plan plan = usual;
	struct error *err = NULL;
	struct memory mem;
	uint64_t rsdp = 1;

	plan.ndevices = 3;
	machine_build(&mem, 2 * MIB);
	expect_ok(acpi_write(&mem, &plan, &rsdp, &err), err);
	cr_assert_eq(rsdp, 0);
	for (size_t i = 0xa0000; i < 0x100000; i++)
		cr_assert_eq(mem.blocks[0].host[i], 0);
	memory_release(&mem);
	plan = usual;
	plan.devices[2] = plan.devices[3]; /* no reset register */
	plan.ndevices = 3;
	cr_assert_eq(get_le32(fadt_of(write_tables(&mem, &plan)) + 112) & 1u << 10, 0);
	memory_release(&mem);
}
