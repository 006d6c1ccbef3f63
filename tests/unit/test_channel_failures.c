/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what the system refuses to a channel, a stream or a transport is an error that names the peer and the reason, and leaves
 * neither a descriptor nor a file behind.
 *
 * How: the limit on descriptors is lowered, so that exactly the n-th next one cannot be had; peers reset their connection; files
 * that cannot be synced (procfs) or written. Interrupted calls go on: the test sends signals to a thread that the kernel says is
 * asleep.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "migration/stream/stream.h"
#include "migration/stream/transport.h"
#include "tests/unit/support.h"

SUITE(channel_failures);

/* --- no more descriptors --- */

/* From now on n more descriptors can be had: the limit is the (n + 1)th free one. */
static struct rlimit leave_descriptors(unsigned int n)
{
	struct rlimit old, limit;
	int fd = -1;

	do {
		while (fcntl(++fd, F_GETFD) >= 0)
			;
	} while (n-- > 0);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)fd;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return old;
}

static void restore(const struct rlimit *old)
{
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, old), 0);
}

Test(channel_failures, a_channel_without_a_cancel_descriptor)
{
	struct error *err = NULL;
	struct rlimit old;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	old = leave_descriptors(0);
	cr_assert_null(channel_from_fd(fds[0], "pipe", &err));
	expect_error(err, "pipe: cannot set up: Too many open files");
	restore(&old);
	cr_assert_lt(fcntl(fds[0], F_GETFD), 0, "it was taken over, so it is closed");
	close(fds[1]);
}

Test(channel_failures, a_file_that_was_made_in_vain_is_removed)
{
	struct error *err = NULL;
	struct rlimit old;
	char dir[64], path[96];

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/guest.mig", dir);
	for (unsigned int n = 0; n < 2; n++) {
		old = leave_descriptors(n);
		cr_assert_null(channel_create_file(path, &err));
		expect_error(err, "guest.mig: cannot ");
		restore(&old);
		cr_assert_eq(scratch_count(dir), 0);
	}
	scratch_remove(dir);
}

/* A name that is not too long, but for what is behind it until the file is complete. */
Test(channel_failures, a_file_with_a_long_name)
{
	struct error *err = NULL;
	char dir[64], path[400];

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/%0245d", dir, 0);
	cr_assert_null(channel_create_file(path, &err));
	expect_error(err, "cannot create, with '.partial-XXXXXX' behind it until it is complete: "
			  "File name too long");
	cr_assert_eq(scratch_count(dir), 0);
	scratch_remove(dir);
}

/* Neither end of these can be made: a socket, and for a listener the event that calls it off. */
Test(channel_failures, transports_without_descriptors)
{
	char dir[64], unix_uri[96];
	const char *uris[] = { unix_uri, "tcp:127.0.0.1:0" };
	struct error *err = NULL;

	scratch_make(dir);
	snprintf(unix_uri, sizeof(unix_uri), "unix:%s/s", dir);
	for (unsigned int i = 0; i < 2; i++) {
		struct address *addr = address_parse(uris[i], NULL);
		struct rlimit old = leave_descriptors(0);

		cr_assert_null(channel_connect(addr, -1, &err));
		expect_error(err, "Too many open files");
		cr_assert_null(listener_open(addr, &err));
		expect_error(err, "cannot listen: Too many open files");
		restore(&old);
		old = leave_descriptors(1);
		cr_assert_null(listener_open(addr, &err));
		expect_error(err, "eventfd: Too many open files");
		restore(&old);
		cr_assert_eq(scratch_count(dir), 0);
		address_free(addr);
	}
	scratch_remove(dir);
}

/* A name that seems to be left over cannot be tried without a descriptor: it stays, and listening fails. */
Test(channel_failures, a_stale_socket_stays_where_it_cannot_be_tried)
{
	struct error *err = NULL;
	char dir[64], path[96];
	struct rlimit old;
	int fd;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/s", dir);
	fd = unix_listen(path, &err);
	expect_ok(fd >= 0, err);
	close(fd);
	old = leave_descriptors(0);
	cr_assert_eq(unix_listen(path, &err), -1);
	expect_error(err, "cannot listen: Too many open files");
	restore(&old);
	cr_assert_eq(scratch_count(dir), 1);
	fd = unix_listen(path, &err);
	expect_ok(fd >= 0, err);
	close(fd);
	scratch_remove(dir);
}

