/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/image.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "tests/integration/world.h"
#include "vmm/base/bytes.h"

#define PH_AT 128
#define NOTE_AT 256
#define CODE_AT 320

/* Print ecx bytes at esi on COM1, and exit; the same in 32 and 64 bits. */
#define PRINT_AND_EXIT                                           \
	0x66, 0xba, 0xf8, 0x03,		/* mov dx, 0x3f8 */      \
		0xac,			/* lodsb */              \
		0xee,			/* out dx, al */         \
		0xe2, 0xfc,		/* loop to lodsb */      \
		0xb0, IMAGE_EXIT,	/* mov al, IMAGE_EXIT */ \
		0x66, 0xba, 0xf4, 0x00, /* mov dx, 0xf4 */       \
		0xee,			/* out dx, al */         \
		0xeb, 0xfe		/* jmp to itself */

static const uint8_t code[] = {
	0x8b,		0x43, 0x10, /* mov eax, [ebx + 16]	modlist_paddr */
	0x8b,		0x30,	    /* mov esi, [eax]	paddr */
	0x8b,		0x48, 0x08, /* mov ecx, [eax + 8]	size */
	PRINT_AND_EXIT,
};

/* Entered in 64-bit mode with the zero page in rsi. */
static const uint8_t bzimage_code[] = {
	0x8b,		0x8e, 0x1c, 0x02, 0x00, 0x00, /* mov ecx, [rsi + 0x21c]	ramdisk_size */
	0x8b,		0xb6, 0x18, 0x02, 0x00, 0x00, /* mov esi, [rsi + 0x218]	ramdisk_image */
	PRINT_AND_EXIT,
};

/* Entered in 32-bit mode with the loader's magic in eax and the information in ebx. */
static const uint8_t multiboot_code[] = {
	0x3d,		0x02, 0xb0, 0xad, 0x2b, /* cmp eax, 0x2badb002 */
	0x75,		0xfe,			/* jne to itself */
	0x8b,		0x43, 0x18,		/* mov eax, [ebx + 24]	mods_addr */
	0x8b,		0x30,			/* mov esi, [eax]	mod_start */
	0x8b,		0x48, 0x04,		/* mov ecx, [eax + 4]	mod_end */
	0x29,		0xf1,			/* sub ecx, esi */
	PRINT_AND_EXIT,
};

/* The same entry; the BIOS data area and the information must tell the same. How many bytes to print is filled in. */
#define LOW_LEN_AT 16
static const uint8_t low_multiboot_code[] = {
	0x0f,		0xb7, 0x05, 0x13, 0x04, 0x00, 0x00, /* movzx eax, word [0x413] */
	0x3b,		0x43, 0x04,			    /* cmp eax, [ebx + 4]	mem_lower */
	0x75,		0xfe,				    /* jne to itself */
	0x8b,		0x73, 0x10,			    /* mov esi, [ebx + 16]	cmdline */
	0xb9,		0x00, 0x00, 0x00, 0x00,		    /* mov ecx, len */
	PRINT_AND_EXIT,
};

struct note {
	Elf64_Nhdr head;
	char name[4];
	uint32_t entry;
};

static void put_ident(uint8_t *e_ident, const struct image *im)
{
	memcpy(e_ident, ELFMAG, SELFMAG);
	e_ident[EI_CLASS] = im->is32 ? ELFCLASS32 : ELFCLASS64;
	e_ident[EI_DATA] = im->big_endian ? ELFDATA2MSB : ELFDATA2LSB;
	e_ident[EI_VERSION] = EV_CURRENT;
}

static void put_headers64(uint8_t *file, const struct image *im)
{
	Elf64_Ehdr eh = { .e_type = ET_EXEC,
			  .e_machine = im->machine,
			  .e_phoff = im->phoff ? im->phoff : PH_AT,
			  .e_ehsize = sizeof(eh),
			  .e_phentsize = sizeof(Elf64_Phdr),
			  .e_phnum = im->phnum };
	Elf64_Phdr ph[2] = { { .p_type = PT_LOAD,
			       .p_offset = CODE_AT,
			       .p_paddr = im->paddr,
			       .p_filesz = im->filesz ? im->filesz : sizeof(code),
			       .p_memsz = im->memsz },
			     { .p_type = im->no_note ? PT_NULL : PT_NOTE,
			       .p_offset = NOTE_AT,
			       .p_filesz = sizeof(struct note),
			       .p_align = 4 } };

	put_ident(eh.e_ident, im);
	memcpy(file, &eh, sizeof(eh));
	memcpy(file + PH_AT, ph, sizeof(ph));
}

