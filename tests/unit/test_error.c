/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an error holds what was said, is owned by one, and a caller who does not want it pays
 * nothing; the log is silent without a sink and drops what is below its level.
 * How: direct calls; leaks show under the address sanitizer.
 */
#include <errno.h>
#include <signal.h>

#include "tests/unit/support.h"
#include "vmm/base/log.h"

SUITE(error);
SUITE(log);

Test(error, holds_what_was_said)
{
	struct error *err = NULL;

	error_set(&err, "port %d of %s", 7, "x");
	cr_assert_eq(err->cls, ERROR_GENERIC);
	cr_assert_str_eq(error_msg(err), "port 7 of x");
	error_free(err);
	error_free(NULL);
	cr_assert_not_null(error_msg(NULL));
}

Test(error, holds_a_class_and_an_errno)
{
	struct error *err = NULL;
	char want[100];

	error_set_class(&err, ERROR_DEVICE_NOT_FOUND, "no %s", "d");
	cr_assert_eq(err->cls, ERROR_DEVICE_NOT_FOUND);
	cr_assert_str_eq(err->msg, "no d");
	error_free(err);
	err = NULL;
	error_set_errno(&err, ENOENT, "cannot open '%s'", "/a%s"); /* a name is no format */
	snprintf(want, sizeof(want), "cannot open '/a%%s': %s", strerror(ENOENT));
	cr_assert_str_eq(err->msg, want);
	error_free(err);
}

Test(error, prefixes_stack_up)
{
	struct error *err = NULL;

	error_prefix(&err, "nothing to put it before");
	cr_assert_null(err);
	error_prefix(NULL, "nobody to tell");
	error_set_class(&err, ERROR_COMMAND_NOT_FOUND, "100%%");
	error_prefix(&err, "[%d]", 3);
	error_prefix(&err, ".%s", "queue");
	cr_assert_str_eq(err->msg, ".queue[3]100%");
	cr_assert_eq(err->cls, ERROR_COMMAND_NOT_FOUND);
	error_free(err);
}

/* A peer's names end up in messages, messages on terminals and in JSON. */
Test(error, a_strangers_text_is_tamed)
{
	static const struct {
		const char *said, *have;
	} cases[] = {
		{ "a\nb\033[2J\177", "a?b?[2J?" },
		{ "\xc3\xbc \xe2\x82\xac \xf0\x9f\x9a\xa2",
		  "\xc3\xbc \xe2\x82\xac \xf0\x9f\x9a\xa2" },
		{ "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\xc2\xa0",
		  "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\xc2\xa0" },
		{ "\xc2\x9b"
		  "2J",
		  "??2J" }, /* the terminal's CSI as a character */
		{ "\x80 \xff \xc0\xaf", "? ? ??" },
		{ "\xe0\x80\xaf \xed\xa0\x80 \xf4\x90\x80\x80", "??? ??? ????" },
		{ "cut \xe2\x82", "cut ??" },
		{ "\xc3\n", "??" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error *err = NULL;

		error_set(&err, "%s", cases[i].said);
		cr_assert_str_eq(err->msg, cases[i].have, "%zu: '%s'", i, err->msg);
		error_prefix(&err, "%s|", cases[i].said);
		cr_assert_eq(strncmp(err->msg, cases[i].have, strlen(cases[i].have)), 0, "%zu", i);
		error_free(err);
	}
}

Test(error, may_be_unwanted)
{
	struct error *err = NULL;

	error_set(NULL, "unheard %d", 1);
	error_set_class(NULL, ERROR_GENERIC, "unheard");
	error_set_errno(NULL, EIO, "unheard");
	error_set(&err, "inner");
	error_propagate(NULL, err); /* frees it */
	error_propagate(NULL, NULL);
}

Test(error, is_handed_on)
{
	struct error *inner = NULL, *outer = NULL;

	error_propagate(&outer, NULL);
	cr_assert_null(outer);
	error_set(&inner, "inner");
	error_propagate(&outer, inner);
	cr_assert_eq(outer, inner);
	error_free(outer);
}

Test(error, is_copied_whole)
{
	struct error *err = NULL, *copy;

	cr_assert_null(error_copy(NULL));
	error_set_class(&err, ERROR_DEVICE_NOT_FOUND, "which");
	copy = error_copy(err);
	error_free(err);
	cr_assert_eq(copy->cls, ERROR_DEVICE_NOT_FOUND);
	cr_assert_str_eq(copy->msg, "which");
	error_free(copy);
}

Test(error, a_scoped_error_frees_itself)
{
	scoped_error err = NULL;

	error_set(&err, "gone by the end");
}

/* A second error would hide the first. */
Test(error, a_second_error_is_our_own_bug, .signal = SIGABRT)
{
	static struct error first = { .msg = "first" };
	struct error *err = &first;

	error_set(&err, "second");
}

static char lines[200]; /* each test is a process of its own */

static void sink(enum log_level level, const char *line)
{
	char text[60];

	snprintf(text, sizeof(text), "%d:%s|", level, line);
	strcat(lines, text);
}

Test(log, is_silent_without_a_sink)
{
	log_error("to nobody %d", 1);
	cr_assert_str_empty(lines);
}

Test(log, drops_what_is_below_its_level)
{
	log_set_sink(sink, LOG_WARN);
	log_error("e%d", 1);
	log_warn("w%s", "!");
	log_info("i");
	log_debug("d");
	cr_assert_str_eq(lines, "0:e1|1:w!|");
	lines[0] = '\0';
	log_set_sink(sink, LOG_DEBUG);
	log_info("i");
	log_debug("d");
	cr_assert_str_eq(lines, "2:i|3:d|");
	log_set_sink(NULL, LOG_DEBUG);
	log_error("to nobody");
	cr_assert_str_eq(lines, "2:i|3:d|");
}
