/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/devicetree.h"

#include <libfdt.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/memory.h"
#include "vmm/kvm/vm.h"

#define ISA_IO_SPACE 1
#define VERSION_MIN 17 /* of the format: what the specification describes */
#define PATH_HINT "ferry,path-hint"
#define VIRTIO "virtio,mmio"
#define ISA "isa"
#define ACPI_PM "ferry,acpi-pm"
#define IO_APIC_PHANDLE 1
#define SERIAL_PORT 0x3f8
#define SERIAL_CLOCK_HZ 1843200 /* of a PC's serial ports: 115200 baud is divisor 1 */

/* Types of an interrupt, as Linux's binding of the I/O APIC numbers them. */
#define TYPE_LEVEL_HIGH 1
#define TYPE_EDGE_RISING 3

static const struct isa_device {
	const char *node, *compatible;
	uint32_t base, length, irq, type; /* irq 0: none */
} isa_devices[] = {
	{ "serial@3f8", "ns16550a", SERIAL_PORT, 8, 4, TYPE_EDGE_RISING },
	{ "debug-exit@f4", "ferry,debug-exit", 0xf4, 4, 0, 0 },
	{ "i8042@60", "ferry,i8042-reset", 0x60, 5, 0, 0 },
	{ "reset@cf9", "ferry,pch-reset", 0xcf9, 1, 0, 0 },
	{ "acpi@600", ACPI_PM, 0x600, 8, 9, TYPE_LEVEL_HIGH },
};

/* Inputs of the interrupt controllers that a PC's own devices leave free. They are there with an I/O APIC and without. */
static const uint32_t virtio_irqs[MACHINE_MAX_VIRTIO] = { 5, 6, 7, 10, 11, 12, 14, 15 };

static const char *const virtio_kinds[] = { "rng", "block", "net", "console" };

/* libfdt's sequential writer remembers its first error in *rc, so that a tree reads as a list. */
struct writer {
	void *fdt;
	int rc;
};

static void keep_error(struct writer *w, int rc)
{
	if (!w->rc && rc < 0)
		w->rc = rc;
}

static void begin(struct writer *w, const char *name)
{
	keep_error(w, fdt_begin_node(w->fdt, name));
}

static void end(struct writer *w)
{
	keep_error(w, fdt_end_node(w->fdt));
}

static void prop_u32(struct writer *w, const char *name, uint32_t value)
{
	keep_error(w, fdt_property_u32(w->fdt, name, value));
}

static void prop_u64(struct writer *w, const char *name, uint64_t value)
{
	keep_error(w, fdt_property_u64(w->fdt, name, value));
}

static void prop_interrupt(struct writer *w, uint32_t irq, uint32_t type)
{
	uint8_t cells[8];

	put_be32(cells, irq);
	put_be32(cells + 4, type);
	keep_error(w, fdt_property(w->fdt, "interrupts", cells, sizeof(cells)));
}

static void prop_empty(struct writer *w, const char *name)
{
	keep_error(w, fdt_property(w->fdt, name, NULL, 0));
}

/* An address and a size of two cells each. */
static void prop_reg(struct writer *w, uint64_t start, uint64_t size)
{
	uint8_t reg[16];

	put_be64(reg, start);
	put_be64(reg + 8, size);
	keep_error(w, fdt_property(w->fdt, "reg", reg, sizeof(reg)));
}

static void prop_string(struct writer *w, const char *name, const char *value)
{
	keep_error(w, fdt_property_string(w->fdt, name, value));
}

static void write_cpus(struct writer *w, const struct machine_options *o)
{
	char name[16];

	begin(w, "cpus");
	prop_u32(w, "#address-cells", 1);
	prop_u32(w, "#size-cells", 0);
	for (unsigned int i = 0; i < o->ncpus; i++) {
		snprintf(name, sizeof(name), "cpu@%x", i);
		begin(w, name);
		prop_string(w, "device_type", "cpu");
		prop_u32(w, "reg", i); /* the APIC id */
		end(w);
	}
	end(w);
}

static void write_memory(struct writer *w, uint64_t start, uint64_t size)
{
	char name[32];

	snprintf(name, sizeof(name), "memory@%llx", (unsigned long long)start);
	begin(w, name);
	prop_string(w, "device_type", "memory");
	prop_reg(w, start, size);
	end(w);
}

