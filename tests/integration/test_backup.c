/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: `ferry backup` and QMP's block jobs, as a user meets them: each file restores to the disk as it was when the command was given, while the
 * guest writes and moves; and whatever ends a backup early harms neither guest nor bitmap.
 *
 * Approach: the payload disk writes all the time. For a point in time to compare with, it is stopped and the image copied; then the backup is
 * started and the guest goes on. tests/restore.h, a reader of its own, restores; and qemu-img too, where there is one.
 */
#include "guest/ferry-guest.h"
#include "tests/integration/moves.h"
#include "tests/restore.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

TestSuite(backup, .init = world_begin, .fini = world_end, .timeout = 600);

#define IMAGE_BYTES (8 << 20)
#define WRITTEN_BYTES (4 << 20) /* the guest's part */

static uint8_t *read_image(const char *path)
{
	uint8_t *data = malloc(IMAGE_BYTES);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert(fd >= 0 && read(fd, data, IMAGE_BYTES) == IMAGE_BYTES);
	close(fd);
	return data;
}

/* Behind what the guest writes are bytes, and a hole at the end. */
static char *make_image(const char *name)
{
	char *path = world_path(name);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	uint32_t noise = 1;

	cr_assert(fd >= 0 && ftruncate(fd, IMAGE_BYTES) == 0);
	for (uint64_t at = WRITTEN_BYTES; at < IMAGE_BYTES - (1 << 20); at += sizeof(noise) * 64) {
		uint32_t words[64];

		for (unsigned int i = 0; i < 64; i++)
			words[i] = noise = noise * 1664525 + 1013904223;
		cr_assert_eq(pwrite(fd, words, sizeof(words), (off_t)at), sizeof(words));
	}
	close(fd);
	return path;
}

static struct side *start_disk_with(const char *image, struct beats *b, const char *cmdline)
{
	struct side_options o = {
		.payload = "disk",
		.memory_mib = 16,
		.cmdline = cmdline,
		.beats = b,
		.more = (const char *[]){ "--disk", text_format("%s,id=d", image), NULL },
	};
	struct side *s = side_start("source", &o);

	await_message(b, "working");
	return s;
}

static struct side *start_disk(const char *image, struct beats *b)
{
	return start_disk_with(image, b, "blocks=1000");
}

static uint8_t *image_now(struct side *s, const char *image)
{
	stand_still(s);
	return read_image(image);
}

static json_t *job_args(const char *target, const char *sync, json_int_t speed)
{
	return json_pack("{s:s,s:s,s:s,s:I}", "device", "d", "target", world_path(target), "sync",
			 sync, "speed", speed);
}

static json_t *chain_args(const char *target, const char *sync, const char *below)
{
	json_t *args = job_args(target, sync, 0);

	json_object_set_new(args, "bitmap", json_string("b"));
	if (below)
		json_object_set_new(args, "backing-file", json_string(below));
	return args;
}

static json_t *on_disk(void)
{
	return json_pack("{s:s}", "device", "d");
}

static void expect_completed(struct side *s)
{
	json_t *data = qmp_event(s->qmp, "BLOCK_JOB_COMPLETED");

	check(!json_object_get(data, "error"), "%s", json_text(data, "error"));
	cr_assert_str_eq(json_text(data, "type"), "backup");
	cr_assert_str_eq(json_text(data, "device"), "d");
	cr_assert_eq(json_number(data, NULL, "offset"), json_number(data, NULL, "len"));
	cr_assert_eq(json_array_size(call(s, "query-block-jobs", NULL)), 0);
}

static bool there_is(const char *name)
{
	struct stat st;

	return lstat(world_path(name), &st) == 0;
}

static void expect_restored(const char *name, const uint8_t *want)
{
	uint8_t *got = malloc(IMAGE_BYTES);

	restore_chain(world_path(""), name, got, IMAGE_BYTES);
	for (uint64_t at = 0; at < IMAGE_BYTES; at += 512)
		check(memcmp(got + at, want + at, 512) == 0, "%s differs at %llu", name,
		      (unsigned long long)at);
	free(got);
}

