/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a Multiboot image is found out, loaded and described to itself as the specification says; what is damaged, or demands
 * what is not there, is refused with a reason, and no image is a danger.
 *
 * How: images are built here, with the header at any place and the kernel described by addresses or as ELF, and loaded into
 * memory without KVM. Images lie in blocks of their exact size, for the address sanitizer.
 */
#include <elf.h>

#include "tests/unit/boot_support.h"
#include "vmm/boot/multiboot.h"

SUITE(multiboot);

#define SEED 0x5eed0b22
#define MAGIC 0x1badb002u
#define ALIGN 1u
#define MEMORY 2u
#define ADDRESSES 0x10000u

struct image {
	uint8_t *data; /* owned */
	size_t len;
};

/* What the header says by addresses; what the file holds is counted up. */
struct header {
	uint32_t flags, header_addr, load_addr, load_end, bss_end, entry;
};

static struct image image_of(size_t len, size_t at, const struct header *h)
{
	struct image im = { malloc(len ? len : 1), len };

	for (size_t i = 0; i < len; i++)
		im.data[i] = (uint8_t)(i * 13 + 5);
	if (at + 12 <= len) {
		put_le32(im.data + at, MAGIC);
		put_le32(im.data + at + 4, h->flags);
		put_le32(im.data + at + 8, 0 - MAGIC - h->flags);
	}
	if (at + 32 <= len) {
		put_le32(im.data + at + 12, h->header_addr);
		put_le32(im.data + at + 16, h->load_addr);
		put_le32(im.data + at + 20, h->load_end);
		put_le32(im.data + at + 24, h->bss_end);
		put_le32(im.data + at + 28, h->entry);
	}
	return im;
}

/* 1000 bytes of file, the header at 64, loaded from byte 32 on to 1 MiB. */
static const struct header good = {
	ADDRESSES | ALIGN | MEMORY, 0x100020, 0x100000, 0x100100, 0x100200, 0x100040
};

static bool load_with(struct memory *mem, const struct image *im, uint64_t initrd_bytes,
		      const char *cmdline, struct kvm_regs *regs, struct error **errp)
{
	uint8_t *initrd = malloc(initrd_bytes ? initrd_bytes : 1);
	struct boot_images images = { .kernel = im->data,
				      .kernel_bytes = im->len,
				      .initrd = initrd,
				      .initrd_bytes = initrd_bytes,
				      .cmdline = cmdline,
				      .fdt = "tree",
				      .fdt_bytes = 4 };
	bool ok;

	memset(initrd, 0x1d, initrd_bytes);
	ok = multiboot_load(mem, &images, regs, errp);
	free(initrd);
	return ok;
}

static bool load(struct memory *mem, const struct image *im, uint64_t initrd_bytes,
		 struct kvm_regs *regs, struct error **errp)
{
	return load_with(mem, im, initrd_bytes, "verbose", regs, errp);
}

/* Load and free an image. It must fail with these words, or (NULL) succeed. */
static void try_image(struct image im, const char *error)
{
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	bool ok;

	machine_build(&mem, 2 * MIB);
	ok = load(&mem, &im, 0, &regs, &err);
	cr_assert_eq(ok, !error, "%s, expected '%s'", error_msg(err), error ? error : "success");
	if (error)
		expect_error(err, error);
	memory_release(&mem);
	free(im.data);
}

/* --- the header --- */

Test(multiboot, the_header_is_found_in_the_first_8_kib_at_words)
{
	static const struct {
		size_t len, at;
		bool found;
	} tries[] = {
		{ 12, 0, true },      { 11, 0, false },	     { 100, 4, true },
		{ 100, 88, true },    { 99, 88, false },     { 100, 6, false },
		{ 9000, 8180, true }, { 9000, 8184, false }, { 9000, 8192, false },
		{ 0, 0, false },
	};
	const struct header h = { .flags = ALIGN };

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct image im = image_of(tries[i].len, tries[i].at, &h);

		cr_assert_eq(multiboot_probe(im.data, im.len), tries[i].found, "%zu", i);
		free(im.data);
	}
}

Test(multiboot, a_header_with_a_wrong_sum_is_none)
{
	for (size_t at = 64; at < 76; at++) {
		struct image im = image_of(1000, 64, &good);

		im.data[at] ^= 0x10;
		cr_assert_not(multiboot_probe(im.data, im.len));
		try_image(im, "no Multiboot header");
	}
}

