/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: QMP, as QEMU's documentation describes it, for several clients at a time.
 *
 * A connection begins with a greeting; a client sends qmp_capabilities and then commands, each a JSON object, and gets one
 * answer for each, with the command's id. Events go to all clients that have negotiated. A client that does not read its answers
 * is disconnected when they exceed a bound.
 *
 * Source: QEMU docs/interop/qmp-spec.
 */
#ifndef FERRY_APP_CONTROL_H
#define FERRY_APP_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/app/app.h"

enum control_event {
	EVENT_STOP,
	EVENT_RESUME,
	EVENT_MIGRATION,      /* value: enum migration_status */
	EVENT_MIGRATION_PASS, /* value: the pass */
	EVENT_INCOMING,	      /* an incoming migration is active; becomes MIGRATION, too */
};

struct control *control_new(struct app *app);
bool control_listen(struct control *control, const char *path, struct error **errp);
/* A client that is connected already: fd, a stream socket, is taken over. The loop's thread. */
void control_serve(struct control *control, int fd);
/* Sends what can be sent without waiting, closes all connections, removes the socket. NULL is allowed. */
void control_free(struct control *control);

/* Any thread: the event is stamped now and sent by the loop's. Cheap: no text is made here. */
void control_post_event(struct control *control, enum control_event event, uint64_t value);
/* The loop's thread. Any event, now; data is taken over and may be NULL. */
void control_emit(struct control *control, const char *name, json_t *data);
void control_emit_shutdown(struct control *control, bool by_guest, const char *reason);
void control_emit_migration(struct control *control, const char *status);
void control_emit_reset(struct control *control, bool by_guest);
/* BLOCK_IO_ERROR: operation is "read" or "write", error an errno. */
void control_emit_disk_error(struct control *control, const char *id, const char *operation,
			     int error);

#endif
