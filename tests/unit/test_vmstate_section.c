/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what stands around the fields behaves as documented: versions, conditions, hooks and their
 * order, subsections, and the JSON that describes the bytes to a stranger's tool.
 *
 * How: descriptions made for one question each; hooks that write down when they were called; golden
 * bytes; for the JSON a walk that follows the description through the bytes.
 */
#include <signal.h>

#include "migration/stream/section.h"
#include "tests/unit/vmstate_support.h"

SUITE(vmstate_section);

/* --- versions and conditions --- */

struct dev {
	uint8_t old;
	uint8_t since2;
	uint8_t since3;
	uint8_t choice; /* extra exists where this is 1 */
	uint8_t extra;
};

static bool extra_exists(const void *opaque, uint32_t version_id)
{
	return version_id >= 2 && ((const struct dev *)opaque)->choice == 1;
}

static const struct vmstate_field dev_fields[] = {
	VMSTATE_ONE(UINT8, old, struct dev),
	VMSTATE_ONE(UINT8, since2, struct dev, .version_id = 2),
	VMSTATE_ONE(UINT8, since3, struct dev, .version_id = 3),
	VMSTATE_ONE(UINT8, choice, struct dev),
	VMSTATE_ONE(UINT8, extra, struct dev, .exists = extra_exists),
	VMSTATE_END,
};
static const struct vmstate_desc dev_desc = { .name = "dev",
					      .version_id = 3,
					      .minimum_version_id = 1,
					      .fields = dev_fields };

static void load_dev(struct dev *dev, uint32_t version, const char *hex)
{
	uint8_t bytes[16];
	struct saved saved = { bytes, bytes_of(hex, bytes, sizeof(bytes)) };

	*dev = (struct dev){ 0xee, 0xee, 0xee, 0xee, 0xee };
	load_ok(&dev_desc, dev, version, &saved);
}

Test(vmstate_section, fields_exist_since_a_version)
{
	struct dev dev = { 1, 2, 3, 0, 5 };

	vmstate_check(&dev_desc);
	expect_saved(&dev_desc, &dev, "01 02 03 00");
	dev.choice = 1;
	expect_saved(&dev_desc, &dev, "01 02 03 01 05");
	load_dev(&dev, 3, "0a 0b 0c 01 0d");
	cr_assert(dev.old == 10 && dev.since2 == 11 && dev.since3 == 12 && dev.extra == 13);
	load_dev(&dev, 2, "0a 0b 01 0d");
	cr_assert(dev.old == 10 && dev.since2 == 11 && dev.since3 == 0xee && dev.extra == 13);
	load_dev(&dev, 2, "0a 0b 00");
	cr_assert(dev.choice == 0 && dev.extra == 0xee);
	load_dev(&dev, 1, "0a 01");
	cr_assert(dev.since2 == 0xee && dev.choice == 1 && dev.extra == 0xee);
}

Test(vmstate_section, versions_outside_the_range_are_refused_by_name)
{
	struct dev dev = { 7, 7, 7, 7, 7 };

	load_hex_fails(&dev_desc, &dev, 4, "01 02 03 00", ": ", "version 4 is too new");
	load_hex_fails(&dev_desc, &dev, 4, "01 02 03 00", ": ", "up to 3");
	load_hex_fails(&dev_desc, &dev, UINT32_MAX, "01", ": ", "4294967295 is too new");
	load_hex_fails(&dev_desc, &dev, 0, "01 02 03 00", ": ", "version 0 is too old");
	load_hex_fails(&dev_desc, &dev, 0, "01 02 03 00", ": ", "from 1");
	cr_assert_eq(dev.old, 7);
}

/*
 * A nested description that has grown must be read as it was written, whichever version decides:
 * what follows it is in its place.
 */
Test(vmstate_section, nested_descriptions_of_another_version_stay_in_step)
{
	struct inner {
		uint8_t a, b;
	};
	struct outer {
		struct inner inner;
		uint8_t after;
	};
	const struct vmstate_field inner_fields[] = {
		VMSTATE_ONE(UINT8, a, struct inner),
		VMSTATE_ONE(UINT8, b, struct inner, .version_id = 2),
		VMSTATE_END,
	};
	struct vmstate_desc inner = { .name = "inner", .fields = inner_fields };
	const struct vmstate_field outer_fields[] = {
		VMSTATE_STRUCT(inner, struct outer, inner, struct inner),
		VMSTATE_ONE(UINT8, after, struct outer),
		VMSTATE_END,
	};
	struct vmstate_desc outer = { .name = "outer", .fields = outer_fields };

	for (uint32_t versions = 0; versions < 9; versions++) {
		struct outer state = { { 1, 2 }, 3 }, copy = { 0 };
		struct saved saved;

		inner.version_id = versions % 3 + 1;
		outer.version_id = versions / 3 + 1;
		saved = save_ok(&outer, &state);
		load_ok(&outer, &copy, outer.version_id, &saved);
		cr_assert_eq(copy.after, 3, "outer %u inner %u", outer.version_id,
			     inner.version_id);
		free(saved.data);
	}
}

