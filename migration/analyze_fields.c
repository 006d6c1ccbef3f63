/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state, taken apart by its description in the VMDESCRIPTION (stream format, section 7).
 *
 *	{"name":"segs","type":"struct","size":20,"array_len":6,"struct":{"fields":[{"name":"selector","type":"uint32","size":4}, ...]}}
 *
 * is six times its fields in a row: "segs[0].selector", ... A type that is not in the table below is `size` raw bytes. Sizes are
 * the description's alone, so an element that takes no bytes takes none the next time either, and need not be looked at again;
 * with that and the bound on fields no description keeps the reader busy for longer than its stream is long.
 */
#include <inttypes.h>
#include <stdarg.h>

#include "migration/analyze_parts.h"
#include "migration/stream/protocol.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

#define FIELDS_MAX (1u << 20)
#define DEPTH_MAX 32

/* Types that mean more than bytes. */
static const struct type {
	const char *name;
	enum analyze_kind kind;
	unsigned int size;
} types[] = {
	{ "bool", ANALYZE_BOOL, 1 },	     { "int8", ANALYZE_INT, 1 },
	{ "int16", ANALYZE_INT, 2 },	     { "int32", ANALYZE_INT, 4 },
	{ "int64", ANALYZE_INT, 8 },	     { "uint8", ANALYZE_UINT, 1 },
	{ "uint16", ANALYZE_UINT, 2 },	     { "uint32", ANALYZE_UINT, 4 },
	{ "uint64", ANALYZE_UINT, 8 },	     { "int8 equal", ANALYZE_INT, 1 },
	{ "int16 equal", ANALYZE_INT, 2 },   { "int32 equal", ANALYZE_INT, 4 },
	{ "int64 equal", ANALYZE_INT, 8 },   { "uint8 equal", ANALYZE_UINT, 1 },
	{ "uint16 equal", ANALYZE_UINT, 2 }, { "uint32 equal", ANALYZE_UINT, 4 },
	{ "uint64 equal", ANALYZE_UINT, 8 }, { "timer", ANALYZE_INT, 8 },
	{ "nullptr", ANALYZE_NULL, 1 },
};

