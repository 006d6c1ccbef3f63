/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/backup.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "vmm/app/progress.h"
#include "vmm/app/qmp_client.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/units.h"

#define LINE_EVERY PROGRESS_LOOKS /* looks between two lines where there is no terminal */

struct view {
	const struct backup_cli_options *opts;
	struct qmp_client *client;
	bool terminal; /* standard output is one */
	uint64_t began;
	unsigned int looks;
};

static bool call(struct view *v, const char *command, json_t *args, struct error **errp)
{
	json_t *result = qmp_client_call(v->client, command, args, errp);

	json_decref(result);
	return result != NULL;
}

/* --- asking for it --- */

/* The VMM's working directory may be another one. */
static char *absolute_path(const char *path, struct error **errp)
{
	scoped_free char *cwd = NULL;

	if (path[0] == '/')
		return xstrdup(path);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		error_set_errno(errp, errno, "--target: '%s'", path);
	return cwd ? xasprintf("%s/%s", cwd, path) : NULL;
}

static bool has_bitmap(json_t *disks, const char *disk, const char *bitmap)
{
	json_t *entry, *item;
	size_t i, k;

	json_array_foreach(disks, i, entry)
	{
		if (strcmp(answer_text(entry, "device"), disk) != 0)
			continue;
		json_array_foreach(
			json_object_get(json_object_get(entry, "inserted"), "dirty-bitmaps"), k,
			item)
		{
			if (strcmp(answer_text(item, "name"), bitmap) == 0)
				return true;
		}
	}
	return false;
}

static json_t *bitmap_args(const struct backup_cli_options *o)
{
	return json_pack("{s:s,s:s}", "node", o->disk, "name", o->bitmap);
}

/* A full backup is where a chain begins: it makes the bitmap if there is none. */
static bool make_bitmap(struct view *v, bool *made, struct error **errp)
{
	const struct backup_cli_options *o = v->opts;
	json_t *disks;
	bool there;

	if (!o->bitmap || !o->full)
		return true;
	disks = qmp_client_call(v->client, "query-block", NULL, errp);
	if (!disks)
		return false;
	there = has_bitmap(disks, o->disk, o->bitmap);
	json_decref(disks);
	*made = !there && call(v, "block-dirty-bitmap-add", bitmap_args(o), errp);
	return there || *made;
}

/* What JSON cannot hold must not get lost on the way. */
static bool check_text(const char *option, const char *text, struct error **errp)
{
	json_t *json = text ? json_string(text) : NULL;

	if (text && !json)
		error_set(errp, "%s: '%s': expected UTF-8", option, text);
	json_decref(json);
	return !text || json;
}

static bool check_texts(const struct backup_cli_options *o, const char *target, struct error **errp)
{
	return check_text("--disk", o->disk, errp) && check_text("--target", target, errp) &&
	       check_text("--bitmap", o->bitmap, errp) && check_text("--backing", o->backing, errp);
}

static bool start(struct view *v, struct error **errp)
{
	const struct backup_cli_options *o = v->opts;
	scoped_free char *target = absolute_path(o->target, errp);
	bool made = false;
	json_t *args;

	if (!target || !check_texts(o, target, errp) || !make_bitmap(v, &made, errp))
		return false;
	args = json_pack("{s:s,s:s,s:s,s:I}", "device", o->disk, "target", target, "sync",
			 o->bitmap && !o->full ? "incremental" : "full", "speed",
			 (json_int_t)o->speed);
	if (o->format)
		json_object_set_new(args, "format", json_string(o->format));
	if (o->bitmap)
		json_object_set_new(args, "bitmap", json_string(o->bitmap));
	if (o->partial)
		json_object_set_new(args, "partial", json_true());
	if (o->backing)
		json_object_set_new(args, "backing-file", json_string(o->backing));
	if (o->backing_format)
		json_object_set_new(args, "backing-format", json_string(o->backing_format));
	if (!call(v, "drive-backup", args, errp)) {
		if (made)
			call(v, "block-dirty-bitmap-remove", bitmap_args(o), NULL);
		return false;
	}
	/* Events of this job come behind the answer; what came before it was of another. */
	qmp_client_keep_events(v->client, "BLOCK_JOB_");
	return true;
}

