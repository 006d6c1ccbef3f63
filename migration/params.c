/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/params.h"

#include <string.h>

#include "vmm/base/cleanup.h"

static const struct param_info params_table[] = {
	{ "max-bandwidth", offsetof(struct migration_params, max_bandwidth), 0, INT64_MAX, 0,
	  "bytes per second, 0 for no limit" },
	{ "downtime-limit", offsetof(struct migration_params, downtime_limit), 0, 2000 * 1000, 300,
	  "milliseconds" },
	{ "xbzrle-cache-size", offsetof(struct migration_params, xbzrle_cache_size), 4096,
	  UINT64_C(1) << 40, 256 << 20, "bytes" },
};

static const struct cap_info caps_table[] = {
	{ "xbzrle", offsetof(struct migration_caps, xbzrle), CAPABILITY_AUTO },
	{ "events", offsetof(struct migration_caps, events), CAPABILITY_OFF },
	{ "return-path", offsetof(struct migration_caps, return_path), CAPABILITY_ON },
	{ "pause-before-switchover", offsetof(struct migration_caps, pause_before_switchover),
	  CAPABILITY_OFF },
	{ "dirty-bitmaps", offsetof(struct migration_caps, dirty_bitmaps), CAPABILITY_OFF },
};

const struct param_info *migration_param_table(size_t *n)
{
	*n = ARRAY_SIZE(params_table);
	return params_table;
}

const struct cap_info *migration_cap_table(size_t *n)
{
	*n = ARRAY_SIZE(caps_table);
	return caps_table;
}

uint64_t *migration_param(struct migration_params *params, const struct param_info *info)
{
	return (uint64_t *)((char *)params + info->offset);
}

enum capability_state *migration_cap(struct migration_caps *caps, const struct cap_info *info)
{
	return (enum capability_state *)((char *)caps + info->offset);
}

void migration_params_init(struct migration_params *params)
{
	for (size_t i = 0; i < ARRAY_SIZE(params_table); i++)
		*migration_param(params, &params_table[i]) = params_table[i].initial;
}

void migration_caps_init(struct migration_caps *caps)
{
	for (size_t i = 0; i < ARRAY_SIZE(caps_table); i++)
		*migration_cap(caps, &caps_table[i]) = caps_table[i].initial;
}

bool migration_param_set(struct migration_params *params, const char *name, uint64_t value,
			 struct error **errp)
{
	for (size_t i = 0; i < ARRAY_SIZE(params_table); i++) {
		const struct param_info *p = &params_table[i];

		if (strcmp(p->name, name) != 0)
			continue;
		if (value < p->min || value > p->max) {
			error_set(errp, "Parameter '%s' expects a value from %llu to %llu (%s)",
				  name, (unsigned long long)p->min, (unsigned long long)p->max,
				  p->unit);
			return false;
		}
		*migration_param(params, p) = value;
		return true;
	}
	error_set(errp, "Parameter '%s' is unexpected", name);
	return false;
}

bool migration_cap_set(struct migration_caps *caps, const char *name, bool on, struct error **errp)
{
	for (size_t i = 0; i < ARRAY_SIZE(caps_table); i++) {
		if (strcmp(caps_table[i].name, name) != 0)
			continue;
		*migration_cap(caps, &caps_table[i]) = on ? CAPABILITY_ON : CAPABILITY_OFF;
		return true;
	}
	error_set(errp, "Parameter 'capability' does not accept value '%s'", name);
	return false;
}
