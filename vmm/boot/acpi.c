/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables are written front to back into a copy of the area; who points to a table is written after it, but for the RSDP, which
 * stands at the area's begin and is filled in last.
 */
#include "vmm/boot/acpi.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "devices/acpi_pm.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/aml.h"

#define AREA_BYTES (BOOT_HIGH_RAM - BOOT_ACPI)
#define ALIGNMENT 64 /* what the FACS needs */
#define OEM_ID "FERRY "
#define OEM_TABLE_ID "FERRYVMM"
#define CREATOR_ID "FRRY"

#define RSDP_V1_BYTES 20
#define RSDP_BYTES 36
#define HEADER_BYTES 36
#define FACS_BYTES 64
#define FADT_BYTES 276
#define DSDT_ROOM 16384
#define MADT_ROOM 4096

struct area {
	uint8_t *bytes; /* AREA_BYTES of zeroes */
	size_t used;
	const struct machine_plan *plan;
};

struct table {
	uint8_t *at;
	uint32_t address, len;
};

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	while (len > 0)
		sum += bytes[--len];
	return (uint8_t)-sum;
}

static struct table place(struct area *area, size_t len)
{
	struct table t = { area->bytes + area->used, BOOT_ACPI + (uint32_t)area->used,
			   (uint32_t)len };

	assert(range_within(area->used, len, AREA_BYTES));
	area->used = align_up(area->used + len, ALIGNMENT);
	return t;
}

/* Begin a table with a header; `room` may be more than it will have. */
static struct table begin(struct area *area, const char *signature, uint8_t revision, size_t room)
{
	struct table t = place(area, room);

	memcpy(t.at, signature, 4);
	t.at[8] = revision;
	memcpy(t.at + 10, OEM_ID, 6);
	memcpy(t.at + 16, OEM_TABLE_ID, 8);
	put_le32(t.at + 24, 1);
	memcpy(t.at + 28, CREATOR_ID, 4);
	put_le32(t.at + 32, 1);
	t.len = HEADER_BYTES;
	return t;
}

static void end(struct area *area, struct table *t)
{
	put_le32(t->at + 4, t->len);
	t->at[9] = checksum(t->at, t->len);
	area->used = align_up((size_t)(t->at - area->bytes) + t->len, ALIGNMENT);
}

/* --- DSDT: the devices --- */

static size_t port_resources(uint8_t *to, const struct machine_device *d)
{
	return aml_io_ports(to, (uint16_t)d->base, (uint8_t)d->length);
}

static size_t memory_resources(uint8_t *to, const struct machine_device *d)
{
	return aml_memory(to, (uint32_t)d->base, (uint32_t)d->length);
}

/* How devices of the tree are named to ACPI. Those that are not here have no driver there, or are in the FADT. */
static const struct description {
	const char *compatible;
	const char *name; /* two or three letters, and a number behind them */
	const char *id;
	bool is_eisa_id;
	size_t (*resources)(uint8_t *to, const struct machine_device *d);
} descriptions[] = {
	{ "ns16550a", "COM", "PNP0501", true, port_resources },
	{ "virtio,mmio", "VR", "LNRO0005", false, memory_resources },
};

static void describe(struct aml *aml, const struct description *what,
		     const struct machine_device *d, unsigned int n)
{
	uint8_t resources[32];
	char name[16];
	size_t device, len;

	snprintf(name, sizeof(name), "%s%0*X", what->name, 4 - (int)strlen(what->name), n);
	device = aml_begin_device(aml, name);
	aml_name(aml, "_HID");
	if (what->is_eisa_id)
		aml_eisa_id(aml, what->id);
	else
		aml_string(aml, what->id);
	aml_name(aml, "_UID");
	aml_integer(aml, n);
	aml_name(aml, "_CRS");
	len = what->resources(resources, d);
	if (d->irq)
		len += aml_interrupt(resources + len, d->irq, d->level);
	aml_resources(aml, resources, len);
	aml_end(aml, device);
}

