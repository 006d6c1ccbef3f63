/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP's block jobs, of which there is one kind: drive-backup, block-job-cancel, block-job-set-speed, query-block-jobs. Source: QEMU, QMP
 * reference, "Block device commands".
 *
 * A job has its disk's id, ends with the event BLOCK_JOB_COMPLETED (with "error" if it failed) or BLOCK_JOB_CANCELLED, and is gone then. An
 * attempt to migrate and a job exclude each other: the point in time is kept by the process in which the guest writes.
 */
#ifndef FERRY_APP_BACKUP_COMMANDS_H
#define FERRY_APP_BACKUP_COMMANDS_H

#include "vmm/app/app.h"

/* The loop's thread. The result, or NULL with an error. */
json_t *cmd_drive_backup(struct app *app, json_t *args, struct error **errp);
json_t *cmd_block_job_cancel(struct app *app, json_t *args, struct error **errp);
json_t *cmd_block_job_set_speed(struct app *app, json_t *args, struct error **errp);
json_t *cmd_query_block_jobs(struct app *app, json_t *args, struct error **errp);

/* No job runs; an error names one that does. */
bool backup_jobs_none(struct app *app, struct error **errp);
/* Cancels all and waits for their ends, which the loop tells its clients of when it runs again. */
void backup_jobs_stop(struct app *app);

#endif
