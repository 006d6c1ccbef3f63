/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/backend/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#include "migration/stream/transport.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

/* A descriptor that poll says is writable takes this much without blocking, be it a pipe, a socket or a terminal. */
#define WRITE_CHUNK 512
#define READ_CHUNK 256
#define ESCAPE 0x01 /* Ctrl-A */
#define TYPED_MAX 1024

enum chardev_kind { CHARDEV_NULL, CHARDEV_STDIO, CHARDEV_PTY, CHARDEV_FILE, CHARDEV_SOCKET };

struct chardev {
	/* set at creation */
	enum chardev_kind kind;
	struct loop *loop;
	void (*on_leave)(void *opaque);
	void *leave_opaque;
	struct termios saved_termios;
	bool raw; /* the terminal must be put back */
	char *unlink_path;
	int listen_fd; /* -1 where nobody is waited for */
	struct loop_handle *listen_handle;
	bool starved; /* as accept_connection() has it */
	/* set while no vCPU runs */
	const struct chardev_client *client;
	void *client_opaque;
	/* the loop's thread */
	bool escape;
	/* What was typed and the device has no room for: a terminal is read on all the same, for an escape may follow. */
	uint8_t typed[TYPED_MAX];
	size_t ntyped; /* atomic: looked at by other threads */
	/* lock */
	pthread_mutex_t lock;
	int in_fd, out_fd; /* -1: not connected; the same for a socket and a pty */
	struct loop_handle *in_handle;
	struct loop_handle *out_handle; /* equal to in_handle where in_fd == out_fd */
	bool want_in, want_out;
	bool hung_up; /* the other side has gone while there was no room for its last words */
};

static void on_input(void *opaque, uint32_t events);
static void on_output(void *opaque, uint32_t events);
static void on_both(void *opaque, uint32_t events);

/* lock held */
static void update_events(struct chardev *cd)
{
	uint32_t in = cd->want_in ? EPOLLIN : 0;
	uint32_t out = cd->want_out ? EPOLLOUT : 0;
	uint32_t edge = cd->kind == CHARDEV_PTY
				? EPOLLET
				: 0; /* a pty that nobody opened hangs up for ever */

	if (cd->in_handle && cd->in_handle == cd->out_handle) {
		loop_set_events(cd->in_handle, in | out | edge);
		return;
	}
	if (cd->in_handle)
		loop_set_events(cd->in_handle, in);
	if (cd->out_handle)
		loop_set_events(cd->out_handle, out);
}

/* lock held */
static void watch(struct chardev *cd)
{
	bool same = cd->out_fd == cd->in_fd;

	cd->want_in = true;
	if (cd->in_fd >= 0)
		cd->in_handle = loop_add(cd->loop, cd->in_fd, 0, same ? on_both : on_input, cd);
	if (same)
		cd->out_handle = cd->in_handle;
	else if (cd->out_fd >= 0)
		cd->out_handle = loop_add(cd->loop, cd->out_fd, 0, on_output, cd);
	update_events(cd);
}

/* lock held */
static void unwatch(struct chardev *cd)
{
	loop_remove(cd->in_handle);
	if (cd->out_handle != cd->in_handle)
		loop_remove(cd->out_handle);
	cd->in_handle = cd->out_handle = NULL;
}

/* The other side of the input has gone. A socket is gone as a whole, and a listener waits for the next reader. */
static void input_ended(struct chardev *cd)
{
	pthread_mutex_lock(&cd->lock);
	cd->hung_up = false;
	if (cd->kind == CHARDEV_SOCKET) {
		unwatch(cd);
		if (cd->in_fd >= 0)
			close(cd->in_fd);
		cd->out_fd = -1;
	} else {
		loop_remove(cd->in_handle);
		cd->in_handle = NULL;
	}
	cd->in_fd = -1;
	pthread_mutex_unlock(&cd->lock);
	if (cd->listen_handle)
		loop_set_events(cd->listen_handle, EPOLLIN);
	if (cd->kind == CHARDEV_SOCKET && cd->client) /* there is nobody to wait for any more */
		cd->client->can_send(cd->client_opaque);
}

/* Take the escape sequences out of what was typed; returns what is left for the guest. */
static size_t filter_escapes(struct chardev *cd, uint8_t *data, size_t len)
{
	size_t kept = 0;

	for (size_t i = 0; i < len; i++) {
		if (cd->escape) {
			cd->escape = false;
			if (data[i] == 'x' || data[i] == 'X')
				cd->on_leave(cd->leave_opaque);
			else if (data[i] == ESCAPE)
				data[kept++] = ESCAPE;
		} else if (data[i] == ESCAPE) {
			cd->escape = true;
		} else {
			data[kept++] = data[i];
		}
	}
	return kept;
}

