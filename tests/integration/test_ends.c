/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a guest that ends, resets or crashes while it is moved behaves as if it were not: its exit status is the source's, its reset
 * boots it again, and nobody is left with half a guest.
 *
 * Approach: a cap of one byte a second keeps the migration in its first pass; the guest, paused until then, is let go, and does what
 * its command line says. For the race of a reset with the switch there is a guest that does nothing but reset itself, and
 * counts.
 */
#include "tests/integration/moves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(ends, .init = world_begin, .fini = world_end, .timeout = 600);

struct stage {
	struct beats *beats;
	struct side *source, *target;
};

/* In the first pass, with a guest that has not begun. */
static struct stage go_active(const char *cmdline, const char *on_reset)
{
	struct stage s = { .beats = new_beats() };

	s.source = side_start("source", &(struct side_options){
						.payload = "hello",
						.memory_mib = 16,
						.cmdline = cmdline,
						.beats = s.beats,
						.more = (const char *[]){ "--paused", "--on-reset",
									  on_reset, NULL } });
	s.target = side_start("target", &(struct side_options){ 0 });
	set_parameter(s.source, "max-bandwidth", BARELY);
	begin_migration(s.source, side_uri(s.target));
	await_migration(s.source, "active");
	return s;
}

static void expect_end(struct stage *s, int status)
{
	call(s->source, "cont", NULL);
	check(side_wait(s->source) == status, "the source ended with %d, expected %d",
	      s->source->status, status);
	expect_refusal(s->target);
	check(s->target->serial.len == 0, "the destination's guest has spoken");
}

Test(ends, exit)
{
	struct stage s = go_active("exit=9", "exit");

	expect_end(&s, 19);
}

Test(ends, reset_that_ends)
{
	struct stage s = go_active("boots=2 via=cf9", "exit");

	expect_end(&s, 0);
	cr_assert(side_said(s.source, "the guest has reset itself"));
}

Test(ends, reset_that_boots_again)
{
	struct stage s = go_active("boots=5 via=kbd exit=2", "reset");

	expect_end(&s, 5);
	cr_assert_not_null(beats_message(s.beats, "boot 5"));
}

Test(ends, triple_fault)
{
	struct stage s = go_active("boots=2 via=triple", "exit");

	expect_end(&s, 1);
	cr_assert(side_said(s.source, "triple fault"));
}

/* A reset in the midst of the passes: the guest boots again and the migration goes on. */
Test(ends, reset_by_a_user)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = start_target("target", b);

	set_parameter(source, "max-bandwidth", BARELY);
	begin_migration(source, side_uri(target));
	await_migration(source, "active");
	beats_allow_restart(b);
	call(source, "system_reset", NULL);
	qmp_event(source->qmp, "RESET");
	WAIT_FOR(beats_messages(b, "working") == 2);
	await_beats(b, 50);
	cr_assert_str_eq(json_text(query_migrate(source), "status"), "active");
	set_parameter(source, "max-bandwidth", NO_CAP);
	await_migration(source, "completed");
	await_migration(target, "completed");
	expect_moved(source, target, "running");
	await_beats(b, 50);
	beats_allow_restart(b);
	call(target, "system_reset", NULL);
	WAIT_FOR(beats_messages(b, "working") == 3);
	await_beats(b, 50);
}

/* The guest is stopped at the switch. A reset that is promised then must come, wherever the guest goes. */
static struct stage reset_at_the_switch(bool *promised)
{
	struct stage s = { .beats = new_beats() };
	json_t *answer;

	s.source = start_work("source", s.beats, "");
	s.target = start_target("target", s.beats);
	set_capability(s.source, "pause-before-switchover", true);
	begin_migration(s.source, side_uri(s.target));
	await_migration(s.source, "pre-switchover");
	beats_allow_restart(s.beats);
	answer = qmp_execute(s.source->qmp, "system_reset", NULL);
	*promised = json_object_get(answer, "return") != NULL;
	s.beats->may_restart = *promised;
	return s;
}

Test(ends, reset_at_the_switch_then_cancelled)
{
	bool promised;
	struct stage s = reset_at_the_switch(&promised);

	cancel_migration(s.source);
	if (promised)
		WAIT_FOR(beats_messages(s.beats, "working") == 2);
	await_beats(s.beats, 50);
	expect_status(s.source, "running");
	expect_refusal(s.target);
}

Test(ends, reset_at_the_switch_then_moved)
{
	bool promised;
	struct stage s = reset_at_the_switch(&promised);

	call(s.source, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"));
	await_migration(s.source, "completed");
	if (promised)
		WAIT_FOR(beats_messages(s.beats, "working") == 2);
	await_beats(s.beats, 50);
	expect_moved(s.source, s.target, "running");
}

/* Follows "# boot N" messages, of which each must be one more than the last. */
struct boots {
	struct text
		said; /* what the sides before this one have said, and what was looked at of this one's */
	size_t taken; /* of this side's bytes */
	long last;
	size_t at;
};

/* What the side has said by now; a message that a move has cut goes on with the first bytes of the next side. */
static void follow(struct boots *boots, const struct side *side)
{
	static const char mark[] = "\n# boot ";
	struct text *said = &boots->said;
	const char *at;

	text_add(said, text_of(&side->serial) + boots->taken, side->serial.len - boots->taken);
	boots->taken = side->serial.len;
	while ((at = strstr(said->data + boots->at, mark)) && strchr(at + 1, '\n')) {
		long n = atol(at + strlen(mark));

		check(n == boots->last + 1, "boot %ld follows boot %ld", n, boots->last);
		boots->last = n;
		boots->at = (size_t)(strchr(at + 1, '\n') - said->data);
	}
}

static void await_boots(struct boots *boots, const struct side *side, unsigned int more)
{
	long seen = boots->last + more;

	WAIT_FOR((follow(boots, side), boots->last >= seen));
}

/* The restlessness is the guest's, so it goes on at the destination; a boot's first line may be cut by the move. */
Test(ends, guest_that_always_resets)
{
	static const char *const args[] = { "--on-reset", "reset", NULL };
	struct side *side =
		side_start("home", &(struct side_options){ .payload = "hello",
							   .memory_mib = 16,
							   .cmdline = "boots=1000000 via=cf9",
							   .more = args });
	struct boots boots = { 0 };

	for (unsigned int i = 0; i < 6; i++) {
		struct side *next = side_start(text_format("next%u", i),
					       &(struct side_options){ .more = args });

		await_boots(&boots, side, 3);
		move(side, next);
		expect_moved(side, next, "running");
		call(side, "quit", NULL);
		side_wait(side); /* all its bytes have come */
		follow(&boots, side);
		boots.taken = 0;
		side = next;
	}
	await_boots(&boots, side, 10);
	text_release(&boots.said);
}
