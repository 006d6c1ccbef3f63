/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a PVH image is found out, loaded and described to itself as the ELF and Xen documents say;
 * anything else is refused with a reason, and no image, however broken, is a danger.
 *
 * How: images are built here, segment by segment and note by note, and loaded into blocks that look
 * visible to the guest (no KVM). Images lie in blocks of their exact size, for the address
 * sanitizer. (The entry state is what every integration test begins with.)
 */
#include <elf.h>

#include "tests/unit/boot_support.h"
#include "vmm/boot/pvh.h"

#define SEED 0x5eed0105
#define ENTRY 0x100040u

/* --- images --- */

struct segment {
	uint32_t type;
	uint64_t paddr, filesz, memsz, align;
	const uint8_t *data;
};

struct image {
	uint8_t *data; /* owned */
	size_t len;
};

static void put_phdr(uint8_t *at, bool is64, const struct segment *s, uint64_t offset)
{
	Elf64_Phdr p64 = { s->type, 0, offset, ~s->paddr, s->paddr, s->filesz, s->memsz, s->align };
	uint32_t paddr = (uint32_t)s->paddr, filesz = (uint32_t)s->filesz;
	Elf32_Phdr p32 = { s->type, (uint32_t)offset,	~paddr, paddr,
			   filesz,  (uint32_t)s->memsz, 0,	(uint32_t)s->align };

	memcpy(at, is64 ? (void *)&p64 : (void *)&p32, is64 ? sizeof(p64) : sizeof(p32));
}

static void put_ehdr(uint8_t *at, bool is64, unsigned int nsegments)
{
	Elf64_Ehdr h64 = { .e_machine = EM_X86_64,
			   .e_phoff = sizeof(h64),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = (uint16_t)nsegments };
	Elf32_Ehdr h32 = { .e_machine = EM_386,
			   .e_phoff = sizeof(h32),
			   .e_phentsize = sizeof(Elf32_Phdr),
			   .e_phnum = (uint16_t)nsegments };

	memcpy(at, is64 ? (void *)&h64 : (void *)&h32, is64 ? sizeof(h64) : sizeof(h32));
	memcpy(at, is64 ? "\177ELF\2\1\1" : "\177ELF\1\1\1", 7);
}

/* Headers, then the segments' data one after the other, up to the file's end. */
static struct image image_of(bool is64, const struct segment *segments, unsigned int n)
{
	size_t ehdr = is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
	size_t phdr = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	struct image image = { .len = ehdr + n * phdr };
	size_t at = image.len;

	for (unsigned int i = 0; i < n; i++)
		image.len += segments[i].filesz;
	image.data = malloc(image.len);
	put_ehdr(image.data, is64, n);
	for (unsigned int i = 0; i < n; i++) {
		put_phdr(image.data + ehdr + i * phdr, is64, &segments[i], at);
		if (segments[i].filesz)
			memcpy(image.data + at, segments[i].data, segments[i].filesz);
		at += segments[i].filesz;
	}
	return image;
}

/* gABI: name and descriptor each begin at the next multiple of the alignment in the segment. */
static size_t put_note(uint8_t *notes, size_t at, uint64_t align, const char *name, uint32_t namesz,
		       uint32_t type, const void *desc, uint32_t descsz)
{
	put_le32(notes + at, namesz);
	put_le32(notes + at + 4, descsz);
	put_le32(notes + at + 8, type);
	memcpy(notes + at + 12, name, namesz);
	at = align_up(at + 12 + namesz, align);
	memcpy(notes + at, desc, descsz);
	return align_up(at + descsz, align);
}

static const uint8_t entry_desc[8] = { ENTRY & 0xff, ENTRY >> 8 & 0xff, ENTRY >> 16, 0 };

/* The note of a kernel that can boot here. */
static struct segment pvh_note(uint8_t notes[64])
{
	size_t len = put_note(notes, 0, 4, "Xen", 4, 18, entry_desc, 4);

	return (struct segment){ PT_NOTE, 0, len, len, 4, notes };
}

static uint8_t code[300]; /* what a kernel is made of: filled once a test */

