/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what cannot boot is refused in words that say what it is, whatever was handed over.
 *
 * How: small files with the first bytes of each kind. (That each loader gets its images, and starts them, is shown by
 * tests/integration/test_images.c.)
 */
#include "tests/unit/boot_support.h"
#include "vmm/boot/loader.h"

SUITE(loader);

static void expect_refused(const uint8_t *data, size_t len, const char *words)
{
	uint8_t *copy = malloc(len ? len : 1); /* its end is the sanitizer's */
	struct boot_images images = { .kernel = copy, .kernel_bytes = len, .cmdline = "" };
	struct error *err = NULL;
	struct memory mem;

	memcpy(copy, data, len);
	machine_build(&mem, 2 * MIB);
	cr_assert_not(boot(&mem, &images, NULL, &err));
	expect_error(err, words);
	memory_release(&mem);
	free(copy);
}

Test(loader, what_it_is_is_said)
{
	static const struct {
		size_t at;
		const char *bytes, *words;
	} files[] = {
		{ 0, "#!/bin/sh", "not an ELF file, nor a bzImage, nor a Multiboot image" },
		{ 0, "\x1f\x8b\x08", "compressed by gzip" },
		{ 0, "\x28\xb5\x2f\xfd", "compressed by zstd" },
		{ 0,
		  "\xfd"
		  "7zXZ",
		  "compressed by xz" },
		{ 0x38, "ARM\x64", "another architecture (arm64)" },
		{ 0x38, "RSC\x05", "another architecture (riscv)" },
		{ 0, "MZ", "an EFI program" },
		{ 0, "\177ELF\2\1\1", "truncated" }, /* a header of 64 bits needs 64 bytes */
		{ 0, "\177ELF\2\2\1", "not a little-endian one" },
		{ 0, "\177ELF\1\1\1", "another architecture than x86: machine 0" },
		{ 1, "\0", "not an ELF file" },
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		uint8_t data[60] = { 0 };

		memcpy(data + files[i].at, files[i].bytes, strlen(files[i].bytes));
		expect_refused(data, sizeof(data), files[i].words);
	}
}

/* The magic of an arm64 image, and of everything else, may be cut off. */
Test(loader, short_files)
{
	static const uint8_t data[60] = { 'M', 'Z', [0x38] = 'A', 'R', 'M', 0x64 };

	for (size_t len = 0; len <= sizeof(data); len++)
		expect_refused(data, len, len == 60 ? "arm64" : len < 2 ? "not an ELF" : "EFI");
}

Test(loader, the_protocol_is_named)
{
	uint8_t data[1024] = { 0 };

	put_le16(data + 0x1fe, 0xaa55);
	memcpy(data + 0x202, "HdrS", 4);
	expect_refused(data, sizeof(data), "bzImage: kernel image: boot protocol 0.00");
	memset(data, 0, sizeof(data));
	put_le32(data + 40, 0x1badb002);
	put_le32(data + 44, 4);
	put_le32(data + 48, 0u - 0x1badb002u - 4);
	expect_refused(data, sizeof(data), "Multiboot: kernel image: it demands");
}
