/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: between a serial port and whoever is at the other end of the line nothing is lost, doubled
 * or put out of order, however slow the reader; nobody waits for ever; and the loop sleeps when
 * there is nothing to do.
 *
 * How: a chardev of each kind with a client that counts its calls, then a 16550A behind one (with
 * KVM). The event loop's thread stands still but for the turns that the test gives it, so that
 * "nothing more comes" is a fact and not a time-out.
 */
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <termios.h>

#include "devices/backend/chardev.h"
#include "devices/uart16550.h"
#include "migration/stream/section.h"
#include "migration/stream/transport.h"
#include "tests/unit/kvm_support.h"
#include "vmm/base/log.h"
#include "vmm/kvm/irqchip.h"

/* --- a loop that moves by turns, and a chardev in it --- */

struct line {
	char dir[64], path[96];
	struct loop *loop;
	struct chardev *cd;
	int gate_fd; /* an event that is always there */
	struct loop_handle *gate;
	sem_t go, done;
	pthread_t thread;
	/* the client */
	size_t room;
	bool room_comes; /* while room() is being asked */
	unsigned int room_calls, can_send_calls, left;
	uint8_t got[4096];
	size_t ngot;
};

static void at_the_gate(void *opaque, uint32_t events)
{
	struct line *l = opaque;

	(void)events;
	sem_post(&l->done);
	sem_wait(&l->go);
}

static void *run_loop(void *loop)
{
	loop_run(loop);
	return NULL;
}

/* The loop handles every event that there is now, and stands still again. */
static void turn(struct line *l)
{
	for (unsigned int i = 0; i < 3; i++) {
		sem_post(&l->go);
		sem_wait(&l->done);
	}
}

static size_t client_room(void *opaque)
{
	struct line *l = opaque;
	size_t room = l->room;

	l->room_calls++;
	if (l->room_comes) { /* another thread makes room at this moment */
		l->room_comes = false;
		l->room = 100;
		chardev_room_again(l->cd);
	}
	return room;
}

static void client_receive(void *opaque, const uint8_t *data, size_t len)
{
	struct line *l = opaque;

	cr_assert_leq(len, l->room, "more than there is room for");
	cr_assert_leq(l->ngot + len, sizeof(l->got));
	memcpy(l->got + l->ngot, data, len);
	l->ngot += len;
	l->room -= len;
}

static void client_can_send(void *opaque)
{
	((struct line *)opaque)->can_send_calls++;
}

static void on_leave(void *opaque)
{
	((struct line *)opaque)->left++;
}

static const struct chardev_client client = { client_room, client_receive, client_can_send };

/* "%s" in spec becomes the path of a scratch file. */
static void line_open(struct line *l, const char *spec)
{
	struct error *err = NULL;
	char full[160];

	*l = (struct line){ 0 };
	scratch_make(l->dir);
	snprintf(l->path, sizeof(l->path), "%s/line", l->dir);
	snprintf(full, sizeof(full), spec, l->path);
	l->loop = loop_new(&err);
	expect_ok(l->loop, err);
	l->cd = chardev_open(l->loop, full, false, on_leave, l, &err);
	expect_ok(l->cd, err);
	chardev_attach(l->cd, &client, l);
	l->gate_fd = eventfd(1, EFD_CLOEXEC);
	l->gate = loop_add(l->loop, l->gate_fd, EPOLLIN, at_the_gate, l);
	sem_init(&l->go, 0, 0);
	sem_init(&l->done, 0, 0);
	cr_assert_eq(pthread_create(&l->thread, NULL, run_loop, l->loop), 0);
	sem_wait(&l->done);
}

static void line_stop(struct line *l)
{
	loop_quit(l->loop);
	sem_post(&l->go);
	pthread_join(l->thread, NULL);
}

static void line_close(struct line *l)
{
	loop_remove(l->gate);
	chardev_close(l->cd);
	loop_free(l->loop);
	close(l->gate_fd);
	cr_assert_eq(scratch_count(l->dir), 0, "a socket's name is left behind");
	scratch_remove(l->dir);
}

static int reader_connect(struct line *l)
{
	struct error *err = NULL;
	int fd = unix_connect(l->path, &err);

	expect_ok(fd >= 0, err);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	turn(l);
	return fd;
}

static size_t send_text(struct line *l, const char *text)
{
	return chardev_write(l->cd, (const uint8_t *)text, strlen(text));
}

