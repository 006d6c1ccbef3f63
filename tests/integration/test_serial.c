/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: not a byte of a guest's output is lost: not to a reader that is slow while the guest moves, not to one that comes late or
 * goes, on any kind of serial line; and a terminal is left as it was found.
 *
 * Approach: the slow reader's line is a pipe of one page of the kernel's, which the guest's very first words fill, so all that
 * follows is kept by ferry and travels with the guest. What the destination prints while its guest is still paused can
 * only be what has travelled.
 */
#include "tests/integration/moves.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

TestSuite(serial, .init = world_begin, .fini = world_end, .timeout = 600);

static void set_true(void *opaque, short revents)
{
	(void)revents;
	*(bool *)opaque = true;
}

static void await_readable(int fd)
{
	bool readable = false;

	watch(fd, POLLIN, set_true, &readable);
	WAIT_FOR(readable);
	unwatch(fd);
}

/* All that is there, without waiting. */
static size_t feed_all(struct beats *b, const char *from, int fd)
{
	struct text t = { 0 };
	size_t n;

	while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) > 0 &&
	       (n = t.len, text_read(&t, fd)) && t.len > n)
		;
	beats_feed(b, from, text_of(&t), t.len);
	n = t.len;
	text_release(&t);
	return n;
}

/* The guest is stopped behind a reader that has taken nothing. */
static struct side *start_unread(const char *cmdline, int pipe_fds[2])
{
	struct side *s;

	cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	cr_assert_eq(fcntl(pipe_fds[1], F_SETPIPE_SZ, 4096), 4096);
	s = side_start("source", &(struct side_options){ .payload = "timer",
							 .memory_mib = 16,
							 .cmdline = cmdline,
							 .serial = "stdio",
							 .out_fd = pipe_fds[1] });
	close(pipe_fds[1]);
	await_readable(pipe_fds[0]);
	return s;
}

Test(serial, slow_reader)
{
	struct beats *b = new_beats();
	int fds[2];
	struct side *source = start_unread("source=lapic hz=10000", fds);
	struct side *target = side_start("target", &(struct side_options){ 0 });

	set_parameter(source, "max-bandwidth", BARELY);
	begin_migration(source, side_uri(target));
	await_pass(source, 1);
	call(source, "stop", NULL);
	set_parameter(source, "max-bandwidth", NO_CAP);
	await_migration(source, "completed");
	await_migration(target, "completed");
	expect_moved(source, target, "paused");
	/* Nothing was read yet, nowhere; now all, the source's part first. */
	cr_assert(feed_all(b, "source", fds[0]) > 0);
	WAIT_FOR(target->serial.len > 0); /* what has travelled */
	world_turn_now();
	beats_feed(b, "target", text_of(&target->serial), target->serial.len);
	cr_assert(!b->wrong, "%s", b->why);
	target->beats = b;
	call(target, "cont", NULL);
	await_beats(b, 1000);
	cr_assert_not_null(beats_message(b, "timer"));
	close(fds[0]);
}

/* Paused by no one, and over two moves, still unread; the guest waits for its reader where the serial port keeps no more. */
Test(serial, reader_that_comes_very_late)
{
	struct beats *b = new_beats();
	int fds[2];
	struct side *source = start_unread("source=lapic hz=20000", fds);
	struct side *target = start_target("target", b), *third = start_target("third", b);

	side_hold_serial(target);
	side_hold_serial(third);
	move(source, target);
	expect_moved(source, target, "running");
	move(target, third);
	expect_moved(target, third, "running");
	feed_all(b, "source", fds[0]);
	side_release_serial(target);
	side_release_serial(third);
	await_beats(b, 2000);
	close(fds[0]);
}

/* --- kinds of lines --- */