/* qemu-img restores it to the same. The last step of a test. */
static void expect_restored_by_others(const char *name, const uint8_t *want)
{
	char *out = world_path("restored");
	uint8_t *got;

	if (system("qemu-img --version >/dev/null 2>&1") != 0)
		cr_skip_test("no qemu-img to read the chain; it is whole for our own reader");
	cr_assert_eq(system(text_format("qemu-img check -q %s && qemu-img convert -O raw %s %s",
					world_path(name), world_path(name), out)),
		     0);
	got = read_image(out);
	cr_assert_eq(memcmp(got, want, IMAGE_BYTES), 0);
	free(got);
}

/* It crawls while the guest overwrites what is not copied, then it may finish. */
Test(backup, full_while_the_guest_writes)
{
	static const char *const formats[] = { "raw", "qcow2" };
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_disk(image, b);

	for (unsigned int i = 0; i < 2; i++) {
		uint8_t *then = image_now(s, image);
		json_t *args = job_args(formats[i], "full", 1), *job;

		json_object_set_new(args, "format", json_string(formats[i]));
		call(s, "drive-backup", args);
		call(s, "cont", NULL);
		await_laps(b, 3);
		job = json_array_get(call(s, "query-block-jobs", NULL), 0);
		cr_assert_str_eq(json_text(job, "status"), "running");
		cr_assert_eq(json_number(job, NULL, "len"), IMAGE_BYTES);
		cr_assert_eq(json_number(job, NULL, "speed"), 1);
		cr_assert_gt(json_number(job, NULL, "offset"), 0);
		cr_assert_lt(json_number(job, NULL, "offset"), IMAGE_BYTES);
		cr_assert_not(there_is(formats[i]), "it has its name before it is whole");
		call(s, "block-job-set-speed", json_pack("{s:s,s:i}", "device", "d", "speed", 0));
		expect_completed(s);
		expect_restored(formats[i], then);
		free(then);
	}
	await_laps(b, 1);
}

/* Full, two increments, a move, two increments at the destination: each is its moment. */
Test(backup, a_chain_across_a_move)
{
	static const char *const names[] = { "12:00.raw", "1.qcow2", "2:00.qcow2", "3.qcow2",
					     "4.qcow2" };
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_disk(image, b);
	uint8_t *then[5], *last;

	call(s, "block-dirty-bitmap-add", json_pack("{s:s,s:s}", "node", "d", "name", "b"));
	for (unsigned int i = 0; i < 5; i++) {
		if (i == 3) {
			struct side *to = start_target("target", b);

			set_capability(s, "dirty-bitmaps", true);
			move(s, to);
			call(s, "quit", NULL);
			s = to;
		}
		then[i] = image_now(s, image);
		call(s, "drive-backup",
		     chain_args(names[i], i ? "incremental" : "full", i ? names[i - 1] : NULL));
		call(s, "cont", NULL);
		expect_completed(s);
		await_laps(b, 1);
	}
	for (unsigned int i = 0; i < 5; i++)
		expect_restored(names[i], then[i]);
	last = then[4];
	for (unsigned int i = 0; i < 4; i++)
		free(then[i]);
	expect_restored_by_others(names[4], last);
	free(last);
}

static void increment(struct side *s, const char *name, const char *below, uint8_t **then,
		      const char *image)
{
	await_laps(s->beats, 1);
	*then = image_now(s, image);
	call(s, "drive-backup", chain_args(name, below ? "incremental" : "full", below));
	call(s, "cont", NULL);
	expect_completed(s);
}

/* The destination dies while the bitmap is on its way, and while the guest is stopped for the switch; the source when it has given the guest away. The
 * chain goes on where the guest is; and when it is nowhere, what is complete is right. */
