/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the end of a JSON text is found, however its bytes come.
 * How: texts whose end is their last byte, cut at each byte; texts with another behind them; broken ones.
 */
#include "vmm/app/json_frame.h"

#include <string.h>

#include "tests/unit/support.h"

SUITE(json_frame);

/* Each ends with its last byte, wherever it is cut. */
static const char *const wholes[] = {
	"{}",
	"[]",
	"{\"a\":{\"b\":[1,[2],{}]}}",
	"\"stop\"\n",
	"12\n",
	"nonsense { here\n",
	"\x01\x02\n",
	"{\"brackets\":\"}]{[\"}",
	"{\"escapes\":\"\\\"}\\\\\"}",
	"{\"\\u00e4\":\"\xc3\xa4\"}",
	"{\n \"lines\"\n:\n[\n]\n}",
	"{]",
	"[\"\\\\\\\"\"]",
};

Test(json_frame, ends_where_the_text_does)
{
	for (size_t i = 0; i < sizeof(wholes) / sizeof(wholes[0]); i++) {
		size_t len = strlen(wholes[i]);

		for (size_t cut = 0; cut < len; cut++) {
			struct json_frame f = { 0 };

			cr_expect_eq(json_frame_scan(&f, wholes[i], cut), JSON_FRAME_PARTIAL,
				     "%s, cut at %zu", wholes[i], cut);
			cr_expect_eq(f.seen, cut);
			cr_expect_eq(json_frame_scan(&f, wholes[i], len), JSON_FRAME_WHOLE,
				     "%s, cut at %zu", wholes[i], cut);
			cr_expect_eq(f.seen, len);
		}
	}
}

Test(json_frame, leaves_what_is_behind)
{
	struct json_frame f = { 0 };

	cr_assert_eq(json_frame_scan(&f, "{}{\"a\"", 6), JSON_FRAME_WHOLE);
	cr_assert_eq(f.seen, 2);
	f = (struct json_frame){ 0 };
	cr_assert_eq(json_frame_scan(&f, "x\n{}", 4), JSON_FRAME_WHOLE);
	cr_assert_eq(f.seen, 2);
}

Test(json_frame, a_string_ends_in_its_line)
{
	static const char text[] = "{\"a\n{}";

	for (size_t cut = 0; cut < 4; cut++) {
		struct json_frame f = { 0 };

		cr_assert_eq(json_frame_scan(&f, text, cut), JSON_FRAME_PARTIAL);
		cr_assert_eq(json_frame_scan(&f, text, strlen(text)), JSON_FRAME_BROKEN);
		cr_assert_eq(f.seen, 4, "the next text begins behind the line");
	}
}

Test(json_frame, deep_nesting)
{
	static char text[200000];
	struct json_frame f = { 0 };

	memset(text, '[', sizeof(text) / 2);
	memset(text + sizeof(text) / 2, ']', sizeof(text) / 2);
	cr_assert_eq(json_frame_scan(&f, text, sizeof(text) - 1), JSON_FRAME_PARTIAL);
	cr_assert_eq(json_frame_scan(&f, text, sizeof(text)), JSON_FRAME_WHOLE);
}
