/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: one signal ends the process in order, also one that comes twice; a second one some time later at once, even where the main thread
 * waits for ever. A hangup that is ignored stays so.
 *
 * How: a child process whose main thread runs the loop, or does not.
 */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/support.h"
#include "vmm/app/signals.h"
#include "vmm/base/log.h"

SUITE(signals);

struct child {
	struct loop *loop;
	unsigned int resized;
};

static void on_resized(void *opaque)
{
	struct child *c = opaque;

	c->resized++;
}

static void on_end(void *opaque)
{
	struct child *c = opaque;

	loop_quit(c->loop);
}

/* Its exit status is 10 and how often it was told of another size. */
static void child_main(bool hangs, int ready_fd)
{
	struct child c = { .loop = loop_new(NULL) };
	struct signals_owner owner = { on_resized, on_end, &c };
	struct signals *s = signals_start(c.loop, &owner, false, NULL);

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* also of a test that fails nothing is left behind */
	if (!s || write(ready_fd, "r", 1) != 1)
		_exit(1);
	while (hangs)
		pause();
	loop_run(c.loop);
	signals_stop(s);
	loop_free(c.loop);
	_exit(10 + (int)c.resized);
}

static pid_t start_child(bool hangs)
{
	char byte;
	int fds[2];
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0)
		child_main(hangs, fds[1]);
	cr_assert_gt(pid, 0);
	cr_assert_eq(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	close(fds[1]);
	return pid;
}

static const int ends[] = { SIGTERM, SIGINT, SIGHUP };

Test(signals, one_ends_it_in_order, .timeout = 60)
{
	signal(SIGHUP, SIG_DFL); /* the test may run under nohup itself */
	for (unsigned int i = 0; i < 3; i++) {
		pid_t pid = start_child(false);
		int status;

		cr_assert_eq(kill(pid, SIGWINCH), 0);
		cr_assert_eq(kill(pid, ends[i]), 0);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFEXITED(status), "signal %d: status 0x%x", ends[i], status);
		cr_assert_geq(WEXITSTATUS(status), 10);
		cr_assert_leq(WEXITSTATUS(status), 11);
	}
}

/* Does the process keep the signal blocked, to be waited for? One that is not is as its disposition says. */
static bool is_blocked(pid_t pid, int signo)
{
	char path[64], line[256];
	unsigned long long mask = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	cr_assert(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "SigBlk: %llx", &mask);
	fclose(f);
	return mask >> (signo - 1) & 1;
}

Test(signals, a_hangup_stays_ignored, .timeout = 60)
{
	pid_t pid;
	int status;

	signal(SIGHUP, SIG_IGN);
	pid = start_child(false);
	cr_assert(is_blocked(pid, SIGTERM) && !is_blocked(pid, SIGHUP));
	cr_assert_eq(kill(pid, SIGHUP), 0);
	cr_assert_eq(kill(pid, SIGTERM), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 10, "status 0x%x", status);
}

/* It is sent over and over: what comes right behind the first one must not count. */
static void expect_end_at_once(int signo)
{
	pid_t pid = start_child(true);
	uint64_t start = clock_now_ns();
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		kill(pid, signo);
		sched_yield();
	}
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == signo, "status 0x%x", status);
	cr_assert_geq(clock_now_ns() - start, SIGNALS_SECOND_NS);
}

Test(signals, a_second_one_ends_what_hangs, .timeout = 60)
{
	expect_end_at_once(SIGTERM);
	expect_end_at_once(SIGINT);
}

static void hang(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
	for (;;)
		pause();
}

Test(signals, a_third_one_ends_what_cannot_say_so, .timeout = 60)
{
	log_set_sink(hang, LOG_ERROR);
	expect_end_at_once(SIGTERM);
	expect_end_at_once(SIGINT);
}
