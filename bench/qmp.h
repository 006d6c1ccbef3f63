/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QMP client that also hears events: of a migration, only its status is kept. */
#ifndef FERRY_BENCH_QMP_H
#define FERRY_BENCH_QMP_H

#include <jansson.h>
#include <stdbool.h>

#include "bench/process.h"

struct qmp {
	int fd; /* -1: not connected */
	char *in;
	size_t in_len;
	char status[32]; /* of the last MIGRATION event, or "" */
};

/* Connect as soon as the process listens, and negotiate. */
bool qmp_connect(struct qmp *qmp, const char *path, const struct child *child, struct why *why);
void qmp_close(struct qmp *qmp);
/* args is taken over and may be NULL. The result (a new reference), or NULL. */
json_t *qmp_call(struct qmp *qmp, const char *command, json_t *args, struct why *why);
/* The same where the result does not matter. */
bool qmp_do(struct qmp *qmp, const char *command, json_t *args, struct why *why);
/* Take the events that are there; the descriptor was readable. */
bool qmp_take_events(struct qmp *qmp, struct why *why);

#endif
