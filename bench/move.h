/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting a guest under ferry or QEMU, and moving it from one process to another. */
#ifndef FERRY_BENCH_MOVE_H
#define FERRY_BENCH_MOVE_H

#include "bench/process.h"
#include "bench/serial.h"

#define PATH_BYTES 96 /* fits into a UNIX socket's address */

struct vmm {
	const char *name; /* for the table */
	bool is_qemu;
	char path[PATH_BYTES * 4];
};

struct guest {
	const char *image;
	const char *cmdline;
	unsigned int memory_mib;
};

/* A process with a guest, or one that waits for it. `tag` names its files in `dir`: tag.qmp and
 * tag.err. */
bool vmm_start(const struct vmm *vmm, const struct guest *guest, const char *dir, const char *tag,
	       bool incoming, struct child *child, uint64_t *started_ns, struct why *why);
void vmm_qmp_path(char path[static PATH_BYTES], const char *dir, const char *tag);

/* Read a guest's line until it says "working". */
bool guest_wait_working(const struct child *child, struct serial *serial, struct why *why);

struct move_plan {
	struct guest guest;
	uint64_t bandwidth; /* bytes a second; 0: no cap */
	bool as_it_comes;   /* no cap is set, none is lifted */
	bool warm; /* process_warm_memory() for the destination: it is about bytes, not beats */
	uint64_t quiet_ns; /* listen for so long before the migration */
	uint64_t bound_ns; /* what has not moved by then does not move */
};

struct move_result {
	bool moved;	      /* false: the bound was reached */
	uint64_t total_ns;    /* QMP migrate to the destination's first beat */
	uint64_t longest_ns;  /* the longest silence from migrate to AFTER_NS behind the move */
	uint64_t handover_ns; /* the silence that contains the change of lines */
	uint64_t quiet_ns;    /* the longest silence before the migration */
	/* CPU time from migrate to the end; the source's has that of the spinning guest in it */
	uint64_t source_cpu_ns, destination_cpu_ns;
	/* what the VMM says about itself */
	uint64_t wire_bytes;
	uint64_t passes;
	uint64_t dirty_pages_rate;
	char wrong[200]; /* lost, doubled, damaged; "" where all is well */
};

/* One migration. False where something other than the guest's writing kept it from moving. */
bool move_guest(const struct vmm *vmm, const struct move_plan *plan, const char *dir,
		struct move_result *result, struct why *why);

#endif
