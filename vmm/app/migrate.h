/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `ferry migrate`: asks a running ferry to move its guest, and shows how that goes. */
#ifndef FERRY_APP_MIGRATE_H
#define FERRY_APP_MIGRATE_H

#include "vmm/app/options.h"

/* The process's exit status. */
int migrate_run(const struct migrate_options *opts);

#endif
