/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/signals.h"

#include <signal.h>
#include <termios.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

struct signals {
	/* set at creation */
	struct loop *loop;
	struct signals_owner owner;
	sigset_t set;
	bool terminal;
	struct termios termios;
	pthread_t thread;
	bool stopping; /* atomic */
	/* the thread's */
	uint64_t first_ns; /* when the first SIGTERM or SIGINT was taken; 0: there was none */
};

/* The default first: should not even the message find a way out, a third one ends it. */
static void end_at_once(struct signals *s, int signo)
{
	sigset_t one;

	if (s->terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &s->termios);
	signal(signo, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, signo);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
	log_error("signal %d a second time: ending at once", signo);
	raise(signo);
}

static bool is_second(struct signals *s)
{
	uint64_t now = clock_now_ns();

	if (!s->first_ns)
		s->first_ns = now;
	return now - s->first_ns >= SIGNALS_SECOND_NS;
}

static void *wait_for_signals(void *opaque)
{
	struct signals *s = opaque;
	int signo;

	while (sigwait(&s->set, &signo) == 0 && !__atomic_load_n(&s->stopping, __ATOMIC_ACQUIRE)) {
		if (signo == SIGWINCH) {
			loop_post(s->loop, s->owner.resized, s->owner.opaque);
			continue;
		}
		if (signo != SIGHUP && is_second(s))
			end_at_once(s, signo);
		loop_post(s->loop, s->owner.end, s->owner.opaque);
	}
	return NULL;
}

struct signals *signals_start(struct loop *loop, const struct signals_owner *owner, bool terminal,
			      struct error **errp)
{
	struct signals *s = xcalloc(1, sizeof(*s));
	struct sigaction hangup;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of who writes it */
	s->loop = loop;
	s->owner = *owner;
	s->terminal = terminal && tcgetattr(STDIN_FILENO, &s->termios) == 0;
	sigemptyset(&s->set);
	sigaddset(&s->set, SIGINT);
	sigaddset(&s->set, SIGTERM);
	if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
		sigaddset(&s->set, SIGHUP); /* else nohup(1) wants it to outlive its terminal */
	sigaddset(&s->set, SIGWINCH);
	pthread_sigmask(SIG_BLOCK, &s->set, NULL);
	rc = thread_start(&s->thread, wait_for_signals, s);
	if (!rc)
		return s;
	error_set_errno(errp, rc, "thread for signals");
	free(s);
	return NULL;
}

void signals_stop(struct signals *s)
{
	if (!s)
		return;
	__atomic_store_n(&s->stopping, true, __ATOMIC_RELEASE);
	pthread_kill(s->thread, SIGWINCH);
	pthread_join(s->thread, NULL);
	free(s);
}
