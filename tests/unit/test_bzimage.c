/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a bzImage is loaded, and told of its machine, as Linux's boot.rst says; one that cannot start here is refused with the
 * reason, and no image, however broken, is a danger.
 *
 * How: images are built here byte by byte, at the offsets of boot.rst (not with the structures that the loader uses), and
 * loaded into memory without KVM. Each field that matters is damaged. Images lie in blocks of their exact size, for the
 * address sanitizer. (That a kernel runs from there is shown by tests/nested/boot.)
 */
#include "tests/unit/boot_support.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/entry.h"

SUITE(bzimage);

#define SEED 0x5eed0b21
#define SECTORS 3
#define SETUP_BYTES ((SECTORS + 1) * 512u)
#define KERNEL_BYTES 0x1230u
#define PREFERRED 0x100000u
#define INIT_SIZE 0x20000u

/* boot.rst, "The Real-Mode Kernel Header" and zero-page.rst */
#define SETUP_SECTS 0x1f1
#define SYSSIZE 0x1f4
#define BOOT_FLAG 0x1fe
#define JUMP_LENGTH 0x201
#define HEADER 0x202
#define VERSION 0x206
#define TYPE_OF_LOADER 0x210
#define CODE32_START 0x214
#define RAMDISK_IMAGE 0x218
#define RAMDISK_SIZE 0x21c
#define CMD_LINE_PTR 0x228
#define INITRD_ADDR_MAX 0x22c
#define KERNEL_ALIGNMENT 0x230
#define XLOADFLAGS 0x236
#define CMDLINE_SIZE 0x238
#define SETUP_DATA 0x250
#define PREF_ADDRESS 0x258
#define INIT_SIZE_AT 0x260
#define ACPI_RSDP_ADDR 0x070
#define E820_ENTRIES 0x1e8
#define SENTINEL 0x1ef
#define E820_TABLE 0x2d0

struct image {
	uint8_t *data; /* owned */
	size_t len;
};

static struct image image_good(void)
{
	struct image im = { .len = SETUP_BYTES + KERNEL_BYTES };
	uint8_t *p = im.data = malloc(im.len);

	memset(p, 0xee, SETUP_BYTES); /* what is no header must not get into the zero page */
	memset(p + SETUP_SECTS, 0, 0x268 - SETUP_SECTS);
	p[SETUP_SECTS] = SECTORS;
	put_le32(p + SYSSIZE, KERNEL_BYTES / 16);
	put_le16(p + BOOT_FLAG, 0xaa55);
	p[JUMP_LENGTH] = 0x268 - 0x202;
	memcpy(p + HEADER, "HdrS", 4);
	put_le16(p + VERSION, 0x020f);
	put_le32(p + INITRD_ADDR_MAX, 0x7fffffff);
	put_le32(p + KERNEL_ALIGNMENT, 0x100000);
	put_le16(p + XLOADFLAGS, 0x7f);
	put_le32(p + CMDLINE_SIZE, 100);
	put_le64(p + PREF_ADDRESS, PREFERRED);
	put_le32(p + INIT_SIZE_AT, INIT_SIZE);
	for (size_t i = 0; i < KERNEL_BYTES; i++)
		p[SETUP_BYTES + i] = (uint8_t)(i * 11 + 3);
	return im;
}

static bool load(struct memory *mem, const struct image *im, const char *cmdline,
		 uint64_t initrd_bytes, struct kvm_regs *regs, struct error **errp)
{
	uint8_t *initrd = malloc(initrd_bytes ? initrd_bytes : 1);
	struct boot_images images = { .kernel = im->data,
				      .kernel_bytes = im->len,
				      .initrd = initrd,
				      .initrd_bytes = initrd_bytes,
				      .cmdline = cmdline,
				      .fdt = "tree",
				      .fdt_bytes = 4,
				      .rsdp = 0xe0000 };
	bool ok;

	memset(initrd, 0x1d, initrd_bytes);
	ok = bzimage_load(mem, &images, regs, errp);
	free(initrd);
	return ok;
}

/* Load and free an image. It must fail with these words, or (NULL) succeed. */
static void try_image(struct image im, const char *error)
{
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	bool ok;

	machine_build(&mem, 2 * MIB);
	ok = load(&mem, &im, "quiet", 0, &regs, &err);
	cr_assert_eq(ok, !error, "%s, expected '%s'", error_msg(err), error ? error : "success");
	if (error)
		expect_error(err, error);
	memory_release(&mem);
	free(im.data);
}

/* --- a good one --- */

