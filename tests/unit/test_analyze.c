/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the analyzer says what is in a stream, and where; and of a damaged one, where it is damaged, whatever the damage.
 *
 * How: a toy stream with each piece of the frame, each record of RAM and each kind of field, whose events are compared with a list
 * written by hand; the same stream cut at every length and with every byte changed; a stream that another program wrote, of
 * which some values are known.
 */
#include "tests/unit/analyze_support.h"

SUITE(analyze);

#define SEED 0x5eed0a01

/* --- the toy --- */

static const char toy_description[] =
	"{\"page_size\":1024,"
	"\"configuration\":{\"vmsd_name\":\"configuration\",\"version\":1,\"fields\":["
	"{\"name\":\"len\",\"type\":\"uint32\",\"size\":4},"
	"{\"name\":\"name\",\"type\":\"buffer\",\"size\":3}],"
	"\"subsections\":[{\"vmsd_name\":\"configuration/offers\",\"version\":1,\"fields\":["
	"{\"name\":\"offers\",\"type\":\"uint64\",\"size\":8}]}]},"
	"\"devices\":[{\"name\":\"dev\",\"instance_id\":1,\"vmsd_name\":\"dev\",\"version\":3,"
	"\"fields\":["
	"{\"name\":\"on\",\"type\":\"bool\",\"size\":1},"
	"{\"name\":\"i8\",\"type\":\"int8\",\"size\":1},"
	"{\"name\":\"i64\",\"type\":\"int64\",\"size\":8},"
	"{\"name\":\"same\",\"type\":\"uint16 equal\",\"size\":2},"
	"{\"name\":\"when\",\"type\":\"timer\",\"size\":8},"
	"{\"name\":\"row\",\"array_len\":3,\"type\":\"uint16\",\"size\":2},"
	"{\"name\":\"one\",\"index\":5,\"type\":\"uint8\",\"size\":1},"
	"{\"name\":\"bits\",\"type\":\"bitmap\",\"size\":8},"
	"{\"name\":\"gone\",\"type\":\"unused_buffer\",\"size\":2},"
	"{\"name\":\"list\",\"type\":\"qtailq\",\"size\":3},"
	"{\"name\":\"ptr\",\"index\":0,\"type\":\"nullptr\",\"size\":1},"
	"{\"name\":\"ptr\",\"index\":1,\"type\":\"struct\",\"size\":1,"
	"\"struct\":{\"vmsd_name\":\"p\",\"version\":1,\"fields\":["
	"{\"name\":\"x\",\"type\":\"uint8\",\"size\":1}]}},"
	"{\"name\":\"seg\",\"array_len\":2,\"type\":\"struct\",\"size\":3,"
	"\"struct\":{\"vmsd_name\":\"s\",\"version\":1,\"fields\":["
	"{\"name\":\"a\",\"type\":\"uint8\",\"size\":1},"
	"{\"name\":\"b\",\"type\":\"uint16\",\"size\":2}]}},"
	"{\"name\":\"none\",\"type\":\"buffer\",\"size\":0}],"
	"\"subsections\":[{\"vmsd_name\":\"dev/more\",\"version\":2,\"fields\":["
	"{\"name\":\"u64\",\"type\":\"uint64\",\"size\":8}]}]}]}";

static void put_toy_memory(struct maker *m)
{
	static const uint8_t page[TOY_PAGE] = { 0xaa };

	put_ram_start(m, "00 00 00 00 00 00 14 04  03 6c 6f 77 00 00 00 00 00 00 10 00 "
			 "02 68 69 00 00 00 00 00 00 04 00  00 00 00 00 00 00 00 10");
	section_put_footer(m->out, 0);
	put_hex(m, "02 00 00 00 00");
	put_hex(m, "00 00 00 00 00 00 00 08 03 6c 6f 77");
	put_bytes(m->out, page, sizeof(page));
	put_hex(m, "00 00 00 00 00 00 04 22 00");
	put_hex(m, "00 00 00 00 00 00 0c 28");
	put_bytes(m->out, page, sizeof(page));
	put_hex(m, "00 00 00 00 00 00 00 02 02 68 69 00");
	put_hex(m, "00 00 00 00 00 00 00 10");
	section_put_footer(m->out, 0);
	put_hex(m, "03 00 00 00 00");
	put_hex(m, "00 00 00 00 00 00 0c 40 03 6c 6f 77 01 00 08 e9 01 02 01 02 05 01 ff");
	put_hex(m, "00 00 00 00 00 00 00 10");
	section_put_footer(m->out, 0);
}

