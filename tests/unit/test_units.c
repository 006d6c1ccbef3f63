/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: numbers with units are read as people mean them, or refused as a whole with the option's
 * name; and written shortly.
 * How: tables of texts and values, the edges of 64 bits among them.
 */
#include "tests/unit/support.h"
#include "vmm/base/units.h"

SUITE(units);

#define UNTOUCHED 424242u

typedef bool (*parse_fn)(const char *text, const char *what, uint64_t *value, struct error **errp);

struct good {
	const char *text;
	uint64_t value;
};

static void expect_good(parse_fn parse, const struct good *row, size_t n)
{
	for (; n; n--, row++) {
		struct error *err = NULL;
		uint64_t value = UNTOUCHED;

		expect_ok(parse(row->text, "opt", &value, &err), err);
		cr_assert_eq(value, row->value, "'%s' gives %" PRIu64, row->text, value);
	}
}

/* The message has the text, with '?' for what a terminal would take for a command. */
static void expect_quoted(const char *msg, const char *text)
{
	char *tame = strdup(text);

	for (char *c = tame; *c; c++)
		*c = *c < ' ' ? '?' : *c;
	cr_assert_not_null(strstr(msg, tame), "'%s' has no '%s'", msg, tame);
	free(tame);
}

/* Refused, the text and the option are named, the output is untouched. */
static void expect_bad(parse_fn parse, const char *const *text, size_t n)
{
	for (; n; n--, text++) {
		struct error *err = NULL;
		uint64_t value = UNTOUCHED;

		cr_assert_not(parse(*text, "--option", &value, &err), "'%s' gives %" PRIu64, *text,
			      value);
		cr_assert_eq(value, UNTOUCHED);
		cr_assert_not_null(err);
		expect_quoted(err->msg, *text);
		expect_error(err, "--option");
		cr_assert_not(parse(*text, "--option", &value, NULL));
	}
}

#define ROWS(table) table, sizeof(table) / sizeof((table)[0])

Test(units, sizes)
{
	static const struct good good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "1B", 1 },
		{ "256M", 256u << 20 },
		{ "6G", UINT64_C(6) << 30 },
		{ "1T", UINT64_C(1) << 40 },
		{ "1k", 1024 },
		{ "2m", 2u << 20 },
		{ "2KB", 2048 },
		{ "2KiB", 2048 },
		{ "3giB", UINT64_C(3) << 30 },
		{ "007K", 7168 },
		{ "18446744073709551615", UINT64_MAX },
		{ "18014398509481983K", UINT64_MAX - 1023 },
		{ "16777215T", UINT64_C(16777215) << 40 },
	};
	static const char *const bad[] = {
		"",
		"M",
		"-1",
		"+1",
		" 1",
		"1 ",
		"1x",
		"1E",
		"1KK",
		"1.5G",
		"0x10",
		"1KiBB",
		"iB",
		"1\n",
		"1MiX",
		"18446744073709551616",
		"16777216T",
		"18014398509481984K",
		"99999999999999999999999G",
	};

	expect_good(parse_size, ROWS(good));
	expect_bad(parse_size, ROWS(bad));
}

Test(units, durations)
{
	static const struct good good[] = {
		{ "0", 0 },
		{ "300ms", 300000000 },
		{ "300", 300000000 },
		{ "2s", 2000000000 },
		{ "500us", 500000 },
		{ "18446744073s", UINT64_C(18446744073000000000) },
		{ "18446744073709551us", UINT64_C(18446744073709551000) },
	};
	static const char *const bad[] = {
		"",
		"ms",
		"-1ms",
		"1 ms",
		"1m",
		"1.5s",
		"1S",
		"1ns",
		"18446744074s",
		"18446744073709552us",
		"1mss",
		"18446744073709551616",
	};

	expect_good(parse_duration, ROWS(good));
	expect_bad(parse_duration, ROWS(bad));
}

static bool number_10_to_20(const char *text, const char *what, uint64_t *value,
			    struct error **errp)
{
	return parse_number(text, what, 10, 20, value, errp);
}

static bool any_number(const char *text, const char *what, uint64_t *value, struct error **errp)
{
	return parse_number(text, what, 0, UINT64_MAX, value, errp);
}

Test(units, numbers)
{
	static const struct good good[] = { { "10", 10 }, { "20", 20 }, { "015", 15 } };
	static const struct good edges[] = { { "0", 0 }, { "18446744073709551615", UINT64_MAX } };
	static const char *const bad[] = { "9", "21", "", "1x", "12K", "-15", " 15", "15 ", "1e1" };
	static const char *const never[] = { "18446744073709551616", "0x1", "-0" };
	struct error *err = NULL;

	expect_good(number_10_to_20, ROWS(good));
	expect_bad(number_10_to_20, ROWS(bad));
	expect_good(any_number, ROWS(edges));
	expect_bad(any_number, ROWS(never));
	cr_assert_not(number_10_to_20("21", "vcpus", &(uint64_t){ 0 }, &err));
	expect_error(err, "from 10 to 20");
}

static void expect_size(uint64_t size_bytes, const char *text)
{
	char buf[UNITS_TEXT_MAX];

	cr_assert_eq(format_size(size_bytes, buf), buf);
	cr_assert_str_eq(buf, text);
}

Test(units, sizes_are_written)
{
	expect_size(0, "0 B");
	expect_size(512, "512 B");
	expect_size(1023, "1023 B");
	expect_size(1024, "1.00 KiB");
	expect_size(UINT64_C(3) << 29, "1.50 GiB");
	expect_size(256u << 20, "256.0 MiB");
	expect_size(UINT64_C(50) << 30, "50.0 GiB");
	expect_size(UINT64_C(1) << 40, "1.00 TiB");
	expect_size(UINT64_MAX, "16777216.0 TiB");
}

static void expect_duration(uint64_t duration_ns, const char *text)
{
	char buf[UNITS_TEXT_MAX];

	cr_assert_eq(format_duration(duration_ns, buf), buf);
	cr_assert_str_eq(buf, text);
}

Test(units, durations_are_written)
{
	expect_duration(0, "0 us");
	expect_duration(870000, "870 us");
	expect_duration(4500000, "4.5 ms");
	expect_duration(1230000000, "1.23 s");
	expect_duration(UINT64_MAX, "18446744073.71 s");
}
