/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

static volatile sig_atomic_t interrupt_signal;

static void on_signal(int sig)
{
	interrupt_signal = sig;
}

void process_init(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool process_interrupted(void)
{
	return interrupt_signal != 0;
}

bool why_set(struct why *why, const char *fmt, ...)
{
	va_list ap;

	if (*why->text)
		return false;
	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return false;
}

/* In the child of a vfork: only calls that touch nothing of the parent's memory. */
static _Noreturn void become(char *const *argv, int in, int out, int err)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(err, STDERR_FILENO) < 0)
		_exit(126);
	execv(argv[0], argv);
	_exit(127);
}

bool child_start(struct child *child, char *const *argv, const char *errors, uint64_t *started_ns,
		 struct why *why)
{
	scoped_fd in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	scoped_fd err = open(errors, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int out[2];
	pid_t pid;

	*child = (struct child){ .out = -1 };
	if (in < 0 || err < 0 || pipe2(out, O_CLOEXEC) < 0)
		return why_set(why, "cannot start %s: %s", argv[0], strerror(errno));
	snprintf(child->errors, sizeof(child->errors), "%s", errors);
	if (started_ns)
		*started_ns = clock_now_ns();
	pid = vfork();
	if (pid == 0)
		become(argv, in, out[1], err);
	close(out[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	child->out = out[0];
	if (pid < 0)
		return why_set(why, "cannot start %s: %s", argv[0], strerror(errno));
	child->pid = pid;
	return true;
}

void process_warm_memory(uint64_t bytes)
{
	pid_t pid = fork();

	if (pid == 0) {
		uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			_exit(1);
		madvise(p, bytes, MADV_HUGEPAGE);
		for (uint64_t at = 0; at < bytes; at += 4096)
			*(volatile uint8_t *)(p + at) = 1;
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR && !interrupt_signal)
		;
}

void child_kill(struct child *child)
{
	if (child->pid > 0) {
		kill(child->pid, SIGKILL);
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	if (child->out >= 0)
		close(child->out);
	child->pid = 0;
	child->out = -1;
}

const char *child_last_words(const struct child *child, struct why *buffer)
{
	FILE *f = fopen(child->errors, "re");
	char line[sizeof(buffer->text)];

	*buffer->text = '\0';
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (*line)
			memcpy(buffer->text, line, sizeof(line));
	}
	if (f)
		fclose(f);
	return buffer->text;
}

int wait_fds(struct pollfd *fds, nfds_t n, uint64_t deadline_ns)
{
	for (;;) {
		uint64_t now = clock_now_ns();
		struct timespec left = clock_timespec(deadline_ns > now ? deadline_ns - now : 0);
		int ready;

		if (process_interrupted())
			return -1;
		ready = ppoll(fds, n, &left, NULL);
		if (ready >= 0)
			return ready;
		if (errno != EINTR)
			return -1;
	}
}

static int try_connect(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	scoped_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(sun.sun_path))
		return -1;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return -1;
	return take_fd(fd);
}

int wait_connect(const char *path, const struct child *child, uint64_t deadline_ns, struct why *why)
{
	char dir[108], events[4096];
	scoped_fd notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct pollfd fds[2] = { { .fd = notify, .events = POLLIN }, { .fd = child->out } };
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	if (notify < 0 || inotify_add_watch(notify, dir, IN_CREATE) < 0) {
		why_set(why, "inotify on %s: %s", dir, strerror(errno));
		return -1;
	}
	for (;;) {
		int fd = try_connect(path);
		/* A name that refuses is bound and about to listen: that comes without an event. */
		bool soon = fd < 0 && errno == ECONNREFUSED;
		uint64_t until = soon ? clock_now_ns() + NS_PER_MS : deadline_ns;
		int ready;

		if (fd >= 0)
			return fd;
		ready = wait_fds(fds, 2, MIN_OF(until, deadline_ns));
		if (ready < 0 || fds[1].revents & (POLLHUP | POLLERR) ||
		    clock_now_ns() >= deadline_ns) {
			why_set(why, "nobody listens on %s", path);
			return -1;
		}
		while (ready && read(notify, events, sizeof(events)) > 0)
			continue;
	}
}

#define MAPPINGS_MAX 1024

struct mapping {
	uint64_t start, end;
	uint64_t dirty_kb;
	bool anonymous;
};

static size_t read_smaps(FILE *f, struct mapping *maps)
{
	char line[512], access[8];
	struct mapping *map = NULL;
	uint64_t start, end, inode, value;
	size_t n = 0;

	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*x %*s %" SCNu64, &start, &end,
			   access, &inode) == 4) {
			if (n == MAPPINGS_MAX)
				break;
			map = &maps[n++];
			*map = (struct mapping){ start, end, 0,
						 !inode && strncmp(access, "rw", 2) == 0 };
		} else if (map && sscanf(line, "Private_Dirty: %" SCNu64, &value) == 1) {
			map->dirty_kb = value;
		}
	}
	return n;
}

/* How many mappings from this one on are neighbours and ram_kb long together; 0: none. */
static size_t ram_mappings(const struct mapping *maps, size_t n, uint64_t ram_kb)
{
	for (size_t i = 0; i < n && maps[i].anonymous; i++) {
		uint64_t kb = (maps[i].end - maps[0].start) >> 10;

		if (i && maps[i].start != maps[i - 1].end)
			break;
		if (kb >= ram_kb)
			return kb == ram_kb ? i + 1 : 0;
	}
	return 0;
}

bool private_dirty_kb(pid_t pid, uint64_t ram_kb, uint64_t *kb, struct why *why)
{
	scoped_free struct mapping *maps = xcalloc(MAPPINGS_MAX, sizeof(*maps));
	bool found = false;
	char path[64];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return why_set(why, "%s: %s", path, strerror(errno));
	n = read_smaps(f, maps);
	fclose(f);
	*kb = 0;
	for (size_t i = 0; i < n; i++) {
		size_t skip = found ? 0 : ram_mappings(maps + i, n - i, ram_kb);

		if (skip) {
			found = true;
			i += skip - 1;
		} else {
			*kb += maps[i].dirty_kb;
		}
	}
	return found ||
	       why_set(why, "no mapping looks like the guest's RAM of %" PRIu64 " kB", ram_kb);
}
