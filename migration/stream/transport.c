/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/stream/transport.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"
#include "vmm/base/units.h"

struct listener {
	enum address_kind kind;
	int fd;
	int cancel_fd;
	char *uri;
	char *unlink_path;
	bool used;    /* fd:, file: the one channel was given out */
	bool starved; /* no descriptor for the next connection; the accepting thread */
};

static bool parse_tcp(struct address *addr, const char *text)
{
	const char *end;

	if (*text == '[') {
		end = strchr(text, ']');
		if (!end || end[1] != ':')
			return false;
		addr->host = strndup(text + 1, (size_t)(end - text - 1));
		addr->port = xstrdup(end + 2);
	} else {
		end = strrchr(text, ':');
		if (!end || memchr(text, ':', (size_t)(end - text)))
			return false;
		addr->host = strndup(text, (size_t)(end - text));
		addr->port = xstrdup(end + 1);
	}
	return *addr->port != '\0';
}

static bool parse_fields(struct address *addr, const char *uri)
{
	struct sockaddr_un sun;
	uint64_t fd;

	if (strncmp(uri, "unix:", 5) == 0 || strncmp(uri, "file:", 5) == 0) {
		addr->kind = *uri == 'u' ? ADDRESS_UNIX : ADDRESS_FILE;
		addr->path = xstrdup(uri + 5);
		if (addr->kind == ADDRESS_UNIX && strlen(addr->path) >= sizeof(sun.sun_path))
			return false;
		return *addr->path != '\0';
	}
	if (strncmp(uri, "tcp:", 4) == 0) {
		addr->kind = ADDRESS_TCP;
		return parse_tcp(addr, uri + 4);
	}
	if (strncmp(uri, "fd:", 3) == 0 && parse_number(uri + 3, "fd", 0, INT32_MAX, &fd, NULL)) {
		addr->kind = ADDRESS_FD;
		addr->fd = (int)fd;
		return true;
	}
	return false;
}

struct address *address_parse(const char *uri, struct error **errp)
{
	struct address *addr = xcalloc(1, sizeof(*addr));

	addr->fd = -1;
	addr->uri = xstrdup(uri);
	if (!parse_fields(addr, uri)) {
		error_set(errp,
			  "'%s' is not a migration address: expected unix:PATH, tcp:HOST:PORT, "
			  "fd:N or file:PATH",
			  uri);
		address_free(addr);
		return NULL;
	}
	return addr;
}

void address_free(struct address *addr)
{
	if (!addr)
		return;
	free(addr->uri);
	free(addr->path);
	free(addr->host);
	free(addr->port);
	free(addr);
}

static void unix_sockaddr(const char *path, struct sockaddr_un *sun)
{
	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(sun->sun_path, sizeof(sun->sun_path), "%s", path);
}

int unix_connect(const char *path, struct error **errp)
{
	struct sockaddr_un sun;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unix_sockaddr(path, &sun);
	if (strlen(path) >= sizeof(sun.sun_path)) {
		error_set(errp, "unix:%s: the path is longer than %zu bytes", path,
			  sizeof(sun.sun_path) - 1);
	} else if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		error_set_errno(errp, errno, "unix:%s: cannot connect", path);
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Nobody listens on a socket that refuses a connection: its name is a leftover. */
static void remove_stale_socket(const char *path)
{
	struct sockaddr_un sun;
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	unix_sockaddr(path, &sun);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 && errno == ECONNREFUSED)
		unlink(path);
	close(fd);
}

int unix_listen(const char *path, struct error **errp)
{
	struct sockaddr_un sun;
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path)) {
		error_set(errp, "unix:%s: the path is longer than %zu bytes", path,
			  sizeof(sun.sun_path) - 1);
		return -1;
	}
	remove_stale_socket(path);
	unix_sockaddr(path, &sun);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(fd, 8) < 0) {
		error_set_errno(errp, errno, "unix:%s: cannot listen", path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* Is it about one connection alone, which is gone with that? accept(2) passes on a new socket's errors, too. */
static bool concerns_connection(int err)
{
	static const int list[] = { EINTR,	 ECONNABORTED, EPROTO,	     ENOPROTOOPT, ENETDOWN,
				    ENETUNREACH, EHOSTDOWN,    EHOSTUNREACH, ENONET };

	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		if (err == list[i])
			return true;
	return false;
}

int accept_connection(int listen_fd, int flags, const char *name, bool *starved)
{
	bool before = *starved;
	int fd;

	do {
		fd = accept4(listen_fd, NULL, NULL, flags);
	} while (fd < 0 && concerns_connection(errno));
	*starved = fd < 0 &&
		   (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM);
	if (*starved && !before) {
		int err = errno;

		log_warn("%s: connections have to wait: %s", name, strerror(err));
		errno = err;
	}
	return fd;
}

static struct addrinfo *resolve(const struct address *addr, int flags, struct error **errp)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags };
	struct addrinfo *list;
	int rc = getaddrinfo(*addr->host ? addr->host : NULL, addr->port, &hints, &list);

	if (rc) {
		error_set(errp, "%s: cannot resolve: %s", addr->uri, gai_strerror(rc));
		return NULL;
	}
	return list;
}

