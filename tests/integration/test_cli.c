/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: `ferry migrate` does what it says: it moves the guest, shows how, and its exit status tells.
 *
 * Approach: it is run beside the test's own control connection, which sees what it does; what it prints is looked at for
 * what a person wants to know, not for its layout.
 */
#include "tests/integration/moves.h"
#include "tests/integration/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"

TestSuite(cli, .init = world_begin, .fini = world_end, .timeout = 600);

struct stage {
	struct beats *beats;
	struct side *source, *target;
};

static struct stage set_stage(void)
{
	struct stage s = { .beats = new_beats() };

	s.source = start_work("source", s.beats, "");
	s.target = start_target("target", s.beats);
	return s;
}

#define MIGRATE(s, uri, ...)                                                                   \
	side_run("migrate", "migrate", "--control", text_format("unix:%s", (s)->control), uri, \
		 ##__VA_ARGS__)

Test(cli, moves)
{
	static const char *const words[] = { "moved to", "total", "blackout", "sent", "passes" };
	struct stage s = set_stage();
	struct side *cli = MIGRATE(s.source, side_uri(s.target));

	check(side_wait(cli) == 0, "exit status %d", cli->status);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		cr_assert(strstr(text_of(&cli->out), words[i]), "'%s' is missing in: %s", words[i],
			  text_of(&cli->out));
	cr_assert_eq(cli->err.len, 0, "%s", text_of(&cli->err));
	cr_assert_null(strchr(text_of(&cli->out), '\033'), "escapes without a terminal");
	expect_moved(s.source, s.target, "running");
	await_beats(s.beats, 50);
}

Test(cli, options)
{
	struct stage s = set_stage();
	struct side *cli = MIGRATE(s.source, side_uri(s.target), "--bandwidth", "64M", "--downtime",
				   "200ms", "--xbzrle", "on", "--cache", "16M");
	json_t *params;

	check(side_wait(cli) == 0, "exit status %d", cli->status);
	params = call(s.source, "query-migrate-parameters", NULL);
	cr_assert_eq(json_number(params, NULL, "max-bandwidth"), 64 << 20);
	cr_assert_eq(json_number(params, NULL, "downtime-limit"), 200);
	cr_assert_eq(json_number(params, NULL, "xbzrle-cache-size"), 16 << 20);
	cr_assert(strstr(text_of(&cli->out), "xbzrle"));
	await_beats(s.beats, 50);
	cli = MIGRATE(s.target, text_format("file:%s", world_path("out")), "--xbzrle", "off");
	check(side_wait(cli) == 0, "exit status %d", cli->status);
}

Test(cli, fails)
{
	struct stage s = set_stage();
	struct side *cli = MIGRATE(s.source, text_format("unix:%s", world_path("nobody")));

	check(side_wait(cli) == 1, "exit status %d", cli->status);
	cr_assert(side_said(cli, "nobody"), "%s", text_of(&cli->err));
	cli = MIGRATE(s.source, "carrier:pigeon");
	cr_assert_neq(side_wait(cli), 0);
	cr_assert(side_said(cli, "carrier:pigeon"));
	await_beats(s.beats, 20);
	cli = MIGRATE(s.source, side_uri(s.target));
	check(side_wait(cli) == 0, "exit status %d", cli->status);
	await_beats(s.beats, 20);
	cli = MIGRATE(s.source, side_uri(s.target));
	check(side_wait(cli) == 1, "a guest that has gone: exit status %d", cli->status);
	cr_assert(side_said(cli, "not here any more"), "%s", text_of(&cli->err));
}

Test(cli, reason_of_the_destination)
{
	static const struct proxy_step script[] = { { PROXY_FLIP, TO_TARGET,
						      PATTERN("configuration/cpu"), .flip = 0x01 },
						    { .action = PROXY_END } };
	struct stage s = set_stage();
	struct side *cli = MIGRATE(s.source, proxy_start(side_uri(s.target), script)->uri);

	check(side_wait(cli) == 1, "exit status %d", cli->status);
	cr_assert(side_said(cli, "configuration/cpt"), "%s", text_of(&cli->err));
	expect_refusal(s.target);
	expect_status(s.source, "running");
}

Test(cli, ctrl_c_cancels)
{
	struct stage s = set_stage();
	struct side *cli = MIGRATE(s.source, side_uri(s.target), "--bandwidth", "1");

	await_migration(s.source, "active");
	side_kill(cli, SIGINT);
	check(side_wait(cli) == 1, "exit status %d", cli->status);
	cr_assert(side_said(cli, "cancelled"), "%s", text_of(&cli->err));
	expect_refusal(s.target);
	expect_status(s.source, "running");
	await_beats(s.beats, 50);
}

/* A VMM that says `greeting` and answers the first command, or does neither; the connection of the ferry that asks it. */
static int silent_vmm(struct side **cli, const char *greeting)
{
	const char *path = world_path("silent");
	int listen_fd = listen_unix(path), fd;
	struct pollfd caller = { .fd = listen_fd, .events = POLLIN };
	char request[256];

	*cli = side_run("migrate", "migrate", "--control", text_format("unix:%s", path),
			"unix:nowhere");
	check(poll(&caller, 1, -1) == 1, "poll: %s", strerror(errno));
	fd = accept(listen_fd, NULL, NULL);
	check(fd >= 0, "accept: %s", strerror(errno));
	close(listen_fd);
	for (; greeting; greeting = strstr(greeting, "return") ? NULL : "{\"return\": {}}\n") {
		check(write(fd, greeting, strlen(greeting)) > 0, "write");
		check(read(fd, request, sizeof(request)) > 0, "no request");
	}
	return fd;
}

/* Nothing has been begun, so nothing is to be called off. */
Test(cli, ctrl_c_where_nobody_answers)
{
	struct side *cli;
	int fd = silent_vmm(&cli, NULL);

	side_kill(cli, SIGINT);
	check(side_wait(cli) == 128 + SIGINT, "exit status %d", cli->status);
	close(fd);
}

/* The first one is a wish that can be told only after an answer; so the next one ends it, if it is not part of the first. */
Test(cli, a_second_ctrl_c_ends_it)
{
	uint64_t start = clock_now_ns(), deadline = world_deadline();
	struct side *cli;
	int fd = silent_vmm(&cli, "{\"QMP\": {}}\n");

	while (!cli->exited) {
		check(clock_now_ns() < deadline, "it does not end");
		side_kill(cli, SIGINT);
		world_turn(clock_now_ns() + 10 * NS_PER_MS);
	}
	check(cli->status == 128 + SIGINT, "exit status %d", cli->status);
	cr_assert_geq(clock_now_ns() - start, NS_PER_SEC / 2);
	close(fd);
}

Test(cli, source_dies)
{
	struct stage s = set_stage();
	struct side *cli = MIGRATE(s.source, side_uri(s.target), "--bandwidth", "1");

	await_migration(s.source, "active");
	side_kill(s.source, SIGKILL);
	check(side_wait(cli) == 1, "exit status %d", cli->status);
	cr_assert(cli->err.len > 0, "no word of why");
}

Test(cli, last_word_lost)
{
	static const struct proxy_step script[] = { { PROXY_PASS, TO_SOURCE, SHUT_0 },
						    { PROXY_CUT, TO_TARGET, HAND_OVER },
						    { .action = PROXY_END } };
	struct stage s = set_stage();
	struct side *cli = MIGRATE(s.source, proxy_start(side_uri(s.target), script)->uri);

	check(side_wait(cli) == 1, "exit status %d", cli->status);
	cr_assert(side_said(cli, "last word was lost"), "%s", text_of(&cli->err));
	expect_status(s.source, "handover-in-doubt");
	await_migration(s.target, "in-doubt"); /* there is nothing to claim before */
	call(s.target, "cont", json_pack("{s:b}", "claim-guest", 1));
	await_beats(s.beats, 50);
}

struct terminal {
	int master, slave;
	struct text shown;
};

static void on_terminal(void *opaque, short revents)
{
	struct terminal *t = opaque;

	(void)revents;
	text_read(&t->shown, t->master);
}

/* On a terminal there is a bar, and in the end the summary. */
Test(cli, on_a_terminal)
{
	struct stage s = set_stage();
	struct terminal t = { 0 };
	struct side *cli;

	cr_assert_eq(openpty(&t.master, &t.slave, NULL, NULL, NULL), 0);
	fcntl(t.master, F_SETFL, O_NONBLOCK);
	fcntl(t.master, F_SETFD, FD_CLOEXEC);
	fcntl(t.slave, F_SETFD, FD_CLOEXEC);
	cli = side_spawn("migrate",
			 (const char *[]){ "migrate", "--control",
					   text_format("unix:%s", s.source->control),
					   side_uri(s.target), "--bandwidth", "1", NULL },
			 &(struct side_options){ .terminal_fd = t.slave });
	watch(t.master, POLLIN, on_terminal, &t);
	await_migration(s.source, "active");
	set_parameter(s.source, "max-bandwidth", NO_CAP);
	check(side_wait(cli) == 0, "exit status %d", cli->status);
	WAIT_FOR(strstr(text_of(&t.shown), "moved to"));
	cr_assert(strstr(text_of(&t.shown), "\033[K"), "no progress: %s", text_of(&t.shown));
	unwatch(t.master);
	text_release(&t.shown);
	close(t.master);
	close(t.slave);
	await_beats(s.beats, 50);
}
