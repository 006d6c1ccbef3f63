/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writer sends 512 KiB at a time and stops the clock when the reader, who reads straight into a
 * fresh mapping, has acknowledged the last byte. Both are children, so that whatever priority the
 * bench has given itself for its time stamps does not count here.
 */
#include "bench/copy.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define WRITE_BYTES (512u << 10)
#define SOCKET_BYTES (1 << 20) /* as ferry's channel asks for */
#define HUGE_BYTES (2ul << 20)
#define TIMEOUT_NS (60 * NS_PER_SEC)

static uint8_t *map(uint64_t bytes, bool huge)
{
	uint8_t *p = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p = (uint8_t *)(((uintptr_t)p + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	if (huge)
		madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static void fill(uint8_t *mem, uint64_t bytes)
{
	uint64_t *words = (uint64_t *)mem, x = 0x9e3779b97f4a7c15;

	for (uint64_t i = 0; i < bytes / sizeof(x); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[i] = x;
	}
}

static int read_all(int fd, uint64_t bytes, bool huge)
{
	uint8_t *mem = map(bytes, huge);
	char byte = 0;

	if (!mem || write(fd, &byte, 1) != 1) /* ready */
		return 1;
	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = read(fd, mem + done, MIN_OF(bytes - done, (uint64_t)WRITE_BYTES));

		if (n <= 0)
			return 1;
		done += (uint64_t)n;
	}
	return write(fd, &byte, 1) != 1;
}

static int write_all(int fd, int report, uint64_t bytes, bool huge)
{
	uint8_t *mem = map(bytes, huge);
	uint64_t start, ns;
	char byte;

	if (!mem)
		return 1;
	fill(mem, bytes);
	process_warm_memory(bytes);
	if (read(fd, &byte, 1) != 1)
		return 1;
	start = clock_now_ns();
	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = write(fd, mem + done, MIN_OF(bytes - done, (uint64_t)WRITE_BYTES));

		if (n <= 0)
			return 1;
		done += (uint64_t)n;
	}
	if (read(fd, &byte, 1) != 1)
		return 1;
	ns = clock_now_ns() - start;
	return write(report, &ns, sizeof(ns)) != sizeof(ns);
}

static _Noreturn void spin(void)
{
	for (;;)
		__asm__ volatile("pause");
}

enum role { READER, WRITER, SPINNER, ROLES };

static pid_t start(enum role role, const struct copy_plan *plan, int sockets[2], int report[2])
{
	pid_t pid = fork();
	int status = 1;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	close(report[0]);
	if (role != WRITER)
		close(report[1]); /* so that the writer's end is the report's end */
	close(sockets[role == READER ? 1 : 0]);
	if (role == READER)
		status = read_all(sockets[0], plan->bytes, plan->huge);
	else if (role == WRITER)
		status = write_all(sockets[1], report[1], plan->bytes, plan->huge);
	else
		spin();
	_exit(status);
}

bool copy_measure(const struct copy_plan *plan, uint64_t *ns, struct why *why)
{
	int sockets[2], report[2], size = SOCKET_BYTES;
	struct pollfd pfd = { .events = POLLIN };
	pid_t pids[ROLES] = { 0 };
	bool ok;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return why_set(why, "socketpair: %s", strerror(errno));
	if (pipe(report) < 0) {
		close(sockets[0]);
		close(sockets[1]);
		return why_set(why, "pipe: %s", strerror(errno));
	}
	for (int i = 0; i < 2; i++) {
		setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(sockets[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	}
	for (int role = READER; role < (plan->busy ? ROLES : SPINNER); role++)
		pids[role] = start(role, plan, sockets, report);
	close(sockets[0]);
	close(sockets[1]);
	close(report[1]);
	pfd.fd = report[0];
	ok = wait_fds(&pfd, 1, clock_now_ns() + TIMEOUT_NS) > 0 &&
	     read(report[0], ns, sizeof(*ns)) == sizeof(*ns);
	close(report[0]);
	for (int role = 0; role < ROLES; role++) {
		if (pids[role] <= 0)
			continue;
		kill(pids[role], SIGKILL);
		waitpid(pids[role], NULL, 0);
	}
	return ok || why_set(why, "the copy through a socket did not work");
}