struct acceptor {
	struct listener *l;
	struct channel *ch;
	struct error *err;
};

static void *accept_one(void *opaque)
{
	struct acceptor *a = opaque;

	a->ch = listener_accept(a->l, &a->err);
	return NULL;
}

/* With one descriptor a connection can be accepted, but no channel made of it: it is turned away, and the next one is served. */
Test(channel_failures, a_connection_that_is_turned_away, .timeout = 60)
{
	struct address *addr = address_parse("tcp:127.0.0.1:0", NULL), *peer;
	struct acceptor a = { .l = listener_open(addr, NULL) };
	struct error *err = NULL;
	struct channel *ch;
	struct rlimit old;
	pthread_t thread;
	char byte;

	cr_assert_not_null(a.l);
	peer = address_parse(listener_uri(a.l), NULL);
	ch = channel_connect(peer, -1, &err);
	expect_ok(ch, err);
	old = leave_descriptors(1);
	pthread_create(&thread, NULL, accept_one, &a);
	cr_assert_eq(channel_read(ch, &byte, 1, &err), 0);
	restore(&old);
	channel_free(ch);
	ch = channel_connect(peer, -1, &err);
	expect_ok(ch, err);
	pthread_join(thread, NULL);
	expect_ok(a.ch, a.err);
	channel_free(a.ch);
	channel_free(ch);
	listener_free(a.l);
	address_free(peer);
	address_free(addr);
}

/* --- peers and files --- */

Test(channel_failures, a_reset_is_no_end)
{
	struct iovec iov = { "x", 1 };
	struct error *err = NULL;
	struct channel *ch;
	struct stream_in *in;
	uint8_t *large = malloc(1 << 20);
	char byte;
	int fds[2];

	for (unsigned int with_stream = 0; with_stream < 2; with_stream++) {
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		ch = channel_from_fd(fds[0], "peer", &err);
		expect_ok(ch, err);
		iov = (struct iovec){ "x", 1 };
		cr_assert(channel_writev(ch, &iov, 1, NULL));
		close(fds[1]); /* with the byte unread */
		if (!with_stream) {
			cr_assert_eq(channel_read(ch, &byte, 1, &err), -1);
			expect_error(err, "peer: cannot read: Connection reset by peer");
		} else {
			in = stream_in_new(ch);
			get_bytes(in, large, 1 << 20); /* past the stream's buffer */
			cr_assert_not(stream_in_take_error(in, &err));
			expect_error(err, "peer: cannot read");
			stream_in_free(in);
		}
		channel_free(ch);
	}
	free(large);
}

Test(channel_failures, a_peers_end_is_told_from_a_reset)
{
	struct error *err = NULL;
	uint8_t *large = malloc(1 << 20);
	struct stream_in *in;
	struct channel *ch;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_assert_eq(write(fds[1], "abc", 3), 3);
	close(fds[1]);
	ch = channel_from_fd(fds[0], "peer", &err);
	in = stream_in_new(ch);
	get_u8(in);
	get_bytes(in, large, 1 << 20);
	cr_assert_not(stream_in_take_error(in, &err));
	expect_error(err, "peer: the stream ends in the middle of a record");
	for (size_t i = 0; i < 1 << 20; i++)
		cr_assert_eq(large[i], 0);
	cr_assert_null(peek_bytes(in, 1));
	stream_in_free(in);
	channel_free(ch);
	free(large);
}

Test(channel_failures, a_file_that_cannot_be_synced)
{
	struct error *err = NULL;
	struct channel *ch;

	ch = channel_from_fd(open("/proc/self/status", O_RDONLY), "odd", &err);
	expect_ok(ch, err);
	cr_assert_not(channel_finish(ch, &err));
	expect_error(err, "odd: cannot sync: ");
	channel_free(ch);
}

