/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the measurements share: who is measured, how often, and the table it goes into. */
#ifndef FERRY_BENCH_BENCH_H
#define FERRY_BENCH_BENCH_H

#include "bench/move.h"
#include "bench/table.h"
#include "vmm/base/clock.h"

struct bench {
	unsigned int runs;
	const char *only;
	struct vmm ferry, qemu;
	bool have_qemu, have_bare;
	char bare[PATH_BYTES * 4];
	char hello[PATH_BYTES * 4], work[PATH_BYTES * 4];
	char dir[PATH_BYTES];
	struct table *table;
};

static inline double bench_ms(uint64_t ns)
{
	return (double)ns / (double)NS_PER_MS;
}

/* An alarm in the table. */
void bench_failed(struct bench *b, const char *what, const char *who, const struct why *why);
/* ferry's turn and QEMU's turn, beginning with NULL; NULL ends them. Every other run QEMU goes
 * first, so that neither always gets the memory that the other has just freed. */
const struct vmm *bench_next_vmm(const struct bench *b, unsigned int run, const struct vmm *vmm);

/* starting.c */
void measure_spawn(struct bench *b);
void measure_memory(struct bench *b);
/* moving.c */
void warm_up(struct bench *b);
void measure_bulk(struct bench *b);
void measure_idle_blackout(struct bench *b);
void measure_busy_blackout(struct bench *b);
void measure_capped(struct bench *b);

#endif
