/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For a person: a line for each section, its fields below it, and a table of RAM.
 *
 * A section's line tells its size, which is known at its end: its fields are held back until then. Where that becomes too much the
 * line goes out without the size.
 */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "migration/stream/protocol.h"
#include "vmm/app/analyze_print.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/units.h"

#define HELD_MAX (1u << 20)
#define PATH_WIDTH 24
#define SHOWN_BYTES 16
#define SHOWN_VALUES 8
#define SHOWN_CHARACTERS 64

struct text_printer {
	FILE *to;
	const char *file;
	bool started; /* the first lines are out */
	FILE *body;   /* of the section; NULL: none, or its line is out */
	char *held;   /* what was written to body */
	size_t nheld;
	struct analyze_section section;
	char *row; /* owned: the struct whose members are being put on one line; NULL: no line is open */
};

static void *text_start(FILE *to, const char *file, bool pages)
{
	struct text_printer *p = xcalloc(1, sizeof(*p));

	(void)pages;
	p->to = to;
	p->file = file;
	return p;
}

/* Bytes of the stream, as text that acts on nothing. */
static void put_safe(FILE *to, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (isprint(c) && c < 0x80)
			fputc(c, to);
		else
			fprintf(to, "\\x%02x", c);
	}
}

static void put_safe_name(FILE *to, const char *name)
{
	put_safe(to, name, strlen(name));
}

static void put_hex(FILE *to, const uint8_t *data, size_t len, uint64_t of)
{
	size_t n = MIN_OF(len, (size_t)SHOWN_BYTES);

	for (size_t i = 0; i < n; i++)
		fprintf(to, "%s%02x", i ? " " : "", data[i]);
	if (of > n)
		fprintf(to, " ... (%" PRIu64 " bytes)", of);
}

/* --- a section's line --- */

static const char *kind_name(uint8_t type)
{
	static const char *const names[] = {
		[SECTION_EOF] = "EOF",
		[SECTION_START] = "START",
		[SECTION_PART] = "PART",
		[SECTION_END] = "END",
		[SECTION_FULL] = "FULL",
		[SECTION_SUBSECTION] = "SUBSECTION",
		[SECTION_VMDESCRIPTION] = "VMDESCRIPTION",
		[SECTION_CONFIGURATION] = "CONFIGURATION",
		[SECTION_COMMAND] = "COMMAND",
	};

	return names[type];
}

static void put_command(FILE *to, const struct analyze_section *s)
{
	const char *name = analyze_command_name(s->command);

	if (name)
		fputs(name, to);
	else
		fprintf(to, "0x%x", s->command);
	if (s->data_len)
		fputs("  ", to);
	put_hex(to, s->data, s->data_len, s->data_len);
}

static void put_configuration(FILE *to, const struct analyze_section *s)
{
	const char *comma = "";

	fputs("machine ", to);
	put_safe_name(to, s->machine);
	if (!s->has_offers)
		return;
	fputs(", offers ", to);
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(s->offers >> bit & 1))
			continue;
		if (analyze_offer_name(bit))
			fprintf(to, "%s%s", comma, analyze_offer_name(bit));
		else
			fprintf(to, "%sbit %u", comma, bit);
		comma = ", ";
	}
}

static void put_pages(FILE *to, const struct analyze_pages *pages)
{
	const uint64_t counts[] = { pages->normal, pages->zero, pages->xbzrle };
	const uint16_t flags[] = { RAM_FLAG_PAGE, RAM_FLAG_ZERO, RAM_FLAG_XBZRLE };
	const char *comma = "  ";

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		if (!counts[i])
			continue;
		fprintf(to, "%s%" PRIu64 " %s", comma, counts[i], analyze_page_name(flags[i]));
		comma = ", ";
	}
}

static void put_chunks(FILE *to, const struct analyze_section *s)
{
	if (s->chunks)
		fprintf(to, "  %" PRIu64 " with bits", s->chunks);
	if (s->zeroes)
		fprintf(to, "%s%" PRIu64 " zeroes", s->chunks ? ", " : "  ", s->zeroes);
}

