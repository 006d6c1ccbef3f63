/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The other end of the control socket: what `ferry migrate` and `ferry backup` speak with. Blocking, one thread. */
#ifndef FERRY_APP_QMP_CLIENT_H
#define FERRY_APP_QMP_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/base/error.h"

struct qmp_client;

/* Connect to a UNIX socket and negotiate. NULL on failure. */
struct qmp_client *qmp_client_connect(const char *path, struct error **errp);
void qmp_client_close(struct qmp_client *client);
/* Run a command; args is taken over and may be NULL. The result (a new reference), or NULL with an error. */
json_t *qmp_client_call(struct qmp_client *client, const char *command, json_t *args,
			struct error **errp);
/* Events come beside answers. Keep those, from now on, whose name begins so; the others are dropped. */
void qmp_client_keep_events(struct qmp_client *client, const char *prefix);
/* The oldest that was kept, a new reference; NULL: there is none. */
json_t *qmp_client_take_event(struct qmp_client *client);

#endif