Test(backup, a_chain_when_a_peer_dies)
{
	static const char *const names[] = { "full.raw", "1.qcow2", "2.qcow2", "3.qcow2" };
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_disk(image, b), *to;
	uint8_t *then[4];

	call(s, "block-dirty-bitmap-add", json_pack("{s:s,s:s}", "node", "d", "name", "b"));
	increment(s, names[0], NULL, &then[0], image);
	set_capability(s, "dirty-bitmaps", true);
	for (unsigned int i = 0; i < 2; i++) {
		to = side_start(text_format("dies%u", i), &(struct side_options){ 0 });
		set_parameter(s, "max-bandwidth", i ? NO_CAP : BARELY);
		set_capability(s, "pause-before-switchover", i);
		begin_migration(s, side_uri(to));
		await_migration(s, i ? "pre-switchover" : "active");
		side_kill(to, SIGKILL);
		if (i)
			call(s, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"));
		expect_failed(s);
		increment(s, names[i + 1], names[i], &then[i + 1], image);
	}
	set_capability(s, "pause-before-switchover", false);
	to = start_target("target", b);
	move(s, to);
	side_kill(s, SIGKILL);
	side_wait(s);
	increment(to, names[3], names[2], &then[3], image);
	s = side_start("too-late", &(struct side_options){ 0 });
	set_parameter(to, "max-bandwidth", BARELY);
	set_capability(to, "dirty-bitmaps", true);
	begin_migration(to, side_uri(s));
	await_migration(to, "active");
	side_kill(to, SIGKILL);
	cr_assert_eq(side_wait(s), 1, "the destination ends, too");
	for (unsigned int i = 0; i < 4; i++) {
		expect_restored(names[i], then[i]);
		free(then[i]);
	}
}

static json_t *bitmaps_of(struct side *s)
{
	json_t *disk = json_array_get(call(s, "query-block", NULL), 0);

	return json_object_get(json_object_get(disk, "inserted"), "dirty-bitmaps");
}

static void refused_backup(struct side *s, json_t *args, const char *words)
{
	refused(s, "drive-backup", args, words);
	cr_assert_not(there_is("x"));
}

static struct side *run_backup(const char *name, struct side *s, const char *const *more)
{
	const char *args[20] = { "backup",	  "--control", text_format("unix:%s", s->control),
				 "--disk",	  "d",	       "--target",
				 world_path(name) };

	for (unsigned int i = 0; more[i]; i++)
		args[7 + i] = more[i];
	return side_spawn(name, args, &(struct side_options){ 0 });
}

#define run_backup(name, s, ...) run_backup(name, s, (const char *const[]){ __VA_ARGS__, NULL })

Test(backup, the_command)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_disk(image, b), *cli;
	uint8_t *then;

	cli = run_backup("full.raw", s, "--bitmap", "b", "--full");
	check(side_wait(cli) == 0 && side_said(cli, "8.00 MiB of disk 'd'"), "%s",
	      text_of(&cli->out));
	await_laps(b, 1);
	then = image_now(s, image);
	cli = run_backup("part.qcow2", s, "--bitmap", "b", "--backing", "full.raw", "--speed",
			 "1G");
	check(side_wait(cli) == 0, "%s", text_of(&cli->err));
	expect_restored("part.qcow2", then);
	free(then);
	call(s, "cont", NULL);

	/* What cannot be says why, and leaves nothing. */
	cli = run_backup("full.raw", s, "--full");
	check(side_wait(cli) == 1 && side_said(cli, "full.raw' is there already"), "%s",
	      text_of(&cli->err));
	cli = run_backup("x", s, "--bitmap", "nothing");
	check(side_wait(cli) == 1 && side_said(cli, "no dirty bitmap 'nothing'"), "%s",
	      text_of(&cli->err));
	cli = run_backup("x", s, "--bitmap", "b", "--format", "raw");
	check(side_wait(cli) == 2 && side_said(cli, "--format"), "%s", text_of(&cli->err));
	cli = side_spawn("x", (const char *[]){ "backup", "--disk", "d", "--target", "x", NULL },
			 &(struct side_options){ 0 });
	check(side_wait(cli) == 2 && side_said(cli, "--control unix:PATH is needed"), "%s",
	      text_of(&cli->err));
	cli = run_backup("x", s, "--bitmap", "b", "--backing", "\xff");
	check(side_wait(cli) == 1 && side_said(cli, "--backing: '?': expected UTF-8"), "%s",
	      text_of(&cli->err));
	cli = run_backup("x", s, "--backing-format", "raw");
	check(side_wait(cli) == 2 && side_said(cli, "--backing FILE is needed"), "%s",
	      text_of(&cli->err));
	cli = run_backup("full.raw", s, "--bitmap", "new", "--full");
	check(side_wait(cli) == 1 && side_said(cli, "is there already"), "%s", text_of(&cli->err));
	cr_assert_eq(json_array_size(bitmaps_of(s)), 1, "a bitmap without a backup");
	cr_assert_not(there_is("x"));
	await_laps(b, 1);
}