/* --- hooks --- */

struct hooked {
	uint8_t value;
	uint8_t sub;
	bool want_sub;
	char calls[128];
	const char *fails; /* the hook that fails */
};

static bool called(void *opaque, const char *hook, struct error **errp)
{
	struct hooked *h = opaque;

	strcat(strcat(h->calls, hook), " ");
	if (!h->fails || strcmp(h->fails, hook) != 0)
		return true;
	error_set(errp, "no %s today", hook);
	return false;
}

static bool pre_save(void *opaque, struct error **errp)
{
	return called(opaque, "pre_save", errp);
}

static void post_save(void *opaque)
{
	called(opaque, "post_save", NULL);
}

static bool pre_load(void *opaque, struct error **errp)
{
	return called(opaque, "pre_load", errp);
}

static bool post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct hooked *h = opaque;

	sprintf(h->calls + strlen(h->calls), "v%u:%u:%u ", version_id, h->value, h->sub);
	return called(opaque, "post_load", errp);
}

static bool sub_pre_save(void *opaque, struct error **errp)
{
	return called(opaque, "sub_pre_save", errp);
}

static bool sub_pre_load(void *opaque, struct error **errp)
{
	return called(opaque, "sub_pre_load", errp);
}

static bool sub_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	(void)version_id;
	return called(opaque, "sub_post_load", errp);
}

static bool sub_needed(const void *opaque)
{
	return ((const struct hooked *)opaque)->want_sub;
}

static const struct vmstate_field sub_fields[] = {
	VMSTATE_ONE(UINT8, sub, struct hooked),
	VMSTATE_END,
};
static const struct vmstate_desc hooked_sub = {
	.name = "hooked/sub",
	.version_id = 1,
	.needed = sub_needed,
	.fields = sub_fields,
	.pre_save = sub_pre_save,
	.pre_load = sub_pre_load,
	.post_load = sub_post_load,
};
static const struct vmstate_desc *const hooked_subs[] = { &hooked_sub, NULL };
static const struct vmstate_field hooked_fields[] = {
	VMSTATE_ONE(UINT8, value, struct hooked),
	VMSTATE_END,
};
static const struct vmstate_desc hooked_desc = {
	.name = "hooked",
	.version_id = 4,
	.minimum_version_id = 3,
	.fields = hooked_fields,
	.subsections = hooked_subs,
	.pre_save = pre_save,
	.post_save = post_save,
	.pre_load = pre_load,
	.post_load = post_load,
};

#define SUB_HEADER "05 0a 68 6f 6f 6b 65 64 2f 73 75 62 00 00 00 01 "

/*
 * Stream format, section 6: pre_save, fields, subsections, post_save; pre_load, fields,
 * subsections, post_load.
 */
Test(vmstate_section, hooks_are_called_in_order)
{
	struct hooked h = { .value = 5, .sub = 6, .want_sub = true };
	struct hooked loaded = { 0 };
	struct saved saved = save_ok(&hooked_desc, &h);

	vmstate_check(&hooked_desc);
	load_ok(&hooked_desc, &loaded, 3, &saved);
	cr_expect_str_eq(loaded.calls, "pre_load sub_pre_load sub_post_load v3:5:6 post_load ");
	cr_expect_str_eq(h.calls, "pre_save sub_pre_save post_save ");
	free(saved.data);
}

Test(vmstate_section, a_failing_hook_fails_the_save)
{
	struct error *err = NULL;
	struct hooked h = { .want_sub = true, .fails = "pre_save" };
	struct saved saved;

	cr_assert_not(save_to_bytes(&hooked_desc, &h, NULL, &saved, &err));
	cr_assert_eq(strncmp(err->msg, ": no pre_save", 13), 0, "%s", err->msg);
	expect_error(err, "today");
	cr_assert_str_eq(h.calls, "pre_save ", "post_save belongs to a pre_save that succeeded");
	h = (struct hooked){ .want_sub = true, .fails = "sub_pre_save" };
	cr_assert_not(save_to_bytes(&hooked_desc, &h, NULL, &saved, &err));
	expect_error(err, "(hooked/sub): no sub_pre_save today");
	cr_assert_not_null(strstr(h.calls, "post_save "), "%s", h.calls);
}

