/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/bzimage.h"

#include <asm/bootparam.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/devicetree.h"
#include "vmm/boot/entry.h"

#define SECTOR 512u
#define SETUP_SECTS_DEFAULT 4
#define HEADER_AT offsetof(struct boot_params, hdr)
#define HEADER_END_FROM 0x202u /* the header ends here plus what the byte before says */
#define MAGIC_AT (HEADER_AT + offsetof(struct setup_header, header))
#define MAGIC 0x53726448u /* "HdrS" */
#define BOOT_FLAG_AT (HEADER_AT + offsetof(struct setup_header, boot_flag))
#define BOOT_FLAG 0xaa55
#define VERSION_64_BIT_ENTRY 0x020c
#define ENTRY_64 0x200u
#define LOADER_UNDEFINED 0xff

_Static_assert(sizeof(struct boot_params) == BOOT_INFO_END - BOOT_INFO, "the zero page");
_Static_assert(sizeof(struct setup_data) + DEVICETREE_GUEST_MAX <= BOOT_FDT_ROOM,
	       "the device tree fits with a header before it");

struct bzimage {
	struct setup_header hdr;
	const uint8_t *kernel;
	uint64_t kernel_bytes;
};

bool bzimage_probe(const uint8_t *image, uint64_t size)
{
	return size >= MAGIC_AT + 4 && get_le32(image + MAGIC_AT) == MAGIC &&
	       get_le16(image + BOOT_FLAG_AT) == BOOT_FLAG;
}

/* The setup header, as far as the image has it; fields that its version lacks are 0. */
static bool read_header(const struct boot_images *images, struct setup_header *hdr,
			struct error **errp)
{
	const uint8_t *image = images->kernel;
	uint64_t end;

	if (!bzimage_probe(image, images->kernel_bytes))
		return boot_bad_image(errp, "not a bzImage");
	end = HEADER_END_FROM + image[HEADER_END_FROM - 1];
	if (end > images->kernel_bytes)
		return boot_bad_image(errp, "truncated: the setup header is cut off");
	*hdr = (struct setup_header){ 0 };
	memcpy(hdr, image + HEADER_AT, MIN_OF(end - HEADER_AT, sizeof(*hdr)));
	if (hdr->version < VERSION_64_BIT_ENTRY) {
		error_set(errp,
			  "kernel image: boot protocol %u.%02u is too old: 2.12 is needed (Linux "
			  "3.8)",
			  hdr->version >> 8, hdr->version & 0xffu);
		return false;
	}
	if (end < HEADER_AT + offsetof(struct setup_header, handover_offset))
		return boot_bad_image(errp, "damaged: the setup header is shorter than its version "
					    "says");
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return boot_bad_image(errp, "a kernel for 32 bits: it has no 64-bit entry");
	return true;
}

static bool find_kernel(const struct boot_images *images, struct bzimage *b, struct error **errp)
{
	uint64_t sectors = b->hdr.setup_sects ? b->hdr.setup_sects : SETUP_SECTS_DEFAULT;
	uint64_t at = (sectors + 1) * SECTOR;
	uint64_t want = (uint64_t)b->hdr.syssize * 16;
	uint64_t have = at < images->kernel_bytes ? images->kernel_bytes - at : 0;

	/* syssize counts units of 16 bytes, the last of which need not be whole. */
	if (have + 15 < want || have <= ENTRY_64) {
		error_set(errp,
			  "kernel image: truncated: %llu bytes, expected %llu behind the first "
			  "%llu",
			  (unsigned long long)images->kernel_bytes, (unsigned long long)want,
			  (unsigned long long)at);
		return false;
	}
	if (want <= ENTRY_64)
		return boot_bad_image(errp, "damaged: the setup header counts no kernel");
	b->kernel = images->kernel + at;
	b->kernel_bytes = MIN_OF(want, have);
	return true;
}

