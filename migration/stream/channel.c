/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/stream/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define LINGER_MS 10000
#define PARTIAL ".partial-XXXXXX"

enum channel_kind { CHANNEL_SOCKET, CHANNEL_PIPE, CHANNEL_FILE, CHANNEL_MEMORY };

struct channel {
	/* set at creation */
	enum channel_kind kind;
	char *name;
	int fd;
	int cancel_fd;	 /* an eventfd that is readable once cancelled; -1 for memory */
	bool cancelled;	 /* atomic; set before cancel_fd */
	char *temp_path; /* a file being written, until channel_finish() */
	char *final_path;

	/* owned by the reading and the writing thread respectively */
	uint64_t read_timeout_ms;
	uint64_t write_timeout_ms;

	/* CHANNEL_MEMORY */
	uint8_t *mem;
	size_t mem_start, mem_end, mem_size;
};

static struct channel *channel_new(enum channel_kind kind, int fd, const char *name)
{
	struct channel *ch = xcalloc(1, sizeof(*ch));

	ch->kind = kind;
	ch->fd = fd;
	ch->cancel_fd = -1;
	ch->name = xstrdup(name);
	return ch;
}

static bool make_waitable(struct channel *ch, struct error **errp)
{
	int flags = fcntl(ch->fd, F_GETFL);

	ch->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ch->cancel_fd < 0 || flags < 0 || fcntl(ch->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		error_set_errno(errp, errno, "%s: cannot set up", ch->name);
		return false;
	}
	return true;
}

static bool kind_of_fd(int fd, const char *name, enum channel_kind *kind, struct error **errp)
{
	struct stat st;
	int type = 0;
	socklen_t len = sizeof(type);

	if (fstat(fd, &st) < 0) {
		error_set_errno(errp, errno, "%s", name);
		return false;
	}
	if (S_ISREG(st.st_mode)) {
		*kind = CHANNEL_FILE;
	} else if (S_ISFIFO(st.st_mode)) {
		*kind = CHANNEL_PIPE;
	} else if (S_ISSOCK(st.st_mode) && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
		   type == SOCK_STREAM) {
		*kind = CHANNEL_SOCKET;
	} else {
		error_set(errp, "%s: expected a stream socket, a pipe or a regular file", name);
		return false;
	}
	return true;
}

struct channel *channel_from_fd(int fd, const char *name, struct error **errp)
{
	enum channel_kind kind;
	struct channel *ch;

	if (!kind_of_fd(fd, name, &kind, errp)) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	ch = channel_new(kind, fd, name);
	if (!make_waitable(ch, errp)) {
		channel_free(ch);
		return NULL;
	}
	if (kind == CHANNEL_SOCKET) {
		/* Several system calls' worth of pages in flight; the kernel clamps what is not allowed. */
		int size = 1 << 20;

		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	}
	return ch;
}

struct channel *channel_create_file(const char *path, struct error **errp)
{
	scoped_free char *temp = xasprintf("%s" PARTIAL, path);
	scoped_free char *name = xasprintf("file:%s", path);
	int fd = mkostemp(temp, O_CLOEXEC);
	struct channel *ch;

	if (fd < 0) {
		error_set_errno(errp, errno,
				errno == ENAMETOOLONG ? "file:%s: cannot create, with '" PARTIAL
							"' behind it until it is complete"
						      : "file:%s: cannot create",
				path);
		return NULL;
	}
	ch = channel_from_fd(fd, name, errp);
	if (!ch) {
		unlink(temp);
		return NULL;
	}
	ch->temp_path = take_ptr(temp);
	ch->final_path = xstrdup(path);
	return ch;
}

struct channel *channel_memory(void)
{
	return channel_new(CHANNEL_MEMORY, -1, "memory");
}

void channel_free(struct channel *ch)
{
	if (!ch)
		return;
	if (ch->fd >= 0)
		close(ch->fd);
	if (ch->cancel_fd >= 0)
		close(ch->cancel_fd);
	if (ch->temp_path)
		unlink(ch->temp_path);
	free(ch->temp_path);
	free(ch->final_path);
	free(ch->name);
	free(ch->mem);
	free(ch);
}

