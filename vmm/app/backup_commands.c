/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/backup_commands.h"

#include "devices/backend/backup.h"
#include "devices/virtio/blk.h"
#include "vmm/app/control.h"
#include "vmm/base/cleanup.h"

struct backup_job {
	struct app *app;
	struct backup *backup;
	LIST_ENTRY(backup_job) entry;
};

/* --- the end --- */

static json_t *describe(const struct backup_status *s)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:I}", "type", "backup", "device", s->disk, "len",
			 (json_int_t)s->total, "offset", (json_int_t)s->copied, "speed",
			 (json_int_t)s->speed);
}

static void on_end(void *opaque)
{
	struct backup_job *job = opaque;
	struct backup_status status;
	json_t *data;

	backup_query(job->backup, &status);
	data = describe(&status);
	if (status.error)
		json_object_set_new(data, "error", json_string(status.error));
	if (status.partial) /* beside QEMU's: what is behind the target's name and a dot */
		json_object_set_new(data, "partial", json_string(status.partial));
	control_emit(job->app->control,
		     status.end == BACKUP_CANCELLED ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED",
		     data);
	LIST_REMOVE(job, entry);
	backup_free(job->backup);
	free(job);
}

/* The backup's thread. */
static void ended(void *opaque)
{
	struct backup_job *job = opaque;

	loop_post(job->app->loop, on_end, job);
}

/* --- commands --- */

