/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two forms in which `ferry analyze` tells what it finds. Each is a visitor that writes as the walk goes on, so a large file
 * takes no more memory than a small one; whatever happens to the walk, finish() completes the output (JSON stays one document).
 * What a stream names is written so that no byte of it acts on a terminal or breaks the JSON.
 */
#ifndef FERRY_APP_ANALYZE_PRINT_H
#define FERRY_APP_ANALYZE_PRINT_H

#include <stdio.h>

#include "migration/analyze.h"

struct analyze_form {
	/* `pages`: show each record of RAM. The file's name is borrowed. */
	void *(*start)(FILE *to, const char *file, bool pages);
	/* Visits with start()'s result as opaque. */
	struct analyze_visitor (*visitor)(void *printer);
	/* ram, bitmaps: show the summary of RAM, of dirty bitmaps. err: what ended the walk, or NULL. Frees the printer. */
	void (*finish)(void *printer, const struct analyze_result *result, bool ram, bool bitmaps,
		       const struct error *err);
};

extern const struct analyze_form analyze_form_text;
extern const struct analyze_form analyze_form_json;

/* "ping"; NULL for one that is not known. */
const char *analyze_command_name(uint16_t command);
/* The name of an offer, by its bit; NULL for one that is not known. */
const char *analyze_offer_name(unsigned int bit);
/* "zero", of a RAM_FLAG_*. */
const char *analyze_page_name(uint16_t flag);
const char *analyze_chunk_name(enum analyze_chunk_kind kind);
struct analyze_pages analyze_total(const struct analyze_result *result);

#endif
