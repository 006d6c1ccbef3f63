/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: each form of address is parsed or refused with words that help, and leads to a channel that
 * moves bytes; listeners are exclusive, replace what the dead have left, and can be called off.
 *
 * How: tables of addresses; real sockets, descriptors and files inside a scratch directory and on
 * the loopback.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "migration/stream/transport.h"
#include "tests/unit/support.h"
#include "vmm/base/log.h"

SUITE(transport);

Test(transport, addresses_are_parsed)
{
	static const struct {
		const char *uri;
		enum address_kind kind;
		const char *path, *host, *port;
		int fd;
	} good[] = {
		{ "unix:/tmp/a.sock", ADDRESS_UNIX, "/tmp/a.sock", NULL, NULL, -1 },
		{ "unix:rel:ative", ADDRESS_UNIX, "rel:ative", NULL, NULL, -1 },
		{ "file:/tmp/state", ADDRESS_FILE, "/tmp/state", NULL, NULL, -1 },
		{ "tcp:host:4444", ADDRESS_TCP, NULL, "host", "4444", -1 },
		{ "tcp:127.0.0.1:0", ADDRESS_TCP, NULL, "127.0.0.1", "0", -1 },
		{ "tcp::4444", ADDRESS_TCP, NULL, "", "4444", -1 },
		{ "tcp:[::1]:4444", ADDRESS_TCP, NULL, "::1", "4444", -1 },
		{ "tcp:[]:4444", ADDRESS_TCP, NULL, "", "4444", -1 },
		{ "fd:0", ADDRESS_FD, NULL, NULL, NULL, 0 },
		{ "fd:17", ADDRESS_FD, NULL, NULL, NULL, 17 },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct error *err = NULL;
		struct address *addr = address_parse(good[i].uri, &err);

		expect_ok(addr, err);
		cr_assert_str_eq(addr->uri, good[i].uri);
		cr_assert_eq(addr->kind, good[i].kind, "%s", good[i].uri);
		cr_assert(!good[i].path == !addr->path);
		cr_assert(!good[i].path || !strcmp(addr->path, good[i].path));
		cr_assert(!good[i].host == !addr->host, "%s", good[i].uri);
		cr_assert(!good[i].host || !strcmp(addr->host, good[i].host));
		cr_assert(!good[i].port || !strcmp(addr->port, good[i].port));
		cr_assert_eq(addr->fd, good[i].fd);
		address_free(addr);
	}
	address_free(NULL);
}

Test(transport, other_addresses_are_refused)
{
	static const char *const bad[] = {
		"",
		"unix",
		"unix:",
		"file:",
		"tcp:",
		"tcp:host",
		"tcp:host:",
		"tcp:::1:80",
		"tcp:[::1]",
		"tcp:[::1]80",
		"tcp:[::1",
		"tcp:[::1]:",
		"fd:",
		"fd:-1",
		"fd:x",
		"fd:1x",
		"fd:2147483648",
		"fd: 1",
		"exec:cat",
		"/tmp/a.sock",
		"UNIX:/a",
		"rdma:host:1",
		"fd:99999999999999999999",
	};
	struct error *err = NULL;
	char uri[300];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_null(address_parse(bad[i], &err), "'%s' was accepted", bad[i]);
		cr_assert_not_null(err);
		cr_assert_not_null(strstr(err->msg, bad[i]));
		expect_error(err, "unix:PATH, tcp:HOST:PORT, fd:N or file:PATH");
	}
	memset(uri, 'a', sizeof(uri)); /* longer than a socket's name can be */
	memcpy(uri, "unix:", 5);
	uri[299] = '\0';
	cr_assert_null(address_parse(uri, &err));
	error_free(err);
}

static struct address *address_of(const char *prefix, const char *dir, const char *name)
{
	char uri[200];

	snprintf(uri, sizeof(uri), "%s%s%s", prefix, dir, name);
	return address_parse(uri, NULL);
}

static void send_text(struct channel *ch, const char *text)
{
	struct iovec iov = { (void *)text, strlen(text) };
	struct error *err = NULL;

	expect_ok(channel_writev(ch, &iov, 1, &err), err);
}

static void expect_text(struct channel *ch, const char *text)
{
	struct error *err = NULL;
	char buf[100];
	size_t at = 0;

	while (at < strlen(text)) {
		ssize_t n = channel_read(ch, buf + at, sizeof(buf) - at, &err);

		cr_assert_gt(n, 0, "%s", error_msg(err));
		at += (size_t)n;
	}
	cr_assert(at == strlen(text) && !memcmp(buf, text, at));
}