/* One command of a client, whole: it waits for its answer before the next. */
static void hear(int fd, const char *command)
{
	char line[4096] = "";

	poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1);
	cr_assert(read(fd, line, sizeof(line) - 1) > 0 && strstr(line, command), "%s", line);
}

static void say(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

#define COMPLETED(more)                                                                      \
	"{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"d\", \"len\": 1024, " \
	"\"offset\": 1024" more "}}\r\n"

/* A VMM that the test plays, as far as the answer to drive-backup. */
static struct side *talk_to(const char *name, int *fd)
{
	char *path = world_path(text_format("%s.control", name));
	int listen_fd = listen_unix(path);
	struct side *cli = side_run(name, "backup", "--control", text_format("unix:%s", path),
				    "--disk", "d", "--target", "x");

	poll(&(struct pollfd){ .fd = listen_fd, .events = POLLIN }, 1, -1);
	*fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	cr_assert(*fd >= 0);
	close(listen_fd);
	say(*fd, "{\"QMP\": {}}\r\n");
	hear(*fd, "qmp_capabilities");
	say(*fd, "{\"return\": {}}\r\n");
	hear(*fd, "drive-backup");
	return cli;
}

/* The end of the job before is not taken for that of this one. */
Test(backup, the_end_of_another)
{
	struct side *cli;
	int fd;

	cli = talk_to("cli", &fd);
	say(fd, COMPLETED("") "{\"return\": {}}\r\n");
	hear(fd, "query-block-jobs");
	say(fd, "{\"return\": []}\r\n");
	hear(fd, "query-block-jobs");
	say(fd, COMPLETED(", \"error\": \"no luck\"") "{\"return\": []}\r\n");
	check(side_wait(cli) == 1 && side_said(cli, "failed: no luck"), "%s", text_of(&cli->err));
	close(fd);
}

/* What the VMM has said before it ended counts, and is all that is told. */
Test(backup, the_last_words)
{
	struct side *cli;
	int fd;

	cli = talk_to("cli", &fd);
	say(fd, "{\"return\": {}}\r\n" COMPLETED(""));
	close(fd);
	check(side_wait(cli) == 0 && side_said(cli, "1.00 KiB of disk 'd'"), "%s",
	      text_of(&cli->err));
	cr_assert_str_eq(text_of(&cli->err), "");
}

/* args is taken over. */
static char *drive_backup(json_t *args)
{
	char *json = json_dumps(keep_json(args), 0);
	char *text = text_format("{\"execute\": \"drive-backup\", \"arguments\": %s}", json);

	free(json);
	return text;
}

/* All that is to be copied, nothing, is copied at once; then the target is still brought to disk, and its end told: the job is there all that time.
 * These commands come in one piece, so that the end cannot be told in between. */
Test(backup, one_at_a_time_to_its_end)
{
	struct side *s = start_disk(make_image("image"), new_beats());
	char *commands = drive_backup(chain_args("first", "incremental", NULL));
	json_t *answer;

	call(s, "stop", NULL);
	call(s, "block-dirty-bitmap-add", json_pack("{s:s,s:s}", "node", "d", "name", "b"));
	for (unsigned int i = 0; i < 100; i++)
		commands = text_format("%s{\"execute\":\"query-block\"}", commands);
	commands = text_format("%s%s", commands, drive_backup(job_args("second", "full", 0)));
	cr_assert_lt(strlen(commands), 4096);
	qmp_send(s->qmp, commands);
	for (unsigned int i = 0; i < 101; i++) {
		answer = qmp_answer(s->qmp);
		check(!json_object_get(answer, "error"), "answer %u is an error", i);
	}
	answer = json_object_get(qmp_answer(s->qmp), "error");
	check(strstr(json_text(answer, "desc"), "being backed up already"), "%s",
	      json_text(answer, "desc"));
	expect_completed(s);
	cr_assert_not(there_is("second"));
}

/* A file that may not grow is an error of the backup, and no end of the guest. */
Test(backup, a_limit_of_file_size)
{
	struct beats *b = new_beats();
	struct side *s = start_disk(make_image("image"), b);
	struct rlimit small = { IMAGE_BYTES / 2, IMAGE_BYTES / 2 };

	cr_assert_eq(prlimit(s->pid, RLIMIT_FSIZE, &small, NULL), 0);
	refused_backup(s, job_args("x", "full", 0), "File too large");
	await_laps(b, 1);
}

static json_int_t dirty_bytes(struct side *s)
{
	return json_number(json_array_get(bitmaps_of(s), 0), NULL, "count");
}

/* Ctrl-C. The bitmap has what it had. */
Test(backup, cancelled)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_disk(image, b), *cli;
	uint8_t *then;

	cli = run_backup("full.raw", s, "--bitmap", "b", "--full");
	cr_assert_eq(side_wait(cli), 0);
	await_laps(b, 1);
	cli = run_backup("part.qcow2", s, "--bitmap", "b", "--speed", "1");
	WAIT_FOR(json_array_size(call(s, "query-block-jobs", NULL)) == 1);
	side_kill(cli, SIGINT);
	check(side_wait(cli) == 1 && side_said(cli, "cancelled"), "%s", text_of(&cli->err));
	qmp_event(s->qmp, "BLOCK_JOB_CANCELLED");
	cr_assert_not(there_is("part.qcow2"));
	then = image_now(s, image);
	cr_assert_gt(dirty_bytes(s), 0);
	call(s, "drive-backup", chain_args("part.qcow2", "incremental", "full.raw"));
	expect_completed(s);
	expect_restored("part.qcow2", then);
	free(then);
}

