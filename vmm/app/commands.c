/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/commands.h"

#include <string.h>

#include "vmm/app/backup_commands.h"
#include "vmm/app/bitmap_commands.h"
#include "vmm/app/query_devices.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/vcpu.h"

#define ARGS_MAX 9

struct arg {
	const char *name;
	json_type type; /* JSON_TRUE stands for a boolean */
	bool optional;
};

struct command {
	const char *name;
	json_t *(*run)(struct app *app, json_t *args, struct error **errp);
	struct arg args[ARGS_MAX];
	bool any_args; /* checked by the command itself */
};

static json_t *done(bool ok)
{
	return ok ? json_object() : NULL;
}

static json_t *version(void)
{
	int major = 0, minor = 0, micro = 0;

	sscanf(FERRY_VERSION, "%d.%d.%d", &major, &minor, &micro);
	/* The member is called "qemu" because that is where clients look for a version. */
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro",
			 micro, "package", "ferry-" FERRY_VERSION);
}

json_t *command_greeting(void)
{
	return json_pack("{s:{s:o,s:[]}}", "QMP", "version", version(), "capabilities");
}

static json_t *cmd_query_version(struct app *app, json_t *args, struct error **errp)
{
	(void)app;
	(void)args;
	(void)errp;
	return version();
}

static json_t *cmd_query_status(struct app *app, json_t *args, struct error **errp)
{
	enum runstate state = vm_state(&app->machine.vm);

	(void)args;
	(void)errp;
	return json_pack("{s:s,s:b}", "status", runstate_name(state), "running",
			 state == RUNSTATE_RUNNING);
}

static json_t *cmd_query_kvm(struct app *app, json_t *args, struct error **errp)
{
	(void)app;
	(void)args;
	(void)errp;
	return json_pack("{s:b,s:b}", "enabled", 1, "present", 1);
}

static json_t *cmd_stop(struct app *app, json_t *args, struct error **errp)
{
	(void)args;
	return done(app_stop_guest(app, errp));
}

static json_t *cmd_cont(struct app *app, json_t *args, struct error **errp)
{
	bool claim = json_is_true(json_object_get(args, "claim-guest"));

	return done(app_continue_guest(app, claim, errp));
}

static json_t *cmd_quit(struct app *app, json_t *args, struct error **errp)
{
	(void)args;
	(void)errp;
	app_quit(app, 0, false, "host-qmp-quit");
	return json_object();
}

static json_t *cmd_system_reset(struct app *app, json_t *args, struct error **errp)
{
	(void)args;
	return done(app_reset_guest(app, errp));
}

static json_t *cmd_query_cpus_fast(struct app *app, json_t *args, struct error **errp)
{
	struct vm *vm = &app->machine.vm;
	json_t *list = json_array();

	(void)args;
	(void)errp;
	if (!__atomic_load_n(&vm->built, __ATOMIC_ACQUIRE))
		return list;
	for (unsigned int i = 0; i < vm->nvcpus; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/machine/cpu[%u]", i);
		json_array_append_new(list,
				      json_pack("{s:i,s:s,s:i,s:s,s:{s:i,s:i,s:i}}", "cpu-index",
						(int)i, "qom-path", path, "thread-id",
						vm->vcpus[i]->tid, "target", "x86_64", "props",
						"socket-id", 0, "core-id", (int)i, "thread-id", 0));
	}
	return list;
}

static json_t *cmd_query_block(struct app *app, json_t *args, struct error **errp)
{
	(void)args;
	(void)errp;
	return query_block(app);
}

static json_t *cmd_query_chardev(struct app *app, json_t *args, struct error **errp)
{
	(void)args;
	(void)errp;
	return query_chardev(app);
}

static json_t *cmd_migrate(struct app *app, json_t *args, struct error **errp)
{
	const char *uri = json_string_value(json_object_get(args, "uri"));

	if (json_is_true(json_object_get(args, "blk")) ||
	    json_is_true(json_object_get(args, "inc"))) {
		error_set(errp, "block migration is not supported");
		return NULL;
	}
	return done(app_start_migration(app, uri, errp));
}

