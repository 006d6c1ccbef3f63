/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the guest moves over each kind of channel and beats on, none of its beats lost.
 *
 * Approach: the same move for each kind. The checker of beats sees both serial lines as one guest's, and the guest checks its
 * own memory; after the move a lap of its check must be complete, so that every page was seen at the destination.
 */
#include "tests/integration/moves.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(uri, .init = world_begin, .fini = world_end, .timeout = 600);

/* Both are up; go and see. */
static void move_and_check(struct side *source, struct side *target, struct beats *b)
{
	move(source, target);
	await_beats(b, 100);
	expect_moved(source, target, "running");
	refused(source, "cont", NULL, "destination's");
}

static void move_over(const char *incoming)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target =
		side_start("target", &(struct side_options){ .incoming = incoming, .beats = b });

	move_and_check(source, target, b);
}

Test(uri, unix_socket)
{
	move_over(NULL);
}

Test(uri, tcp)
{
	move_over("tcp:127.0.0.1:0");
}

static bool has_ipv6(void)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool can = fd >= 0 && bind(fd, (struct sockaddr *)&sin6, sizeof(sin6)) == 0;

	if (fd >= 0)
		close(fd);
	return can;
}

Test(uri, tcp_ipv6)
{
	if (!has_ipv6())
		skip("no IPv6: ::1 cannot be bound: %s", strerror(errno));
	move_over("tcp:[::1]:0");
}

Test(uri, tcp_by_name)
{
	move_over("tcp:localhost:0");
}

Test(uri, inherited_socket)
{
	struct beats *b = new_beats();
	struct side *source, *target;
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	source = side_start("source", &(struct side_options){ .payload = "work",
							      .cmdline = "footprint=8M",
							      .beats = b,
							      .inherit_fd = ends[0] });
	await_message(b, "working");
	target = side_start("target",
			    &(struct side_options){ .incoming = text_format("fd:%d", ends[1]),
						    .beats = b,
						    .inherit_fd = ends[1] });
	close(ends[0]);
	close(ends[1]);
	begin_migration(source, text_format("fd:%d", ends[0]));
	await_migration(source, "completed");
	await_migration(target, "completed");
	await_beats(b, 100);
	expect_moved(source, target, "running");
}

/* A pipe carries no answer: what is complete at the source is believed. */
Test(uri, inherited_pipe)
{
	struct beats *b = new_beats();
	struct side *source, *target;
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	source = side_start("source", &(struct side_options){ .payload = "work",
							      .cmdline = "footprint=8M",
							      .beats = b,
							      .inherit_fd = ends[1] });
	await_message(b, "working");
	target = side_start("target",
			    &(struct side_options){ .incoming = text_format("fd:%d", ends[0]),
						    .beats = b,
						    .inherit_fd = ends[0] });
	close(ends[0]);
	close(ends[1]);
	begin_migration(source, text_format("fd:%d", ends[1]));
	await_migration(source, "completed");
	await_migration(target, "completed");
	await_beats(b, 100);
	expect_moved(source, target, "running");
}

Test(uri, file)
{
	struct beats *b = new_beats(), *twin = new_beats();
	struct side *source = start_work("source", b, "");
	char *uri = text_format("file:%s", world_path("guest.stream"));
	struct side *target;
	struct stat st;

	begin_migration(source, uri);
	await_migration(source, "completed");
	expect_status(source, "postmigrate");
	cr_assert_eq(stat(uri + 5, &st), 0);
	cr_assert(st.st_size > 8 << 20, "the footprint must be in the file");
	call(source, "quit", NULL);
	cr_assert_eq(side_wait(source), 0);
	beats_fork(b, twin);
	target = side_start("target", &(struct side_options){ .incoming = uri, .beats = b });
	await_beats(b, 100);
	expect_status(target, "running");
	/* The file can be started from again, and the guest goes on from where it was then. */
	side_start("again", &(struct side_options){ .incoming = uri, .beats = twin });
	await_beats(twin, 100);
}

/* A file that cannot be written costs nothing; one that is cut off is no guest. */
Test(uri, file_trouble)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	char *path = world_path("guest.stream");
	struct side *target;
	const char *why;

	begin_migration(source, "file:/nonexistent/guest.stream");
	why = expect_failed(source);
	cr_assert(strstr(why, "/nonexistent/guest.stream"), "%s", why);
	await_beats(b, 20);
	begin_migration(source, text_format("file:%s", path));
	await_migration(source, "completed");
	cr_assert_eq(truncate(path, 1 << 20), 0);
	target = side_launch("target",
			     &(struct side_options){ .incoming = text_format("file:%s", path) });
	expect_refusal(target);
	cr_assert_eq(target->serial.len, 0);
	target = side_launch("absent", &(struct side_options){ .incoming = "file:/nonexistent/x" });
	cr_assert_eq(side_wait(target), 1);
	cr_assert(side_said(target, "/nonexistent/x"));
}

Test(uri, defer)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target =
		side_start("target", &(struct side_options){ .incoming = "defer", .beats = b });
	char *uri = text_format("unix:%s", world_path("deferred"));

	expect_status(target, "inmigrate");
	cr_assert_eq(json_object_size(query_migrate(target)), 0);
	refused(target, "migrate-incoming", json_pack("{s:s}", "uri", "carrier:pigeon"),
		"carrier:pigeon");
	refused(target, "migrate", json_pack("{s:s}", "uri", uri), "incoming");
	call(target, "migrate-incoming", json_pack("{s:s}", "uri", uri));
	refused(target, "migrate-incoming", json_pack("{s:s}", "uri", uri), "already");
	move_and_check(source, target, b);
	refused(source, "migrate-incoming", json_pack("{s:s}", "uri", uri), "defer");
}

Test(uri, wrong_addresses)
{
	static const struct {
		const char *uri, *words;
	} cases[] = {
		{ "unix:", "unix:PATH" },
		{ "tcp:127.0.0.1", "tcp:HOST:PORT" },
		{ "pigeon:left", "'pigeon:left'" },
		{ "fd:x", "fd:N" },
		{ "", "unix:PATH" },
	};
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	const char *why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refused(source, "migrate", json_pack("{s:s}", "uri", cases[i].uri), cases[i].words);
	begin_migration(source, text_format("unix:%s", world_path("nobody")));
	why = expect_failed(source);
	cr_assert(strstr(why, "nobody"), "'%s' does not name the peer", why);
	begin_migration(source, "fd:77");
	why = expect_failed(source);
	cr_assert(strstr(why, "fd:77"), "'%s' does not name the peer", why);
	await_beats(b, 20);
}