static void describe_devices(struct aml *aml, const struct machine_plan *plan)
{
	unsigned int n[ARRAY_SIZE(descriptions)] = { 0 };
	size_t scope = aml_begin_scope(aml, "\\_SB_");

	for (unsigned int i = 0; i < plan->ndevices; i++)
		for (size_t k = 0; k < ARRAY_SIZE(descriptions); k++)
			if (strcmp(plan->devices[i].compatible, descriptions[k].compatible) == 0)
				describe(aml, &descriptions[k], &plan->devices[i], ++n[k]);
	aml_end(aml, scope);
}

/* \_S5: the sleep types to write into the PM1a and PM1b control registers to power off, and two reserved. */
static void describe_power_off(struct aml *aml)
{
	size_t package;

	aml_name(aml, "_S5_");
	package = aml_begin_package(aml, 4);
	aml_integer(aml, ACPI_PM_TYPE_OFF);
	for (unsigned int i = 0; i < 3; i++)
		aml_integer(aml, 0);
	aml_end(aml, package);
}

static uint32_t write_dsdt(struct area *area)
{
	struct table t = begin(area, "DSDT", 2, DSDT_ROOM);
	struct aml aml = { .data = t.at, .len = t.len, .room = DSDT_ROOM };

	describe_devices(&aml, area->plan);
	describe_power_off(&aml);
	t.len = (uint32_t)aml.len;
	end(area, &t);
	return t.address;
}

/* --- FADT: registers --- */

#define NO_VGA 0x0004
#define NO_CMOS_CLOCK 0x0020

#define WBINVD 0x1u
#define C1 0x4u
#define NO_POWER_BUTTON_REGISTER 0x10u
#define NO_SLEEP_BUTTON_REGISTER 0x20u
#define NO_CLOCK_WAKE_REGISTER 0x40u
#define HAS_RESET_REGISTER 0x400u
#define HEADLESS 0x1000u

#define RESET_VALUE 6 /* a full reset, now; see reset_port.h */

/* A register in I/O space as a generic address. */
static void put_register(uint8_t *at, uint8_t bytes, uint64_t port)
{
	at[0] = 1;
	at[1] = (uint8_t)(bytes * 8);
	at[3] = bytes == 1 ? 1 : 2; /* accessed by bytes, or by words */
	put_le64(at + 4, port);
}

static const struct machine_device *find_device(const struct machine_plan *plan,
						const char *compatible)
{
	for (unsigned int i = 0; i < plan->ndevices; i++)
		if (strcmp(plan->devices[i].compatible, compatible) == 0)
			return &plan->devices[i];
	return NULL;
}

static uint32_t write_fadt(struct area *area, uint32_t facs, uint32_t dsdt)
{
	const struct machine_device *pm = find_device(area->plan, "ferry,acpi-pm");
	const struct machine_device *reset = find_device(area->plan, "ferry,pch-reset");
	uint32_t flags = WBINVD | C1 | NO_POWER_BUTTON_REGISTER | NO_SLEEP_BUTTON_REGISTER |
			 NO_CLOCK_WAKE_REGISTER | HEADLESS;
	struct table t = begin(area, "FACP", 6, FADT_BYTES);

	put_le32(t.at + 36, facs);
	put_le32(t.at + 40, dsdt);
	put_le16(t.at + 46, (uint16_t)pm->irq);
	/* No SMI command port: the machine is in ACPI mode from the start. */
	put_le32(t.at + 56, (uint32_t)pm->base + ACPI_PM_EVENT);
	put_le32(t.at + 64, (uint32_t)pm->base + ACPI_PM_CONTROL);
	t.at[88] = 4;
	t.at[89] = 2;
	put_le16(t.at + 96, 101); /* too long: no C2 */
	put_le16(t.at + 98, 1001);
	put_le16(t.at + 109, NO_VGA | NO_CMOS_CLOCK);
	if (reset) {
		flags |= HAS_RESET_REGISTER;
		put_register(t.at + 116, 1, reset->base);
		t.at[128] = RESET_VALUE;
	}
	put_le32(t.at + 112, flags);
	t.at[131] = 5; /* of ACPI 6.5 */
	put_le64(t.at + 140, dsdt);
	put_register(t.at + 148, 4, pm->base + ACPI_PM_EVENT);
	put_register(t.at + 172, 2, pm->base + ACPI_PM_CONTROL);
	memcpy(t.at + 268, OEM_TABLE_ID, 8);
	t.len = FADT_BYTES;
	end(area, &t);
	return t.address;
}

