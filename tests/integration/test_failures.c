/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: whatever breaks before the switch, the guest runs on where it is, both sides say why, and a second try works.
 *
 * Approach: a cap of one byte a second keeps the source in its first pass, pre-switchover keeps it with the guest stopped; there a
 * process is killed, or asked to end. What a stranger sends to a waiting destination is turned away. After each trouble the same guest
 * moves for good.
 */
#include "tests/integration/moves.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
