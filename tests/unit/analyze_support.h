/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams for the tests of the analyzer, built piece by piece, and a visitor that writes down what it is told, a line an event.
 *
 * Pages have 1 KiB here, as the description says, so that a whole stream is small enough for a test of each of its bytes.
 */
#ifndef FERRY_TESTS_ANALYZE_SUPPORT_H
#define FERRY_TESTS_ANALYZE_SUPPORT_H

#include "migration/analyze.h"
#include "migration/stream/protocol.h"
#include "migration/stream/section.h"
#include "tests/unit/support.h"

#define TOY_PAGE 1024u

struct maker {
	struct channel *ch;
	struct stream_out *out;
};

static inline struct maker maker_start(void)
{
	struct maker m = { .ch = channel_memory() };

	m.out = stream_out_new(m.ch);
	put_u32(m.out, STREAM_MAGIC);
	put_u32(m.out, STREAM_VERSION);
	return m;
}

static inline uint64_t maker_at(const struct maker *m)
{
	return stream_out_position(m->out);
}

/* "01 ab ..." */
static inline void put_hex(struct maker *m, const char *hex)
{
	uint8_t bytes[512];

	put_bytes(m->out, bytes, bytes_of(hex, bytes, sizeof(bytes)));
}

static inline void put_subsection(struct maker *m, const char *name, uint32_t version)
{
	put_u8(m->out, SECTION_SUBSECTION);
	put_name(m->out, name);
	put_u32(m->out, version);
}

static inline void put_command(struct maker *m, uint16_t command, const char *hex)
{
	uint8_t bytes[64];
	size_t len = bytes_of(hex, bytes, sizeof(bytes));

	put_u8(m->out, SECTION_COMMAND);
	put_u16(m->out, command);
	put_u16(m->out, (uint16_t)len);
	put_bytes(m->out, bytes, len);
}

static inline void put_description(struct maker *m, const char *json)
{
	put_u8(m->out, SECTION_VMDESCRIPTION);
	put_u32(m->out, (uint32_t)strlen(json));
	put_bytes(m->out, json, strlen(json));
}

/* START of "ram", with `list` as hex behind its header; without the footer. */
static inline void put_ram_start(struct maker *m, const char *list)
{
	section_put_header(m->out, SECTION_START, 0, "ram", 0, RAM_SECTION_VERSION);
	put_hex(m, list);
}

/* The bytes, to be freed; ends the maker. */
static inline uint8_t *maker_end(struct maker *m, size_t *len)
{
	const uint8_t *data;
	uint8_t *copy;

	cr_assert(stream_flush(m->out));
	data = channel_memory_data(m->ch, len);
	copy = malloc(*len + 1);
	memcpy(copy, data, *len);
	stream_out_free(m->out);
	channel_free(m->ch);
	return copy;
}

/* --- what the visitor is told --- */

struct diary {
	FILE *to;
	char *text;
	size_t len;
	unsigned int open; /* begin() without end() */
	uint64_t last;	   /* offset; they do not go back */
};

static inline void diary_offset(struct diary *d, uint64_t offset)
{
	cr_assert(offset >= d->last, "offset 0x%" PRIx64 " behind 0x%" PRIx64, offset, d->last);
	d->last = offset;
}

static inline void diary_begin(void *opaque, const struct analyze_section *s)
{
	struct diary *d = opaque;

	cr_assert_eq(d->open++, 0, "a section within a section");
	diary_offset(d, s->offset);
	fprintf(d->to, "%" PRIu64 " type %u", s->offset, s->type);
	if (s->is_named)
		fprintf(d->to, " %s[%u] id %u version %u", s->name, s->instance_id, s->section_id,
			s->version_id);
	if (s->type == SECTION_COMMAND)
		fprintf(d->to, " command %u, %u bytes", s->command, s->data_len);
	fputc('\n', d->to);
}

static inline void diary_block(void *opaque, const struct analyze_block *b)
{
	struct diary *d = opaque;

	diary_offset(d, b->offset);
	fprintf(d->to, "  %" PRIu64 " block %s %" PRIu64 " %" PRIu64 "\n", b->offset, b->name,
		b->size_bytes, b->page_size);
}

static inline void diary_page(void *opaque, const struct analyze_page *p)
{
	struct diary *d = opaque;

	diary_offset(d, p->offset);
	fprintf(d->to, "  %" PRIu64 " page %u %s 0x%" PRIx64 ", %" PRIu64 " bytes\n", p->offset,
		p->flag, p->block->name, p->address, p->bytes);
}

