/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/migrate.h"

#include <errno.h>
#include <jansson.h>
#include <unistd.h>

#include "vmm/app/progress.h"
#include "vmm/app/qmp_client.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/units.h"

#define LINE_EVERY PROGRESS_LOOKS /* between two lines where there is no terminal */
#define PAGE_BYTES 4096

struct view {
	struct qmp_client *client;
	bool terminal; /* standard output is one */
	unsigned int looks;
	json_int_t last_pass;
};

static bool call(struct qmp_client *c, const char *command, json_t *args, struct error **errp)
{
	json_t *result = qmp_client_call(c, command, args, errp);

	json_decref(result);
	return result != NULL;
}

static bool set_capability(struct qmp_client *c, const char *name, bool on, struct error **errp)
{
	return call(c, "migrate-set-capabilities",
		    json_pack("{s:[{s:s,s:b}]}", "capabilities", "capability", name, "state", on),
		    errp);
}

static bool apply_options(struct qmp_client *c, const struct migrate_options *o,
			  struct error **errp)
{
	json_t *params = json_object();

	if (o->has_bandwidth)
		json_object_set_new(params, "max-bandwidth",
				    json_integer((json_int_t)o->bandwidth));
	if (o->has_downtime)
		json_object_set_new(params, "downtime-limit",
				    json_integer((json_int_t)o->downtime_ms));
	if (o->has_cache)
		json_object_set_new(params, "xbzrle-cache-size",
				    json_integer((json_int_t)o->cache_bytes));
	if (!call(c, "migrate-set-parameters", params, errp))
		return false;
	return (!o->has_xbzrle || set_capability(c, "xbzrle", o->xbzrle, errp)) &&
	       (!o->has_bitmaps || set_capability(c, "dirty-bitmaps", o->bitmaps, errp));
}

/* --- progress --- */

static void show_bar(json_t *q)
{
	char speed[UNITS_TEXT_MAX], dirty[UNITS_TEXT_MAX], rest[UNITS_TEXT_MAX],
		bar[PROGRESS_BAR_MAX];
	double total = (double)answer_number(q, "ram", "total");
	double remaining = (double)answer_number(q, "ram", "remaining");
	double bytes_s =
		json_real_value(json_object_get(json_object_get(q, "ram"), "mbps")) * 1e6 / 8;

	progress_bar(total > 0 ? 1 - remaining / total : 0, bar);
	format_size((uint64_t)bytes_s, speed);
	format_size((uint64_t)answer_number(q, "ram", "dirty-pages-rate") * PAGE_BYTES, dirty);
	format_size((uint64_t)remaining, rest);
	printf("\r\033[K%-14s %s pass %lld  %s left  %s/s", answer_text(q, "status"), bar,
	       (long long)answer_number(q, "ram", "dirty-sync-count"), rest, speed);
	printf("  dirtied %s/s", dirty);
	if (bytes_s > 0)
		printf("  %.1f s to go", remaining / bytes_s);
	fflush(stdout);
}

static void show_line(struct view *v, json_t *q)
{
	char rest[UNITS_TEXT_MAX], sent[UNITS_TEXT_MAX], dirty[UNITS_TEXT_MAX];
	json_int_t pass = answer_number(q, "ram", "dirty-sync-count");

	if (pass == v->last_pass && v->looks % LINE_EVERY)
		return;
	v->last_pass = pass;
	printf("%-14s pass %lld  sent %s  left %s  dirtied %s/s\n", answer_text(q, "status"),
	       (long long)pass, format_size((uint64_t)answer_number(q, "ram", "transferred"), sent),
	       format_size((uint64_t)answer_number(q, "ram", "remaining"), rest),
	       format_size((uint64_t)answer_number(q, "ram", "dirty-pages-rate") * PAGE_BYTES,
			   dirty));
	fflush(stdout);
}

/* --- summary --- */

static void show_ms(const char *label, double us)
{
	char buf[UNITS_TEXT_MAX];

	printf("  %-12s %s", label, format_duration((uint64_t)(us * 1000), buf));
}

