/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the machine itself can do: so many bytes through a UNIX socket into another process. */
#ifndef FERRY_BENCH_COPY_H
#define FERRY_BENCH_COPY_H

#include <stdint.h>

#include "bench/process.h"

struct copy_plan {
	uint64_t bytes; /* from touched memory, incompressible; into memory never touched */
	bool huge;	/* the reader asks for huge pages, as VMMs do for guest memory */
	bool busy;	/* a third process spins beside, as a guest that moves does */
};

bool copy_measure(const struct copy_plan *plan, uint64_t *ns, struct why *why);

#endif
