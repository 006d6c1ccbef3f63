/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: parameters and capabilities have the names, ranges and defaults that users were told, are
 * set by name, and stay as they were when the setting is refused.
 *
 * How: a second copy of the tables, by hand, is compared with theirs; each range's edges are tried.
 */
#include "migration/params.h"
#include "tests/unit/support.h"

static const struct {
	const char *name;
	size_t offset;
	uint64_t min, max, initial;
} want_params[] = {
	{ "max-bandwidth", offsetof(struct migration_params, max_bandwidth), 0, INT64_MAX, 0 },
	{ "downtime-limit", offsetof(struct migration_params, downtime_limit), 0, 2000000, 300 },
	{ "xbzrle-cache-size", offsetof(struct migration_params, xbzrle_cache_size), 4096,
	  UINT64_C(1) << 40, 256 << 20 },
};

static const struct {
	const char *name;
	size_t offset;
	enum capability_state initial;
} want_caps[] = {
	{ "xbzrle", offsetof(struct migration_caps, xbzrle), CAPABILITY_AUTO },
	{ "events", offsetof(struct migration_caps, events), CAPABILITY_OFF },
	{ "return-path", offsetof(struct migration_caps, return_path), CAPABILITY_ON },
	{ "pause-before-switchover", offsetof(struct migration_caps, pause_before_switchover),
	  CAPABILITY_OFF },
	{ "dirty-bitmaps", offsetof(struct migration_caps, dirty_bitmaps), CAPABILITY_OFF },
};

#define NPARAMS (sizeof(want_params) / sizeof(want_params[0]))
#define NCAPS (sizeof(want_caps) / sizeof(want_caps[0]))

Test(params, the_tables_are_what_users_were_told)
{
	size_t nparams, ncaps;
	const struct param_info *params = migration_param_table(&nparams);
	const struct cap_info *caps = migration_cap_table(&ncaps);

	cr_assert_eq(nparams, NPARAMS);
	cr_assert_eq(nparams * sizeof(uint64_t), sizeof(struct migration_params),
		     "a parameter without a row");
	for (size_t i = 0; i < NPARAMS; i++) {
		cr_assert_str_eq(params[i].name, want_params[i].name);
		cr_assert_eq(params[i].offset, want_params[i].offset, "%s", params[i].name);
		cr_assert_eq(params[i].min, want_params[i].min, "%s", params[i].name);
		cr_assert_eq(params[i].max, want_params[i].max, "%s", params[i].name);
		cr_assert_eq(params[i].initial, want_params[i].initial, "%s", params[i].name);
		cr_assert_not_null(params[i].unit);
	}
	cr_assert_eq(ncaps, NCAPS);
	cr_assert_eq(ncaps * sizeof(enum capability_state), sizeof(struct migration_caps),
		     "a capability without a row");
	for (size_t i = 0; i < NCAPS; i++) {
		cr_assert_str_eq(caps[i].name, want_caps[i].name);
		cr_assert_eq(caps[i].offset, want_caps[i].offset, "%s", caps[i].name);
		cr_assert_eq(caps[i].initial, want_caps[i].initial, "%s", caps[i].name);
	}
}

Test(params, defaults)
{
	struct migration_params params;
	struct migration_caps caps;

	memset(&params, 0xa5, sizeof(params));
	memset(&caps, 0xa5, sizeof(caps));
	migration_params_init(&params);
	migration_caps_init(&caps);
	cr_assert_eq(params.max_bandwidth, 0);
	cr_assert_eq(params.downtime_limit, 300);
	cr_assert_eq(params.xbzrle_cache_size, UINT64_C(256) << 20);
	cr_assert_eq(caps.xbzrle, CAPABILITY_AUTO);
	cr_assert_eq(caps.events, CAPABILITY_OFF);
	cr_assert_eq(caps.return_path, CAPABILITY_ON);
	cr_assert_eq(caps.pause_before_switchover, CAPABILITY_OFF);
	cr_assert_eq(caps.dirty_bitmaps, CAPABILITY_OFF);
}