static uint32_t write_facs(struct area *area)
{
	struct table t = place(area, FACS_BYTES);

	memcpy(t.at, "FACS", 4);
	put_le32(t.at + 4, FACS_BYTES);
	t.at[32] = 2;
	return t.address;
}

/* --- MADT: CPUs and interrupts --- */

/*
 * Interrupts of the I/O APIC have the numbers of the PC's: also the timer's, which stays at pin 0, where KVM has it. So only
 * the ACPI interrupt differs from what an ISA interrupt is by default: it is level triggered.
 */
static uint32_t write_madt(struct area *area)
{
	const struct machine_device *pm = find_device(area->plan, "ferry,acpi-pm");
	struct table t = begin(area, "APIC", 5, MADT_ROOM);
	uint8_t *p = t.at + HEADER_BYTES;

	put_le32(p, (uint32_t)MACHINE_LOCAL_APIC);
	put_le32(p + 4, 1); /* there are 8259s as well */
	p += 8;
	for (unsigned int i = 0; i < area->plan->ncpus; i++, p += 8) {
		const uint8_t cpu[8] = { 0, 8, (uint8_t)i, (uint8_t)i, 1 };

		memcpy(p, cpu, sizeof(cpu));
	}
	p[0] = 1; /* the I/O APIC, number 0 */
	p[1] = 12;
	put_le32(p + 4, (uint32_t)MACHINE_IO_APIC);
	p += 12;
	p[0] = 2; /* the ACPI interrupt: active high, level */
	p[1] = 10;
	p[3] = (uint8_t)pm->irq;
	put_le32(p + 4, pm->irq);
	put_le16(p + 8, 0xd);
	p += 10;
	p[0] = 4; /* each CPU's LINT1 is the NMI */
	p[1] = 6;
	p[2] = 0xff;
	p[5] = 1;
	p += 6;
	t.len = (uint32_t)(p - t.at);
	end(area, &t);
	return t.address;
}

/* --- the root --- */

/* RSDT and XSDT differ in the size of an address. */
static uint32_t write_root(struct area *area, const char *signature, size_t address_bytes,
			   const uint32_t *tables, size_t n)
{
	struct table t = begin(area, signature, 1, HEADER_BYTES + n * address_bytes);

	for (size_t i = 0; i < n; i++, t.len += (uint32_t)address_bytes)
		put_le32(t.at + t.len, tables[i]);
	end(area, &t);
	return t.address;
}

static void write_rsdp(const struct table *rsdp, uint32_t rsdt, uint32_t xsdt)
{
	memcpy(rsdp->at, "RSD PTR ", 8);
	memcpy(rsdp->at + 9, OEM_ID, 6);
	rsdp->at[15] = 2;
	put_le32(rsdp->at + 16, rsdt);
	put_le32(rsdp->at + 20, RSDP_BYTES);
	put_le64(rsdp->at + 24, xsdt);
	rsdp->at[8] = checksum(rsdp->at, RSDP_V1_BYTES);
	rsdp->at[32] = checksum(rsdp->at, RSDP_BYTES);
}

bool acpi_write(struct memory *mem, const struct machine_plan *plan, uint64_t *rsdp,
		struct error **errp)
{
	scoped_free uint8_t *bytes = xcalloc(1, AREA_BYTES);
	struct area area = { .bytes = bytes, .plan = plan };
	struct table root;
	uint32_t tables[2], rsdt, xsdt;

	if (!find_device(plan, "ferry,acpi-pm")) {
		*rsdp = 0;
		return true;
	}
	root = place(&area, RSDP_BYTES);
	tables[0] = write_facs(&area);
	tables[0] = write_fadt(&area, tables[0], write_dsdt(&area));
	tables[1] = write_madt(&area);
	rsdt = write_root(&area, "RSDT", 4, tables, ARRAY_SIZE(tables));
	xsdt = write_root(&area, "XSDT", 8, tables, ARRAY_SIZE(tables));
	write_rsdp(&root, rsdt, xsdt);
	if (!memory_write(mem, root.address, bytes, area.used, errp))
		return false;
	*rsdp = root.address;
	return true;
}