static void show_xbzrle(json_t *q)
{
	json_int_t pages = answer_number(q, "xbzrle-cache", "pages");
	json_int_t bytes = answer_number(q, "xbzrle-cache", "bytes");
	char was[UNITS_TEXT_MAX], is[UNITS_TEXT_MAX];

	if (!json_object_get(q, "xbzrle-cache"))
		return;
	if (!pages) {
		printf("  xbzrle       not needed\n");
		return;
	}
	printf("  xbzrle       %lld pages as differences: %s instead of %s\n", (long long)pages,
	       format_size((uint64_t)bytes, is), format_size((uint64_t)pages * PAGE_BYTES, was));
}

static void show_summary(json_t *q)
{
	char sent[UNITS_TEXT_MAX], total[UNITS_TEXT_MAX];

	show_ms("total", (double)answer_number(q, NULL, "total-time") * 1000);
	printf("\n");
	show_ms("blackout", (double)answer_number(q, NULL, "downtime-us"));
	printf("  (stop %lld, last pages %lld, devices %lld, load %lld, take over %lld us)\n",
	       (long long)answer_number(q, "blackout", "stop-us"),
	       (long long)answer_number(q, "blackout", "last-pages-us"),
	       (long long)answer_number(q, "blackout", "devices-us"),
	       (long long)answer_number(q, "blackout", "load-us"),
	       (long long)answer_number(q, "blackout", "take-over-us"));
	printf("  sent         %s of %s RAM: %lld pages whole, %lld zero\n",
	       format_size((uint64_t)answer_number(q, "ram", "transferred"), sent),
	       format_size((uint64_t)answer_number(q, "ram", "total"), total),
	       (long long)answer_number(q, "ram", "normal"),
	       (long long)answer_number(q, "ram", "duplicate"));
	printf("  passes       %lld\n", (long long)answer_number(q, "ram", "dirty-sync-count"));
	show_xbzrle(q);
}

/* What the destination could not take as it was, though it took the guest. */
static void show_warnings(json_t *q)
{
	json_t *list = json_object_get(q, "warnings"), *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		if (json_is_string(item))
			fprintf(stderr, "ferry: migrate: warning: %s\n", json_string_value(item));
	}
}

/* 0: moved. */
static int show_end(json_t *q, const char *uri)
{
	const char *status = answer_text(q, "status");

	show_warnings(q);
	if (strcmp(status, "completed") == 0) {
		printf("moved to %s\n", uri);
		show_summary(q);
		return 0;
	}
	if (strcmp(status, "cancelled") == 0)
		fprintf(stderr, "ferry: migrate: cancelled; the guest runs on where it was\n");
	else if (strcmp(status, "in-doubt") == 0)
		fprintf(stderr,
			"ferry: migrate: the last word was lost (%s): the guest is stopped here "
			"and may be running at %s\n",
			answer_text(q, "error-desc"), uri);
	else
		fprintf(stderr, "ferry: migrate: failed: %s\n", answer_text(q, "error-desc"));
	return 1;
}

static bool is_over(const char *status)
{
	static const char *const ends[] = { "completed", "cancelled", "failed", "in-doubt" };

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (strcmp(status, ends[i]) == 0)
			return true;
	return false;
}

static int watch(struct view *v, const char *uri, struct error **errp)
{
	for (;;) {
		json_t *q = qmp_client_call(v->client, "query-migrate", NULL, errp);
		int status;

		if (!q)
			return 1;
		if (is_over(answer_text(q, "status"))) {
			if (v->terminal)
				printf("\r\033[K");
			fflush(stdout);
			status = show_end(q, uri);
			json_decref(q);
			return status;
		}
		if (v->terminal)
			show_bar(q);
		else
			show_line(v, q);
		json_decref(q);
		v->looks++;
		if (progress_wait())
			call(v->client, "migrate_cancel", NULL, NULL);
	}
}

int migrate_run(const struct migrate_options *opts)
{
	struct view v = { .terminal = isatty(STDOUT_FILENO) };
	scoped_error err = NULL;
	int status = 1;

	v.client = qmp_client_connect(opts->control, &err);
	progress_begin();
	if (v.client && apply_options(v.client, opts, &err) &&
	    call(v.client, "migrate", json_pack("{s:s}", "uri", opts->uri), &err))
		status = watch(&v, opts->uri, &err);
	if (err)
		log_error("migrate: %s", error_msg(err));
	qmp_client_close(v.client);
	return status;
}