static void put_toy_device(struct maker *m)
{
	section_put_header(m->out, SECTION_FULL, 7, "dev", 1, 3);
	put_hex(m, "01 fe ff ff ff ff ff ff ff fd 12 34 ff ff ff ff ff ff ff ff");
	put_hex(m, "00 01 00 02 00 03 09 80 00 00 00 00 00 00 01 00 00 01 77 00");
	put_hex(m, "30 55 0a 00 0b 0c 00 0d");
	put_subsection(m, "dev/more", 2);
	put_u64(m->out, UINT64_MAX);
	section_put_footer(m->out, 7);
}

static uint8_t *make_toy(size_t *len)
{
	struct maker m = maker_start();

	put_hex(&m, "07 00 00 00 03 74 6f 79");
	put_subsection(&m, "configuration/offers", 1);
	put_u64(m.out, 3);
	put_command(&m, COMMAND_OPEN_RETURN_PATH, "");
	put_command(&m, COMMAND_PING, "00 00 00 01");
	put_toy_memory(&m);
	put_toy_device(&m);
	put_u8(m.out, SECTION_EOF);
	put_command(&m, COMMAND_HAND_OVER, "");
	put_description(&m, toy_description);
	return maker_end(&m, len);
}

/* Offsets: the lengths above, added up by hand. */
static const char toy_events[] = "8 type 7\n"
				 "  9 uint32 len = 3\n"
				 "  13 buffer name = 74 6f 79\n"
				 "  42 uint64 (configuration/offers).offers = 3\n"
				 "  machine toy, offers 1 0x3\n"
				 "  size 42\n"
				 "50 type 8 command 1, 0 bytes\n"
				 "  size 5\n"
				 "55 type 8 command 2, 4 bytes\n"
				 "  size 9\n"
				 "64 type 1 ram[0] id 0 version 4\n"
				 "  89 block low 4096 0\n"
				 "  101 block hi 1024 0\n"
				 "  pages 0 0 0 (0), 0 bytes\n"
				 "  size 61\n"
				 "125 type 2 ram[0] id 0 version 4\n"
				 "  130 page 8 low 0x0, 1036 bytes\n"
				 "  1166 page 2 low 0x400, 9 bytes\n"
				 "  1175 page 8 low 0xc00, 1032 bytes\n"
				 "  2207 page 2 hi 0x0, 12 bytes\n"
				 "  pages 2 2 0 (0), 2089 bytes\n"
				 "  size 2107\n"
				 "2232 type 3 ram[0] id 0 version 4\n"
				 "  2237 page 64 low 0xc00, 23 bytes\n"
				 "  pages 0 0 1 (8), 23 bytes\n"
				 "  size 41\n"
				 "2273 type 4 dev[1] id 7 version 3\n"
				 "  2290 bool on = 1\n"
				 "  2291 int8 i8 = -2\n"
				 "  2292 int64 i64 = -3\n"
				 "  2300 uint16 equal same = 4660\n"
				 "  2302 timer when = -1\n"
				 "  2310 uint16 row (3) = 1 2 3\n"
				 "  2316 uint8 one[5] = 9\n"
				 "  2317 bitmap bits = 80 00 00 00 00 00 00 01\n"
				 "  2325 unused_buffer gone = 00 00\n"
				 "  2327 qtailq list = 01 77 00\n"
				 "  2330 nullptr ptr[0] = null\n"
				 "  2331 uint8 ptr[1].x = 85\n"
				 "  2332 uint8 seg[0].a = 10\n"
				 "  2333 uint16 seg[0].b = 11\n"
				 "  2335 uint8 seg[1].a = 12\n"
				 "  2336 uint16 seg[1].b = 13\n"
				 "  2338 buffer none =\n"
				 "  2352 uint64 (dev/more).u64 = 18446744073709551615\n"
				 "  size 92\n"
				 "2365 type 0\n"
				 "  size 1\n"
				 "2366 type 8 command 16384, 0 bytes\n"
				 "  size 5\n";