static void expect_got(struct line *l, const char *text)
{
	cr_assert(l->ngot == strlen(text) && !memcmp(l->got, text, l->ngot), "got %zu: '%.*s'",
		  l->ngot, (int)l->ngot, (char *)l->got);
	l->ngot = 0;
}

static void expect_read(int fd, const char *text)
{
	char buf[256];
	ssize_t n = read(fd, buf, sizeof(buf));

	cr_assert(n == (ssize_t)strlen(text) && !memcmp(buf, text, (size_t)n),
		  "read %zd, expected '%s'", n, text);
}

/* Write until no more is taken; how many bytes that were. */
static size_t fill(struct line *l)
{
	static const uint8_t block[1000];
	size_t n, sum = 0;

	while ((n = chardev_write(l->cd, block, sizeof(block))) > 0)
		sum += n;
	return sum;
}

static size_t drain(int fd)
{
	static uint8_t sink[1 << 16];
	size_t sum = 0;
	ssize_t n;

	while ((n = read(fd, sink, sizeof(sink))) > 0)
		sum += (size_t)n;
	return sum;
}

/* --- kinds --- */

Test(chardev, specifications)
{
	static const char *const bad[] = { "", "nul", "file", "file:", "unix:", "tty", "null " };
	struct error *err = NULL;
	struct loop *loop = loop_new(NULL);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_null(chardev_open(loop, bad[i], false, on_leave, NULL, &err));
		expect_error(err, "expected stdio, null, pty, file:PATH or unix:PATH[,server]");
	}
	cr_assert_null(chardev_open(loop, "file:/nowhere/x", false, on_leave, NULL, &err));
	expect_error(err, "serial: cannot open '/nowhere/x'");
	cr_assert_null(chardev_open(loop, "unix:/nowhere/x", false, on_leave, NULL, &err));
	expect_error(err, "serial: ");
	cr_assert_null(chardev_open(loop, "unix:/nowhere/x,server", false, on_leave, NULL, &err));
	expect_error(err, "/nowhere/x");
	loop_free(loop);
	chardev_close(NULL);
}

Test(chardev, null_takes_all)
{
	struct line l;

	line_open(&l, "null");
	cr_assert(chardev_connected(l.cd));
	cr_assert_eq(send_text(&l, "vanishes"), 8);
	turn(&l);
	cr_assert_eq(l.room_calls + l.can_send_calls, 0);
	line_stop(&l);
	line_close(&l);
}

Test(chardev, a_file_is_emptied_or_appended_to)
{
	struct loop *loop = loop_new(NULL);
	char dir[64], path[96], spec[128];

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/out", dir);
	snprintf(spec, sizeof(spec), "file:%s", path);
	for (unsigned int append = 0; append < 2; append++) {
		for (unsigned int i = 0; i < 2; i++) {
			struct chardev *cd = chardev_open(loop, spec, append, on_leave, NULL, NULL);
			int fd = open(path, O_RDONLY | O_CLOEXEC);

			cr_assert(chardev_connected(cd));
			cr_assert_eq(chardev_write(cd, (const uint8_t *)"xyz", 3), 3);
			cr_assert_eq(drain(fd), append * 3 * (i + 1) + 3);
			close(fd);
			chardev_close(cd);
		}
	}
	loop_free(loop);
	scratch_remove(dir);
}

