/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bench/move.h"

#include "bench/qmp.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define START_TIMEOUT_NS (120 * NS_PER_SEC)
/* What the guest does right behind the move, on memory that is new to it, belongs to the move. */
#define AFTER_NS (100 * NS_PER_MS)
/* Between two questions whether the source knows already that it is over. */
#define ASK_NS (5 * NS_PER_MS)
/* QEMU has a default cap of 128 MiB/s, and 0 is not "no cap" in every version. */
#define QEMU_NO_CAP (INT64_C(1) << 40)

void vmm_qmp_path(char path[static PATH_BYTES], const char *dir, const char *tag)
{
	snprintf(path, PATH_BYTES, "%s/%s.qmp", dir, tag);
}

bool vmm_start(const struct vmm *vmm, const struct guest *guest, const char *dir, const char *tag,
	       bool incoming, struct child *child, uint64_t *started_ns, struct why *why)
{
	char qmp[PATH_BYTES], socket[PATH_BYTES + 64], errors[PATH_BYTES], memory[16];
	const char *argv[32];
	size_t n = 0;

	vmm_qmp_path(qmp, dir, tag);
	snprintf(errors, sizeof(errors), "%s/%s.err", dir, tag);
	snprintf(memory, sizeof(memory), "%uM", guest->memory_mib);
	snprintf(socket, sizeof(socket), "unix:%s%s", qmp,
		 vmm->is_qemu ? ",server=on,wait=off" : "");
	unlink(qmp);
	argv[n++] = vmm->path;
	if (vmm->is_qemu) {
		static const char *const machine[] = {
			"-M",	      "microvm", "-accel", "kvm", "-nodefaults", "-no-user-config",
			"-nographic", "-serial", "stdio"
		};
		for (size_t i = 0; i < ARRAY_SIZE(machine); i++)
			argv[n++] = machine[i];
	} else {
		argv[n++] = "run";
		argv[n++] = "--serial";
		argv[n++] = "stdio";
	}
	argv[n++] = vmm->is_qemu ? "-qmp" : "--control";
	argv[n++] = socket;
	if (incoming) {
		argv[n++] = vmm->is_qemu ? "-incoming" : "--incoming";
		argv[n++] = "defer";
	}
	if (vmm->is_qemu || !incoming) {
		argv[n++] = vmm->is_qemu ? "-kernel" : "--kernel";
		argv[n++] = guest->image;
		argv[n++] = vmm->is_qemu ? "-append" : "--cmdline";
		argv[n++] = guest->cmdline;
		argv[n++] = vmm->is_qemu ? "-m" : "--memory";
		argv[n++] = memory;
	}
	argv[n] = NULL;
	return child_start(child, (char *const *)argv, errors, started_ns, why);
}

/* A line has ended, so its process has: its last words are the reason. */
static bool line_ended(const struct child *child, struct why *why)
{
	struct why words;

	return why_set(why, "the process has ended: %s", child_last_words(child, &words));
}

/* Read a line until `deadline`, or until the guest works where that is asked for. */
static bool listen_until(const struct child *child, struct serial *serial, bool working,
			 uint64_t deadline, struct why *why)
{
	struct pollfd pfd = { .fd = child->out, .events = POLLIN };

	while (!working || !serial->working) {
		int ready = wait_fds(&pfd, 1, deadline);

		if (ready < 0)
			return why_set(why, "interrupted");
		if (ready == 0)
			return true;
		if (!serial_read(serial, SERIAL_SOURCE, child->out, clock_now_ns()))
			return line_ended(child, why);
	}
	return true;
}

bool guest_wait_working(const struct child *child, struct serial *serial, struct why *why)
{
	if (!listen_until(child, serial, true, clock_now_ns() + START_TIMEOUT_NS, why))
		return false;
	return serial->working || why_set(why, "the guest did not start to work");
}

