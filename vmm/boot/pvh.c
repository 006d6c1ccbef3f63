/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/pvh.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/boot/elf_image.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_MAGIC 0x336ec578u

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};
struct modlist_entry {
	uint64_t paddr, size, cmdline_paddr, reserved;
};
struct memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};
/* All of it as it lies in guest memory; x86 is little-endian like the structure. */
struct start_area {
	struct start_info info;
	struct modlist_entry modules[2];
	struct memmap_entry memmap[BOOT_MAP_MAX];
};
_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info, version 1");
_Static_assert(sizeof(struct start_area) <= BOOT_INFO_END - BOOT_INFO,
	       "fits below the command line");

/* Look for the Xen note in one PT_NOTE segment, which lies inside the file. */
static bool find_note(const uint8_t *notes, uint64_t size, uint64_t align, uint32_t *entry)
{
	uint64_t at = 0;

	align = align == 8 ? 8 : 4;
	while (range_within(at, sizeof(Elf64_Nhdr), size)) {
		Elf64_Nhdr nh;
		uint64_t name, desc;

		memcpy(&nh, notes + at, sizeof(nh));
		name = at + sizeof(nh);
		desc = align_up(name + nh.n_namesz, align);
		if (!range_within(desc, nh.n_descsz, size))
			return false;
		if (nh.n_type == XEN_ELFNOTE_PHYS32_ENTRY && nh.n_namesz == 4 &&
		    memcmp(notes + name, "Xen", 4) == 0 && nh.n_descsz >= 4) {
			*entry = get_le32(notes + desc);
			return true;
		}
		at = align_up(desc + nh.n_descsz, align);
	}
	return false;
}

static bool find_entry(const struct elf_image *elf, uint32_t *entry, struct error **errp)
{
	for (unsigned int i = 0; i < elf->phnum; i++) {
		Elf64_Phdr ph = elf_program_header(elf, i);

		if (ph.p_type != PT_NOTE)
			continue;
		if (!range_within(ph.p_offset, ph.p_filesz, elf->size))
			return boot_bad_image(errp, "truncated: a note lies beyond the file's end");
		if (find_note(elf->data + ph.p_offset, ph.p_filesz, ph.p_align, entry))
			return true;
	}
	return boot_bad_image(
		errp, "no PVH entry (ELF note 18 of \"Xen\"): not a kernel that can boot here");
}

static void write_memmap(struct start_area *area, struct memory *mem)
{
	struct boot_range map[BOOT_MAP_MAX];

	area->info.memmap_entries = boot_memory_map(mem, map);
	for (unsigned int i = 0; i < area->info.memmap_entries; i++)
		area->memmap[i] = (struct memmap_entry){ .addr = map[i].start,
							 .size = map[i].size,
							 .type = map[i].type };
}

static bool write_start_info(struct memory *mem, const struct boot_images *images, uint64_t initrd,
			     struct error **errp)
{
	struct start_area area = {
		.info = {
			.magic = START_MAGIC,
			.version = 1,
			.nr_modules = 2,
			.modlist_paddr = BOOT_INFO + offsetof(struct start_area, modules),
			.cmdline_paddr = BOOT_CMDLINE,
			.rsdp_paddr = images->rsdp,
			.memmap_paddr = BOOT_INFO + offsetof(struct start_area, memmap),
		},
		.modules = { { .paddr = initrd, .size = images->initrd_bytes },
			     { .paddr = BOOT_FDT, .size = images->fdt_bytes } },
	};

	write_memmap(&area, mem);
	return memory_write(mem, BOOT_INFO, &area, sizeof(area), errp) &&
	       boot_load_cmdline(mem, images, errp) &&
	       memory_write(mem, BOOT_FDT, images->fdt, images->fdt_bytes, errp);
}

bool pvh_check(const uint8_t *image, uint64_t size, struct error **errp)
{
	struct elf_image elf;
	uint32_t entry;

	return elf_open(&elf, image, size, errp) && find_entry(&elf, &entry, errp);
}

bool pvh_probe(const uint8_t *image, uint64_t size)
{
	return pvh_check(image, size, NULL);
}

bool pvh_load(struct memory *mem, const struct boot_images *images, struct kvm_regs *regs,
	      struct error **errp)
{
	struct elf_image elf;
	uint64_t top, initrd;
	uint32_t entry;

	if (!elf_open(&elf, images->kernel, images->kernel_bytes, errp) ||
	    !find_entry(&elf, &entry, errp) || !elf_load_segments(mem, &elf, &top, errp) ||
	    !boot_load_initrd(mem, images, top, UINT64_MAX, &initrd, errp) ||
	    !write_start_info(mem, images, initrd, errp))
		return false;
	*regs = (struct kvm_regs){ .rip = entry, .rbx = BOOT_INFO };
	return true;
}
