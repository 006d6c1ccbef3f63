/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QMP commands, in one table. The loop's thread. */
#ifndef FERRY_APP_COMMANDS_H
#define FERRY_APP_COMMANDS_H

#include "vmm/app/app.h"

/* What a connection begins with; a new reference. */
json_t *command_greeting(void);
/* Run a command: its result (a new reference), or NULL with an error. *negotiated is the client's. */
json_t *command_execute(struct app *app, const char *name, json_t *args, bool *negotiated,
			struct error **errp);

#endif
