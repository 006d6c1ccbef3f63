/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a distribution's kernel writes files to its disk without a pause, while backups and moves come and go; each file of the chain restores to the
 * disk as it was at its moment, block by block, wherever the guest was then.
 *
 * Approach: as in test_backup.c: at each moment the guest is stopped and the image copied. The kernel, and what it is to do, come from
 * tests/nested/disk, by FERRY_LINUX: a folder with an initrd and an image with a file system. Only on a KVM that runs a kernel natively.
 */
#include "tests/integration/moves.h"
#include "tests/restore.h"

#include <signal.h>
#include <stdlib.h>

#define POINTS 6

static char *kernel, *initrd, *image;
static off_t image_bytes;

static void begin(void)
{
	const char *folder = getenv("FERRY_LINUX");

	world_begin();
	if (!folder)
		cr_skip_test("FERRY_LINUX is not set: tests/nested/run sets it");
	kernel = "/ferry/vmlinuz";
	initrd = text_format("%s/disk.cpio", folder);
	image = world_path("image");
	cr_assert_eq(system(text_format("cp %s/disk.img %s", folder, image)), 0);
}

TestSuite(linux_guest, .init = begin, .fini = world_end, .timeout = 600);

static uint8_t *read_image(void)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	uint8_t *data;

	image_bytes = lseek(fd, 0, SEEK_END);
	data = malloc((size_t)image_bytes);
	cr_assert(fd >= 0 && pread(fd, data, (size_t)image_bytes, 0) == image_bytes);
	close(fd);
	return data;
}

/* How many files the guest has written, as far as this side knows. */
static unsigned int files(struct side *s)
{
	const char *at = text_of(&s->serial);
	unsigned int n = 0;

	check(!strstr(at, "WRONG"), "%s", strstr(at, "WRONG"));
	while ((at = strstr(at, "\nfile "))) {
		at++;
		n++;
	}
	return n;
}

static void await_files(struct side *s, unsigned int more)
{
	unsigned int have = files(s);

	WAIT_FOR(files(s) >= have + more);
}

static struct side *move_on(struct side *s, const char *name)
{
	struct side *to = side_start(name, &(struct side_options){ 0 });

	set_capability(s, "dirty-bitmaps", true);
	move(s, to);
	call(s, "quit", NULL);
	cr_assert_eq(side_wait(s), 0);
	await_files(to, 2);
	return to;
}

/* Every other one crawls for a while, so that the guest overwrites what is not copied. */
static uint8_t *back_up(struct side *s, unsigned int n)
{
	json_t *args = json_pack("{s:s,s:s,s:s,s:s,s:i}", "device", "data", "target",
				 world_path(text_format("%u", n)), "sync",
				 n ? "incremental" : "full", "bitmap", "chain", "speed", n % 2);
	json_t *end;
	uint8_t *then;

	if (n)
		json_object_set_new(args, "backing-file", json_string(text_format("%u", n - 1)));
	stand_still(s);
	then = read_image();
	call(s, "drive-backup", args);
	call(s, "cont", NULL);
	await_files(s, 3);
	if (n % 2)
		call(s, "block-job-set-speed",
		     json_pack("{s:s,s:i}", "device", "data", "speed", 0));
	end = qmp_event(s->qmp, "BLOCK_JOB_COMPLETED");
	check(!json_object_get(end, "error"), "%s", json_text(end, "error"));
	return then;
}

static struct side *boot(const char *name)
{
	struct side_options o = {
		.payload = kernel,
		.memory_mib = 128,
		.cmdline = "console=ttyS0 quiet noxsave do=write",
		.more = (const char *[]){ "--initrd", initrd, "--disk",
					  text_format("%s,id=data", image), NULL },
	};
	struct side *s = side_start(name, &o);

	await_files(s, 5);
	call(s, "block-dirty-bitmap-add", json_pack("{s:s,s:s}", "node", "data", "name", "chain"));
	return s;
}

static void expect_restored(unsigned int point, const uint8_t *want)
{
	uint8_t *got = malloc((size_t)image_bytes);

	restore_chain(world_path(""), text_format("%u", point), got, (uint64_t)image_bytes);
	for (off_t at = 0; at < image_bytes; at += 512)
		check(memcmp(got + at, want + at, 512) == 0, "point %u differs at %lld", point,
		      (long long)at);
	free(got);
}

Test(linux_guest, backups_and_moves)
{
	struct side *s = boot("source");
	uint8_t *then[POINTS];

	for (unsigned int i = 0; i < POINTS; i++) {
		then[i] = back_up(s, i);
		if (i % 2)
			s = move_on(s, text_format("move%u", i));
	}
	for (unsigned int i = 0; i < POINTS; i++) {
		expect_restored(i, then[i]);
		free(then[i]);
	}
}

/* The process with the guest dies in the middle of a backup. What is complete stays right, what is not has no name, and the guest boots again
 * from its image and begins a new chain. */
Test(linux_guest, power_loss)
{
	struct side *s = boot("source");
	uint8_t *then, *later;

	then = back_up(s, 0);
	call(s, "drive-backup",
	     json_pack("{s:s,s:s,s:s,s:s,s:i}", "device", "data", "target", world_path("lost"),
		       "sync", "incremental", "bitmap", "chain", "speed", 1));
	await_files(s, 3);
	side_kill(s, SIGKILL);
	side_wait(s);
	cr_assert_neq(access(world_path("lost"), F_OK), 0);
	expect_restored(0, then);
	cr_assert_eq(rename(world_path("0"), world_path("old")), 0);
	s = boot("again");
	later = back_up(s, 0);
	expect_restored(0, later);
	free(then);
	free(later);
}
