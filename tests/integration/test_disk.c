/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a guest that writes to its disk and reads it back all the time sees nothing of its moves: no request is lost, none is
 * done twice, no block is old; and no image is ever written by two machines.
 *
 * Approach: the payload disk keeps eight requests in flight and checks each answer and each block; it says DAMAGED where one is
 * wrong, for which the checker of beats fails the test. Around it: moves to new processes, a migration that fails with the guest
 * stopped, other processes that want the image.
 */
#include "guest/ferry-guest.h"
#include "tests/integration/moves.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

TestSuite(disk, .init = world_begin, .fini = world_end, .timeout = 600);

#define IMAGE_BYTES (1 << 20)

static char *make_image(const char *name)
{
	char *path = world_path(name);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	cr_assert(fd >= 0 && ftruncate(fd, IMAGE_BYTES) == 0);
	close(fd);
	return path;
}

static struct side *start_disk(const char *image, const char *cmdline, struct beats *b)
{
	struct side_options o = {
		.payload = "disk",
		.memory_mib = 16,
		.cmdline = cmdline,
		.beats = b,
		.more = (const char *[]){ "--disk", image, NULL },
	};

	return side_start("source", &o);
}

/* Ten moves. The destination is told nothing, or another name of the image. */
Test(disk, moves_while_it_writes)
{
	struct beats *b = new_beats();
	char *image = make_image("image"), *link_name = world_path("another-name");
	struct side *side = start_disk(image, "blocks=200", b);

	cr_assert_eq(link(image, link_name), 0);
	for (unsigned int i = 0; i < 10; i++) {
		const char *disk = text_format("%s,id=disk0", link_name);
		const char *more[] = { i % 2 ? "--disk" : NULL, disk, NULL };
		struct side_options o = { .beats = b, .more = more };
		struct side *to = side_start(text_format("move%u", i + 1), &o);

		await_laps(b, 1);
		move(side, to);
		call(side, "quit", NULL);
		check(side_wait(side) == 0, "%s ended with %d", side->name, side->status);
		side = to;
	}
	await_laps(b, 2);
}

/* Everything is read once more at the destination, and the guest ends well. */
Test(disk, all_blocks_are_right_in_the_end)
{
	struct beats *b = new_beats();
	struct side *source = start_disk(make_image("image"), NULL, b);
	struct side *target = start_target("target", b);

	await_message(b, "working");
	move(source, target);
	WAIT_FOR(target->serial.len > 0);
	cr_assert_eq(write(target->serial_fd, "q", 1), 1);
	await_message(b, "ok: ");
	cr_assert_eq(side_wait(target), FERRY_GUEST_EXIT_STATUS(FERRY_GUEST_EXIT_OK));
}

Test(disk, a_migration_that_fails_gives_the_disk_back)
{
	struct beats *b = new_beats();
	struct side *source = start_disk(make_image("image"), NULL, b);

	await_laps(b, 1);
	for (unsigned int i = 0; i < 5; i++) {
		struct side *target =
			side_start(text_format("target%u", i), &(struct side_options){ 0 });

		/* The guest stands still, its disk is drained and let go. */
		set_capability(source, "pause-before-switchover", true);
		begin_migration(source, side_uri(target));
		await_migration(source, "pre-switchover");
		cancel_migration(source);
		side_wait(target);
		await_laps(b, 1);
	}
}

/* By a file: nobody has the image while the guest is nowhere, and then the machine that is loaded. */
Test(disk, rests_in_a_file)
{
	struct beats *b = new_beats();
	char *image = make_image("image"), *uri = text_format("file:%s", world_path("guest.mig"));
	struct side *source = start_disk(image, NULL, b), *target;

	await_laps(b, 1);
	begin_migration(source, uri);
	await_migration(source, "completed");
	call(source, "quit", NULL);
	cr_assert_eq(side_wait(source), 0);
	target = side_start("target", &(struct side_options){ .incoming = uri, .beats = b });
	await_laps(b, 2);
	expect_status(target, "running");
}

Test(disk, an_image_belongs_to_one_machine)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *source = start_disk(image, NULL, b);
	struct side *other = side_launch(
		"other", &(struct side_options){ .payload = "hello",
						 .memory_mib = 16,
						 .more = (const char *[]){ "--disk", image, NULL },
						 .no_control = true });

	cr_assert_eq(side_wait(other), 1);
	cr_assert(side_said(other, "in use by another machine"), "%s", text_of(&other->err));
	await_laps(b, 1);
	expect_status(source, "running");
}