/* 0 when fd (-1: none) can be written, ETIMEDOUT, ECANCELED, or another errno. */
static int wait_connected(int fd, int cancel_fd, int timeout_ms)
{
	struct pollfd pfds[2] = { { .fd = fd, .events = POLLOUT },
				  { .fd = cancel_fd, .events = POLLIN } };
	int n;

	do {
		n = poll(pfds, 2, timeout_ms);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno;
	if (pfds[1].revents)
		return ECANCELED;
	return n ? 0 : ETIMEDOUT;
}

/* 0, or an errno. The descriptor is non-blocking. */
static int connect_within(int fd, const struct sockaddr *sa, socklen_t sa_len, int cancel_fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (connect(fd, sa, sa_len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	err = wait_connected(fd, cancel_fd, TRANSPORT_CONNECT_TIMEOUT_MS);
	if (!err)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err;
}

/* unix_connect() with an end. Nothing tells when a full queue has room again. */
static int unix_connect_within(const struct address *addr, int cancel_fd, struct error **errp)
{
	int tries = TRANSPORT_CONNECT_TIMEOUT_MS / TRANSPORT_CONNECT_RETRY_MS;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = fd < 0 ? errno : ETIMEDOUT;
	struct sockaddr_un sun;

	unix_sockaddr(addr->path, &sun);
	while (fd >= 0 && err == ETIMEDOUT && tries--) {
		err = connect_within(fd, (struct sockaddr *)&sun, sizeof(sun), cancel_fd);
		if (err == EAGAIN)
			err = wait_connected(-1, cancel_fd, TRANSPORT_CONNECT_RETRY_MS);
	}
	if (!err)
		return fd;
	error_set_errno(errp, err, "%s: cannot connect", addr->uri);
	if (fd >= 0)
		close(fd);
	return -1;
}

static void tune_tcp(int fd)
{
	int on = 1, idle_s = 5, interval_s = 5, probes = 3;
	unsigned int dead_ms = TRANSPORT_TCP_DEAD_MS;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
}

static int tcp_connect(const struct address *addr, int cancel_fd, struct error **errp)
{
	struct addrinfo *list = resolve(addr, 0, errp);
	int err = 0;

	if (!list)
		return -1;
	for (struct addrinfo *ai = list; ai && err != ECANCELED; ai = ai->ai_next) {
		int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		err = fd < 0 ? errno : connect_within(fd, ai->ai_addr, ai->ai_addrlen, cancel_fd);
		if (!err) {
			tune_tcp(fd);
			freeaddrinfo(list);
			return fd;
		}
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(list);
	error_set_errno(errp, err, "%s: cannot connect", addr->uri);
	return -1;
}

struct channel *channel_connect(const struct address *addr, int cancel_fd, struct error **errp)
{
	int fd = -1;

	switch (addr->kind) {
	case ADDRESS_FILE:
		return channel_create_file(addr->path, errp);
	case ADDRESS_FD:
		fd = addr->fd;
		break;
	case ADDRESS_UNIX:
		fd = unix_connect_within(addr, cancel_fd, errp);
		break;
	case ADDRESS_TCP:
		fd = tcp_connect(addr, cancel_fd, errp);
		break;
	}
	return fd < 0 ? NULL : channel_from_fd(fd, addr->uri, errp);
}

static int tcp_listen(const struct address *addr, struct error **errp)
{
	struct addrinfo *list = resolve(addr, AI_PASSIVE, errp);
	int on = 1;
	int err = 0;

	if (!list)
		return -1;
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd >= 0)
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (fd >= 0 && bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, 8) == 0) {
			freeaddrinfo(list);
			return fd;
		}
		err = errno;
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(list);
	error_set_errno(errp, err, "%s: cannot listen", addr->uri);
	return -1;
}

/* "tcp:HOST:PORT" with the port that the kernel chose. */
static char *tcp_bound_uri(const struct address *addr, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	unsigned int port = 0;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
						      : ((struct sockaddr_in *)&ss)->sin_port);
	return xasprintf(strchr(addr->host, ':') ? "tcp:[%s]:%u" : "tcp:%s:%u", addr->host, port);
}

struct listener *listener_open(const struct address *addr, struct error **errp)
{
	struct listener *l = xcalloc(1, sizeof(*l));

	l->kind = addr->kind;
	l->uri = xstrdup(addr->uri);
	switch (addr->kind) {
	case ADDRESS_UNIX:
		l->fd = unix_listen(addr->path, errp);
		if (l->fd >= 0)
			l->unlink_path = xstrdup(addr->path);
		break;
	case ADDRESS_TCP:
		l->fd = tcp_listen(addr, errp);
		if (l->fd >= 0) {
			free(l->uri);
			l->uri = tcp_bound_uri(addr, l->fd);
		}
		break;
	case ADDRESS_FD:
		l->fd = addr->fd;
		break;
	case ADDRESS_FILE:
		l->fd = open(addr->path, O_RDONLY | O_CLOEXEC);
		if (l->fd < 0)
			error_set_errno(errp, errno, "%s: cannot open", addr->uri);
		break;
	}
	l->cancel_fd = l->fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->fd >= 0 && l->cancel_fd < 0)
		error_set_errno(errp, errno, "%s: eventfd", addr->uri);
	if (l->cancel_fd < 0) {
		listener_free(l);
		return NULL;
	}
	return l;
}