/*
 * The listener's own words are what a peer connects to; several peers may come, one after the
 * other.
 */
static void check_connections(struct listener *l)
{
	struct error *err = NULL;
	struct address *peer = address_parse(listener_uri(l), &err);

	expect_ok(peer, err);
	cr_assert(listener_can_repeat(l));
	for (unsigned int i = 0; i < 3; i++) {
		struct channel *a = channel_connect(peer, -1, &err), *b;

		expect_ok(a, err);
		b = listener_accept(l, &err);
		expect_ok(b, err);
		cr_assert(channel_is_duplex(a) && channel_is_duplex(b));
		send_text(a, "there");
		expect_text(b, "there");
		send_text(b, "and back");
		expect_text(a, "and back");
		channel_free(a);
		cr_assert_eq(channel_read(b, &(char){ 0 }, 1, &err), 0);
		channel_free(b);
	}
	address_free(peer);
}

Test(transport, unix_sockets_connect)
{
	struct error *err = NULL;
	struct address *addr;
	struct listener *l;
	char dir[64];

	scratch_make(dir);
	addr = address_of("unix:", dir, "/a.sock");
	cr_assert_null(channel_connect(addr, -1, &err));
	expect_error(err, "/a.sock: cannot connect");
	l = listener_open(addr, &err);
	expect_ok(l, err);
	cr_assert_str_eq(listener_uri(l), addr->uri);
	check_connections(l);
	listener_free(l);
	listener_free(NULL);
	cr_assert_eq(scratch_count(dir), 0, "the name is removed");
	address_free(addr);
	scratch_remove(dir);
}

static int raw_listen(const char *path, int backlog)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(sun.sun_path, path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

Test(transport, a_dead_socket_is_replaced_and_a_live_one_is_not)
{
	struct error *err = NULL;
	char dir[64], path[100];
	int dead, live, peer, fd;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/a.sock", dir);
	dead = raw_listen(path, 1);
	close(dead); /* the name stays */
	live = unix_listen(path, &err);
	expect_ok(live >= 0, err);
	cr_assert(fcntl(live, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(live, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(unix_listen(path, &err), -1);
	expect_error(err, "cannot listen");
	peer = unix_connect(path, &err); /* and the live one is as it was */
	expect_ok(peer >= 0, err);
	close(peer);
	close(live);
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY, 0600); /* somebody's file */
	close(fd);
	cr_assert_eq(unix_listen(path, &err), -1);
	expect_error(err, "cannot listen");
	cr_assert_eq(access(path, F_OK), 0);
	scratch_remove(dir);
}

/* Connections until there is no room for another one; how many. */
static unsigned int fill_queue(const char *path, int peers[static 64])
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	unsigned int n = 0;

	strcpy(sun.sun_path, path);
	do {
		cr_assert_lt(n, 64);
		peers[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	} while (connect(peers[n++], (struct sockaddr *)&sun, sizeof(sun)) == 0);
	cr_assert_eq(errno, EAGAIN);
	return n;
}

/*
 * Somebody who listens but does not get round to accepting is alive: asking must neither hang nor
 * take the name.
 */
Test(transport, a_live_socket_with_a_full_queue_is_refused, .timeout = 60)
{
	struct error *err = NULL;
	int live, peers[64];
	unsigned int n;
	char dir[64], path[100];

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/a.sock", dir);
	live = raw_listen(path, 1);
	n = fill_queue(path, peers);
	cr_assert_eq(unix_listen(path, &err), -1);
	expect_error(err, "cannot listen");
	while (n)
		close(peers[--n]);
	close(live);
	scratch_remove(dir);
}

Test(transport, long_socket_names_are_refused)
{
	struct error *err = NULL;
	char path[200];

	memset(path, 'a', sizeof(path));
	path[199] = '\0';
	cr_assert_eq(unix_listen(path, &err), -1);
	expect_error(err, "longer than 107 bytes");
	cr_assert_eq(unix_connect(path, &err), -1);
	expect_error(err, "longer than 107 bytes");
}

static void check_tcp(const char *uri, const char *prefix)
{
	struct error *err = NULL;
	struct address *addr = address_parse(uri, NULL);
	struct listener *l = listener_open(addr, &err);

	expect_ok(l, err);
	cr_assert_eq(strncmp(listener_uri(l), prefix, strlen(prefix)), 0, "%s", listener_uri(l));
	cr_assert_gt(atoi(listener_uri(l) + strlen(prefix)), 0, "%s", listener_uri(l));
	check_connections(l);
	listener_free(l);
	address_free(addr);
}

Test(transport, tcp_connects_over_ipv4)
{
	check_tcp("tcp:127.0.0.1:0", "tcp:127.0.0.1:");
}

Test(transport, tcp_listens_on_all_addresses)
{
	check_tcp("tcp::0", "tcp::");
}

Test(transport, tcp_connects_over_ipv6)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sin6, sizeof(sin6)) < 0) {
		close(fd);
		cr_skip_test("no IPv6 loopback here: %s", strerror(errno));
	}
	close(fd);
	check_tcp("tcp:[::1]:0", "tcp:[::1]:");
}