Test(bzimage, the_kernel_lies_where_it_prefers)
{
	struct image im = image_good();
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	const uint8_t *ram;

	machine_build(&mem, 2 * MIB);
	ram = mem.blocks[0].host;
	cr_assert(bzimage_probe(im.data, im.len));
	expect_ok(load(&mem, &im, "quiet", 0, &regs, &err), err);
	cr_assert_arr_eq(ram + PREFERRED, im.data + SETUP_BYTES, KERNEL_BYTES);
	cr_assert_eq(ram[PREFERRED + KERNEL_BYTES], 0xcc, "nothing behind it");
	cr_assert_eq(regs.rip, PREFERRED + 0x200, "the 64-bit entry");
	cr_assert_eq(regs.rsi, 0x6000, "the zero page");
	memory_release(&mem);
	free(im.data);
}

Test(bzimage, the_zero_page)
{
	struct image im = image_good();
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	const uint8_t *ram, *zero;

	machine_build(&mem, 2 * MIB);
	ram = mem.blocks[0].host;
	expect_ok(load(&mem, &im, "console=ttyS0", 5000, &regs, &err), err);
	zero = ram + regs.rsi;
	/* The header as it was, but for what a loader sets. */
	cr_assert_arr_eq(zero + HEADER, im.data + HEADER, TYPE_OF_LOADER - HEADER);
	cr_assert_eq(get_le64(zero + PREF_ADDRESS), PREFERRED);
	cr_assert_eq(get_le32(zero + INITRD_ADDR_MAX), 0x7fffffff);
	cr_assert_eq(zero[TYPE_OF_LOADER], 0xff);
	cr_assert_eq(get_le32(zero + CODE32_START), PREFERRED);
	cr_assert_eq(get_le32(zero + RAMDISK_IMAGE), 0x1fe000);
	cr_assert_eq(get_le32(zero + RAMDISK_SIZE), 5000);
	cr_assert(ram[0x1fe000] == 0x1d && ram[0x1fe000 + 4999] == 0x1d);
	cr_assert_str_eq((const char *)ram + get_le32(zero + CMD_LINE_PTR), "console=ttyS0");
	cr_assert_eq(get_le64(zero + ACPI_RSDP_ADDR), 0xe0000);
	/* All else is 0: the sentinel tells a kernel whether a loader has been careless. */
	cr_assert_eq(zero[SENTINEL], 0);
	for (size_t i = 0; i < SETUP_SECTS; i++)
		cr_assert(!zero[i] || i == ACPI_RSDP_ADDR + 2 || i == E820_ENTRIES, "byte 0x%zx",
			  i);
	memory_release(&mem);
	free(im.data);
}

/* setup_data: next, type 2 (SETUP_DTB), length, the tree. */
Test(bzimage, the_device_tree_is_setup_data)
{
	struct image im = image_good();
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	const uint8_t *data;

	machine_build(&mem, 2 * MIB);
	expect_ok(load(&mem, &im, "", 0, &regs, &err), err);
	data = mem.blocks[0].host;
	data += get_le64(data + regs.rsi + SETUP_DATA);
	cr_assert(get_le64(data) == 0 && get_le32(data + 8) == 2 && get_le32(data + 12) == 4);
	cr_assert_arr_eq(data + 16, "tree", 4);
	memory_release(&mem);
	free(im.data);
}

/* Entries of 20 bytes: address, size, type. */
static uint32_t type_of(const uint8_t *zero, uint64_t address)
{
	uint32_t type = 0;

	for (unsigned int i = 0; i < zero[E820_ENTRIES]; i++) {
		const uint8_t *e = zero + E820_TABLE + i * 20;

		if (address - get_le64(e) >= get_le64(e + 8))
			continue;
		cr_assert_eq(type, 0, "two entries have 0x%" PRIx64, address);
		type = get_le32(e + 16);
	}
	return type;
}

Test(bzimage, the_memory_map)
{
	static const uint64_t sizes[] = { 2 * MIB, 3 * GIB, 6 * GIB };

	for (size_t i = 0; i < 3; i++) {
		uint64_t low = sizes[i] > 3 * GIB ? 3 * GIB : sizes[i];
		struct image im = image_good();
		struct error *err = NULL;
		struct kvm_regs regs;
		struct memory mem;
		const uint8_t *zero;

		machine_build(&mem, sizes[i]);
		expect_ok(load(&mem, &im, "", 0, &regs, &err), err);
		zero = mem.blocks[0].host + regs.rsi;
		cr_assert(type_of(zero, 0) == 1 && type_of(zero, 0x1ffff) == 1);
		cr_assert(type_of(zero, 0x20000) == 2 && type_of(zero, 0x30fff) == 2);
		cr_assert(type_of(zero, 0x9fbff) == 1 && type_of(zero, 0x9fc00) == 2);
		cr_assert(type_of(zero, 0xe0000) == 2 && type_of(zero, 0xfffff) == 2);
		cr_assert(type_of(zero, low - 1) == 1 && type_of(zero, low) == 0);
		cr_assert_eq(type_of(zero, 4 * GIB), sizes[i] > low);
		cr_assert_eq(type_of(zero, 7 * GIB), 0);
		memory_release(&mem);
		free(im.data);
	}
}