Test(multiboot, demands_that_cannot_be_met)
{
	for (unsigned int bit = 0; bit < 32; bit++) {
		struct header h = good;

		h.flags = ADDRESSES | 1u << bit;
		try_image(image_of(1000, 64, &h), bit == 2 ? "a video mode"
						  : bit > 2 && bit < 16
							  ? "demands what is not there"
							  : NULL);
	}
}

/* --- loading by addresses --- */

Test(multiboot, an_image_is_loaded_by_its_addresses)
{
	struct image im = image_of(1000, 64, &good);
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	const uint8_t *ram;

	machine_build(&mem, 2 * MIB);
	ram = mem.blocks[0].host;
	expect_ok(load(&mem, &im, 0, &regs, &err), err);
	cr_assert_arr_eq(ram + 0x100000, im.data + 32, 0x100);
	for (size_t i = 0x100; i < 0x200; i++)
		cr_assert_eq(ram[0x100000 + i], 0, "bss byte %zu", i);
	cr_assert_eq(ram[0x100200], 0xcc);
	cr_assert(regs.rip == 0x100040 && regs.rax == 0x2badb002 && regs.rbx == 0x6000);
	memory_release(&mem);
	free(im.data);
}

/* load_end 0: the whole file; bss_end 0: no bss. */
Test(multiboot, zero_means_all_of_the_file_and_no_bss)
{
	struct header h = { ADDRESSES, 0x100040, 0x100000, 0, 0, 0x100040 };
	struct image im = image_of(1000, 64, &h);
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;

	machine_build(&mem, 2 * MIB);
	expect_ok(load(&mem, &im, 0, &regs, &err), err);
	cr_assert_arr_eq(mem.blocks[0].host + 0x100000, im.data, 1000);
	cr_assert_eq(mem.blocks[0].host[0x100000 + 1000], 0xcc);
	memory_release(&mem);
	free(im.data);
}

