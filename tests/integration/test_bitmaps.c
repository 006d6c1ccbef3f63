/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the dirty bitmaps of a disk, as a user sees them: made, changed and shown by QMP, and never short of a block that the guest
 * has written.
 *
 * Approach: the image begins as zeroes, and the payload disk writes blocks of 4 KiB that are never zero: so the image itself
 * tells which blocks were written.
 */
#include "tests/integration/moves.h"
#include "tests/integration/proxy.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

TestSuite(bitmaps, .init = world_begin, .fini = world_end, .timeout = 600);

#define IMAGE_BYTES (4 << 20)
#define BLOCK 4096

static char *make_image(const char *name)
{
	char *path = world_path(name);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	cr_assert(fd >= 0 && ftruncate(fd, IMAGE_BYTES) == 0);
	close(fd);
	return path;
}

static unsigned int written_blocks(const char *image)
{
	static const char zero[BLOCK];
	char block[BLOCK];
	unsigned int n = 0;
	int fd = open(image, O_RDONLY | O_CLOEXEC);

	while (read(fd, block, BLOCK) == BLOCK)
		n += memcmp(block, zero, BLOCK) != 0;
	close(fd);
	return n;
}

static struct side *start_machine(const char *image, const char *cmdline, struct beats *b,
				  bool paused)
{
	struct side_options o = {
		.payload = "disk",
		.memory_mib = 16,
		.cmdline = cmdline,
		.beats = b,
		.more = (const char *[]){ "--disk", image, "--disk", make_image("second"),
					  paused ? "--paused" : NULL, NULL },
	};

	return side_start("source", &o);
}

static struct side *start_disk(const char *image, const char *cmdline, struct beats *b)
{
	return start_machine(image, cmdline, b, false);
}

/* What query-block says of a disk's bitmaps; NULL: it has none. */
static json_t *bitmaps_of(struct side *s, const char *disk)
{
	json_t *list = call(s, "query-block", NULL), *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		if (strcmp(json_text(item, "device"), disk) == 0)
			return json_object_get(json_object_get(item, "inserted"), "dirty-bitmaps");
	}
	check(false, "there is no disk '%s'", disk);
	return NULL;
}

static json_t *bitmap_of(struct side *s, const char *disk, const char *name)
{
	json_t *item;
	size_t i;

	json_array_foreach(bitmaps_of(s, disk), i, item)
	{
		if (strcmp(json_text(item, "name"), name) == 0)
			return item;
	}
	check(false, "disk '%s' has no bitmap '%s'", disk, name);
	return NULL;
}

static json_int_t count_of(struct side *s, const char *name)
{
	return json_number(bitmap_of(s, "disk0", name), NULL, "count");
}

static json_t *named(const char *name)
{
	return json_pack("{s:s,s:s}", "node", "disk0", "name", name);
}

static void add(struct side *s, const char *name, int granularity)
{
	json_t *args = named(name);

	json_object_set_new(args, "granularity", json_integer(granularity));
	call(s, "block-dirty-bitmap-add", args);
}

