/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What commands that watch something long over the control socket have in common. One thread. */
#ifndef FERRY_APP_PROGRESS_H
#define FERRY_APP_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/app/qmp_client.h"

#define PROGRESS_LOOKS 10 /* a second */
#define PROGRESS_BAR_MAX 80

struct progress {
	int signal_fd;
	bool terminal; /* standard output is one */
};

/* From now on SIGINT and SIGTERM are progress_wait()'s. */
void progress_begin(struct progress *p);
void progress_end(struct progress *p);
/* Until the next look; true: the user wants it to end. */
bool progress_wait(struct progress *p);
/* part: 0 to 1. Returns buf. */
const char *progress_bar(double part, char buf[static PROGRESS_BAR_MAX]);

/* A member of an answer, of its object `group` unless that is NULL; 0 or "" where there is none. */
json_int_t answer_number(json_t *json, const char *group, const char *name);
const char *answer_text(json_t *json, const char *name);

#endif