/* Hand on what has been typed, as far as there is room. */
static void deliver_typed(void *opaque)
{
	struct chardev *cd = opaque;
	size_t n = cd->client ? MIN_OF(cd->client->room(cd->client_opaque), cd->ntyped) : 0;

	if (!n)
		return;
	cd->client->receive(cd->client_opaque, cd->typed, n);
	memmove(cd->typed, cd->typed + n, cd->ntyped - n);
	__atomic_store_n(&cd->ntyped, cd->ntyped - n, __ATOMIC_RELEASE);
}

static void take_typed(struct chardev *cd)
{
	uint8_t buf[READ_CHUNK];
	ssize_t n = read(cd->in_fd, buf, sizeof(buf));
	size_t kept;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		input_ended(cd);
		return;
	}
	kept = filter_escapes(cd, buf, (size_t)n);
	kept = MIN_OF(kept, TYPED_MAX - cd->ntyped); /* more than that is lost, as on a real line */
	memcpy(cd->typed + cd->ntyped, buf, kept);
	__atomic_store_n(&cd->ntyped, cd->ntyped + kept, __ATOMIC_RELEASE);
	deliver_typed(cd);
}

/* The device has no room: sleep until chardev_room_again(). epoll would report a hang-up for ever. */
static void wait_for_room(struct chardev *cd, uint32_t events)
{
	pthread_mutex_lock(&cd->lock);
	cd->want_in = false;
	if (events & (EPOLLHUP | EPOLLERR) && cd->kind != CHARDEV_PTY) {
		unwatch(cd);
		cd->hung_up = true;
	} else {
		update_events(cd);
	}
	pthread_mutex_unlock(&cd->lock);
	if (cd->client->room(cd->client_opaque)) /* it came just before */
		chardev_room_again(cd);
}

/* False: there is no more to be had for now. */
static bool read_once(struct chardev *cd, size_t room)
{
	uint8_t buf[READ_CHUNK];
	ssize_t n = read(cd->in_fd, buf, MIN_OF(room, sizeof(buf)));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		if (cd->kind != CHARDEV_PTY) /* another program may open the pty again */
			input_ended(cd);
		return false;
	}
	if (cd->client)
		cd->client->receive(cd->client_opaque, buf, (size_t)n);
	return true;
}

/* An event of a pty tells that something came, not that something is there: what is left behind, no event tells of. So it is
 * read until nothing is left, or until there is no room, which is noted. */
static void take_input(struct chardev *cd, uint32_t events)
{
	size_t room;

	if (cd->raw) {
		take_typed(cd);
		return;
	}
	do {
		room = cd->client ? cd->client->room(cd->client_opaque) : READ_CHUNK;
		if (!room) {
			wait_for_room(cd, events);
			return;
		}
	} while (read_once(cd, room) && cd->kind == CHARDEV_PTY);
}

static void on_input(void *opaque, uint32_t events)
{
	struct chardev *cd = opaque;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && cd->in_fd >= 0)
		take_input(cd, events);
}

static void offer_room(struct chardev *cd)
{
	bool send;

	pthread_mutex_lock(&cd->lock);
	send = cd->want_out;
	cd->want_out = false;
	update_events(cd);
	pthread_mutex_unlock(&cd->lock);
	if (send && cd->client)
		cd->client->can_send(cd->client_opaque);
}

/* An output of its own: nobody reads it any more where it hangs up. */
static void on_output(void *opaque, uint32_t events)
{
	struct chardev *cd = opaque;

	if (events & (EPOLLERR | EPOLLHUP)) {
		pthread_mutex_lock(&cd->lock);
		loop_remove(cd->out_handle);
		cd->out_handle = NULL;
		cd->out_fd = -1;
		pthread_mutex_unlock(&cd->lock);
	} else {
		offer_room(cd);
	}
}

static void on_both(void *opaque, uint32_t events)
{
	if (events & EPOLLOUT)
		offer_room(opaque);
	on_input(opaque, events & ~(uint32_t)EPOLLOUT);
}

static void on_connection(void *opaque, uint32_t events)
{
	struct chardev *cd = opaque;
	int fd = accept_connection(cd->listen_fd, SOCK_CLOEXEC | SOCK_NONBLOCK, cd->unlink_path,
				   &cd->starved);

	(void)events;
	if (cd->starved)
		loop_pause(cd->listen_handle, TRANSPORT_ACCEPT_RETRY_MS);
	if (fd < 0)
		return;
	loop_set_events(cd->listen_handle, 0); /* one reader at a time */
	pthread_mutex_lock(&cd->lock);
	cd->in_fd = cd->out_fd = fd;
	watch(cd);
	pthread_mutex_unlock(&cd->lock);
	if (cd->client)
		cd->client->can_send(cd->client_opaque);
}

