/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no change of a device's state goes unnoticed that a ferry of another release could not load.
 *
 * Approach: a guest that a release has saved to a file (with what it had written to its serial line till then) goes on here, and
 * nothing is missing. And `ferry describe-state` is compared with what each release printed, which lies in tests/golden/. The comparison is
 * shown to see each kind of change, and to let pass what does no harm. A release adds its file; a file is never edited.
 */
#include "tests/integration/compat.h"
#include "tests/integration/moves.h"
#include "tests/integration/stranger.h"

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(state, .init = world_begin_anywhere, .fini = world_end, .timeout = 60);
TestSuite(release, .init = world_begin, .fini = world_end, .timeout = 600);

static json_t *todays(void)
{
	struct side *ferry = side_run("describe", "describe-state");
	json_error_t error;
	json_t *json;

	check(side_wait(ferry) == 0, "exit status %d", ferry->status);
	json = keep_json(json_loads(text_of(&ferry->out), 0, &error));
	check(json, "no JSON: %s", error.text);
	return json;
}

Test(state, releases_can_load_each_others)
{
	json_t *now = todays();
	glob_t files;

	cr_assert_eq(glob("tests/golden/state-*.json", 0, NULL, &files), 0, "no golden files");
	for (size_t i = 0; i < files.gl_pathc; i++) {
		json_error_t error;
		json_t *old = keep_json(json_load_file(files.gl_pathv[i], 0, &error));
		char *text;

		cr_assert_not_null(old, "%s: %s", files.gl_pathv[i], error.text);
		cr_assert_gt(json_array_size(json_object_get(old, "sections")), 5u);
		text = compat_compare(old, now);
		cr_assert_null(text, "%s: %s", files.gl_pathv[i], text);
	}
	globfree(&files);
}

/* --- a guest of a release --- */

/* The file is of one host; another CPU may rightly refuse it, before any memory is loaded. */
static bool refused_by_this_host(const struct side *s)
{
	return side_said(s, "the guest's CPU has") || side_said(s, "this host");
}

static char *golden_guest(const char *serial)
{
	return text_format("%.*s.mig", (int)(strlen(serial) - strlen(".serial")), serial);
}

static void go_on(const char *serial)
{
	const char *golden = golden_guest(serial);
	struct beats *b = new_beats();
	struct text said = { 0 };
	struct side *side;
	int fd = open(serial, O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0, "%s", serial);
	while (text_read(&said, fd))
		;
	close(fd);
	beats_feed(b, serial, said.data, said.len);
	text_release(&said);
	side = side_launch(
		"golden",
		&(struct side_options){ .incoming = text_format("file:%s", golden), .beats = b });
	WAIT_FOR(b->count > 500 + said.len || side->exited);
	if (side->exited && refused_by_this_host(side))
		skip("%s is of another CPU: %s", golden, text_of(&side->err));
	check(!side->exited, "it ended with %d", side->status);
	WAIT_FOR(beats_messages(b, "lap ") >= 2);
}

/* The guest checks each of its pages; a lap that it completes says that its memory is whole. */
Test(release, a_guest_goes_on)
{
	glob_t files;

	cr_assert_eq(glob("tests/golden/*.serial", 0, NULL, &files), 0, "no golden files");
	for (size_t i = 0; i < files.gl_pathc; i++)
		go_on(files.gl_pathv[i]);
	globfree(&files);
}