/* Where the kernel prefers to be is also where it would go: it does not run below, and is built to run there. */
static bool place_kernel(struct memory *mem, const struct bzimage *b, struct error **errp)
{
	uint64_t at = b->hdr.pref_address, align = b->hdr.kernel_alignment;
	uint64_t room = MAX_OF(b->hdr.init_size, b->kernel_bytes);
	uint64_t ram = boot_low_ram(mem);
	uint8_t *host;

	if (at < BOOT_HIGH_RAM || !align || (align & (align - 1)) || !is_aligned(at, align)) {
		error_set(errp,
			  "kernel image: damaged: the preferred address 0x%llx is below 1 MiB or "
			  "not aligned to 0x%llx",
			  (unsigned long long)at, (unsigned long long)align);
		return false;
	}
	if (!range_within(at, room, ram)) {
		error_set(errp,
			  "kernel image: it needs %llu MiB at 0x%llx to start, and the RAM ends at "
			  "0x%llx: give the guest more memory",
			  (unsigned long long)((room + (1 << 20) - 1) >> 20),
			  (unsigned long long)at, (unsigned long long)ram);
		return false;
	}
	host = boot_kernel_room(mem, at, b->kernel_bytes, errp);
	if (!host)
		return false;
	memcpy(host, b->kernel, b->kernel_bytes);
	memory_mark_dirty(mem, at, b->kernel_bytes);
	return true;
}

static bool write_tree(struct memory *mem, const struct boot_images *images, struct error **errp)
{
	struct setup_data data = { .type = SETUP_DTB, .len = (uint32_t)images->fdt_bytes };

	return memory_write(mem, BOOT_FDT, &data, sizeof(data), errp) &&
	       memory_write(mem, BOOT_FDT + sizeof(data), images->fdt, images->fdt_bytes, errp);
}

static bool write_zero_page(struct memory *mem, const struct boot_images *images,
			    const struct setup_header *hdr, uint64_t initrd, struct error **errp)
{
	struct boot_params zero = { .hdr = *hdr, .acpi_rsdp_addr = images->rsdp };
	struct boot_range map[BOOT_MAP_MAX];

	zero.hdr.type_of_loader = LOADER_UNDEFINED;
	zero.hdr.code32_start = (uint32_t)hdr->pref_address;
	zero.hdr.ramdisk_image = (uint32_t)initrd;
	zero.hdr.ramdisk_size = (uint32_t)images->initrd_bytes;
	zero.hdr.cmd_line_ptr = BOOT_CMDLINE;
	zero.hdr.setup_data = BOOT_FDT;
	zero.e820_entries = (uint8_t)boot_memory_map(mem, map);
	for (unsigned int i = 0; i < zero.e820_entries; i++)
		zero.e820_table[i] =
			(struct boot_e820_entry){ map[i].start, map[i].size, map[i].type };
	return memory_write(mem, BOOT_INFO, &zero, sizeof(zero), errp);
}

static bool check_cmdline(const struct boot_images *images, const struct setup_header *hdr,
			  struct error **errp)
{
	if (strlen(images->cmdline) <= hdr->cmdline_size)
		return true;
	error_set(errp, "a command line of %zu bytes: this kernel takes %u",
		  strlen(images->cmdline), hdr->cmdline_size);
	return false;
}

bool bzimage_load(struct memory *mem, const struct boot_images *images, struct kvm_regs *regs,
		  struct error **errp)
{
	struct bzimage b;
	uint64_t initrd, end;

	if (!read_header(images, &b.hdr, errp) || !find_kernel(images, &b, errp) ||
	    !check_cmdline(images, &b.hdr, errp) || !place_kernel(mem, &b, errp))
		return false;
	end = b.hdr.pref_address + MAX_OF(b.hdr.init_size, b.kernel_bytes);
	if (!boot_load_initrd(mem, images, end, (uint64_t)b.hdr.initrd_addr_max + 1, &initrd,
			      errp) ||
	    !boot_load_cmdline(mem, images, errp) || !write_tree(mem, images, errp) ||
	    !write_zero_page(mem, images, &b.hdr, initrd, errp) || !entry_long_tables(mem, errp))
		return false;
	*regs = (struct kvm_regs){ .rip = b.hdr.pref_address + ENTRY_64, .rsi = BOOT_INFO };
	return true;
}