static struct segment load_at(uint64_t paddr, uint64_t filesz, uint64_t memsz)
{
	for (size_t i = 0; i < sizeof(code); i++)
		code[i] = (uint8_t)(i * 7 + 1);
	return (struct segment){ PT_LOAD, paddr, filesz, memsz, 4096, code };
}

static bool load(struct memory *mem, const struct image *image, uint32_t *entry,
		 struct error **errp)
{
	struct boot_images images = { .kernel = image->data,
				      .kernel_bytes = image->len,
				      .cmdline = "quiet",
				      .fdt = "tree",
				      .fdt_bytes = 4,
				      .rsdp = 0xe0000 };
	struct kvm_regs regs;

	if (!pvh_load(mem, &images, &regs, errp))
		return false;
	cr_assert_eq(regs.rbx, 0x6000, "where the start info is");
	*entry = (uint32_t)regs.rip;
	return true;
}

/* Load and free an image. It must fail with these words, or (NULL) succeed. */
static void try_image(struct image image, const char *error)
{
	struct error *err = NULL;
	struct memory mem;
	uint32_t entry = 0;
	bool ok;

	machine_build(&mem, 2 * MIB);
	ok = load(&mem, &image, &entry, &err);
	cr_assert_eq(ok, !error, "%s, expected '%s'", error_msg(err), error ? error : "success");
	if (error)
		expect_error(err, error);
	else
		cr_assert_eq(entry, ENTRY, "entry 0x%x", entry);
	memory_release(&mem);
	free(image.data);
}

Test(pvh, images_of_32_and_64_bits_are_loaded)
{
	for (unsigned int is64 = 0; is64 < 2; is64++) {
		uint8_t notes[64];
		struct segment segments[] = { load_at(0x100000, 300, 300), pvh_note(notes),
					      load_at(0x101001, 77, 5000) };
		struct image image = image_of(is64, segments, 3);
		struct error *err = NULL;
		struct memory mem;
		uint8_t *ram;
		uint32_t entry;

		machine_build(&mem, 2 * MIB);
		ram = mem.blocks[0].host;
		expect_ok(load(&mem, &image, &entry, &err), err);
		cr_assert_eq(entry, ENTRY);
		cr_assert_arr_eq(ram + 0x100000, code, 300);
		cr_assert(ram[0x10012c] == 0xcc && ram[0x101000] == 0xcc, "nothing beside it");
		cr_assert_arr_eq(ram + 0x101001, code, 77);
		for (size_t i = 77; i < 5000; i++)
			cr_assert_eq(ram[0x101001 + i], 0, "bss byte %zu", i);
		cr_assert_eq(ram[0x101001 + 5000], 0xcc);
		memory_release(&mem);
		free(image.data);
	}
}

/* --- notes --- */

static void try_notes(const uint8_t *notes, size_t len, uint64_t align, const char *error)
{
	struct segment segments[] = {
		load_at(0x100000, 10, 10),
		{ PT_NOTE, 0, len, len, align, notes },
	};

	try_image(image_of(true, segments, 2), error);
	try_image(image_of(false, segments, 2), error);
}

/* The note behind others with names and descriptors of every length, in both alignments. */
Test(pvh, the_note_is_found_behind_others)
{
	for (unsigned int i = 0; i < 200; i++) {
		uint64_t align = i & 1 ? 8 : 4;
		uint32_t namesz = i / 2 % 10, descsz = i / 20;
		uint8_t notes[256] = { 0 };
		size_t at = put_note(notes, 0, align, "abcdefghi", namesz, 18, "123456789", descsz);

		at = put_note(notes, at, align, "Xen", 4, 6, "6.12", 4);
		at = put_note(notes, at, align, "GNU", 4, 18, "none", 4);
		at = put_note(notes, at, align, "Xen", 4, 18, entry_desc, descsz & 1 ? 8 : 4);
		try_notes(notes, at, i % 4 ? align : 1, NULL); /* 1 means 4, as any nonsense */
	}
}

Test(pvh, the_note_is_found_in_a_later_segment)
{
	uint8_t notes[64], other[64] = { 0 };
	size_t len = put_note(other, 0, 8, "GNU", 4, 5, "0123456789ab", 12);
	struct segment segments[] = {
		{ PT_NOTE, 0, len, len, 8, other },
		{ PT_NOTE, 0, 11, 11, 8, other }, /* too short for a note */
		load_at(0x100000, 10, 10),
		pvh_note(notes),
	};

	try_image(image_of(true, segments, 4), NULL);
}

