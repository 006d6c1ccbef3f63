/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bench/table.h"

#include <assert.h>

#include "vmm/base/cleanup.h"

#define ROWS_MAX 64
#define LINES_MAX 64

struct lines {
	unsigned int n;
	char *text[LINES_MAX];
};

struct table {
	const char *title;
	unsigned int nrows;
	struct row rows[ROWS_MAX];
	struct lines notes, alarms;
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double samples_median(const struct samples *s)
{
	struct samples sorted = *s;

	assert(s->n);
	qsort(sorted.v, s->n, sizeof(sorted.v[0]), compare);
	return (sorted.v[(s->n - 1) / 2] + sorted.v[s->n / 2]) / 2;
}

double samples_min(const struct samples *s)
{
	double min = s->v[0];

	assert(s->n);
	for (unsigned int i = 1; i < s->n; i++)
		min = MIN_OF(min, s->v[i]);
	return min;
}

double samples_max(const struct samples *s)
{
	double max = s->v[0];

	assert(s->n);
	for (unsigned int i = 1; i < s->n; i++)
		max = MAX_OF(max, s->v[i]);
	return max;
}

void samples_add(struct samples *s, double value)
{
	if (s->n < SAMPLES_MAX)
		s->v[s->n++] = value;
}

struct table *table_new(const char *title)
{
	struct table *t = xcalloc(1, sizeof(*t));

	t->title = title;
	return t;
}

static void free_lines(struct lines *lines)
{
	for (unsigned int i = 0; i < lines->n; i++)
		free(lines->text[i]);
}

void table_free(struct table *t)
{
	if (!t)
		return;
	free_lines(&t->notes);
	free_lines(&t->alarms);
	free(t);
}

struct row *table_row(struct table *t, const char *what, const char *ref_name)
{
	struct row *row = &t->rows[t->nrows++];

	assert(t->nrows <= ROWS_MAX);
	snprintf(row->what, sizeof(row->what), "%s", what);
	row->ref_name = ref_name;
	return row;
}

static void add_line(struct lines *lines, const char *fmt, va_list ap)
{
	char *text;

	if (lines->n == LINES_MAX)
		return;
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	lines->text[lines->n++] = text;
}

void table_note(struct table *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(&t->notes, fmt, ap);
	va_end(ap);
}

void table_alarm(struct table *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(&t->alarms, fmt, ap);
	va_end(ap);
}

/* Three digits that count. */
static int decimals(double v)
{
	return v < 10 ? 2 : v < 100 ? 1 : 0;
}

struct cell {
	char text[64];
};

static struct cell format_samples(const char *name, const struct samples *s, const char *text)
{
	struct cell cell = { "" };
	const char *space = *name ? " " : "";
	double mid, min, max;

	if (*text) {
		snprintf(cell.text, sizeof(cell.text), "%s%s%s", name, space, text);
	} else if (s->n) {
		mid = samples_median(s);
		min = samples_min(s);
		max = samples_max(s);
		snprintf(cell.text, sizeof(cell.text), "%s%s%.*f (%.*f-%.*f)", name, space,
			 decimals(mid), mid, decimals(min), min, decimals(max), max);
	} else {
		snprintf(cell.text, sizeof(cell.text), "%s%s-", name, space);
	}
	return cell;
}

static void add_limit(struct cell *cell, const char *sign, double limit, const char *what)
{
	size_t used = strlen(cell->text);

	if (limit > 0)
		snprintf(cell->text + used, sizeof(cell->text) - used, "%s%s %.3g%s",
			 used ? ", " : "", sign, limit, what);
}

static struct cell format_target(const struct row *row)
{
	struct cell cell = { "" };

	add_limit(&cell, "<=", row->ratio_max, "x");
	add_limit(&cell, ">=", row->ratio_min, "x");
	add_limit(&cell, "<=", row->ours_max, "");
	add_limit(&cell, ">=", row->ours_min, "");
	return cell;
}

static const char *verdict(const struct row *row)
{
	bool ratio_wanted = row->ratio_max > 0 || row->ratio_min > 0;
	bool value_wanted = row->ours_max > 0 || row->ours_min > 0;
	double mid, ratio;

	if (!ratio_wanted && !value_wanted)
		return "";
	if (!row->ours.n)
		return "?";
	mid = samples_median(&row->ours);
	if ((row->ours_max > 0 && mid > row->ours_max) ||
	    (row->ours_min > 0 && mid < row->ours_min))
		return "NO";
	if (!ratio_wanted)
		return "yes";
	if (!row->ref.n || samples_median(&row->ref) <= 0)
		return "?";
	ratio = mid / samples_median(&row->ref);
	return (row->ratio_max > 0 && ratio > row->ratio_max) ||
			       (row->ratio_min > 0 && ratio < row->ratio_min)
		       ? "NO"
		       : "yes";
}

static void print_row(const struct row *row)
{
	struct cell ours = format_samples("", &row->ours, row->ours_text);
	struct cell ref = { "" }, ratio = { "" }, target = format_target(row);

	if (row->ref_name)
		ref = format_samples(row->ref_name, &row->ref, row->ref_text);
	if (row->ours.n && row->ref.n && samples_median(&row->ref) > 0)
		snprintf(ratio.text, sizeof(ratio.text), "%.3f",
			 samples_median(&row->ours) / samples_median(&row->ref));
	printf("%-44s %-22s %-28s %6s  %-14s %s\n", row->what, ours.text, ref.text, ratio.text,
	       target.text, verdict(row));
}

void table_print(const struct table *t)
{
	printf("\n%s: median (min-max)\n\n", t->title);
	printf("%-44s %-22s %-28s %6s  %-14s %s\n", "what", "ferry", "reference", "ratio", "target",
	       "met?");
	for (unsigned int i = 0; i < t->nrows; i++) {
		const struct row *row = &t->rows[i];

		if (row->ours.n || row->ref.n || *row->ours_text || *row->ref_text)
			print_row(row);
	}
	printf("\n");
	for (unsigned int i = 0; i < t->notes.n; i++)
		printf("note: %s\n", t->notes.text[i]);
	for (unsigned int i = 0; i < t->alarms.n; i++)
		printf("%s!!! %s\n", i ? "" : "\n", t->alarms.text[i]);
	fflush(stdout);
}