/* What a destination says that cannot have the disk reaches the user at the source, whose guest goes on. */
Test(disk, a_destination_without_the_image_refuses)
{
	static const struct {
		const char *disk, *reason;
	} rows[] = {
		{ "/nonexistent/image,id=disk0", "cannot open '/nonexistent/image'" },
		{ "%s,id=disk1", "the machine has no device 'disk1'" },
		{ "%s,id=disk0", "the guest's disk has 2048 sectors" },
	};
	struct beats *b = new_beats();
	char *image = make_image("image"), *small = make_image("small");
	struct side *source = start_disk(image, NULL, b);

	cr_assert_eq(truncate(small, 4096), 0);
	await_laps(b, 1);
	for (size_t i = 0; i < 3; i++) {
		const char *more[] = { "--disk", text_format(rows[i].disk, small), NULL };
		struct side *target = side_start(text_format("target%zu", i),
						 &(struct side_options){ .more = more });

		begin_migration(source, side_uri(target));
		WAIT_FOR(is_over(source));
		cr_assert(strstr(expect_failed(source), rows[i].reason), "'%s' has no '%s'",
			  expect_failed(source), rows[i].reason);
		side_wait(target);
		await_laps(b, 1);
	}
}

/* The shapes of QEMU's query-block and query-chardev, as far as clients look. */
Test(disk, is_listed)
{
	struct beats *b = new_beats();
	char *image = make_image("image"), *line = world_path("line");
	struct side_options o = {
		.payload = "disk",
		.memory_mib = 16,
		.beats = b,
		.more = (const char *[]){ "--disk", text_format("%s,id=root", image), "--console",
					  text_format("file:%s", line), NULL },
	};
	struct side *side = side_start("source", &o);
	json_t *disk, *inserted, *lines;

	await_laps(b, 1);
	disk = json_array_get(call(side, "query-block", NULL), 0);
	inserted = json_object_get(disk, "inserted");
	cr_assert_str_eq(json_string_value(json_object_get(disk, "device")), "root");
	cr_assert_str_eq(json_string_value(json_object_get(inserted, "drv")), "raw");
	cr_assert_str_eq(json_string_value(json_object_get(inserted, "file")), image);
	cr_assert_eq(json_integer_value(
			     json_object_get(json_object_get(inserted, "image"), "virtual-size")),
		     IMAGE_BYTES);
	lines = call(side, "query-chardev", NULL);
	cr_assert_eq(json_array_size(lines), 2);
	cr_assert_str_eq(json_string_value(json_object_get(json_array_get(lines, 0), "label")),
			 "serial0");
	cr_assert_str_eq(json_string_value(json_object_get(json_array_get(lines, 1), "label")),
			 "console0");
}

/* The guest gets an I/O error and gives up; the user has a message, a QMP client an event, and the VMM is well. */
Test(disk, an_image_that_shrinks_gives_an_error)
{
	char *image = make_image("image");
	struct side_options o = {
		.payload = "disk",
		.memory_mib = 16,
		.more = (const char *[]){ "--disk", image, NULL },
	};
	struct side *side = side_start("source", &o);
	json_t *data;

	WAIT_FOR(strstr(text_of(&side->serial), "lap 1"));
	cr_assert_eq(truncate(image, 0), 0);
	data = qmp_event(side->qmp, "BLOCK_IO_ERROR");
	cr_assert_str_eq(json_text(data, "device"), "disk0");
	cr_assert_str_eq(json_text(data, "action"), "report");
	cr_assert_str_eq(json_text(data, "reason"), "Input/output error");
	cr_assert(json_is_false(json_object_get(data, "nospace")));
	cr_assert_eq(side_wait(side), FERRY_GUEST_EXIT_STATUS(FERRY_GUEST_EXIT_DAMAGED));
	cr_assert(strstr(text_of(&side->serial), "an I/O error"), "%s", text_of(&side->serial));
	cr_assert(side_said(side, "disk 'disk0' ("), "%s", text_of(&side->err));
	cr_assert(side_said(side, "the guest gets an I/O error"));
}

Test(disk, options_that_are_wrong)
{
	static const struct {
		const char *option, *value, *words;
	} rows[] = {
		{ "--disk", "", "a value is missing" },
		{ "--disk", ",ro", "a value is missing" },
		{ "--disk", "x,id=", "id ''" },
		{ "--disk", "x,id=a b", "id 'a b'" },
		{ "--net", "br0", "expected tap:NAME" },
		{ "--net", "tap:", "expected tap:NAME" },
		{ "--net", "tap:a-name-that-is-too-long", "expected tap:NAME" },
		{ "--net", "tap:x,mac=1:2:3", "six bytes" },
		{ "--net", "tap:x,mac=52:54:00:12:34:56:78", "six bytes" },
		{ "--net", "tap:x,mac=01:00:5e:00:00:01", "not a group" },
		{ "--console", "paper", "expected stdio" },
		{ "--console", "stdio", "one device's only" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct side *side =
			side_run("ferry", "run", "--kernel", "k", rows[i].option, rows[i].value);

		cr_assert_eq(side_wait(side), 2, "%s %s", rows[i].option, rows[i].value);
		cr_assert(side_said(side, rows[i].words), "%s %s: %s", rows[i].option,
			  rows[i].value, text_of(&side->err));
	}
	struct side *twice =
		side_run("ferry", "run", "--kernel", "k", "--disk", "a,id=x", "--disk", "b,id=x");

	cr_assert_eq(side_wait(twice), 2);
	cr_assert(side_said(twice, "id 'x' is given twice"));
}
