/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a channel of each kind moves all bytes in order, tells the peer's end from an error, and
 * any wait on it can be ended from another thread or by its time limit.
 *
 * How: socket pairs, pipes and files in a scratch directory. To cancel a call that waits, the test
 * asks the kernel whether the other thread is asleep, and cancels then.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#include "migration/stream/channel.h"
#include "tests/unit/support.h"

SUITE(channel);

#define SEED 0x5eed0006

static void make_sockets(struct channel *ch[2])
{
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ch[0] = channel_from_fd(fds[0], "left", NULL);
	ch[1] = channel_from_fd(fds[1], "right", NULL);
	cr_assert(ch[0] && ch[1]);
}

/* ch[0] reads what ch[1] writes. */
static void make_pipe(struct channel *ch[2])
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	ch[0] = channel_from_fd(fds[0], "reader", NULL);
	ch[1] = channel_from_fd(fds[1], "writer", NULL);
	cr_assert(ch[0] && ch[1]);
}

static void (*const makers[])(struct channel *ch[2]) = { make_sockets, make_pipe };

static bool send_text(struct channel *ch, const char *text, struct error **errp)
{
	struct iovec iov = { (void *)text, strlen(text) };

	return channel_writev(ch, &iov, 1, errp);
}

static void expect_text(struct channel *ch, const char *text)
{
	struct error *err = NULL;
	char buf[100];
	ssize_t n = channel_read(ch, buf, sizeof(buf) - 1, &err);

	cr_assert(n >= 0 && !err, "%s", error_msg(err));
	buf[n] = '\0';
	cr_assert_str_eq(buf, text);
}

Test(channel, a_socket_goes_both_ways)
{
	struct channel *ch[2];

	make_sockets(ch);
	cr_assert_str_eq(channel_name(ch[0]), "left");
	cr_assert(channel_is_duplex(ch[0]));
	cr_assert_not(channel_readable(ch[1]));
	cr_assert(send_text(ch[0], "ping", NULL));
	cr_assert(channel_readable(ch[1]));
	expect_text(ch[1], "ping");
	cr_assert(channel_finish(ch[0], NULL)); /* no more will come, but an answer may */
	cr_assert(channel_readable(ch[1]));
	expect_text(ch[1], "");
	cr_assert(send_text(ch[1], "pong", NULL));
	expect_text(ch[0], "pong");
	channel_free(ch[1]);
	expect_text(ch[0], "");
	channel_free(ch[0]);
	channel_free(NULL);
}

Test(channel, a_pipe_goes_one_way)
{
	struct channel *ch[2];

	make_pipe(ch);
	cr_assert_not(channel_is_duplex(ch[0]));
	cr_assert_not(channel_is_duplex(ch[1]));
	cr_assert_not(channel_readable(ch[0]));
	cr_assert(send_text(ch[1], "bytes", NULL));
	cr_assert(channel_finish(ch[1], NULL));
	channel_free(ch[1]);
	expect_text(ch[0], "bytes");
	cr_assert(channel_readable(ch[0]));
	expect_text(ch[0], "");
	expect_text(ch[0], "");
	channel_free(ch[0]);
}

Test(channel, memory_gives_back_what_it_got)
{
	struct channel *ch = channel_memory();
	const uint8_t *data;
	size_t len;

	cr_assert_not(channel_is_duplex(ch));
	channel_memory_data(ch, &len);
	cr_assert_eq(len, 0);
	cr_assert(send_text(ch, "", NULL));
	cr_assert(send_text(ch, "one ", NULL));
	cr_assert(send_text(ch, "two", NULL));
	data = channel_memory_data(ch, &len);
	cr_assert(len == 7 && !memcmp(data, "one two", 7));
	expect_text(ch, "one two");
	channel_memory_data(ch, &len);
	cr_assert_eq(len, 0);
	expect_text(ch, "");
	cr_assert(channel_finish(ch, NULL));
	channel_free(ch);
}

