/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.[ch] - small ELF images, made to order: one that boots and, by changing a field, each kind that must not.
 *
 * The usual one holds a few instructions that print the first boot module (the initrd) on COM1 and end with exit code
 * IMAGE_EXIT. It is entered like any PVH kernel: 32-bit protected mode, ebx points to hvm_start_info.
 */
#ifndef FERRY_TESTS_IMAGE_H
#define FERRY_TESTS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_EXIT 5
#define IMAGE_PADDR 0x100000

struct image {
	bool is32;
	bool big_endian; /* only says so */
	uint16_t machine;
	uint64_t paddr, memsz, filesz; /* filesz 0: as it is */
	bool no_note;
	const char *note_name; /* 4 bytes */
	uint32_t note_type;
	uint16_t phnum;
	uint64_t phoff; /* 0: where they are */
	size_t cut;	/* the file ends here; 0: it is whole */
};

#define IMAGE_GOOD                                                                        \
	{                                                                                 \
		.machine = 62, .paddr = IMAGE_PADDR, .memsz = 4096, .note_name = "Xen\0", \
		.note_type = 18, .phnum = 2,                                              \
	}

/* Writes it to the test's directory; the absolute path. */
char *image_write(const char *name, const struct image *im);
/* The same program as a bzImage, whose 64-bit entry it is, or as a Multiboot image. They find the initrd each in its way. */
char *image_write_bzimage(const char *name);
char *image_write_multiboot(const char *name);
/* A Multiboot image at 32 KiB that prints the first `len` bytes of its command line. */
char *image_write_low_multiboot(const char *name, uint8_t len);

#endif