/* What is kept is gone on with where the guest is. */
Test(backup, partial_and_moved)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_disk(image, b), *cli, *to;
	uint8_t *then;

	call(s, "drive-backup",
	     json_pack("{s:s,s:s,s:s,s:b,s:i}", "device", "d", "target", world_path("full.raw"),
		       "sync", "full", "partial", 1, "speed", 1));
	await_laps(b, 1);
	call(s, "block-job-cancel", on_disk());
	check(json_object_get(qmp_event(s->qmp, "BLOCK_JOB_CANCELLED"), "partial"), "not kept");
	cli = run_backup("full.raw", s, "--partial", "--speed", "1");
	WAIT_FOR(json_array_size(call(s, "query-block-jobs", NULL)) == 1);
	side_kill(cli, SIGINT);
	check(side_wait(cli) == 1 && side_said(cli, "the same command goes on with it"), "%s",
	      text_of(&cli->err));
	qmp_event(s->qmp, "BLOCK_JOB_CANCELLED");
	cr_assert_not(there_is("full.raw"));
	to = start_target("target", b);
	set_capability(s, "dirty-bitmaps", true);
	move(s, to);
	call(s, "quit", NULL);
	await_laps(b, 1);
	then = image_now(to, image);
	cli = run_backup("full.raw", to, "--partial");
	check(side_wait(cli) == 0, "%s", text_of(&cli->err));
	expect_restored("full.raw", then);
	cr_assert_eq(system(text_format("ls %s | grep -q partial", world_path(""))), 256);
	cli = run_backup("x", to, "--partial", "--format", "qcow2");
	check(side_wait(cli) == 2 && side_said(cli, "--partial"), "%s", text_of(&cli->err));
	free(then);
}

