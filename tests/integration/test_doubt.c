/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: never two running guests, and never none without a way out, wherever the switch is cut.
 *
 *	destination -> source	SHUT(0)		everything is loaded
 *	source -> destination	HAND_OVER	the source gives up its right to run the guest
 *	destination -> source	TOOK_OVER	it runs there
 *
 * Approach: a proxy cuts the connection at each of the three. Whoever is to run beats on, without a gap, and while it makes 200
 * beats the other side's serial line stays silent. Whoever is in doubt holds the whole guest, says so, and runs it when it is told to
 * claim it, and not before.
 */
#include "tests/integration/moves.h"
#include "tests/integration/proxy.h"

#include <signal.h>
#include <string.h>

TestSuite(doubt, .init = world_begin, .fini = world_end, .timeout = 600);

static const struct proxy_step cut_loaded[] = {
	{ PROXY_CUT, TO_SOURCE, SHUT_0 },
	{ .action = PROXY_END },
};
static const struct proxy_step cut_last_word[] = {
	{ PROXY_PASS, TO_SOURCE, SHUT_0 },
	{ PROXY_CUT, TO_TARGET, HAND_OVER },
	{ .action = PROXY_END },
};
static const struct proxy_step cut_confirmation[] = {
	{ PROXY_PASS, TO_SOURCE, SHUT_0 },
	{ PROXY_PASS, TO_TARGET, HAND_OVER },
	{ PROXY_CUT, TO_SOURCE, TOOK_OVER },
	{ .action = PROXY_END },
};
static const struct proxy_step hold_loaded[] = {
	{ PROXY_HOLD, TO_SOURCE, SHUT_0 },
	{ .action = PROXY_END },
};
static const struct proxy_step hold_last_word[] = {
	{ PROXY_PASS, TO_SOURCE, SHUT_0 },
	{ PROXY_HOLD, TO_TARGET, HAND_OVER },
	{ .action = PROXY_END },
};

struct stage {
	struct beats *beats;
	struct side *source, *target;
	struct proxy *proxy;
};

/* A migration through a proxy has begun. */
static struct stage set_stage(const struct proxy_step *script)
{
	struct stage s = { .beats = new_beats() };

	s.source = start_work("source", s.beats, "");
	s.target = start_target("target", s.beats);
	s.proxy = proxy_start(side_uri(s.target), script);
	begin_migration(s.source, s.proxy->uri);
	return s;
}

/* 200 beats, all of them one side's. */
static void expect_only_beats(struct stage *s, struct side *running, struct side *silent)
{
	size_t before = running->serial.len, quiet = silent->serial.len;

	await_beats(s->beats, 200);
	check(running->serial.len >= before + 200, "%s does not beat", running->name);
	check(silent->serial.len == quiet, "%s beats, too", silent->name);
}

static void expect_in_doubt(struct side *s)
{
	json_t *q;

	await_migration(s, "in-doubt");
	expect_status(s, "handover-in-doubt");
	q = query_migrate(s);
	check(strcmp(json_text(q, "status"), "in-doubt") == 0, "%s: query-migrate says %s", s->name,
	      json_text(q, "status"));
	check(*json_text(q, "error-desc"), "%s: no error-desc", s->name);
	refused(s, "cont", NULL, "claim-guest");
	refused(s, "cont", json_pack("{s:b}", "claim-guest", 0), "claim-guest");
	refused(s, "migrate", json_pack("{s:s}", "uri", "unix:/nowhere"), "handover-in-doubt");
	refused(s, "system_reset", NULL, "handover-in-doubt");
	check(strcmp(status_of(s), "handover-in-doubt") == 0, "%s has left its doubt", s->name);
	check(!s->exited, "%s has ended", s->name);
}

static void claim(struct side *s)
{
	call(s, "cont", json_pack("{s:b}", "claim-guest", 1));
	qmp_event(s->qmp, "RESUME");
	expect_status(s, "running");
}

/* A guest that was claimed is a guest like others: it can move on. */
static void expect_movable(struct stage *s, struct side *from)
{
	struct side *next = start_target("next", s->beats);

	move(from, next);
	await_beats(s->beats, 100);
	expect_moved(from, next, "running");
}

Test(doubt, last_word_lost_and_claimed_at_the_destination)
{
	struct stage s = set_stage(cut_last_word);

	expect_in_doubt(s.source);
	expect_in_doubt(s.target);
	cr_assert_eq(s.target->serial.len, 0);
	claim(s.target);
	expect_only_beats(&s, s.target, s.source);
	expect_status(s.source, "handover-in-doubt");
	expect_movable(&s, s.target);
}

