/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/multiboot.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/elf_image.h"

#define HEADER_MAGIC 0x1badb002u
#define LOADER_MAGIC 0x2badb002u
#define SEARCH_BYTES 8192u
#define HEADER_BYTES 12u
#define HEADER_WITH_ADDRESSES 32u

/* Header flags: the lower half are demands that must be met or refused. */
#define WANTS_PAGE_ALIGNED 0x1u
#define WANTS_MEMORY 0x2u
#define WANTS_WE_MEET (WANTS_PAGE_ALIGNED | WANTS_MEMORY)
#define HAS_ADDRESSES 0x10000u

/* Information flags */
#define INFO_MEMORY 0x1u
#define INFO_CMDLINE 0x4u
#define INFO_MODULES 0x8u
#define INFO_MMAP 0x40u
#define INFO_LOADER_NAME 0x200u

struct information {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline;
	uint32_t mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
	uint32_t drives_length, drives_addr, config_table, boot_loader_name, apm_table;
};
struct module {
	uint32_t start, end, string, reserved;
};
struct mmap_entry {
	uint32_t size; /* of what follows */
	uint64_t addr, len;
	uint32_t type;
} __attribute__((packed));
/* All of it as it lies in guest memory; x86 is little-endian like the structure. */
struct info_area {
	struct information info;
	struct module module;
	struct mmap_entry mmap[BOOT_MAP_MAX];
	char empty[4];
	char loader[8];
};
_Static_assert(offsetof(struct information, mmap_length) == 44, "as in the specification");
_Static_assert(offsetof(struct information, boot_loader_name) == 64, "as in the specification");
_Static_assert(sizeof(struct mmap_entry) == 24, "as in the specification");

/*
 * Loaders put the image's path before the command line, and kernels drop the first word unseen; so there has to be one. It ends
 * where the command line begins.
 */
static const char first_word[] = "kernel ";
#define FIRST_WORD_LEN (sizeof(first_word) - 1)
_Static_assert(BOOT_INFO_END == BOOT_CMDLINE, "the first word lies right before the command line");
_Static_assert(sizeof(struct info_area) <= BOOT_INFO_END - BOOT_INFO - FIRST_WORD_LEN, "fits");

/*
 * Of a PC's BIOS data area, what tells how much memory there is below the ROMs. Xen, for one, puts its trampoline at the end that
 * is named there, whatever the information says.
 */
#define BDA_COM1 0x400u /* port */
#define BDA_EBDA_SEGMENT \
	0x40eu /* address / 16 of the extended BIOS data area, which begins with its KiB */
#define BDA_BASE_KIB 0x413u
#define COM1_PORT 0x3f8u

/* A header that lies inside the image. */
struct header {
	uint64_t at; /* offset in the file */
	uint32_t flags;
	uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

static bool find_header(const uint8_t *image, uint64_t size, struct header *h)
{
	uint64_t end = MIN_OF(size, SEARCH_BYTES);

	for (uint64_t at = 0; range_within(at, HEADER_BYTES, end); at += 4) {
		uint32_t flags = get_le32(image + at + 4);

		if (get_le32(image + at) != HEADER_MAGIC ||
		    HEADER_MAGIC + flags + get_le32(image + at + 8) != 0)
			continue;
		*h = (struct header){ .at = at, .flags = flags };
		return true;
	}
	return false;
}

bool multiboot_probe(const uint8_t *image, uint64_t size)
{
	struct header h;

	return find_header(image, size, &h);
}

static bool check_header(const uint8_t *image, uint64_t size, struct header *h, struct error **errp)
{
	uint32_t unmet = h->flags & 0xffff & ~WANTS_WE_MEET;
	const uint8_t *p = image + h->at;

	if (unmet) {
		error_set(errp,
			  "kernel image: it demands what is not there (Multiboot header flags "
			  "0x%x)%s",
			  h->flags, unmet & 4 ? ": a video mode, and there is no display" : "");
		return false;
	}
	if (!(h->flags & HAS_ADDRESSES))
		return true;
	if (!range_within(h->at, HEADER_WITH_ADDRESSES, size))
		return boot_bad_image(errp, "truncated: the Multiboot header is cut off");
	h->header_addr = get_le32(p + 12);
	h->load_addr = get_le32(p + 16);
	h->load_end_addr = get_le32(p + 20);
	h->bss_end_addr = get_le32(p + 24);
	h->entry_addr = get_le32(p + 28);
	return true;
}

/* Load by the header's addresses: one run of the file, and zeroes behind it. */
static bool load_by_addresses(struct memory *mem, const struct boot_images *images,
			      const struct header *h, uint32_t *entry, uint64_t *top,
			      struct error **errp)
{
	uint64_t before =
		(uint64_t)h->header_addr - h->load_addr; /* header from the load's start */
	uint64_t offset, bytes, total;
	uint8_t *host;

