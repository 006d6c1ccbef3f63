/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/compat.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first difference, told from the inside outwards: "state.fields[2] (rx): size is 2, was 1". */
static char *differ(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *differ(const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : text;
}

static char *within(const char *where, char *what)
{
	char *text = what ? differ("%s: %s", where, what) : NULL;

	free(what);
	return text;
}

static const char *string_of(const json_t *json, const char *key)
{
	const char *s = json_string_value(json_object_get(json, key));

	return s ? s : "";
}

static json_int_t int_of(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

static char *compare_state(const json_t *old, const json_t *now);

/* Keys whose values are compared as they stand; the others are names or looked into. */
static char *compare_keys(const json_t *old, const json_t *now, const char *const *keys)
{
	for (; *keys; keys++) {
		const json_t *a = json_object_get(old, *keys), *b = json_object_get(now, *keys);
		char *was, *is, *text;

		if ((!a && !b) || (a && b && json_equal(a, b)))
			continue;
		was = a ? json_dumps(a, JSON_ENCODE_ANY) : strdup("absent");
		is = b ? json_dumps(b, JSON_ENCODE_ANY) : strdup("absent");
		text = differ("%s is %s, was %s", *keys, is, was);
		free(was);
		free(is);
		return text;
	}
	return NULL;
}

static char *compare_list(const json_t *old, const json_t *now)
{
	static const char *const keys[] = { "count_first", "mark", "mark_is_a_flag_up_to", "max",
					    NULL };
	char *text = compare_keys(old, now, keys);

	return text ? text
		    : within("element", compare_state(json_object_get(old, "element"),
						      json_object_get(now, "element")));
}

static char *compare_field(const json_t *old, const json_t *now)
{
	static const char *const keys[] = { "type",	"size",	       "max",		"count",
					    "pointers", "conditional", "since_version", NULL };
	char *text = compare_keys(old, now, keys);

	if (!text && json_object_get(old, "struct"))
		text = within("struct", compare_state(json_object_get(old, "struct"),
						      json_object_get(now, "struct")));
	if (!text && json_object_get(old, "list"))
		text = within("list", compare_list(json_object_get(old, "list"),
						   json_object_get(now, "list")));
	return text;
}

/* Bytes on the wire of a field that always has as many; -1: not of that sort. */
static json_int_t fixed_bytes(const json_t *field)
{
	json_int_t count = json_object_get(field, "count") ? int_of(field, "count") : 1;

	if (!json_object_get(field, "size") || json_object_get(field, "counter") ||
	    json_object_get(field, "conditional") || json_object_get(field, "since_version") ||
	    json_object_get(field, "pointers"))
		return -1;
	return int_of(field, "size") * count;
}

/* Do fields of b from *i on have as many bytes as a's unused ones? *i is then behind them. */
static bool stands_for(const json_t *unused, const json_t *b, size_t *i)
{
	json_int_t left = int_of(unused, "size");
	size_t at = *i;

	if (strcmp(string_of(unused, "type"), "unused_buffer") != 0)
		return false;
	while (left > 0 && at < json_array_size(b)) {
		json_int_t bytes = fixed_bytes(json_array_get(b, at++));

		left = bytes < 0 ? -1 : left - bytes;
	}
	if (left == 0)
		*i = at;
	return left == 0;
}

static char *compare_fields(const json_t *old, const json_t *now)
{
	size_t i = 0, k = 0;

	while (i < json_array_size(old) || k < json_array_size(now)) {
		const json_t *a = json_array_get(old, i), *b = json_array_get(now, k);
		char *text, *where;

		if (!b)
			return differ("field %s is gone", string_of(a, "name"));
		if (!a)
			return differ("field %s is new", string_of(b, "name"));
		text = compare_field(a, b);
		if (!text) {
			i++, k++;
			continue;
		}
		if ((stands_for(b, old, &i) && ++k) || (stands_for(a, now, &k) && ++i)) {
			free(text);
			continue;
		}
		where = differ("field %s (was %s)", string_of(b, "name"), string_of(a, "name"));
		text = within(where, text);
		free(where);
		return text;
	}
	return NULL;
}

static const json_t *named(const json_t *array, const char *key, const char *name)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item) if (strcmp(string_of(item, key), name) == 0) return item;
	return NULL;
}

static char *compare_subsections(const json_t *old, const json_t *now)
{
	const json_t *item;
	char *text = NULL;
	size_t i;

	json_array_foreach(old, i, item)
	{
		const char *name = string_of(item, "name");
		const json_t *other = named(now, "name", name);

		text = other ? within(name, compare_state(item, other))
			     : differ("subsection %s is gone", name);
		if (text)
			return text;
	}
	json_array_foreach(
		now, i,
		item) if (!named(old, "name", string_of(item, "name")) &&
			  !json_object_get(item, "needed")) return differ("subsection %s is new, "
									  "and is always sent",
									  string_of(item, "name"));
	return NULL;
}

static char *compare_state(const json_t *old, const json_t *now)
{
	json_int_t was = int_of(old, "version"), is = int_of(now, "version");
	char *text;

	if (is > was)
		return differ("version %d: the older release loads up to %d", (int)is, (int)was);
	if (is < was)
		return differ("version %d: the older release writes %d", (int)is, (int)was);
	if (int_of(now, "minimum_version") > was)
		return differ("minimum version %d: the older release writes %d",
			      (int)int_of(now, "minimum_version"), (int)was);
	if (json_object_get(old, "needed") && !json_object_get(now, "needed"))
		return differ("is always sent now");
	text = compare_fields(json_object_get(old, "fields"), json_object_get(now, "fields"));
	return text ? text
		    : compare_subsections(json_object_get(old, "subsections"),
					  json_object_get(now, "subsections"));
}

char *compat_compare(const json_t *old, const json_t *now)
{
	const json_t *item, *before = json_object_get(old, "sections");
	const json_t *after = json_object_get(now, "sections");
	char *text;
	size_t i;

	text = within("configuration", compare_state(json_object_get(old, "configuration"),
						     json_object_get(now, "configuration")));
	json_array_foreach(before, i, item)
	{
		const char *name = string_of(item, "section");
		const json_t *other = named(after, "section", name);

		if (text)
			return text;
		text = other ? within(name, compare_state(json_object_get(item, "state"),
							  json_object_get(other, "state")))
			     : differ("section %s is gone", name);
	}
	json_array_foreach(after, i,
			   item) if (!text && !json_object_get(item, "device") &&
				     !named(before, "section", string_of(item, "section"))) text =
		differ("section %s is new, and no device's", string_of(item, "section"));
	return text;
}
