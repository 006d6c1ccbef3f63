/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was measured, and the one table that tells it.
 *
 * A row holds two lists of samples, ours and the reference's, and the limits of its target: on the
 * ratio of the two medians, and on our median itself. A limit of 0 is none. A row without any limit
 * is there for information. Where a limit needs a reference that there is none of, the row is
 * neither met nor missed.
 *
 * Notes stand below the table; alarms too, but nobody can overlook them.
 */
#ifndef FERRY_BENCH_TABLE_H
#define FERRY_BENCH_TABLE_H

#include <stdbool.h>

#define SAMPLES_MAX 100

struct samples {
	unsigned int n;
	double v[SAMPLES_MAX];
};

/* Of at least one sample. */
double samples_median(const struct samples *s);
double samples_min(const struct samples *s);
double samples_max(const struct samples *s);
/* What goes beyond SAMPLES_MAX is dropped. */
void samples_add(struct samples *s, double value);

struct row {
	char what[64];
	struct samples ours, ref;
	const char *ref_name; /* "QEMU", "bare", ...; NULL: no reference */
	/* the target */
	double ratio_max, ratio_min; /* median(ours) / median(ref) */
	double ours_max, ours_min;
	/* instead of the samples, where numbers would not tell it */
	char ours_text[40], ref_text[40];
};

struct table;

struct table *table_new(const char *title);
void table_free(struct table *t);
/* A row to fill in; it stays where it is until the table is freed. */
struct row *table_row(struct table *t, const char *what, const char *ref_name);
__attribute__((format(printf, 2, 3))) void table_note(struct table *t, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void table_alarm(struct table *t, const char *fmt, ...);
/* To standard output. Rows without anything in them are left out. */
void table_print(const struct table *t);

#endif