static void put_headers32(uint8_t *file, const struct image *im)
{
	Elf32_Ehdr eh = { .e_type = ET_EXEC,
			  .e_machine = EM_386,
			  .e_phoff = PH_AT,
			  .e_ehsize = sizeof(eh),
			  .e_phentsize = sizeof(Elf32_Phdr),
			  .e_phnum = im->phnum };
	Elf32_Phdr ph[2] = { { .p_type = PT_LOAD,
			       .p_offset = CODE_AT,
			       .p_paddr = (uint32_t)im->paddr,
			       .p_filesz = sizeof(code),
			       .p_memsz = (uint32_t)im->memsz },
			     { .p_type = PT_NOTE,
			       .p_offset = NOTE_AT,
			       .p_filesz = sizeof(struct note),
			       .p_align = 4 } };

	put_ident(eh.e_ident, im);
	memcpy(file, &eh, sizeof(eh));
	memcpy(file + PH_AT, ph, sizeof(ph));
}

static char *write_bytes(const char *name, const uint8_t *bytes, size_t len)
{
	char *path = world_path(name);
	FILE *f = fopen(path, "we");

	check(f && fwrite(bytes, 1, len, f) == len && fclose(f) == 0, "cannot write %s", path);
	return path;
}

char *image_write(const char *name, const struct image *im)
{
	uint8_t file[CODE_AT + sizeof(code)] = { 0 };
	struct note note = { .head = { .n_namesz = 4, .n_descsz = 4, .n_type = im->note_type },
			     .entry = IMAGE_PADDR };
	size_t len = im->cut ? im->cut : sizeof(file);

	memcpy(note.name, im->note_name, 4);
	if (im->is32)
		put_headers32(file, im);
	else
		put_headers64(file, im);
	memcpy(file + NOTE_AT, &note, sizeof(note));
	memcpy(file + CODE_AT, code, sizeof(code));
	return write_bytes(name, file, len);
}

#define SETUP_SECTOR 512
#define ENTRY_64 512
#define KERNEL_BYTES 1024

char *image_write_bzimage(const char *name)
{
	/* One sector with the header, one of setup, and the kernel. */
	uint8_t file[2 * SETUP_SECTOR + KERNEL_BYTES] = { 0 };

	file[0x1f1] = 1;
	put_le32(file + 0x1f4, KERNEL_BYTES / 16);
	put_le16(file + 0x1fe, 0xaa55);
	file[0x201] = 0x62;
	memcpy(file + 0x202, "HdrS", 4);
	put_le16(file + 0x206, 0x020c);
	put_le32(file + 0x22c, 0x7fffffff);
	put_le32(file + 0x230, 4096);
	put_le16(file + 0x236, 1);
	put_le32(file + 0x238, 2047);
	put_le64(file + 0x258, IMAGE_PADDR);
	put_le32(file + 0x260, KERNEL_BYTES);
	memcpy(file + 2 * SETUP_SECTOR + ENTRY_64, bzimage_code, sizeof(bzimage_code));
	return write_bytes(name, file, sizeof(file));
}

static char *write_multiboot(const char *name, uint32_t paddr, const uint8_t *program, size_t len)
{
	const uint32_t header[8] = { 0x1badb002, 0x10003, 0 - 0x1badb002u - 0x10003u, paddr, paddr,
				     0,		 0,	  paddr + sizeof(header) };
	uint8_t file[sizeof(header) + 64];

	cr_assert_leq(len, sizeof(file) - sizeof(header));
	memcpy(file, header, sizeof(header));
	memcpy(file + sizeof(header), program, len);
	return write_bytes(name, file, sizeof(header) + len);
}

char *image_write_multiboot(const char *name)
{
	return write_multiboot(name, IMAGE_PADDR, multiboot_code, sizeof(multiboot_code));
}

char *image_write_low_multiboot(const char *name, uint8_t len)
{
	uint8_t program[sizeof(low_multiboot_code)];

	memcpy(program, low_multiboot_code, sizeof(program));
	program[LOW_LEN_AT] = len;
	return write_multiboot(name, 32 << 10, program, sizeof(program));
}