static inline void diary_chunk(void *opaque, const struct analyze_chunk *c)
{
	struct diary *d = opaque;

	diary_offset(d, c->offset);
	cr_assert_leq(c->dirty, c->bits);
	fprintf(d->to, "  %" PRIu64 " chunk %u %s/%s, %" PRIu64 " bytes", c->offset, c->kind,
		c->bitmap->node, c->bitmap->name, c->bytes);
	if (c->kind == ANALYZE_CHUNK_START)
		fprintf(d->to, ": %u %d %d", c->bitmap->granularity, c->bitmap->enabled,
			c->bitmap->persistent);
	if (c->bits)
		fprintf(d->to, ": %" PRIu64 " of %" PRIu64 " in %" PRIu64 " + %" PRIu64, c->dirty,
			c->bits, c->start, c->length);
	fputc('\n', d->to);
}

static inline void diary_field(void *opaque, const struct analyze_field *f)
{
	struct diary *d = opaque;

	cr_assert_eq(d->open, 1);
	cr_assert(f->have <= f->size * f->count && f->have <= ANALYZE_DATA_MAX);
	diary_offset(d, f->offset);
	fprintf(d->to, "  %" PRIu64 " %s %s", f->offset, f->type, f->path);
	if (f->is_array)
		fprintf(d->to, " (%" PRIu64 ")", f->count);
	fputs(" =", d->to);
	for (size_t i = 0; f->size && i < f->have / f->size && i < 4; i++) {
		if (f->kind == ANALYZE_INT)
			fprintf(d->to, " %" PRId64, analyze_int(f, i));
		else if (f->kind == ANALYZE_UINT || f->kind == ANALYZE_BOOL)
			fprintf(d->to, " %" PRIu64, analyze_uint(f, i));
		else if (f->kind == ANALYZE_NULL)
			fputs(" null", d->to);
		else
			for (size_t k = 0; k < f->size && k < 8; k++)
				fprintf(d->to, " %02x", f->data[i * f->size + k]);
	}
	fputc('\n', d->to);
}

static inline void diary_end(void *opaque, const struct analyze_section *s)
{
	struct diary *d = opaque;

	cr_assert_eq(d->open--, 1);
	if (s->is_ram)
		fprintf(d->to,
			"  pages %" PRIu64 " %" PRIu64 " %" PRIu64 " (%" PRIu64 "), %" PRIu64
			" bytes\n",
			s->pages.normal, s->pages.zero, s->pages.xbzrle, s->pages.xbzrle_bytes,
			s->pages.bytes);
	if (s->is_bitmaps)
		fprintf(d->to, "  chunks %" PRIu64 " %" PRIu64 "\n", s->chunks, s->zeroes);
	if (s->machine[0])
		fprintf(d->to, "  machine %s, offers %d 0x%" PRIx64 "\n", s->machine, s->has_offers,
			s->offers);
	fprintf(d->to, "  size %" PRIu64 "%s\n", s->size, s->complete ? "" : ", damaged");
}

/* Walks, and checks what holds for every walk: each section ends, an error has its offset in front. What the visitor was told
 * is returned, to be freed. */
static inline char *analyze_into_diary(const void *data, size_t len, struct analyze_result *result,
				       struct error **errp)
{
	struct diary d = { 0 };
	struct analyze_visitor visitor = { &d,		diary_begin, diary_block, diary_page,
					   diary_chunk, diary_field, diary_end };
	struct error *err = NULL;
	char prefix[64];
	bool ok;

	d.to = open_memstream(&d.text, &d.len);
	ok = analyze_memory(data, len, &visitor, result, &err);
	fclose(d.to);
	cr_assert_eq(d.open, 0, "a section was not ended");
	cr_assert_eq(ok, err == NULL);
	cr_assert(result->bytes <= len);
	if (!ok) {
		snprintf(prefix, sizeof(prefix), "offset 0x%" PRIx64 ": ", result->error_offset);
		cr_assert_eq(strncmp(err->msg, prefix, strlen(prefix)), 0,
			     "'%s' does not begin with '%s'", err->msg, prefix);
		cr_assert(result->error_offset <= len, "%s: beyond the %zu bytes", err->msg, len);
	}
	error_propagate(errp, err);
	return d.text;
}

/* The stream is damaged at that offset, and the error has these words. Frees the data. */
static inline void expect_damage(uint8_t *data, size_t len, uint64_t offset, const char *words)
{
	struct analyze_result result;
	struct error *err = NULL;

	free(analyze_into_diary(data, len, &result, &err));
	cr_assert_not_null(err, "no error, expected '%s'", words);
	cr_assert(strstr(err->msg, words), "'%s' has no '%s'", err->msg, words);
	cr_assert_eq(result.error_offset, offset, "'%s', expected offset 0x%" PRIx64, err->msg,
		     offset);
	error_free(err);
	free(data);
}

#endif
