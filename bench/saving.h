/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What it costs to write a disk's dirty bitmap into a migration stream, and to read it. */
#ifndef FERRY_BENCH_SAVING_H
#define FERRY_BENCH_SAVING_H

#include "bench/table.h"

/* Microseconds a whole bitmap; the reference is a plain copy of all its bits. */
void measure_saving(struct table *t, unsigned int runs);

#endif