Test(pvh, an_image_without_the_note_cannot_boot)
{
	static const struct {
		const char *name;
		uint32_t size, type, descsz;
	} bad[] = {
		{ "Xen", 4, 17, 4 },	     { "Xen", 4, 19, 4 }, { "Xen", 3, 18, 4 },
		{ "Xen\0\0\0\0", 8, 18, 4 }, { "Xen", 4, 18, 3 }, { "Xen", 4, 18, 0 },
	};

	uint8_t notes[64] = { 0 };
	struct segment load;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t len = put_note(notes, 0, 4, bad[i].name, bad[i].size, bad[i].type,
				      entry_desc, bad[i].descsz);

		try_notes(notes, len, 4, "no PVH entry");
	}
	load = pvh_note(notes);
	load.type = PT_LOAD; /* the right bytes in the wrong place */
	try_image(image_of(true, &load, 1), "no PVH entry");
}

Test(pvh, a_note_that_lies_about_its_size)
{
	static const uint32_t sizes[] = { 5, 8, 17, 0x7fffffff, 0xfffffffc, 0xffffffff };

	for (unsigned int i = 0; i < 24; i++) {
		uint8_t notes[64];
		size_t len = pvh_note(notes).filesz;

		put_le32(notes + i / 6 % 2 * 4, sizes[i % 6]);
		try_notes(notes, len, i < 12 ? 4 : 8, "no PVH entry");
	}
}

/* --- what is no kernel --- */

