/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: any ELF image with a PVH entry, any bzImage and any Multiboot image boots, with its initrd, and moves; anything else is
 * refused with exit status 1 and one clear line.
 *
 * Approach: images made to order. The good ones print their initrd; the bad ones differ from a good one in one field.
 */
#include "tests/integration/image.h"
#include "tests/integration/moves.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(images, .init = world_begin, .fini = world_end, .timeout = 600);

static const char cargo[] = "# one cargo of tea\n";

static char *write_file(const char *name, const char *text, size_t len)
{
	char *path = world_path(name);
	FILE *f = fopen(path, "we");

	cr_assert(f && fwrite(text, 1, len, f) == len && fclose(f) == 0);
	return path;
}

static void boot_foreign(const char *image)
{
	char *initrd = write_file("initrd", cargo, strlen(cargo));
	struct side *s = side_start(
		"vm", &(struct side_options){
			      .payload = image,
			      .more = (const char *[]){ "--initrd", initrd, "--paused", NULL } });

	call(s, "cont", NULL);
	cr_assert_eq(side_wait(s), IMAGE_EXIT << 1 | 1);
	cr_assert_str_eq(text_of(&s->serial), cargo);
}

Test(images, foreign_64_bit)
{
	boot_foreign(image_write("image", &(struct image)IMAGE_GOOD));
}

Test(images, foreign_32_bit)
{
	struct image im = IMAGE_GOOD;

	im.is32 = true;
	boot_foreign(image_write("image", &im));
}

Test(images, foreign_bzimage)
{
	boot_foreign(image_write_bzimage("image"));
}

Test(images, foreign_multiboot)
{
	boot_foreign(image_write_multiboot("image"));
}

/* As the public KVM tests are: some are linked to 32 KiB, and none looks at the first word of its command line. */
Test(images, foreign_low_multiboot)
{
	static const char words[] = "kernel two words";
	struct side *s = side_start(
		"vm", &(struct side_options){
			      .payload = image_write_low_multiboot("image", sizeof(words) - 1),
			      .cmdline = "two words",
			      .more = (const char *[]){ "--paused", NULL } });

	call(s, "cont", NULL);
	cr_assert_eq(side_wait(s), IMAGE_EXIT << 1 | 1);
	cr_assert_str_eq(text_of(&s->serial), words);
}

/* Moved before its first instruction: kernel, initrd and entry state come with the stream. */
static void move_foreign(const char *image)
{
	char *initrd = write_file("initrd", cargo, strlen(cargo));
	struct side *source = side_start(
		"source", &(struct side_options){ .payload = image,
						  .more = (const char *[]){ "--initrd", initrd,
									    "--paused", NULL } });
	struct side *target = side_start("target", &(struct side_options){ 0 });

	cr_assert_eq(unlink(initrd), 0);
	move(source, target);
	call(target, "cont", NULL);
	cr_assert_eq(side_wait(target), IMAGE_EXIT << 1 | 1);
	cr_assert_str_eq(text_of(&target->serial), cargo);
	cr_assert_eq(source->serial.len, 0);
}

Test(images, foreign_moves)
{
	move_foreign(image_write("image", &(struct image)IMAGE_GOOD));
}

Test(images, foreign_bzimage_moves)
{
	move_foreign(image_write_bzimage("image"));
}

/* One line that says `words`, exit status 1. */
static void expect_no_boot(const char *kernel, const char *initrd, const char *words)
{
	static unsigned int n;
	struct side *s = side_launch(
		text_format("bad%u", n++),
		&(struct side_options){
			.payload = kernel,
			.memory_mib = 16,
			.more = (const char *[]){ initrd ? "--initrd" : NULL, initrd, NULL } });
	const char *line_end;

	check(side_wait(s) == 1, "'%s': exit status %d, expected 1", words, s->status);
	check(strstr(text_of(&s->err), words), "no '%s'", words);
	check(strncmp(text_of(&s->err), "ferry: ", 7) == 0, "'%s': no 'ferry:'", words);
	line_end = strchr(text_of(&s->err), '\n');
	check(line_end && !line_end[1], "'%s': not one line", words);
	check(s->serial.len == 0, "'%s': the guest has spoken", words);
	check(access(s->control, F_OK) != 0, "'%s': the control socket is still there", words);
}