/* As the CPU would: four levels from cr3, all present and writable, pages of 2 MiB. */
static uint64_t translate(const uint8_t *ram, uint64_t address)
{
	uint64_t pml4e = get_le64(ram + BOOT_PAGE_TABLES + (address >> 39 & 511) * 8);
	uint64_t pdpte = get_le64(ram + (pml4e & ~UINT64_C(0xfff)) + (address >> 30 & 511) * 8);
	uint64_t pde = get_le64(ram + (pdpte & ~UINT64_C(0xfff)) + (address >> 21 & 511) * 8);

	cr_assert((pml4e & 0xfff) == 3 && (pdpte & 0xfff) == 3 && (pde & 0x1fffff) == 0x83);
	return (pde & ~UINT64_C(0x1fffff)) | (address & 0x1fffff);
}

Test(bzimage, the_tables_of_64_bit_mode)
{
	struct image im = image_good();
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	const uint8_t *ram;

	machine_build(&mem, 2 * MIB);
	ram = mem.blocks[0].host;
	expect_ok(load(&mem, &im, "", 0, &regs, &err), err);
	for (uint64_t at = 0; at < 4 * GIB; at += 0x1ff000)
		cr_assert_eq(translate(ram, at), at);
	/* Code of 64 bits in 0x10 and data in 0x18: present, ring 0, their type. */
	cr_assert_eq(get_le64(ram + BOOT_GDT), 0);
	cr_assert_eq(get_le64(ram + BOOT_GDT + 0x10) >> 40 & 0x60fb, 0x209b);
	cr_assert_eq(get_le64(ram + BOOT_GDT + 0x18) >> 40 & 0x40ff, 0x4093);
	memory_release(&mem);
	free(im.data);
}

/* A reset loads anew, whatever the guest has made of the RAM. */
Test(bzimage, loading_again_after_the_guest_has_written_everywhere)
{
	struct image im = image_good();
	struct error *err = NULL;
	struct kvm_regs first, second;
	struct memory mem;
	uint8_t *ram, *copy = malloc(2 * MIB);

	machine_build(&mem, 2 * MIB);
	ram = mem.blocks[0].host;
	expect_ok(load(&mem, &im, "quiet", 5000, &first, &err), err);
	memcpy(copy, ram, 2 * MIB);
	memset(ram, 0x77, 2 * MIB);
	expect_ok(load(&mem, &im, "quiet", 5000, &second, &err), err);
	cr_assert_eq(memcmp(&first, &second, sizeof(first)), 0);
	cr_assert_arr_eq(ram + 0x6000, copy + 0x6000, 0x1000 + sizeof("quiet"));
	cr_assert_arr_eq(ram + BOOT_PAGE_TABLES, copy + BOOT_PAGE_TABLES, 6 * 4096);
	cr_assert_arr_eq(ram + 0x20000, copy + 0x20000, 20);
	cr_assert_arr_eq(ram + PREFERRED, copy + PREFERRED, KERNEL_BYTES);
	memory_release(&mem);
	free(copy);
	free(im.data);
}

/* --- what cannot start here --- */

