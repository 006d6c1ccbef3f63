/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/layout.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

bool boot_bad_image(struct error **errp, const char *what)
{
	error_set(errp, "kernel image: %s", what);
	return false;
}

uint64_t boot_low_ram(const struct memory *mem)
{
	return MIN_OF(mem->blocks[0].size_bytes, MEMORY_HOLE_START);
}

unsigned int boot_memory_map(const struct memory *mem, struct boot_range map[static BOOT_MAP_MAX])
{
	unsigned int n = 0;

	map[n++] = (struct boot_range){ 0, BOOT_FDT, BOOT_RAM };
	map[n++] = (struct boot_range){ BOOT_FDT, BOOT_FDT_ROOM, BOOT_RESERVED };
	map[n++] = (struct boot_range){ BOOT_AREA_END, BOOT_LOW_RAM_END - BOOT_AREA_END, BOOT_RAM };
	map[n++] = (struct boot_range){ BOOT_LOW_RAM_END, BOOT_HIGH_RAM - BOOT_LOW_RAM_END,
					BOOT_RESERVED };
	for (unsigned int i = 0; i < mem->nblocks && n < BOOT_MAP_MAX; i++) {
		const struct ram_block *b = &mem->blocks[i];
		uint64_t start = MAX_OF(b->gpa, BOOT_HIGH_RAM);

		if (b->slot != RAM_BLOCK_NO_SLOT)
			map[n++] = (struct boot_range){ start, b->gpa + b->size_bytes - start,
							BOOT_RAM };
	}
	return n;
}

uint8_t *boot_kernel_room(struct memory *mem, uint64_t gpa, uint64_t size, struct error **errp)
{
	static const struct {
		uint64_t start, end;
		const char *what;
	} taken[] = {
		{ BOOT_INFO, BOOT_INFO_AREA_END, "boot information" },
		{ BOOT_FDT, BOOT_AREA_END, "device tree" },
		{ BOOT_ACPI, BOOT_HIGH_RAM, "ACPI tables" },
	};
	uint8_t *host = memory_host(mem, gpa, size);

	if (!host) {
		error_set(errp,
			  "kernel image: its part at 0x%llx (0x%llx bytes) lies outside the "
			  "guest's RAM",
			  (unsigned long long)gpa, (unsigned long long)size);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
		if (gpa >= taken[i].end || gpa + size <= taken[i].start)
			continue;
		error_set(errp,
			  "kernel image: its part at 0x%llx overlaps the %s at 0x%llx to 0x%llx",
			  (unsigned long long)gpa, taken[i].what,
			  (unsigned long long)taken[i].start, (unsigned long long)taken[i].end);
		return NULL;
	}
	return host;
}

bool boot_load_initrd(struct memory *mem, const struct boot_images *images, uint64_t floor,
		      uint64_t limit, uint64_t *gpa, struct error **errp)
{
	uint64_t end = MIN_OF(boot_low_ram(mem), limit);
	uint64_t address = 0;

	if (!images->initrd_bytes) {
		*gpa = 0;
		return true;
	}
	if (images->initrd_bytes <= end)
		address = align_down(end - images->initrd_bytes, GUEST_PAGE_SIZE);
	if (images->initrd_bytes > end || address < floor) {
		error_set(errp,
			  "initrd: %llu bytes do not fit between the kernel's end 0x%llx and "
			  "%s 0x%llx",
			  (unsigned long long)images->initrd_bytes, (unsigned long long)floor,
			  end == limit ? "the kernel's limit" : "the RAM's end",
			  (unsigned long long)end);
		return false;
	}
	if (!memory_write(mem, address, images->initrd, images->initrd_bytes, errp))
		return false;
	*gpa = address;
	return true;
}

bool boot_load_cmdline(struct memory *mem, const struct boot_images *images, struct error **errp)
{
	return memory_write(mem, BOOT_CMDLINE, images->cmdline, strlen(images->cmdline) + 1, errp);
}