static bool open_stdio(struct chardev *cd)
{
	struct termios raw;

	cd->in_fd = STDIN_FILENO;
	cd->out_fd = STDOUT_FILENO;
	if (tcgetattr(STDIN_FILENO, &cd->saved_termios) == 0) {
		raw = cd->saved_termios;
		cfmakeraw(&raw);
		raw.c_oflag |= OPOST; /* messages of ours keep their line ends */
		cd->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	return true;
}

static bool open_pty(struct chardev *cd, struct error **errp)
{
	char name[64];
	int slave;

	cd->in_fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	cd->out_fd = cd->in_fd;
	if (cd->in_fd < 0 || grantpt(cd->in_fd) < 0 || unlockpt(cd->in_fd) < 0 ||
	    ptsname_r(cd->in_fd, name, sizeof(name)) != 0) {
		error_set_errno(errp, errno, "serial: cannot open a pty");
		return false;
	}
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave >= 0) { /* opened and closed once, it says by POLLHUP whether anybody is there */
		struct termios raw;

		if (tcgetattr(slave, &raw) == 0) {
			cfmakeraw(&raw);
			tcsetattr(slave, TCSANOW, &raw);
		}
		close(slave);
	}
	log_info("serial: %s", name);
	return true;
}

/* A FIFO is no file: opening one waits for a reader, and so would each byte for a slow one. */
static bool open_file(struct chardev *cd, const char *path, bool append, struct error **errp)
{
	int how = O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | (append ? O_APPEND : O_TRUNC);
	scoped_fd fd = open(path, how, 0666);
	struct stat st;

	if ((fd < 0 ? stat(path, &st) : fstat(fd, &st)) == 0 && S_ISFIFO(st.st_mode)) {
		error_set(errp, "serial: '%s' is a FIFO: expected a file; unix:PATH has a reader",
			  path);
		return false;
	}
	if (fd < 0) {
		error_set_errno(errp, errno, "serial: cannot open '%s'", path);
		return false;
	}
	fcntl(fd, F_SETFL, append ? O_APPEND : 0);
	cd->out_fd = take_fd(fd);
	return true;
}

static bool open_socket(struct chardev *cd, const char *spec, struct error **errp)
{
	scoped_free char *path = xstrdup(spec);
	char *comma = strrchr(path, ',');

	if (comma && strcmp(comma, ",server") == 0) {
		*comma = '\0';
		cd->listen_fd = unix_listen(path, errp);
		if (cd->listen_fd < 0)
			return false;
		cd->unlink_path = take_ptr(path);
		cd->listen_handle = loop_add(cd->loop, cd->listen_fd, EPOLLIN, on_connection, cd);
		return true;
	}
	cd->in_fd = unix_connect(path, errp);
	cd->out_fd = cd->in_fd;
	if (cd->in_fd < 0) {
		error_prefix(errp, "serial: ");
		return false;
	}
	fcntl(cd->in_fd, F_SETFL, O_NONBLOCK);
	return true;
}

bool chardev_check_spec(const char *spec, struct error **errp)
{
	static const char *const whole[] = { "null", "stdio", "pty" };

	for (size_t i = 0; i < ARRAY_SIZE(whole); i++)
		if (strcmp(spec, whole[i]) == 0)
			return true;
	if ((strncmp(spec, "file:", 5) == 0 || strncmp(spec, "unix:", 5) == 0) && spec[5])
		return true;
	error_set(errp, "serial: '%s': expected stdio, null, pty, file:PATH or unix:PATH[,server]",
		  spec);
	return false;
}

static bool open_spec(struct chardev *cd, const char *spec, bool append, struct error **errp)
{
	if (!chardev_check_spec(spec, errp))
		return false;
	if (strcmp(spec, "null") == 0) {
		cd->kind = CHARDEV_NULL;
		return true;
	}
	if (strcmp(spec, "stdio") == 0) {
		cd->kind = CHARDEV_STDIO;
		return open_stdio(cd);
	}
	if (strcmp(spec, "pty") == 0) {
		cd->kind = CHARDEV_PTY;
		return open_pty(cd, errp);
	}
	if (strncmp(spec, "file:", 5) == 0) {
		cd->kind = CHARDEV_FILE;
		return open_file(cd, spec + 5, append, errp);
	}
	cd->kind = CHARDEV_SOCKET;
	return open_socket(cd, spec + 5, errp);
}

struct chardev *chardev_open(struct loop *loop, const char *spec, bool append,
			     void (*on_leave)(void *opaque), void *opaque, struct error **errp)
{
	struct chardev *cd = xcalloc(1, sizeof(*cd));

	cd->loop = loop;
	cd->on_leave = on_leave;
	cd->leave_opaque = opaque;
	cd->in_fd = cd->out_fd = cd->listen_fd = -1;
	pthread_mutex_init(&cd->lock, NULL);
	if (!open_spec(cd, spec, append, errp)) {
		chardev_close(cd);
		return NULL;
	}
	watch(cd);
	return cd;
}

