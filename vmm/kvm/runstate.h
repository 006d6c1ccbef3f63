/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest as a whole is doing, and which changes are legal. The names are QMP's RunState, but for
 * "handover-in-doubt", which is ferry's own: the guest is here, whole and stopped, and may be running elsewhere.
 */
#ifndef FERRY_KVM_RUNSTATE_H
#define FERRY_KVM_RUNSTATE_H

#include <stdbool.h>

enum runstate {
	RUNSTATE_PRELAUNCH, /* built, never run: --paused */
	RUNSTATE_INMIGRATE, /* waits for, or loads, an incoming migration */
	RUNSTATE_RUNNING,
	RUNSTATE_PAUSED,	 /* stopped by a user */
	RUNSTATE_FINISH_MIGRATE, /* stopped by a migration that may still fail */
	RUNSTATE_POSTMIGRATE,	 /* the guest is elsewhere */
	RUNSTATE_IN_DOUBT,	 /* stopped; whether it runs elsewhere is not known */
	RUNSTATE_SHUTDOWN,	 /* the guest has powered off */
	RUNSTATE_INTERNAL_ERROR, /* the guest cannot go on */
	RUNSTATE_COUNT,
};

const char *runstate_name(enum runstate state);
bool runstate_can_change(enum runstate from, enum runstate to);

#endif