static json_t *cmd_migrate_incoming(struct app *app, json_t *args, struct error **errp)
{
	const char *uri = json_string_value(json_object_get(args, "uri"));

	if (!app->opts.incoming || strcmp(app->opts.incoming, "defer") != 0) {
		error_set(errp, "'--incoming defer' is required for 'migrate-incoming'");
		return NULL;
	}
	return done(app_start_incoming(app, uri, errp));
}

static json_t *cmd_migrate_cancel(struct app *app, json_t *args, struct error **errp)
{
	(void)args;
	(void)errp;
	migration_cancel(&app->migration);
	return json_object();
}

static json_t *cmd_migrate_continue(struct app *app, json_t *args, struct error **errp)
{
	const char *state = json_string_value(json_object_get(args, "state"));

	if (strcmp(state, "pre-switchover") != 0) {
		error_set(errp, "Parameter 'state' does not accept value '%s'", state);
		return NULL;
	}
	return done(migration_continue(&app->migration, MIGRATION_PRE_SWITCHOVER, errp));
}

static double ratio(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static json_t *ram_stats(const struct migration_stats *st)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:I,s:I,s:I}", "transferred",
			 (json_int_t)st->transferred_bytes, "remaining",
			 (json_int_t)st->ram_remaining_bytes, "total",
			 (json_int_t)st->ram_total_bytes, "duplicate",
			 (json_int_t)st->ram.zero_pages, "skipped", (json_int_t)0, "normal",
			 (json_int_t)st->ram.normal_pages, "normal-bytes",
			 (json_int_t)(st->ram.normal_pages * GUEST_PAGE_SIZE), "dirty-pages-rate",
			 (json_int_t)st->dirty_pages_rate, "mbps", (double)st->throughput * 8 / 1e6,
			 "dirty-sync-count", (json_int_t)st->passes, "page-size",
			 (json_int_t)GUEST_PAGE_SIZE, "pages-per-second",
			 (json_int_t)(st->throughput / GUEST_PAGE_SIZE));
}

static json_t *xbzrle_stats(const struct migration_stats *st)
{
	uint64_t tried = st->ram.xbzrle_pages + st->ram.xbzrle_unchanged + st->ram.xbzrle_misses +
			 st->ram.xbzrle_overflows;

	return json_pack(
		"{s:I,s:I,s:I,s:I,s:f,s:f,s:I}", "cache-size", (json_int_t)st->cache_size_bytes,
		"bytes", (json_int_t)st->ram.xbzrle_bytes, "pages",
		(json_int_t)st->ram.xbzrle_pages, "cache-miss", (json_int_t)st->ram.xbzrle_misses,
		"cache-miss-rate", ratio(st->ram.xbzrle_misses, tried), "encoding-rate",
		ratio(st->ram.xbzrle_pages * GUEST_PAGE_SIZE, st->ram.xbzrle_bytes), "overflow",
		(json_int_t)st->ram.xbzrle_overflows);
}

static json_t *blackout_stats(const struct blackout_times *b)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "stop-us", (json_int_t)(b->stop / NS_PER_US),
			 "wait-us", (json_int_t)(b->wait / NS_PER_US), "last-pages-us",
			 (json_int_t)(b->last_pages / NS_PER_US), "devices-us",
			 (json_int_t)(b->devices / NS_PER_US), "load-us",
			 (json_int_t)(b->load / NS_PER_US), "take-over-us",
			 (json_int_t)(b->take_over / NS_PER_US));
}

static json_t *query_incoming(struct app *app)
{
	json_t *json = json_pack("{s:s}", "status", app->incoming_status);

	if (app->incoming_error)
		json_object_set_new(json, "error-desc", json_string(app->incoming_error));
	return json;
}