Test(bitmaps, query_block_is_as_documented)
{
	char *image = make_image("image");
	struct side *s = start_disk(image, "", new_beats());
	json_t *disk, *inserted, *bitmap;
	const char *text, *node, *drv, *file, *format;
	int ro, recording, busy, persistent, inconsistent;
	json_int_t size, count, granularity;

	disk = json_array_get(call(s, "query-block", NULL), 0);
	cr_assert_eq(json_unpack(disk, "{s:s,s:o}", "device", &text, "inserted", &inserted), 0);
	cr_assert_str_eq(text, "disk0");
	cr_assert_eq(json_unpack(inserted, "{s:s,s:s,s:b,s:s,s:{s:s,s:s,s:I}}", "file", &file,
				 "node-name", &node, "ro", &ro, "drv", &drv, "image", "filename",
				 &text, "format", &format, "virtual-size", &size),
		     0);
	cr_assert(strcmp(node, "disk0") == 0 && !ro && strcmp(drv, "raw") == 0);
	cr_assert(strcmp(file, image) == 0 && size == IMAGE_BYTES);
	cr_assert_null(json_object_get(inserted, "dirty-bitmaps"), "there are none");

	call(s, "block-dirty-bitmap-add",
	     json_pack("{s:s,s:s,s:b}", "node", "disk1", "name", "b\xc3\xa4r", "disabled", 1));
	bitmap = bitmap_of(s, "disk1", "b\xc3\xa4r");
	cr_assert_eq(json_unpack_ex(bitmap, NULL, JSON_STRICT, "{s:s,s:I,s:I,s:b,s:b,s:b,s:b}",
				    "name", &text, "count", &count, "granularity", &granularity,
				    "recording", &recording, "busy", &busy, "persistent",
				    &persistent, "inconsistent", &inconsistent),
		     0);
	cr_assert(count == 0 && granularity == 65536 && !recording && !busy && !persistent &&
		  !inconsistent);
	cr_assert_null(bitmaps_of(s, "disk0"));
}

Test(bitmaps, refused)
{
	struct side *s = start_disk(make_image("image"), "", new_beats());
	static const char *const by_name[] = { "block-dirty-bitmap-remove",
					       "block-dirty-bitmap-clear",
					       "block-dirty-bitmap-enable",
					       "block-dirty-bitmap-disable" };
	json_t *args;

	for (size_t i = 0; i < sizeof(by_name) / sizeof(by_name[0]); i++) {
		refused(s, by_name[i], named("x"), "disk 'disk0' has no dirty bitmap 'x'");
		refused(s, by_name[i], json_pack("{s:s,s:s}", "node", "disk9", "name", "x"),
			"the machine has no disk 'disk9'");
		refused(s, by_name[i], json_pack("{s:s}", "node", "disk0"), "'name' is missing");
	}
	add(s, "x", 4096);
	refused(s, "block-dirty-bitmap-add", named("x"), "has a dirty bitmap 'x' already");
	args = named("y");
	json_object_set_new(args, "persistent", json_true());
	refused(s, "block-dirty-bitmap-add", args, "'y' cannot be persistent");
	args = named("y");
	json_object_set_new(args, "granularity", json_integer(-512));
	refused(s, "block-dirty-bitmap-add", args, "'y': granularity");
	refused(s, "block-dirty-bitmap-merge",
		json_pack("{s:s,s:s,s:[s,s]}", "node", "disk0", "target", "x", "bitmaps", "x", "z"),
		"disk 'disk0' has no dirty bitmap 'z'");
	refused(s, "block-dirty-bitmap-merge",
		json_pack("{s:s,s:s,s:[i]}", "node", "disk0", "target", "x", "bitmaps", 1),
		"'bitmaps' expects");
	refused(s, "block-dirty-bitmap-merge",
		json_pack("{s:s,s:s,s:[{s:s}]}", "node", "disk0", "target", "x", "bitmaps", "name",
			  "x"),
		"'bitmaps' expects");
	cr_assert_eq(json_array_size(bitmaps_of(s, "disk0")), 1);
}

/* The guest stands still: what is marked is what is written, no less and no more. */
static void expect_truth(struct side *s, const char *image, const char *name)
{
	json_int_t blocks = count_of(s, name) / BLOCK, truth = written_blocks(image);

	check(blocks == truth, "bitmap '%s' has %lld blocks, %lld are written", name,
	      (long long)blocks, (long long)truth);
}