/* size NULL: not known yet. */
static void put_line(struct text_printer *p, const struct analyze_section *s, const char *size)
{
	bool bare = s->type == SECTION_EOF || s->type == SECTION_VMDESCRIPTION;

	if (!p->started)
		fprintf(p->to, "%s: migration stream, version %u\n\n%-10s %10s  what\n", p->file,
			STREAM_VERSION, "offset", "size");
	p->started = true;
	fprintf(p->to, "0x%08" PRIx64 " %10s  %-*s", s->offset, size, bare ? 0 : 15,
		kind_name(s->type));
	if (s->is_named) {
		put_safe_name(p->to, s->name);
		fprintf(p->to, "[%u]  id %u", s->instance_id, s->section_id);
		if (s->type == SECTION_START || s->type == SECTION_FULL)
			fprintf(p->to, "  version %u", s->version_id);
	} else if (s->type == SECTION_COMMAND) {
		put_command(p->to, s);
	} else if (s->type == SECTION_CONFIGURATION) {
		put_configuration(p->to, s);
	}
	if (s->is_ram)
		put_pages(p->to, &s->pages);
	if (s->is_bitmaps)
		put_chunks(p->to, s);
	if (!s->complete && size[0] != '-')
		fputs("  DAMAGED", p->to);
	fputc('\n', p->to);
}

static void text_begin(void *opaque, const struct analyze_section *section)
{
	struct text_printer *p = opaque;

	p->section = *section;
	p->body = open_memstream(&p->held, &p->nheld);
	if (!p->body)
		abort();
}

static void drop_body(struct text_printer *p)
{
	fclose(p->body);
	fwrite(p->held, 1, p->nheld, p->to);
	free(p->held);
	p->body = NULL;
	p->held = NULL;
}

static FILE *out(struct text_printer *p)
{
	if (p->body)
		fflush(p->body); /* sets nheld */
	if (p->body && p->nheld < HELD_MAX)
		return p->body;
	if (p->body) {
		put_line(p, &p->section, "-");
		drop_body(p);
	}
	return p->to;
}

static void end_row(struct text_printer *p)
{
	if (!p->row)
		return;
	fputc('\n', out(p));
	free(p->row);
	p->row = NULL;
}

/* Where a new line of the section goes now. */
static FILE *new_line(struct text_printer *p)
{
	end_row(p);
	return out(p);
}

static void text_end(void *opaque, const struct analyze_section *section)
{
	struct text_printer *p = opaque;
	char size[UNITS_TEXT_MAX];

	end_row(p);
	if (!p->body) {
		fprintf(p->to, "    %s in all", format_size(section->size, size));
		if (section->is_ram)
			put_pages(p->to, &section->pages);
		if (section->is_bitmaps)
			put_chunks(p->to, section);
		fputs(section->complete ? "\n" : "  DAMAGED\n", p->to);
		return;
	}
	put_line(p, section, format_size(section->size, size));
	drop_body(p);
}

/* --- what is in it --- */

static void put_value(FILE *to, const struct analyze_field *field, size_t i)
{
	uint64_t value;

	switch (field->kind) {
	case ANALYZE_BOOL:
		fputs(field->data[i] ? "true" : "false", to);
		break;
	case ANALYZE_INT:
		fprintf(to, "%" PRId64, analyze_int(field, i));
		break;
	default:
		value = analyze_uint(field, i);
		fprintf(to, value < 10 ? "%" PRIu64 : "0x%" PRIx64, value);
	}
}

static void put_values(FILE *to, const struct analyze_field *field)
{
	size_t n = field->have / field->size, shown = MIN_OF(n, (size_t)SHOWN_VALUES);

	for (size_t i = 0; i < shown; i++) {
		if (i)
			fputc(' ', to);
		put_value(to, field, i);
	}
	if (field->count > shown)
		fprintf(to, " ... (%" PRIu64 " values)", field->count);
}

/* Characters, with NULs behind them at most. */
static bool is_text(const uint8_t *data, size_t len, size_t *characters)
{
	size_t n = 0;

	while (n < len && isprint(data[n]) && data[n] < 0x80)
		n++;
	*characters = n;
	while (n < len && !data[n])
		n++;
	return *characters && n == len;
}

