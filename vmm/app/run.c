/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `ferry run`: puts the parts together, and carries out on the main thread what other threads ask for. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "vmm/app/app.h"
#include "vmm/app/backup_commands.h"
#include "vmm/app/control.h"
#include "vmm/app/signals.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

/* --- observers: any thread --- */

static void on_state_changed(void *opaque, enum runstate from, enum runstate to)
{
	struct app *app = opaque;

	if (to == RUNSTATE_RUNNING)
		control_post_event(app->control, EVENT_RESUME, 0);
	else if (from == RUNSTATE_RUNNING)
		control_post_event(app->control, EVENT_STOP, 0);
}

static void on_migration_status(void *opaque, enum migration_status status)
{
	struct app *app = opaque;

	control_post_event(app->control, EVENT_MIGRATION, status);
}

static void on_migration_pass(void *opaque, uint64_t pass)
{
	struct app *app = opaque;

	control_post_event(app->control, EVENT_MIGRATION_PASS, pass);
}

struct disk_failure {
	struct app *app;
	char id[MACHINE_ID_MAX + 1];
	const char *operation;
	int error;
};

static void tell_disk_failure(void *opaque)
{
	struct disk_failure *f = opaque;

	control_emit_disk_error(f->app->control, f->id, f->operation, f->error);
	free(f);
}

static void on_disk_failed(void *opaque, const char *id, const char *operation, int error)
{
	struct disk_failure *f = xcalloc(1, sizeof(*f));
	struct app *app = opaque;

	*f = (struct disk_failure){ .app = app, .operation = operation, .error = error };
	snprintf(f->id, sizeof(f->id), "%s", id);
	loop_post(app->loop, tell_disk_failure, f);
}

static void handle_request(void *opaque);

static void on_request(void *opaque)
{
	struct app *app = opaque;

	loop_post(app->loop, handle_request, app);
}

/* --- requests of the guest --- */

void app_quit(struct app *app, int status, bool by_guest, const char *reason)
{
	if (app->quitting)
		return; /* the first reason counts */
	app->quitting = true;
	app->exit_status = status;
	control_emit_shutdown(app->control, by_guest, reason);
	loop_quit(app->loop);
}

static void report(struct app *app, enum log_level level, const char *what, const char *text,
		   unsigned int vcpu)
{
	scoped_free char *regs = NULL;

	if (vcpu == VM_NO_VCPU) {
		log_line(level, "%s%s%s", what, text ? ": " : "", text ? text : "");
		return;
	}
	regs = vcpu_describe(app->machine.vm.vcpus[vcpu]);
	log_line(level, "%s%s%s (vCPU %u)\n%s", what, text ? ": " : "", text ? text : "", vcpu,
		 regs);
}

static void reset_machine(struct app *app, bool by_guest)
{
	scoped_error err = NULL;

	if (!machine_reset(&app->machine, &err)) {
		log_error("%s", error_msg(err));
		app_quit(app, 1, by_guest, "host-error");
		return;
	}
	control_emit_reset(app->control, by_guest);
}

static void handle_request(void *opaque)
{
	struct app *app = opaque;
	struct vm *vm = &app->machine.vm;
	scoped_free char *text = NULL;
	unsigned int vcpu;
	int code;

	switch (vm_take_request(vm, &code, &text, &vcpu)) {
	case VM_REQUEST_NONE:
		return;
	case VM_REQUEST_RESET_BY_USER:
		reset_machine(app, false);
		break;
	case VM_REQUEST_RESET:
		if (app->opts.reset_on_reset) {
			reset_machine(app, true);
			break;
		}
		report(app, LOG_INFO, "the guest has reset itself", text, vcpu);
		vm_change_state(vm, 1u << RUNSTATE_RUNNING, RUNSTATE_SHUTDOWN, NULL, NULL);
		app_quit(app, 0, true, "guest-reset");
		break;
	case VM_REQUEST_SHUTDOWN:
		app_quit(app, code, true, "guest-shutdown");
		break;
	case VM_REQUEST_ERROR:
		report(app, LOG_ERROR, "the guest cannot go on", text, vcpu);
		app_quit(app, 1, true, "guest-panic");
		break;
	}
	vm_request_done(vm);
	if (vm_state(vm) == RUNSTATE_RUNNING)
		vm_unpark(vm);
	handle_request(app); /* one that came meanwhile */
}