Test(bitmaps, record_what_the_guest_writes)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_machine(image, "blocks=1000", b, true);
	json_t *args = named("off");

	add(s, "fine", 4096);
	add(s, "finer", 512);
	add(s, "coarse", 65536);
	json_object_set_new(args, "disabled", json_true());
	call(s, "block-dirty-bitmap-add", args);
	call(s, "cont", NULL);
	await_message(b, "working");
	WAIT_FOR(count_of(s, "fine") > 100 * BLOCK);
	stand_still(s);
	expect_truth(s, image, "fine");
	expect_truth(s, image, "finer");
	cr_assert_geq(count_of(s, "coarse"), count_of(s, "fine"));
	cr_assert_eq(count_of(s, "off"), 0);
	call(s, "cont", NULL);
	/* Other blocks than a thousand were not written. */
	await_laps(b, 8);
	stand_still(s);
	expect_truth(s, image, "fine");
	cr_assert_leq(count_of(s, "fine"), 1000 * BLOCK);
	/* Together they are what each was. */
	call(s, "block-dirty-bitmap-merge",
	     json_pack("{s:s,s:s,s:[s,{s:s,s:s}]}", "node", "disk0", "target", "off", "bitmaps",
		       "finer", "node", "disk0", "name", "coarse"));
	cr_assert_eq(count_of(s, "off"), count_of(s, "coarse"));
}

/* Blocks that are overwritten all the time become dirty again after each clearing, and do not where nothing records. */
Test(bitmaps, begin_anew_while_the_guest_writes)
{
	struct beats *b = new_beats();
	struct side *s = start_disk(make_image("image"), "blocks=16", b);

	add(s, "x", 4096);
	for (unsigned int i = 0; i < 20; i++) {
		call(s, "block-dirty-bitmap-clear", named("x"));
		WAIT_FOR(count_of(s, "x") == 16 * BLOCK);
	}
	call(s, "block-dirty-bitmap-disable", named("x"));
	call(s, "block-dirty-bitmap-clear", named("x"));
	await_laps(b, 1);
	cr_assert_eq(count_of(s, "x"), 0);
	call(s, "block-dirty-bitmap-enable", named("x"));
	WAIT_FOR(count_of(s, "x") == 16 * BLOCK);
	call(s, "block-dirty-bitmap-remove", named("x"));
	cr_assert_null(bitmaps_of(s, "disk0"));
	await_laps(b, 1);
}

/* --- migrations --- */

/* What a bitmap is, but for its count, is what it was. */
static void expect_same_kind(json_t *was, json_t *is)
{
	static const char *const members[] = { "name", "granularity", "recording", "busy" };

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		check(json_equal(json_object_get(was, members[i]), json_object_get(is, members[i])),
		      "%s of bitmap '%s' has changed", members[i], json_text(was, "name"));
}

/* The guest writes all the time; after each move its bitmaps are there as they were, and not short of a block. */
Test(bitmaps, travel_while_the_guest_writes)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_machine(image, "blocks=1000", b, true);
	json_t *was[3], *args = named("off");

	add(s, "fine", 4096);
	add(s, "finest", 512);
	json_object_set_new(args, "disabled", json_true());
	call(s, "block-dirty-bitmap-add", args);
	call(s, "cont", NULL);
	await_message(b, "working");
	WAIT_FOR(count_of(s, "fine") > 50 * BLOCK);
	call(s, "block-dirty-bitmap-merge",
	     json_pack("{s:s,s:s,s:[s]}", "node", "disk0", "target", "off", "bitmaps", "fine"));
	for (unsigned int i = 0; i < 5; i++) {
		struct side *to = start_target(text_format("move%u", i + 1), b);

		was[0] = bitmap_of(s, "disk0", "fine");
		was[1] = bitmap_of(s, "disk0", "finest");
		was[2] = bitmap_of(s, "disk0", "off");
		set_capability(s, "dirty-bitmaps", true);
		move(s, to);
		stand_still(to);
		for (unsigned int k = 0; k < 3; k++)
			expect_same_kind(was[k], bitmap_of(to, "disk0", json_text(was[k], "name")));
		cr_assert_eq(json_array_size(bitmaps_of(to, "disk0")), 3);
		cr_assert(json_equal(was[2], bitmap_of(to, "disk0", "off")), "it was disabled");
		cr_assert_geq(count_of(to, "fine"), count_of(s, "fine"));
		expect_truth(to, image, "fine");
		expect_truth(to, image, "finest");
		cr_assert_leq(count_of(to, "fine"), 1000 * BLOCK);
		call(to, "cont", NULL);
		s = to;
	}
	await_laps(b, 1);
}