Test(transport, tcp_errors_name_the_address)
{
	struct error *err = NULL;
	struct address *addr = address_parse("tcp:127.0.0.1:0", NULL), *taken, *gone, *bad;
	struct listener *l = listener_open(addr, NULL);
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int mute = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(sin);
	char uri[40];

	taken = address_parse(listener_uri(l), NULL);
	cr_assert_null(listener_open(taken, &err));
	expect_error(err, taken->uri);
	/* A port where nobody listens, and nobody else can begin to. */
	cr_assert_eq(bind(mute, (struct sockaddr *)&sin, len), 0);
	cr_assert_eq(getsockname(mute, (struct sockaddr *)&sin, &len), 0);
	snprintf(uri, sizeof(uri), "tcp:127.0.0.1:%u", ntohs(sin.sin_port));
	gone = address_parse(uri, NULL);
	cr_assert_null(channel_connect(gone, -1, &err));
	cr_assert_not_null(strstr(error_msg(err), gone->uri));
	expect_error(err, "cannot connect");
	close(mute);
	listener_free(l);
	bad = address_parse("tcp:127.0.0.1:no-such-service", NULL);
	cr_assert_null(channel_connect(bad, -1, &err));
	expect_error(err, "cannot resolve");
	cr_assert_null(listener_open(bad, &err));
	expect_error(err, "cannot resolve");
	address_free(addr);
	address_free(taken);
	address_free(gone);
	address_free(bad);
}

static int loopback_socket(struct sockaddr_in *sin)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	cr_assert_geq(fd, 0);
	sin->sin_family = AF_INET;
	sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd;
}

/* A listener whose queue the caller's connections fill answers no further one, as a host that is switched off does. */
static int silent_listener(char uri[40], int fds[static 64], unsigned int *n)
{
	struct sockaddr_in sin = { 0 };
	int listen_fd = loopback_socket(&sin);
	socklen_t len = sizeof(sin);
	struct pollfd pfd = { .events = POLLOUT };

	cr_assert_eq(bind(listen_fd, (struct sockaddr *)&sin, len), 0);
	cr_assert_eq(listen(listen_fd, 0), 0);
	cr_assert_eq(getsockname(listen_fd, (struct sockaddr *)&sin, &len), 0);
	snprintf(uri, 40, "tcp:127.0.0.1:%u", ntohs(sin.sin_port));
	*n = 0;
	do {
		cr_assert_lt(*n, 64);
		pfd.fd = fds[(*n)++] = loopback_socket(&sin);
		if (connect(pfd.fd, (struct sockaddr *)&sin, len) < 0)
			cr_assert_eq(errno, EINPROGRESS);
	} while (poll(&pfd, 1, 100) > 0);
	return listen_fd;
}

/* Without being called off these would end by "timed out". */
static void expect_called_off(const char *uri)
{
	struct address *addr = address_parse(uri, NULL);
	int cancel_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	struct error *err = NULL;

	cr_assert_null(channel_connect(addr, cancel_fd, &err));
	cr_assert_not_null(strstr(error_msg(err), uri));
	expect_error(err, strerror(ECANCELED));
	close(cancel_fd);
	address_free(addr);
}

Test(transport, connecting_to_a_silent_host_is_called_off, .timeout = 60)
{
	unsigned int n;
	int fds[64], listen_fd;
	char uri[40];

	listen_fd = silent_listener(uri, fds, &n);
	expect_called_off(uri);
	while (n)
		close(fds[--n]);
	close(listen_fd);
}

Test(transport, connecting_to_a_full_queue_is_called_off, .timeout = 60)
{
	char dir[64], uri[100];
	const char *path = uri + strlen("unix:");
	unsigned int n;
	int live, fds[64];

	scratch_make(dir);
	snprintf(uri, sizeof(uri), "unix:%s/a.sock", dir);
	live = raw_listen(path, 1);
	n = fill_queue(path, fds);
	expect_called_off(uri);
	while (n)
		close(fds[--n]);
	close(live);
	scratch_remove(dir);
}

#define LAST_WORDS 150000u