/* The value is set, and it alone. */
static void set_ok(size_t which, uint64_t value)
{
	struct migration_params params, want;
	struct error *err = NULL;

	migration_params_init(&params);
	want = params;
	*(uint64_t *)((char *)&want + want_params[which].offset) = value;
	expect_ok(migration_param_set(&params, want_params[which].name, value, &err), err);
	cr_assert_eq(memcmp(&params, &want, sizeof(want)), 0, "%s", want_params[which].name);
}

static void set_refused(size_t which, uint64_t value)
{
	struct migration_params params, before;
	struct error *err = NULL;

	migration_params_init(&params);
	before = params;
	cr_assert_not(migration_param_set(&params, want_params[which].name, value, &err));
	cr_assert_eq(memcmp(&params, &before, sizeof(before)), 0, "%s", want_params[which].name);
	cr_assert_not_null(strstr(error_msg(err), want_params[which].name), "%s", error_msg(err));
	expect_error(err, "expects a value from");
}

Test(params, each_range_to_its_edges)
{
	for (size_t i = 0; i < NPARAMS; i++) {
		set_ok(i, want_params[i].min);
		set_ok(i, want_params[i].min + 1);
		set_ok(i, want_params[i].max);
		if (want_params[i].min)
			set_refused(i, want_params[i].min - 1);
		set_refused(i, want_params[i].max + 1);
		set_refused(i, UINT64_MAX);
	}
}

Test(params, members_by_their_rows)
{
	struct migration_params params = { 11, 22, 33 };
	struct migration_caps caps = { CAPABILITY_ON, CAPABILITY_OFF, CAPABILITY_AUTO,
				       CAPABILITY_ON, CAPABILITY_OFF };
	size_t n;

	cr_assert_eq(*migration_param(&params, &migration_param_table(&n)[1]), 22);
	cr_assert_eq(*migration_cap(&caps, &migration_cap_table(&n)[2]), CAPABILITY_AUTO);
	*migration_param(&params, &migration_param_table(&n)[2]) = 44;
	cr_assert_eq(params.xbzrle_cache_size, 44);
}

Test(params, capabilities_are_set_on_and_off)
{
	for (size_t i = 0; i < NCAPS; i++) {
		struct migration_caps caps, want;
		struct error *err = NULL;

		for (unsigned int on = 0; on < 2; on++) {
			migration_caps_init(&caps);
			want = caps;
			*(enum capability_state *)((char *)&want + want_caps[i].offset) =
				on ? CAPABILITY_ON : CAPABILITY_OFF;
			expect_ok(migration_cap_set(&caps, want_caps[i].name, on, &err), err);
			cr_assert_eq(memcmp(&caps, &want, sizeof(want)), 0, "%s",
				     want_caps[i].name);
		}
	}
}

Test(params, unknown_names_change_nothing)
{
	static const char *const names[] = { "", "Max-Bandwidth", "max-bandwidt", "max-bandwidth2",
					     "xbzrle" };
	struct migration_params params = { 1, 2, 3 };
	struct migration_caps caps = { CAPABILITY_ON, CAPABILITY_ON, CAPABILITY_ON, CAPABILITY_ON,
				       CAPABILITY_ON };
	struct error *err = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		cr_assert_not(migration_param_set(&params, names[i], 1, &err), "'%s'", names[i]);
		expect_error(err, names[i]);
	}
	cr_assert(params.max_bandwidth == 1 && params.downtime_limit == 2 &&
		  params.xbzrle_cache_size == 3);
	cr_assert_not(migration_cap_set(&caps, "max-bandwidth", false, &err));
	expect_error(err, "max-bandwidth");
	cr_assert_not(migration_cap_set(&caps, "", false, &err));
	expect_error(err, "''");
	cr_assert(caps.xbzrle == CAPABILITY_ON && caps.events == CAPABILITY_ON &&
		  caps.return_path == CAPABILITY_ON &&
		  caps.pause_before_switchover == CAPABILITY_ON &&
		  caps.dirty_bitmaps == CAPABILITY_ON);
	cr_assert_not(migration_param_set(&params, "nonsense", 1, NULL), "nobody wants to know");
	cr_assert_not(migration_cap_set(&caps, "nonsense", true, NULL));
}