/* Nobody may change it, nor merge from it or into it. */
static void expect_busy(struct side *s, const char *name)
{
	static const char *const by_name[] = { "block-dirty-bitmap-remove",
					       "block-dirty-bitmap-clear",
					       "block-dirty-bitmap-enable",
					       "block-dirty-bitmap-disable" };
	const char *words = text_format("'%s' is busy: a migration uses it", name);

	cr_assert(json_is_true(json_object_get(bitmap_of(s, "disk0", name), "busy")));
	for (size_t i = 0; i < sizeof(by_name) / sizeof(by_name[0]); i++)
		refused(s, by_name[i], named(name), words);
	refused(s, "block-dirty-bitmap-merge",
		json_pack("{s:s,s:s,s:[s]}", "node", "disk0", "target", name, "bitmaps", name),
		words);
}

/* While they are being sent they are not to be changed; a migration that fails gives them back. */
Test(bitmaps, busy_while_they_are_sent)
{
	struct beats *b = new_beats();
	struct side *s = start_disk(make_image("image"), "blocks=16", b);
	struct side *target = start_target("target", b);

	add(s, "x", 4096);
	set_capability(s, "dirty-bitmaps", true);
	set_capability(s, "pause-before-switchover", true);
	begin_migration(s, side_uri(target));
	await_migration(s, "pre-switchover");
	cr_assert(json_is_true(json_object_get(bitmap_of(s, "disk0", "x"), "busy")));
	expect_busy(s, "x");
	/* One that is added now is busy, too. */
	add(s, "late", 4096);
	expect_busy(s, "late");
	cancel_migration(s);
	side_wait(target);
	cr_assert(json_is_false(json_object_get(bitmap_of(s, "disk0", "x"), "busy")));
	call(s, "block-dirty-bitmap-clear", named("x"));
	WAIT_FOR(count_of(s, "x") == 16 * BLOCK);
	await_laps(b, 1);
}

/* Those that are added while the migration is under way travel, where there was none before, and at the last moment; with all that
 * was written since. */
Test(bitmaps, added_on_the_way)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_machine(image, "blocks=1000", b, true);
	struct side *target = start_target("target", b);
	json_t *args = named("off");

	set_capability(s, "dirty-bitmaps", true);
	set_capability(s, "pause-before-switchover", true);
	set_parameter(s, "downtime-limit", 0);
	begin_migration(s, side_uri(target));
	await_pass(s, 2);
	add(s, "early", 4096);
	json_object_set_new(args, "disabled", json_true());
	call(s, "block-dirty-bitmap-add", args);
	call(s, "cont", NULL);
	WAIT_FOR(count_of(s, "early") > 20 * BLOCK);
	await_pass(s, s->qmp->pass + 2);
	add(s, "later", 512);
	WAIT_FOR(count_of(s, "later") > BLOCK);
	set_parameter(s, "downtime-limit", LONG_DOWNTIME);
	await_migration(s, "pre-switchover");
	add(s, "last", 65536);
	call(s, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"));
	await_migration(s, "completed");
	stand_still(target);
	cr_assert_eq(json_array_size(bitmaps_of(target, "disk0")), 4);
	expect_truth(target, image, "early");
	cr_assert(json_is_false(json_object_get(bitmap_of(target, "disk0", "off"), "recording")));
	cr_assert_eq(count_of(target, "off"), 0);
	cr_assert_geq(count_of(target, "later"), count_of(s, "later"));
	cr_assert_eq(json_number(bitmap_of(target, "disk0", "last"), NULL, "granularity"), 65536);
	call(target, "cont", NULL);
	await_laps(b, 1);
}

