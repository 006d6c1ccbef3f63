/* SPDX-License-Identifier: GPL-2.0-or-later */
/* query-block and query-chardev. Shapes are those of QEMU's QMP reference, as far as a raw image and a line have such things. */
#ifndef FERRY_APP_QUERY_DEVICES_H
#define FERRY_APP_QUERY_DEVICES_H

#include "vmm/app/app.h"

/* The loop's thread. */
json_t *query_block(struct app *app);
json_t *query_chardev(struct app *app);

#endif
