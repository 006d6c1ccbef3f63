/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `ferry analyze`: what is in the file of a migration stream, for a person or as JSON. */
#ifndef FERRY_APP_ANALYZE_H
#define FERRY_APP_ANALYZE_H

#include "vmm/app/options.h"

/* The process's exit status. */
int analyze_run(const struct analyze_options *opts);

#endif