/* A bitmap whose START the way has damaged; the rest is sound. */
static const struct proxy_step damage_x[] = {
	{ PROXY_FLIP, TO_TARGET,
	  PATTERN("\x05"
		  "disk0\x01x\0\0\x10\0\x01"),
	  .flip = 0x40 },
	{ .action = PROXY_END },
};
#define LOST "the destination: dirty bitmap 'x' of disk 'disk0' does not come along: flags 0x41"

/* What the destination cannot take the person at the source reads, at once; the guest moves, and the other bitmap with it. A second
 * attempt knows nothing of the first one's warnings. */
Test(bitmaps, lost_ones_are_told_at_the_source)
{
	struct beats *b = new_beats();
	struct side *s = start_disk(make_image("image"), "blocks=16", b), *cli;
	struct side *one = start_target("one", b), *two = start_target("two", b);
	const char *uri = proxy_start(side_uri(one), damage_x)->uri;
	json_t *warnings;

	add(s, "x", 4096);
	add(s, "y", 4096);
	set_capability(s, "dirty-bitmaps", true);
	set_parameter(s, "downtime-limit", 0);
	begin_migration(s, uri);
	WAIT_FOR(json_object_get(query_migrate(s), "warnings"));
	expect_status(s, "running");
	cancel_migration(s);
	side_wait(one);
	WAIT_FOR(count_of(s, "x") == 16 * BLOCK);

	set_parameter(s, "downtime-limit", LONG_DOWNTIME);
	set_capability(s, "dirty-bitmaps", false); /* the command is to switch it on */
	uri = proxy_start(side_uri(two), damage_x)->uri;
	cli = side_run("cli", "migrate", "--control", text_format("unix:%s", s->control), uri,
		       "--bitmaps", "on");
	check(side_wait(cli) == 0, "%s", text_of(&cli->err));
	check(strstr(text_of(&cli->err), "warning: " LOST), "%s", text_of(&cli->err));
	warnings = json_object_get(query_migrate(s), "warnings");
	cr_assert_eq(json_array_size(warnings), 1);
	check(strstr(json_string_value(json_array_get(warnings, 0)), LOST), "another");
	check(side_said(two, "dirty bitmap 'x' of disk 'disk0' does not come along"), "%s",
	      text_of(&two->err));
	call(two, "stop", NULL);
	cr_assert_eq(json_array_size(bitmaps_of(two, "disk0")), 1);
	cr_assert_eq(count_of(two, "y"), 16 * BLOCK);
	call(two, "cont", NULL);
	await_laps(b, 1);
}

/* A name that somebody has taken at the destination is told when all has come. */
Test(bitmaps, a_name_that_is_taken)
{
	struct beats *b = new_beats();
	struct side *s = start_disk(make_image("image"), "blocks=16", b);
	struct side *target = start_target("target", b);
	json_t *warnings;

	add(s, "x", 4096);
	add(s, "y", 4096);
	set_capability(s, "dirty-bitmaps", true);
	set_parameter(s, "downtime-limit", 0);
	begin_migration(s, side_uri(target));
	await_pass(s, 2);
	add(target, "x", 512);
	set_parameter(s, "downtime-limit", LONG_DOWNTIME);
	await_migration(s, "completed");
	warnings = json_object_get(query_migrate(s), "warnings");
	cr_assert_eq(json_array_size(warnings), 1);
	check(strstr(json_string_value(json_array_get(warnings, 0)),
		     "'x' of disk 'disk0' does not come along: disk 'disk0' has a dirty bitmap "
		     "'x'"),
	      "'%s'", json_string_value(json_array_get(warnings, 0)));
	cr_assert_eq(json_number(bitmap_of(target, "disk0", "x"), NULL, "granularity"), 512);
	cr_assert_eq(json_number(bitmap_of(target, "disk0", "y"), NULL, "granularity"), 4096);
	await_laps(b, 1);
}

