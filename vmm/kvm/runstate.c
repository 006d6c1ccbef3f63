/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/runstate.h"

#define TO(state) (1u << RUNSTATE_##state)

static const struct {
	const char *name;
	unsigned int to; /* TO() bits */
} states[RUNSTATE_COUNT] = {
	[RUNSTATE_PRELAUNCH] = { "prelaunch", TO(RUNNING) | TO(FINISH_MIGRATE) | TO(SHUTDOWN) },
	[RUNSTATE_INMIGRATE] = { "inmigrate",
				 TO(RUNNING) | TO(PAUSED) | TO(PRELAUNCH) | TO(IN_DOUBT) },
	[RUNSTATE_RUNNING] = { "running", TO(PAUSED) | TO(FINISH_MIGRATE) | TO(SHUTDOWN) |
						  TO(INTERNAL_ERROR) },
	[RUNSTATE_PAUSED] = { "paused", TO(RUNNING) | TO(FINISH_MIGRATE) | TO(SHUTDOWN) |
						TO(INTERNAL_ERROR) },
	[RUNSTATE_FINISH_MIGRATE] = { "finish-migrate", TO(RUNNING) | TO(PAUSED) | TO(PRELAUNCH) |
								TO(POSTMIGRATE) | TO(IN_DOUBT) },
	[RUNSTATE_POSTMIGRATE] = { "postmigrate", 0 },
	[RUNSTATE_IN_DOUBT] = { "handover-in-doubt", TO(RUNNING) | TO(PAUSED) | TO(POSTMIGRATE) },
	[RUNSTATE_SHUTDOWN] = { "shutdown", TO(RUNNING) | TO(PAUSED) },
	[RUNSTATE_INTERNAL_ERROR] = { "internal-error", TO(RUNNING) | TO(PAUSED) },
};

const char *runstate_name(enum runstate state)
{
	return states[state].name;
}

bool runstate_can_change(enum runstate from, enum runstate to)
{
	return states[from].to >> to & 1;
}
