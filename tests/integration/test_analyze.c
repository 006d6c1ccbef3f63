/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the file that ferry writes can be read by people, programs and strangers' tools, and `ferry analyze` says what is in it;
 * and of a damaged one, where the damage is.
 *
 * Approach: a working guest is moved into a file. What the source has counted, what ferry analyze says in both forms, and what a
 * reading by the format alone finds (stranger.c) must be the same. Then the file is cut at many places; and at last the guest is
 * started from it.
 */
#include "migration/analyze.h"
#include "tests/integration/moves.h"
#include "tests/integration/stranger.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(analyze, .init = world_begin, .fini = world_end, .timeout = 600);
TestSuite(analyze_usage, .init = world_begin_anywhere, .fini = world_end, .timeout = 600);

#define CAP (40 << 20)
#define ANALYZE(...) side_run("analyze", "analyze", __VA_ARGS__)

/* A guest of 24 MiB, moved into a file; the source's counters go to *q. */
static const char *move_into_file(bool xbzrle, json_t **q)
{
	const char *path = world_path("guest.mig");
	struct side *source = start_work("source", new_beats(), "");

	set_parameter(source, "max-bandwidth", CAP);
	set_parameter(source, "downtime-limit", 0);
	if (xbzrle)
		set_capability(source, "xbzrle", true);
	begin_migration(source, text_format("file:%s", path));
	WAIT_FOR(source->qmp->pass >= 3 || is_over(source));
	set_parameter(source, "downtime-limit", LONG_DOWNTIME);
	await_migration(source, "completed");
	*q = query_migrate(source);
	call(source, "quit", NULL);
	check(side_wait(source) == 0, "exit status %d", source->status);
	return path;
}

static json_t *json_of(struct side *s)
{
	json_error_t error;
	json_t *json = keep_json(json_loads(text_of(&s->out), 0, &error));

	check(json, "%s in: %.200s", error.text, text_of(&s->out));
	return json;
}

static json_t *analyze_json(const char *path)
{
	struct side *s = ANALYZE(path, "--json");

	check(side_wait(s) == 0, "exit status %d", s->status);
	check(s->err.len == 0, "%s", text_of(&s->err));
	return json_of(s);
}

static json_t *find_section(json_t *json, const char *name, json_int_t instance)
{
	json_t *s;
	size_t i;

	json_array_foreach(json_object_get(json, "sections"), i, s)
	{
		json_t *have = json_object_get(s, "name");

		if (have && strcmp(json_string_value(have), name) == 0 &&
		    json_number(s, NULL, "instance") == instance)
			return s;
	}
	check(false, "no section %s[%d]", name, (int)instance);
	return NULL;
}

static json_t *find_field(json_t *section, const char *path)
{
	json_t *f;
	size_t i;

	json_array_foreach(json_object_get(section, "fields"), i, f)
	{
		if (strcmp(json_text(f, "path"), path) == 0)
			return f;
	}
	check(false, "no field %s", path);
	return NULL;
}

static void check_counters(json_t *json, json_t *q)
{
	json_int_t pages = json_number(json, "ram", "normal") + json_number(json, "ram", "zero") +
			   json_number(json, "ram", "xbzrle");

	check(json_number(json, "ram", "normal") == json_number(q, "ram", "normal"), "normal");
	check(json_number(json, "ram", "zero") == json_number(q, "ram", "duplicate"), "zero");
	check(pages * 4096 >= 24 << 20, "%lld pages", (long long)pages);
	check(json_number(json, "ram", "parts") >= 1, "parts");
}

