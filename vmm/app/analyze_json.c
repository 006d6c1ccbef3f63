/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For a program: one JSON document, written as the walk goes on. docs/ferry.1 has its keys.
 *
 * The writer below knows how deep it is and whether a comma is due, and can close what is open at any time, so that a stream
 * that breaks off still gives a document. Integers of 64 bits are strings: many readers of JSON keep 53 bits.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "migration/stream/protocol.h"
#include "vmm/app/analyze_print.h"
#include "vmm/base/cleanup.h"

#define DEPTH_MAX 8

struct json_printer {
	FILE *to;
	bool pages; /* of a section are shown */
	char close[DEPTH_MAX];
	unsigned int depth;
	bool comma;
	const char *
		list; /* the section's list that is open: "fields", "blocks", "pages", "chunks"; or NULL */
};

/* --- the writer --- */

static void put_string(FILE *to, const char *text)
{
	fputc('"', to);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			fprintf(to, "\\u%04x", c);
		else
			fputc(c, to);
	}
	fputc('"', to);
}

/* What comes next is a member, or with a NULL key an element, on a line of its own where it is one of a list of sections or of
 * a section's list. */
static void put_key(struct json_printer *p, const char *key)
{
	if (p->comma)
		fputc(',', p->to);
	if (!key && p->depth <= 4)
		fprintf(p->to, "\n%*s", (int)p->depth, "");
	else if (p->comma)
		fputc(' ', p->to);
	if (key) {
		put_string(p->to, key);
		fputs(": ", p->to);
	}
	p->comma = true;
}

static void put_open(struct json_printer *p, const char *key, char bracket)
{
	put_key(p, key);
	fputc(bracket, p->to);
	p->close[p->depth++] = bracket == '{' ? '}' : ']';
	p->comma = false;
}

static void put_close(struct json_printer *p)
{
	fputc(p->close[--p->depth], p->to);
	p->comma = true;
}

static void put_text(struct json_printer *p, const char *key, const char *text)
{
	put_key(p, key);
	put_string(p->to, text);
}

static void put_number(struct json_printer *p, const char *key, uint64_t number)
{
	put_key(p, key);
	fprintf(p->to, "%" PRIu64, number);
}

static void put_hex(struct json_printer *p, const char *key, const uint8_t *data, size_t len)
{
	put_key(p, key);
	fputc('"', p->to);
	for (size_t i = 0; i < len; i++)
		fprintf(p->to, "%02x", data[i]);
	fputc('"', p->to);
}

/* Elements of a section come in lists by kind: the one that is open is changed for another. */
static void put_list(struct json_printer *p, const char *list)
{
	if (p->list == list)
		return;
	if (p->list)
		put_close(p);
	p->list = list;
	if (list)
		put_open(p, list, '[');
}

/* --- sections --- */

static const char list_fields[] = "fields", list_blocks[] = "blocks", list_pages[] = "pages",
		  list_chunks[] = "chunks";

static void *json_start(FILE *to, const char *file, bool pages)
{
	struct json_printer *p = xcalloc(1, sizeof(*p));

	p->to = to;
	p->pages = pages;
	fputc('{', to);
	p->close[p->depth++] = '}';
	put_text(p, "file", file);
	put_open(p, "sections", '[');
	return p;
}

static const char *type_name(uint8_t type)
{
	static const char *const names[] = {
		[SECTION_EOF] = "eof",
		[SECTION_START] = "start",
		[SECTION_PART] = "part",
		[SECTION_END] = "end",
		[SECTION_FULL] = "full",
		[SECTION_SUBSECTION] = "subsection",
		[SECTION_VMDESCRIPTION] = "vmdescription",
		[SECTION_CONFIGURATION] = "configuration",
		[SECTION_COMMAND] = "command",
	};

	return names[type];
}

static void json_begin(void *opaque, const struct analyze_section *s)
{
	struct json_printer *p = opaque;

	put_open(p, NULL, '{');
	put_text(p, "type", type_name(s->type));
	put_number(p, "offset", s->offset);
	if (s->is_named) {
		put_text(p, "name", s->name);
		put_number(p, "instance", s->instance_id);
		put_number(p, "id", s->section_id);
		put_number(p, "version", s->version_id);
	}
	if (s->type == SECTION_COMMAND) {
		put_number(p, "command", s->command);
		if (analyze_command_name(s->command))
			put_text(p, "name", analyze_command_name(s->command));
		put_hex(p, "data", s->data, s->data_len);
	}
}

