/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the run states have QMP's names, and the changes that would run a guest twice or lose it
 * are illegal.
 * How: the table is asked for what must be and what must never be.
 */
#include "tests/unit/support.h"
#include "vmm/kvm/runstate.h"

SUITE(runstate);

Test(runstate, names_are_distinct)
{
	for (enum runstate a = 0; a < RUNSTATE_COUNT; a++) {
		cr_assert_not_null(runstate_name(a));
		for (enum runstate b = 0; b < a; b++)
			cr_assert_str_neq(runstate_name(a), runstate_name(b));
	}
	cr_assert_str_eq(runstate_name(RUNSTATE_RUNNING), "running");
	cr_assert_str_eq(runstate_name(RUNSTATE_PAUSED), "paused");
	cr_assert_str_eq(runstate_name(RUNSTATE_PRELAUNCH), "prelaunch");
	cr_assert_str_eq(runstate_name(RUNSTATE_INMIGRATE), "inmigrate");
	cr_assert_str_eq(runstate_name(RUNSTATE_FINISH_MIGRATE), "finish-migrate");
	cr_assert_str_eq(runstate_name(RUNSTATE_POSTMIGRATE), "postmigrate");
	cr_assert_str_eq(runstate_name(RUNSTATE_IN_DOUBT), "handover-in-doubt");
	cr_assert_str_eq(runstate_name(RUNSTATE_SHUTDOWN), "shutdown");
	cr_assert_str_eq(runstate_name(RUNSTATE_INTERNAL_ERROR), "internal-error");
}

#define CAN(from, to) cr_assert(runstate_can_change(RUNSTATE_##from, RUNSTATE_##to))
#define CANNOT(from, to) cr_assert_not(runstate_can_change(RUNSTATE_##from, RUNSTATE_##to))

/* The guest is elsewhere: nothing here may touch it again. */
Test(runstate, postmigrate_is_final)
{
	for (enum runstate to = 0; to < RUNSTATE_COUNT; to++)
		cr_assert_not(runstate_can_change(RUNSTATE_POSTMIGRATE, to), "%s",
			      runstate_name(to));
}

Test(runstate, a_migration_takes_its_way_or_back)
{
	CAN(PRELAUNCH, RUNNING);
	CAN(RUNNING, PAUSED);
	CAN(PAUSED, RUNNING);
	CAN(RUNNING, FINISH_MIGRATE);
	CAN(PAUSED, FINISH_MIGRATE);
	CAN(PRELAUNCH, FINISH_MIGRATE);
	CAN(FINISH_MIGRATE, POSTMIGRATE);
	CAN(FINISH_MIGRATE, RUNNING); /* it failed: the state before comes back */
	CAN(FINISH_MIGRATE, PAUSED);
	CAN(FINISH_MIGRATE, PRELAUNCH);
	CAN(FINISH_MIGRATE, IN_DOUBT);
	CAN(IN_DOUBT, RUNNING); /* a person knows */
	CAN(IN_DOUBT, POSTMIGRATE);
	CAN(INMIGRATE, RUNNING);
	CAN(INMIGRATE, PAUSED);
	CAN(RUNNING, SHUTDOWN);
}

Test(runstate, short_cuts_are_illegal)
{
	CANNOT(RUNNING, POSTMIGRATE);
	CANNOT(RUNNING, INMIGRATE);
	CANNOT(PAUSED, POSTMIGRATE);
	CANNOT(PAUSED, INMIGRATE);
	CANNOT(RUNNING, PRELAUNCH);
	CANNOT(INMIGRATE, POSTMIGRATE);
	CANNOT(INMIGRATE, FINISH_MIGRATE);
	CANNOT(SHUTDOWN, FINISH_MIGRATE);
	CANNOT(INTERNAL_ERROR, FINISH_MIGRATE);
	for (enum runstate s = 0; s < RUNSTATE_COUNT; s++) {
		cr_assert_not(runstate_can_change(s, RUNSTATE_INMIGRATE), "%s", runstate_name(s));
		cr_assert_not(runstate_can_change(s, s), "%s to itself", runstate_name(s));
	}
}