/* Does the value hold time, or whether the guest is to run? All else is what was loaded. */
static bool may_differ(const char *key)
{
	static const char *const prefixes[] = { "kvmclock[0].", "i8254[0].", "cpu[0].msrs[",
						"cpu[0].lapic", "runstate[0]." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* What is loaded and not run is saved again field for field as the release saved it: so the release can load what we save. */
static void save_again(const char *golden)
{
	struct stranger was = stranger_read(golden), is;
	char *again = world_path("again.mig");
	const char *key;
	json_t *value;
	struct side *side = side_launch(
		"golden", &(struct side_options){ .incoming = text_format("file:%s", golden),
						  .more = (const char *[]){ "--paused", NULL } });

	/* It may end before anybody could ask it anything. */
	WAIT_FOR(side_said(side, "the guest is here") || side->exited);
	if (side->exited && refused_by_this_host(side))
		skip("%s is of another CPU: %s", golden, text_of(&side->err));
	side->qmp = qmp_open(side);
	expect_status(side, "paused");
	begin_migration(side, text_format("file:%s", again));
	await_migration(side, "completed");
	is = stranger_read(again);
	check(json_equal(json_object_get(was.description, "devices"),
			 json_object_get(is.description, "devices")),
	      "%s is described otherwise now", golden);
	cr_assert_gt(json_object_size(was.values), 200u);
	json_object_foreach(was.values, key, value)
		check(may_differ(key) || json_equal(value, json_object_get(is.values, key)),
		      "%s is %s, was %s", key, json_string_value(json_object_get(is.values, key)),
		      json_string_value(value));
}

Test(release, a_guest_is_saved_again_as_it_was)
{
	glob_t files;

	cr_assert_eq(glob("tests/golden/*.serial", 0, NULL, &files), 0, "no golden files");
	for (size_t i = 0; i < files.gl_pathc; i++)
		save_again(golden_guest(files.gl_pathv[i]));
	globfree(&files);
}

/* --- the comparison itself --- */

#define FIELD(name, type, size) "{\"name\":\"" name "\",\"type\":\"" type "\",\"size\":" size "}"
#define STATE(version, minimum, fields, more)                                  \
	"{\"name\":\"d\",\"version\":" version ",\"minimum_version\":" minimum \
	",\"fields\":[" fields "]" more "}"
#define SUBSECTION(more)                   \
	",\"subsections\":[{\"name\":\"d/" \
	"s\",\"version\":1,\"minimum_version\":1,\"fields\":[]" more "}]"
#define LIST(mark, element)                                                                  \
	"{\"name\":\"q\",\"type\":\"qtailq\",\"list\":{\"count_first\":false,\"mark\":" mark \
	",\"max\":4,\"element\":" STATE("1", "1", element, "") "}}"

static const char plain[] =
	STATE("2", "1", FIELD("a", "uint16", "2") "," FIELD("b", "uint8", "1"), "");

static const struct {
	const char *old, *now;
	const char *says; /* NULL: no harm */
} changes[] = {
	{ plain, plain, NULL },
	/* a name */
	{ plain, STATE("2", "1", FIELD("a", "uint16", "2") "," FIELD("c", "uint8", "1"), ""),
	  NULL },
	/* fields */
	{ plain, STATE("2", "1", FIELD("a", "uint32", "4") "," FIELD("b", "uint8", "1"), ""),
	  "d: field a (was a): type is \"uint32\", was \"uint16\"" },
	{ plain, STATE("2", "1", FIELD("a", "uint16", "2"), ""), "d: field b is gone" },
	{ STATE("2", "1", FIELD("a", "uint16", "2"), ""), plain, "d: field b is new" },
	{ plain, STATE("2", "1", FIELD("b", "uint8", "1") "," FIELD("a", "uint16", "2"), ""),
	  "d: field b (was a): type is" },
	/* unused bytes */
	{ plain, STATE("2", "1", FIELD("u", "unused_buffer", "3"), ""), NULL },
	{ STATE("2", "1", FIELD("u", "unused_buffer", "3"), ""), plain, NULL },
	{ plain, STATE("2", "1", FIELD("u", "unused_buffer", "2") "," FIELD("b", "uint8", "1"), ""),
	  NULL },
	{ plain, STATE("2", "1", FIELD("u", "unused_buffer", "4"), ""), "field u (was a)" },
	{ STATE("2", "1", FIELD("u", "unused_buffer", "2"), ""), plain, "d: field b is new" },
	/* versions */
	{ plain, STATE("3", "1", FIELD("a", "uint16", "2") "," FIELD("b", "uint8", "1"), ""),
	  "d: version 3: the older release loads up to 2" },
	{ plain, STATE("1", "1", FIELD("a", "uint16", "2") "," FIELD("b", "uint8", "1"), ""),
	  "d: version 1: the older release writes 2" },
	{ plain, STATE("2", "3", FIELD("a", "uint16", "2") "," FIELD("b", "uint8", "1"), ""),
	  "d: minimum version 3" },
	/* subsections */
	{ STATE("1", "1", "", ""), STATE("1", "1", "", SUBSECTION(",\"needed\":true")), NULL },
	{ STATE("1", "1", "", ""), STATE("1", "1", "", SUBSECTION("")),
	  "subsection d/s is new, and is always sent" },
	{ STATE("1", "1", "", SUBSECTION("")), STATE("1", "1", "", ""), "subsection d/s is gone" },
	{ STATE("1", "1", "", SUBSECTION(",\"needed\":true")), STATE("1", "1", "", SUBSECTION("")),
	  "d/s: is always sent now" },
	/* lists */
	{ STATE("1", "1", LIST("1", FIELD("v", "uint8", "1")), ""),
	  STATE("1", "1", LIST("42", FIELD("v", "uint8", "1")), ""), "list: mark is 42, was 1" },
	{ STATE("1", "1", LIST("1", FIELD("v", "uint8", "1")), ""),
	  STATE("1", "1", LIST("1", FIELD("v", "uint16", "2")), ""),
	  "list: element: field v (was v): type is" },
};

/* A whole description around one state. */
static json_t *around(const char *state)
{
	static const char text[] = "{\"configuration\":" STATE(
		"1", "1", "", "") ","
				  "\"sections\":[{\"section\":\"d\",\"state\":%s}]}";
	json_error_t error;
	json_t *json = keep_json(json_loads(text_format(text, state), 0, &error));

	cr_assert_not_null(json, "%s: %s", state, error.text);
	return json;
}

Test(state, the_comparison_sees_each_kind_of_change)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		char *text = compat_compare(around(changes[i].old), around(changes[i].now));

		if (changes[i].says)
			cr_assert(text && strstr(text, changes[i].says),
				  "row %zu: '%s', expected '%s'", i, text ? text : "no harm",
				  changes[i].says);
		else
			cr_assert_null(text, "row %zu: %s", i, text);
		free(text);
	}
}

