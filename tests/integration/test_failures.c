/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: whatever breaks before the switch, the guest runs on where it is, both sides say why, and a second try works.
 *
 * Approach: a cap of one byte a second keeps the source in its first pass, pre-switchover keeps it with the guest stopped; there a
 * process is killed, or asked to end. What a stranger sends to a waiting destination is turned away. After each trouble the same guest
 * moves for good.
 */
#include "migration/stream/protocol.h"
#include "tests/integration/moves.h"
#include "tests/integration/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/bytes.h"

TestSuite(failures, .init = world_begin, .fini = world_end, .timeout = 600);

struct pair {
	struct beats *beats;
	struct side *source, *target;
};

static struct pair start_pair(void)
{
	struct pair p = { .beats = new_beats() };

	p.source = start_work("source", p.beats, "");
	p.target = start_target("target", p.beats);
	return p;
}

/* In a pass that does not end. */
static struct pair go_active(void)
{
	struct pair p = start_pair();

	set_parameter(p.source, "max-bandwidth", BARELY);
	begin_migration(p.source, side_uri(p.target));
	await_migration(p.source, "active");
	await_migration(p.target, "active");
	await_beats(p.beats, 20);
	return p;
}

/* The guest is stopped, all but the last pages are sent. */
static struct pair go_pre_switchover(void)
{
	struct pair p = start_pair();

	set_capability(p.source, "pause-before-switchover", true);
	begin_migration(p.source, side_uri(p.target));
	await_migration(p.source, "pre-switchover");
	expect_status(p.source, "finish-migrate");
	return p;
}

static void try_again(struct pair *p)
{
	struct side *second = start_target("second", p->beats);

	await_beats(p->beats, 50);
	set_parameter(p->source, "max-bandwidth", NO_CAP);
	set_capability(p->source, "pause-before-switchover", false);
	move(p->source, second);
	await_beats(p->beats, 50);
	expect_moved(p->source, second, "running");
}

Test(failures, destination_killed_in_a_pass)
{
	struct pair p = go_active();

	side_kill(p.target, SIGKILL);
	expect_failed(p.source);
	try_again(&p);
}

Test(failures, destination_killed_in_pre_switchover)
{
	struct pair p = go_pre_switchover();
	uint64_t count = p.beats->count;

	side_kill(p.target, SIGKILL);
	/* Nobody says migrate-continue: the guest must not stay silent for somebody who is dead. */
	expect_failed(p.source);
	await_beats(p.beats, 20);
	cr_assert(p.beats->count > count);
	try_again(&p);
}

Test(failures, destination_asked_to_end_in_a_pass)
{
	struct pair p = go_active();

	call(p.target, "quit", NULL);
	cr_assert_eq(side_wait(p.target), 0);
	expect_failed(p.source);
	try_again(&p);
}

Test(failures, destination_terminated_in_pre_switchover)
{
	struct pair p = go_pre_switchover();

	side_kill(p.target, SIGTERM);
	cr_assert_eq(side_wait(p.target), 0);
	expect_failed(p.source);
	try_again(&p);
}

Test(failures, source_killed_in_a_pass)
{
	struct pair p = go_active();

	side_kill(p.source, SIGKILL);
	expect_refusal(p.target);
	cr_assert_eq(p.target->serial.len, 0);
}

Test(failures, source_killed_in_pre_switchover)
{
	struct pair p = go_pre_switchover();

	side_kill(p.source, SIGKILL);
	expect_refusal(p.target);
	cr_assert_eq(p.target->serial.len, 0);
}

Test(failures, source_terminated_in_a_pass)
{
	struct pair p = go_active();

	side_kill(p.source, SIGTERM);
	cr_assert_eq(side_wait(p.source), 0);
	expect_refusal(p.target);
}

Test(failures, source_quits_in_pre_switchover)
{
	struct pair p = go_pre_switchover();

	call(p.source, "quit", NULL);
	cr_assert_eq(side_wait(p.source), 0);
	expect_refusal(p.target);
	cr_assert_eq(p.target->serial.len, 0);
}

/* --- strangers --- */

static void say(int fd, const void *data, size_t len)
{
	cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void on_anything(void *opaque, short revents)
{
	(void)revents;
	*(bool *)opaque = true;
}

/* The destination must hang up. */
static void await_hang_up(int fd)
{
	bool hung_up = false;

	watch(fd, POLLIN, on_anything, &hung_up);
	WAIT_FOR(hung_up);
	unwatch(fd);
	close(fd);
}

Test(failures, strangers_at_the_door)
{
	static const char *const nonsense[] = { "GET / HTTP/1.1\r\nHost: here\r\n\r\n", "QEVM",
						"\x7f", "QEVM\0\0" };
	static const size_t lengths[] = { 27, 4, 1, 6 };
	struct pair p = start_pair();
	const char *path = side_uri(p.target) + strlen("unix:");

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int fd = connect_unix(path);

		cr_assert(fd >= 0);
		say(fd, nonsense[i], lengths[i]);
		shutdown(fd, SHUT_WR);
		await_hang_up(fd);
	}
	close(connect_unix(path));
	for (size_t i = 0; i < 3; i++)
		close(connect_unix(path));
	expect_status(p.target, "inmigrate");
	move(p.source, p.target);
	await_beats(p.beats, 50);
	expect_moved(p.source, p.target, "running");
	cr_assert(side_said(p.target, "turned away"));
}