struct move {
	const struct vmm *vmm;
	const struct move_plan *plan;
	const char *dir;
	struct child source, destination;
	struct qmp source_qmp, destination_qmp;
	struct serial serial;
	char uri[PATH_BYTES + 8];
	uint64_t start_ns;
};

static bool want_events(struct qmp *qmp, struct why *why)
{
	return qmp_do(
		qmp, "migrate-set-capabilities",
		json_pack("{s:[{s:s,s:b}]}", "capabilities", "capability", "events", "state", 1),
		why);
}

static bool start_source(struct move *m, struct move_result *result, struct why *why)
{
	char path[PATH_BYTES];
	json_int_t cap = (json_int_t)m->plan->bandwidth;

	if (!vmm_start(m->vmm, &m->plan->guest, m->dir, "source", false, &m->source, NULL, why) ||
	    !guest_wait_working(&m->source, &m->serial, why))
		return false;
	vmm_qmp_path(path, m->dir, "source");
	if (!qmp_connect(&m->source_qmp, path, &m->source, why) ||
	    !want_events(&m->source_qmp, why))
		return false;
	if (!cap && m->vmm->is_qemu && !m->plan->as_it_comes)
		cap = QEMU_NO_CAP;
	if (cap && !qmp_do(&m->source_qmp, "migrate-set-parameters",
			   json_pack("{s:I}", "max-bandwidth", cap), why))
		return false;
	serial_read(&m->serial, SERIAL_SOURCE, m->source.out, clock_now_ns());
	serial_watch(&m->serial, clock_now_ns());
	if (!listen_until(&m->source, &m->serial, false, clock_now_ns() + m->plan->quiet_ns, why))
		return false;
	result->quiet_ns = m->serial.longest_ns;
	return true;
}

static bool start_destination(struct move *m, struct why *why)
{
	char path[PATH_BYTES], socket[PATH_BYTES];

	snprintf(socket, sizeof(socket), "%s/move", m->dir);
	snprintf(m->uri, sizeof(m->uri), "unix:%s", socket);
	unlink(socket);
	vmm_qmp_path(path, m->dir, "destination");
	return vmm_start(m->vmm, &m->plan->guest, m->dir, "destination", true, &m->destination,
			 NULL, why) &&
	       qmp_connect(&m->destination_qmp, path, &m->destination, why) &&
	       want_events(&m->destination_qmp, why) &&
	       qmp_do(&m->destination_qmp, "migrate-incoming", json_pack("{s:s}", "uri", m->uri),
		      why);
}

/* Take what poll has found. The source's line first; see serial.h. */
static bool take_ready(struct move *m, struct pollfd fds[4], uint64_t now, struct why *why)
{
	if ((fds[0].revents || fds[1].revents) &&
	    !serial_read(&m->serial, SERIAL_SOURCE, m->source.out, now))
		return line_ended(&m->source, why);
	if (fds[1].revents && !serial_read(&m->serial, SERIAL_DESTINATION, m->destination.out, now))
		return line_ended(&m->destination, why);
	if (fds[2].revents && !qmp_take_events(&m->source_qmp, why))
		return false;
	if (fds[3].revents && !qmp_take_events(&m->destination_qmp, why))
		return false;
	if (strcmp(m->source_qmp.status, "failed") == 0)
		return why_set(why, "the migration failed");
	return true;
}

/* Listen on all lines until the guest has been there for a while, or the bound is reached. */
static bool follow(struct move *m, uint64_t until, bool to_the_end, struct why *why)
{
	struct pollfd fds[4] = { { .fd = m->source.out, .events = POLLIN },
				 { .fd = m->destination.out, .events = POLLIN },
				 { .fd = m->source_qmp.fd, .events = POLLIN },
				 { .fd = m->destination_qmp.fd, .events = POLLIN } };
	bool moved = m->serial.moved;

	for (;;) {
		int ready = wait_fds(fds, 4, until);

		if (ready < 0)
			return why_set(why, "interrupted");
		if (ready == 0)
			return true;
		if (!take_ready(m, fds, clock_now_ns(), why))
			return false;
		if (to_the_end && !moved && m->serial.moved)
			until = clock_now_ns() + AFTER_NS;
		moved = m->serial.moved;
		if (clock_now_ns() >= until)
			return true; /* beats may come without end */
	}
}