bool app_reset_guest(struct app *app, struct error **errp)
{
	return vm_request_user_reset(&app->machine.vm, errp);
}

/* --- stop and cont --- */

bool app_stop_guest(struct app *app, struct error **errp)
{
	struct vm *vm = &app->machine.vm;

	switch (vm_state(vm)) {
	case RUNSTATE_RUNNING:
		if (!vm_change_state(vm, 1u << RUNSTATE_RUNNING, RUNSTATE_PAUSED, NULL, errp))
			return false;
		vm_park(vm);
		return true;
	case RUNSTATE_INMIGRATE:
		__atomic_store_n(&app->opts.paused, true, __ATOMIC_RELAXED);
		return true;
	case RUNSTATE_FINISH_MIGRATE:
		error_set(errp, "the guest is just being handed over");
		return false;
	default:
		return true; /* it does not run */
	}
}

static bool start_from(struct app *app, enum runstate from, struct error **errp)
{
	struct vm *vm = &app->machine.vm;

	if (!vm_change_state(vm, 1u << from, RUNSTATE_RUNNING, NULL, errp))
		return false;
	if (from == RUNSTATE_IN_DOUBT)
		devices_resume(vm);
	vm_unpark(vm);
	return true;
}

bool app_continue_guest(struct app *app, bool claim, struct error **errp)
{
	enum runstate state = vm_state(&app->machine.vm);

	switch (state) {
	case RUNSTATE_RUNNING:
		return true;
	case RUNSTATE_PAUSED:
	case RUNSTATE_PRELAUNCH:
		return start_from(app, state, errp);
	case RUNSTATE_INMIGRATE:
		if (claim) {
			error_set(errp,
				  "there is nothing to claim: the guest is in state '%s', "
				  "expected '%s'",
				  runstate_name(state), runstate_name(RUNSTATE_IN_DOUBT));
			return false;
		}
		__atomic_store_n(&app->opts.paused, false, __ATOMIC_RELAXED);
		return true;
	case RUNSTATE_IN_DOUBT:
		if (claim)
			return start_from(app, state, errp);
		error_set(errp,
			  "the migration's last word was lost: the guest may be running at the "
			  "other side. Look there first; 'claim-guest': true runs it here");
		return false;
	case RUNSTATE_POSTMIGRATE:
		error_set(errp, "the guest has been migrated and is the destination's");
		return false;
	case RUNSTATE_FINISH_MIGRATE:
		error_set(errp, "the guest is just being handed over");
		return false;
	default:
		error_set(errp, "Resetting the Virtual Machine is required");
		return false;
	}
}

/* --- migration --- */

bool app_start_migration(struct app *app, const char *uri, struct error **errp)
{
	struct migration_machine machine;

	if (!backup_jobs_none(app, errp))
		return false;
	machine_for_migration(&app->machine, &machine);
	return migration_start(&app->migration, &machine, uri, errp);
}

static void machine_host(struct app *app, struct machine_host *host)
{
	const struct device_options *devices = &app->opts.devices;

	for (unsigned int i = 0; i < devices->n; i++)
		app->parts[i] = (struct machine_part){
			.id = devices->list[i].id,
			.path = app->consoles[i] ? NULL : devices->list[i].host,
			.backend = app->consoles[i],
		};
	*host = (struct machine_host){
		.serial = app->serial,
		.dirty_log = app->opts.dirty_log,
		.parts = app->parts,
		.nparts = devices->n,
	};
}

/* The target's thread. */
static bool incoming_build(void *opaque, const struct configuration *cfg,
			   struct section_table **sections, struct error **errp)
{
	struct app *app = opaque;
	struct machine_host host;
	void *fdt = xcalloc(1, cfg->fdt_bytes);

	memcpy(fdt, cfg->fdt, cfg->fdt_bytes);
	machine_host(app, &host);
	if (!machine_build(&app->machine, fdt, cfg->fdt_bytes, &host, cfg, errp))
		return false;
	devices_pause(&app->machine.vm);
	*sections = &app->machine.sections;
	control_post_event(app->control, EVENT_INCOMING, 0);
	return true;
}

