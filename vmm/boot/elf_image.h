/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading an ELF kernel: both classes brought to one shape, every offset checked against the file's size.
 * Source: ELF gABI 4.1.
 */
#ifndef FERRY_BOOT_ELF_IMAGE_H
#define FERRY_BOOT_ELF_IMAGE_H

#include <elf.h>

#include "vmm/boot/layout.h"

struct elf_image {
	const uint8_t *data; /* borrowed */
	uint64_t size;
	uint64_t entry, phoff;
	unsigned int phnum, phentsize;
	bool is64;
};

/* Check the headers of an executable for x86, of 32 or 64 bits. */
bool elf_open(struct elf_image *elf, const uint8_t *data, uint64_t size, struct error **errp);
/* i is below phnum. The contents are not checked. */
Elf64_Phdr elf_program_header(const struct elf_image *elf, unsigned int i);
/* Put the segments into guest memory; *top is the end of the highest one below the hole, at least 1 MiB. */
bool elf_load_segments(struct memory *mem, const struct elf_image *elf, uint64_t *top,
		       struct error **errp);

#endif