	if (h->load_addr > h->header_addr || before > h->at)
		return boot_bad_image(errp, "damaged: the Multiboot header's load address lies "
					    "before the file's begin or behind the header");
	offset = h->at - before;
	bytes = images->kernel_bytes - offset;
	if (h->load_end_addr) {
		if (h->load_end_addr < h->load_addr || h->load_end_addr - h->load_addr > bytes)
			return boot_bad_image(errp, "truncated: the Multiboot header's load end "
						    "lies beyond the file's end");
		bytes = h->load_end_addr - h->load_addr;
	}
	total = bytes;
	if (h->bss_end_addr) {
		if (h->bss_end_addr < h->load_addr + bytes)
			return boot_bad_image(errp, "damaged: the Multiboot header's bss ends "
						    "before the data");
		total = h->bss_end_addr - h->load_addr;
	}
	host = boot_kernel_room(mem, h->load_addr, total, errp);
	if (!host)
		return false;
	memcpy(host, images->kernel + offset, bytes);
	memset(host + bytes, 0, total - bytes);
	memory_mark_dirty(mem, h->load_addr, total);
	*entry = h->entry_addr;
	*top = MAX_OF(h->load_addr + total, BOOT_HIGH_RAM);
	return true;
}

/* Paging is off, so an entry that is given as a virtual address is where its segment was put. */
static bool physical_entry(const struct elf_image *elf, uint32_t *entry, struct error **errp)
{
	uint64_t address = elf->entry;

	for (unsigned int i = 0; i < elf->phnum; i++) {
		Elf64_Phdr ph = elf_program_header(elf, i);

		if (ph.p_type == PT_LOAD && elf->entry - ph.p_vaddr < ph.p_memsz) {
			address = elf->entry - ph.p_vaddr + ph.p_paddr;
			break;
		}
	}
	if (address > UINT32_MAX)
		return boot_bad_image(errp, "a Multiboot image with its entry above 4 GiB");
	*entry = (uint32_t)address;
	return true;
}

static bool load_as_elf(struct memory *mem, const struct boot_images *images, uint32_t *entry,
			uint64_t *top, struct error **errp)
{
	struct elf_image elf;

	return elf_open(&elf, images->kernel, images->kernel_bytes, errp) &&
	       physical_entry(&elf, entry, errp) && elf_load_segments(mem, &elf, top, errp);
}

static void write_mmap(struct info_area *area, struct memory *mem)
{
	struct boot_range map[BOOT_MAP_MAX];
	unsigned int n = boot_memory_map(mem, map);

	for (unsigned int i = 0; i < n; i++)
		area->mmap[i] =
			(struct mmap_entry){ 20, map[i].start, map[i].size, (uint32_t)map[i].type };
	area->info.mmap_length = n * (uint32_t)sizeof(area->mmap[0]);
}

static bool write_information(struct memory *mem, const struct boot_images *images, uint64_t initrd,
			      struct error **errp)
{
	struct info_area area = {
		.info = {
			.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP |
				 INFO_LOADER_NAME,
			.mem_lower = BOOT_LOW_RAM_END >> 10,
			.mem_upper = (uint32_t)((boot_low_ram(mem) - BOOT_HIGH_RAM) >> 10),
			.cmdline = BOOT_CMDLINE - FIRST_WORD_LEN,
			.mods_count = images->initrd_bytes ? 1 : 0,
			.mods_addr = BOOT_INFO + offsetof(struct info_area, module),
			.mmap_addr = BOOT_INFO + offsetof(struct info_area, mmap),
			.boot_loader_name = BOOT_INFO + offsetof(struct info_area, loader),
		},
		.module = { .start = (uint32_t)initrd,
			    .end = (uint32_t)(initrd + images->initrd_bytes),
			    .string = BOOT_INFO + offsetof(struct info_area, empty) },
		.loader = "ferry",
	};

	write_mmap(&area, mem);
	return memory_write(mem, BOOT_INFO, &area, sizeof(area), errp) &&
	       memory_write(mem, area.info.cmdline, first_word, FIRST_WORD_LEN, errp);
}

static bool put_u16(struct memory *mem, uint64_t gpa, uint16_t value, struct error **errp)
{
	uint8_t bytes[2];

	put_le16(bytes, value);
	return memory_write(mem, gpa, bytes, sizeof(bytes), errp);
}

static bool write_bios_data(struct memory *mem, struct error **errp)
{
	return put_u16(mem, BDA_COM1, COM1_PORT, errp) &&
	       put_u16(mem, BDA_EBDA_SEGMENT, BOOT_LOW_RAM_END >> 4, errp) &&
	       put_u16(mem, BDA_BASE_KIB, BOOT_LOW_RAM_END >> 10, errp) &&
	       put_u16(mem, BOOT_LOW_RAM_END, 1, errp);
}

bool multiboot_load(struct memory *mem, const struct boot_images *images, struct kvm_regs *regs,
		    struct error **errp)
{
	struct header h;
	uint64_t top, initrd;
	uint32_t entry = 0;
	bool ok;

	if (!find_header(images->kernel, images->kernel_bytes, &h))
		return boot_bad_image(errp, "no Multiboot header");
	if (!check_header(images->kernel, images->kernel_bytes, &h, errp))
		return false;
	/* First, so that it never lies over the kernel. */
	if (!write_bios_data(mem, errp))
		return false;
	if (h.flags & HAS_ADDRESSES)
		ok = load_by_addresses(mem, images, &h, &entry, &top, errp);
	else
		ok = load_as_elf(mem, images, &entry, &top, errp);
	if (!ok || !boot_load_initrd(mem, images, top, UINT64_MAX, &initrd, errp) ||
	    !boot_load_cmdline(mem, images, errp) || !write_information(mem, images, initrd, errp))
		return false;
	*regs = (struct kvm_regs){ .rip = entry, .rax = LOADER_MAGIC, .rbx = BOOT_INFO };
	return true;
}
