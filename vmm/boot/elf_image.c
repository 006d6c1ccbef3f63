/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/elf_image.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

static bool check_machine(unsigned int machine, struct error **errp)
{
	static const struct {
		unsigned int machine;
		const char *name;
	} others[] = {
		{ EM_AARCH64, "arm64" }, { EM_ARM, "arm" },   { EM_RISCV, "riscv" },
		{ EM_PPC64, "ppc64" },	 { EM_S390, "s390" }, { EM_MIPS, "mips" },
	};
	const char *name = "not known here";

	if (machine == EM_X86_64 || machine == EM_386)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (others[i].machine == machine)
			name = others[i].name;
	error_set(errp,
		  "kernel image: an ELF file for another architecture than x86: machine %u (%s)",
		  machine, name);
	return false;
}

static bool read_header(struct elf_image *elf, unsigned int *machine, struct error **errp)
{
	Elf64_Ehdr h64;
	Elf32_Ehdr h32;

	if (!elf->is64) {
		memcpy(&h32, elf->data, sizeof(h32));
		*machine = h32.e_machine;
		elf->entry = h32.e_entry;
		elf->phoff = h32.e_phoff;
		elf->phnum = h32.e_phnum;
		elf->phentsize = h32.e_phentsize;
		return true;
	}
	if (elf->size < sizeof(h64))
		return boot_bad_image(errp, "truncated: the ELF header is cut off");
	memcpy(&h64, elf->data, sizeof(h64));
	*machine = h64.e_machine;
	elf->entry = h64.e_entry;
	elf->phoff = h64.e_phoff;
	elf->phnum = h64.e_phnum;
	elf->phentsize = h64.e_phentsize;
	return true;
}

bool elf_open(struct elf_image *elf, const uint8_t *data, uint64_t size, struct error **errp)
{
	unsigned int machine = EM_NONE;

	*elf = (struct elf_image){ .data = data, .size = size };
	if (size < sizeof(Elf32_Ehdr) || memcmp(data, ELFMAG, SELFMAG) != 0)
		return boot_bad_image(errp, "not an ELF file");
	if (data[EI_DATA] != ELFDATA2LSB ||
	    (data[EI_CLASS] != ELFCLASS64 && data[EI_CLASS] != ELFCLASS32))
		return boot_bad_image(errp,
				      "an ELF file, but not a little-endian one of 32 or 64 bits");
	elf->is64 = data[EI_CLASS] == ELFCLASS64;
	if (!read_header(elf, &machine, errp) || !check_machine(machine, errp))
		return false;
	if (elf->phentsize != (elf->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || !elf->phnum)
		return boot_bad_image(errp, "an ELF file without program headers");
	if (!range_within(elf->phoff, (uint64_t)elf->phnum * elf->phentsize, size))
		return boot_bad_image(errp,
				      "truncated: the program headers lie beyond the file's end");
	return true;
}

Elf64_Phdr elf_program_header(const struct elf_image *elf, unsigned int i)
{
	const uint8_t *at = elf->data + elf->phoff + (uint64_t)i * elf->phentsize;
	Elf64_Phdr ph;
	Elf32_Phdr p32;

	if (elf->is64) {
		memcpy(&ph, at, sizeof(ph));
		return ph;
	}
	memcpy(&p32, at, sizeof(p32));
	return (Elf64_Phdr){
		.p_type = p32.p_type,
		.p_offset = p32.p_offset,
		.p_vaddr = p32.p_vaddr,
		.p_paddr = p32.p_paddr,
		.p_filesz = p32.p_filesz,
		.p_memsz = p32.p_memsz,
		.p_align = p32.p_align,
	};
}

static bool load_segment(struct memory *mem, const struct elf_image *elf, const Elf64_Phdr *ph,
			 struct error **errp)
{
	uint8_t *host;

	if (ph->p_filesz > ph->p_memsz || !range_within(ph->p_offset, ph->p_filesz, elf->size))
		return boot_bad_image(errp, "truncated: a segment lies beyond the file's end");
	host = boot_kernel_room(mem, ph->p_paddr, ph->p_memsz, errp);
	if (!host)
		return false;
	memcpy(host, elf->data + ph->p_offset, ph->p_filesz);
	memset(host + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
	memory_mark_dirty(mem, ph->p_paddr, ph->p_memsz);
	return true;
}

bool elf_load_segments(struct memory *mem, const struct elf_image *elf, uint64_t *top,
		       struct error **errp)
{
	uint64_t end = BOOT_HIGH_RAM;

	for (unsigned int i = 0; i < elf->phnum; i++) {
		Elf64_Phdr ph = elf_program_header(elf, i);

		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		if (!load_segment(mem, elf, &ph, errp))
			return false;
		if (ph.p_paddr < MEMORY_HOLE_START)
			end = MAX_OF(end, ph.p_paddr + ph.p_memsz);
	}
	*top = end;
	return true;
}