static void put_pages(struct json_printer *p, const struct analyze_pages *pages)
{
	put_number(p, "normal", pages->normal);
	put_number(p, "zero", pages->zero);
	put_number(p, "xbzrle", pages->xbzrle);
	put_number(p, "xbzrle_bytes", pages->xbzrle_bytes);
	put_number(p, "bytes", pages->bytes);
}

static void put_offers(struct json_printer *p, uint64_t offers)
{
	char other[16];

	put_open(p, "offers", '[');
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(offers >> bit & 1))
			continue;
		snprintf(other, sizeof(other), "bit %u", bit);
		if (p->comma)
			fputs(", ", p->to);
		put_string(p->to, analyze_offer_name(bit) ? analyze_offer_name(bit) : other);
		p->comma = true;
	}
	put_close(p);
}

static void json_end(void *opaque, const struct analyze_section *s)
{
	struct json_printer *p = opaque;

	put_list(p, NULL);
	if (s->type == SECTION_CONFIGURATION) {
		put_text(p, "machine", s->machine);
		if (s->has_offers)
			put_offers(p, s->offers);
	}
	if (s->is_ram)
		put_pages(p, &s->pages);
	if (s->is_bitmaps) {
		put_number(p, "with_bits", s->chunks);
		put_number(p, "zeroes", s->zeroes);
	}
	put_number(p, "size", s->size);
	put_key(p, "complete");
	fputs(s->complete ? "true" : "false", p->to);
	put_close(p);
}

static void json_block(void *opaque, const struct analyze_block *block)
{
	struct json_printer *p = opaque;

	put_list(p, list_blocks);
	put_open(p, NULL, '{');
	put_text(p, "name", block->name);
	put_number(p, "offset", block->offset);
	put_number(p, "size", block->size_bytes);
	if (block->page_size)
		put_number(p, "page_size", block->page_size);
	put_close(p);
}

static void json_page(void *opaque, const struct analyze_page *page)
{
	struct json_printer *p = opaque;

	put_list(p, list_pages);
	put_open(p, NULL, '{');
	put_text(p, "kind", analyze_page_name(page->flag));
	put_text(p, "block", page->block->name);
	put_number(p, "address", page->address);
	put_number(p, "offset", page->offset);
	put_number(p, "bytes", page->bytes);
	put_close(p);
}

static void put_bitmap(struct json_printer *p, const struct analyze_bitmap *bitmap)
{
	put_text(p, "node", bitmap->node);
	put_text(p, "name", bitmap->name);
}

static void put_flag(struct json_printer *p, const char *key, bool value)
{
	put_key(p, key);
	fputs(value ? "true" : "false", p->to);
}

static void put_kind_of_bitmap(struct json_printer *p, const struct analyze_bitmap *bitmap)
{
	put_number(p, "granularity", bitmap->granularity);
	put_flag(p, "enabled", bitmap->enabled);
	put_flag(p, "persistent", bitmap->persistent);
}

static void json_chunk(void *opaque, const struct analyze_chunk *chunk)
{
	struct json_printer *p = opaque;

	put_list(p, list_chunks);
	put_open(p, NULL, '{');
	put_text(p, "kind", analyze_chunk_name(chunk->kind));
	put_bitmap(p, chunk->bitmap);
	if (chunk->kind == ANALYZE_CHUNK_START)
		put_kind_of_bitmap(p, chunk->bitmap);
	if (chunk->bits) {
		put_number(p, "start", chunk->start);
		put_number(p, "length", chunk->length);
		put_number(p, "bits", chunk->bits);
		put_number(p, "dirty", chunk->dirty);
	}
	put_number(p, "offset", chunk->offset);
	put_number(p, "bytes", chunk->bytes);
	put_close(p);
}

/* --- fields --- */