static void write_chosen(struct writer *w, const struct machine_options *o)
{
	begin(w, "chosen");
	prop_string(w, "bootargs", o->cmdline);
	prop_string(w, "stdout-path", "/isa/serial@3f8");
	prop_u64(w, "ferry,kernel-size", o->kernel_bytes);
	prop_u64(w, "ferry,initrd-size", o->initrd_bytes);
	end(w);
}

static void write_controller(struct writer *w, const char *compatible, uint64_t base)
{
	char name[32];

	snprintf(name, sizeof(name), "interrupt-controller@%llx", (unsigned long long)base);
	begin(w, name);
	prop_string(w, "compatible", compatible);
	prop_reg(w, base, MACHINE_APIC_BYTES);
	prop_empty(w, "interrupt-controller");
	prop_u32(w, "#interrupt-cells", 2);
	prop_u32(w, "#address-cells", 0);
	if (base == MACHINE_IO_APIC)
		prop_u32(w, "phandle", IO_APIC_PHANDLE);
	else
		prop_empty(w, "intel,virtual-wire-mode"); /* the 8259s' output is LINT0 */
	end(w);
}

/* The ports are what they are also seen from above the bus: Linux asks for that to be said. */
static void write_isa_ranges(struct writer *w)
{
	uint8_t ranges[20];

	put_be32(ranges, ISA_IO_SPACE);
	put_be32(ranges + 4, 0);
	put_be64(ranges + 8, 0);
	put_be32(ranges + 16, 0x10000);
	keep_error(w, fdt_property(w->fdt, "ranges", ranges, sizeof(ranges)));
}

static void write_isa(struct writer *w, const struct machine_options *o)
{
	begin(w, ISA);
	prop_string(w, "compatible", ISA);
	prop_u32(w, "#address-cells", 2);
	prop_u32(w, "#size-cells", 1);
	write_isa_ranges(w);
	for (size_t i = 0; i < ARRAY_SIZE(isa_devices); i++) {
		const struct isa_device *d = &isa_devices[i];
		uint8_t reg[12];

		if (o->no_acpi && strcmp(d->compatible, ACPI_PM) == 0)
			continue;
		put_be32(reg, ISA_IO_SPACE);
		put_be32(reg + 4, d->base);
		put_be32(reg + 8, d->length);
		begin(w, d->node);
		prop_string(w, "compatible", d->compatible);
		keep_error(w, fdt_property(w->fdt, "reg", reg, sizeof(reg)));
		if (d->irq)
			prop_interrupt(w, d->irq, d->type);
		if (d->base == SERIAL_PORT)
			prop_u32(w, "clock-frequency", SERIAL_CLOCK_HZ);
		end(w);
	}
	end(w);
}

static void write_virtio(struct writer *w, const struct machine_virtio *v, unsigned int n)
{
	uint64_t base = MACHINE_VIRTIO_START + n * MACHINE_VIRTIO_BYTES;
	char name[32];

	snprintf(name, sizeof(name), "virtio_mmio@%llx", (unsigned long long)base);
	begin(w, name);
	prop_string(w, "compatible", VIRTIO);
	prop_reg(w, base, MACHINE_VIRTIO_BYTES);
	prop_interrupt(w, virtio_irqs[n], TYPE_EDGE_RISING);
	prop_string(w, "ferry,device", v->kind);
	prop_string(w, "ferry,id", v->id);
	if (v->path)
		prop_string(w, PATH_HINT, v->path);
	if (v->read_only)
		prop_empty(w, "ferry,read-only");
	if (v->has_mac)
		keep_error(w, fdt_property(w->fdt, "local-mac-address", v->mac, sizeof(v->mac)));
	end(w);
}