Test(doubt, last_word_lost_and_claimed_at_the_source)
{
	struct stage s = set_stage(cut_last_word);

	expect_in_doubt(s.source);
	expect_in_doubt(s.target);
	claim(s.source);
	expect_only_beats(&s, s.source, s.target);
	expect_status(s.target, "handover-in-doubt");
	expect_movable(&s, s.source);
}

/* The source has not been told that everything is there: it keeps the guest, and knows it. */
Test(doubt, loaded_lost)
{
	struct stage s = set_stage(cut_loaded);

	expect_failed(s.source);
	expect_in_doubt(s.target);
	expect_only_beats(&s, s.source, s.target);
	cr_assert_eq(s.target->serial.len, 0);
	expect_movable(&s, s.source);
	expect_status(s.target, "handover-in-doubt");
	call(s.target, "quit", NULL);
	cr_assert_eq(side_wait(s.target), 0);
}

/* A claim is for a guest in doubt. A destination that only waits for its last word has nothing to give yet, and says so. */
Test(doubt, claimed_too_early)
{
	struct stage s = set_stage(hold_last_word);

	WAIT_FOR(s.proxy->step == 2);
	refused(s.target, "cont", json_pack("{s:b}", "claim-guest", 1), "state 'inmigrate'");
	proxy_cut(s.proxy);
	expect_in_doubt(s.target);
	claim(s.target);
	expect_only_beats(&s, s.target, s.source);
}

/* It runs at the destination, and the source cannot know. */
Test(doubt, confirmation_lost)
{
	struct stage s = set_stage(cut_confirmation);

	await_migration(s.target, "completed");
	expect_in_doubt(s.source);
	expect_status(s.target, "running");
	expect_only_beats(&s, s.target, s.source);
	expect_movable(&s, s.target);
}

Test(doubt, source_killed_before_the_last_word)
{
	struct stage s = set_stage(hold_loaded);

	WAIT_FOR(s.proxy->step == 1);
	side_kill(s.source, SIGKILL);
	side_wait(s.source);
	expect_in_doubt(s.target);
	claim(s.target);
	expect_only_beats(&s, s.target, s.source);
	expect_movable(&s, s.target);
}

/* The destination dies with everything loaded, the last word on its way to it. */
Test(doubt, destination_killed_before_the_last_word)
{
	struct stage s = set_stage(hold_last_word);

	WAIT_FOR(s.proxy->step == 2);
	side_kill(s.target, SIGKILL);
	side_wait(s.target);
	expect_in_doubt(s.source);
	claim(s.source);
	expect_only_beats(&s, s.source, s.target);
	expect_movable(&s, s.source);
}

Test(doubt, destination_killed_when_loaded)
{
	struct stage s = set_stage(hold_loaded);

	WAIT_FOR(s.proxy->step == 1);
	side_kill(s.target, SIGKILL);
	side_wait(s.target);
	proxy_cut(s.proxy);
	expect_failed(s.source);
	expect_movable(&s, s.source);
}

/* Nobody has given up anything yet: cancelling leaves the guest here, and tells the destination that it does. */
Test(doubt, cancelled_when_loaded)
{
	struct stage s = set_stage(hold_loaded);
	const char *why;

	WAIT_FOR(s.proxy->step == 1);
	cancel_migration(s.source);
	expect_status(s.source, "running");
	why = expect_refusal(s.target);
	cr_assert(strstr(why, "source keeps the guest"), "%s", why);
	cr_assert_eq(s.target->serial.len, 0);
	await_beats(s.beats, 50);
	expect_movable(&s, s.source);
}

/* With the hand-over behind, cancelling comes too late and changes nothing. */
Test(doubt, cancelled_after_the_last_word)
{
	struct stage s = set_stage(hold_last_word);

	WAIT_FOR(s.proxy->step == 2);
	call(s.source, "migrate_cancel", NULL);
	refused(s.source, "cont", NULL, "handed over");
	refused(s.source, "stop", NULL, "handed over");
	proxy_release(s.proxy);
	await_migration(s.source, "completed");
	await_migration(s.target, "completed");
	await_beats(s.beats, 50);
	expect_moved(s.source, s.target, "running");
}

/* A guest in doubt that was paused before is claimed like any other. */
Test(doubt, quit_in_doubt)
{
	struct stage s = set_stage(cut_last_word);

	expect_in_doubt(s.source);
	expect_in_doubt(s.target);
	side_kill(s.source, SIGTERM);
	cr_assert_eq(side_wait(s.source), 0);
	claim(s.target);
	expect_only_beats(&s, s.target, s.source);
}