Test(backup, refused)
{
	struct side *s = start_disk(make_image("image"), new_beats());
	struct side *target = side_start("target", &(struct side_options){ 0 });
	json_t *args = job_args("x", "full", -1);

	refused_backup(s, args, "'speed' expects");
	refused_backup(s, job_args("x", "top", 0), "'sync' does not accept value 'top'");
	refused_backup(s, job_args("x", "incremental", 0), "'bitmap' is missing");
	refused_backup(s, chain_args("x", "incremental", NULL), "no dirty bitmap 'b'");
	refused_backup(s, chain_args("x", "full", "nothing"), "nothing': cannot open it");
	args = job_args("x", "full", 0);
	json_object_set_new(args, "format", json_string("vmdk"));
	refused_backup(s, args, "'format' does not accept value 'vmdk'");
	args = chain_args("x", "incremental", NULL);
	json_object_set_new(args, "format", json_string("raw"));
	refused_backup(s, args, "cannot hold a part of a disk");
	args = job_args("x", "full", 0);
	json_object_set_new(args, "format", json_string("qcow2"));
	json_object_set_new(args, "partial", json_true());
	refused_backup(s, args, "'partial' is for full backups");
	args = job_args("x", "full", 0);
	json_object_set_new(args, "device", json_string("e"));
	qmp_refused(s->qmp, "drive-backup", args, "DeviceNotFound", "no disk 'e'");
	qmp_refused(s->qmp, "block-job-cancel", on_disk(), "DeviceNotActive", "'d' not found");
	qmp_refused(s->qmp, "block-job-set-speed",
		    json_pack("{s:s,s:i}", "device", "d", "speed", 0), "DeviceNotActive", "'d'");
	args = chain_args("x", "full", "nothing");
	json_object_set_new(args, "backing-format", json_string("vmdk"));
	refused_backup(s, args, "'backing-format' does not accept value 'vmdk'");
	args = job_args("x", "full", 0);
	json_object_set_new(args, "backing-format", json_string("raw"));
	refused_backup(s, args, "'backing-file' is missing");

	/* A backup and a migration exclude each other. */
	call(s, "drive-backup", job_args("x", "full", 1));
	refused(s, "migrate", json_pack("{s:s}", "uri", side_uri(target)),
		"disk 'd' is being backed up");
	refused(s, "drive-backup", job_args("y", "full", 0), "being backed up already");
	call(s, "block-job-cancel", on_disk());
	qmp_event(s->qmp, "BLOCK_JOB_CANCELLED");
	set_capability(s, "pause-before-switchover", true);
	begin_migration(s, side_uri(target));
	await_migration(s, "pre-switchover");
	refused_backup(s, job_args("x", "full", 0), "is being migrated");
	call(s, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"));
	await_migration(s, "completed");
	refused_backup(s, job_args("x", "full", 0), "in state 'postmigrate'");
}

/* The guest is reset, with writes that wait: they are forgotten, the backup is not. */
Test(backup, the_guest_is_reset)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	/* A reset comes when some blocks have been written, which the next boot does not know of. */
	struct side *s = start_disk_with(image, b, "blocks=1000 used=1");
	uint8_t *then = image_now(s, image);

	call(s, "drive-backup", job_args("x", "full", 1));
	call(s, "cont", NULL);
	for (unsigned int i = 1; i <= 3; i++) {
		beats_allow_restart(b);
		call(s, "system_reset", NULL);
		WAIT_FOR(beats_messages(b, "working") == i + 1);
	}
	call(s, "block-job-set-speed", json_pack("{s:s,s:i}", "device", "d", "speed", 0));
	expect_completed(s);
	expect_restored("x", then);
	await_laps(b, 1);
	free(then);
}

/* The VMM ends while one runs; it dies. */
Test(backup, whatever_happens)
{
	struct beats *b = new_beats();
	char *image = make_image("image");
	struct side *s = start_disk(image, b);

	call(s, "drive-backup", job_args("x", "full", 1));
	await_laps(b, 1);
	call(s, "quit", NULL);
	qmp_event(s->qmp, "BLOCK_JOB_CANCELLED");
	cr_assert_eq(side_wait(s), 0);
	cr_assert_not(there_is("x"));

	/* Bitmaps end with the process: nothing is kept to be gone on with, nor what was gone on with. */
	s = start_disk(make_image("another"), new_beats());
	for (unsigned int i = 0; i < 2; i++) {
		json_t *args = job_args("x", "full", 1), *end;

		json_object_set_new(args, "partial", json_true());
		call(s, "drive-backup", args);
		call(s, i ? "quit" : "block-job-cancel", i ? NULL : on_disk());
		end = qmp_event(s->qmp, "BLOCK_JOB_CANCELLED");
		cr_assert_eq(json_object_get(end, "partial") != NULL, i == 0);
	}
	cr_assert_eq(side_wait(s), 0);
	cr_assert_eq(system(text_format("ls %s | grep -q partial", world_path(""))), 256);

	s = start_disk(make_image("second"), new_beats());
	call(s, "drive-backup", job_args("x", "full", 1));
	side_kill(s, SIGKILL);
	side_wait(s);
	cr_assert_not(there_is("x"), "what is not whole has no name");
}