static void write_tree(struct writer *w, const struct machine_options *o)
{
	uint64_t low = MIN_OF(o->memory_bytes, MEMORY_HOLE_START);

	keep_error(w, fdt_finish_reservemap(w->fdt));
	begin(w, "");
	prop_string(w, "compatible", "ferry,microvm");
	prop_string(w, "ferry,machine", MACHINE_NAME);
	prop_u32(w, "#address-cells", 2);
	prop_u32(w, "#size-cells", 2);
	prop_u32(w, "interrupt-parent", IO_APIC_PHANDLE);
	write_cpus(w, o);
	write_memory(w, 0, low);
	if (o->memory_bytes > low)
		write_memory(w, MEMORY_HOLE_END, o->memory_bytes - low);
	write_chosen(w, o);
	for (unsigned int i = 0; i < o->nvirtio; i++)
		write_virtio(w, &o->virtio[i], i);
	write_controller(w, "intel,ce4100-ioapic", MACHINE_IO_APIC);
	write_controller(w, "intel,ce4100-lapic", MACHINE_LOCAL_APIC);
	write_isa(w, o);
	end(w);
	keep_error(w, fdt_finish(w->fdt));
}

bool devicetree_id_ok(const char *id)
{
	size_t len = strlen(id);

	return len > 0 && len <= MACHINE_ID_MAX &&
	       strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") ==
		       len;
}

static bool check_virtio(const struct machine_options *o, struct error **errp)
{
	if (o->nvirtio > MACHINE_MAX_VIRTIO) {
		error_set(errp, "%u virtio devices: at most %d fit", o->nvirtio,
			  MACHINE_MAX_VIRTIO);
		return false;
	}
	for (unsigned int i = 0; i < o->nvirtio; i++) {
		const struct machine_virtio *v = &o->virtio[i];

		if (!devicetree_id_ok(v->id)) {
			error_set(errp,
				  "device id '%s': expected 1 to %d letters, digits, '-', '_', '.'",
				  v->id, MACHINE_ID_MAX);
			return false;
		}
		if (v->path && strlen(v->path) > MACHINE_PATH_MAX) {
			error_set(errp, "device '%s': a path of %zu bytes: at most %d fit", v->id,
				  strlen(v->path), MACHINE_PATH_MAX);
			return false;
		}
		for (unsigned int k = 0; k < i; k++) {
			if (strcmp(o->virtio[k].id, v->id) == 0) {
				error_set(errp, "device id '%s' is given twice", v->id);
				return false;
			}
		}
	}
	return true;
}

static bool check_options(const struct machine_options *o, struct error **errp)
{
	if (o->memory_bytes < MACHINE_MEMORY_MIN || o->memory_bytes > MACHINE_MEMORY_MAX ||
	    !is_aligned(o->memory_bytes, GUEST_PAGE_SIZE))
		error_set(errp, "memory of %llu bytes: expected 2M to 32T, in pages of 4K",
			  (unsigned long long)o->memory_bytes);
	else if (o->ncpus < 1 || o->ncpus > VM_MAX_VCPUS)
		error_set(errp, "%u vCPUs: expected 1 to %d", o->ncpus, VM_MAX_VCPUS);
	else if (strlen(o->cmdline) > MACHINE_CMDLINE_MAX)
		error_set(errp, "a command line of %zu bytes: at most %d fit", strlen(o->cmdline),
			  MACHINE_CMDLINE_MAX);
	else
		return check_virtio(o, errp);
	return false;
}

void *devicetree_build(const struct machine_options *options, size_t *size, struct error **errp)
{
	scoped_free void *fdt = xcalloc(1, DEVICETREE_MAX_BYTES);
	struct writer w = { .fdt = fdt };

	if (!check_options(options, errp))
		return NULL;
	keep_error(&w, fdt_create(fdt, DEVICETREE_MAX_BYTES));
	write_tree(&w, options);
	if (w.rc) {
		error_set(errp, "device tree: %s", fdt_strerror(w.rc));
		return NULL;
	}
	*size = fdt_totalsize(fdt);
	return take_ptr(fdt);
}

/* A string property: present, and ended by a NUL inside its length. */
static const char *get_string(const void *fdt, int node, const char *name)
{
	int len;
	const char *value = fdt_getprop(fdt, node, name, &len);

	return value && len > 0 && value[len - 1] == '\0' ? value : NULL;
}

static bool get_u64_prop(const void *fdt, int node, const char *name, uint64_t *value)
{
	int len;
	const void *p = fdt_getprop(fdt, node, name, &len);

	if (!p || len != 8)
		return false;
	*value = get_be64(p);
	return true;
}

