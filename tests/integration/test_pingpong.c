/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: one guest that moves again and again loses nothing on the way: no beat lost or doubled, no page damaged.
 *
 * Approach: twenty migrations, each to a new process; kinds of channel, encodings and dirty logs take turns. One checker sees the
 * serial lines of all of them as one guest's.
 */
#include "tests/integration/moves.h"

#include <string.h>

TestSuite(pingpong, .init = world_begin, .fini = world_end, .timeout = 600);

#define MOVES 20

static struct side *one_move(struct side *from, unsigned int i, struct beats *b)
{
	static const char *const logs[] = { "auto", "plain" };
	struct side_options o = {
		.incoming = i % 3 == 2 ? "tcp:127.0.0.1:0" : NULL,
		.beats = b,
		.more = (const char *[]){ "--dirty-log", logs[i % 2], NULL },
	};
	struct side *to = side_start(text_format("move%u", i + 1), &o);

	set_capability(from, "xbzrle", i % 4 < 2);
	/* Every other time in three passes, if the guest runs in each of them. */
	set_parameter(from, "downtime-limit", i % 2 ? 0 : DOWNTIME_DEFAULT);
	begin_migration(from, side_uri(to));
	if (i % 2) {
		WAIT_FOR(from->qmp->pass >= 3 || is_over(from));
		set_parameter(from, "downtime-limit", LONG_DOWNTIME);
	}
	await_migration(from, "completed");
	await_migration(to, "completed");
	expect_moved(from, to, "running");
	call(from, "quit", NULL);
	check(side_wait(from) == 0, "%s ended with %d", from->name, from->status);
	await_beats(b, 30);
	return to;
}

static void there_and_back(struct side *side, struct beats *b)
{
	for (unsigned int i = 0; i < MOVES; i++)
		side = one_move(side, i, b);
	await_beats(b, 100);
	call(side, "quit", NULL);
	cr_assert_eq(side_wait(side), 0);
}

Test(pingpong, work)
{
	struct beats *b = new_beats();
	struct side *side = start_work("home", b, "pattern=sparse");

	for (unsigned int i = 0; i < MOVES; i++)
		side = one_move(side, i, b);
	await_laps(b, 2);
}

Test(pingpong, two_cpus)
{
	struct beats *b = new_beats();
	struct side *side = side_start("home", &(struct side_options){ .payload = "smp",
								       .memory_mib = 16,
								       .cmdline = "cpus=2",
								       .cpus = 2,
								       .beats = b });

	await_beats(b, 20);
	there_and_back(side, b);
}

Test(pingpong, timer)
{
	struct beats *b = new_beats();
	struct side *side = side_start("home", &(struct side_options){ .payload = "timer",
								       .memory_mib = 16,
								       .cmdline = "source=lapic",
								       .beats = b });

	await_beats(b, 20);
	there_and_back(side, b);
}