static uint64_t number_at(json_t *json, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(json, name));
}

static bool ask(struct move *m, struct move_result *result, bool *over, struct why *why)
{
	json_t *info = qmp_call(&m->source_qmp, "query-migrate", NULL, why);
	json_t *ram = json_object_get(info, "ram");
	const char *status = json_string_value(json_object_get(info, "status"));

	result->wire_bytes = number_at(ram, "transferred");
	result->passes = number_at(ram, "dirty-sync-count");
	if (number_at(ram, "dirty-pages-rate"))
		result->dirty_pages_rate = number_at(ram, "dirty-pages-rate");
	*over = status && strcmp(status, "completed") == 0;
	json_decref(info);
	return info != NULL;
}

/* What the source counts is complete only when it says so. */
static bool wait_statistics(struct move *m, struct move_result *result, struct why *why)
{
	uint64_t deadline = clock_now_ns() + START_TIMEOUT_NS;
	bool over = false;

	while (ask(m, result, &over, why)) {
		if (over || !result->moved)
			return true;
		if (clock_now_ns() > deadline)
			return why_set(why, "the guest has moved, but the source does not say so");
		if (!follow(m, clock_now_ns() + ASK_NS, false, why))
			return false;
	}
	return false;
}

static uint64_t cpu_ns(const struct child *child)
{
	struct timespec ts = { 0 };
	clockid_t clock;

	if (clock_getcpuclockid(child->pid, &clock) == 0)
		clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static bool run_move(struct move *m, struct move_result *result, struct why *why)
{
	uint64_t now, source_cpu, destination_cpu;

	if (!start_source(m, result, why) || !start_destination(m, why))
		return false;
	if (m->plan->warm)
		process_warm_memory((uint64_t)m->plan->guest.memory_mib << 20);
	now = clock_now_ns();
	if (!serial_read(&m->serial, SERIAL_SOURCE, m->source.out, now))
		return line_ended(&m->source, why);
	serial_watch(&m->serial, now);
	source_cpu = cpu_ns(&m->source);
	destination_cpu = cpu_ns(&m->destination);
	m->start_ns = clock_now_ns();
	if (!qmp_do(&m->source_qmp, "migrate", json_pack("{s:s}", "uri", m->uri), why) ||
	    !follow(m, m->start_ns + m->plan->bound_ns, true, why))
		return false;
	result->source_cpu_ns = cpu_ns(&m->source) - source_cpu;
	result->destination_cpu_ns = cpu_ns(&m->destination) - destination_cpu;
	result->moved = m->serial.moved;
	result->longest_ns = m->serial.longest_ns;
	result->handover_ns = m->serial.handover_ns;
	if (result->moved)
		result->total_ns = m->serial.first_here_ns - m->start_ns;
	return wait_statistics(m, result, why);
}

bool move_guest(const struct vmm *vmm, const struct move_plan *plan, const char *dir,
		struct move_result *result, struct why *why)
{
	struct move m = { .vmm = vmm, .plan = plan, .dir = dir };
	struct why words;
	bool ok;

	*result = (struct move_result){ 0 };
	m.source.out = m.destination.out = -1;
	m.source_qmp.fd = m.destination_qmp.fd = -1;
	ok = run_move(&m, result, why);
	if (!ok && m.destination.pid && *child_last_words(&m.destination, &words)) {
		size_t used = strlen(why->text);

		snprintf(why->text + used, sizeof(why->text) - used, " (destination: %.100s)",
			 words.text);
	}
	snprintf(result->wrong, sizeof(result->wrong), "%s", m.serial.wrong);
	qmp_close(&m.source_qmp);
	qmp_close(&m.destination_qmp);
	child_kill(&m.source);
	child_kill(&m.destination);
	return ok;
}