Test(multiboot, addresses_that_cannot_be)
{
	static const struct {
		struct header h;
		const char *error; /* NULL: it can */
	} tries[] = {
		{ { ADDRESSES, 0x100020, 0x100021, 0, 0, 0 }, "load address" },
		{ { ADDRESSES, 0x100041, 0x100000, 0, 0, 0 }, "load address" },
		{ { ADDRESSES, 0x100040, 0x100000, 0, 0, 0 }, NULL },
		{ { ADDRESSES, 0xffffffff, 0, 0, 0, 0 }, "load address" },
		{ { ADDRESSES, 0x100020, 0x100000, 0x100000 + 968, 0, 0 }, NULL },
		{ { ADDRESSES, 0x100020, 0x100000, 0x100000 + 969, 0, 0 }, "truncated" },
		{ { ADDRESSES, 0x100020, 0x100000, 0xfffff, 0, 0 }, "truncated" },
		{ { ADDRESSES, 0x100020, 0x100000, 0x100100, 0x1000ff, 0 }, "bss ends" },
		{ { ADDRESSES, 0x100020, 0x100000, 0x100100, 0x100100, 0 }, NULL },
		{ { ADDRESSES, 0x100020, 0x100000, 0x100100, 0x200000, 0 }, NULL },
		{ { ADDRESSES, 0x100020, 0x100000, 0x100100, 0x200001, 0 },
		  "outside the guest's RAM" },
		{ { ADDRESSES, 0x100020, 0x100000, 0x100100, UINT32_MAX, 0 },
		  "outside the guest's RAM" },
		{ { ADDRESSES, 0xfffffff0, 0xfffffff0, 0, 0, 0 }, "outside the guest's RAM" },
		{ { ADDRESSES, 0x7000, 0x6fe0, 0, 0, 0 }, "overlaps the boot information" },
		{ { ADDRESSES, 0x8020, 0x8000, 0, 0, 0 }, NULL },
		{ { ADDRESSES, 0x801f, 0x7fff, 0, 0, 0 }, "overlaps the boot information" },
		{ { ADDRESSES, 0x8020, 0x8000, 0, 0x20000, 0 }, NULL },
		{ { ADDRESSES, 0x8020, 0x8000, 0, 0x20001, 0 }, "overlaps the device tree" },
		{ { ADDRESSES, 0x31020, 0x31000, 0, 0, 0 }, NULL },
		{ { ADDRESSES, 0xe0000, 0xdfff0, 0, 0, 0 }, "overlaps the ACPI tables" },
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		try_image(image_of(1000, 64, &tries[i].h), tries[i].error);
	try_image(image_of(64 + 31, 64, &good), "the Multiboot header is cut off");
}

/* --- as ELF --- */

/* A file of one segment, with the header at its begin. The entry is virtual, as linkers give it. */
static struct image elf_image(uint64_t paddr, uint64_t vaddr, uint64_t entry)
{
	const struct header h = { .flags = 0 };
	struct image im = image_of(400, 200, &h);
	Elf32_Ehdr eh = { .e_machine = EM_386,
			  .e_entry = (uint32_t)entry,
			  .e_phoff = sizeof(eh),
			  .e_phentsize = sizeof(Elf32_Phdr),
			  .e_phnum = 1 };
	Elf32_Phdr ph = { .p_type = PT_LOAD,
			  .p_offset = 200,
			  .p_vaddr = (uint32_t)vaddr,
			  .p_paddr = (uint32_t)paddr,
			  .p_filesz = 200,
			  .p_memsz = 300 };

	memcpy(im.data, &eh, sizeof(eh));
	memcpy(im.data, "\177ELF\1\1\1", 7);
	memcpy(im.data + sizeof(eh), &ph, sizeof(ph));
	return im;
}

Test(multiboot, an_elf_image_is_loaded_by_its_segments)
{
	static const struct {
		uint64_t vaddr, entry, rip;
	} tries[] = {
		{ 0x100000, 0x100010, 0x100010 },
		{ 0xc0100000, 0xc0100010, 0x100010 },
		{ 0xc0100000, 0x100010, 0x100010 }, /* already physical */
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct image im = elf_image(0x100000, tries[i].vaddr, tries[i].entry);
		struct error *err = NULL;
		struct kvm_regs regs;
		struct memory mem;

		machine_build(&mem, 2 * MIB);
		expect_ok(load(&mem, &im, 0, &regs, &err), err);
		cr_assert_arr_eq(mem.blocks[0].host + 0x100000, im.data + 200, 200);
		cr_assert_eq(mem.blocks[0].host[0x100000 + 299], 0);
		cr_assert_eq(regs.rip, tries[i].rip);
		memory_release(&mem);
		free(im.data);
	}
}

Test(multiboot, without_addresses_it_must_be_elf)
{
	const struct header h = { .flags = 0 };

	try_image(image_of(400, 200, &h), "not an ELF file");
	try_image(elf_image(0x200000, 0x200000, 0x200000), "outside the guest's RAM");
}

/* --- what the kernel is told --- */

static const uint8_t *information(struct memory *mem, const struct kvm_regs *regs)
{
	return mem->blocks[0].host + regs->rbx;
}

Test(multiboot, the_information)
{
	struct image im = image_of(1000, 64, &good);
	const uint8_t *ram, *info, *module;
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;

	machine_build(&mem, 2 * MIB);
	ram = mem.blocks[0].host;
	expect_ok(load(&mem, &im, 5000, &regs, &err), err);
	info = information(&mem, &regs);
	cr_assert_eq(get_le32(info), 0x24d, "memory, command line, modules, map, loader's name");
	cr_assert(get_le32(info + 4) == 639 && get_le32(info + 8) == 1024, "lower, upper KiB");
	cr_assert_str_eq((const char *)ram + get_le32(info + 16), "kernel verbose");
	cr_assert_eq(get_le32(info + 20), 1, "one module");
	module = ram + get_le32(info + 24);
	cr_assert(get_le32(module) == 0x1fe000 && get_le32(module + 4) == 0x1fe000 + 5000);
	cr_assert_str_eq((const char *)ram + get_le32(module + 8), "");
	cr_assert_eq(get_le32(module + 12), 0);
	cr_assert(ram[0x1fe000] == 0x1d && ram[0x1fe000 + 4999] == 0x1d);
	cr_assert_str_eq((const char *)ram + get_le32(info + 64), "ferry");
	expect_ok(load(&mem, &im, 0, &regs, &err), err);
	cr_assert_eq(get_le32(information(&mem, &regs) + 20), 0, "no module");
	cr_assert_not(load(&mem, &im, 0x1ff000, &regs, &err));
	expect_error(err, "initrd: ");
	memory_release(&mem);
	free(im.data);
}

/* The first word is for the image's path: kernels drop it. */
Test(multiboot, the_longest_command_line)
{
	struct image im = image_of(1000, 64, &good);
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	char cmdline[4096];
	const char *seen;

	memset(cmdline, 'x', sizeof(cmdline) - 1);
	cmdline[sizeof(cmdline) - 1] = '\0';
	machine_build(&mem, 2 * MIB);
	mem.blocks[0].host[0x8000] = 0xcc;
	expect_ok(load_with(&mem, &im, 0, cmdline, &regs, &err), err);
	seen = (const char *)mem.blocks[0].host + get_le32(information(&mem, &regs) + 16);
	cr_assert_eq(memcmp(seen, "kernel ", 7), 0);
	cr_assert_str_eq(seen + 7, cmdline);
	cr_assert_eq(mem.blocks[0].host[0x8000], 0xcc, "nothing behind it");
	memory_release(&mem);
	free(im.data);
}

/* A kernel that looks where a PC's BIOS would say how much memory there is finds what the information says. */
Test(multiboot, the_bios_data_area)
{
	const struct header low = { ADDRESSES, 0x440, 0x400, 0, 0, 0x440 };
	const struct header *headers[] = { &good, &low };

	for (size_t i = 0; i < 2; i++) {
		struct image im = image_of(1000, 64, headers[i]);
		struct error *err = NULL;
		struct kvm_regs regs;
		struct memory mem;
		const uint8_t *ram;

		machine_build(&mem, 2 * MIB);
		ram = mem.blocks[0].host;
		expect_ok(load(&mem, &im, 0, &regs, &err), err);
		if (headers[i] == &low) {
			cr_assert_arr_eq(ram + 0x400, im.data, 1000, "the kernel lies over it");
		} else {
			cr_assert_eq(get_le16(ram + 0x400), 0x3f8, "COM1");
			cr_assert_eq(get_le16(ram + 0x40e), 0x9fc0, "segment");
			cr_assert_eq(get_le16(ram + 0x413), 639, "KiB");
			cr_assert_eq(get_le16(ram + 0x9fc00), 1, "KiB of the extended area");
		}
		memory_release(&mem);
		free(im.data);
	}
}

/* Entries begin with the size of what follows. */
static uint32_t type_of(const uint8_t *ram, const uint8_t *info, uint64_t address)
{
	const uint8_t *e = ram + get_le32(info + 48), *end = e + get_le32(info + 44);
	uint32_t type = 0;

	for (; e < end; e += 4 + get_le32(e)) {
		cr_assert_eq(get_le32(e), 20);
		if (address - get_le64(e + 4) >= get_le64(e + 12))
			continue;
		cr_assert_eq(type, 0, "two entries have 0x%" PRIx64, address);
		type = get_le32(e + 20);
	}
	return type;
}

Test(multiboot, the_memory_map)
{
	static const uint64_t sizes[] = { 2 * MIB, 3 * GIB, 6 * GIB };

	for (size_t i = 0; i < 3; i++) {
		uint64_t low = sizes[i] > 3 * GIB ? 3 * GIB : sizes[i];
		struct image im = image_of(1000, 64, &good);
		struct error *err = NULL;
		struct kvm_regs regs;
		const uint8_t *ram, *info;
		struct memory mem;

		machine_build(&mem, sizes[i]);
		ram = mem.blocks[0].host;
		expect_ok(load(&mem, &im, 0, &regs, &err), err);
		info = information(&mem, &regs);
		cr_assert_eq(get_le32(info + 8), (low - MIB) >> 10, "upper memory");
		cr_assert(type_of(ram, info, 0) == 1 && type_of(ram, info, 0x9fc00) == 2);
		cr_assert(type_of(ram, info, 0x100000) == 1 && type_of(ram, info, low - 1) == 1);
		cr_assert_eq(type_of(ram, info, low), 0);
		cr_assert_eq(type_of(ram, info, 4 * GIB), sizes[i] > low);
		memory_release(&mem);
		free(im.data);
	}
}

Test(multiboot, images_with_flipped_bits_are_no_danger)
{
	struct prng rng = { SEED };
	unsigned int refused = 0;
	struct memory mem;

	machine_build(&mem, 2 * MIB);
	for (unsigned int i = 0; i < 3000; i++) {
		bool elf = i & 1;
		struct image im =
			elf ? elf_image(0x100000, 0x100000, 0x100000) : image_of(1000, 64, &good);
		struct error *err = NULL;
		struct kvm_regs regs;

		for (uint64_t n = 1 + prng_below(&rng, 3); n > 0; n--)
			im.data[elf ? prng_below(&rng, 84) : 76 + prng_below(&rng, 20)] ^=
				(uint8_t)(1u << prng_below(&rng, 8));
		cr_assert_eq(load(&mem, &im, 4096, &regs, &err), !err, "seed %#x iteration %u",
			     SEED, i);
		refused += err != NULL;
		error_free(err);
		free(im.data);
	}
	cr_assert(refused > 500 && refused < 2900, "%u of 3000 were refused", refused);
	memory_release(&mem);
}