Test(vmstate_section, a_failing_hook_fails_the_load)
{
	struct hooked h = { .fails = "pre_load" };

	load_hex_fails(&hooked_desc, &h, 4, "05", ": no pre_load", "today");
	cr_assert(h.value == 0 && !strstr(h.calls, "post_load"), "%s", h.calls);
	h = (struct hooked){ .fails = "post_load" };
	load_hex_fails(&hooked_desc, &h, 4, "07", ": no post_load", "today");
	h = (struct hooked){ .fails = "sub_pre_load" };
	load_hex_fails(&hooked_desc, &h, 4, "07 " SUB_HEADER "09", "(hooked/sub): no sub_pre_load",
		       "today");
	h = (struct hooked){ .fails = "sub_post_load" };
	load_hex_fails(&hooked_desc, &h, 4, "07 " SUB_HEADER "09", "(hooked/sub): no sub_post_load",
		       "today");
	cr_assert_null(strstr(h.calls, " post_load"), "nothing is validated after a failure");
	h = (struct hooked){ 0 };
	load_hex_fails(&hooked_desc, &h, 5, "07", ": ", "too new");
	cr_assert_null(strstr(h.calls, "load"), "the version is checked first: %s", h.calls);
}

/* --- subsections --- */

static struct hooked *fresh(void)
{
	static struct hooked h; /* each test is a process of its own */

	h = (struct hooked){ .sub = 0xee };
	return &h;
}

/* Loads, and leaves `rest` bytes untaken. */
static struct hooked *load_hooked(const char *hex, size_t rest)
{
	struct hooked *h = fresh();
	struct error *err = NULL;
	uint8_t bytes[128];
	size_t len = bytes_of(hex, bytes, sizeof(bytes));
	uint64_t used;

	expect_ok(load_from_bytes(&hooked_desc, h, 4, bytes, len, &used, &err), err);
	cr_assert_eq(used, len - rest, "took %" PRIu64 " of %zu bytes", used, len);
	return h;
}

Test(vmstate_section, a_subsection_is_sent_when_needed)
{
	struct hooked h = { .value = 7, .sub = 9 };

	expect_saved(&hooked_desc, &h, "07");
	h.want_sub = true;
	expect_saved(&hooked_desc, &h, "07 " SUB_HEADER "09");
	cr_assert_eq(load_hooked("07 " SUB_HEADER "09", 0)->sub, 9);
	cr_assert_eq(load_hooked("07", 0)->sub, 0xee);
}

Test(vmstate_section, subsections_that_do_not_fit_are_refused)
{
	/* hooked/new */
	load_hex_fails(&hooked_desc, fresh(), 4,
		       "07 05 0a 68 6f 6f 6b 65 64 2f 6e 65 77 00 00 00 01", ": ", "'hooked/new'");
	/* "hooked/su", the beginning of a known name */
	load_hex_fails(&hooked_desc, fresh(), 4,
		       "07 05 09 68 6f 6f 6b 65 64 2f 73 75 00 00 00 01 09", ": ", "'hooked/su'");
	load_hex_fails(&hooked_desc, fresh(), 4,
		       "07 05 0a 68 6f 6f 6b 65 64 2f 73 75 62 00 00 00 02 09",
		       "(hooked/sub): ", "too new");
	load_hex_fails(&hooked_desc, fresh(), 4, "07 " SUB_HEADER, "(hooked/sub).sub: ", "ends");
	load_hex_fails(&hooked_desc, fresh(), 4, "07 05 0a 68 6f 6f 6b 65 64 2f 73", ": ", "ends");
	load_hex_fails(&hooked_desc, fresh(), 4, "07 05 ff 68 6f 6f 6b 65 64 2f 73", ": ", "255");
}

/*
 * The last field is 0x05, and so are bytes behind the state: nothing but "hooked/" is taken for a
 * subsection.
 */
Test(vmstate_section, data_that_looks_like_a_subsection_is_left_alone)
{
	cr_assert_eq(load_hooked("05", 0)->value, 5);
	load_hooked("05 7e 00 00 00 01", 5);
	load_hooked("05 05", 1);
	load_hooked("05 05 0a", 2);
	load_hooked("05 05 0a 68 6f 6f 6b 65 64", 8);
	load_hooked("05 05 0a 68 6f 6f 6b 65 65 2f 73 75 62 00 00 00 01 09", 17); /* hookee/sub */
	load_hooked("05 05 06 68 6f 6f 6b 65 64 2f 73 75 62", 12); /* too short a name */
	cr_assert_eq(load_hooked("05 " SUB_HEADER "05 7e 05 05", 3)->sub, 5);
}

