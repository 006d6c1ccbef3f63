/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frame. See analyze.h. */
#include "migration/analyze.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>

#include "migration/analyze_parts.h"
#include "migration/bitmaps/format.h"
#include "migration/stream/protocol.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

#define PAGE_SIZE_MIN 1024u

/* --- errors and reading --- */

bool analyze_fail(struct analyzer *a, uint64_t offset, const char *fmt, ...)
{
	scoped_free char *text = NULL;
	va_list ap;

	if (a->err)
		return false;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	/* Names in it are the stream's: they must not reach a terminal as they are. */
	for (char *c = text; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
	a->result->error_offset = offset;
	error_set(&a->err, "offset 0x%" PRIx64 ": %s", offset, text);
	return false;
}

static const char *type_name(uint8_t type)
{
	static const char *const names[] = {
		[SECTION_EOF] = "EOF",
		[SECTION_START] = "START",
		[SECTION_PART] = "PART",
		[SECTION_END] = "END",
		[SECTION_FULL] = "FULL",
		[SECTION_VMDESCRIPTION] = "VMDESCRIPTION",
		[SECTION_CONFIGURATION] = "CONFIGURATION",
		[SECTION_COMMAND] = "COMMAND",
	};

	return type < ARRAY_SIZE(names) && names[type] ? names[type] : "the file header";
}

const char *analyze_section_text(struct analyzer *a)
{
	/* The fields' data is not in use when something is said. */
	char *text = (char *)a->data;

	if (a->section.is_named)
		snprintf(text, ANALYZE_DATA_MAX, "section '%s' instance %u", a->section.name,
			 a->section.instance_id);
	else
		snprintf(text, ANALYZE_DATA_MAX, "%s", type_name(a->section.type));
	return text;
}

/* A read has failed: the stream has ended, or cannot be read. */
static bool read_failed(struct analyzer *a)
{
	scoped_error err = NULL;

	if (stream_in_ended(a->in))
		return analyze_fail(a, analyze_position(a) + stream_in_buffered(a->in),
				    "the stream ends within %s", analyze_section_text(a));
	stream_in_take_error(a->in, &err);
	return analyze_fail(a, analyze_position(a), "%s", error_msg(err));
}

bool analyze_take(struct analyzer *a, void *dst, size_t len)
{
	get_bytes(a->in, dst, len);
	return stream_in_ok(a->in) || read_failed(a);
}

bool analyze_skip(struct analyzer *a, uint64_t len)
{
	skip_bytes(a->in, len);
	return stream_in_ok(a->in) || read_failed(a);
}

bool analyze_take_u8(struct analyzer *a, uint8_t *value)
{
	return analyze_take(a, value, 1);
}

bool analyze_take_u16(struct analyzer *a, uint16_t *value)
{
	*value = get_u16(a->in);
	return stream_in_ok(a->in) || read_failed(a);
}

bool analyze_take_u32(struct analyzer *a, uint32_t *value)
{
	*value = get_u32(a->in);
	return stream_in_ok(a->in) || read_failed(a);
}

bool analyze_take_u64(struct analyzer *a, uint64_t *value)
{
	*value = get_u64(a->in);
	return stream_in_ok(a->in) || read_failed(a);
}

static bool take_name(struct analyzer *a, const char *what, unsigned int max, char *name)
{
	uint64_t offset = analyze_position(a);
	uint8_t len;

	name[0] = '\0';
	if (!analyze_take_u8(a, &len))
		return false;
	if (len == 0 || len > max)
		return analyze_fail(a, offset, "%s: the name of %s has %u bytes, expected 1 to %u",
				    analyze_section_text(a), what, len, max);
	if (!analyze_take(a, name, len))
		return false;
	name[len] = '\0';
	if (strlen(name) == len)
		return true;
	return analyze_fail(a, offset,
			    "%s: the name of %s has a NUL inside, expected %u characters",
			    analyze_section_text(a), what, len);
}

bool analyze_take_name(struct analyzer *a, const char *what, char name[static STREAM_NAME_MAX + 1])
{
	return take_name(a, what, STREAM_NAME_MAX, name);
}

bool analyze_take_long_name(struct analyzer *a, const char *what,
			    char name[static ANALYZE_LONG_NAME_MAX + 1])
{
	return take_name(a, what, ANALYZE_LONG_NAME_MAX, name);
}

/* --- sections --- */

static void section_begin(struct analyzer *a)
{
	a->open = true;
	if (a->v->begin)
		a->v->begin(a->v->opaque, &a->section);
}

static void section_end(struct analyzer *a, bool complete)
{
	if (!a->open)
		return;
	a->open = false;
	a->section.complete = complete;
	a->section.size = analyze_position(a) - a->section.offset;
	if (a->v->end)
		a->v->end(a->v->opaque, &a->section);
}

static bool walk_footer(struct analyzer *a)
{
	uint64_t offset = analyze_position(a);
	uint8_t type;
	uint32_t id;

	if (!analyze_take_u8(a, &type) || !analyze_take_u32(a, &id))
		return false;
	if (type == SECTION_FOOTER && id == a->section.section_id)
		return true;
	return analyze_fail(a, offset,
			    "%s: byte 0x%02x and id %u at its end, expected a footer 0x%02x and "
			    "id %u",
			    analyze_section_text(a), type, id, SECTION_FOOTER,
			    a->section.section_id);
}

/* The description of the section; NULL with the reason why there is none. */
static const json_t *device_description(struct analyzer *a)
{
	const struct analyze_section *s = &a->section;
	scoped_free char *key = xasprintf("%u %s", s->instance_id, s->name);
	const json_t *device = json_object_get(a->desc->devices, key);
	const json_t *version = json_object_get(device, "version");

	if (!a->desc->json) {
		analyze_fail(a, s->offset,
			     "%s: only a VMDESCRIPTION tells its length, but the VMDESCRIPTION %s",
			     analyze_section_text(a), a->desc->why);
	} else if (!device) {
		analyze_fail(a, s->offset, "%s: not in the VMDESCRIPTION, which tells its length",
			     analyze_section_text(a));
	} else if (json_is_integer(version) && json_integer_value(version) != s->version_id) {
		analyze_fail(a, s->offset, "%s: version %u, expected %lld by the VMDESCRIPTION",
			     analyze_section_text(a), s->version_id,
			     (long long)json_integer_value(version));
	} else {
		return device;
	}
	return NULL;
}

static bool walk_device(struct analyzer *a)
{
	const json_t *device = device_description(a);

	return device && analyze_described(a, device) && walk_footer(a);
}

static const struct {
	const char *name;
	uint32_t version;
	bool (*walk)(struct analyzer *a);
} iterables[ANALYZE_ITERABLES] = {
	[ANALYZE_RAM] = { "ram", RAM_SECTION_VERSION, analyze_ram },
	[ANALYZE_BITMAPS] = { BITMAP_SECTION_NAME, BITMAP_SECTION_VERSION, analyze_bitmaps },
};

/* The open one of that id; NULL with an error. */
static struct analyze_iterable *find_iterable(struct analyzer *a)
{
	const struct analyze_section *s = &a->section;

	for (unsigned int i = 0; i < ANALYZE_ITERABLES; i++) {
		struct analyze_iterable *it = &a->iterables[i];

		if (!it->started || it->section_id != s->section_id)
			continue;
		if (!it->ended)
			return it;
		analyze_fail(a, s->offset, "%s of section %u, which has ended", type_name(s->type),
			     s->section_id);
	}
	analyze_fail(a, s->offset, "%s of section %u, which no START of 'ram' or '%s' names",
		     type_name(s->type), s->section_id, BITMAP_SECTION_NAME);
	return NULL;
}

/* What the visitor is told of the section before it begins. */
static void note_iterable(struct analyzer *a, unsigned int i)
{
	struct analyze_section *s = &a->section;

	strcpy(s->name, iterables[i].name);
	s->is_named = true;
	s->is_ram = i == ANALYZE_RAM;
	s->is_bitmaps = i == ANALYZE_BITMAPS;
}

static bool start_iterable(struct analyzer *a, unsigned int i)
{
	struct analyze_iterable *it = &a->iterables[i];
	const struct analyze_section *s = &a->section;

	if (it->started)
		return analyze_fail(a, s->offset, "a second START of '%s', expected one",
				    iterables[i].name);
	if (s->version_id != iterables[i].version)
		return analyze_fail(a, s->offset, "%s: version %u, expected %u",
				    analyze_section_text(a), s->version_id, iterables[i].version);
	for (unsigned int k = 0; k < ANALYZE_ITERABLES; k++)
		if (a->iterables[k].started && !a->iterables[k].ended &&
		    a->iterables[k].section_id == s->section_id)
			return analyze_fail(
				a, s->offset, "%s: id %u, expected another than that of '%s'",
				analyze_section_text(a), s->section_id, iterables[k].name);
	*it = (struct analyze_iterable){ .started = true, .section_id = s->section_id };
	return iterables[i].walk(a) && walk_footer(a);
}

/* START and FULL carry a name. */
static bool walk_named(struct analyzer *a)
{
	struct analyze_section *s = &a->section;
	unsigned int i = 0;

	if (!analyze_take_u32(a, &s->section_id) || !analyze_take_name(a, "a section", s->name))
		return false;
	s->is_named = true;
	if (!analyze_take_u32(a, &s->instance_id) || !analyze_take_u32(a, &s->version_id))
		return false;
	while (i < ANALYZE_ITERABLES && (s->type != SECTION_START || s->instance_id ||
					 strcmp(s->name, iterables[i].name) != 0))
		i++;
	if (i < ANALYZE_ITERABLES)
		note_iterable(a, i);
	section_begin(a);
	return i < ANALYZE_ITERABLES ? start_iterable(a, i) : walk_device(a);
}

/* PART and END carry the id that a START has introduced. */
static bool walk_more(struct analyzer *a)
{
	struct analyze_section *s = &a->section;
	struct analyze_iterable *it;
	unsigned int i;

	if (!analyze_take_u32(a, &s->section_id))
		return false;
	it = find_iterable(a);
	if (!it)
		return false;
	i = (unsigned int)(it - a->iterables);
	note_iterable(a, i);
	s->version_id = iterables[i].version;
	section_begin(a);
	it->ended = s->type == SECTION_END;
	a->result->ram_parts += s->is_ram && s->type == SECTION_PART;
	return iterables[i].walk(a) && walk_footer(a);
}

static bool walk_command(struct analyzer *a)
{
	struct analyze_section *s = &a->section;

	if (!analyze_take_u16(a, &s->command) || !analyze_take_u16(a, &s->data_len) ||
	    !analyze_take(a, a->data, s->data_len))
		return false;
	s->data = a->data;
	section_begin(a);
	return true;
}

static bool walk_configuration(struct analyzer *a)
{
	strcpy(a->section.name, "configuration");
	section_begin(a);
	return analyze_configuration(a);
}

static bool walk_eof(struct analyzer *a)
{
	section_begin(a);
	return true;
}

static bool walk_description(struct analyzer *a)
{
	const struct analyze_section *s = &a->section;
	uint32_t len;

	section_begin(a);
	if (!analyze_take_u32(a, &len) || !analyze_skip(a, len))
		return false;
	if (a->desc->found && !a->desc->json)
		return analyze_fail(a, a->desc->offset, "the VMDESCRIPTION %s", a->desc->why);
	if (a->desc->found && a->desc->offset != s->offset)
		return analyze_fail(a, s->offset,
				    "a VMDESCRIPTION, but the file's end has one at 0x%" PRIx64,
				    a->desc->offset);
	return true;
}

/* --- the whole --- */

enum place { AT_START, IN_SECTIONS, BEHIND_EOF, AT_END };

/* What may stand where, and where one is behind it. */
static const struct row {
	uint8_t type;
	enum place from, to, then; /* allowed from .. to; afterwards at least at `then` */
	bool (*walk)(struct analyzer *a);
} rows[] = {
	{ SECTION_CONFIGURATION, AT_START, AT_START, IN_SECTIONS, walk_configuration },
	{ SECTION_START, AT_START, IN_SECTIONS, IN_SECTIONS, walk_named },
	{ SECTION_PART, AT_START, IN_SECTIONS, IN_SECTIONS, walk_more },
	{ SECTION_END, AT_START, IN_SECTIONS, IN_SECTIONS, walk_more },
	{ SECTION_FULL, AT_START, IN_SECTIONS, IN_SECTIONS, walk_named },
	{ SECTION_COMMAND, AT_START, BEHIND_EOF, IN_SECTIONS, walk_command },
	{ SECTION_EOF, AT_START, IN_SECTIONS, BEHIND_EOF, walk_eof },
	{ SECTION_VMDESCRIPTION, BEHIND_EOF, BEHIND_EOF, AT_END, walk_description },
};

static const struct row *row_of(uint8_t type, enum place place)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].type == type && place >= rows[i].from && place <= rows[i].to)
			return &rows[i];
	return NULL;
}

