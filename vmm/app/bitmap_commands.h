/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QMP commands for dirty bitmaps of disks. Rows of the table in commands.c; the loop's thread.
 *
 * A node is a disk, by the device's id. Names, members and what they mean are those of QEMU's documentation (qapi/block-core). What
 * differs: a bitmap cannot be persistent, for a raw image has no place for one.
 */
#ifndef FERRY_APP_BITMAP_COMMANDS_H
#define FERRY_APP_BITMAP_COMMANDS_H

#include "vmm/app/app.h"

json_t *cmd_bitmap_add(struct app *app, json_t *args, struct error **errp);
json_t *cmd_bitmap_remove(struct app *app, json_t *args, struct error **errp);
json_t *cmd_bitmap_clear(struct app *app, json_t *args, struct error **errp);
json_t *cmd_bitmap_enable(struct app *app, json_t *args, struct error **errp);
json_t *cmd_bitmap_disable(struct app *app, json_t *args, struct error **errp);
json_t *cmd_bitmap_merge(struct app *app, json_t *args, struct error **errp);

#endif