static void append_notice(void *opaque, const char *text)
{
	json_array_append_new(opaque, json_sprintf("the destination: %s", text));
}

/* Beside QEMU's: what has not come along as it was. */
static void add_warnings(struct app *app, json_t *json)
{
	json_t *list = json_array();

	migration_query_notices(&app->migration, append_notice, list);
	if (json_array_size(list))
		json_object_set(json, "warnings", list);
	json_decref(list);
}

static json_t *cmd_query_migrate(struct app *app, json_t *args, struct error **errp)
{
	struct migration_stats st;
	struct error *error;
	enum migration_status status = migration_query(&app->migration, &st, &error);
	json_t *json;

	(void)args;
	(void)errp;
	if (status == MIGRATION_NONE)
		return app->incoming_status ? query_incoming(app) : json_object();
	json = json_pack("{s:s,s:I,s:I,s:o}", "status", migration_status_name(status), "total-time",
			 (json_int_t)(st.total_ns / NS_PER_MS), "setup-time",
			 (json_int_t)(st.setup_ns / NS_PER_MS), "ram", ram_stats(&st));
	if (st.xbzrle)
		json_object_set_new(json, "xbzrle-cache", xbzrle_stats(&st));
	if (status == MIGRATION_COMPLETED) {
		json_object_set_new(json, "downtime",
				    json_integer((json_int_t)(st.downtime_ns / NS_PER_MS)));
		json_object_set_new(json, "downtime-us",
				    json_integer((json_int_t)(st.downtime_ns / NS_PER_US)));
		json_object_set_new(json, "blackout", blackout_stats(&st.blackout));
	} else if (st.expected_downtime_ns && st.expected_downtime_ns != UINT64_MAX) {
		json_object_set_new(
			json, "expected-downtime",
			json_integer((json_int_t)(st.expected_downtime_ns / NS_PER_MS)));
	}
	if (error)
		json_object_set_new(json, "error-desc", json_string(error_msg(error)));
	error_free(error);
	add_warnings(app, json);
	return json;
}

static json_t *cmd_query_capabilities(struct app *app, json_t *args, struct error **errp)
{
	struct migration_params params;
	struct migration_caps caps;
	json_t *list = json_array();
	const struct cap_info *table;
	size_t n;

	(void)args;
	(void)errp;
	table = migration_cap_table(&n);
	migration_get_settings(&app->migration, &params, &caps);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			list, json_pack("{s:s,s:b}", "capability", table[i].name, "state",
					*migration_cap(&caps, &table[i]) != CAPABILITY_OFF));
	return list;
}

static json_t *cmd_set_capabilities(struct app *app, json_t *args, struct error **errp)
{
	json_t *list = json_object_get(args, "capabilities");
	size_t i;
	json_t *item;

	/* All are looked at before one is set. */
	for (int pass = 0; pass < 2; pass++) {
		json_array_foreach(list, i, item)
		{
			const char *name = json_string_value(json_object_get(item, "capability"));
			json_t *state = json_object_get(item, "state");
			struct migration_caps scratch;

			if (!name || !json_is_boolean(state)) {
				error_set(errp, "Parameter 'capabilities' expects objects of "
						"'capability' and 'state'");
				return NULL;
			}
			if (pass == 0
				    ? !migration_cap_set(&scratch, name, json_is_true(state), errp)
				    : !migration_set_cap(&app->migration, name, json_is_true(state),
							 errp))
				return NULL;
		}
	}
	return json_object();
}

static json_t *cmd_query_parameters(struct app *app, json_t *args, struct error **errp)
{
	struct migration_params params;
	struct migration_caps caps;
	json_t *json = json_object();
	const struct param_info *table;
	size_t n;

	(void)args;
	(void)errp;
	table = migration_param_table(&n);
	migration_get_settings(&app->migration, &params, &caps);
	for (size_t i = 0; i < n; i++)
		json_object_set_new(json, table[i].name,
				    json_integer((json_int_t)*migration_param(&params, &table[i])));
	return json;
}