/* Each value of the stranger's is ferry's, too. */
static void compare(json_t *json, const struct stranger *s)
{
	static const struct {
		const char *section, *path;
		int digits;
	} values[] = {
		{ "uart16550", "ier", 2 },	  { "uart16550", "lcr", 2 },
		{ "uart16550", "msr", 2 },	  { "uart16550", "dll", 2 },
		{ "cpu", "segment[0].limit", 8 }, { "ioapic", "base_address", 16 },
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		json_t *f = find_field(find_section(json, values[i].section, 0), values[i].path);
		json_t *value = json_object_get(f, "value");
		const char *key = text_format("%s[0].%s", values[i].section, values[i].path);
		long long number = json_is_string(value)
					   ? strtoll(json_string_value(value), NULL, 16)
					   : json_integer_value(value);
		const char *have = text_format("%0*llx", values[i].digits, number);

		check(strcmp(json_text(s->values, key), have) == 0, "%s is %s, ferry says %s", key,
		      json_text(s->values, key), have);
	}
	check((uint64_t)json_number(json, "ram", "normal") == s->normal, "whole pages");
	check((uint64_t)json_number(json, "ram", "zero") == s->zero, "zero pages");
	check(json_number(s->blocks, NULL, "ram.low") == 24 << 20, "ram.low");
	check(strncmp(json_text(s->values, "configuration.(configuration/devicetree)fdt"),
		      "d00dfeed", 8) == 0,
	      "the device tree");
	check(json_array_size(json_object_get(s->description, "devices")) + 1 == s->sections,
	      "%u sections, %zu are described", s->sections,
	      json_array_size(json_object_get(s->description, "devices")));
}

static void check_text(const char *path, json_t *json)
{
	static const char *const words[] = {
		"machine ferry-1", "START",    "block ram.low, 24.0 MiB",
		"uart16550[0]",	   "ram.low ", "VMDESCRIPTION"
	};
	json_t *uart = find_field(find_section(json, "uart16550", 0), "dll");
	struct side *s = ANALYZE(path);
	const char *at;

	check(side_wait(s) == 0, "exit status %d", s->status);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		check(strstr(text_of(&s->out), words[i]), "'%s' is missing", words[i]);
	at = strstr(text_of(&s->out), " dll ");
	check(at && (at = strchr(at, '=')), "no field dll");
	check(strtoll(at + 1, NULL, 0) == json_number(uart, NULL, "value"), "dll: %.20s", at);
}

/* Started from the file, the guest goes on, also after others have looked at it. */
static void start_from(const char *path)
{
	struct beats *b = new_beats();
	struct side *s = side_start(
		"again", &(struct side_options){ .incoming = text_format("file:%s", path) });

	(void)b;
	WAIT_FOR(s->serial.len > 50);
	expect_status(s, "running");
}

Test(analyze, own_file)
{
	json_t *q, *json;
	const char *path = move_into_file(false, &q);
	struct stranger stranger = stranger_read(path);

	json = analyze_json(path);
	check_counters(json, q);
	/* Nobody asked for differences, which strangers do not read: there are none, however slow the file is. */
	check(json_number(json, "ram", "xbzrle") == 0, "a difference in a file");
	compare(json, &stranger);
	check_text(path, json);
	start_from(path);
}

Test(analyze, file_with_differences)
{
	json_t *q, *json;
	const char *path = move_into_file(true, &q);

	json = analyze_json(path);
	check_counters(json, q);
	check(json_number(json, "ram", "xbzrle") == json_number(q, "xbzrle-cache", "pages"),
	      "differences");
	check(json_number(json, "ram", "xbzrle_bytes") == json_number(q, "xbzrle-cache", "bytes"),
	      "bytes of differences");
	start_from(path);
}

/* Cut at an offset: an error that names one, and JSON that is still a document and says the same. */
static void check_cut(const char *path, off_t at)
{
	struct side *s;
	json_t *json;
	const char *message;

	cr_assert_eq(truncate(path, at), 0);
	s = ANALYZE(path, "--json");
	check(side_wait(s) == 1, "cut at %lld: exit status %d", (long long)at, s->status);
	json = json_of(s);
	message = json_text(json_object_get(json, "error"), "message");
	check(strstr(text_of(&s->err), message), "'%s', but '%s'", text_of(&s->err), message);
	check(strstr(message,
		     text_format("%s: offset 0x%llx: ", path,
				 (unsigned long long)json_number(json, "error", "offset"))),
	      "cut at %lld: %s", (long long)at, message);
	check(json_number(json, "error", "offset") <= at, "cut at %lld: %s", (long long)at,
	      message);
}

/* The same without a process for each. */
static void check_cut_here(const char *path, off_t at)
{
	static const struct analyze_visitor nobody;
	struct analyze_result *result = malloc(sizeof(*result));
	struct error *err = NULL;

	cr_assert_eq(truncate(path, at), 0);
	check(!analyze_file(path, &nobody, result, &err), "cut at %lld: no error", (long long)at);
	check(result->error_offset <= (uint64_t)at &&
		      strstr(err->msg, text_format("offset 0x%llx: ",
						   (unsigned long long)result->error_offset)),
	      "cut at %lld: %s", (long long)at, err->msg);
	error_free(err);
	free(result);
}

