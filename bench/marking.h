/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What it costs a write that dirty bitmaps record it. */
#ifndef FERRY_BENCH_MARKING_H
#define FERRY_BENCH_MARKING_H

#include "bench/table.h"

/* Nanoseconds a write of 4 KiB; the reference is the same write on a disk without bitmaps. */
void measure_marking(struct table *t, unsigned int runs);

#endif