static json_t *cmd_set_parameters(struct app *app, json_t *args, struct error **errp)
{
	const char *name;
	json_t *value;

	for (int pass = 0; pass < 2; pass++) {
		json_object_foreach(args, name, value)
		{
			struct migration_params scratch;
			uint64_t n = (uint64_t)json_integer_value(value);

			if (!json_is_integer(value)) {
				error_set(errp,
					  "Invalid parameter type for '%s', expected: integer",
					  name);
				return NULL;
			}
			/* A negative number is far beyond every maximum when seen unsigned. */
			if (pass == 0 ? !migration_param_set(&scratch, name, n, errp)
				      : !migration_set_param(&app->migration, name, n, errp))
				return NULL;
		}
	}
	return json_object();
}

static json_t *cmd_query_commands(struct app *app, json_t *args, struct error **errp);

static json_t *cmd_qmp_capabilities(struct app *app, json_t *args, struct error **errp)
{
	(void)app;
	(void)args;
	(void)errp;
	return json_object();
}

#define NEGOTIATE "qmp_capabilities"

#define BITMAP                             \
	{ "node", JSON_STRING, false },    \
	{                                  \
		"name", JSON_STRING, false \
	}

static const struct command commands[] = {
	{ NEGOTIATE, cmd_qmp_capabilities, { { "enable", JSON_ARRAY, true } }, false },
	{ "query-version", cmd_query_version, { { 0 } }, false },
	{ "query-commands", cmd_query_commands, { { 0 } }, false },
	{ "query-status", cmd_query_status, { { 0 } }, false },
	{ "query-kvm", cmd_query_kvm, { { 0 } }, false },
	{ "query-cpus-fast", cmd_query_cpus_fast, { { 0 } }, false },
	{ "query-block", cmd_query_block, { { 0 } }, false },
	{ "query-chardev", cmd_query_chardev, { { 0 } }, false },
	{ "stop", cmd_stop, { { 0 } }, false },
	{ "cont", cmd_cont, { { "claim-guest", JSON_TRUE, true } }, false },
	{ "quit", cmd_quit, { { 0 } }, false },
	{ "system_reset", cmd_system_reset, { { 0 } }, false },
	{ "migrate",
	  cmd_migrate,
	  { { "uri", JSON_STRING, false },
	    { "detach", JSON_TRUE, true },
	    { "blk", JSON_TRUE, true },
	    { "inc", JSON_TRUE, true } },
	  false },
	{ "migrate-incoming", cmd_migrate_incoming, { { "uri", JSON_STRING, false } }, false },
	{ "migrate_cancel", cmd_migrate_cancel, { { 0 } }, false },
	{ "migrate-continue", cmd_migrate_continue, { { "state", JSON_STRING, false } }, false },
	{ "query-migrate", cmd_query_migrate, { { 0 } }, false },
	{ "migrate-set-capabilities",
	  cmd_set_capabilities,
	  { { "capabilities", JSON_ARRAY, false } },
	  false },
	{ "query-migrate-capabilities", cmd_query_capabilities, { { 0 } }, false },
	{ "migrate-set-parameters", cmd_set_parameters, { { 0 } }, true },
	{ "query-migrate-parameters", cmd_query_parameters, { { 0 } }, false },
	{ "block-dirty-bitmap-add",
	  cmd_bitmap_add,
	  { BITMAP,
	    { "granularity", JSON_INTEGER, true },
	    { "persistent", JSON_TRUE, true },
	    { "disabled", JSON_TRUE, true } },
	  false },
	{ "block-dirty-bitmap-remove", cmd_bitmap_remove, { BITMAP }, false },
	{ "block-dirty-bitmap-clear", cmd_bitmap_clear, { BITMAP }, false },
	{ "block-dirty-bitmap-enable", cmd_bitmap_enable, { BITMAP }, false },
	{ "block-dirty-bitmap-disable", cmd_bitmap_disable, { BITMAP }, false },
	{ "block-dirty-bitmap-merge",
	  cmd_bitmap_merge,
	  { { "node", JSON_STRING, false },
	    { "target", JSON_STRING, false },
	    { "bitmaps", JSON_ARRAY, false } },
	  false },
	{ "drive-backup",
	  cmd_drive_backup,
	  { { "device", JSON_STRING, false },
	    { "target", JSON_STRING, false },
	    { "sync", JSON_STRING, false },
	    { "format", JSON_STRING, true },
	    { "bitmap", JSON_STRING, true },
	    { "backing-file", JSON_STRING, true },
	    { "backing-format", JSON_STRING, true },
	    { "partial", JSON_TRUE, true },
	    { "speed", JSON_INTEGER, true } },
	  false },
	{ "block-job-cancel",
	  cmd_block_job_cancel,
	  { { "device", JSON_STRING, false }, { "force", JSON_TRUE, true } },
	  false },
	{ "block-job-set-speed",
	  cmd_block_job_set_speed,
	  { { "device", JSON_STRING, false }, { "speed", JSON_INTEGER, false } },
	  false },
	{ "query-block-jobs", cmd_query_block_jobs, { { 0 } }, false },
};