static void put_value(struct json_printer *p, const struct analyze_field *field, size_t i)
{
	switch (field->kind) {
	case ANALYZE_BOOL:
		fputs(field->data[i] ? "true" : "false", p->to);
		break;
	case ANALYZE_INT:
		fprintf(p->to, field->size == 8 ? "\"%" PRId64 "\"" : "%" PRId64,
			analyze_int(field, i));
		break;
	case ANALYZE_UINT:
		fprintf(p->to, field->size == 8 ? "\"0x%" PRIx64 "\"" : "%" PRIu64,
			analyze_uint(field, i));
		break;
	default:
		fputs("null", p->to);
	}
}

static void put_values(struct json_printer *p, const struct analyze_field *field)
{
	size_t n = field->have / field->size;

	put_open(p, "value", '[');
	for (size_t i = 0; i < n; i++) {
		if (i)
			fputs(", ", p->to);
		put_value(p, field, i);
	}
	put_close(p);
}

static void json_field(void *opaque, const struct analyze_field *field)
{
	struct json_printer *p = opaque;

	put_list(p, list_fields);
	put_open(p, NULL, '{');
	put_text(p, "path", field->path);
	put_text(p, "type", field->type);
	put_number(p, "offset", field->offset);
	put_number(p, "size", field->size);
	if (field->is_array)
		put_number(p, "count", field->count);
	if (field->kind == ANALYZE_BYTES) {
		put_hex(p, "value", field->data, field->have);
	} else if (field->is_array) {
		put_values(p, field);
	} else {
		put_key(p, "value");
		put_value(p, field, 0);
	}
	if (field->have < field->size * field->count) {
		put_key(p, "cut");
		fputs("true", p->to);
	}
	put_close(p);
}

static struct analyze_visitor json_visitor(void *printer)
{
	return (struct analyze_visitor){ .opaque = printer,
					 .begin = json_begin,
					 .block = json_block,
					 .page = json_page,
					 .chunk = json_chunk,
					 .field = json_field,
					 .end = json_end };
}

/* --- the end --- */

static void put_ram(struct json_printer *p, const struct analyze_result *result)
{
	struct analyze_pages total = analyze_total(result);

	put_open(p, "ram", '{');
	put_number(p, "page_size", result->page_size);
	put_number(p, "parts", result->ram_parts);
	put_pages(p, &total);
	put_open(p, "blocks", '[');
	for (unsigned int i = 0; i < result->nblocks; i++) {
		put_open(p, NULL, '{');
		put_text(p, "name", result->blocks[i].name);
		put_number(p, "size", result->blocks[i].size_bytes);
		put_pages(p, &result->blocks[i].pages);
		put_close(p);
	}
	put_close(p);
	put_close(p);
}

static void put_bitmaps(struct json_printer *p, const struct analyze_result *result)
{
	put_open(p, "dirty_bitmaps", '[');
	for (unsigned int i = 0; i < result->nbitmaps; i++) {
		const struct analyze_bitmap *bm = &result->bitmaps[i];

		put_open(p, NULL, '{');
		put_bitmap(p, bm);
		put_kind_of_bitmap(p, bm);
		put_flag(p, "complete", bm->complete);
		put_number(p, "length", bm->covered);
		put_number(p, "with_bits", bm->chunks);
		put_number(p, "zeroes", bm->zeroes);
		put_number(p, "bytes", bm->bytes);
		put_close(p);
	}
	put_close(p);
}

static void json_finish(void *printer, const struct analyze_result *result, bool ram, bool bitmaps,
			const struct error *err)
{
	struct json_printer *p = printer;

	while (p->depth > 1)
		put_close(p);
	put_number(p, "bytes", result->bytes);
	if (ram)
		put_ram(p, result);
	if (bitmaps && result->nbitmaps)
		put_bitmaps(p, result);
	if (err) {
		put_open(p, "error", '{');
		put_number(p, "offset", result->error_offset);
		put_text(p, "message", error_msg(err));
		put_close(p);
	}
	put_close(p);
	fputc('\n', p->to);
	free(p);
}

const struct analyze_form analyze_form_json = {
	.start = json_start,
	.visitor = json_visitor,
	.finish = json_finish,
};