Test(channel_failures, a_file_that_was_given_keeps_its_name)
{
	char dir[64], path[96];
	struct iovec iov = { "x", 1 };
	struct error *err = NULL;
	struct channel *ch;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/f", dir);
	ch = channel_from_fd(open(path, O_RDWR | O_CREAT, 0600), "f", &err);
	expect_ok(ch, err);
	expect_ok(channel_writev(ch, &iov, 1, &err), err);
	expect_ok(channel_finish(ch, &err), err);
	channel_linger(ch); /* which is for sockets */
	channel_free(ch);
	cr_assert_eq(access(path, F_OK), 0);
	scratch_remove(dir);
}

Test(channel_failures, memory_can_always_be_read)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct stream_in *in = stream_in_new(ch);

	cr_assert(channel_readable(ch) && stream_in_ready(in));
	cr_assert_eq(stream_send_ns(out), 0);
	put_u8(out, 1);
	cr_assert(stream_flush(out));
	cr_assert(channel_finish(ch, NULL));
	channel_cancel(ch);
	channel_rearm(ch);
	cr_assert_eq(get_u8(in), 1);
	cr_assert(stream_in_at_end(in) && stream_in_ready(in));
	stream_in_free(in);
	stream_out_free(out);
	channel_free(ch);
	stream_in_free(NULL);
	stream_out_free(NULL);
	listener_free(NULL);
	address_free(NULL);
}

/* --- signals --- */

struct reading {
	struct channel *ch;
	struct listener *listener;
	int tid;
	char byte;
	ssize_t n;
};

/* A signal that was taken; written by the handler alone. */
static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static void *read_byte(void *opaque)
{
	struct reading *r = opaque;

	__atomic_store_n(&r->tid, gettid(), __ATOMIC_RELEASE);
	if (r->listener)
		r->ch = listener_accept(r->listener, NULL);
	r->n = channel_read(r->ch, &r->byte, 1, NULL);
	return NULL;
}

/* Whoever waits when a signal comes waits on. */
static void interrupt(struct reading *r, pthread_t thread)
{
	struct sigaction action = { .sa_handler = on_signal }; /* no SA_RESTART */

	cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
	signals = 0;
	for (int i = 1; i <= 3; i++) {
		while (!__atomic_load_n(&r->tid, __ATOMIC_ACQUIRE) || !thread_waits(r->tid))
			sched_yield();
		pthread_kill(thread, SIGUSR1);
		while (signals < i)
			sched_yield();
	}
}

Test(channel_failures, signals_end_no_wait, .timeout = 60)
{
	struct reading r = { 0 };
	struct error *err = NULL;
	pthread_t thread;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	r.ch = channel_from_fd(fds[0], "pipe", &err);
	pthread_create(&thread, NULL, read_byte, &r);
	interrupt(&r, thread);
	cr_assert_eq(write(fds[1], "y", 1), 1);
	pthread_join(thread, NULL);
	cr_assert(r.n == 1 && r.byte == 'y');
	channel_free(r.ch);
	close(fds[1]);
}

Test(channel_failures, signals_end_no_accept, .timeout = 60)
{
	struct address *addr = address_parse("tcp:127.0.0.1:0", NULL), *peer;
	struct iovec iov = { "z", 1 };
	struct error *err = NULL;
	struct reading r = { 0 };
	struct channel *ch;
	pthread_t thread;

	r.listener = listener_open(addr, &err);
	expect_ok(r.listener, err);
	pthread_create(&thread, NULL, read_byte, &r);
	interrupt(&r, thread);
	peer = address_parse(listener_uri(r.listener), NULL);
	ch = channel_connect(peer, -1, &err);
	expect_ok(ch, err);
	expect_ok(channel_writev(ch, &iov, 1, &err), err);
	pthread_join(thread, NULL);
	cr_assert(r.n == 1 && r.byte == 'z');
	channel_free(r.ch);
	channel_free(ch);
	listener_free(r.listener);
	address_free(peer);
	address_free(addr);
}
