/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device tree is the machine.
 *
 * Options become a flattened device tree; the machine is built from that tree and nothing else, the guest is given it, and a
 * migration carries it. What belongs to the host alone (a path, a socket) is not in it.
 *
 *	/ { compatible = "ferry,microvm"; ferry,machine = "ferry-1"; interrupt-parent = <1>;
 *	    cpus { cpu@0 {...} ... };
 *	    memory@0 { device_type = "memory"; reg = <0 0  0 0x10000000>; };
 *	    chosen { bootargs = "..."; stdout-path = "/isa/serial@3f8"; ferry,kernel-size; ferry,initrd-size };
 *	    virtio_mmio@d0000000 { compatible = "virtio,mmio"; reg = <0 0xd0000000  0 0x1000>; interrupts = <5 3>;
 *	                           ferry,device = "rng"; ferry,id = "rng0"; };
 *	    interrupt-controller@fec00000 { compatible = "intel,ce4100-ioapic"; #interrupt-cells = <2>; phandle = <1>; ... };
 *	    interrupt-controller@fee00000 { compatible = "intel,ce4100-lapic"; ... };
 *	    isa { serial@3f8 { compatible = "ns16550a"; reg = <1 0x3f8 8>; interrupts = <4 3>; }; ... };
 *	};
 *
 * A virtio device may also have ferry,read-only, local-mac-address, and ferry,path-hint: where the host that described the machine
 * had the other side (an image, a tap), for a destination that is not told otherwise. The guest's copy does not have the hint.
 *
 * Ports are addressed as the ISA binding says: a first cell of 1 means I/O space. An interrupt is an input of the I/O APIC and its
 * type, of which this machine has two: 1 is level, active high, 3 a rising edge. A tree of an older build has no type: then a virtio
 * device's interrupt is a level, others are edges. What the guest was told when it booted stays so, wherever it moves to.
 *
 * Source: Devicetree Specification 0.4; IEEE 1275 ISA/EISA binding; types: of_ioapic_type[] in Linux's arch/x86/kernel/devicetree.c.
 */
#ifndef FERRY_BOOT_DEVICETREE_H
#define FERRY_BOOT_DEVICETREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

#define MACHINE_NAME "ferry-1"
#define DEVICETREE_MAX_BYTES (64u << 10)
#define DEVICETREE_GUEST_MAX (66u << 10)
#define MACHINE_MAX_MEMORY_RANGES 2
#define MACHINE_MEMORY_MIN (UINT64_C(2) << 20)
/* Guest physical addresses of 46 bits are what every KVM host has. */
#define MACHINE_MEMORY_MAX (UINT64_C(1) << 45)
#define MACHINE_MAX_DEVICES 32
#define MACHINE_CMDLINE_MAX 4095
#define MACHINE_MAX_VIRTIO 8
#define MACHINE_ID_MAX 31
#define MACHINE_PATH_MAX 1023
/* Where virtio-mmio devices are: in the hole below 4 GiB, clear of the APICs. */
#define MACHINE_VIRTIO_START UINT64_C(0xd0000000)
#define MACHINE_VIRTIO_BYTES UINT64_C(0x1000)
#define MACHINE_VIRTIO_END UINT64_C(0xe0000000)
#define MACHINE_MAC_BYTES 6
/* The interrupt controllers' registers, where KVM has them. */
#define MACHINE_IO_APIC UINT64_C(0xfec00000)
#define MACHINE_LOCAL_APIC UINT64_C(0xfee00000)
#define MACHINE_APIC_BYTES UINT64_C(0x1000)

struct machine_range {
	uint64_t start, size;
};

struct machine_device {
	const char *compatible; /* points into the tree, as the other pointers do */
	const char *name;	/* of the node: "serial@3f8" */
	uint64_t base, length;
	uint32_t irq; /* 0: none */
	bool level;   /* its type: level, or else a rising edge */
	/* virtio devices, which are memory-mapped; NULL for those under /isa */
	const char *kind; /* "rng", "block", "net", "console" */
	const char *id;
	const char *path_hint; /* or NULL */
	const uint8_t *mac;    /* or NULL */
	bool read_only;
};

/* What a tree says, for building the machine. Strings point into the tree. */
struct machine_plan {
	unsigned int ncpus;
	struct machine_range memory[MACHINE_MAX_MEMORY_RANGES];
	unsigned int nmemory;
	const char *cmdline;
	uint64_t kernel_bytes, initrd_bytes; /* of the boot images; initrd 0: none */
	struct machine_device devices[MACHINE_MAX_DEVICES];
	unsigned int ndevices;
};

/* A virtio device that the command line asks for. */
struct machine_virtio {
	const char *kind, *id;
	const char *path; /* becomes the hint; NULL: none */
	bool read_only;
	bool has_mac;
	uint8_t mac[MACHINE_MAC_BYTES];
};

/* What the command line says of a fresh machine. */
struct machine_options {
	uint64_t memory_bytes;
	unsigned int ncpus;
	const char *cmdline;
	uint64_t kernel_bytes, initrd_bytes;
	struct machine_virtio virtio[MACHINE_MAX_VIRTIO];
	unsigned int nvirtio;
	bool no_acpi; /* no ACPI registers, and so no tables */
};

/* A tree for these options, to be freed; *size is its length in bytes. */
void *devicetree_build(const struct machine_options *options, size_t *size, struct error **errp);
/* Letters, digits, '-', '_', '.': what a device may be called. */
bool devicetree_id_ok(const char *id);
/*
 * A copy for the guest, to be freed, without what concerns the host alone; *guest_size is its length, at most DEVICETREE_GUEST_MAX.
 * acpi: the guest has ACPI tables as well, so what they name is disabled or left out. Fails for a stranger's tree alone.
 */
void *devicetree_for_guest(const void *fdt, bool acpi, size_t *guest_size, struct error **errp);
/* Read a tree, which may come from a stranger: structure, sizes and values are checked. */
bool devicetree_parse(const void *fdt, size_t size, struct machine_plan *plan, struct error **errp);

#endif
