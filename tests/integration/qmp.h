/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp.[ch] - a QMP client whose answers and events come through the test's event loop.
 *
 * Answers are matched by id, each in its turn; events are kept in the order of their coming, and those of migrations are counted
 * up into `status` and `pass`, which is what tests wait for. JSON that is returned lives until the test ends; arguments
 * are taken over.
 */
#ifndef FERRY_TESTS_QMP_H
#define FERRY_TESTS_QMP_H

#include "tests/integration/side.h"

struct qmp {
	struct side *side;
	int fd; /* -1: closed */
	struct text in;
	json_t *greeting, *answers, *events;
	unsigned int next_id, answered;
	json_t *statuses; /* of MIGRATION events since the last migrate command: names */
	json_int_t pass;  /* of the last MIGRATION_PASS event */
};

/* Connects, and waits for the greeting. */
struct qmp *qmp_connect(struct side *s);
/* The same, and negotiates; asks for events of migrations. */
struct qmp *qmp_open(struct side *s);
void qmp_close(struct qmp *q);

void qmp_send(struct qmp *q, const char *text);
/* The next answer, whole. */
json_t *qmp_answer(struct qmp *q);
/* The whole answer to a command. */
json_t *qmp_execute(struct qmp *q, const char *command, json_t *args);
/* What it returns; an error fails the test. */
json_t *qmp_call(struct qmp *q, const char *command, json_t *args);
/* The command must be refused, with this class and words; returns the description. */
const char *qmp_refused(struct qmp *q, const char *command, json_t *args, const char *class,
			const char *words);
/* Wait for an event of that name, and take it and those before it. Its data, or the whole event where it has none. */
json_t *qmp_event(struct qmp *q, const char *name);
/* Has it come, and not been taken? */
bool qmp_has_event(struct qmp *q, const char *name);

const char *json_text(json_t *json, const char *member);
json_int_t json_number(json_t *json, const char *group, const char *member);

#endif