Test(analyze, tells_everything)
{
	struct analyze_result result;
	struct error *err = NULL;
	char *events, *want;
	size_t len;
	uint8_t *data = make_toy(&len);

	events = analyze_into_diary(data, len, &result, &err);
	expect_ok(events != NULL, err);
	cr_assert(asprintf(&want, "%s2371 type 6\n  size %zu\n", toy_events,
			   sizeof(toy_description) + 4) > 0);
	cr_assert_str_eq(events, want);
	cr_assert_eq(result.bytes, len);
	cr_assert_eq(result.page_size, TOY_PAGE);
	cr_assert_eq(result.ram_parts, 1);
	cr_assert_eq(result.nblocks, 2);
	cr_assert_str_eq(result.blocks[0].name, "low");
	cr_assert_eq(result.blocks[0].pages.normal, 2);
	cr_assert_eq(result.blocks[0].pages.zero, 1);
	cr_assert_eq(result.blocks[0].pages.xbzrle, 1);
	cr_assert_eq(result.blocks[0].pages.bytes, 1036 + 9 + 1032 + 23);
	cr_assert_eq(result.blocks[1].pages.zero, 1);
	free(want);
	free(events);
	free(data);
}

/* A visitor may be interested in nothing. */
Test(analyze, tells_nothing)
{
	const struct analyze_visitor visitor = { 0 };
	struct analyze_result result;
	struct error *err = NULL;
	size_t len;
	uint8_t *data = make_toy(&len);

	expect_ok(analyze_memory(data, len, &visitor, &result, &err), err);
	cr_assert_eq(result.blocks[0].pages.normal, 2);
	free(data);
}

/* What came before the cut is told, and the error is where the stream ends or where the description is missed. */
Test(analyze, cut_at_every_byte)
{
	size_t len;
	uint8_t *data = make_toy(&len);

	for (size_t cut = 0; cut < len; cut++) {
		struct analyze_result result;
		struct error *err = NULL;
		uint8_t *part = malloc(cut + 1); /* of its own, so that a read beyond it is seen */
		char *events;

		memcpy(part, data, cut);
		events = analyze_into_diary(part, cut, &result, &err);
		cr_assert_not_null(err, "cut at %zu: no error", cut);
		/* Without the description a page is thought to have 4 KiB, which ends it at the block list. */
		cr_assert_eq(result.error_offset, cut < 89 ? cut : 81, "cut at %zu: %s", cut,
			     err->msg);
		error_free(err);
		free(events);
		free(part);
	}
	free(data);
}

/* Each byte, several ways: an answer, and one with an offset where it is an error. Guest pages may have any content; of the others, an
 * error is usual. */
Test(analyze, every_byte_damaged)
{
	static const uint8_t flips[] = { 0x01, 0x02, 0x10, 0x40, 0x80, 0xff };
	unsigned int errors = 0;
	size_t len;
	uint8_t *data = make_toy(&len);

	for (size_t at = 0; at < len; at++) {
		for (size_t k = 0; k < sizeof(flips); k++) {
			struct analyze_result result;
			struct error *err = NULL;

			data[at] ^= flips[k];
			free(analyze_into_diary(data, len, &result, &err));
			data[at] ^= flips[k];
			cr_assert(at >= 8 || err, "byte %zu ^ 0x%02x: no error", at, flips[k]);
			errors += err != NULL;
			error_free(err);
		}
	}
	cr_assert(errors > 5000, "only %u errors", errors);
	free(data);
}