/* A description without subsections never looks at what follows it. */
Test(vmstate_section, no_subsections_no_peek)
{
	struct dev dev = { 0 };
	uint8_t bytes[] = { 1, 2, 3, 0, 0x05, 0x05, 'd', 'e', 'v', '/', 'x', 0, 0, 0, 1 };
	struct error *err = NULL;
	uint64_t used;

	expect_ok(load_from_bytes(&dev_desc, &dev, 3, bytes, sizeof(bytes), &used, &err), err);
	cr_assert_eq(used, 4);
}

struct deep {
	uint8_t top, mid, low;
};

static const struct vmstate_field low_fields[] = { VMSTATE_ONE(UINT8, low, struct deep),
						   VMSTATE_END };
static const struct vmstate_field mid_fields[] = { VMSTATE_ONE(UINT8, mid, struct deep),
						   VMSTATE_END };
static const struct vmstate_field top_fields[] = { VMSTATE_ONE(UINT8, top, struct deep),
						   VMSTATE_END };
static const struct vmstate_desc low_desc = { .name = "t/m/l", .fields = low_fields };
static const struct vmstate_desc mid_desc = {
	.name = "t/m",
	.fields = mid_fields,
	.subsections = (const struct vmstate_desc *const[]){ &low_desc, NULL },
};
static const struct vmstate_desc other_desc = { .name = "t/o", .fields = mid_fields };
static const struct vmstate_desc top_desc = {
	.name = "t",
	.fields = top_fields,
	.subsections = (const struct vmstate_desc *const[]){ &mid_desc, &other_desc, NULL },
};

Test(vmstate_section, subsections_nest)
{
	struct deep deep = { 1, 2, 3 }, copy = { 0 };
	struct saved saved = save_ok(&top_desc, &deep);

	vmstate_check(&top_desc);
	expect_hex(saved.data, saved.len,
		   "01 05 03 74 2f 6d 00 00 00 00 02 05 05 74 2f 6d 2f 6c 00 00 00 00 03 "
		   "05 03 74 2f 6f 00 00 00 00 02",
		   "t");
	load_ok(&top_desc, &copy, 0, &saved);
	cr_assert(copy.top == 1 && copy.mid == 2 && copy.low == 3);
	load_hex_fails(&top_desc, &copy, 0,
		       "01 05 03 74 2f 6d 00 00 00 00 02 05 05 74 2f 6d 2f 78 00 00 00 00 03",
		       "(t/m): ", "'t/m/x'");
	free(saved.data);
}

/* --- what a description must keep to --- */

static void check_struct_of(const struct vmstate_desc *nested)
{
	const struct vmstate_field fields[] = {
		{ .name = "n", .kind = VMSTATE_KIND_STRUCT, .count = 1, .desc = nested, .size = 1 },
		VMSTATE_END,
	};
	const struct vmstate_desc desc = { .name = "outer", .fields = fields };

	vmstate_check(&desc);
}

Test(vmstate_section, a_good_nested_description_passes_the_check)
{
	check_struct_of(&low_desc);
}

Test(vmstate_section, subsections_must_not_be_nested_in_a_struct, .signal = SIGABRT)
{
	check_struct_of(&mid_desc);
}

Test(vmstate_section, a_subsection_is_named_after_its_parent, .signal = SIGABRT)
{
	const struct vmstate_desc desc = {
		.name = "u",
		.fields = top_fields,
		.subsections = (const struct vmstate_desc *const[]){ &mid_desc, NULL },
	};

	vmstate_check(&desc);
}

/* --- the order of sections --- */

Test(vmstate_section, higher_priorities_come_first)
{
	static const struct vmstate_desc descs[] = {
		{ .name = "a" },
		{ .name = "b", .priority = 2 },
		{ .name = "c" },
		{ .name = "d", .priority = -1 },
		{ .name = "e", .priority = 2 },
		{ .name = "f", .priority = 1 },
	};
	struct section_table table = { .n = 0 };
	char order[8] = "";

	for (size_t i = 0; i < sizeof(descs) / sizeof(descs[0]); i++)
		section_table_add(&table, descs[i].name, 0, &descs[i], NULL);
	for (unsigned int i = 0; i < table.n; i++)
		strcat(order, table.items[i].idstr);
	cr_assert_str_eq(order, "befacd");
}