static void put_bytes_field(FILE *to, const struct analyze_field *field)
{
	size_t characters;

	if (strcmp(field->type, "unused_buffer") == 0) {
		fprintf(to, "(%" PRIu64 " bytes, unused)", field->size * field->count);
	} else if (!field->have) {
		fputs("(no bytes)", to);
	} else if (is_text(field->data, field->have, &characters)) {
		fputc('"', to);
		put_safe(to, (const char *)field->data,
			 MIN_OF(characters, (size_t)SHOWN_CHARACTERS));
		fputs(characters > SHOWN_CHARACTERS ? "\"..." : "\"", to);
		if (field->size * field->count > characters)
			fprintf(to, " (%" PRIu64 " bytes)", field->size * field->count);
	} else {
		put_hex(to, field->data, field->have, field->size * field->count);
	}
}

static void put_field(FILE *to, const struct analyze_field *field)
{
	if (field->kind == ANALYZE_NULL)
		fputs("null", to);
	else if (field->kind == ANALYZE_BYTES)
		put_bytes_field(to, field);
	else
		put_values(to, field);
}

static void put_path(FILE *to, const char *path, size_t len)
{
	fputs("    ", to);
	put_safe(to, path, len);
	fprintf(to, "%*s = ", MAX_OF(0, PATH_WIDTH - (int)len), "");
}

/* The path of the array's element that a path leads through last: "segs[2]" of "segs[2].base"; 0: none. */
static size_t element_of(const char *path)
{
	const char *end = NULL;

	for (const char *c = path; (c = strstr(c, "].")); c++)
		end = c;
	return end ? (size_t)(end + 1 - path) : 0;
}

/* A line for each field, but members of an array's element share one. */
static void text_field(void *opaque, const struct analyze_field *field)
{
	struct text_printer *p = opaque;
	size_t len = element_of(field->path);
	FILE *to;

	if (!len) {
		to = new_line(p);
		put_path(to, field->path, strlen(field->path));
		put_field(to, field);
		fputc('\n', to);
		return;
	}
	if (p->row && strlen(p->row) == len && strncmp(p->row, field->path, len) == 0) {
		to = out(p);
		fputs(", ", to);
	} else {
		to = new_line(p);
		put_path(to, field->path, len);
		p->row = strndup(field->path, len);
		if (!p->row)
			abort();
	}
	put_safe_name(to, field->path + len + 1);
	fputc(' ', to);
	put_field(to, field);
}

static void text_block(void *opaque, const struct analyze_block *block)
{
	FILE *to = new_line(opaque);
	char size[UNITS_TEXT_MAX];

	fputs("    block ", to);
	put_safe_name(to, block->name);
	fprintf(to, ", %s", format_size(block->size_bytes, size));
	if (block->page_size)
		fprintf(to, " in pages of %s", format_size(block->page_size, size));
	fputc('\n', to);
}

static void text_page(void *opaque, const struct analyze_page *page)
{
	FILE *to = new_line(opaque);

	fprintf(to, "    0x%08" PRIx64 " %5" PRIu64 " B  %-6s ", page->offset, page->bytes,
		analyze_page_name(page->flag));
	put_safe_name(to, page->block->name);
	fprintf(to, " 0x%" PRIx64 "\n", page->address);
}

/* "disk0/backup", as wide as a column at least. */
static void put_bitmap_name(FILE *to, const struct analyze_bitmap *bitmap, int width)
{
	put_safe_name(to, bitmap->node);
	fputc('/', to);
	put_safe_name(to, bitmap->name);
	fprintf(to, "%*s",
		MAX_OF(0, width - 1 - (int)strlen(bitmap->node) - (int)strlen(bitmap->name)), "");
}

static void put_kind_of_bitmap(FILE *to, const struct analyze_bitmap *bitmap)
{
	fputs(bitmap->enabled ? "enabled" : "disabled", to);
	if (bitmap->persistent)
		fputs(", persistent", to);
}