Test(pvh, what_is_no_kernel_for_this_machine)
{
	static const struct {
		size_t at;
		uint8_t byte;
		const char *error;
	} bad[] = {
		{ 0, 0x7e, "not an ELF file" },
		{ EI_DATA, 2, "not a little-endian one" },
		{ offsetof(Elf64_Ehdr, e_machine), EM_ARM, "another architecture" },
		{ offsetof(Elf64_Ehdr, e_phnum), 0, "without program headers" },
		{ offsetof(Elf64_Ehdr, e_phentsize), 32, "without program headers" },
		{ offsetof(Elf64_Ehdr, e_phoff) + 7, 0xff, "beyond the file's end" },
		{ offsetof(Elf64_Ehdr, e_phnum) + 1, 0xff, "beyond the file's end" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t notes[64];
		struct segment segments[] = { load_at(0x100000, 10, 10), pvh_note(notes) };
		struct image image = image_of(true, segments, 2);

		image.data[bad[i].at] = bad[i].byte;
		try_image(image, bad[i].error);
	}
	try_image((struct image){ malloc(1), 0 }, "not an ELF file");
}

/* The last byte of each image is a segment's, so no shorter one can do. */
Test(pvh, an_image_cut_at_any_byte_is_refused)
{
	for (unsigned int is64 = 0; is64 < 2; is64++) {
		uint8_t notes[64];
		struct segment segments[] = { pvh_note(notes), load_at(0x100000, 100, 100) };
		struct image whole = image_of(is64, segments, 2);
		struct error *err = NULL;
		struct memory mem;
		uint32_t entry;

		machine_build(&mem, 2 * MIB);
		expect_ok(load(&mem, &whole, &entry, &err), err);
		for (size_t len = 0; len < whole.len; len++) {
			struct image cut = { malloc(len ? len : 1), len };

			memcpy(cut.data, whole.data, len);
			cr_assert_not(load(&mem, &cut, &entry, &err), "cut at %zu", len);
			expect_error(err, len < 52 ? "ELF" : "truncated");
			free(cut.data);
		}
		memory_release(&mem);
		free(whole.data);
	}
}

Test(pvh, images_with_flipped_bits_are_no_danger)
{
	struct prng rng = { SEED };
	unsigned int refused = 0;
	struct memory mem;

	machine_build(&mem, 2 * MIB);
	for (unsigned int i = 0; i < 6000; i++) {
		uint8_t notes[64];
		struct segment segments[] = { pvh_note(notes), load_at(0x100000, 100, 4000) };
		struct image image = image_of(i & 1, segments, 2);
		struct error *err = NULL;
		uint32_t entry;

		for (uint64_t n = 1 + prng_below(&rng, 3); n > 0; n--) {
			size_t at = prng_below(&rng, image.len - 100);

			image.data[at] ^= (uint8_t)(1u << prng_below(&rng, 8));
		}
		cr_assert_eq(load(&mem, &image, &entry, &err), !err, "seed %#x iteration %u", SEED,
			     i);
		refused += err != NULL;
		error_free(err);
		free(image.data);
	}
	cr_assert(refused > 1000 && refused < 5900, "%u of 6000 were refused", refused);
	memory_release(&mem);
}

/* --- segments --- */

Test(pvh, segments_in_and_outside_the_ram)
{
	static const struct {
		uint64_t paddr, filesz, memsz;
		const char *error; /* NULL: loaded */
	} tries[] = {
		{ 0x200000 - 300, 300, 300, NULL },
		{ 0x200000 - 300, 300, 301, "outside the guest's RAM" },
		{ 0x200000, 1, 1, "outside the guest's RAM" },
		{ 0x300000, 0, 0, NULL }, /* nothing, wherever it is */
		{ UINT64_MAX - 4, 10, 10, "outside the guest's RAM" },
		{ 0x100000, 1, UINT64_MAX, "outside the guest's RAM" },
		{ 0x100000, 11, 10, "truncated" },
		{ 0, 300, 0x6000, NULL },
		{ 0, 300, 0x6001, "overlaps the boot information" },
		{ 0x6fff, 1, 1, "overlaps the boot information" },
		{ 0x7fff, 1, 1, "overlaps the boot information" },
		{ 0x8000, 300, 0x18000, NULL },
		{ 0x8000, 300, 0x18001, "overlaps the device tree" },
		{ 0x30fff, 1, 1, "overlaps the device tree" },
		{ 0, 1, 0x200000, "overlaps the boot information" },
		{ 0x31000, 300, 300, NULL },
		{ 0xdfff0, 16, 16, NULL },
		{ 0xdfff0, 16, 17, "overlaps the ACPI tables" },
		{ 0xfffff, 1, 1, "overlaps the ACPI tables" },
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		uint8_t notes[64];
		struct segment segments[] = {
			pvh_note(notes), load_at(tries[i].paddr, tries[i].filesz, tries[i].memsz)
		};

		try_image(image_of(true, segments, 2), tries[i].error);
	}
}

/* --- what the kernel is told --- */

/* The e820 type that the memory map gives an address; 0: none. The entries must not overlap. */
static uint32_t type_of(const uint8_t *ram, uint64_t address)
{
	const uint8_t *map = ram + get_le64(ram + 0x6000 + 40);
	uint32_t type = 0;

	for (uint32_t i = 0; i < get_le32(ram + 0x6000 + 48); i++, map += 24) {
		if (address - get_le64(map) >= get_le64(map + 8))
			continue;
		cr_assert_eq(type, 0, "two entries have 0x%" PRIx64, address);
		type = get_le32(map + 16);
	}
	return type;
}

/* struct hvm_start_info of Xen's start_info.h, by its offsets. */
static void expect_start_info(const uint8_t *ram, uint64_t initrd, uint64_t initrd_bytes)
{
	const uint8_t *info = ram + 0x6000, *module = ram + get_le64(info + 16);

	cr_assert_eq(get_le32(info), 0x336ec578, "magic");
	cr_assert(get_le32(info + 4) == 1 && get_le32(info + 8) == 0, "version, flags");
	cr_assert_eq(get_le32(info + 12), 2, "nr_modules");
	cr_assert_str_eq((const char *)ram + get_le64(info + 24), "quiet", "cmdline");
	cr_assert(get_le64(info + 32) == 0xe0000 && get_le32(info + 52) == 0, "rsdp, reserved");
	cr_assert(get_le64(module) == initrd && get_le64(module + 8) == initrd_bytes);
	cr_assert(get_le64(module + 32) == 0x20000 && get_le64(module + 40) == 4);
	for (size_t i = 16; i < 32; i += 8)
		cr_assert(get_le64(module + i) == 0 && get_le64(module + 32 + i) == 0);
	cr_assert_arr_eq(ram + 0x20000, "tree", 4);
}

Test(pvh, the_start_info)
{
	static const uint64_t sizes[] = { 2 * MIB, 3 * GIB, 6 * GIB };

	for (size_t i = 0; i < 3; i++) {
		uint64_t low = sizes[i] > 3 * GIB ? 3 * GIB : sizes[i];
		uint8_t notes[64];
		struct segment segments[] = { pvh_note(notes), load_at(0x100000, 1, 1) };
		struct image image = image_of(true, segments, 2);
		struct error *err = NULL;
		struct memory mem;
		const uint8_t *ram;
		uint32_t entry;

		machine_build(&mem, sizes[i]);
		ram = mem.blocks[0].host;
		expect_ok(load(&mem, &image, &entry, &err), err);
		expect_start_info(ram, 0, 0);
		cr_assert(type_of(ram, 0) == 1u && type_of(ram, 0x1ffff) == 1u);
		cr_assert(type_of(ram, 0x20000) == 2 && type_of(ram, 0x30fff) == 2, "the tree");
		cr_assert(type_of(ram, 0x31000) == 1u && type_of(ram, 0x9fbff) == 1u);
		cr_assert(type_of(ram, 0x9fc00) != 1u && type_of(ram, 0xfffff) != 1u);
		cr_assert_eq(type_of(ram, 0x100000), 1u);
		cr_assert(type_of(ram, low - 1) == 1u && type_of(ram, low) == 0);
		for (uint64_t high = 4 * GIB - 1; high <= 7 * GIB; high += GIB / 2)
			cr_assert_eq(type_of(ram, high), sizes[i] > low && high >= 4 * GIB);
		memory_release(&mem);
		free(image.data);
	}
}

/* --- the initrd --- */

/* A kernel that ends at kernel_end, and an initrd of so many bytes; its address, or 0: refused. */
static uint64_t load_initrd(uint64_t kernel_end, uint64_t initrd_bytes)
{
	uint8_t notes[64], *initrd = malloc(initrd_bytes);
	struct segment segments[] = { pvh_note(notes),
				      load_at(0x100000, 1, kernel_end - 0x100000) };
	struct image image = image_of(false, segments, 2);
	struct boot_images images = { image.data, image.len, initrd, initrd_bytes,
				      "quiet",	  "tree",    4,	     0xe0000 };
	struct error *err = NULL;
	uint64_t address = 0;
	struct memory mem;
	struct kvm_regs regs;

	machine_build(&mem, 2 * MIB);
	memset(initrd, 0x1d, initrd_bytes);
	if (pvh_load(&mem, &images, &regs, &err)) {
		const uint8_t *ram = mem.blocks[0].host;

		address = get_le64(ram + get_le64(ram + 0x6000 + 16));
		cr_assert_eq(address % 4096, 0);
		cr_assert(address >= kernel_end && address + initrd_bytes <= 2 * MIB,
			  "kernel to 0x%" PRIx64 ", initrd at 0x%" PRIx64, kernel_end, address);
		expect_start_info(ram, address, initrd_bytes);
		cr_assert(ram[address] == 0x1d && ram[address + initrd_bytes - 1] == 0x1d);
	} else {
		expect_error(err, "initrd: ");
	}
	memory_release(&mem);
	free(image.data);
	free(initrd);
	return address;
}

Test(pvh, the_initrd_lies_at_the_top)
{
	cr_assert_eq(load_initrd(0x101000, 4096), 0x1ff000);
	cr_assert_eq(load_initrd(0x101000, 4097), 0x1fe000);
	cr_assert_eq(load_initrd(0x101000, 0xff000), 0x101000, "all that is left");
	cr_assert_eq(load_initrd(0x101000, 0xff001), 0);
	cr_assert_eq(load_initrd(0x101000, 2 * MIB + 1), 0);
	cr_assert_eq(load_initrd(0x1ff000, 0xfff), 0x1ff000);
	cr_assert_eq(load_initrd(0x1ff001, 0xfff), 0, "it fits, but not on a page of its own");
}
