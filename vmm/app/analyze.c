/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/analyze.h"

#include <string.h>

#include "migration/stream/protocol.h"
#include "vmm/app/analyze_print.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

/* --- names that both forms use --- */

const char *analyze_command_name(uint16_t command)
{
	/* The format's own, whether ferry knows what to do with them or not. */
	static const char *const names[] = {
		[1] = "open-return-path", [2] = "ping",
		[3] = "postcopy-advise",  [4] = "postcopy-listen",
		[5] = "postcopy-run",	  [6] = "postcopy-ram-discard",
		[7] = "packaged",	  [9] = "postcopy-resume",
		[10] = "recv-bitmap",	  [11] = "switchover-start",
	};

	if (command == COMMAND_HAND_OVER)
		return "hand-over";
	if (command == COMMAND_ABORT)
		return "abort";
	return command < ARRAY_SIZE(names) ? names[command] : NULL;
}

const char *analyze_offer_name(unsigned int bit)
{
	switch (UINT64_C(1) << bit) {
	case OFFER_HAND_OVER:
		return "hand-over";
	case OFFER_REASON:
		return "reason";
	case OFFER_NOTICE:
		return "notice";
	default:
		return NULL;
	}
}

const char *analyze_page_name(uint16_t flag)
{
	switch (flag) {
	case RAM_FLAG_PAGE:
		return "normal";
	case RAM_FLAG_ZERO:
		return "zero";
	default:
		return "xbzrle";
	}
}

const char *analyze_chunk_name(enum analyze_chunk_kind kind)
{
	static const char *const names[] = {
		[ANALYZE_CHUNK_START] = "start",
		[ANALYZE_CHUNK_BITS] = "bits",
		[ANALYZE_CHUNK_ZEROES] = "zeroes",
		[ANALYZE_CHUNK_COMPLETE] = "complete",
	};

	return names[kind];
}

struct analyze_pages analyze_total(const struct analyze_result *result)
{
	struct analyze_pages sum = { 0 };

	for (unsigned int i = 0; i < result->nblocks; i++) {
		const struct analyze_pages *p = &result->blocks[i].pages;

		sum.normal += p->normal;
		sum.zero += p->zero;
		sum.xbzrle += p->xbzrle;
		sum.xbzrle_bytes += p->xbzrle_bytes;
		sum.bytes += p->bytes;
	}
	return sum;
}

/* --- --section --- */

/* Passes on what belongs to the sections that are wanted. */
struct filter {
	const char *section; /* NULL: all */
	struct analyze_visitor inner;
	bool on;
	unsigned int matched;
	bool ram, bitmaps; /* "ram", "dirty-bitmap" was one of them */
};

/* "cpu"; "cpu/1" or "cpu[1]", where the name itself does not end like that. */
static bool is_wanted(const char *wanted, const struct analyze_section *s)
{
	size_t len = strlen(s->name);
	char end[32];

	if (!s->name[0] || strncmp(wanted, s->name, len) != 0)
		return false;
	wanted += len;
	if (!*wanted)
		return true;
	snprintf(end, sizeof(end), *wanted == '[' ? "[%u]" : "/%u", s->instance_id);
	return strcmp(wanted, end) == 0;
}

static void filter_begin(void *opaque, const struct analyze_section *s)
{
	struct filter *f = opaque;

	f->on = !f->section || is_wanted(f->section, s);
	if (!f->on)
		return;
	f->matched++;
	f->ram |= s->is_ram;
	f->bitmaps |= s->is_bitmaps;
	f->inner.begin(f->inner.opaque, s);
}

static void filter_block(void *opaque, const struct analyze_block *block)
{
	struct filter *f = opaque;

	if (f->on)
		f->inner.block(f->inner.opaque, block);
}

static void filter_page(void *opaque, const struct analyze_page *page)
{
	struct filter *f = opaque;

	if (f->on)
		f->inner.page(f->inner.opaque, page);
}

static void filter_chunk(void *opaque, const struct analyze_chunk *chunk)
{
	struct filter *f = opaque;

	if (f->on)
		f->inner.chunk(f->inner.opaque, chunk);
}

static void filter_field(void *opaque, const struct analyze_field *field)
{
	struct filter *f = opaque;

	if (f->on)
		f->inner.field(f->inner.opaque, field);
}

static void filter_end(void *opaque, const struct analyze_section *s)
{
	struct filter *f = opaque;

	if (f->on)
		f->inner.end(f->inner.opaque, s);
}

/* --- the command --- */

int analyze_run(const struct analyze_options *opts)
{
	const struct analyze_form *form = opts->json ? &analyze_form_json : &analyze_form_text;
	struct analyze_result *result = xcalloc(1, sizeof(*result));
	void *printer = form->start(stdout, opts->file, opts->ram);
	struct filter filter = { .section = opts->section, .inner = form->visitor(printer) };
	struct analyze_visitor visitor = {
		.opaque = &filter,
		.begin = filter_begin,
		.block = filter_block,
		.page = opts->ram ? filter_page : NULL,
		.chunk = filter_chunk,
		.field = filter_field,
		.end = filter_end,
	};
	scoped_error err = NULL;
	bool ok = analyze_file(opts->file, &visitor, result, &err);

	if (ok && opts->section && !filter.matched) {
		error_set(&err,
			  "%s: no section is '%s', expected NAME, NAME/INSTANCE or "
			  "NAME[INSTANCE] of one that is in it",
			  opts->file, opts->section);
		ok = false;
	}
	form->finish(printer, result, !opts->section || filter.ram,
		     !opts->section || filter.bitmaps, err);
	free(result);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		log_error("analyze: cannot write to standard output");
		return 1;
	}
	if (!ok)
		log_error("analyze: %s", error_msg(err));
	return ok ? 0 : 1;
}
