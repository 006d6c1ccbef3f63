/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: each kind of machine and each state of a guest survives a move: several CPUs, timers, memory on both sides of the hole
 * below 4 GiB, a guest that is paused or has never run.
 *
 * Approach: the payloads watch themselves. smp and timer say STALLED where a CPU or a tick does not come, and their beats show
 * that they go on; the checker of beats fails the test for either.
 */
#include "tests/integration/moves.h"

#include <stdlib.h>
#include <string.h>

TestSuite(machines, .init = world_begin, .fini = world_end, .timeout = 600);

static void move_payload(const char *payload, const char *cmdline, unsigned int cpus)
{
	/* In a lap that began at the destination each CPU has run there. */
	const unsigned int laps = strcmp(payload, "smp") == 0 ? 2 : 0;
	/* Some passes, in which page tables, stacks and counters change. */
	static const struct plan plan = { .passes = 3 };
	struct beats *b = new_beats();
	struct side *home = side_start("home", &(struct side_options){ .payload = payload,
								       .memory_mib = 16,
								       .cmdline = cmdline,
								       .cpus = cpus,
								       .beats = b });
	struct hop hop;

	await_beats(b, 50);
	hop = move_in_passes(home, "away", &(struct side_options){ .beats = b }, &plan);
	await_beats(b, 300);
	await_laps(b, laps);
	expect_status(hop.to, "running");
	cr_assert_eq(json_array_size(call(hop.to, "query-cpus-fast", NULL)), cpus ? cpus : 1);
}

Test(machines, smp_one)
{
	move_payload("smp", "cpus=1", 1);
}

Test(machines, smp_two)
{
	move_payload("smp", "cpus=2", 2);
}

Test(machines, smp_four)
{
	move_payload("smp", "cpus=4", 4);
}

/* CPUs that have never been started travel, too. */
/* The state of as many as there can be; sixty-four at work would share two processors. */
Test(machines, most_cpus)
{
	move_payload("smp", "cpus=2", 64);
}

Test(machines, cpus_that_sleep)
{
	move_payload("smp", "cpus=2", 6);
}

Test(machines, timer_pit)
{
	move_payload("timer", "source=pit", 1);
}

Test(machines, timer_lapic)
{
	move_payload("timer", "source=lapic", 1);
}

/*
 * The footprint lies half below the hole, half above it. FERRY_LARGE is another size, in MiB, for an emulated machine, where each page
 * that is looked at costs more.
 */
Test(machines, around_the_hole)
{
	const char *large = getenv("FERRY_LARGE");
	unsigned int mib = large ? (unsigned int)atoi(large) : 6144;
	static const char cmdline[] = "footprint=8M base=0xbfc00000 rate=2";
	struct beats *b = new_beats();
	struct side *source = side_start("source", &(struct side_options){ .payload = "work",
									   .memory_mib = mib,
									   .cmdline = cmdline,
									   .beats = b });
	struct side *target = start_target("target", b);

	await_message(b, "4096 KiB at 0xbfc00000");
	await_message(b, "4096 KiB at 0x100000000");
	await_message(b, "working");
	move(source, target);
	expect_moved(source, target, "running");
	cr_assert(json_number(query_migrate(source), "ram", "total") >= (int64_t)mib << 20);
	await_laps(b, 2);
}

Test(machines, paused)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = start_target("target", b), *third = start_target("third", b);

	call(source, "stop", NULL);
	qmp_event(source->qmp, "STOP");
	expect_status(source, "paused");
	move(source, target);
	expect_moved(source, target, "paused");
	move(target, third);
	expect_moved(target, third, "paused");
	world_turn_now();
	cr_assert_eq(target->serial.len + third->serial.len, 0, "a paused guest has spoken");
	call(third, "cont", NULL);
	qmp_event(third->qmp, "RESUME");
	await_beats(b, 100);
	expect_status(third, "running");
}

/* Built, but not a single instruction executed. */
Test(machines, never_started)
{
	struct beats *b = new_beats();
	struct side *source = side_start(
		"source", &(struct side_options){ .payload = "hello",
						  .cmdline = "exit=21",
						  .beats = b,
						  .more = (const char *[]){ "--paused", NULL } });
	struct side *target = start_target("target", b);

	expect_status(source, "prelaunch");
	move(source, target);
	cr_assert_str_eq(status_of(source), "postmigrate");
	cr_assert_str_neq(status_of(target), "running");
	cr_assert_eq(b->bytes, 0);
	call(target, "cont", NULL);
	cr_assert_eq(side_wait(target), 43);
	cr_assert_not_null(beats_message(b, "hello from the guest"));
}

/* Whether it runs there is the destination's to say: --paused, and stop while it comes in. */
Test(machines, arrives_paused_on_request)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = side_start(
		"target",
		&(struct side_options){ .beats = b, .more = (const char *[]){ "--paused", NULL } });
	struct side *third = start_target("third", b);

	move(source, target);
	expect_moved(source, target, "paused");
	cr_assert_eq(target->serial.len, 0);
	call(target, "cont", NULL);
	await_beats(b, 50);
	call(third, "stop", NULL);
	move(target, third);
	expect_moved(target, third, "paused");
	cr_assert_eq(third->serial.len, 0);
	call(third, "cont", NULL);
	await_beats(b, 50);
}

/* A guest stopped in the midst of its migration arrives stopped. */
Test(machines, stopped_on_the_way)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = start_target("target", b);

	set_parameter(source, "max-bandwidth", BARELY);
	begin_migration(source, side_uri(target));
	await_migration(source, "active");
	call(source, "stop", NULL);
	set_parameter(source, "max-bandwidth", NO_CAP);
	await_migration(source, "completed");
	await_migration(target, "completed");
	expect_moved(source, target, "paused");
	cr_assert_eq(target->serial.len, 0);
	call(target, "cont", NULL);
	await_beats(b, 50);
}