static struct channel *accept_once(struct listener *l, struct error **errp)
{
	struct pollfd cancel = { .fd = l->cancel_fd, .events = POLLIN };

	if (poll(&cancel, 1, 0) > 0) {
		error_set(errp, "%s: cancelled", l->uri);
		return NULL;
	}
	if (l->used) {
		error_set(errp, "%s: was read already", l->uri);
		return NULL;
	}
	l->used = true;
	return channel_from_fd(take_fd(l->fd), l->uri, errp);
}

/* NULL where the host has nothing left for it: its peer sees the end, and may come again. */
static struct channel *accepted_channel(struct listener *l, int fd)
{
	scoped_error err = NULL;
	struct channel *ch;

	if (l->kind == ADDRESS_TCP)
		tune_tcp(fd);
	ch = channel_from_fd(fd, l->uri, &err);
	if (!ch)
		log_warn("incoming connection turned away: %s", error_msg(err));
	return ch;
}

struct channel *listener_accept(struct listener *l, struct error **errp)
{
	if (!listener_can_repeat(l))
		return accept_once(l, errp);
	for (;;) {
		struct pollfd pfds[2] = { { .fd = l->starved ? -1 : l->fd, .events = POLLIN },
					  { .fd = l->cancel_fd, .events = POLLIN } };
		struct channel *ch;
		int fd;

		if (poll(pfds, 2, l->starved ? TRANSPORT_ACCEPT_RETRY_MS : -1) < 0 &&
		    errno != EINTR) {
			error_set_errno(errp, errno, "%s: poll", l->uri);
			return NULL;
		}
		if (pfds[1].revents) {
			error_set(errp, "%s: cancelled", l->uri);
			return NULL;
		}
		fd = accept_connection(l->fd, SOCK_CLOEXEC, l->uri, &l->starved);
		if (fd < 0 && errno != EAGAIN && !l->starved) {
			error_set_errno(errp, errno, "%s: cannot accept", l->uri);
			return NULL;
		}
		ch = fd < 0 ? NULL : accepted_channel(l, fd);
		if (ch)
			return ch;
	}
}

bool listener_can_repeat(const struct listener *l)
{
	return l->kind == ADDRESS_UNIX || l->kind == ADDRESS_TCP;
}

const char *listener_uri(const struct listener *l)
{
	return l->uri;
}

void listener_cancel(struct listener *l)
{
	uint64_t one = 1;

	if (write(l->cancel_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	if (l->fd >= 0)
		close(l->fd);
	if (l->cancel_fd >= 0)
		close(l->cancel_fd);
	if (l->unlink_path)
		unlink(l->unlink_path);
	free(l->unlink_path);
	free(l->uri);
	free(l);
}