static bool bad_tree(const char *what, struct error **errp)
{
	error_set(errp, "device tree: %s", what);
	return false;
}

static bool parse_memory(const void *fdt, struct machine_plan *plan, struct error **errp)
{
	int node;

	fdt_for_each_subnode(node, fdt, 0)
	{
		const char *type = get_string(fdt, node, "device_type");
		struct machine_range *r = &plan->memory[plan->nmemory];
		const void *reg;
		int len;

		if (!type || strcmp(type, "memory") != 0)
			continue;
		reg = fdt_getprop(fdt, node, "reg", &len);
		if (plan->nmemory == MACHINE_MAX_MEMORY_RANGES || !reg || len != 16)
			return bad_tree("a memory node that this build does not understand", errp);
		r->start = get_be64(reg);
		r->size = get_be64((const uint8_t *)reg + 8);
		if (!r->size || !is_aligned(r->size, GUEST_PAGE_SIZE) ||
		    r->size > MACHINE_MEMORY_MAX)
			return bad_tree("a memory node's size is out of range", errp);
		/* The two places where this machine has memory. */
		if (r->start != (plan->nmemory ? MEMORY_HOLE_END : 0) ||
		    (!plan->nmemory && r->size > MEMORY_HOLE_START))
			return bad_tree("memory lies where this machine has none", errp);
		plan->nmemory++;
	}
	if (!plan->nmemory || plan->memory[0].size < MACHINE_MEMORY_MIN)
		return bad_tree("less than 2 MiB of memory", errp);
	return true;
}

static bool parse_cpus(const void *fdt, struct machine_plan *plan, struct error **errp)
{
	int cpus = fdt_path_offset(fdt, "/cpus");
	int node;

	if (cpus < 0)
		return bad_tree("no /cpus", errp);
	fdt_for_each_subnode(node, fdt, cpus) plan->ncpus++;
	if (plan->ncpus < 1 || plan->ncpus > VM_MAX_VCPUS)
		return bad_tree("the number of CPUs is out of range", errp);
	return true;
}

static bool parse_chosen(const void *fdt, struct machine_plan *plan, struct error **errp)
{
	int chosen = fdt_path_offset(fdt, "/chosen");

	if (chosen < 0)
		return bad_tree("no /chosen", errp);
	plan->cmdline = get_string(fdt, chosen, "bootargs");
	if (!plan->cmdline || strlen(plan->cmdline) > MACHINE_CMDLINE_MAX)
		return bad_tree("/chosen: bootargs is missing or too long", errp);
	if (!get_u64_prop(fdt, chosen, "ferry,kernel-size", &plan->kernel_bytes) ||
	    !get_u64_prop(fdt, chosen, "ferry,initrd-size", &plan->initrd_bytes))
		return bad_tree("/chosen: sizes of the boot images are missing", errp);
	if (!plan->kernel_bytes || plan->kernel_bytes > MACHINE_MEMORY_MAX ||
	    plan->initrd_bytes > MACHINE_MEMORY_MAX)
		return bad_tree("/chosen: sizes of the boot images are out of range", errp);
	return true;
}

/* An older tree has none. Where they are is fixed. */
static bool parse_controllers(const void *fdt, struct error **errp)
{
	int node;

	fdt_for_each_subnode(node, fdt, 0)
	{
		const uint8_t *reg;
		int len;

		if (!fdt_getprop(fdt, node, "interrupt-controller", NULL))
			continue;
		reg = fdt_getprop(fdt, node, "reg", &len);
		if (!reg || len != 16 ||
		    (get_be64(reg) != MACHINE_IO_APIC && get_be64(reg) != MACHINE_LOCAL_APIC) ||
		    get_be64(reg + 8) != MACHINE_APIC_BYTES)
			return bad_tree("an interrupt controller where this machine has none",
					errp);
	}
	return true;
}

/* The irq, 0 where there is none, and whether it is a level. old_level: what a tree without types means. */
static bool parse_interrupt(const void *fdt, int node, bool old_level, struct machine_device *d,
			    struct error **errp)
{
	int len;
	const uint8_t *cells = fdt_getprop(fdt, node, "interrupts", &len);
	uint32_t type = old_level ? TYPE_LEVEL_HIGH : TYPE_EDGE_RISING;