/* The target's thread, with the guest silent: nothing slow here. */
static void incoming_take_over(void *opaque)
{
	struct app *app = opaque;
	struct vm *vm = &app->machine.vm;
	bool run = vm->run_after_migration && !__atomic_load_n(&app->opts.paused, __ATOMIC_RELAXED);

	devices_resume(vm);
	vm_set_state(vm, run ? RUNSTATE_RUNNING : RUNSTATE_PAUSED);
	if (run)
		vm_unpark(vm);
}

struct incoming_end {
	struct app *app;
	enum target_end end;
	struct error *err;
};

static void on_incoming_end(void *opaque)
{
	static const char *const statuses[] = { [TARGET_TOOK_OVER] = "completed",
						[TARGET_FAILED] = "failed",
						[TARGET_IN_DOUBT] = "in-doubt" };
	struct incoming_end *e = opaque;
	struct app *app = e->app;

	if (e->err) {
		free(app->incoming_error);
		app->incoming_error = xstrdup(error_msg(e->err));
	}
	app->incoming_status = statuses[e->end];
	control_emit_migration(app->control, app->incoming_status);
	switch (e->end) {
	case TARGET_TOOK_OVER:
		log_info("incoming migration: the guest is here");
		break;
	case TARGET_IN_DOUBT:
		log_error("incoming migration: %s; the guest is here, whole and stopped, and may "
			  "be running at the source (status handover-in-doubt)",
			  error_msg(e->err));
		break;
	case TARGET_FAILED:
		if (app->quitting)
			break; /* given up because the process ends */
		log_error("incoming migration failed: %s", error_msg(e->err));
		app_quit(app, 1, false, "host-error");
		break;
	}
	error_free(e->err);
	free(e);
}

/* The target's thread. */
static void incoming_ended(void *opaque, enum target_end end, struct error *err)
{
	struct incoming_end *e = xcalloc(1, sizeof(*e));

	*e = (struct incoming_end){ opaque, end, err };
	if (end == TARGET_IN_DOUBT)
		vm_set_state(&e->app->machine.vm, RUNSTATE_IN_DOUBT);
	loop_post(e->app->loop, on_incoming_end, e);
}

bool app_start_incoming(struct app *app, const char *uri, struct error **errp)
{
	struct target_owner owner = { incoming_build, incoming_take_over, incoming_ended, app };

	if (app->target) {
		error_set(errp, "The incoming migration has already been started");
		return false;
	}
	app->target = target_start(&app->machine.vm, uri, &owner, errp);
	if (!app->target)
		return false;
	app->incoming_status = "setup";
	log_info("waiting for a migration on %s", target_uri(app->target));
	return true;
}

/* --- start --- */

static bool file_size(const char *path, uint64_t *size, struct error **errp)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		error_set_errno(errp, errno, "cannot open '%s'", path);
		return false;
	}
	if (!S_ISREG(st.st_mode) || st.st_size == 0) {
		error_set(errp, "'%s': expected a file with something in it", path);
		return false;
	}
	*size = (uint64_t)st.st_size;
	return true;
}

static void *describe_machine(struct app *app, size_t *size, struct error **errp)
{
	struct machine_options m = {
		.memory_bytes = app->opts.memory_bytes,
		.ncpus = app->opts.ncpus,
		.cmdline = app->opts.cmdline,
		.no_acpi = app->opts.no_acpi,
	};

	device_options_describe(&app->opts.devices, &m);
	if (!file_size(app->opts.kernel, &m.kernel_bytes, errp) ||
	    (app->opts.initrd && !file_size(app->opts.initrd, &m.initrd_bytes, errp)))
		return NULL;
	return devicetree_build(&m, size, errp);
}

static bool dump_dtb(const char *path, const void *fdt, size_t size, struct error **errp)
{
	FILE *f = fopen(path, "we");
	bool ok = f && fwrite(fdt, 1, size, f) == size;

	if (f && fclose(f) != 0)
		ok = false;
	if (!ok)
		error_set_errno(errp, errno, "cannot write '%s'", path);
	return ok;
}

static bool start_fresh(struct app *app, struct error **errp)
{
	struct machine *m = &app->machine;
	struct machine_host host;
	size_t size;
	void *fdt = describe_machine(app, &size, errp);

	if (!fdt)
		return false;
	machine_host(app, &host);
	if (!machine_build(m, fdt, size, &host, NULL, errp) ||
	    !machine_load_image(m, BLOCK_KERNEL, app->opts.kernel, errp) ||
	    (app->opts.initrd && !machine_load_image(m, BLOCK_INITRD, app->opts.initrd, errp)))
		return false;
	if (!machine_boot(m, errp)) {
		error_prefix(errp, "cannot boot '%s': ", app->opts.kernel);
		return false;
	}
	if (!app->opts.paused) {
		vm_set_state(&m->vm, RUNSTATE_RUNNING);
		vm_unpark(&m->vm);
	}
	return true;
}

