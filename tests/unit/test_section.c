/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a section is framed as stream-format.md section 4 says, is found by name and instance, and whatever is wrong with one is
 * said with the section's name in front.
 *
 * How: a memory channel; expected bytes by hand.
 */
#include <signal.h>

#include "migration/stream/protocol.h"
#include "migration/stream/section.h"
#include "tests/unit/vmstate_support.h"

SUITE(section);

struct lamp {
	uint16_t level;
	bool broken;
};

static bool lamp_pre_save(void *opaque, struct error **errp)
{
	if (!((struct lamp *)opaque)->broken)
		return true;
	error_set(errp, "it is broken");
	return false;
}

static const struct vmstate_field lamp_fields[] = {
	VMSTATE_ONE(UINT16, level, struct lamp),
	VMSTATE_END,
};
static const struct vmstate_desc lamp_vmstate = {
	.name = "a-lamp",
	.version_id = 2,
	.minimum_version_id = 1,
	.fields = lamp_fields,
	.pre_save = lamp_pre_save,
};

Test(section, is_found_by_name_and_instance)
{
	struct lamp lamps[3];
	struct section_table table = { .n = 0 };

	cr_assert_null(section_find(&table, "lamp", 0));
	section_table_add(&table, "lamp", 0, &lamp_vmstate, &lamps[0]);
	section_table_add(&table, "lamp", 7, &lamp_vmstate, &lamps[1]);
	section_table_add(&table, "lamps", 0, &lamp_vmstate, &lamps[2]);
	cr_assert_eq(section_find(&table, "lamp", 0)->opaque, &lamps[0]);
	cr_assert_eq(section_find(&table, "lamp", 7)->opaque, &lamps[1]);
	cr_assert_eq(section_find(&table, "lamps", 0)->opaque, &lamps[2]);
	cr_assert_null(section_find(&table, "lamp", 1));
	cr_assert_null(section_find(&table, "lam", 0));
	cr_assert_null(section_find(&table, "lamps", 7));
}

Test(section, the_same_twice_is_a_bug, .signal = SIGABRT)
{
	struct section_table table = { .n = 0 };

	section_table_add(&table, "lamp", 1, &lamp_vmstate, NULL);
	section_table_add(&table, "lamp", 1, &lamp_vmstate, NULL);
}

/* Saves into a new memory channel; *ok as section_save() says. */
static struct channel *save(struct lamp *lamp, json_t *devices, bool *ok, struct error **errp)
{
	struct section section = { "lamp", 3, &lamp_vmstate, lamp };
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);

	*ok = section_save(out, &section, 0x0a0b0c0d, devices, errp);
	cr_assert(stream_flush(out));
	stream_out_free(out);
	return ch;
}

Test(section, is_framed_and_described)
{
	struct lamp lamp = { .level = 0x1234 };
	json_t *devices = json_array(), *first;
	struct error *err = NULL;
	struct channel *ch;
	const uint8_t *data;
	size_t len;
	bool ok;

	ch = save(&lamp, devices, &ok, &err);
	expect_ok(ok, err);
	data = channel_memory_data(ch, &len);
	expect_hex(data, len,
		   "04 0a 0b 0c 0d 04 6c 61 6d 70 00 00 00 03 00 00 00 02 12 34 7e 0a 0b 0c 0d",
		   "FULL");
	cr_assert_eq(json_array_size(devices), 1);
	first = json_array_get(devices, 0);
	cr_assert_str_eq(json_string_value(json_object_get(first, "name")), "lamp");
	cr_assert_eq(json_integer_value(json_object_get(first, "instance_id")), 3);
	cr_assert_str_eq(json_string_value(json_object_get(first, "vmsd_name")), "a-lamp");
	json_decref(devices);
	channel_free(ch);
}

Test(section, a_save_that_fails_names_the_section)
{
	struct lamp lamp = { .broken = true };
	struct error *err = NULL;
	bool ok;

	channel_free(save(&lamp, NULL, &ok, &err));
	cr_assert_not(ok);
	expect_error(err, "lamp[3]: it is broken");
}

/* Loads what stands behind the header. */
static bool load(struct lamp *lamp, const char *hex, uint32_t version, struct error **errp)
{
	struct section section = { "lamp", 3, &lamp_vmstate, lamp };
	struct channel *ch = channel_memory();
	struct stream_in *in = stream_in_new(ch);
	uint8_t bytes[64];
	struct iovec iov = { bytes, bytes_of(hex, bytes, sizeof(bytes)) };
	bool ok;

	cr_assert(channel_writev(ch, &iov, 1, NULL));
	ok = section_load(in, &section, 9, version, errp);
	stream_in_free(in);
	channel_free(ch);
	return ok;
}

Test(section, is_loaded)
{
	struct lamp lamp = { 0 };
	struct error *err = NULL;

	expect_ok(load(&lamp, "00 07 7e 00 00 00 09", 1, &err), err);
	cr_assert_eq(lamp.level, 7);
}

Test(section, what_is_wrong_is_said_with_its_name)
{
	static const struct {
		const char *hex;
		uint32_t version;
		const char *says;
	} cases[] = {
		{ "00 07 7e 00 00 00 09", 3, "lamp[3]: version 3 is too new" },
		{ "00", 2, "lamp[3].level: at byte" },
		{ "00 07 7e 00 00 00 08", 2,
		  "lamp[3]: at byte 7: section 9 ends with byte 0x7e and id 8" },
		{ "00 07 7d 00 00 00 09", 2,
		  "section 9 ends with byte 0x7d and id 9, expected a footer" },
		{ "00 07 7e 00", 2, "lamp[3]: at byte" },
		{ "00 07", 2, "ends in the middle of a record" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lamp lamp = { 0 };
		struct error *err = NULL;

		cr_assert_not(load(&lamp, cases[i].hex, cases[i].version, &err), "%zu", i);
		expect_error(err, cases[i].says);
	}
}