static bool walk_header(struct analyzer *a)
{
	uint32_t magic, version;

	a->section = (struct analyze_section){ .type = SECTION_SUBSECTION };
	if (!analyze_take_u32(a, &magic))
		return false;
	if (magic != STREAM_MAGIC)
		return analyze_fail(a, 0,
				    "not a migration stream: it begins with 0x%08x, expected "
				    "0x%08x",
				    magic, STREAM_MAGIC);
	if (!analyze_take_u32(a, &version))
		return false;
	return version == STREAM_VERSION ||
	       analyze_fail(a, 4, "stream version %u, expected %u", version, STREAM_VERSION);
}

/* At a type byte. */
static bool walk_next(struct analyzer *a, enum place *place)
{
	static const char *const expected[] = {
		[AT_START] = "CONFIGURATION or a section",
		[IN_SECTIONS] = "a section, a command or EOF",
		[BEHIND_EOF] = "a command, a VMDESCRIPTION or the end",
		[AT_END] = "the end",
	};
	uint64_t offset = analyze_position(a);
	const struct row *row;
	uint8_t type;
	bool ok;

	if (stream_in_at_end(a->in) && stream_in_ok(a->in))
		return analyze_fail(a, offset, "the stream ends, expected %s", expected[*place]);
	if (!analyze_take_u8(a, &type))
		return false;
	row = row_of(type, *place);
	if (!row)
		return analyze_fail(a, offset, "section type 0x%02x, expected %s", type,
				    expected[*place]);
	a->section = (struct analyze_section){ .type = type, .offset = offset };
	ok = row->walk(a);
	section_end(a, ok);
	*place = MAX_OF(*place, row->then);
	return ok;
}

