/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/progress.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#include "vmm/app/signals.h"
#include "vmm/base/cleanup.h"

#define BAR_CELLS 24

static volatile sig_atomic_t wish; /* 1: not told yet; 2: told */

static void on_signal(int signo)
{
	static uint64_t first_ns;
	uint64_t now = clock_now_ns();

	if (!wish) {
		first_ns = now;
		wish = 1;
	} else if (now - first_ns >= SIGNALS_SECOND_NS) {
		signal(signo, SIG_DFL);
		raise(signo); /* comes when this handler returns */
	}
}

void progress_begin(void)
{
	static const int signals[] = { SIGINT, SIGTERM };
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, old;

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&sa.sa_mask, signals[i]);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
}

bool progress_wait(void)
{
	if (wish != 1)
		poll(NULL, 0, 1000 / PROGRESS_LOOKS); /* which a signal ends */
	if (wish != 1)
		return false;
	wish = 2;
	return true;
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
