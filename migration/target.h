/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An incoming migration: a thread that waits for a stream, has the machine built that it describes, loads it, and takes the
 * guest over when the source has given it up.
 *
 *	listening -> (header, CONFIGURATION) building -> loading -> loaded -> taken over
 *	                                                              |-> in doubt: the connection broke before the last word
 *	                any of them but the last two -> failed
 *
 * What does not even begin like a migration stream is turned away, and the listener waits on. From the moment the machine is
 * being built a failure is final: the caller gives the whole machine up.
 */
#ifndef FERRY_MIGRATION_TARGET_H
#define FERRY_MIGRATION_TARGET_H

#include <pthread.h>

#include "migration/configuration.h"
#include "migration/stream/section.h"
#include "migration/stream/transport.h"

enum target_end {
	TARGET_TOOK_OVER,
	TARGET_FAILED,	 /* the guest is not here */
	TARGET_IN_DOUBT, /* it is here, whole and stopped; whether it runs elsewhere is not known */
};

/* Called on the target's thread. */
struct target_owner {
	/* Build the machine. *sections is then filled, and vm is built and in state inmigrate. */
	bool (*build)(void *opaque, const struct configuration *cfg,
		      struct section_table **sections, struct error **errp);
	/* The guest is ours: let it run, or keep it paused. Cannot fail. */
	void (*take_over)(void *opaque);
	/* The last call. err (owned by the callee) is NULL after TOOK_OVER. */
	void (*ended)(void *opaque, enum target_end end, struct error *err);
	void *opaque;
};

struct target {
	struct target_owner owner;
	struct vm *vm;
	struct listener *listener;
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	/* lock */
	struct channel *channel; /* the connection being read, for cancelling */
	bool cancelled;
};

/* Listen on uri and start the thread. */
struct target *target_start(struct vm *vm, const char *uri, const struct target_owner *owner,
			    struct error **errp);
/* The address that a source can use. */
const char *target_uri(const struct target *target);
/* Ends it wherever it is, waits, frees. NULL is allowed. */
void target_stop(struct target *target);

#endif
