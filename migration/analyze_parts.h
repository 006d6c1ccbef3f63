/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of a walk over a stream share (analyze.h). A function that returns bool has, on false, left the reason in the
 * walk by analyze_fail(); the first one stays.
 */
#ifndef FERRY_MIGRATION_ANALYZE_PARTS_H
#define FERRY_MIGRATION_ANALYZE_PARTS_H

#include "migration/analyze.h"

#define ANALYZE_PATH_MAX 1024
#define ANALYZE_PAGE_SIZE_MAX (64u << 10)

enum { ANALYZE_RAM, ANALYZE_BITMAPS, ANALYZE_ITERABLES };

struct analyzer {
	struct stream_in *in;
	const struct analyze_description *desc;
	const struct analyze_visitor *v;
	struct analyze_result *result;
	struct error *err;
	uint64_t limit; /* where the description begins: no section reaches beyond it */

	struct analyze_section section; /* being walked */
	bool open;			/* begin() was called for it */

	/* fields */
	char path[ANALYZE_PATH_MAX];
	size_t path_len;
	unsigned int depth;
	uint64_t nfields;
	uint8_t *data; /* ANALYZE_DATA_MAX bytes; owned */

	/* sections that come in parts */
	struct analyze_iterable {
		bool started, ended;
		uint32_t section_id;
	} iterables[ANALYZE_ITERABLES];

	/* "ram" */
	bool have_list;
	struct analyze_block *last_block; /* for CONTINUE */
	uint8_t scratch[ANALYZE_PAGE_SIZE_MAX];

	/* "dirty-bitmap": of the last chunk */
	char node[ANALYZE_LONG_NAME_MAX + 1], bitmap_name[ANALYZE_LONG_NAME_MAX + 1];
	struct analyze_bitmap *last_bitmap; /* of these names; NULL: not started */
};

/* Always false. */
bool analyze_fail(struct analyzer *a, uint64_t offset, const char *fmt, ...) FERRY_PRINTF(3, 4);
/* "section 'cpu' instance 0", "CONFIGURATION": for messages; lives as long as the section. */
const char *analyze_section_text(struct analyzer *a);

/* --- reading --- */
static inline uint64_t analyze_position(const struct analyzer *a)
{
	return stream_in_position(a->in);
}
bool analyze_take(struct analyzer *a, void *dst, size_t len);
bool analyze_skip(struct analyzer *a, uint64_t len);
bool analyze_take_u8(struct analyzer *a, uint8_t *value);
bool analyze_take_u16(struct analyzer *a, uint16_t *value);
bool analyze_take_u32(struct analyzer *a, uint32_t *value);
bool analyze_take_u64(struct analyzer *a, uint64_t *value);
/* u8 length and so many bytes; `what` is for the error. */
bool analyze_take_name(struct analyzer *a, const char *what, char name[static STREAM_NAME_MAX + 1]);
/* The same of a name that may be longer than a section's. */
bool analyze_take_long_name(struct analyzer *a, const char *what,
			    char name[static ANALYZE_LONG_NAME_MAX + 1]);

/* --- analyze_fields.c --- */
/* Fields and subsections as `desc` says, an object with "fields". */
bool analyze_described(struct analyzer *a, const json_t *desc);
/* What one field is. */
struct analyze_layout {
	const char *type;
	enum analyze_kind kind;
	bool is_array;
	uint64_t size, count;
};
/* Read a field under the current path, and show it. `last` may be NULL, or gets the first element of an integer. */
bool analyze_one_field(struct analyzer *a, const struct analyze_layout *layout, uint64_t *last);
/* Go down: a name behind a dot, an index in brackets, a subsection in parentheses. *mark is what analyze_path_leave() needs. */
bool analyze_path_enter(struct analyzer *a, size_t *mark, const char *fmt, ...) FERRY_PRINTF(3, 4);
void analyze_path_leave(struct analyzer *a, size_t mark);
/* Behind the 05 of a subsection: its name and version. */
bool analyze_subsection_head(struct analyzer *a, char name[static STREAM_NAME_MAX + 1],
			     uint32_t *version);

/* --- analyze_configuration.c --- */
bool analyze_configuration(struct analyzer *a);
/* A field was read in CONFIGURATION: is it one of those that struct analyze_section has? */
void analyze_configuration_field(struct analyzer *a, const struct analyze_field *field);

/* --- analyze_ram.c --- */
/* The data of a section of "ram", behind its header, up to and with EOS. */
bool analyze_ram(struct analyzer *a);

/* --- analyze_bitmaps.c --- */
/* The same of "dirty-bitmap". */
bool analyze_bitmaps(struct analyzer *a);

#endif