Test(images, no_elf)
{
	char *text = write_file("text", "#!/bin/sh\nexit 0\n", 17);
	char *empty = write_file("empty", "", 0);
	char cwd[512];
	struct image im = IMAGE_GOOD;

	expect_no_boot(text, NULL, "not an ELF");
	expect_no_boot(empty, NULL, "empty");
	expect_no_boot(world_path("absent"), NULL, "absent");
	expect_no_boot(world_path(""), NULL, "expected a file");
	im.cut = 3;
	expect_no_boot(image_write("three", &im), NULL, "not an ELF");
	cr_assert_eq(truncate(image_write_bzimage("cut"), 1600), 0);
	expect_no_boot(world_path("cut"), NULL, "bzImage: kernel image: truncated");
	expect_no_boot(ferry_path()[0] == '/'
			       ? ferry_path()
			       : text_format("%s/%s", getcwd(cwd, sizeof(cwd)), ferry_path()),
		       NULL, "PVH");
}

Test(images, no_note)
{
	struct image im = IMAGE_GOOD;

	im.no_note = true;
	expect_no_boot(image_write("none", &im), NULL, "no PVH entry");
	im = (struct image)IMAGE_GOOD;
	im.note_name = "Zen";
	expect_no_boot(image_write("name", &im), NULL, "no PVH entry");
	im = (struct image)IMAGE_GOOD;
	im.note_type = 17;
	expect_no_boot(image_write("type", &im), NULL, "no PVH entry");
	im = (struct image)IMAGE_GOOD;
	im.phnum = 1;
	expect_no_boot(image_write("phnum", &im), NULL, "no PVH entry");
	im.phnum = 0;
	expect_no_boot(image_write("phnum", &im), NULL, "without program headers");
}

Test(images, truncated)
{
	static const size_t cuts[] = { 60, 100, 200, 260, 330 };
	struct image im = IMAGE_GOOD;

	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		im.cut = cuts[i];
		expect_no_boot(image_write("image", &im), NULL, "truncated");
	}
	im = (struct image)IMAGE_GOOD;
	im.phoff = UINT64_MAX - 8;
	expect_no_boot(image_write("image", &im), NULL, "truncated");
}

Test(images, other_machines)
{
	struct image im = IMAGE_GOOD;

	im.machine = 183; /* AArch64 */
	expect_no_boot(image_write("arm", &im), NULL, "another architecture");
	im = (struct image)IMAGE_GOOD;
	im.big_endian = true;
	expect_no_boot(image_write("big", &im), NULL, "little-endian");
}

Test(images, outside_ram)
{
	static const struct {
		uint64_t paddr, memsz;
		const char *words;
	} cases[] = {
		{ 16 << 20, 4096, "outside the guest's RAM" },
		{ (16 << 20) - 4096, 8192, "outside the guest's RAM" },
		{ 0xfffff000, 0x2000, "outside the guest's RAM" },
		{ UINT64_MAX - 4095, 4096, "outside the guest's RAM" },
		{ 0x100000, UINT64_MAX, "outside the guest's RAM" },
		{ 0x6000, 4096, "overlaps the boot information" },
		{ 0x1000, 0x100000, "overlaps the boot information" },
	};
	struct image im = IMAGE_GOOD;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		im.paddr = cases[i].paddr;
		im.memsz = cases[i].memsz;
		expect_no_boot(image_write("image", &im), NULL, cases[i].words);
	}
}

Test(images, bad_initrd)
{
	struct image im = IMAGE_GOOD;
	char *image = image_write("image", &im);
	char *large = write_file("large", "", 0);

	expect_no_boot(image, world_path("absent"), "absent");
	cr_assert_eq(truncate(large, 16 << 20), 0);
	expect_no_boot(image, large, "initrd");
	expect_no_boot(image, write_file("empty", "", 0), "empty");
}
