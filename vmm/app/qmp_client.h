/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The other end of the control socket: what `ferry migrate` speaks with. Blocking, one thread. */
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

#endif
