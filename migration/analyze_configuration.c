/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CONFIGURATION, by its description; or, where that is missing, as docs/stream-format.md says that ferry writes it, so that the
 * memory behind it can be reached in a file that was cut.
 */
#include <string.h>

#include "migration/analyze_parts.h"
#include "migration/stream/protocol.h"
#include "vmm/base/cleanup.h"

/* Fields of CONFIGURATION's subsections. counted: as many as the number read just before says. */
struct known_field {
	const char *name;
	const char *type;
	enum analyze_kind kind;
	unsigned int size;
	bool counted;
	const char *const *members; /* of a struct of uint32; NULL: a value */
};

static const char *const cpuid_members[] = { "function", "index", "flags", "eax",
					     "ebx",	 "ecx",	  "edx",   NULL };

static const struct known_field offers[] = {
	{ "offers", "uint64", ANALYZE_UINT, 8, false, NULL },
	{ 0 },
};
static const struct known_field devicetree[] = {
	{ "fdt_bytes", "uint32", ANALYZE_UINT, 4, false, NULL },
	{ "fdt", "buffer", ANALYZE_BYTES, 1, true, NULL },
	{ 0 },
};
static const struct known_field cpu[] = {
	{ "ncpuid", "uint32", ANALYZE_UINT, 4, false, NULL },
	{ "cpuid", "struct", ANALYZE_UINT, 4, true, cpuid_members },
	{ "nmsrs", "uint32", ANALYZE_UINT, 4, false, NULL },
	{ "msrs", "uint32", ANALYZE_UINT, 4, true, NULL },
	{ "tsc_khz", "uint32", ANALYZE_UINT, 4, false, NULL },
	{ 0 },
};

static const struct {
	const char *name;
	const struct known_field *fields;
} known[] = {
	{ "configuration/offers", offers },
	{ "configuration/devicetree", devicetree },
	{ "configuration/cpu", cpu },
};
#define KNOWN_VERSION 1

void analyze_configuration_field(struct analyzer *a, const struct analyze_field *field)
{
	struct analyze_section *s = &a->section;

	if (s->type != SECTION_CONFIGURATION)
		return;
	if (strcmp(field->path, "name") == 0 && field->kind == ANALYZE_BYTES) {
		size_t len = MIN_OF(field->have, (size_t)STREAM_NAME_MAX);

		memcpy(s->machine, field->data, len);
		s->machine[len] = '\0';
	} else if (strcmp(field->path, "(configuration/offers).offers") == 0 &&
		   field->kind == ANALYZE_UINT) {
		s->has_offers = true;
		s->offers = analyze_uint(field, 0);
	}
}

static bool known_value(struct analyzer *a, const struct known_field *f, uint64_t *last)
{
	struct analyze_layout layout = { f->type, f->kind, f->counted, f->size,
					 f->counted ? *last : 1 };

	if (f->kind == ANALYZE_BYTES) { /* one of n bytes */
		layout.is_array = false;
		layout.size = layout.count;
		layout.count = 1;
	}
	return (f->counted && !*last) || analyze_one_field(a, &layout, last);
}

static bool known_structs(struct analyzer *a, const struct known_field *f, uint64_t n)
{
	struct analyze_layout layout = { "uint32", f->kind, false, f->size, 1 };

	for (uint64_t i = 0; i < n; i++) {
		for (const char *const *m = f->members; *m; m++) {
			size_t mark;
			bool ok;

			if (!analyze_path_enter(a, &mark, "[%llu].%s", (unsigned long long)i, *m))
				return false;
			ok = analyze_one_field(a, &layout, NULL);
			analyze_path_leave(a, mark);
			if (!ok)
				return false;
		}
	}
	return true;
}

static bool known_fields(struct analyzer *a, const struct known_field *fields)
{
	uint64_t last = 0;

	for (const struct known_field *f = fields; f->name; f++) {
		size_t mark;
		bool ok;

		if (!analyze_path_enter(a, &mark, "%s%s", a->path_len ? "." : "", f->name))
			return false;
		ok = f->members ? known_structs(a, f, last) : known_value(a, f, &last);
		analyze_path_leave(a, mark);
		if (!ok)
			return false;
	}
	return true;
}

static bool known_subsection(struct analyzer *a)
{
	uint64_t offset = analyze_position(a);
	char name[STREAM_NAME_MAX + 1];
	uint32_t version;
	uint8_t type;

	if (!analyze_take_u8(a, &type) || !analyze_subsection_head(a, name, &version))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		size_t mark;
		bool ok;

		if (strcmp(known[i].name, name) != 0 || version != KNOWN_VERSION)
			continue;
		if (!analyze_path_enter(a, &mark, "(%s)", name))
			return false;
		ok = known_fields(a, known[i].fields);
		analyze_path_leave(a, mark);
		return ok;
	}
	return analyze_fail(a, offset,
			    "configuration: subsection '%s' version %u: only a VMDESCRIPTION tells "
			    "its length, but the VMDESCRIPTION %s",
			    name, version, a->desc->json ? "has no 'configuration'" : a->desc->why);
}

static bool without_description(struct analyzer *a)
{
	static const struct known_field name[] = {
		{ "name_bytes", "uint32", ANALYZE_UINT, 4, false, NULL },
		{ "name", "buffer", ANALYZE_BYTES, 1, true, NULL },
		{ 0 },
	};
	uint64_t offset = analyze_position(a);
	const uint8_t *p = peek_bytes(a->in, 4);

	if (p && (p[0] || p[1] || p[2] || p[3] > STREAM_NAME_MAX))
		return analyze_fail(a, offset,
				    "configuration: the machine's name has 0x%02x%02x%02x%02x "
				    "bytes, expected at most %u",
				    p[0], p[1], p[2], p[3], STREAM_NAME_MAX);
	if (!known_fields(a, name))
		return false;
	while ((p = peek_bytes(a->in, 1)) && *p == SECTION_SUBSECTION)
		if (!known_subsection(a))
			return false;
	return true;
}

bool analyze_configuration(struct analyzer *a)
{
	const json_t *desc = json_object_get(a->desc->json, "configuration");

	return desc ? analyze_described(a, desc) : without_description(a);
}