/* What a migration that fails, or is cancelled, leaves is what was there; and what a further one brings over, too. */
Test(bitmaps, are_as_they_were_after_a_failure)
{
	struct beats *b = new_beats();
	struct side *s = start_disk(make_image("image"), "blocks=100", b), *target;
	json_t *args = named("off"), *was;

	add(s, "x", 4096);
	json_object_set_new(args, "disabled", json_true());
	call(s, "block-dirty-bitmap-add", args);
	WAIT_FOR(count_of(s, "x") > 10 * BLOCK);
	call(s, "stop", NULL);
	call(s, "block-dirty-bitmap-merge",
	     json_pack("{s:s,s:s,s:[s]}", "node", "disk0", "target", "off", "bitmaps", "x"));
	was = bitmaps_of(s, "disk0");
	set_capability(s, "dirty-bitmaps", true);
	set_capability(s, "pause-before-switchover", true);
	for (unsigned int i = 0; i < 2; i++) {
		target = side_start(text_format("lost%u", i), &(struct side_options){ 0 });
		begin_migration(s, side_uri(target));
		await_migration(s, "pre-switchover");
		check(!json_equal(was, bitmaps_of(s, "disk0")), "they are not busy");
		if (i) {
			cancel_migration(s);
		} else {
			side_kill(target, SIGKILL);
			WAIT_FOR(has_status(s, "failed"));
		}
		side_wait(target);
		WAIT_FOR(json_equal(was, bitmaps_of(s, "disk0")));
	}
	set_capability(s, "pause-before-switchover", false);
	target = start_target("target", b);
	begin_migration(s, side_uri(target));
	await_migration(s, "completed");
	check(json_equal(was, bitmaps_of(target, "disk0")), "they have changed on the way");
	call(target, "cont", NULL);
	await_laps(b, 1);
}

/* In the default they stay; the source keeps them. */
Test(bitmaps, stay_where_nobody_asked)
{
	struct beats *b = new_beats();
	struct side *s = start_disk(make_image("image"), "", b);
	struct side *target = start_target("target", b);

	add(s, "x", 4096);
	await_laps(b, 1);
	move(s, target);
	cr_assert_null(bitmaps_of(target, "disk0"));
	cr_assert_gt(count_of(s, "x"), 0);
}

/* What ferry analyze says of the bitmaps in a file. */
static json_t *analyze_bitmaps(const char *path)
{
	struct side *s =
		side_run("analyze", "analyze", path, "--json", "--section", "dirty-bitmap");

	check(side_wait(s) == 0, "%s", text_of(&s->err));
	return keep_json(json_loads(text_of(&s->out), 0, NULL));
}

/* Bitmap x of disk0, whole. */
static void check_file(const char *path)
{
	json_t *json = analyze_bitmaps(path), *bitmap;

	check(json_array_size(json_object_get(json, "dirty_bitmaps")) == 1, "more than one");
	check(json_array_size(json_object_get(json, "sections")) >= 3, "START, PART, END");
	bitmap = json_array_get(json_object_get(json, "dirty_bitmaps"), 0);
	check(strcmp(json_text(bitmap, "name"), "x") == 0 &&
		      strcmp(json_text(bitmap, "node"), "disk0") == 0,
	      "another");
	check(json_number(bitmap, NULL, "length") == IMAGE_BYTES &&
		      json_number(bitmap, NULL, "granularity") == 4096 &&
		      json_is_true(json_object_get(bitmap, "enabled")) &&
		      json_is_true(json_object_get(bitmap, "complete")),
	      "not as it was");
}

