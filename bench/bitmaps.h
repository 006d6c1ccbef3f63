/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hierarchical bitmap beside a flat one, over disks of several sizes in grains of 64 KiB. */
#ifndef FERRY_BENCH_BITMAPS_H
#define FERRY_BENCH_BITMAPS_H

#include "bench/table.h"

/* Into a table of its own: microseconds, ours is the hierarchical one. */
void measure_bitmaps(struct table *t, unsigned int runs);

#endif
