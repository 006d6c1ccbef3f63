/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/migration.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/eventfd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

#define TO(status) (1u << MIGRATION_##status)
#define ENDS (TO(FAILED) | TO(CANCELLED))

static const struct {
	const char *name;
	bool active;
	unsigned int to;
} statuses[MIGRATION_STATUS_COUNT] = {
	[MIGRATION_NONE] = { "none", false, TO(SETUP) },
	[MIGRATION_SETUP] = { "setup", true, TO(ACTIVE) | TO(CANCELLING) | ENDS },
	[MIGRATION_ACTIVE] = { "active", true,
			       TO(PRE_SWITCHOVER) | TO(DEVICE) | TO(CANCELLING) | ENDS },
	[MIGRATION_PRE_SWITCHOVER] = { "pre-switchover", true, TO(DEVICE) | TO(CANCELLING) | ENDS },
	[MIGRATION_DEVICE] = { "device", true,
			       TO(COMPLETED) | TO(CANCELLING) | TO(IN_DOUBT) | ENDS },
	[MIGRATION_CANCELLING] = { "cancelling", true, ENDS },
	[MIGRATION_CANCELLED] = { "cancelled", false, TO(SETUP) },
	[MIGRATION_COMPLETED] = { "completed", false, TO(SETUP) },
	[MIGRATION_FAILED] = { "failed", false, TO(SETUP) },
	[MIGRATION_IN_DOUBT] = { "in-doubt", false, TO(SETUP) },
};

const char *migration_status_name(enum migration_status status)
{
	return statuses[status].name;
}

void migration_init(struct migration *m, const struct migration_observer *observer)
{
	pthread_condattr_t attr;

	*m = (struct migration){ .observer = *observer, .cancel_fd = -1 };
	migration_params_init(&m->params);
	migration_caps_init(&m->caps);
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->cond, &attr);
	pthread_condattr_destroy(&attr);
}

static void drop_notices(struct migration *m)
{
	while (m->nnotices)
		free(m->notices[--m->nnotices]);
	m->notices_dropped = m->notices_bytes = 0;
}

void migration_release(struct migration *m)
{
	migration_cancel(m);
	migration_wait(m);
	if (m->cancel_fd >= 0)
		close(m->cancel_fd);
	drop_notices(m);
	error_free(m->error);
	address_free(m->address);
	pthread_cond_destroy(&m->cond);
	pthread_mutex_destroy(&m->lock);
}

void migration_set_status(struct migration *m, enum migration_status status)
{
	pthread_mutex_lock(&m->lock);
	if (m->status == MIGRATION_CANCELLING &&
	    !(statuses[MIGRATION_CANCELLING].to >> status & 1)) {
		pthread_mutex_unlock(&m->lock); /* the thread has not noticed yet */
		return;
	}
	assert(statuses[m->status].to >> status & 1);
	m->status = status;
	if (!statuses[status].active)
		m->stats.total_ns = clock_now_ns() - m->stats.start_ns;
	pthread_cond_broadcast(&m->cond);
	/* Under the lock: what is told comes in the order in which it happened. */
	m->observer.status_changed(m->observer.opaque, status);
	pthread_mutex_unlock(&m->lock);
}

bool migration_cancelled(struct migration *m)
{
	bool cancel;

	pthread_mutex_lock(&m->lock);
	cancel = m->cancel;
	pthread_mutex_unlock(&m->lock);
	return cancel;
}

static bool check_startable(struct migration *m, struct vm *vm, struct error **errp)
{
	if (migration_is_active(m)) {
		error_set(errp, "There's a migration process in progress");
		return false;
	}
	switch (vm_state(vm)) {
	case RUNSTATE_RUNNING:
	case RUNSTATE_PAUSED:
	case RUNSTATE_PRELAUNCH:
		return true;
	case RUNSTATE_INMIGRATE:
		error_set(errp, "Guest is waiting for an incoming migration");
		return false;
	case RUNSTATE_POSTMIGRATE:
		error_set(errp, "The guest has been migrated; it is not here any more");
		return false;
	default:
		error_set(errp, "The guest is in state '%s' and cannot be migrated",
			  runstate_name(vm_state(vm)));
		return false;
	}
}

/* For a new attempt: there, and not readable. */
static bool ready_cancel_fd(struct migration *m, struct error **errp)
{
	uint64_t count;

	if (m->cancel_fd < 0)
		m->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->cancel_fd >= 0 &&
	    (read(m->cancel_fd, &count, sizeof(count)) >= 0 || errno == EAGAIN))
		return true;
	error_set_errno(errp, errno, "migration: eventfd");
	return false;
}

bool migration_start(struct migration *m, const struct migration_machine *machine, const char *uri,
		     struct error **errp)
{
	struct address *addr = address_parse(uri, errp);
	int rc;