/* Who connects and says nothing keeps the next one waiting for a while only. */
Test(failures, silent_stranger)
{
	struct pair p = start_pair();
	int fd = connect_unix(side_uri(p.target) + strlen("unix:"));

	cr_assert(fd >= 0);
	say(fd, "QE", 2);
	move(p.source, p.target);
	await_beats(p.beats, 50);
	expect_moved(p.source, p.target, "running");
	await_hang_up(fd);
}

/* A header that is right, then nothing of use: this is a migration that has failed. */
Test(failures, header_only)
{
	struct pair p = start_pair();
	int fd = connect_unix(side_uri(p.target) + strlen("unix:"));

	say(fd, "QEVM\0\0\0\x03", 8);
	shutdown(fd, SHUT_WR);
	expect_refusal(p.target);
	close(fd);
	try_again(&p);
}

/* --- a destination that talks --- */

static void add_notices(struct text *t, unsigned int n, size_t len)
{
	uint8_t head[4];
	char *words = calloc(1, len);

	put_be16(head, RETURN_NOTICE);
	put_be16(head + 2, (uint16_t)len);
	memset(words, 'n', len);
	for (unsigned int i = 0; i < n; i++) {
		text_add(t, head, sizeof(head));
		text_add(t, words, len);
	}
	free(words);
}

/* Behind the last PONG, so that they are there when the source looks for the next message. */
static const char *with_notices(const char *target_uri, const struct text *notices)
{
	static struct proxy_step script[] = {
		{ PROXY_INSERT, TO_SOURCE, PATTERN("\0\x02\0\x04\0\0\0\x02") },
		{ .action = PROXY_END },
	};

	script[0].insert = notices;
	return proxy_start(target_uri, script)->uri;
}

/* A notice is only information: what is beyond the limit is counted, and told once. */
Test(failures, more_notices_than_are_kept)
{
	struct pair p = start_pair();
	struct text notices = { 0 };
	json_t *warnings;

	add_notices(&notices, 100, 10);
	begin_migration(p.source, with_notices(side_uri(p.target), &notices));
	await_migration(p.source, "completed");
	await_migration(p.target, "completed");
	warnings = json_object_get(query_migrate(p.source), "warnings");
	cr_assert_eq(json_array_size(warnings), 64 + 1);
	cr_assert_str_eq(json_string_value(json_array_get(warnings, 63)),
			 "the destination: nnnnnnnnnn");
	cr_assert_str_eq(json_string_value(json_array_get(warnings, 64)),
			 "the destination: 36 more notices, which were dropped");
	WAIT_FOR(side_said(p.source, "more than 64 notices"));
	cr_assert_null(strstr(strstr(text_of(&p.source->err), "64 notices") + 1, "64 notices"));
	await_beats(p.beats, 50);
	expect_moved(p.source, p.target, "running");
	text_release(&notices);
}

/* One that does not end them is not believed. */
Test(failures, notices_without_end)
{
	struct pair p = start_pair();
	struct text notices = { 0 };
	const char *why;

	add_notices(&notices, (1 << 20) / (4 + COMMAND_DATA_MAX) + 1, COMMAND_DATA_MAX);
	begin_migration(p.source, with_notices(side_uri(p.target), &notices));
	why = expect_failed(p.source);
	check(strstr(why, "more than 1048576 bytes of notices"), "%s", why);
	expect_refusal(p.target);
	try_again(&p);
	text_release(&notices);
}

/* --- others --- */

/* The destination's serial line or control socket is in use: it says so and does not start. */
Test(failures, taken_names)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *first = start_target("first", b);
	struct side *second;

	second = side_launch("second", &(struct side_options){ .incoming = side_uri(first) });
	cr_assert_eq(side_wait(second), 1);
	cr_assert(side_said(second, "first.in"));
	second = side_run("third", "run", "--incoming", text_format("unix:%s", world_path("third")),
			  "--serial", "null", "--control", text_format("unix:%s", source->control));
	cr_assert_eq(side_wait(second), 1);
	cr_assert(side_said(second, "source.control"));
	move(source, first);
	await_beats(b, 50);
}

/* One migration at a time, and its settings stand while it runs. */
Test(failures, one_at_a_time)
{
	struct pair p = go_active();

	refused(p.source, "migrate", json_pack("{s:s}", "uri", side_uri(p.target)), "in progress");
	refused(p.source, "migrate-set-capabilities",
		json_pack("{s:[{s:s,s:b}]}", "capabilities", "capability", "xbzrle", "state", 0),
		"in progress");
	refused(p.source, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"),
		"active");
	set_parameter(p.source, "max-bandwidth", NO_CAP);
	await_migration(p.source, "completed");
	await_migration(p.target, "completed");
	expect_moved(p.source, p.target, "running");
	refused(p.source, "migrate", json_pack("{s:s}", "uri", "unix:/nowhere"), "not here");
	refused(p.source, "system_reset", NULL, "postmigrate");
	await_beats(p.beats, 50);
}