static const char *text_arg(json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

static json_t *done(bool ok)
{
	return ok ? json_object() : NULL;
}

static bool find_disk(struct app *app, const char *id, struct virtio_blk_info *info,
		      struct error **errp)
{
	struct vm *vm = &app->machine.vm;
	struct device *dev;

	if (__atomic_load_n(&vm->built, __ATOMIC_ACQUIRE)) {
		TAILQ_FOREACH (dev, &vm->devices, entry) {
			if (dev->cls != &virtio_blk_class)
				continue;
			virtio_blk_query(dev, info);
			if (strcmp(info->id, id) == 0)
				return true;
		}
	}
	error_set_class(errp, ERROR_DEVICE_NOT_FOUND, "the machine has no disk '%s'", id);
	return false;
}

static bool unknown_value(const char *name, const char *value, struct error **errp)
{
	error_set(errp, "Parameter '%s' does not accept value '%s'", name, value);
	return false;
}

static bool parse_what(json_t *args, struct backup_options *o, struct error **errp)
{
	const char *sync = text_arg(args, "sync");

	o->bitmap = text_arg(args, "bitmap");
	o->incremental = strcmp(sync, "incremental") == 0;
	if (!o->incremental && strcmp(sync, "full") != 0)
		return unknown_value("sync", sync, errp);
	if (o->incremental && !o->bitmap)
		error_set(errp, "Parameter 'bitmap' is missing: an incremental backup copies what "
				"it holds");
	return !o->incremental || o->bitmap;
}

static bool is_format(const char *name)
{
	return strcmp(name, "raw") == 0 || strcmp(name, "qcow2") == 0;
}

static bool parse_target(json_t *args, bool incremental, struct backup_target_options *t,
			 struct error **errp)
{
	const char *format = text_arg(args, "format");

	t->path = text_arg(args, "target");
	t->backing = text_arg(args, "backing-file");
	t->backing_format = text_arg(args, "backing-format");
	t->format = incremental || t->backing ? BACKUP_QCOW2 : BACKUP_RAW;
	if (t->backing_format && !t->backing) {
		error_set(errp,
			  "Parameter 'backing-file' is missing: 'backing-format' is about it");
		return false;
	}
	if (t->backing_format && !is_format(t->backing_format))
		return unknown_value("backing-format", t->backing_format, errp);
	if (format && !is_format(format))
		return unknown_value("format", format, errp);
	if (format && strcmp(format, "raw") == 0) {
		if (t->format == BACKUP_RAW)
			return true;
		error_set(errp, "format 'raw' cannot hold a part of a disk: expected 'qcow2'");
		return false;
	}
	if (format)
		t->format = BACKUP_QCOW2;
	return true;
}

static bool parse_speed(json_t *args, uint64_t *speed, struct error **errp)
{
	json_int_t n = json_integer_value(json_object_get(args, "speed"));

	if (n < 0)
		error_set(errp, "Parameter 'speed' expects bytes a second, or 0 for no limit");
	*speed = (uint64_t)n;
	return n >= 0;
}

static bool parse_partial(json_t *args, struct backup_options *o, struct error **errp)
{
	o->partial = json_is_true(json_object_get(args, "partial"));
	if (!o->partial || (!o->incremental && o->target.format == BACKUP_RAW))
		return true;
	error_set(errp, "Parameter 'partial' is for full backups in format 'raw'");
	return false;
}

/* Only where the guest is can its disk be read, and only while it stays. */
static bool may_start(struct app *app, struct error **errp)
{
	enum runstate state = vm_state(&app->machine.vm);

	if (migration_is_active(&app->migration)) {
		error_set(errp, "the guest is being migrated: wait for the end, or cancel it");
		return false;
	}
	if (state == RUNSTATE_RUNNING || state == RUNSTATE_PAUSED || state == RUNSTATE_PRELAUNCH)
		return true;
	error_set(errp, "the guest is in state '%s': its disks are not this process's to read",
		  runstate_name(state));
	return false;
}

/* NULL: the disk has none. */
static struct backup_job *job_of(struct app *app, const char *id)
{
	struct backup_status status;
	struct backup_job *job;

	LIST_FOREACH(job, &app->backups, entry)
	{
		backup_query(job->backup, &status);
		if (strcmp(status.disk, id) == 0)
			break;
	}
	return job;
}

/* One that has all of the disk may be busy still with its target. */
static bool has_no_job(struct app *app, const char *id, struct error **errp)
{
	struct backup_job *job = job_of(app, id);

	if (job)
		error_set(errp, "disk '%s': it is being backed up already", id);
	return !job;
}

json_t *cmd_drive_backup(struct app *app, json_t *args, struct error **errp)
{
	struct backup_options o = { .ended = ended };
	struct virtio_blk_info disk;
	struct backup_job *job;

	if (!may_start(app, errp) || !find_disk(app, text_arg(args, "device"), &disk, errp) ||
	    !has_no_job(app, disk.id, errp) || !parse_what(args, &o, errp) ||
	    !parse_target(args, o.incremental, &o.target, errp) ||
	    !parse_speed(args, &o.speed, errp) || !parse_partial(args, &o, errp))
		return NULL;
	job = xcalloc(1, sizeof(*job));
	job->app = app;
	o.block = disk.block;
	o.disk = disk.bitmaps;
	o.opaque = job;
	job->backup = backup_start(&o, errp);
	if (!job->backup) {
		free(job);
		return NULL;
	}
	LIST_INSERT_HEAD(&app->backups, job, entry);
	return json_object();
}

static struct backup_job *find_job(struct app *app, json_t *args, struct error **errp)
{
	const char *id = text_arg(args, "device");
	struct backup_job *job = job_of(app, id);

	if (!job)
		error_set_class(errp, ERROR_DEVICE_NOT_ACTIVE, "Block job '%s' not found", id);
	return job;
}

json_t *cmd_block_job_cancel(struct app *app, json_t *args, struct error **errp)
{
	struct backup_job *job = find_job(app, args, errp);

	if (job)
		backup_cancel(job->backup);
	return done(job != NULL);
}

json_t *cmd_block_job_set_speed(struct app *app, json_t *args, struct error **errp)
{
	struct backup_job *job = find_job(app, args, errp);
	uint64_t speed;

	if (!job || !parse_speed(args, &speed, errp))
		return NULL;
	backup_set_speed(job->backup, speed);
	return json_object();
}

json_t *cmd_query_block_jobs(struct app *app, json_t *args, struct error **errp)
{
	struct backup_status status;
	struct backup_job *job;
	json_t *list = json_array();

	(void)args;
	(void)errp;
	LIST_FOREACH(job, &app->backups, entry)
	{
		json_t *json;

		backup_query(job->backup, &status);
		json = describe(&status);
		json_object_update_new(
			json,
			json_pack("{s:b,s:b,s:b,s:s,s:s,s:b,s:b}", "busy",
				  status.end == BACKUP_RUNNING, "paused", 0, "ready", 0, "status",
				  status.end == BACKUP_RUNNING ? "running" : "concluded",
				  "io-status", "ok", "auto-finalize", 1, "auto-dismiss", 1));
		json_array_append_new(list, json);
	}
	return list;
}

/* --- for the others --- */

bool backup_jobs_none(struct app *app, struct error **errp)
{
	struct backup_job *job = LIST_FIRST(&app->backups);
	struct backup_status status;

	if (!job)
		return true;
	backup_query(job->backup, &status);
	error_set(errp, "disk '%s' is being backed up: wait for the end, or cancel it",
		  status.disk);
	return false;
}

void backup_jobs_stop(struct app *app)
{
	struct backup_job *job;

	LIST_FOREACH(job, &app->backups, entry)
	backup_give_up(job->backup);
	LIST_FOREACH(job, &app->backups, entry)
	backup_wait(job->backup);
}