	if (!addr)
		return false;
	if (!check_startable(m, machine->vm, errp)) {
		address_free(addr);
		return false;
	}
	migration_wait(m); /* the last attempt has set its last status and cleans up */
	if (!ready_cancel_fd(m, errp)) {
		address_free(addr);
		return false;
	}
	pthread_mutex_lock(&m->lock);
	m->machine = *machine;
	address_free(m->address);
	m->address = addr;
	error_free(m->error);
	m->error = NULL;
	drop_notices(m);
	m->cancel = m->proceed = m->handed_over = false;
	m->stats = (struct migration_stats){ .start_ns = clock_now_ns() };
	m->status = MIGRATION_SETUP;
	pthread_mutex_unlock(&m->lock);
	m->observer.status_changed(m->observer.opaque, MIGRATION_SETUP);

	rc = thread_start(&m->thread, migration_source_main, m);
	if (rc) {
		error_set_errno(errp, rc, "migration thread");
		migration_set_status(m, MIGRATION_FAILED);
		return false;
	}
	m->thread_running = true;
	return true;
}

void migration_cancel(struct migration *m)
{
	uint64_t one = 1;

	pthread_mutex_lock(&m->lock);
	if (statuses[m->status].active && !m->cancel && !m->handed_over) {
		m->cancel = true;
		m->status = MIGRATION_CANCELLING;
		if (write(m->cancel_fd, &one, sizeof(one)) < 0)
			assert(errno == EAGAIN);
		if (m->channel)
			channel_cancel(m->channel);
		pthread_cond_broadcast(&m->cond);
		m->observer.status_changed(m->observer.opaque, MIGRATION_CANCELLING);
	}
	pthread_mutex_unlock(&m->lock);
}

bool migration_continue(struct migration *m, enum migration_status expected, struct error **errp)
{
	bool ok;

	pthread_mutex_lock(&m->lock);
	ok = m->status == expected && expected == MIGRATION_PRE_SWITCHOVER;
	if (ok) {
		m->proceed = true;
		pthread_cond_broadcast(&m->cond);
	} else {
		error_set(errp, "Migration not in expected state: %s",
			  migration_status_name(m->status));
	}
	pthread_mutex_unlock(&m->lock);
	return ok;
}

bool migration_is_active(struct migration *m)
{
	bool active;

	pthread_mutex_lock(&m->lock);
	active = statuses[m->status].active;
	pthread_mutex_unlock(&m->lock);
	return active;
}

void migration_wait(struct migration *m)
{
	if (m->thread_running)
		pthread_join(m->thread, NULL);
	m->thread_running = false;
}

enum migration_status migration_query(struct migration *m, struct migration_stats *stats,
				      struct error **error)
{
	enum migration_status status;

	pthread_mutex_lock(&m->lock);
	status = m->status;
	*stats = m->stats;
	if (statuses[status].active)
		stats->total_ns = clock_now_ns() - m->stats.start_ns;
	if (error)
		*error = error_copy(m->error);
	pthread_mutex_unlock(&m->lock);
	return status;
}

bool migration_add_notice(struct migration *m, const char *text, size_t bytes)
{
	bool ok, first_dropped = false;

	pthread_mutex_lock(&m->lock);
	m->notices_bytes += bytes;
	ok = m->notices_bytes <= MIGRATION_NOTICES_BYTES_MAX;
	if (m->nnotices < MIGRATION_NOTICES_MAX)
		m->notices[m->nnotices++] = xstrdup(text);
	else
		first_dropped = m->notices_dropped++ == 0;
	pthread_mutex_unlock(&m->lock);
	if (first_dropped)
		log_warn("the destination has sent more than %d notices; the rest is counted only",
			 MIGRATION_NOTICES_MAX);
	return ok;
}

void migration_query_notices(struct migration *m, void (*each)(void *opaque, const char *text),
			     void *opaque)
{
	pthread_mutex_lock(&m->lock);
	for (unsigned int i = 0; i < m->nnotices; i++)
		each(opaque, m->notices[i]);
	if (m->notices_dropped) {
		scoped_free char *rest = xasprintf("%" PRIu64 " more notices, which were dropped",
						   m->notices_dropped);

		each(opaque, rest);
	}
	pthread_mutex_unlock(&m->lock);
}

bool migration_set_param(struct migration *m, const char *name, uint64_t value, struct error **errp)
{
	bool ok;

	pthread_mutex_lock(&m->lock);
	ok = migration_param_set(&m->params, name, value, errp);
	pthread_cond_broadcast(&m->cond); /* a new cap holds at once */
	pthread_mutex_unlock(&m->lock);
	return ok;
}

bool migration_set_cap(struct migration *m, const char *name, bool on, struct error **errp)
{
	bool ok = false;

	pthread_mutex_lock(&m->lock);
	if (statuses[m->status].active)
		error_set(errp, "There's a migration process in progress");
	else
		ok = migration_cap_set(&m->caps, name, on, errp);
	pthread_mutex_unlock(&m->lock);
	return ok;
}

void migration_get_settings(struct migration *m, struct migration_params *params,
			    struct migration_caps *caps)
{
	pthread_mutex_lock(&m->lock);
	*params = m->params;
	*caps = m->caps;
	pthread_mutex_unlock(&m->lock);
}