static bool walk(struct analyzer *a)
{
	enum place place = AT_START;

	if (!walk_header(a))
		return false;
	while (place < BEHIND_EOF || !stream_in_at_end(a->in))
		if (!walk_next(a, &place))
			return false;
	return stream_in_ok(a->in) || read_failed(a);
}

/* The page size of the guest's architecture is told by the description alone. */
static bool take_page_size(struct analyzer *a)
{
	const json_t *json = json_object_get(a->desc->json, "page_size");
	json_int_t size = json ? json_integer_value(json) : RAM_PAGE_SIZE;

	if (size < PAGE_SIZE_MIN || size > ANALYZE_PAGE_SIZE_MAX || size & (size - 1))
		return analyze_fail(a, a->desc->offset,
				    "VMDESCRIPTION: page_size %lld, expected a power of two from "
				    "%u to %u",
				    (long long)size, PAGE_SIZE_MIN, ANALYZE_PAGE_SIZE_MAX);
	a->result->page_size = (uint32_t)size;
	return true;
}

bool analyze_stream(struct stream_in *in, const struct analyze_description *d,
		    const struct analyze_visitor *visitor, struct analyze_result *result,
		    struct error **errp)
{
	struct analyzer *a = xcalloc(1, sizeof(*a));
	bool ok;

	memset(result, 0, sizeof(*result));
	result->page_size = RAM_PAGE_SIZE;
	a->in = in;
	a->desc = d;
	a->v = visitor;
	a->result = result;
	a->limit = d->found ? d->offset : UINT64_MAX;
	a->data = xcalloc(1, ANALYZE_DATA_MAX);
	ok = take_page_size(a) && walk(a);
	result->bytes = analyze_position(a);
	error_propagate(errp, a->err);
	free(a->data);
	free(a);
	return ok;
}
