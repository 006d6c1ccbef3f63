/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/moves.h"

#include <string.h>

json_t *call(struct side *s, const char *command, json_t *args)
{
	return qmp_call(s->qmp, command, args);
}

const char *refused(struct side *s, const char *command, json_t *args, const char *words)
{
	return qmp_refused(s->qmp, command, args, "GenericError", words);
}

void set_parameter(struct side *s, const char *name, json_int_t value)
{
	call(s, "migrate-set-parameters", json_pack("{s:I}", name, value));
}

void set_capability(struct side *s, const char *name, bool on)
{
	call(s, "migrate-set-capabilities",
	     json_pack("{s:[{s:s,s:b}]}", "capabilities", "capability", name, "state", on));
}

json_t *query_migrate(struct side *s)
{
	return call(s, "query-migrate", NULL);
}

const char *status_of(struct side *s)
{
	json_t *json = call(s, "query-status", NULL);
	const char *status = json_text(json, "status");

	check(json_is_true(json_object_get(json, "running")) == (strcmp(status, "running") == 0),
	      "%s: status %s, but running is otherwise", s->name, status);
	return status;
}

void expect_status(struct side *s, const char *status)
{
	const char *have = status_of(s);

	check(strcmp(have, status) == 0, "%s: the guest's status is %s, expected %s", s->name, have,
	      status);
}

static bool disks_work(struct side *s)
{
	json_t *disk;
	size_t i;

	json_array_foreach(call(s, "query-block", NULL), i, disk)
	{
		if (json_number(disk, NULL, "in-flight") > 0)
			return true;
	}
	return false;
}

void stand_still(struct side *s)
{
	call(s, "stop", NULL);
	/* A notification that is on its way arrives before the second answer. */
	call(s, "query-block", NULL);
	while (disks_work(s))
		; /* the end of a request is no event for us: the question is asked again */
}

void begin_migration(struct side *from, const char *uri)
{
	world_turn_now();
	json_array_clear(from->qmp->statuses);
	from->qmp->pass = 0;
	call(from, "migrate", json_pack("{s:s}", "uri", uri));
}

bool has_status(struct side *s, const char *status)
{
	size_t i;
	json_t *item;

	json_array_foreach(s->qmp->statuses, i,
			   item) if (strcmp(json_string_value(item), status) == 0) return true;
	return false;
}

bool is_over(struct side *s)
{
	static const char *const ends[] = { "completed", "failed", "cancelled", "in-doubt" };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (has_status(s, ends[i]))
			return true;
	return false;
}

void await_migration(struct side *s, const char *status)
{
	WAIT_FOR(has_status(s, status) || is_over(s) || s->qmp->fd < 0);
	check(s->qmp->fd >= 0, "%s has ended while waiting for %s", s->name, status);
	if (!has_status(s, status)) {
		json_t *q = query_migrate(s);

		check(false, "%s: the migration has %s, expected %s: %s", s->name,
		      json_text(q, "status"), status, json_text(q, "error-desc"));
	}
}

void await_pass(struct side *s, unsigned int n)
{
	WAIT_FOR(s->qmp->pass >= n || is_over(s));
	check(s->qmp->pass >= n, "%s: the migration has ended in pass %d", s->name,
	      (int)s->qmp->pass);
}

void cancel_migration(struct side *s)
{
	call(s, "migrate_cancel", NULL);
	await_migration(s, "cancelled");
}

void move(struct side *from, struct side *to)
{
	begin_migration(from, side_uri(to));
	await_migration(from, "completed");
	await_migration(to, "completed");
}

static void apply_plan(struct side *s, const struct plan *plan)
{
	set_parameter(s, "max-bandwidth", plan->cap);
	set_parameter(s, "downtime-limit", 0);
	if (plan->cache)
		set_parameter(s, "xbzrle-cache-size", plan->cache);
	if (plan->xbzrle != XBZRLE_AS_IS)
		set_capability(s, "xbzrle", plan->xbzrle == XBZRLE_ON);
}

struct hop move_in_passes(struct side *from, const char *name, const struct side_options *to,
			  const struct plan *plan)
{
	struct hop hop = { .from = from, .to = side_start(name, to) };

	apply_plan(from, plan);
	begin_migration(from, side_uri(hop.to));
	await_pass(from, plan->passes);
	WAIT_FOR(!plan->enough || plan->enough(query_migrate(from)) || is_over(from));
	set_parameter(from, "downtime-limit", LONG_DOWNTIME);
	await_migration(from, "completed");
	await_migration(hop.to, "completed");
	expect_moved(from, hop.to, "running");
	return hop;
}

const char *expect_failed(struct side *s)
{
	json_t *q;

	await_migration(s, "failed");
	q = query_migrate(s);
	check(strcmp(json_text(q, "status"), "failed") == 0, "%s: query-migrate says %s", s->name,
	      json_text(q, "status"));
	check(*json_text(q, "error-desc"), "%s: no error-desc", s->name);
	expect_status(s, "running");
	return json_text(q, "error-desc");
}

const char *expect_refusal(struct side *s)
{
	static const char words[] = "incoming migration failed: ";
	const char *at;
	int status = side_wait(s);

	check(status == 1, "%s ended with %d, expected 1", s->name, status);
	at = strstr(text_of(&s->err), words);
	check(at, "%s does not say why it ended", s->name);
	at += strlen(words);
	check(strcspn(at, "\n") > 0, "%s gives an empty reason", s->name);
	return text_format("%.*s", (int)strcspn(at, "\n"), at);
}

void expect_moved(struct side *from, struct side *to, const char *state)
{
	expect_status(from, "postmigrate");
	expect_status(to, state);
	check(strcmp(json_text(query_migrate(from), "status"), "completed") == 0,
	      "query-migrate at the source says %s", json_text(query_migrate(from), "status"));
}

struct side *start_work(const char *name, struct beats *b, const char *more_options)
{
	struct side_options o = {
		.payload = "work",
		.cmdline = text_format("footprint=8M rate=4 %s", more_options),
		.memory_mib = 24,
		.beats = b,
	};
	struct side *s = side_start(name, &o);

	await_message(b, "working");
	await_beats(b, 20);
	return s;
}

struct side *start_target(const char *name, struct beats *b)
{
	return side_start(name, &(struct side_options){ .beats = b });
}
