/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/progress.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define BAR_CELLS 24

void progress_begin(struct progress *p)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	p->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	p->terminal = isatty(STDOUT_FILENO);
}

void progress_end(struct progress *p)
{
	if (p->signal_fd >= 0)
		close(p->signal_fd);
}

bool progress_wait(struct progress *p)
{
	struct pollfd pfd = { .fd = p->signal_fd, .events = POLLIN };
	struct signalfd_siginfo info;

	return poll(&pfd, 1, 1000 / PROGRESS_LOOKS) > 0 &&
	       read(p->signal_fd, &info, sizeof(info)) > 0;
}

const char *progress_bar(double part, char buf[static PROGRESS_BAR_MAX])
{
	char *at = buf;

	for (unsigned int i = 0; i < BAR_CELLS; i++)
		at = stpcpy(at, i < part * BAR_CELLS ? "█" : "░");
	return buf;
}

json_int_t answer_number(json_t *json, const char *group, const char *name)
{
	return json_integer_value(
		json_object_get(group ? json_object_get(json, group) : json, name));
}

const char *answer_text(json_t *json, const char *name)
{
	const char *s = json_string_value(json_object_get(json, name));

	return s ? s : "";
}
