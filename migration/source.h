/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of an outgoing migration share: one attempt, from its start to its end. Owned by the migration's thread. */
#ifndef FERRY_MIGRATION_SOURCE_H
#define FERRY_MIGRATION_SOURCE_H

#include "migration/bitmaps/save.h"
#include "migration/configuration.h"
#include "migration/convergence.h"
#include "migration/migration.h"
#include "migration/return_path.h"

#define PEER_CHECK_NS \
	(100 * NS_PER_MS) /* while nothing is sent, how often the destination is looked after */

struct source {
	struct migration *m;
	struct vm *vm;
	struct migration_params params; /* as they were when last looked at */
	struct migration_caps caps;	/* fixed for the attempt */
	struct channel *ch;
	struct stream_out *out;
	struct stream_in *in; /* the return path; NULL: none */
	bool peer_gives_reason;
	struct configuration cfg;
	struct ram_dirty dirty;
	struct ram_save save;
	struct bitmap_save bitmaps;
	bool has_bitmaps;	      /* section "dirty-bitmap" has begun */
	struct channel *device_state; /* in memory, until the last pages are sent */
	bool stopped;
	enum runstate old_state;
	uint64_t rtt_ns;
	bool handshaken; /* the destination understands ABORT */
	bool in_ram;	 /* a part of section "ram" has begun and not ended */
	bool in_bitmaps; /* the same of "dirty-bitmap" */
	const char *why; /* the attempt fails */

	/* the bandwidth cap: bytes are allowed up to window_position + rate * (now - window_ns) */
	uint64_t rate, window_ns, window_position;
	uint64_t next_check; /* position */

	/* the present pass */
	uint64_t pass_ns, pass_position, pass_pages;
	uint64_t sync_ns; /* of the last sync */
	/* what pages have cost on the wire since the first pass; older passes count less */
	uint64_t cost_bytes, cost_pages;
	uint64_t previous_rest;
	unsigned int fitting;
	struct bandwidth_meter meter;
	uint64_t bandwidth; /* while sending; 0: not known */
	/* the blackout's milestones, as moments; each part of it lies between two */
	uint64_t stop_ns, stopped_ns, ready_ns, gathered_ns, paged_ns, written_ns, loaded_ns;
};

/* source_ram.c */
bool source_start_ram(struct source *src, struct error **errp);
void source_stop_ram(struct source *src);
/* Passes until the guest should be stopped. */
bool source_precopy(struct source *src, struct error **errp);
/* The guest is stopped: the rest. */
bool source_last_pages(struct source *src, struct error **errp);
void source_publish_stats(struct source *src);
/* Between pages or chunks, when the stream has come to src->next_check: keeps to the cap, learns of a cancel or a destination that has gone,
 * publishes. */
bool source_pause_for_breath(struct source *src, struct error **errp);

/* source_bitmaps.c; all do nothing where dirty bitmaps are not to travel */
/* Those that there are now, and that come: START, and all bits in a PART. */
bool source_start_bitmaps(struct source *src, struct error **errp);
/* What has changed since, and new ones, where there is anything: a PART. */
bool source_send_bitmaps(struct source *src, struct error **errp);
/* How much that would be, as it would go on the wire. */
uint64_t source_bitmaps_left(struct source *src);
/* The guest is stopped and its disks are drained: END. */
bool source_last_bitmaps(struct source *src, struct error **errp);
void source_stop_bitmaps(struct source *src);

/* source.c */
/* Cancelled, or has the peer given up? Called often enough during a pass that both are noticed soon. */
bool source_check(struct source *src, struct error **errp);
/* The stream's error, with the reason that the peer gave for hanging up, if it did. */
bool source_stream_ok(struct source *src, struct error **errp);

#endif