struct late_reader {
	int fd;
	int writer_tid;
	size_t len;
};

/* Reads once the writer waits: for its peer to close, if it lingers, or for this thread to end. */
static void *read_late(void *opaque)
{
	struct late_reader *r = opaque;
	char buf[4096];
	ssize_t n;

	while (!thread_waits(r->writer_tid))
		sched_yield();
	while ((n = recv(r->fd, buf, sizeof(buf), 0)) > 0)
		r->len += (size_t)n;
	close(r->fd);
	return NULL;
}

/*
 * TCP closes with a reset where something was not read, and that destroys what still waits to be
 * sent. The reader's small buffer makes it wait.
 */
Test(transport, lingering_saves_the_last_words, .timeout = 60)
{
	struct address *addr = address_parse("tcp:127.0.0.1:0", NULL);
	struct listener *l = listener_open(addr, NULL);
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct late_reader reader = { .fd = socket(AF_INET, SOCK_STREAM, 0),
				      .writer_tid = gettid() };
	char *words = calloc(1, LAST_WORDS + 1);
	struct channel *ch;
	pthread_t thread;

	cr_assert_eq(setsockopt(reader.fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int)), 0);
	sin.sin_port = htons((uint16_t)atoi(strrchr(listener_uri(l), ':') + 1));
	cr_assert_eq(connect(reader.fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	ch = listener_accept(l, NULL);
	cr_assert_eq(send(reader.fd, "unread", 6, 0), 6);
	memset(words, 'w', LAST_WORDS);
	send_text(ch, words);
	pthread_create(&thread, NULL, read_late, &reader);
	channel_linger(ch);
	channel_free(ch);
	pthread_join(thread, NULL);
	cr_assert_eq(reader.len, LAST_WORDS, "%zu bytes arrived", reader.len);
	free(words);
	listener_free(l);
	address_free(addr);
}

Test(transport, inherited_descriptors_give_one_channel)
{
	struct error *err = NULL;
	struct address *in, *out;
	struct channel *a, *b;
	struct listener *l;
	char uri[20];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	snprintf(uri, sizeof(uri), "fd:%d", fds[0]);
	in = address_parse(uri, NULL);
	snprintf(uri, sizeof(uri), "fd:%d", fds[1]);
	out = address_parse(uri, NULL);
	l = listener_open(in, &err);
	expect_ok(l, err);
	cr_assert_not(listener_can_repeat(l));
	a = channel_connect(out, -1, &err);
	expect_ok(a, err);
	b = listener_accept(l, &err);
	expect_ok(b, err);
	send_text(a, "inherited");
	expect_text(b, "inherited");
	cr_assert_null(listener_accept(l, &err));
	expect_error(err, "fd:");
	channel_free(a);
	channel_free(b);
	listener_free(l);
	cr_assert_null(channel_connect(out, -1, &err)); /* closed by now */
	expect_error(err, out->uri);
	address_free(in);
	address_free(out);
}

Test(transport, files_are_written_and_read)
{
	struct error *err = NULL;
	struct address *addr;
	struct channel *ch;
	struct listener *l;
	char dir[64];

	scratch_make(dir);
	addr = address_of("file:", dir, "/state");
	cr_assert_null(listener_open(addr, &err));
	expect_error(err, "cannot open");
	ch = channel_connect(addr, -1, &err);
	expect_ok(ch, err);
	send_text(ch, "saved");
	expect_ok(channel_finish(ch, &err), err);
	channel_free(ch);
	l = listener_open(addr, &err);
	expect_ok(l, err);
	cr_assert_not(listener_can_repeat(l));
	ch = listener_accept(l, &err);
	expect_ok(ch, err);
	expect_text(ch, "saved");
	cr_assert_eq(channel_read(ch, &(char){ 0 }, 1, &err), 0);
	cr_assert_null(listener_accept(l, &err));
	expect_error(err, "already");
	channel_free(ch);
	listener_free(l);
	address_free(addr);
	scratch_remove(dir);
}

struct acceptor {
	struct listener *l;
	int tid; /* atomic */
	struct channel *ch;
	struct error *err;
};

static void *accept_one(void *opaque)
{
	struct acceptor *a = opaque;

	__atomic_store_n(&a->tid, gettid(), __ATOMIC_RELEASE);
	a->ch = listener_accept(a->l, &a->err);
	return NULL;
}

Test(transport, a_waiting_listener_is_called_off, .timeout = 60)
{
	struct address *addr = address_parse("tcp:127.0.0.1:0", NULL);
	struct acceptor a = { .l = listener_open(addr, NULL) };
	struct error *err = NULL;
	pthread_t thread;

	pthread_create(&thread, NULL, accept_one, &a);
	while (!__atomic_load_n(&a.tid, __ATOMIC_ACQUIRE) || !thread_waits(a.tid))
		sched_yield();
	listener_cancel(a.l);
	pthread_join(thread, NULL);
	cr_assert_null(a.ch);
	expect_error(a.err, "cancelled");
	cr_assert_null(listener_accept(a.l, &err));
	expect_error(err, "cancelled");
	listener_free(a.l);
	address_free(addr);
}

Test(transport, a_listener_that_need_not_wait_is_called_off_too)
{
	struct address *addr = address_parse("file:/dev/null", NULL);
	struct listener *l = listener_open(addr, NULL);
	struct error *err = NULL;

	listener_cancel(l);
	cr_assert_null(listener_accept(l, &err));
	expect_error(err, "cancelled");
	listener_free(l);
	address_free(addr);
}

static unsigned int warnings; /* atomic */

static void count_warning(enum log_level level, const char *line)
{
	(void)line;
	if (level == LOG_WARN)
		__atomic_add_fetch(&warnings, 1, __ATOMIC_RELEASE);
}

/* A new descriptor has to be below that; those that are open stay. Returns the limit before. */
static rlim_t limit_descriptors(rlim_t limit)
{
	struct rlimit r;
	rlim_t before;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &r), 0);
	before = r.rlim_cur;
	r.rlim_cur = limit;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &r), 0);
	return before;
}