/* --- watching it --- */

static double part_done(json_t *job)
{
	double total = (double)answer_number(job, NULL, "len");

	return total > 0 ? (double)answer_number(job, NULL, "offset") / total : 1;
}

static void show(struct view *v, json_t *job)
{
	char done[UNITS_TEXT_MAX], total[UNITS_TEXT_MAX], speed[UNITS_TEXT_MAX],
		bar[PROGRESS_BAR_MAX];
	double seconds = (double)(clock_now_ns() - v->began) / NS_PER_SEC;
	double bytes = (double)answer_number(job, NULL, "offset");

	if (!v->terminal && v->looks % LINE_EVERY)
		return;
	format_size((uint64_t)bytes, done);
	format_size((uint64_t)answer_number(job, NULL, "len"), total);
	format_size((uint64_t)(seconds > 0 ? bytes / seconds : 0), speed);
	if (v->terminal)
		printf("\r\033[K%s %.0f %%  %s of %s  %s/s", progress_bar(part_done(job), bar),
		       part_done(job) * 100, done, total, speed);
	else
		printf("%.0f %%  %s of %s  %s/s\n", part_done(job) * 100, done, total, speed);
	fflush(stdout);
}

/* 0: it is there. */
static int show_end(struct view *v, const char *event, json_t *data)
{
	const char *error = answer_text(data, "error"), *partial = answer_text(data, "partial");
	char size[UNITS_TEXT_MAX], time[UNITS_TEXT_MAX];

	if (v->terminal)
		printf("\r\033[K");
	if (strcmp(event, "BLOCK_JOB_CANCELLED") == 0) {
		fflush(stdout);
		fprintf(stderr, "ferry: backup: cancelled\n");
	} else if (*error) {
		fflush(stdout);
		fprintf(stderr, "ferry: backup: failed: %s\n", error);
	} else {
		printf("'%s': %s of disk '%s' in %s\n", v->opts->target,
		       format_size((uint64_t)answer_number(data, NULL, "len"), size), v->opts->disk,
		       format_duration(clock_now_ns() - v->began, time));
		return 0;
	}
	if (*partial)
		fprintf(stderr,
			"ferry: backup: '%s.%s' has what is copied; the same command goes on with "
			"it\n",
			v->opts->target, partial);
	return 1;
}

/* The event of this disk's job, or NULL. */
static json_t *take_end(struct view *v)
{
	json_t *event;

	while ((event = qmp_client_take_event(v->client)) != NULL) {
		if (strcmp(answer_text(json_object_get(event, "data"), "device"), v->opts->disk) ==
		    0)
			return event;
		json_decref(event);
	}
	return NULL;
}

static int watch(struct view *v, struct error **errp)
{
	for (;; v->looks++) {
		scoped_error err = NULL;
		json_t *jobs = qmp_client_call(v->client, "query-block-jobs", NULL, &err);
		json_t *event = take_end(v), *job;
		int status;
		size_t i;

		if (event) {
			status = show_end(v, answer_text(event, "event"),
					  json_object_get(event, "data"));
			json_decref(event);
			json_decref(jobs);
			return status;
		}
		if (!jobs) {
			error_propagate(errp, take_ptr(err));
			return 1;
		}
		json_array_foreach(jobs, i, job)
		{
			if (strcmp(answer_text(job, "device"), v->opts->disk) == 0)
				show(v, job);
		}
		json_decref(jobs);
		if (progress_wait())
			call(v, "block-job-cancel", json_pack("{s:s}", "device", v->opts->disk),
			     NULL);
	}
}

int backup_run(const struct backup_cli_options *opts)
{
	struct view v = { .opts = opts,
			  .terminal = isatty(STDOUT_FILENO),
			  .began = clock_now_ns() };
	scoped_error err = NULL;
	int status = 1;

	v.client = qmp_client_connect(opts->control, &err);
	progress_begin();
	if (v.client && start(&v, &err))
		status = watch(&v, &err);
	if (err)
		log_error("backup: %s", error_msg(err));
	qmp_client_close(v.client);
	return status;
}
