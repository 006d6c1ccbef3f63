/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a migration can be given up at any moment before the switch; the guest beats on, and the next one works.
 *
 * Approach: each phase is held open by something that does not go on by itself - a listener that never answers, a cap of one byte
 * a second, pre-switchover, a destination that has stopped reading - and cancelled there. The beats are one unbroken row from
 * the first try to the end of the second. (doubt::cancelled_when_loaded cancels in the last phase.)
 */
#include "tests/integration/moves.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(cancel, .init = world_begin, .fini = world_end, .timeout = 600);

static void expect_cancelled(struct side *source, struct beats *b)
{
	json_t *q = query_migrate(source);

	check(strcmp(json_text(q, "status"), "cancelled") == 0, "query-migrate says %s",
	      json_text(q, "status"));
	expect_status(source, "running");
	await_beats(b, 50);
}

static void expect_next_to_work(struct side *source, struct beats *b)
{
	struct side *target = start_target("next", b);

	set_parameter(source, "max-bandwidth", NO_CAP);
	move(source, target);
	await_beats(b, 50);
	expect_moved(source, target, "running");
	refused(source, "cont", NULL, "destination's");
}

/* In setup: the peer accepts and says nothing. */
Test(cancel, setup)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	char *path = world_path("mute");
	int fd = listen_unix(path);

	begin_migration(source, text_format("unix:%s", path));
	await_migration(source, "setup");
	await_beats(b, 20);
	cr_assert_str_eq(json_text(query_migrate(source), "status"), "setup");
	cancel_migration(source);
	expect_cancelled(source, b);
	close(fd);
	expect_next_to_work(source, b);
}

/* While connecting: the peer's queue is full, and nobody takes from it. */
Test(cancel, connecting)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	char *path = world_path("full");
	int listen_fd = listen_unix(path), fds[64];
	unsigned int n = 0;

	while ((fds[n] = connect_unix(path)) >= 0)
		cr_assert_lt(++n, 64);
	begin_migration(source, text_format("unix:%s", path));
	await_migration(source, "setup");
	await_beats(b, 20);
	cr_assert_str_eq(json_text(query_migrate(source), "status"), "setup");
	cancel_migration(source);
	expect_cancelled(source, b);
	while (n)
		close(fds[--n]);
	close(listen_fd);
	expect_next_to_work(source, b);
}

Test(cancel, in_a_pass)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = side_start("target", &(struct side_options){ 0 });

	set_parameter(source, "max-bandwidth", BARELY);
	begin_migration(source, side_uri(target));
	await_migration(source, "active");
	await_beats(b, 20);
	cancel_migration(source);
	expect_refusal(target);
	expect_cancelled(source, b);
	expect_next_to_work(source, b);
}

/* Where the guest has moved before it could be cancelled, the next try starts there. */
Test(cancel, in_a_later_pass)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, ""), *target;
	bool cancelled = false;

	for (unsigned int i = 0; i < 20 && !cancelled; i++) {
		target = start_target(text_format("target%u", i), b);
		set_parameter(source, "downtime-limit", 0);
		begin_migration(source, side_uri(target));
		WAIT_FOR(source->qmp->pass >= 3 || is_over(source));
		call(source, "migrate_cancel", NULL);
		WAIT_FOR(is_over(source));
		cancelled = source->qmp->pass >= 3 && has_status(source, "cancelled");
		if (!has_status(source, "cancelled")) {
			await_migration(target, "completed");
			source = target;
		}
	}
	cr_assert(cancelled, "no migration has made three passes");
	expect_refusal(target);
	cr_assert_eq(target->serial.len, 0);
	expect_cancelled(source, b);
	set_parameter(source, "downtime-limit", DOWNTIME_DEFAULT);
	expect_next_to_work(source, b);
}

Test(cancel, pre_switchover)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = side_start("target", &(struct side_options){ 0 });
	uint64_t count;

	set_capability(source, "pause-before-switchover", true);
	begin_migration(source, side_uri(target));
	await_migration(source, "pre-switchover");
	expect_status(source, "finish-migrate");
	count = b->count;
	refused(source, "cont", NULL, "handed over");
	cr_assert_eq(b->count, count, "a stopped guest beats");
	cancel_migration(source);
	expect_refusal(target);
	expect_cancelled(source, b);
	set_capability(source, "pause-before-switchover", false);
	expect_next_to_work(source, b);
}

/* Not cancelled: the other way out of pre-switchover. */
Test(cancel, pre_switchover_goes_on)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = start_target("target", b);

	set_capability(source, "pause-before-switchover", true);
	begin_migration(source, side_uri(target));
	await_migration(source, "pre-switchover");
	refused(source, "migrate-continue", json_pack("{s:s}", "state", "device"), "state");
	call(source, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"));
	await_migration(source, "completed");
	await_migration(target, "completed");
	await_beats(b, 50);
	expect_moved(source, target, "running");
}

/* The destination has stopped reading, so the source hangs in a write. */
Test(cancel, blocked_in_a_write)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = side_start("target", &(struct side_options){ 0 });

	set_parameter(source, "max-bandwidth", BARELY);
	begin_migration(source, side_uri(target));
	await_migration(source, "active");
	side_kill(target, SIGSTOP);
	set_parameter(source, "max-bandwidth", NO_CAP);
	await_beats(b, 200);
	cr_assert_str_eq(json_text(query_migrate(source), "status"), "active");
	cancel_migration(source);
	side_kill(target, SIGCONT);
	expect_refusal(target);
	expect_cancelled(source, b);
	expect_next_to_work(source, b);
}

/* Nothing to cancel is no error, and changes nothing. */
Test(cancel, nothing)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");

	call(source, "migrate_cancel", NULL);
	cr_assert_eq(json_object_size(query_migrate(source)), 0);
	await_beats(b, 20);
	expect_next_to_work(source, b);
	call(source, "migrate_cancel", NULL);
	cr_assert_str_eq(json_text(query_migrate(source), "status"), "completed");
}

/* Again and again: nothing is left behind that a later try would stumble over. */
Test(cancel, ten_times)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");

	set_parameter(source, "max-bandwidth", BARELY);
	for (unsigned int i = 0; i < 10; i++) {
		struct side *target = side_start(text_format("target%u", i),
						 &(struct side_options){ .no_control = true });

		begin_migration(source, side_uri(target));
		await_migration(source, i % 2 ? "setup" : "active");
		cancel_migration(source);
		if (!target->exited) /* in setup it may not even know of us */
			side_kill(target, SIGKILL);
	}
	expect_cancelled(source, b);
	expect_next_to_work(source, b);
}
