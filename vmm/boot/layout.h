/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every boot protocol needs: the images, where things lie in guest memory, and what RAM there is.
 *
 *	0x00400  a PC keeps its BIOS data there: only where a kernel looks for it, by Multiboot
 *	0x06000  what the protocol tells the kernel: hvm_start_info, zero page or Multiboot information (4 KiB)
 *	0x07000  command line (4 KiB)
 *	0x08000  GDT, and from 0x9000 page tables for the first 4 GiB: only where a kernel begins in 64-bit mode, which is above 1 MiB
 *	0x20000  device tree, 68 KiB, reserved in the memory map
 *	0x9fc00  a PC keeps its extended BIOS data, video memory and ROMs up to 1 MiB: reserved
 *	0xe0000  ACPI tables, where firmware would have them (acpi.h)
 *
 * A kernel's segments may lie anywhere else. The initrd lies at the top of the RAM below the hole.
 */
#ifndef FERRY_BOOT_LAYOUT_H
#define FERRY_BOOT_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/kvm/memory.h"

#define BOOT_INFO 0x6000u
#define BOOT_INFO_END 0x7000u
#define BOOT_CMDLINE 0x7000u
#define BOOT_INFO_AREA_END 0x8000u /* with the command line */
#define BOOT_GDT 0x8000u
#define BOOT_PAGE_TABLES 0x9000u
#define BOOT_FDT 0x20000u
#define BOOT_FDT_ROOM 0x11000u /* the largest tree, with a header */
#define BOOT_AREA_END (BOOT_FDT + BOOT_FDT_ROOM)
#define BOOT_LOW_RAM_END 0x9fc00u
#define BOOT_ACPI 0xe0000u
#define BOOT_HIGH_RAM 0x100000u

struct boot_images {
	const uint8_t *kernel;
	uint64_t kernel_bytes;
	const uint8_t *initrd; /* NULL: none */
	uint64_t initrd_bytes;
	const char *cmdline;
	const void *fdt;
	size_t fdt_bytes;
	uint64_t rsdp; /* where the ACPI tables begin; 0: there are none */
};

enum boot_ram_type { BOOT_RAM = 1, BOOT_RESERVED = 2 }; /* the numbers of e820 */

struct boot_range {
	uint64_t start, size;
	enum boot_ram_type type;
};

#define BOOT_MAP_MAX 8

/* The memory map, sorted, without overlaps; returns how many ranges. */
unsigned int boot_memory_map(const struct memory *mem, struct boot_range map[static BOOT_MAP_MAX]);
/* The end of the RAM that begins at address 0. */
uint64_t boot_low_ram(const struct memory *mem);
/* The host's address of a place for a part of the kernel, `size` bytes at gpa: in RAM, and free. */
uint8_t *boot_kernel_room(struct memory *mem, uint64_t gpa, uint64_t size, struct error **errp);
/* Copy the initrd below `limit` and above `floor`, page aligned; *gpa is 0 where there is none. */
bool boot_load_initrd(struct memory *mem, const struct boot_images *images, uint64_t floor,
		      uint64_t limit, uint64_t *gpa, struct error **errp);
/* Copy the command line to BOOT_CMDLINE. */
bool boot_load_cmdline(struct memory *mem, const struct boot_images *images, struct error **errp);
/* "kernel image: WHAT", always false. */
bool boot_bad_image(struct error **errp, const char *what);

#endif