static const struct type *find_type(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

/* --- values --- */

uint64_t analyze_uint(const struct analyze_field *field, size_t i)
{
	uint64_t value = 0;

	for (uint64_t k = 0; k < field->size; k++)
		value = value << 8 | field->data[i * field->size + k];
	return value;
}

int64_t analyze_int(const struct analyze_field *field, size_t i)
{
	unsigned int spare = 64 - 8 * (unsigned int)field->size;

	return (int64_t)(analyze_uint(field, i) << spare) >> spare;
}

static bool check_values(struct analyzer *a, const struct analyze_field *field)
{
	for (size_t i = 0; i < field->have; i++) {
		uint8_t value = field->data[i];

		if (field->kind == ANALYZE_BOOL && value > 1)
			return analyze_fail(a, field->offset + i,
					    "%s: bool '%s' is 0x%02x, expected 0 or 1",
					    a->section.name, field->path, value);
		if (field->kind == ANALYZE_NULL && value != VMSTATE_NULL_MARKER)
			return analyze_fail(a, field->offset + i,
					    "%s: null pointer '%s' is 0x%02x, expected 0x%02x",
					    a->section.name, field->path, value,
					    VMSTATE_NULL_MARKER);
		if (field->kind != ANALYZE_BOOL && field->kind != ANALYZE_NULL)
			break;
	}
	return true;
}

static bool count_field(struct analyzer *a)
{
	return ++a->nfields <= FIELDS_MAX ||
	       analyze_fail(a, analyze_position(a), "%s: field number %u, expected no more than %u",
			    a->section.name, FIELDS_MAX + 1, FIELDS_MAX);
}

bool analyze_one_field(struct analyzer *a, const struct analyze_layout *layout, uint64_t *last)
{
	struct analyze_field field = { .path = a->path,
				       .type = layout->type,
				       .kind = layout->kind,
				       .is_array = layout->is_array,
				       .offset = analyze_position(a),
				       .size = layout->size,
				       .count = layout->count,
				       .data = a->data };
	uint64_t total;

	if (!count_field(a))
		return false;
	if (!mul_fits(field.size, field.count, &total) ||
	    !range_within(field.offset, total, a->limit))
		return analyze_fail(a, field.offset,
				    "%s: field '%s' has %" PRIu64 " x %" PRIu64
				    " bytes, expected no more than the section",
				    a->section.name, a->path, field.count, field.size);
	field.have = (size_t)total;
	if (total > ANALYZE_DATA_MAX)
		field.have = field.size > ANALYZE_DATA_MAX
				     ? ANALYZE_DATA_MAX
				     : (size_t)(ANALYZE_DATA_MAX / field.size * field.size);
	if (!analyze_take(a, a->data, field.have) || !check_values(a, &field))
		return false;
	if (last && field.kind == ANALYZE_UINT && field.have)
		*last = analyze_uint(&field, 0);
	analyze_configuration_field(a, &field);
	if (a->v->field)
		a->v->field(a->v->opaque, &field);
	return analyze_skip(a, total - field.have);
}

/* --- paths --- */

bool analyze_path_enter(struct analyzer *a, size_t *mark, const char *fmt, ...)
{
	size_t room = sizeof(a->path) - a->path_len;
	va_list ap;
	int n;

	*mark = a->path_len;
	va_start(ap, fmt);
	n = vsnprintf(a->path + a->path_len, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room) {
		a->path[a->path_len] = '\0';
		return analyze_fail(a, analyze_position(a),
				    "%s: a field's path is longer than %u, expected less",
				    a->section.name, ANALYZE_PATH_MAX - 1);
	}
	a->path_len += (size_t)n;
	return true;
}

void analyze_path_leave(struct analyzer *a, size_t mark)
{
	a->path_len = mark;
	a->path[mark] = '\0';
}

/* --- descriptions --- */

/* Something is wrong with the description of what comes here. */
static bool bad_description(struct analyzer *a, const char *what)
{
	return analyze_fail(a, analyze_position(a), "%s: description of '%s': %s", a->section.name,
			    a->path, what);
}

/* A member that is a number; false where it is one that cannot be. *value stays where there is none. */
static bool take_number(struct analyzer *a, const json_t *json, const char *key, json_int_t min,
			uint64_t *value)
{
	const json_t *member = json_object_get(json, key);
	json_int_t number = json_integer_value(member);

	if (!member)
		return true;
	if (!json_is_integer(member) || number < min)
		return analyze_fail(a, analyze_position(a),
				    "%s: description of '%s': %s is %s%lld, expected %lld or more",
				    a->section.name, a->path, key,
				    json_is_integer(member) ? "" : "no integer, ",
				    (long long)number, (long long)min);
	*value = (uint64_t)number;
	return true;
}

struct described {
	const char *type;
	uint64_t size, count, index;
	bool has_size, has_index, is_array;
	const json_t *nested;
};

static bool walk_structs(struct analyzer *a, const struct described *f)
{
	for (uint64_t i = 0; i < f->count; i++) {
		uint64_t start = analyze_position(a);
		bool indexed = f->is_array || f->has_index, ok;
		size_t mark = a->path_len;

		if (!count_field(a) ||
		    (indexed && !analyze_path_enter(a, &mark, "[%" PRIu64 "]", f->index + i)))
			return false;
		ok = analyze_described(a, f->nested);
		analyze_path_leave(a, mark);
		if (!ok)
			return false;
		if (analyze_position(a) == start)
			break;
	}
	return true;
}

static bool walk_value(struct analyzer *a, const struct described *f)
{
	const struct type *type = find_type(f->type);
	struct analyze_layout layout = { .type = f->type,
					 .kind = type ? type->kind : ANALYZE_BYTES,
					 .is_array = f->is_array,
					 .size = f->size,
					 .count = f->count };
	size_t mark = a->path_len;
	bool ok;

	if (!f->has_size)
		return bad_description(a, "no size, expected one");
	if (type && f->size != type->size)
		return analyze_fail(a, analyze_position(a),
				    "%s: description of '%s': a %s of %" PRIu64
				    " bytes, expected %u",
				    a->section.name, a->path, f->type, f->size, type->size);
	if (f->has_index && !analyze_path_enter(a, &mark, "[%" PRIu64 "]", f->index))
		return false;
	ok = analyze_one_field(a, &layout, NULL);
	analyze_path_leave(a, mark);
	return ok;
}

/* Its name is on the path. */
static bool walk_field(struct analyzer *a, const json_t *json)
{
	struct described f = { .type = json_string_value(json_object_get(json, "type")),
			       .count = 1,
			       .has_size = json_object_get(json, "size") != NULL,
			       .has_index = json_object_get(json, "index") != NULL,
			       .is_array = json_object_get(json, "array_len") != NULL };

	if (!f.type)
		return bad_description(a, "no type, expected one");
	if (!take_number(a, json, "size", 0, &f.size) ||
	    !take_number(a, json, "index", 0, &f.index) ||
	    !take_number(a, json, "array_len", 1, &f.count))
		return false;
	if (strcmp(f.type, "struct") != 0)
		return walk_value(a, &f);
	f.nested = json_object_get(json, "struct");
	return walk_structs(a, &f);
}

static bool walk_fields(struct analyzer *a, const json_t *desc)
{
	const json_t *fields = json_object_get(desc, "fields"), *field;
	size_t i;

	if (!json_is_array(fields))
		return bad_description(a, "no array 'fields', expected one");
	json_array_foreach((json_t *)fields, i, field)
	{
		const char *name = json_string_value(json_object_get(field, "name"));
		size_t mark;
		bool ok;

		if (!name)
			return bad_description(a, "a field without a name, expected one");
		if (!analyze_path_enter(a, &mark, "%s%s", a->path_len ? "." : "", name))
			return false;
		ok = walk_field(a, field);
		analyze_path_leave(a, mark);
		if (!ok)
			return false;
	}
	return true;
}

bool analyze_subsection_head(struct analyzer *a, char name[static STREAM_NAME_MAX + 1],
			     uint32_t *version)
{
	return analyze_take_name(a, "a subsection", name) && analyze_take_u32(a, version);
}

static bool walk_subsection(struct analyzer *a, const json_t *desc)
{
	const char *expected = json_string_value(json_object_get(desc, "vmsd_name"));
	const json_t *json_version = json_object_get(desc, "version");
	uint64_t offset = analyze_position(a);
	char name[STREAM_NAME_MAX + 1];
	uint32_t version;
	uint8_t type;
	size_t mark;
	bool ok;

	if (!expected)
		return bad_description(a, "a subsection without vmsd_name, expected one");
	if (!analyze_take_u8(a, &type))
		return false;
	if (type != SECTION_SUBSECTION)
		return analyze_fail(a, offset, "%s: byte 0x%02x, expected 0x%02x, subsection '%s'",
				    a->section.name, type, SECTION_SUBSECTION, expected);
	if (!analyze_subsection_head(a, name, &version))
		return false;
	if (strcmp(name, expected) != 0)
		return analyze_fail(a, offset, "%s: subsection '%s', expected '%s'",
				    a->section.name, name, expected);
	if (json_is_integer(json_version) && json_integer_value(json_version) != version)
		return analyze_fail(a, offset,
				    "%s: subsection '%s' has version %u, expected %lld by the "
				    "VMDESCRIPTION",
				    a->section.name, name, version,
				    (long long)json_integer_value(json_version));
	if (!analyze_path_enter(a, &mark, "(%s)", name))
		return false;
	ok = analyze_described(a, desc);
	analyze_path_leave(a, mark);
	return ok;
}

bool analyze_described(struct analyzer *a, const json_t *desc)
{
	const json_t *subsections = json_object_get(desc, "subsections"), *sub;
	size_t i;
	bool ok;

	if (a->depth == DEPTH_MAX)
		return bad_description(a, "too deeply nested, expected 32 levels or less");
	a->depth++;
	ok = walk_fields(a, desc);
	json_array_foreach((json_t *)subsections, i, sub)
	{
		if (!ok)
			break;
		ok = walk_subsection(a, sub);
	}
	a->depth--;
	return ok;
}