/*
 * The writer whose reader is gone gets an error. The signal's action is the default one: it must
 * not come.
 */
Test(channel, a_broken_pipe_is_an_error_and_no_signal)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct error *err = NULL;
		struct channel *ch[2];

		makers[i](ch);
		channel_free(ch[0]);
		cr_assert_not(send_text(ch[1], "x", &err));
		expect_error(err, "cannot write");
		channel_free(ch[1]);
	}
}

/* --- files --- */

Test(channel, a_file_gets_its_name_when_it_is_finished)
{
	struct error *err = NULL;
	char dir[64], path[100];
	struct channel *ch;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/state", dir);
	ch = channel_create_file(path, &err);
	expect_ok(ch, err);
	cr_assert_not(channel_is_duplex(ch));
	cr_assert_not_null(strstr(channel_name(ch), path));
	cr_assert(send_text(ch, "whole", NULL));
	cr_assert_neq(access(path, F_OK), 0);
	expect_ok(channel_finish(ch, &err), err);
	channel_free(ch);
	cr_assert_eq(scratch_count(dir), 1);
	ch = channel_from_fd(open(path, O_RDONLY), "file", &err);
	expect_ok(ch, err);
	cr_assert(channel_readable(ch));
	expect_text(ch, "whole");
	expect_text(ch, "");
	channel_free(ch);
	scratch_remove(dir);
}

Test(channel, a_file_that_is_not_finished_leaves_nothing_behind)
{
	char dir[64], path[100], text[10] = "";
	struct channel *ch;
	int fd;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/state", dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	cr_assert_eq(write(fd, "old", 3), 3);
	close(fd);
	ch = channel_create_file(path, NULL);
	cr_assert(send_text(ch, "half", NULL));
	cr_assert_eq(scratch_count(dir), 2);
	channel_free(ch);
	cr_assert_eq(scratch_count(dir), 1);
	fd = open(path, O_RDONLY);
	cr_assert_eq(read(fd, text, sizeof(text)), 3);
	cr_assert_str_eq(text, "old");
	close(fd);
	scratch_remove(dir);
}

Test(channel, a_file_that_cannot_be_made_is_an_error)
{
	struct error *err = NULL;
	char dir[64], path[100];
	struct channel *ch;

	cr_assert_null(channel_create_file("/nonexistent/dir/state", &err));
	expect_error(err, "/nonexistent/dir/state");
	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/state", dir);
	ch = channel_create_file(path, NULL);
	cr_assert_eq(mkdir(path, 0700), 0); /* cannot be replaced by a file */
	cr_assert_not(channel_finish(ch, &err));
	expect_error(err, "cannot rename");
	channel_free(ch);
	cr_assert_eq(scratch_count(dir), 1);
	rmdir(path);
	scratch_remove(dir);
}

Test(channel, other_descriptors_are_refused_and_closed)
{
	int fds[] = { socket(AF_UNIX, SOCK_DGRAM, 0), open("/dev/null", O_RDWR),
		      open("/tmp", O_RDONLY) };
	struct error *err = NULL;

	for (unsigned int i = 0; i < 3; i++) {
		cr_assert_geq(fds[i], 0);
		cr_assert_null(channel_from_fd(fds[i], "thing", &err));
		expect_error(err, "thing: expected a stream socket, a pipe or a regular file");
		cr_assert(fcntl(fds[i], F_GETFD) < 0 && errno == EBADF, "row %u stays open", i);
	}
	cr_assert_null(channel_from_fd(-1, "nothing", &err));
	expect_error(err, "nothing");
	cr_assert_null(channel_from_fd(9999, "nothing", NULL));
}

/* --- amount and order --- */

struct bulk {
	struct channel *ch;
	uint8_t *data;
	size_t len;
};