Test(state, sections_come_with_devices_only)
{
	json_t *old = around(plain), *now = keep_json(json_deep_copy(old));
	json_t *more = json_pack(
		"{s:s, s:O}", "section", "e", "state",
		json_object_get(json_array_get(json_object_get(old, "sections"), 0), "state"));
	char *text;

	json_array_append_new(json_object_get(now, "sections"), more);
	text = compat_compare(old, now);
	cr_assert(text && strstr(text, "section e is new"), "%s", text);
	free(text);
	text = compat_compare(now, old);
	cr_assert(text && strstr(text, "section e is gone"), "%s", text);
	free(text);
	json_object_set_new(more, "device", json_string("vendor,e"));
	text = compat_compare(old, now);
	cr_assert_null(text, "%s", text);
}

/* Each change of any number in today's own description is seen, or is one that does no harm. */
static void set_everywhere(json_t *json, const char *key, json_t *root, const json_t *old,
			   unsigned int *seen)
{
	const char *k;
	json_t *value;
	size_t i;

	if (json_is_array(json))
		json_array_foreach(json, i, value) set_everywhere(value, key, root, old, seen);
	if (!json_is_object(json))
		return;
	value = json_object_get(json, key);
	if (json_is_integer(value)) {
		json_int_t was = json_integer_value(value);
		char *text;

		json_integer_set(value, was + 1);
		text = compat_compare(old, root);
		cr_assert_not_null(text, "%s %d of %s made one more is not seen", key, (int)was,
				   json_string_value(json_object_get(json, "name")));
		free(text);
		json_integer_set(value, was);
		(*seen)++;
	}
	json_object_foreach(json, k, value) set_everywhere(value, key, root, old, seen);
}

Test(state, no_number_can_change_unseen)
{
	static const char *const keys[] = { "size", "version", "max", "count" };
	json_t *old = todays(), *now = keep_json(json_deep_copy(old));

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		unsigned int seen = 0;

		set_everywhere(now, keys[i], now, old, &seen);
		cr_assert_gt(seen, 0u, "%s", keys[i]);
	}
}