static void text_chunk(void *opaque, const struct analyze_chunk *chunk)
{
	FILE *to = new_line(opaque);
	char size[UNITS_TEXT_MAX];

	fprintf(to, "    0x%08" PRIx64 " %5" PRIu64 " B  %-8s ", chunk->offset, chunk->bytes,
		analyze_chunk_name(chunk->kind));
	put_bitmap_name(to, chunk->bitmap, 0);
	if (chunk->kind == ANALYZE_CHUNK_START) {
		fprintf(to, "  granularity %s, ", format_size(chunk->bitmap->granularity, size));
		put_kind_of_bitmap(to, chunk->bitmap);
	}
	if (chunk->bits)
		fprintf(to, "  0x%" PRIx64 " + %s", chunk->start, format_size(chunk->length, size));
	if (chunk->kind == ANALYZE_CHUNK_BITS)
		fprintf(to, ", %" PRIu64 " of %" PRIu64 " dirty", chunk->dirty, chunk->bits);
	fputc('\n', to);
}

static struct analyze_visitor text_visitor(void *printer)
{
	return (struct analyze_visitor){ .opaque = printer,
					 .begin = text_begin,
					 .block = text_block,
					 .page = text_page,
					 .chunk = text_chunk,
					 .field = text_field,
					 .end = text_end };
}

/* --- the table --- */

static void put_row(FILE *to, const char *name, uint64_t size_bytes,
		    const struct analyze_pages *pages)
{
	char size[UNITS_TEXT_MAX], bytes[UNITS_TEXT_MAX];
	int width = (int)strlen(name);

	put_safe_name(to, name);
	fprintf(to, "%*s %10s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10s\n",
		MAX_OF(0, 24 - width), "", format_size(size_bytes, size), pages->normal,
		pages->zero, pages->xbzrle, format_size(pages->bytes, bytes));
}

static void put_ram_table(FILE *to, const struct analyze_result *result)
{
	struct analyze_pages total = analyze_total(result);
	uint64_t size = 0;

	fprintf(to, "\n%-24s %10s %10s %10s %10s %10s\n", "RAM", "size", "normal", "zero", "xbzrle",
		"in stream");
	for (unsigned int i = 0; i < result->nblocks; i++) {
		put_row(to, result->blocks[i].name, result->blocks[i].size_bytes,
			&result->blocks[i].pages);
		size += result->blocks[i].size_bytes;
	}
	put_row(to, "total", size, &total);
	fprintf(to, "in %" PRIu64 " PART section%s\n", result->ram_parts,
		result->ram_parts == 1 ? "" : "s");
}

/* "disk" is how far its bits reach; chunks that were sent again count again. */
static void put_bitmap_table(FILE *to, const struct analyze_result *result)
{
	fprintf(to, "\n%-24s %10s %10s %10s %10s %10s\n", "dirty bitmaps", "disk", "grain",
		"with bits", "zeroes", "in stream");
	for (unsigned int i = 0; i < result->nbitmaps; i++) {
		const struct analyze_bitmap *bm = &result->bitmaps[i];
		char disk[UNITS_TEXT_MAX], grain[UNITS_TEXT_MAX], bytes[UNITS_TEXT_MAX];

		put_bitmap_name(to, bm, 24);
		fprintf(to, " %10s %10s %10" PRIu64 " %10" PRIu64 " %10s  ",
			format_size(bm->covered, disk), format_size(bm->granularity, grain),
			bm->chunks, bm->zeroes, format_size(bm->bytes, bytes));
		put_kind_of_bitmap(to, bm);
		fputs(bm->complete ? "\n" : ", INCOMPLETE\n", to);
	}
}

static void text_finish(void *printer, const struct analyze_result *result, bool ram, bool bitmaps,
			const struct error *err)
{
	struct text_printer *p = printer;

	(void)err; /* the caller says it */
	if (ram && result->nblocks)
		put_ram_table(p->to, result);
	if (bitmaps && result->nbitmaps)
		put_bitmap_table(p->to, result);
	free(p);
}

const struct analyze_form analyze_form_text = {
	.start = text_start,
	.visitor = text_visitor,
	.finish = text_finish,
};