static void *read_bulk(void *opaque)
{
	struct bulk *bulk = opaque;
	struct prng rng = { SEED };
	size_t at = 0;

	while (at < bulk->len) {
		size_t room = 1 + prng_below(&rng, 50000);
		ssize_t n = channel_read(bulk->ch, bulk->data + at,
					 room < bulk->len - at ? room : bulk->len - at, NULL);

		if (n <= 0)
			return NULL;
		at += (size_t)n;
	}
	return bulk;
}

/*
 * 3000 pieces of 0 to 4000 bytes in one call: more than one system call takes, with parts written
 * and empty pieces.
 */
Test(channel, a_large_writev_arrives_whole_and_in_order)
{
	enum { PIECES = 3000 };
	struct prng rng = { SEED };
	uint8_t *data = malloc(PIECES * 4000), *copy = malloc(PIECES * 4000);

	prng_fill(&rng, data, PIECES * 4000);
	for (unsigned int i = 0; i < 2; i++) {
		struct iovec *iov = calloc(PIECES, sizeof(*iov));
		struct error *err = NULL;
		struct channel *ch[2];
		struct bulk bulk = { .data = copy };
		pthread_t thread;
		void *result;

		for (unsigned int k = 0; k < PIECES; k++) {
			size_t n = prng_below(&rng, 5) ? prng_below(&rng, 4000) : 0;

			iov[k] = (struct iovec){ data + bulk.len, n };
			bulk.len += n;
		}
		makers[i](ch);
		bulk.ch = ch[0];
		pthread_create(&thread, NULL, read_bulk, &bulk);
		expect_ok(channel_writev(ch[1], iov, PIECES, &err), err);
		pthread_join(thread, &result);
		cr_assert_not_null(result);
		cr_assert_eq(memcmp(copy, data, bulk.len), 0, "seed %#x", SEED);
		channel_free(ch[0]);
		channel_free(ch[1]);
		free(iov);
	}
	free(data);
	free(copy);
}

/* --- ends to waiting --- */

struct waiter {
	struct channel *ch;
	bool writes;
	int tid; /* atomic */
	bool failed;
	struct error *err;
};

/* Writes until the kernel takes no more, or reads what never comes. */
static void *wait_for_ever(void *opaque)
{
	static uint8_t block[1 << 20];
	struct waiter *w = opaque;
	struct iovec iov;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	do {
		iov = (struct iovec){ block, sizeof(block) };
		w->failed = w->writes ? !channel_writev(w->ch, &iov, 1, &w->err)
				      : channel_read(w->ch, block, 1, &w->err) < 0;
	} while (w->writes && !w->failed);
	return NULL;
}

static void cancel_while_waiting(struct channel *ch, bool writes)
{
	struct waiter w = { .ch = ch, .writes = writes };
	struct error *err = NULL;
	pthread_t thread;
	uint8_t byte;

	pthread_create(&thread, NULL, wait_for_ever, &w);
	while (!__atomic_load_n(&w.tid, __ATOMIC_ACQUIRE) || !thread_waits(w.tid))
		sched_yield();
	channel_cancel(ch);
	pthread_join(thread, NULL);
	cr_assert(w.failed);
	expect_error(w.err, "cancelled");
	channel_cancel(ch); /* twice is as good as once */
	cr_assert_eq(channel_read(ch, &byte, 1, &err), -1);
	expect_error(err, "cancelled");
	cr_assert_not(send_text(ch, "x", &err));
	expect_error(err, "cancelled");
}

Test(channel, a_waiting_call_is_cancelled, .timeout = 60)
{
	for (unsigned int i = 0; i < 4; i++) {
		struct channel *ch[2];
		bool writes = i % 2;

		makers[i / 2](ch);
		cancel_while_waiting(ch[writes], writes);
		channel_free(ch[0]);
		channel_free(ch[1]);
	}
}

