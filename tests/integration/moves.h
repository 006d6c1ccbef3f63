/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * moves.[ch] - migrations as tests speak of them: start, hold, let go, wait for a status, ask what became of it.
 *
 * How a test is sure of a moment without a clock:
 *
 *	a downtime limit of 0	nothing fits into it, so passes go on until it is raised
 *	a cap of one byte/s	stays in the pass until the cap is lifted: "active, and going nowhere"
 *	pre-switchover		the guest is stopped, nothing handed over, until migrate-continue
 */
#ifndef FERRY_TESTS_MOVES_H
#define FERRY_TESTS_MOVES_H

#include "tests/integration/qmp.h"

/* On a side's own control connection. */
json_t *call(struct side *s, const char *command, json_t *args);
const char *refused(struct side *s, const char *command, json_t *args, const char *words);
void set_parameter(struct side *s, const char *name, json_int_t value);
void set_capability(struct side *s, const char *name, bool on);
json_t *query_migrate(struct side *s);
/* What query-status says. */
const char *status_of(struct side *s);
void expect_status(struct side *s, const char *status);

#define BARELY 1 /* a cap in bytes a second that nothing gets through */
#define NO_CAP 0
#define LONG_DOWNTIME 60000
#define DOWNTIME_DEFAULT 300

/* Stop the guest, and wait until its disks have done what it has asked for: the images are as they are. */
void stand_still(struct side *s);
void begin_migration(struct side *from, const char *uri);
/* Wait until a migration's status has been this; another end of it fails the test, with its reason. */
void await_migration(struct side *s, const char *status);
/* Wait until the source's pass n has begun. */
void await_pass(struct side *s, unsigned int n);
void cancel_migration(struct side *s);
/* From the running source to the waiting destination. */
void move(struct side *from, struct side *to);
struct plan {
	unsigned int passes;
	json_int_t cap, cache; /* bytes a second, bytes; 0: none, as it is */
	enum { XBZRLE_AS_IS, XBZRLE_ON, XBZRLE_OFF } xbzrle;
	bool (*enough)(
		json_t *q); /* and passes go on until query-migrate says this; NULL: not asked */
};
struct hop {
	struct side *from, *to;
};
/* Move to a new side with these options, in at least the plan's passes. In the end the guest runs there. */
struct hop move_in_passes(struct side *from, const char *name, const struct side_options *to,
			  const struct plan *plan);
/* Has it been so since the migrate command? Is it over? */
bool has_status(struct side *s, const char *status);
bool is_over(struct side *s);
/* The attempt has failed at the source, whose guest runs on. The reason, from query-migrate. */
const char *expect_failed(struct side *s);
/* The destination ends with status 1; the reason it gives. */
const char *expect_refusal(struct side *s);
/* After a successful move: the source keeps the guest stopped, and the destination has it, in that state. */
void expect_moved(struct side *from, struct side *to, const char *state);

/* The usual guest: work, of 8 MiB in 24, rewriting some pages each millisecond; waits until it works. */
struct side *start_work(const char *name, struct beats *b, const char *more_options);
/* The usual destination. */
struct side *start_target(const char *name, struct beats *b);

#endif