/* Through a file, whose bitmaps are complete; a larger image at the other end adds nothing to them. */
Test(bitmaps, rest_in_a_file)
{
	struct beats *b = new_beats();
	char *image = make_image("image"), *uri = text_format("file:%s", world_path("guest.mig"));
	struct side *s = start_machine(image, "blocks=300", b, true), *target;

	add(s, "x", 4096);
	call(s, "cont", NULL);
	await_laps(b, 1);
	set_capability(s, "dirty-bitmaps", true);
	begin_migration(s, uri);
	await_migration(s, "completed");
	/* What was on its way is marked, and is yet to be written. */
	cr_assert_geq(count_of(s, "x"), written_blocks(image) * BLOCK);
	call(s, "quit", NULL);
	cr_assert_eq(side_wait(s), 0);
	check_file(world_path("guest.mig"));
	cr_assert_eq(truncate(image, IMAGE_BYTES + 5 * 512), 0);
	target = side_start("target", &(struct side_options){ .incoming = uri, .beats = b });
	await_laps(b, 1);
	stand_still(target);
	expect_truth(target, image, "x");
}

/* What changes while pages are sent goes before the next pass, so that the switch has nothing of it left to send. */
Test(bitmaps, changes_do_not_wait_for_the_switch)
{
	enum { BITMAPS = 100 };
	char *path = world_path("guest.mig");
	struct side *s = start_machine(make_image("image"), "blocks=16", new_beats(), true);
	json_t *sections, *part;
	json_int_t sent = 0;
	size_t i;

	for (unsigned int n = 0; n < BITMAPS; n++)
		add(s, text_format("b%u", n), 4096);
	set_capability(s, "dirty-bitmaps", true);
	set_parameter(s, "downtime-limit", 0);
	begin_migration(s, text_format("file:%s", path));
	await_pass(s, 2);
	call(s, "cont", NULL);
	WAIT_FOR(count_of(s, text_format("b%u", BITMAPS - 1)) == 16 * BLOCK);
	await_pass(s, s->qmp->pass + 3);
	set_parameter(s, "downtime-limit", LONG_DOWNTIME);
	await_migration(s, "completed");
	sections = json_object_get(analyze_bitmaps(path), "sections");
	check(json_array_size(sections) >= 4, "START, PART, PART ..., END");
	json_array_foreach(sections, i, part)
	{
		sent += json_number(part, NULL, "with_bits");
		if (i == 1)
			check(json_number(part, NULL, "zeroes") == BITMAPS, "clean at first");
	}
	part = json_array_get(sections, json_array_size(sections) - 1);
	check(strcmp(json_text(part, "type"), "end") == 0 &&
		      json_number(part, NULL, "with_bits") == 0,
	      "%lld chunks at the switch", (long long)json_number(part, NULL, "with_bits"));
	check(sent >= BITMAPS, "only %lld chunks changed", (long long)sent);
}

/* In the midst of the bits: the destination hears why, and the guest and its bitmaps go on. */
Test(bitmaps, cancelled_while_they_are_sent)
{
	/* The footer of their section's start, and its first part: all that the cap lets through. */
	static const struct proxy_step script[] = {
		{ PROXY_PASS, TO_TARGET, PATTERN("\x7e\0\x01\0\0\x02\0\x01\0\0") },
		{ .action = PROXY_END },
	};
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s, *target = start_target("target", b);
	struct proxy *proxy = proxy_start(side_uri(target), script);

	cr_assert_eq(truncate(image, INT64_C(1) << 40), 0);
	s = start_disk(image, "blocks=16", b);
	add(s, "x", 4096);
	set_capability(s, "dirty-bitmaps", true);
	set_parameter(s, "max-bandwidth", BARELY);
	begin_migration(s, proxy->uri);
	WAIT_FOR(proxy->step == 1);
	cr_assert(json_is_true(json_object_get(bitmap_of(s, "disk0", "x"), "busy")));
	cancel_migration(s);
	cr_assert(strstr(expect_refusal(target), "cancelled"));
	call(s, "block-dirty-bitmap-clear", named("x"));
	WAIT_FOR(count_of(s, "x") == 16 * BLOCK);
	await_laps(b, 1);
}