/* Also where nothing would have to be waited for. */
Test(channel, a_cancelled_channel_stays_cancelled)
{
	char dir[64], path[100], byte;
	struct channel *file, *ch[2], *memory = channel_memory();
	struct error *err = NULL;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/state", dir);
	file = channel_create_file(path, NULL);
	channel_cancel(file);
	cr_assert_not(send_text(file, "x", &err));
	expect_error(err, "cancelled");
	channel_free(file);
	scratch_remove(dir);
	make_sockets(ch);
	cr_assert(send_text(ch[0], "bytes", NULL));
	channel_cancel(ch[1]);
	cr_assert_eq(channel_read(ch[1], &byte, 1, &err), -1);
	expect_error(err, "right: cancelled");
	channel_free(ch[0]);
	channel_free(ch[1]);
	channel_cancel(memory);
	cr_expect_not(send_text(memory, "x", NULL), "a memory channel, too");
	channel_free(memory);
}

/* For a last word to the peer; and the next cancel works like the first. */
Test(channel, a_cancelled_channel_can_be_armed_again, .timeout = 60)
{
	struct error *err = NULL;
	struct channel *ch[2];

	for (unsigned int i = 0; i < 2; i++) {
		makers[i](ch);
		channel_rearm(ch[1]); /* nothing to take back */
		channel_cancel(ch[0]);
		channel_cancel(ch[1]);
		channel_cancel(ch[1]);
		cr_assert_not(send_text(ch[1], "x", NULL));
		channel_rearm(ch[0]);
		channel_rearm(ch[1]);
		cr_assert(send_text(ch[1], "last word", NULL));
		expect_text(ch[0], "last word");
		channel_set_read_timeout(ch[0],
					 10); /* a wait that ends by itself, not by an old cancel */
		cr_assert_eq(channel_read(ch[0], &(char){ 0 }, 1, &err), -1);
		expect_error(err, "within 10 ms");
		channel_cancel(ch[1]);
		cr_assert_not(send_text(ch[1], "x", &err));
		expect_error(err, "cancelled");
		channel_free(ch[0]);
		channel_free(ch[1]);
	}
}

Test(channel, limits_to_waiting, .timeout = 60)
{
	static uint8_t block[1 << 20];
	char byte;

	for (unsigned int i = 0; i < 2; i++) {
		struct error *err = NULL;
		struct channel *ch[2];
		struct iovec iov;

		makers[i](ch);
		channel_set_read_timeout(ch[0], 20);
		cr_assert_eq(channel_read(ch[0], &byte, 1, &err), -1);
		expect_error(err, "within 20 ms");
		cr_assert(send_text(ch[1], "late", NULL));
		expect_text(ch[0], "late"); /* a time-out is not the channel's end */
		channel_set_write_timeout(ch[1], 30);
		do {
			iov = (struct iovec){ block, sizeof(block) };
		} while (channel_writev(ch[1], &iov, 1, &err));
		expect_error(err, "within 30 ms");
		channel_free(ch[0]);
		channel_free(ch[1]);
	}
}

static void *answer_at_the_end(void *opaque)
{
	struct channel *ch = opaque;
	char buf[100];
	ssize_t n, total = 0;

	while ((n = channel_read(ch, buf, sizeof(buf), NULL)) > 0)
		total += n;
	channel_free(ch);
	return (void *)(intptr_t)(n < 0 ? n : total);
}

/*
 * Lingering tells the peer the end, reads away what it still sends, and returns when it has closed.
 */
Test(channel, lingering_lets_the_peer_read_to_the_end, .timeout = 60)
{
	struct channel *ch[2];
	pthread_t thread;
	void *result;

	make_sockets(ch);
	cr_assert(send_text(ch[1], "not read by anybody", NULL));
	cr_assert(send_text(ch[0], "reason", NULL));
	pthread_create(&thread, NULL, answer_at_the_end, ch[1]);
	channel_linger(ch[0]);
	pthread_join(thread, &result);
	cr_assert_eq((intptr_t)result, 6);
	expect_text(ch[0], "");
	channel_free(ch[0]);
}