static void on_resized(void *opaque)
{
	struct app *app = opaque;

	machine_terminal_resized(&app->machine);
}

static void on_end_wished(void *opaque)
{
	app_quit(opaque, 0, false, "host-signal");
}

static void on_leave(void *opaque)
{
	app_quit(opaque, 0, false, "host-ui");
}

static bool uses_stdio(const struct run_options *o)
{
	bool uses = strcmp(o->serial, "stdio") == 0;

	for (unsigned int i = 0; i < o->devices.n; i++) {
		const char *where = device_option_console(&o->devices.list[i]);

		uses |= where && strcmp(where, "stdio") == 0;
	}
	return uses;
}

static bool watch_signals(struct app *app, struct error **errp)
{
	struct signals_owner owner = { on_resized, on_end_wished, app };

	app->signals = signals_start(app->loop, &owner, uses_stdio(&app->opts), errp);
	return app->signals != NULL;
}

static bool open_consoles(struct app *app, struct error **errp)
{
	for (unsigned int i = 0; i < app->opts.devices.n; i++) {
		const struct device_option *d = &app->opts.devices.list[i];
		const char *where = device_option_console(d);

		if (!where)
			continue;
		app->consoles[i] = chardev_open(app->loop, where, app->opts.incoming != NULL,
						on_leave, app, errp);
		if (!app->consoles[i]) {
			error_prefix(errp, "device '%s': ", d->id);
			return false;
		}
	}
	return true;
}

static bool start(struct app *app, struct error **errp)
{
	const struct run_options *o = &app->opts;

	vcpu_init_signals();
	app->control = control_new(app);
	app->loop = loop_new(errp);
	if (!app->loop || !watch_signals(app, errp))
		return false;
	if (o->control && !control_listen(app->control, o->control, errp))
		return false;
	app->serial = chardev_open(app->loop, o->serial, o->incoming != NULL, on_leave, app, errp);
	if (!app->serial || !open_consoles(app, errp))
		return false;
	app->machine.vm.loop = app->loop;
	if (!o->incoming)
		return start_fresh(app, errp);
	if (strcmp(o->incoming, "defer") == 0)
		return true;
	return app_start_incoming(app, o->incoming, errp);
}

static void stop(struct app *app)
{
	vm_end(&app->machine.vm);
	target_stop(app->target);
	migration_release(&app->migration);
	backup_jobs_stop(app);
	if (app->loop)
		loop_run(app->loop); /* what those three have posted at their end */
	machine_release(&app->machine);
	for (unsigned int i = 0; i < MACHINE_MAX_VIRTIO; i++)
		chardev_close(app->consoles[i]);
	chardev_close(app->serial);
	control_free(app->control);
	signals_stop(app->signals);
	loop_free(app->loop);
	free(app->incoming_error);
}

static bool only_dump(struct app *app, struct error **errp)
{
	size_t size;
	scoped_free void *fdt = describe_machine(app, &size, errp);

	return fdt && dump_dtb(app->opts.dump_dtb, fdt, size, errp);
}

int app_run(const struct run_options *opts)
{
	struct app app = { .opts = *opts };
	struct vm_observer vm_observer = { on_state_changed, on_request, &app, on_disk_failed };
	struct migration_observer observer = { on_migration_status, on_migration_pass, &app };
	scoped_error err = NULL;

	if (opts->dump_dtb) {
		if (only_dump(&app, &err))
			return 0;
		log_error("%s", error_msg(err));
		return 1;
	}
	vm_init(&app.machine.vm, NULL, &vm_observer,
		opts->incoming ? RUNSTATE_INMIGRATE : RUNSTATE_PRELAUNCH);
	migration_init(&app.migration, &observer);
	if (start(&app, &err)) {
		loop_run(app.loop);
	} else {
		app.quitting = true;
		app.exit_status = 1;
		if (app.loop)
			loop_quit(app.loop);
	}
	stop(&app);
	if (err)
		log_error("%s", error_msg(err));
	return app.exit_status;
}