const char *channel_name(const struct channel *ch)
{
	return ch->name;
}

bool channel_is_duplex(const struct channel *ch)
{
	return ch->kind == CHANNEL_SOCKET;
}

void channel_set_read_timeout(struct channel *ch, uint64_t timeout_ms)
{
	ch->read_timeout_ms = timeout_ms;
}

void channel_set_write_timeout(struct channel *ch, uint64_t timeout_ms)
{
	ch->write_timeout_ms = timeout_ms;
}

static bool still_wanted(struct channel *ch, struct error **errp)
{
	if (!__atomic_load_n(&ch->cancelled, __ATOMIC_ACQUIRE))
		return true;
	error_set(errp, "%s: cancelled", ch->name);
	return false;
}

/* Wait until events are there. False with an error on cancel, time-out, or a failed poll. */
static bool wait_for(struct channel *ch, short events, uint64_t timeout_ms, struct error **errp)
{
	struct pollfd pfds[2] = { { .fd = ch->fd, .events = events },
				  { .fd = ch->cancel_fd, .events = POLLIN } };
	uint64_t deadline = timeout_ms ? clock_now_ns() + timeout_ms * NS_PER_MS : 0;

	for (;;) {
		int wait_ms = -1;
		int n;

		if (deadline) {
			uint64_t now = clock_now_ns();

			wait_ms = now < deadline ? (int)((deadline - now) / NS_PER_MS) + 1 : 0;
		}
		n = poll(pfds, 2, wait_ms);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			error_set_errno(errp, errno, "%s: poll", ch->name);
			return false;
		}
		if (pfds[1].revents) {
			error_set(errp, "%s: cancelled", ch->name);
			return false;
		}
		if (n > 0)
			return true;
		if (deadline) {
			error_set(errp, "%s: the peer %s within %" PRIu64 " ms", ch->name,
				  events & POLLIN ? "sent nothing" : "took nothing", timeout_ms);
			return false;
		}
	}
}

static void memory_append(struct channel *ch, const void *buf, size_t len)
{
	if (!len)
		return;
	if (ch->mem_end + len > ch->mem_size) {
		ch->mem_size = (ch->mem_end + len) * 2;
		ch->mem = realloc(ch->mem, ch->mem_size);
		if (!ch->mem)
			abort();
	}
	memcpy(ch->mem + ch->mem_end, buf, len);
	ch->mem_end += len;
}

/* writev() to a pipe that nobody reads raises SIGPIPE in this thread: held back, and taken if it came. */
static ssize_t write_pipe(struct channel *ch, struct iovec *iov, size_t n)
{
	struct timespec no_wait = { 0 };
	sigset_t pipe_set, old;
	ssize_t done;
	int saved;

	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
	done = writev(ch->fd, iov, (int)n);
	saved = errno;
	if (done < 0 && saved == EPIPE && !sigismember(&old, SIGPIPE))
		sigtimedwait(&pipe_set, NULL, &no_wait);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved;
	return done;
}

/* One attempt: bytes taken, or -1 with errno. A broken pipe is an errno, never a signal. */
static ssize_t write_some(struct channel *ch, struct iovec *iov, size_t n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };

	switch (ch->kind) {
	case CHANNEL_SOCKET:
		return sendmsg(ch->fd, &msg, MSG_NOSIGNAL);
	case CHANNEL_PIPE:
		return write_pipe(ch, iov, n);
	default:
		return writev(ch->fd, iov, (int)n);
	}
}