#define NONE_FREE 3 /* standard input, output and error are open */

/* Each lack is told once, however often it is met. */
Test(transport, a_lack_of_descriptors_is_told_once)
{
	bool starved = false;
	char dir[64], path[100];
	int listen_fd, peer, fd;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/a.sock", dir);
	listen_fd = unix_listen(path, NULL);
	log_set_sink(count_warning, LOG_WARN);
	for (unsigned int lack = 1; lack <= 2; lack++) {
		rlim_t before;

		peer = unix_connect(path, NULL);
		before = limit_descriptors(NONE_FREE);
		for (unsigned int i = 0; i < 5; i++) {
			cr_assert_eq(accept_connection(listen_fd, SOCK_CLOEXEC, path, &starved),
				     -1);
			cr_assert(errno == EMFILE && starved);
			cr_assert_eq(warnings, lack);
		}
		limit_descriptors(before);
		fd = accept_connection(listen_fd, SOCK_CLOEXEC, path, &starved);
		cr_assert(fd >= 0 && !starved);
		cr_assert_eq(accept_connection(listen_fd, 0, path, &starved), -1);
		cr_assert(errno == EAGAIN && !starved, "there is no second one");
		close(fd);
		close(peer);
	}
	cr_assert_eq(warnings, 2);
	close(listen_fd);
	scratch_remove(dir);
}

struct starved {
	struct acceptor a;
	struct address *addr;
	pthread_t thread;
	struct channel *peer;
	rlim_t before;
	char dir[64];
};

/* A peer waits, and a listener that has no descriptor for it, and has said so. */
static void starve(struct starved *s)
{
	*s = (struct starved){ 0 };
	scratch_make(s->dir);
	s->addr = address_of("unix:", s->dir, "/a.sock");
	s->a.l = listener_open(s->addr, NULL);
	s->peer = channel_connect(s->addr, -1, NULL);
	cr_assert(s->a.l && s->peer);
	log_set_sink(count_warning, LOG_WARN);
	s->before = limit_descriptors(NONE_FREE);
	pthread_create(&s->thread, NULL, accept_one, &s->a);
	while (!__atomic_load_n(&warnings, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void starved_end(struct starved *s)
{
	channel_free(s->a.ch);
	channel_free(s->peer);
	listener_free(s->a.l);
	address_free(s->addr);
	scratch_remove(s->dir);
}

Test(transport, a_listener_outlives_a_lack_of_descriptors, .timeout = 60)
{
	struct starved s;

	starve(&s);
	limit_descriptors(s.before);
	pthread_join(s.thread, NULL);
	expect_ok(s.a.ch, s.a.err);
	send_text(s.peer, "still there");
	expect_text(s.a.ch, "still there");
	starved_end(&s);
}

Test(transport, a_listener_that_lacks_descriptors_is_called_off, .timeout = 60)
{
	struct starved s;

	starve(&s);
	listener_cancel(s.a.l);
	pthread_join(s.thread, NULL);
	limit_descriptors(s.before);
	cr_assert_null(s.a.ch);
	expect_error(s.a.err, "cancelled");
	starved_end(&s);
}