static json_t *cmd_query_commands(struct app *app, json_t *args, struct error **errp)
{
	json_t *list = json_array();

	(void)app;
	(void)args;
	(void)errp;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		json_array_append_new(list, json_pack("{s:s}", "name", commands[i].name));
	return list;
}

static const struct arg *find_arg(const struct command *cmd, const char *name)
{
	for (size_t i = 0; i < ARGS_MAX && cmd->args[i].name; i++)
		if (strcmp(cmd->args[i].name, name) == 0)
			return &cmd->args[i];
	return NULL;
}

static bool check_args(const struct command *cmd, json_t *args, struct error **errp)
{
	static const char *const type_names[] = { [JSON_OBJECT] = "object",
						  [JSON_ARRAY] = "array",
						  [JSON_STRING] = "string",
						  [JSON_INTEGER] = "integer",
						  [JSON_TRUE] = "boolean" };
	const char *name;
	json_t *value;

	json_object_foreach(args, name, value)
	{
		const struct arg *arg = find_arg(cmd, name);

		if (!arg) {
			error_set(errp, "Parameter '%s' is unexpected", name);
			return false;
		}
		if (arg->type == JSON_TRUE ? !json_is_boolean(value)
					   : json_typeof(value) != arg->type) {
			error_set(errp, "Invalid parameter type for '%s', expected: %s", name,
				  type_names[arg->type]);
			return false;
		}
	}
	for (size_t i = 0; i < ARGS_MAX && cmd->args[i].name; i++) {
		if (!cmd->args[i].optional && !json_object_get(args, cmd->args[i].name)) {
			error_set(errp, "Parameter '%s' is missing", cmd->args[i].name);
			return false;
		}
	}
	return true;
}

json_t *command_execute(struct app *app, const char *name, json_t *args, bool *negotiated,
			struct error **errp)
{
	bool negotiating = strcmp(name, NEGOTIATE) == 0;

	if (!*negotiated && !negotiating) {
		error_set_class(errp, ERROR_COMMAND_NOT_FOUND,
				"Expecting capabilities negotiation with 'qmp_capabilities'");
		return NULL;
	}
	if (*negotiated && negotiating) {
		error_set_class(errp, ERROR_COMMAND_NOT_FOUND,
				"Capabilities negotiation is already complete, command ignored");
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (!commands[i].any_args && !check_args(&commands[i], args, errp))
			return NULL;
		*negotiated = true;
		return commands[i].run(app, args, errp);
	}
	error_set_class(errp, ERROR_COMMAND_NOT_FOUND, "The command %s has not been found", name);
	return NULL;
}