Test(bzimage, a_field_that_is_wrong)
{
	static const struct {
		size_t at;
		unsigned int bytes;
		uint64_t value;
		const char *error; /* NULL: it is no matter */
	} bad[] = {
		{ BOOT_FLAG, 2, 0xaa54, "not a bzImage" },
		{ HEADER, 4, 0x53726449, "not a bzImage" },
		{ VERSION, 2, 0x020b, "boot protocol 2.11 is too old" },
		{ VERSION, 2, 0x0100, "boot protocol 1.00 is too old" },
		{ VERSION, 2, 0x020c, NULL },
		{ JUMP_LENGTH, 1, 0x61, "shorter than its version" },
		{ JUMP_LENGTH, 1, 0x62, NULL },
		{ XLOADFLAGS, 2, 0x7e, "for 32 bits" },
		{ SETUP_SECTS, 1, 0, "truncated" }, /* means 4 */
		{ SETUP_SECTS, 1, 255, "truncated" },
		{ SETUP_SECTS, 1, 2, NULL }, /* the kernel begins elsewhere: not to be seen */
		{ SYSSIZE, 4, KERNEL_BYTES / 16 + 1, "truncated" },
		{ SYSSIZE, 4, UINT32_MAX, "truncated" },
		{ SYSSIZE, 4, 0x20, "counts no kernel" },
		{ SYSSIZE, 4, 0, "counts no kernel" },
		{ PREF_ADDRESS, 8, 0, "preferred address 0x0 is below" },
		{ PREF_ADDRESS, 8, 0x180000, "not aligned" },
		{ PREF_ADDRESS, 8, 0x200000, "the RAM ends at 0x200000" },
		{ PREF_ADDRESS, 8, 0xfffffffffff00000, "the RAM ends at 0x200000" },
		{ KERNEL_ALIGNMENT, 4, 0, "not aligned" },
		{ KERNEL_ALIGNMENT, 4, 0x180000, "not aligned" },
		{ INIT_SIZE_AT, 4, 0x100000, NULL },
		{ INIT_SIZE_AT, 4, 0x100001, "give the guest more memory" },
		{ INIT_SIZE_AT, 4, UINT32_MAX, "give the guest more memory" },
		{ INIT_SIZE_AT, 4, 0, NULL }, /* the file's size counts then */
		{ CMDLINE_SIZE, 4, 5, NULL },
		{ CMDLINE_SIZE, 4, 4, "a command line of 5 bytes" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct image im = image_good();
		uint8_t value[8];

		put_le64(value, bad[i].value);
		memcpy(im.data + bad[i].at, value, bad[i].bytes);
		try_image(im, bad[i].error);
	}
}

/* syssize counts 16 bytes; the last may be cut, for the linker need not fill them. */
Test(bzimage, an_image_cut_at_any_byte_is_refused)
{
	struct image whole = image_good();
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;

	machine_build(&mem, 2 * MIB);
	for (size_t len = 0; len < whole.len; len++) {
		struct image cut = { malloc(len ? len : 1), len };

		memcpy(cut.data, whole.data, len);
		cr_assert_eq(bzimage_probe(cut.data, len), len >= HEADER + 4);
		cr_assert_eq(load(&mem, &cut, "", 0, &regs, &err), len + 16 > whole.len,
			     "cut at %zu", len);
		if (err)
			expect_error(err, len < HEADER + 4 ? "not a bzImage" : "truncated");
		free(cut.data);
	}
	memory_release(&mem);
	free(whole.data);
}

Test(bzimage, images_with_flipped_bits_are_no_danger)
{
	struct prng rng = { SEED };
	unsigned int refused = 0;
	struct memory mem;

	machine_build(&mem, 2 * MIB);
	for (unsigned int i = 0; i < 3000; i++) {
		struct image im = image_good();
		struct error *err = NULL;
		struct kvm_regs regs;

		for (uint64_t n = 1 + prng_below(&rng, 4); n > 0; n--)
			im.data[SETUP_SECTS + prng_below(&rng, 0x268 - SETUP_SECTS)] ^=
				(uint8_t)(1u << prng_below(&rng, 8));
		cr_assert_eq(load(&mem, &im, "quiet", 4096, &regs, &err), !err,
			     "seed %#x iteration %u", SEED, i);
		refused += err != NULL;
		error_free(err);
		free(im.data);
	}
	cr_assert(refused > 500 && refused < 2900, "%u of 3000 were refused", refused);
	memory_release(&mem);
}

/* --- the initrd --- */

/* Where an initrd of so many bytes goes, if the kernel takes none above a limit; 0: it does not fit. */
static uint64_t initrd_at(uint64_t bytes, uint32_t max)
{
	struct image im = image_good();
	struct error *err = NULL;
	struct kvm_regs regs;
	struct memory mem;
	uint64_t at = 0;

	machine_build(&mem, 2 * MIB);
	put_le32(im.data + INITRD_ADDR_MAX, max);
	if (load(&mem, &im, "", bytes, &regs, &err)) {
		at = get_le32(mem.blocks[0].host + regs.rsi + RAMDISK_IMAGE);
		cr_assert_eq(get_le32(mem.blocks[0].host + regs.rsi + RAMDISK_SIZE), bytes);
	} else {
		expect_error(err, "initrd: ");
	}
	memory_release(&mem);
	free(im.data);
	return at;
}

Test(bzimage, the_initrd_lies_below_the_kernels_limit)
{
	cr_assert_eq(initrd_at(0, UINT32_MAX), 0);
	cr_assert_eq(initrd_at(4096, UINT32_MAX), 0x1ff000);
	cr_assert_eq(initrd_at(4096, 0x1fffff), 0x1ff000);
	cr_assert_eq(initrd_at(4096, 0x1ffffe), 0x1fe000);
	cr_assert_eq(initrd_at(4096, 0x120fff), 0x120000);
	cr_assert_eq(initrd_at(4096, 0x120ffe), 0, "the kernel needs the room for itself");
	cr_assert_eq(initrd_at(0x200000 - 0x120000, UINT32_MAX), 0x120000, "all that is left");
	cr_assert_eq(initrd_at(0x200001 - 0x120000, UINT32_MAX), 0);
}