	if (cells && len != 4 && len != 8) {
		error_set(errp, "device tree: '%s': interrupts of %d bytes: expected 4 or 8",
			  d->name, len);
		return false;
	}
	if (cells && len == 8)
		type = get_be32(cells + 4);
	if (type != TYPE_LEVEL_HIGH && type != TYPE_EDGE_RISING) {
		error_set(errp,
			  "device tree: '%s': interrupt type %u: expected %d (level, active high) "
			  "or %d (rising edge)",
			  d->name, type, TYPE_LEVEL_HIGH, TYPE_EDGE_RISING);
		return false;
	}
	d->irq = cells ? get_be32(cells) : 0;
	d->level = type == TYPE_LEVEL_HIGH;
	return true;
}

static bool parse_isa(const void *fdt, struct machine_plan *plan, struct error **errp)
{
	int isa = fdt_path_offset(fdt, "/isa");
	int node;

	if (isa < 0)
		return bad_tree("no /isa", errp);
	fdt_for_each_subnode(node, fdt, isa)
	{
		struct machine_device *d = &plan->devices[plan->ndevices];
		const uint8_t *reg;
		int reg_len;

		if (plan->ndevices == MACHINE_MAX_DEVICES)
			return bad_tree("more devices than this build can hold", errp);
		reg = fdt_getprop(fdt, node, "reg", &reg_len);
		d->name = fdt_get_name(fdt, node, NULL);
		d->compatible = get_string(fdt, node, "compatible");
		if (!d->name || !d->compatible || !reg || reg_len != 12 ||
		    get_be32(reg) != ISA_IO_SPACE)
			return bad_tree("a device under /isa that this build does not understand",
					errp);
		if (!parse_interrupt(fdt, node, false, d, errp))
			return false;
		d->base = get_be32(reg + 4);
		d->length = get_be32(reg + 8);
		if (!range_within(d->base, d->length, 0x10000) || d->irq > 15)
			return bad_tree(
				"a device under /isa has its port or interrupt out of range", errp);
		plan->ndevices++;
	}
	return true;
}

static bool known_kind(const char *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(virtio_kinds); i++)
		if (strcmp(kind, virtio_kinds[i]) == 0)
			return true;
	return false;
}

/* One node. On success *d is complete. */
static bool parse_virtio_node(const void *fdt, int node, struct machine_device *d,
			      struct error **errp)
{
	const uint8_t *reg;
	int reg_len, mac_len;

	reg = fdt_getprop(fdt, node, "reg", &reg_len);
	d->name = fdt_get_name(fdt, node, NULL);
	d->compatible = get_string(fdt, node, "compatible");
	d->kind = get_string(fdt, node, "ferry,device");
	d->id = get_string(fdt, node, "ferry,id");
	d->path_hint = get_string(fdt, node, PATH_HINT);
	d->mac = fdt_getprop(fdt, node, "local-mac-address", &mac_len);
	d->read_only = fdt_getprop(fdt, node, "ferry,read-only", NULL) != NULL;
	if (!d->name || !reg || reg_len != 16 || !fdt_getprop(fdt, node, "interrupts", NULL) ||
	    !d->kind || !d->id || (d->mac && mac_len != MACHINE_MAC_BYTES))
		return bad_tree("a virtio device that this build does not understand", errp);
	if (!parse_interrupt(fdt, node, true, d, errp))
		return false;
	d->base = get_be64(reg);
	d->length = get_be64(reg + 8);
	if (d->base < MACHINE_VIRTIO_START || d->base >= MACHINE_VIRTIO_END ||
	    !is_aligned(d->base, MACHINE_VIRTIO_BYTES) || d->length != MACHINE_VIRTIO_BYTES ||
	    d->irq < 1 || d->irq > 23)
		return bad_tree("a virtio device has its registers or interrupt out of range",
				errp);
	if (!known_kind(d->kind) || !devicetree_id_ok(d->id) ||
	    (d->path_hint && strlen(d->path_hint) > MACHINE_PATH_MAX))
		return bad_tree("a virtio device has a kind, name or path that cannot be", errp);
	return true;
}