Test(analyze, cut_file)
{
	json_t *q, *json;
	const char *path = move_into_file(false, &q);
	json_int_t clock, ram;
	struct stat st;

	json = analyze_json(path);
	clock = json_number(find_section(json, "kvmclock", 0), NULL, "offset");
	ram = json_number(find_section(json, "ram", 0), NULL, "offset");
	cr_assert_eq(stat(path, &st), 0);
	/* From the end: the file becomes shorter and shorter. */
	check_cut(path, st.st_size - 1);
	check_cut(path, st.st_size - 1000);
	for (off_t at = clock + 300; at > clock - 100; at -= 7)
		check_cut_here(path, at);
	check_cut(path, clock - 100);
	for (off_t at = clock - 107; at > ram + 100; at -= 1 + (at - ram) / 20)
		check_cut_here(path, at);
	check_cut(path, ram + 90);
	for (off_t at = ram + 80; at > 60; at -= 11)
		check_cut_here(path, at);
	for (off_t at = 60; at >= 0; at -= 12)
		check_cut(path, at);
}

/* --- without a guest --- */

Test(analyze_usage, wrong)
{
	static const char *const cases[][4] = {
		{ "analyze", NULL },
		{ "analyze", "--nonsense", NULL },
		{ "analyze", "a", "b", NULL },
		{ "analyze", "a", "--section", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct side *s = side_spawn("analyze", cases[i], &(struct side_options){ 0 });

		check(side_wait(s) == 2, "case %zu: exit status %d", i, s->status);
		check(side_said(s, "ferry analyze --help"), "case %zu: %s", i, text_of(&s->err));
	}
}

#define FOREIGN "tests/golden/foreign-microvm-7.2.mig"

Test(analyze_usage, foreign)
{
	struct stranger stranger = stranger_read(FOREIGN);
	json_t *json = analyze_json(FOREIGN);
	json_t *serial = find_section(json, "serial", 0);

	check((uint64_t)json_number(json, "ram", "zero") == stranger.zero, "zero pages");
	check(json_number(find_field(serial, "state.lsr"), NULL, "value") == 0x60, "lsr");
	check(strcmp(json_text(stranger.values, "serial[0].state.lsr"), "60") == 0, "lsr");
}

/* Only what was asked for. */
Test(analyze_usage, one_section)
{
	struct side *s = ANALYZE(FOREIGN, "--json", "--section", "ioapic[1]");
	json_t *sections;

	check(side_wait(s) == 0, "exit status %d", s->status);
	sections = json_object_get(json_of(s), "sections");
	check(json_array_size(sections) == 1, "%zu sections", json_array_size(sections));
	check(json_number(json_array_get(sections, 0), NULL, "instance") == 1, "the instance");
	s = ANALYZE(FOREIGN, "--json", "--section", "ioapic");
	check(side_wait(s) == 0, "exit status %d", s->status);
	check(json_array_size(json_object_get(json_of(s), "sections")) == 2, "both");
	s = ANALYZE(FOREIGN, "--section", "serial/0");
	check(side_wait(s) == 0, "exit status %d", s->status);
	check(side_said(s, "state.lsr") && !side_said(s, "ioapic"), "%s", text_of(&s->out));
	s = ANALYZE(FOREIGN, "--section", "serial/1");
	check(side_wait(s) == 1, "exit status %d", s->status);
	check(side_said(s, "serial/1"), "%s", text_of(&s->err));
}

/* Every page's record, and none without being asked. */
Test(analyze_usage, pages)
{
	struct side *s = ANALYZE(FOREIGN, "--json", "--ram", "--section", "ram");
	json_t *sections, *section;
	size_t i, n = 0;

	check(side_wait(s) == 0, "exit status %d", s->status);
	sections = json_object_get(json_of(s), "sections");
	json_array_foreach(sections, i, section) n +=
		json_array_size(json_object_get(section, "pages"));
	check(n == 20 + 8191, "%zu pages", n);
	check(json_array_size(sections) == 3, "START, PART and END");
	s = ANALYZE(FOREIGN, "--ram");
	check(side_wait(s) == 0, "exit status %d", s->status);
	check(side_said(s, "zero   microvm.ram 0x1fff000\n"), "the last page");
}
