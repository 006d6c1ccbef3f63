/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One running ferry: the machine, what can be done with it, and who watches. Owned by the main thread, which runs the loop. */
#ifndef FERRY_APP_APP_H
#define FERRY_APP_APP_H

#include <jansson.h>

#include "migration/target.h"
#include "vmm/app/machine.h"
#include "vmm/app/options.h"

struct backup_job;
struct control;
struct signals;

struct app {
	struct run_options opts;
	struct loop *loop;
	struct chardev *serial;
	struct machine machine;
	struct chardev *
		consoles[MACHINE_MAX_VIRTIO]; /* by the number of the option; NULL: not a console */
	struct machine_part parts[MACHINE_MAX_VIRTIO]; /* the host's side of devices; into opts */
	struct migration migration;
	struct target *target;		 /* while a migration comes in; joined at the end */
	LIST_HEAD(, backup_job) backups; /* that run */
	struct control *control;
	struct signals *signals;
	int exit_status;
	bool quitting; /* exit_status is final */

	/* of an incoming migration, for query-migrate; written on the loop's thread */
	const char *incoming_status; /* NULL: none */
	char *incoming_error;
};

/* `ferry run` after its options have been parsed; the process's exit status. */
int app_run(const struct run_options *opts);

/* --- for QMP; the loop's thread --- */
bool app_start_incoming(struct app *app, const char *uri, struct error **errp);
bool app_start_migration(struct app *app, const char *uri, struct error **errp);
bool app_stop_guest(struct app *app, struct error **errp);
/* claim: the guest is in doubt, and the user says that it is to run here. */
bool app_continue_guest(struct app *app, bool claim, struct error **errp);
bool app_reset_guest(struct app *app, struct error **errp);
/* End the process; reason is QMP's ShutdownCause. */
void app_quit(struct app *app, int status, bool by_guest, const char *reason);

#endif