bool channel_writev(struct channel *ch, struct iovec *iov, size_t n, struct error **errp)
{
	while (n) {
		ssize_t done;

		if (!still_wanted(ch, errp))
			return false;
		if (ch->kind == CHANNEL_MEMORY) {
			memory_append(ch, iov->iov_base, iov->iov_len);
			iov++;
			n--;
			continue;
		}
		done = write_some(ch, iov, MIN_OF(n, 1024));
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN) {
			if (!wait_for(ch, POLLOUT, ch->write_timeout_ms, errp))
				return false;
			continue;
		}
		if (done < 0) {
			error_set_errno(errp, errno, "%s: cannot write", ch->name);
			return false;
		}
		while (n && (size_t)done >= iov->iov_len) {
			done -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (uint8_t *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return true;
}

static ssize_t memory_take(struct channel *ch, void *buf, size_t max)
{
	size_t n = MIN_OF(max, ch->mem_end - ch->mem_start);

	if (n)
		memcpy(buf, ch->mem + ch->mem_start, n);
	ch->mem_start += n;
	return (ssize_t)n;
}

ssize_t channel_read(struct channel *ch, void *buf, size_t max, struct error **errp)
{
	for (;;) {
		ssize_t n;

		if (!still_wanted(ch, errp))
			return -1;
		if (ch->kind == CHANNEL_MEMORY)
			return memory_take(ch, buf, max);
		n = read(ch->fd, buf, max);
		if (n >= 0)
			return n;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN) {
			error_set_errno(errp, errno, "%s: cannot read", ch->name);
			return -1;
		}
		if (!wait_for(ch, POLLIN, ch->read_timeout_ms, errp))
			return -1;
	}
}

bool channel_readable(struct channel *ch)
{
	struct pollfd pfd = { .fd = ch->fd, .events = POLLIN };

	if (ch->kind == CHANNEL_MEMORY)
		return true;
	return poll(&pfd, 1, 0) > 0;
}

static bool finish_file(struct channel *ch, struct error **errp)
{
	if (fsync(ch->fd) < 0) {
		error_set_errno(errp, errno, "%s: cannot sync", ch->name);
		return false;
	}
	if (!ch->temp_path)
		return true;
	if (rename(ch->temp_path, ch->final_path) < 0) {
		error_set_errno(errp, errno, "%s: cannot rename '%s'", ch->name, ch->temp_path);
		return false;
	}
	free(ch->temp_path);
	ch->temp_path = NULL;
	return true;
}

bool channel_finish(struct channel *ch, struct error **errp)
{
	switch (ch->kind) {
	case CHANNEL_FILE:
		return finish_file(ch, errp);
	case CHANNEL_SOCKET:
		shutdown(ch->fd, SHUT_WR);
		return true;
	case CHANNEL_PIPE:
	case CHANNEL_MEMORY:
		return true;
	}
	return true;
}

void channel_linger(struct channel *ch)
{
	uint64_t end = clock_now_ns() + LINGER_MS * NS_PER_MS;
	char sink[4096];

	if (ch->kind != CHANNEL_SOCKET)
		return;
	shutdown(ch->fd, SHUT_WR);
	while (clock_now_ns() < end) {
		ch->read_timeout_ms = (end - clock_now_ns()) / NS_PER_MS + 1;
		if (channel_read(ch, sink, sizeof(sink), NULL) <= 0)
			return;
	}
}

void channel_cancel(struct channel *ch)
{
	uint64_t one = 1;

	__atomic_store_n(&ch->cancelled, true, __ATOMIC_RELEASE);
	if (ch->cancel_fd >= 0 && write(ch->cancel_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

void channel_rearm(struct channel *ch)
{
	uint64_t count;

	if (ch->cancel_fd >= 0 && read(ch->cancel_fd, &count, sizeof(count)) < 0)
		assert(errno == EAGAIN);
	__atomic_store_n(&ch->cancelled, false, __ATOMIC_RELEASE);
}

const uint8_t *channel_memory_data(const struct channel *ch, size_t *len)
{
	assert(ch->kind == CHANNEL_MEMORY);
	*len = ch->mem_end - ch->mem_start;
	return ch->mem ? ch->mem + ch->mem_start : (const uint8_t *)"";
}