void chardev_close(struct chardev *cd)
{
	if (!cd)
		return;
	unwatch(cd);
	loop_remove(cd->listen_handle);
	if (cd->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &cd->saved_termios);
	if (cd->kind != CHARDEV_STDIO) {
		if (cd->in_fd >= 0 && cd->in_fd != cd->out_fd)
			close(cd->in_fd);
		if (cd->out_fd >= 0)
			close(cd->out_fd);
	}
	if (cd->listen_fd >= 0)
		close(cd->listen_fd);
	if (cd->unlink_path)
		unlink(cd->unlink_path);
	free(cd->unlink_path);
	pthread_mutex_destroy(&cd->lock);
	free(cd);
}

void chardev_attach(struct chardev *cd, const struct chardev_client *client, void *opaque)
{
	cd->client = client;
	cd->client_opaque = opaque;
	if (client)
		chardev_room_again(cd);
}

/* lock held. -1: nobody is there. */
static ssize_t write_once(struct chardev *cd, const uint8_t *data, size_t len)
{
	struct pollfd pfd = { .fd = cd->out_fd, .events = POLLOUT };
	ssize_t n;

	switch (cd->kind) {
	case CHARDEV_NULL:
		return (ssize_t)len;
	case CHARDEV_SOCKET:
		n = send(cd->out_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case CHARDEV_STDIO:
	case CHARDEV_PTY:
		if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLOUT))
			return pfd.revents & (POLLHUP | POLLERR) ? -1 : 0;
		n = write(cd->out_fd, data, MIN_OF(len, WRITE_CHUNK));
		break;
	default:
		n = write(cd->out_fd, data, len);
	}
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

size_t chardev_write(struct chardev *cd, const uint8_t *data, size_t len)
{
	size_t done = 0;
	ssize_t n = 1;

	pthread_mutex_lock(&cd->lock);
	if (cd->out_fd < 0 && cd->kind != CHARDEV_NULL)
		n = -1;
	while (n > 0 && done < len) {
		n = write_once(cd, data + done, len - done);
		if (n > 0)
			done += (size_t)n;
	}
	if (n < 0 && cd->kind == CHARDEV_FILE) {
		done = len; /* a full disk: the line is dead, the guest is not */
	} else if (done < len && cd->out_fd >= 0) {
		cd->want_out = true;
		update_events(cd);
	}
	pthread_mutex_unlock(&cd->lock);
	return done;
}

bool chardev_connected(struct chardev *cd)
{
	struct pollfd pfd = { .events = POLLOUT };
	bool connected;

	pthread_mutex_lock(&cd->lock);
	pfd.fd = cd->out_fd;
	connected = cd->kind == CHARDEV_NULL || cd->out_fd >= 0;
	if (connected &&
	    (cd->kind == CHARDEV_PTY || cd->kind == CHARDEV_STDIO || cd->kind == CHARDEV_SOCKET))
		connected = poll(&pfd, 1, 0) <= 0 || !(pfd.revents & (POLLHUP | POLLERR));
	pthread_mutex_unlock(&cd->lock);
	return connected;
}

void chardev_size(struct chardev *cd, uint16_t *cols, uint16_t *rows)
{
	struct winsize size = { 0 };

	pthread_mutex_lock(&cd->lock);
	if ((cd->kind != CHARDEV_STDIO && cd->kind != CHARDEV_PTY) ||
	    ioctl(cd->out_fd, TIOCGWINSZ, &size) < 0)
		size = (struct winsize){ 0 };
	pthread_mutex_unlock(&cd->lock);
	*cols = size.ws_col;
	*rows = size.ws_row;
}

/* Input that no event will tell of: what a reader said before it left, and what is left in a pty after part was read. */
static void read_unasked(void *opaque)
{
	struct chardev *cd = opaque;
	bool hung_up;

	pthread_mutex_lock(&cd->lock);
	hung_up = cd->hung_up;
	pthread_mutex_unlock(&cd->lock);
	while (cd->in_fd >= 0 && cd->client && cd->client->room(cd->client_opaque)) {
		take_input(cd, 0);
		if (!hung_up)
			return;
	}
}

void chardev_room_again(struct chardev *cd)
{
	bool unasked;

	pthread_mutex_lock(&cd->lock);
	unasked = cd->hung_up || (cd->kind == CHARDEV_PTY && !cd->want_in);
	if (!cd->want_in && cd->in_handle) {
		cd->want_in = true;
		update_events(cd);
	}
	pthread_mutex_unlock(&cd->lock);
	if (__atomic_load_n(&cd->ntyped, __ATOMIC_ACQUIRE))
		loop_post(cd->loop, deliver_typed, cd);
	if (unasked)
		loop_post(cd->loop, read_unasked, cd);
}