Test(serial, file)
{
	char *path = world_path("out.txt");
	struct side_options o = { .payload = "hello",
				  .serial = text_format("file:%s", path),
				  .no_control = true };
	struct text t = { 0 };
	int fd;

	for (int i = 0; i < 2; i++) /* the second one empties it first */
		cr_assert_eq(side_wait(side_start("vm", &o)), 1);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	text_read(&t, fd);
	close(fd);
	cr_assert_str_eq(text_of(&t), "# hello from the guest\n");
	text_release(&t);
}

static off_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : 0;
}

/* A file's growth is no event: the guest is given the time of an answer again and again. */
static void await_size(struct side *s, const char *path, off_t size)
{
	while (file_size(path) < size)
		call(s, "query-status", NULL);
}

/* One file for both sides: the destination goes on where the source has stopped. */
Test(serial, file_over_a_move)
{
	struct beats *b = new_beats();
	char *path = world_path("out.txt");
	char *serial = text_format("file:%s", path);
	struct side_options o = {
		.payload = "work", .memory_mib = 24, .cmdline = "footprint=4M", .serial = serial
	};
	struct side *source = side_start("source", &o);
	struct side *target = side_start("target", &(struct side_options){ .serial = serial });
	struct text t = { 0 };
	off_t before;
	int fd;

	await_size(source, path, 200);
	before = file_size(path);
	move(source, target);
	await_size(target, path, before + 200);
	call(target, "stop", NULL);
	call(target, "quit", NULL);
	cr_assert_eq(side_wait(target), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (text_read(&t, fd))
		;
	close(fd);
	beats_feed(b, "file", text_of(&t), t.len);
	text_release(&t);
	cr_assert(!b->wrong, "%s", b->why);
	cr_assert_not_null(beats_message(b, "work"));
}

Test(serial, listening_socket)
{
	struct beats *b = new_beats();
	char *path = world_path("line");
	struct side *s = side_start(
		"vm", &(struct side_options){ .payload = "hello",
					      .serial = text_format("unix:%s,server", path),
					      .more = (const char *[]){ "--paused", NULL } });
	int fd = connect_unix(path);

	cr_assert(fd >= 0);
	call(s, "cont", NULL);
	await_readable(fd);
	side_wait(s);
	feed_all(b, "vm", fd);
	cr_assert_not_null(beats_message(b, "hello from the guest"));
	cr_assert_neq(access(path, F_OK), 0, "the serial socket is still there");
	close(fd);
}

/* What the guest said before anybody listened is kept for the first one; a second reader comes after the first has gone. */
Test(serial, late_and_next_reader)
{
	struct beats *b = new_beats();
	char *path = world_path("line");
	struct side *s = side_start(
		"vm", &(struct side_options){ .payload = "timer",
					      .cmdline = "source=lapic hz=100",
					      .serial = text_format("unix:%s,server", path) });
	int fd;

	call(s, "query-status", NULL);
	fd = connect_unix(path);
	cr_assert(fd >= 0);
	while (b->count < 5) {
		await_readable(fd);
		feed_all(b, "vm", fd);
		cr_assert(!b->wrong, "%s", b->why);
	}
	cr_assert_not_null(beats_message(b, "timer"));
	close(fd);
	fd = connect_unix(path);
	cr_assert(fd >= 0);
	await_readable(fd);
	await_readable(fd);
	close(fd);
	expect_status(s, "running");
}

Test(serial, pty)
{
	struct beats *b = new_beats();
	struct side *s = side_start(
		"vm", &(struct side_options){ .payload = "timer",
					      .cmdline = "source=lapic",
					      .serial = "pty",
					      .more = (const char *[]){ "--paused", NULL } });
	const char *name;
	int fd;

	WAIT_FOR(side_said(s, "serial: /dev/pts/") && strchr(text_of(&s->err), '\n'));
	name = strstr(text_of(&s->err), "/dev/pts/");
	fd = open(text_format("%.*s", (int)strcspn(name, "\n"), name),
		  O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	cr_assert(fd >= 0, "%s: %s", name, strerror(errno));
	call(s, "cont", NULL);
	/* The guest must not end meanwhile: a pty whose master is closed drops what was not read. */
	while (b->count < 5) {
		await_readable(fd);
		cr_assert(feed_all(b, "vm", fd) > 0, "the pty ended early");
		cr_assert(!b->wrong, "%s", b->why);
	}
	cr_assert_not_null(beats_message(b, "timer"));
	call(s, "quit", NULL);
	cr_assert_eq(side_wait(s), 0);
	close(fd);
}

Test(serial, null)
{
	struct side *s = side_start("vm", &(struct side_options){ .payload = "work",
								  .cmdline = "footprint=4M run=50",
								  .serial = "null",
								  .no_control = true });

	cr_assert_eq(side_wait(s), 1);
	cr_assert_eq(s->out.len, 0);
}

Test(serial, bad_lines)
{
	static const char *const specs[] = { "file:/nonexistent/file", "unix:/nonexistent/socket",
					     "unix:/nonexistent/socket,server" };

	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct side *s = side_launch(
			"vm", &(struct side_options){ .payload = "hello", .serial = specs[i] });

		check(side_wait(s) == 1, "%s: exit status %d", specs[i], s->status);
		check(side_said(s, "/nonexistent/"), "%s is not named", specs[i]);
	}
}

/* --- a terminal --- */

struct terminal {
	int master, slave;
	struct termios before;
};

static struct terminal open_terminal(void)
{
	struct terminal t;

	cr_assert_eq(openpty(&t.master, &t.slave, NULL, NULL, NULL), 0);
	fcntl(t.master, F_SETFD, FD_CLOEXEC);
	fcntl(t.slave, F_SETFD, FD_CLOEXEC);
	fcntl(t.master, F_SETFL, O_NONBLOCK);
	cr_assert_eq(tcgetattr(t.slave, &t.before), 0);
	return t;
}

static void close_terminal(struct terminal *t)
{
	struct termios after;

	cr_assert_eq(tcgetattr(t->slave, &after), 0);
	cr_assert_eq(after.c_lflag, t->before.c_lflag, "the terminal is left raw");
	cr_assert_eq(after.c_iflag, t->before.c_iflag);
	cr_assert_eq(after.c_oflag, t->before.c_oflag);
	close(t->master);
	close(t->slave);
}

static struct side *start_on(struct terminal *t, const char *payload)
{
	struct side *s = side_start("vm", &(struct side_options){ .payload = payload,
								  .cmdline = "",
								  .serial = "stdio",
								  .terminal_fd = t->slave });
	struct termios now;

	await_readable(t->master);
	cr_assert_eq(tcgetattr(t->slave, &now), 0);
	cr_assert_eq(now.c_lflag & (ICANON | ECHO | ISIG), 0, "the terminal is not raw");
	return s;
}

Test(serial, terminal_left_by_ctrl_a_x)
{
	struct terminal t = open_terminal();
	struct side *s = start_on(&t, "timer");

	cr_assert_eq(write(t.master, "\x01\x01q\x03\x01x", 6), 6); /* Ctrl-C is the guest's */
	cr_assert_eq(side_wait(s), 0);
	close_terminal(&t);
}

Test(serial, terminal_after_a_signal)
{
	struct terminal t = open_terminal();
	struct side *s = start_on(&t, "timer");

	side_kill(s, SIGTERM);
	cr_assert_eq(side_wait(s), 0);
	close_terminal(&t);
}

Test(serial, terminal_after_the_guests_end)
{
	struct terminal t = open_terminal();
	struct side *s = side_start("vm", &(struct side_options){ .payload = "hello",
								  .cmdline = "exit=3",
								  .serial = "stdio",
								  .terminal_fd = t.slave,
								  .no_control = true });

	cr_assert_eq(side_wait(s), 7);
	close_terminal(&t);
}
