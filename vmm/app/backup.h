/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `ferry backup`: asks the VMM behind a control socket for a backup, and watches it. */
#ifndef FERRY_APP_BACKUP_H
#define FERRY_APP_BACKUP_H

#include "vmm/app/options.h"

/* The process's exit status. */
int backup_run(const struct backup_cli_options *opts);

#endif
