/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration parameters and capabilities: tables from QMP's names to members. Adding one is a row here and its use.
 * Names, units and ranges are those of QEMU's documentation; defaults are ours.
 */
#ifndef FERRY_MIGRATION_PARAMS_H
#define FERRY_MIGRATION_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

struct migration_params {
	uint64_t max_bandwidth;	    /* bytes/s; 0: no limit */
	uint64_t downtime_limit;    /* ms */
	uint64_t xbzrle_cache_size; /* bytes */
};

enum capability_state {
	CAPABILITY_OFF,
	CAPABILITY_ON,
	CAPABILITY_AUTO, /* on, and used where it pays; what a user sets is on or off */
};

struct migration_caps {
	enum capability_state xbzrle;
	enum capability_state events;
	enum capability_state return_path;
	enum capability_state pause_before_switchover;
	enum capability_state dirty_bitmaps; /* those of disks travel */
};

struct param_info {
	const char *name;
	size_t offset; /* of a uint64_t in struct migration_params */
	uint64_t min, max, initial;
	const char *unit;
};

struct cap_info {
	const char *name;
	size_t offset; /* of an enum capability_state in struct migration_caps */
	enum capability_state initial;
};

const struct param_info *migration_param_table(size_t *n);
const struct cap_info *migration_cap_table(size_t *n);

void migration_params_init(struct migration_params *params);
void migration_caps_init(struct migration_caps *caps);
uint64_t *migration_param(struct migration_params *params, const struct param_info *info);
enum capability_state *migration_cap(struct migration_caps *caps, const struct cap_info *info);
/* Set one by name; an unknown name or a value out of range is an error and nothing changes. */
bool migration_param_set(struct migration_params *params, const char *name, uint64_t value,
			 struct error **errp);
bool migration_cap_set(struct migration_caps *caps, const char *name, bool on, struct error **errp);

#endif
