/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An outgoing migration: what users set, what they see, and the thread that does it (source.c).
 *
 * One struct migration lives as long as the VMM; each attempt runs in a thread of its own and starts from nothing. The status
 * is a state machine whose legal changes are a table in migration.c.
 *
 *	none -> setup -> active -> [pre-switchover ->] device -> completed
 *	          |        |              |              |-> in-doubt   (after the hand-over only)
 *	          +--------+--------------+--------------+-> failed, or cancelling -> cancelled
 *
 * Threads: start, wait and release from one thread; the other functions from any. The observer's functions are called from the migration's thread or, for
 * setup and cancelling, from the caller's. A change of status is told under the migration's lock, so that changes are told in their order: the
 * observer must not call back.
 */
#ifndef FERRY_MIGRATION_MIGRATION_H
#define FERRY_MIGRATION_MIGRATION_H

#include <pthread.h>

#include "migration/params.h"
#include "migration/ram/save.h"
#include "migration/stream/section.h"
#include "migration/stream/transport.h"
#include "vmm/kvm/vm.h"

/* Of a destination's notices that many are kept; further ones are counted. */
#define MIGRATION_NOTICES_MAX 64
/* A destination that sends more than this in notices, their heads included, is not believed: the attempt fails. */
#define MIGRATION_NOTICES_BYTES_MAX (1u << 20)

enum migration_status {
	MIGRATION_NONE,
	MIGRATION_SETUP,
	MIGRATION_ACTIVE,
	MIGRATION_PRE_SWITCHOVER,
	MIGRATION_DEVICE,
	MIGRATION_CANCELLING,
	MIGRATION_CANCELLED,
	MIGRATION_COMPLETED,
	MIGRATION_FAILED,
	MIGRATION_IN_DOUBT, /* handed over, but the destination did not say that it has taken over */
	MIGRATION_STATUS_COUNT,
};

const char *migration_status_name(enum migration_status status);

/* Where the guest's silence went, in ns, in the order of time. */
struct blackout_times {
	uint64_t stop;	     /* until all vCPUs were parked and devices drained */
	uint64_t wait;	     /* for the user, in pre-switchover */
	uint64_t last_pages; /* last sync, last pages */
	uint64_t devices;    /* device state, until written */
	uint64_t load;	     /* until the destination said that everything is loaded */
	uint64_t take_over;  /* until it said that the guest is its own */
};

struct migration_stats {
	uint64_t start_ns, setup_ns, total_ns; /* total grows while it runs */
	uint64_t downtime_ns;		       /* after completion */
	uint64_t expected_downtime_ns;
	struct blackout_times blackout;
	uint64_t transferred_bytes;
	uint64_t ram_total_bytes, ram_remaining_bytes;
	uint64_t passes;	   /* syncs of the dirty log */
	uint64_t dirty_pages_rate; /* pages/s, in the last pass */
	uint64_t bandwidth;	   /* bytes/s while sending */
	uint64_t throughput;	   /* bytes/s over the last pass, waiting included */
	uint64_t cache_size_bytes;
	bool xbzrle; /* a cache exists */
	struct ram_counters ram;
	bool fits; /* the last estimate was within the limit */
};

struct migration_observer {
	void (*status_changed)(void *opaque, enum migration_status status);
	void (*pass_started)(void *opaque, uint64_t pass);
	void *opaque;
};

/* What an attempt needs of the machine. */
struct migration_machine {
	struct vm *vm;
	const char *name; /* of the machine type */
	const void *fdt;
	size_t fdt_bytes;
	struct section_table *sections;
	const struct dirty_log_ops *dirty_log;
};

struct migration {
	/* set at creation */
	struct migration_observer observer;
	pthread_mutex_t lock;
	pthread_cond_t cond; /* cancel, continue, params */
	/* lock */
	enum migration_status status;
	struct migration_params params;
	struct migration_caps caps;
	struct migration_stats stats;
	struct error *error;		      /* of the last attempt */
	char *notices[MIGRATION_NOTICES_MAX]; /* of the last attempt's destination; owned */
	unsigned int nnotices;
	uint64_t notices_dropped; /* beyond MIGRATION_NOTICES_MAX */
	uint64_t notices_bytes;	  /* of all */
	bool cancel;		  /* wished for */
	bool proceed;		  /* migrate-continue */
	bool handed_over;	  /* too late for cancelling */
	struct channel *channel;  /* for cancelling; the thread owns it */
	bool thread_running;	  /* to be joined */
	pthread_t thread;
	/* set at the start of an attempt */
	int cancel_fd; /* an eventfd, readable once cancelled, for who has no channel yet; -1: no attempt was */
	struct migration_machine machine;
	struct address *address;
};

void migration_init(struct migration *m, const struct migration_observer *observer);
/* Cancels what runs, waits for it, frees. */
void migration_release(struct migration *m);

/* Start an attempt. Errors: one is running, the guest is not here, the URI is malformed. */
bool migration_start(struct migration *m, const struct migration_machine *machine, const char *uri,
		     struct error **errp);
/* Ask it to stop; does nothing where none runs or the hand-over is behind. */
void migration_cancel(struct migration *m);
/* End pre-switchover. */
bool migration_continue(struct migration *m, enum migration_status expected, struct error **errp);
/* Does an attempt run, in any of its states? */
bool migration_is_active(struct migration *m);
/* Wait until no attempt runs. */
void migration_wait(struct migration *m);

/* A consistent copy. *error, where not NULL, gets a copy to be freed, or NULL. */
enum migration_status migration_query(struct migration *m, struct migration_stats *stats,
				      struct error **error);
/* What the destination has said that the person who moves the guest should know, in its order; at the end, how much more it was. */
void migration_query_notices(struct migration *m, void (*each)(void *opaque, const char *text),
			     void *opaque);
bool migration_set_param(struct migration *m, const char *name, uint64_t value,
			 struct error **errp);
bool migration_set_cap(struct migration *m, const char *name, bool on, struct error **errp);
void migration_get_settings(struct migration *m, struct migration_params *params,
			    struct migration_caps *caps);

/* --- for source.c --- */
/* Change the status and tell the observer; an illegal change is asserted, except that from "cancelling" only the end is told. */
void migration_set_status(struct migration *m, enum migration_status status);
bool migration_cancelled(struct migration *m);
/* Keep or count a notice of so many bytes on the wire; false: that is too much. */
bool migration_add_notice(struct migration *m, const char *text, size_t bytes);
void *migration_source_main(void *opaque);

#endif