/* Several bytes at once, pieces put twice, pieces left out. */
Test(analyze, random_damage)
{
	struct prng rng = { SEED };
	size_t len;
	uint8_t *data = make_toy(&len), *copy = malloc(2 * len);

	for (unsigned int round = 0; round < 4000; round++) {
		size_t from = prng_below(&rng, len), n = prng_below(&rng, 64), to = from + n, rest;
		struct analyze_result result;
		struct error *err = NULL;

		if (to > len)
			to = len;
		memcpy(copy, data, to);
		rest = len - (round & 1 ? from : to);
		memcpy(copy + to, data + len - rest, rest);
		for (unsigned int i = 0; i < round % 5; i++)
			copy[prng_below(&rng, to + rest)] = (uint8_t)prng_next(&rng);
		free(analyze_into_diary(copy, to + rest, &result, &err));
		error_free(err);
	}
	free(copy);
	free(data);
}

/* --- a stranger's --- */

#define FOREIGN "tests/golden/foreign-microvm-7.2.mig"

Test(analyze, foreign_stream)
{
	static const char *const lines[] = {
		"8 type 7\n",
		"  machine microvm, offers 0 0x0\n",
		" block microvm.ram 33554432 0\n",
		"  pages 20 8191 0 (0), ",
		" type 4 cpu[0] id 6 version 12\n",
		" uint64 env.regs (16) = ",
		" uint64 env.segs[5].base = 0\n",
		" int64 (cpu/tsc_khz).env.tsc_khz = 2300000\n",
		" bool (kvmclock/clock_is_reliable).clock_is_reliable = 1\n",
		" type 4 ioapic[1] id 10 version 3\n",
		" uint8 state.lsr = 96\n",
		" buffer runstate = 72 75 6e 6e 69 6e 67 00\n",
	};
	struct analyze_result result;
	struct error *err = NULL;
	struct diary d = { 0 };
	struct analyze_visitor visitor = { &d,		diary_begin, diary_block, diary_page,
					   diary_chunk, diary_field, diary_end };
	struct stat st;

	cr_assert_eq(stat(FOREIGN, &st), 0, "%s: tests run in the source's folder", FOREIGN);
	d.to = open_memstream(&d.text, &d.len);
	expect_ok(analyze_file(FOREIGN, &visitor, &result, &err), err);
	fclose(d.to);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		cr_assert(strstr(d.text, lines[i]), "'%s' is missing", lines[i]);
	cr_assert_eq(result.bytes, (uint64_t)st.st_size);
	cr_assert_eq(result.nblocks, 5);
	cr_assert_eq(result.blocks[2].pages.normal, 5);
	free(d.text);
}

/* --- files --- */

Test(analyze, files)
{
	const struct analyze_visitor visitor = { 0 };
	struct analyze_result result;
	struct error *err = NULL;
	char dir[64], path[128];
	size_t len;
	uint8_t *data = make_toy(&len);
	FILE *file;

	scratch_make(dir);
	snprintf(path, sizeof(path), "%s/toy", dir);
	file = fopen(path, "w");
	cr_assert_eq(fwrite(data, 1, len, file), len);
	fclose(file);
	expect_ok(analyze_file(path, &visitor, &result, &err), err);
	cr_assert_eq(result.bytes, len);
	cr_assert_eq(truncate(path, 85), 0);
	cr_assert_not(analyze_file(path, &visitor, &result, &err));
	cr_assert_eq(strncmp(err->msg, path, strlen(path)), 0, "%s", err->msg);
	expect_error(err, ": offset 0x55: the stream ends within section 'ram' instance 0");
	cr_assert_eq(truncate(path, 0), 0);
	cr_assert_not(analyze_file(path, &visitor, &result, &err));
	expect_error(err, ": offset 0x0: the stream ends within the file header");
	cr_assert_not(analyze_file("/nonexistent/toy", &visitor, &result, &err));
	expect_error(err, "/nonexistent/toy: cannot open");
	cr_assert_not(analyze_file(dir, &visitor, &result, &err));
	expect_error(err, "regular file");
	scratch_remove(dir);
	free(data);
}
