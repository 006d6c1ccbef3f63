/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What commands that watch something long over the control socket have in common. One thread. */
#ifndef FERRY_APP_PROGRESS_H
#define FERRY_APP_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/app/qmp_client.h"

#define PROGRESS_LOOKS 10 /* a second */
#define PROGRESS_BAR_MAX 80

/*
 * From now on a first SIGINT or SIGTERM is a wish, which progress_wait() tells of; a second one, as much later as signals.h says, ends the
 * process: the VMM may not answer. One that is ignored stays so. Before, while there is nothing to be called off yet, any of them ends it.
 */
void progress_begin(void);
/* Until the next look; true, once: the user wants it to end. */
bool progress_wait(void);
/* part: 0 to 1. Returns buf. */
const char *progress_bar(double part, char buf[static PROGRESS_BAR_MAX]);

/* A member of an answer, of its object `group` unless that is NULL; 0 or "" where there is none. */
json_int_t answer_number(json_t *json, const char *group, const char *name);
const char *answer_text(json_t *json, const char *name);

#endif