/* With a reader and without: it is refused at once, where opening it would wait. */
Test(chardev, a_fifo_is_no_file, .timeout = 60)
{
	struct loop *loop = loop_new(NULL);
	struct error *err = NULL;
	char dir[64], path[96], spec[128];
	int reader = -1;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/fifo", dir);
	snprintf(spec, sizeof(spec), "file:%s", path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	for (unsigned int i = 0; i < 2; i++) {
		cr_assert_null(chardev_open(loop, spec, i, on_leave, NULL, &err));
		expect_error(err, "fifo' is a FIFO: expected a file");
		close(reader);
		reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	close(reader);
	loop_free(loop);
	scratch_remove(dir);
}

Test(chardev, input_comes_as_there_is_room)
{
	struct line l;
	int fd;

	line_open(&l, "unix:%s,server");
	fd = reader_connect(&l);
	l.room = 3;
	cr_assert_eq(write(fd, "abcdefgh", 8), 8);
	turn(&l);
	expect_got(&l, "abc");
	l.room_calls = 0;
	turn(&l);
	cr_assert_eq(l.room_calls, 0, "asked in vain again and again");
	l.room = 4;
	chardev_room_again(l.cd);
	turn(&l);
	expect_got(&l, "defg");
	l.room_comes = true; /* the last byte, in the middle of the question */
	chardev_room_again(l.cd);
	turn(&l);
	expect_got(&l, "h");
	close(fd);
	line_stop(&l);
	line_close(&l);
}

/* Its last words are kept until there is room, and the loop sleeps till then. */
Test(chardev, a_reader_that_leaves_while_there_is_no_room)
{
	struct line l;
	int fd;

	line_open(&l, "unix:%s,server");
	fd = reader_connect(&l);
	cr_assert_eq(write(fd, "bye", 3), 3);
	close(fd);
	turn(&l);
	l.room_calls = 0;
	turn(&l);
	cr_assert_eq(l.room_calls, 0, "the loop does not sleep");
	l.room = 10;
	chardev_room_again(l.cd);
	turn(&l);
	expect_got(&l, "bye");
	cr_assert_not(chardev_connected(l.cd));
	fd = reader_connect(&l);
	cr_assert(chardev_connected(l.cd));
	close(fd);
	line_stop(&l);
	line_close(&l);
}

Test(chardev, one_reader_after_the_other)
{
	struct line l;
	int first, second;

	line_open(&l, "unix:%s,server");
	cr_assert_not(chardev_connected(l.cd));
	cr_assert_eq(send_text(&l, "nobody"), 0);
	turn(&l);
	cr_assert_eq(l.can_send_calls, 0);
	first = reader_connect(&l);
	cr_assert(chardev_connected(l.cd) && l.can_send_calls == 1, "a new reader");
	second = reader_connect(&l);
	cr_assert_eq(l.can_send_calls, 1, "it has to wait");
	cr_assert_eq(send_text(&l, "one"), 3);
	expect_read(first, "one");
	l.room = 1; /* an end is something to be read */
	close(first);
	cr_assert_eq(send_text(&l, "lost?"), 0, "and no SIGPIPE");
	turn(&l);
	cr_assert(chardev_connected(l.cd) && l.can_send_calls > 1, "the next one");
	cr_assert_eq(send_text(&l, "two"), 3);
	expect_read(second, "two");
	close(second);
	line_stop(&l);
	line_close(&l);
}

Test(chardev, a_slow_reader_is_waited_for)
{
	struct line l;
	size_t n;
	int fd;

	line_open(&l, "unix:%s,server");
	fd = reader_connect(&l);
	l.can_send_calls = 0;
	for (unsigned int i = 0; i < 3; i++) {
		n = fill(&l);
		cr_assert_gt(n, 0);
		turn(&l);
		cr_assert_eq(l.can_send_calls, i, "there is no room yet");
		cr_assert_eq(drain(fd), n);
		turn(&l);
		cr_assert_eq(l.can_send_calls, i + 1);
		turn(&l);
		cr_assert_eq(l.can_send_calls, i + 1, "told once");
	}
	close(fd);
	line_stop(&l);
	line_close(&l);
}

/* --- terminals --- */

/*
 * The kernel hands bytes from one end of a terminal to the other in its own time, so what must come
 * is waited for; a test that waits in vain is ended by its limit.
 */
#define LIMIT .timeout = 60
#define TURN_UNTIL(l, cond) \
	while (!(cond))     \
	turn(l)

static void expect_at(int tty, const char *text)
{
	struct pollfd pfd = { .fd = tty, .events = POLLIN };

	cr_assert_eq(poll(&pfd, 1, -1), 1);
	expect_read(tty, text);
}

static char pty_name[64];

static void keep_pty_name(enum log_level level, const char *text)
{
	(void)level;
	cr_assert_eq(sscanf(text, "serial: %63s", pty_name), 1, "%s", text);
}

Test(chardev, a_pty_line, LIMIT)
{
	char text[101] = "";
	struct line l;
	int fd;

	log_set_sink(keep_pty_name, LOG_INFO);
	line_open(&l, "pty");
	cr_assert_not(chardev_connected(l.cd), "nobody has opened it");
	fd = open(pty_name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	cr_assert(fd >= 0 && chardev_connected(l.cd));
	cr_assert_eq(send_text(&l, "raw\n\3"), 5);
	expect_at(fd, "raw\n\3");
	for (size_t i = 0; i < 100; i++)
		text[i] = (char)('0' + i % 70);
	cr_assert_eq(write(fd, text, 100), 100);
	for (size_t i = 0; i < 100; i += 4) { /* a FIFO of 4 bytes, and who reads it */
		l.room = 4;
		chardev_room_again(l.cd);
		TURN_UNTIL(&l, l.room == 0);
	}
	expect_got(&l, text);
	l.room = 1;
	chardev_room_again(l.cd);
	close(fd);
	turn(&l);
	cr_assert_not(chardev_connected(l.cd));
	fill(&l); /* the terminal keeps some */
	l.can_send_calls = 0;
	fd = open(pty_name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	TURN_UNTIL(&l, drain(fd) == 0 && l.can_send_calls); /* a new reader: it must be told */
	l.room = 100;
	chardev_room_again(l.cd);
	cr_assert_eq(write(fd, "again", 5), 5);
	TURN_UNTIL(&l, l.ngot >= 5);
	expect_got(&l, "again");
	close(fd);
	line_stop(&l);
	line_close(&l);
}

/* What is typed at a time comes in whole, however little the device takes at a time, though the terminal tells only once. */
Test(chardev, a_burst_into_a_pty, LIMIT)
{
	static char text[1001];
	struct line l;
	int fd;

	log_set_sink(keep_pty_name, LOG_INFO);
	line_open(&l, "pty");
	fd = open(pty_name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	for (size_t i = 0; i < 1000; i++)
		text[i] = (char)('0' + i % 70);
	l.room = 1000; /* more than is read at a time */
	chardev_room_again(l.cd);
	turn(&l);
	cr_assert_eq(write(fd, text, 1000), 1000);
	TURN_UNTIL(&l, l.ngot == 1000);
	expect_got(&l, text);
	l.room = 16; /* there is room as it comes, and later */
	chardev_room_again(l.cd);
	turn(&l);
	cr_assert_eq(write(fd, text, 1000), 1000);
	while (l.ngot < 1000) {
		size_t want = l.ngot + l.room < 1000 ? l.ngot + l.room : 1000;

		TURN_UNTIL(&l, l.ngot == want);
		l.room = 16;
		chardev_room_again(l.cd);
	}
	expect_got(&l, text);
	close(fd);
	line_stop(&l);
	line_close(&l);
}

/* Standard input ends; output goes on, and waits for its reader as before. */
Test(chardev, standard_input_that_ends)
{
	int in[2], out[2];
	struct line l;
	size_t n;

	cr_assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_NONBLOCK | O_CLOEXEC) == 0);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	line_open(&l, "stdio");
	l.room = 100;
	cr_assert_eq(write(in[1], "a\1xb\1", 5), 5); /* no terminal: nothing is special */
	turn(&l);
	expect_got(&l, "a\1xb\1");
	close(in[1]);
	turn(&l);
	l.room_calls = 0;
	turn(&l);
	cr_assert_eq(l.room_calls, 0, "the loop does not sleep");
	n = fill(&l);
	cr_assert_gt(n, 0);
	cr_assert_eq(drain(out[0]), n);
	turn(&l);
	cr_assert_eq(l.can_send_calls, 1, "nobody is told that there is room again");
	line_stop(&l);
	line_close(&l);
}

Test(chardev, a_terminal_with_its_escapes, LIMIT)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;
	struct termios before, after;
	struct line l;

	cr_assert(grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	tcgetattr(slave, &before);
	dup2(slave, STDIN_FILENO);
	dup2(slave, STDOUT_FILENO);
	line_open(&l, "stdio");
	l.room = 100;
	cr_assert_eq(write(master, "a\1\1b\1", 5), 5);
	TURN_UNTIL(&l, l.ngot >= 3);
	cr_assert_eq(write(master, "qc\1x\3", 5), 5);
	TURN_UNTIL(&l, l.ngot >= 5 && l.left);
	expect_got(&l, "a\1bc\3");
	l.room = 0; /* a guest that takes nothing is left all the same, and loses nothing */
	cr_assert_eq(write(master, "kept\1x", 6), 6);
	TURN_UNTIL(&l, l.left >= 2);
	expect_got(&l, "");
	l.room = 3;
	chardev_room_again(l.cd);
	turn(&l);
	expect_got(&l, "kep");
	l.room = 3;
	chardev_room_again(l.cd);
	turn(&l);
	expect_got(&l, "t");
	cr_assert_eq(l.left, 2);
	line_stop(&l);
	line_close(&l);
	tcgetattr(slave, &after);
	cr_assert(before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag);
}