static bool parse_virtio(const void *fdt, struct machine_plan *plan, struct error **errp)
{
	int node;

	fdt_for_each_subnode(node, fdt, 0)
	{
		struct machine_device *d = &plan->devices[plan->ndevices];
		const char *compatible = get_string(fdt, node, "compatible");

		if (!compatible || strcmp(compatible, VIRTIO) != 0)
			continue;
		if (plan->ndevices == MACHINE_MAX_DEVICES)
			return bad_tree("more devices than this build can hold", errp);
		if (!parse_virtio_node(fdt, node, d, errp))
			return false;
		for (unsigned int i = 0; i < plan->ndevices; i++)
			if (plan->devices[i].irq == d->irq ||
			    (plan->devices[i].id && strcmp(plan->devices[i].id, d->id) == 0))
				return bad_tree("two devices have the same name or interrupt",
						errp);
		plan->ndevices++;
	}
	return true;
}

/*
 * Linux takes what its device tree names also where it has ACPI tables: devices before ACPI does, and without an interrupt, since
 * the I/O APIC is ACPI's; CPUs and interrupt controllers, in some versions, a second time, and whatever their status is.
 */
static int leave_to_acpi(void *fdt)
{
	static const char *const left_out[] = { "/cpus", "/interrupt-controller@fec00000",
						"/interrupt-controller@fee00000" };
	int node, rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(left_out); i++) {
		node = fdt_path_offset(fdt, left_out[i]);
		if (node >= 0)
			fdt_nop_node(fdt, node);
	}
	fdt_nop_property(fdt, 0, "interrupt-parent");
	fdt_for_each_subnode(node, fdt, 0)
	{
		const char *compatible = get_string(fdt, node, "compatible");

		if (!rc && compatible &&
		    (strcmp(compatible, VIRTIO) == 0 || strcmp(compatible, ISA) == 0))
			rc = fdt_setprop_string(fdt, node, "status", "disabled");
	}
	return rc;
}

void *devicetree_for_guest(const void *fdt, bool acpi, size_t *guest_size, struct error **errp)
{
	scoped_free void *copy = xcalloc(1, DEVICETREE_GUEST_MAX);
	int rc = fdt_open_into(fdt, copy, DEVICETREE_GUEST_MAX);
	int node;

	if (!rc && acpi)
		rc = leave_to_acpi(copy);
	if (!rc)
		rc = fdt_pack(copy);
	if (rc) {
		error_set(errp, "device tree: the guest's copy: %s", fdt_strerror(rc));
		return NULL;
	}
	fdt_for_each_subnode(node, copy, 0)
	{
		fdt_nop_property(copy, node, PATH_HINT);
	}
	*guest_size = fdt_totalsize(copy);
	return take_ptr(copy);
}

/* 0, or libfdt's number of what is wrong with the structure. */
static int check_tree(const void *fdt, size_t size)
{
	if (size > DEVICETREE_MAX_BYTES)
		return -FDT_ERR_NOSPACE;
	/* libfdt accepts the versions of twenty years ago, too, and its check follows a NULL pointer in them. */
	if (size >= sizeof(struct fdt_header) && fdt_version(fdt) < VERSION_MIN)
		return -FDT_ERR_BADVERSION;
	return fdt_check_full(fdt, size);
}

bool devicetree_parse(const void *fdt, size_t size, struct machine_plan *plan, struct error **errp)
{
	const char *machine;
	int rc = check_tree(fdt, size);

	*plan = (struct machine_plan){ 0 };
	if (rc) {
		error_set(errp, "device tree: %s", fdt_strerror(rc));
		return false;
	}
	machine = get_string(fdt, 0, "ferry,machine");
	if (!machine || strcmp(machine, MACHINE_NAME) != 0) {
		error_set(errp, "device tree: machine '%s', expected '%s'",
			  machine ? machine : "(none)", MACHINE_NAME);
		return false;
	}
	return parse_memory(fdt, plan, errp) && parse_cpus(fdt, plan, errp) &&
	       parse_chosen(fdt, plan, errp) && parse_controllers(fdt, errp) &&
	       parse_isa(fdt, plan, errp) && parse_virtio(fdt, plan, errp);
}
