/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: nothing that a stream or its description says makes the analyzer read beyond its bytes, take unbounded memory or time, or
 * say something else than where it is wrong.
 *
 * How: tables of one wrong thing each, with the offset and the words of the error.
 */
#include "tests/unit/analyze_support.h"

SUITE(analyze_hostile);

/* --- the frame --- */

#define CONFIGURATION "07 00 00 00 01 6d"
#define RAM_HEAD "01 00 00 00 00 03 72 61 6d 00 00 00 00 00 00 00 04"
/* One block "a" of two pages of 4 KiB. Behind it the stream is at 62. */
#define RAM_START                                                                              \
	RAM_HEAD " 00 00 00 00 00 00 20 04 01 61 00 00 00 00 00 00 20 00 00 00 00 00 00 00 00" \
		 " 10 7e 00 00 00 00"
#define PART " 02 00 00 00 00 "

static const struct {
	const char *what, *hex; /* behind header and CONFIGURATION, at 14 */
	uint64_t offset;
	const char *words;
} frames[] = {
	{ "nothing", "", 14, "the stream ends, expected a section, a command or EOF" },
	{ "unknown type", "42", 14, "section type 0x42, expected a section" },
	{ "a second CONFIGURATION", CONFIGURATION, 14, "section type 0x07" },
	{ "description before EOF", "06 00 00 00 00", 14, "section type 0x06" },
	{ "behind EOF", "00 04", 15, "section type 0x04, expected a command, a VMDESC" },
	{ "two ends", "00 00", 15, "section type 0x00" },
	{ "a name of no bytes", "04 00 00 00 00 00", 19, "name of a section has 0 bytes" },
	{ "a long name", "04 00 00 00 00 80", 19, "name of a section has 128 bytes" },
	{ "NUL in a name", "04 00 00 00 00 02 61 00", 19, "has a NUL inside" },
	{ "no description", "04 00 00 00 00 01 61 00 00 00 02 00 00 00 03", 14,
	  "section 'a' instance 2: only a VMDESCRIPTION tells its length" },
	{ "a command that is cut", "08 00 02 ff ff 00", 20, "ends within COMMAND" },
	{ "PART without START", PART, 14, "PART of section 0, which no START" },
	{ "ram of version 5", "01 00 00 00 00 03 72 61 6d 00 00 00 00 00 00 00 05", 14,
	  "version 5, expected 4" },
	{ "FULL ram", "04 00 00 00 00 03 72 61 6d 00 00 00 00 00 00 00 04", 14,
	  "only a VMDESCRIPTION" },
	{ "START of another", "01 00 00 00 00 01 61 00 00 00 00 00 00 00 04", 14,
	  "only a VMDESCRIPTION" },
	{ "two STARTs", RAM_START RAM_HEAD, 62, "a second START" },
	{ "wrong footer", RAM_HEAD " 00 00 00 00 00 00 00 10 7f 00 00 00 00", 39,
	  "byte 0x7f and id 0 at its end, expected a footer 0x7e and id 0" },
	{ "footer of another", RAM_HEAD " 00 00 00 00 00 00 00 10 7e 00 00 00 01", 39, "id 1" },
	{ "PART of another", RAM_START " 02 00 00 00 01", 62, "PART of section 1" },
	{ "PART behind END",
	  RAM_START " 03 00 00 00 00 00 00 00 00 00 00 00 10 7e 00 00 00 00" PART, 80,
	  "which has ended" },
	{ "a VMDESCRIPTION of 4 GiB", "00 06 ff ff ff ff 7b", 21, "ends within VMDESCRIPTION" },
	{ "behind the description", "00 06 00 00 00 01 20 00", 21, "expected the end" },
	/* the block list */
	{ "an endless list", RAM_HEAD " ff ff ff ff ff ff f0 04 01 61 00 00 00 00 00 00 10 00", 49,
	  "ends within section 'ram'" },
	{ "a block beyond the total",
	  RAM_HEAD " 00 00 00 00 00 00 10 04 01 61 ff ff ff ff ff ff f0 00", 39,
	  "expected at most the 0x1000" },
	{ "a block twice",
	  RAM_HEAD " 00 00 00 00 00 00 20 04 01 61 00 00 00 00 00 00 10 00 01 61 00 00 00 00 00 00"
		   " 10 00",
	  49, "a second time" },
	{ "a second list", RAM_START PART "00 00 00 00 00 00 10 04", 67, "second block list" },
	/* pages */
	{ "a record of no kind", RAM_START PART "00 00 00 00 00 00 10 00", 67, "flags 0x0" },
	{ "a record of two kinds", RAM_START PART "00 00 00 00 00 00 10 0a", 67, "flags 0xa" },
	{ "an unknown kind", RAM_START PART "00 00 00 00 00 00 11 00", 67, "flags 0x100" },
	{ "CONTINUE at first", RAM_START PART "00 00 00 00 00 00 00 22 00", 67, "continues" },
	{ "an unknown block", RAM_START PART "00 00 00 00 00 00 00 02 01 62", 75, "block 'b'" },
	{ "a block's escape", RAM_START PART "00 00 00 00 00 00 00 02 01 1b", 75, "block '?'" },
	{ "beyond the block", RAM_START PART "00 00 00 00 00 00 20 02 01 61", 67,
	  "address 0x2000 of block 'a', expected less than 0x2000" },
	{ "far beyond", RAM_START PART "ff ff ff ff ff ff f0 02 01 61", 67,
	  "address 0xfffffffffffff000" },
	{ "filled", RAM_START PART "00 00 00 00 00 00 00 02 01 61 07", 77, "fill byte 0x07" },
	{ "half a page", RAM_START PART "00 00 00 00 00 00 00 08 01 61 07", 78, "ends within" },
	{ "another encoding", RAM_START PART "00 00 00 00 00 00 00 40 01 61 02 00 01", 77,
	  "XBZRLE encoding 0x02" },
	{ "more than a page", RAM_START PART "00 00 00 00 00 00 00 40 01 61 01 10 01", 78,
	  "payload of 4097 bytes" },
	{ "a run beyond", RAM_START PART "00 00 00 00 00 00 00 40 01 61 01 00 04 ff 1f 02 00", 80,
	  "malformed" },
	{ "beyond the page", RAM_START PART "00 00 00 00 00 00 00 40 01 61 01 00 05 ff 1f 02 00 00",
	  80, "malformed" },
};

Test(analyze_hostile, frames)
{
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		struct maker m = maker_start();
		size_t len;
		uint8_t *data;

		put_hex(&m, CONFIGURATION);
		put_hex(&m, frames[i].hex);
		data = maker_end(&m, &len);
		expect_damage(data, len, frames[i].offset, frames[i].words);
	}
}

Test(analyze_hostile, no_stream_at_all)
{
	static const struct {
		const char *hex;
		uint64_t offset;
		const char *words;
	} cases[] = {
		{ "", 0, "ends within the file header" },
		{ "51 45 56", 3, "ends within the file header" },
		{ "7f 45 4c 46 02 01", 0, "begins with 0x7f454c46, expected 0x5145564d" },
		{ "51 45 56 4d 00 00 00 02", 4, "stream version 2, expected 3" },
		{ "51 45 56 4d 00 00 00 03", 8, "expected CONFIGURATION or a section" },
		{ "51 45 56 4d 00 00 00 03 07 ff ff ff ff", 9, "name has 0xffffffff bytes" },
		{ "51 45 56 4d 00 00 00 03 07 00 00 00 02 61", 14, "ends within CONFIGURATION" },
		{ "51 45 56 4d 00 00 00 03 07 00 00 00 01 61 05 01 62 00 00 00 01", 14,
		  "subsection 'b' version 1: only a VMDESCRIPTION tells" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *data = malloc(64);

		expect_damage(data, bytes_of(cases[i].hex, data, 64), cases[i].offset,
			      cases[i].words);
	}
}

/* --- a stream without description --- */

/* The configuration as ferry writes it is known, so that the memory behind it is reached. */
Test(analyze_hostile, configuration_without_description)
{
	static const char *const lines[] = {
		"  13 buffer name = 66 31\n",
		" uint64 (configuration/offers).offers = 1\n",
		" uint32 (configuration/devicetree).fdt_bytes = 3\n",
		" buffer (configuration/devicetree).fdt = d0 0d fe\n",
		" uint32 (configuration/cpu).cpuid[1].edx = 14\n",
		" uint32 (configuration/cpu).msrs (2) = 16 32\n",
		" uint32 (configuration/cpu).tsc_khz = 1000\n",
		"  machine f1, offers 1 0x1\n",
	};
	struct maker m = maker_start();
	struct analyze_result result;
	struct error *err = NULL;
	size_t len;
	uint8_t *data;
	char *events;

	put_hex(&m, "07 00 00 00 02 66 31");
	put_subsection(&m, "configuration/offers", 1);
	put_u64(m.out, 1);
	put_subsection(&m, "configuration/devicetree", 1);
	put_hex(&m, "00 00 00 03 d0 0d fe");
	put_subsection(&m, "configuration/cpu", 1);
	put_u32(m.out, 2);
	for (uint32_t i = 1; i <= 14; i++)
		put_u32(m.out, i);
	put_hex(&m, "00 00 00 02 00 00 00 10 00 00 00 20 00 00 03 e8");
	put_hex(&m, RAM_START " 00");
	data = maker_end(&m, &len);
	events = analyze_into_diary(data, len, &result, &err);
	expect_ok(events != NULL, err);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		cr_assert(strstr(events, lines[i]), "'%s' is missing in:\n%s", lines[i], events);
	cr_assert_eq(result.nblocks, 1);
	free(events);
	free(data);
}

/* A block of huge pages has their size in the list, unannounced. */
Test(analyze_hostile, block_page_size)
{
	struct maker m = maker_start();
	struct analyze_result result;
	struct error *err = NULL;
	size_t len;
	uint8_t *data;
	char *events;

	put_hex(&m, CONFIGURATION);
	put_ram_start(&m, "00 00 00 00 00 80 00 04"
			  "01 61 00 00 00 00 00 40 00 00 00 00 00 00 00 20 00 00"
			  "01 62 00 00 00 00 00 20 00 00"
			  "01 63 00 00 00 00 00 20 00 00 00 00 00 00 00 20 00 00"
			  "00 00 00 00 00 00 00 10");
	section_put_footer(m.out, 0);
	put_u8(m.out, SECTION_EOF);
	data = maker_end(&m, &len);
	events = analyze_into_diary(data, len, &result, &err);
	expect_ok(events != NULL, err);
	cr_assert_eq(result.nblocks, 3);
	cr_assert_eq(result.blocks[0].page_size, 2 << 20);
	cr_assert_eq(result.blocks[1].page_size, 0);
	cr_assert_eq(result.blocks[2].page_size, 2 << 20);
	free(events);
	free(data);
}

Test(analyze_hostile, too_many_blocks)
{
	struct maker m = maker_start();
	size_t len;
	uint8_t *data;
	char name[16];

	put_hex(&m, CONFIGURATION " " RAM_HEAD " 00 00 00 00 00 00 10 04");
	for (int i = 0; i < 257; i++) {
		snprintf(name, sizeof(name), "b%03d", i);
		put_name(m.out, name);
		put_u64(m.out, 0);
	}
	data = maker_end(&m, &len);
	expect_damage(data, len, 39 + 256 * 13, "block number 257, expected no more than 256");
}

/* --- the description --- */

/* A stream with one device "d" of these bytes; "@" in the JSON stands for what begins a description with that device. */
static uint8_t *device_with(const char *json, const char *hex, size_t *len)
{
	struct maker m = maker_start();
	char *text;

	put_hex(&m, CONFIGURATION);
	section_put_header(m.out, SECTION_FULL, 1, "d", 0, 1);
	put_hex(&m, hex);
	section_put_footer(m.out, 1);
	put_u8(m.out, SECTION_EOF);
	cr_assert(
		asprintf(&text, "%s%s",
			 json[0] == '@'
				 ? "{\"devices\":[{\"name\":\"d\",\"instance_id\":0,\"version\":1,"
				 : "",
			 json + (json[0] == '@')) > 0);
	put_description(&m, text);
	free(text);
	return maker_end(&m, len);
}

#define FIELD(rest) "@\"fields\":[{\"name\":\"f\"" rest "}]}]}"
#define AT_DEVICE 14
#define AT_FIELDS 29
#define BYTES "00 01 02 03"

static const struct {
	const char *json;
	uint64_t offset;
	const char *words;
} descriptions[] = {
	{ "{", AT_DEVICE, "the VMDESCRIPTION has malformed JSON at offset 0x" },
	{ "{\"a\":\"\xff\"}", AT_DEVICE, "malformed JSON" },
	{ "{}", AT_DEVICE, "no array 'devices'" },
	{ "{\"devices\":[]}", AT_DEVICE, "section 'd' instance 0: not in the VMDESCRIPTION" },
	{ "{\"devices\":[7,{\"name\":\"d\"},{\"name\":\"d\",\"instance_id\":-1},"
	  "{\"name\":\"d\",\"instance_id\":4294967296}]}",
	  AT_DEVICE, "not in the VMDESCRIPTION" },
	{ "{\"devices\":[{\"name\":\"d\",\"instance_id\":0,\"version\":2}]}", AT_DEVICE,
	  "version 1, expected 2 by the VMDESCRIPTION" },
	{ "@\"x\":1}]}", AT_FIELDS, "no array 'fields'" },
	{ "@\"fields\":{}}]}", AT_FIELDS, "no array 'fields'" },
	{ "@\"fields\":[1]}]}", AT_FIELDS, "a field without a name" },
	{ "@\"fields\":[{\"name\":1}]}]}", AT_FIELDS, "a field without a name" },
	{ FIELD(""), AT_FIELDS, "description of 'f': no type" },
	{ FIELD(",\"type\":\"uint8\""), AT_FIELDS, "'f': no size" },
	{ FIELD(",\"type\":\"uint8\",\"size\":2"), AT_FIELDS, "a uint8 of 2 bytes, expected 1" },
	{ FIELD(",\"type\":\"uint64\",\"size\":0"), AT_FIELDS, "a uint64 of 0 bytes" },
	{ FIELD(",\"type\":\"x\",\"size\":-1"), AT_FIELDS, "size is -1, expected 0 or more" },
	{ FIELD(",\"type\":\"x\",\"size\":\"4\""), AT_FIELDS, "size is no integer" },
	{ FIELD(",\"type\":\"x\",\"size\":1.5"), AT_FIELDS, "size is no integer" },
	{ FIELD(",\"type\":\"x\",\"size\":4,\"index\":-1"), AT_FIELDS, "index is -1" },
	{ FIELD(",\"type\":\"x\",\"size\":4,\"array_len\":0"), AT_FIELDS, "array_len is 0" },
	{ FIELD(",\"type\":\"x\",\"size\":4294967295"), AT_FIELDS, "field 'f' has 1 x 4294967295" },
	{ FIELD(",\"type\":\"x\",\"size\":11"), AT_FIELDS, "1 x 11 bytes, expected no more" },
	{ FIELD(",\"type\":\"x\",\"size\":4611686018427387904,\"array_len\":4611686018427387904"),
	  AT_FIELDS, "4611686018427387904 x 4611686018427387904" },
	{ FIELD(",\"type\":\"uint8\",\"size\":1,\"array_len\":9223372036854775807"), AT_FIELDS,
	  "9223372036854775807 x 1" },
	{ FIELD(",\"type\":\"x\",\"size\":5"), 34, "byte 0x00 and id 256 at its end" },
	{ FIELD(",\"type\":\"x\",\"size\":3"), 32, "byte 0x03" },
	{ FIELD(",\"type\":\"bool\",\"size\":1,\"array_len\":4"), 31,
	  "'f' is 0x02, expected 0 or 1" },
	{ FIELD(",\"type\":\"nullptr\",\"size\":1"), 29, "'f' is 0x00, expected 0x30" },
	{ FIELD(",\"type\":\"struct\",\"size\":4"), AT_FIELDS, "'f': no array 'fields'" },
	{ FIELD(",\"type\":\"struct\",\"struct\":[]"), AT_FIELDS, "'f': no array 'fields'" },
	/* An element of no bytes is not repeated for ever. */
	{ FIELD(",\"type\":\"struct\",\"array_len\":9223372036854775807,\"struct\":{\"fields\":[]"
		"}"),
	  AT_FIELDS, "byte 0x00" },
	{ FIELD(",\"type\":\"struct\",\"array_len\":9223372036854775807,\"struct\":{\"fields\":["
		"{\"name\":\"n\",\"type\":\"x\",\"size\":0}]}"),
	  AT_FIELDS, "byte 0x00" },
	{ FIELD(",\"type\":\"struct\",\"array_len\":9223372036854775807,\"struct\":{\"fields\":["
		"{\"name\":\"n\",\"type\":\"x\",\"size\":1}]}"),
	  39, "field 'f[10].n' has 1 x 1 bytes" },
	{ FIELD(",\"type\":\"x\",\"size\":4") "junk", AT_DEVICE, "malformed JSON" },
	{ "@\"fields\":[],\"subsections\":[1]}]}", AT_FIELDS, "a subsection without vmsd_name" },
	{ "@\"fields\":[],\"subsections\":[{\"vmsd_name\":\"d/s\"}]}]}", AT_FIELDS,
	  "byte 0x00, expected 0x05, subsection 'd/s'" },
	{ "{\"page_size\":0,\"devices\":[]}", 39, "page_size 0" },
	{ "{\"page_size\":4097,\"devices\":[]}", 39, "page_size 4097" },
	{ "{\"page_size\":-4096,\"devices\":[]}", 39, "page_size -4096" },
	{ "{\"page_size\":1099511627776,\"devices\":[]}", 39, "page_size 1099511627776" },
	{ "{\"configuration\":7,\"devices\":[]}", 9, "no array 'fields'" },
};

Test(analyze_hostile, descriptions)
{
	for (size_t i = 0; i < sizeof(descriptions) / sizeof(descriptions[0]); i++) {
		size_t len;
		uint8_t *data = device_with(descriptions[i].json, BYTES, &len);

		expect_damage(data, len, descriptions[i].offset, descriptions[i].words);
	}
}

Test(analyze_hostile, subsections)
{
#define WITH_SUB                                                                            \
	"@\"fields\":[],\"subsections\":[{\"vmsd_name\":\"d/s\",\"version\":1,\"fields\":[" \
	"{\"name\":\"v\",\"type\":\"uint8\",\"size\":1}]}]}]}"
	static const struct {
		const char *hex;
		uint64_t offset;
		const char *words;
	} cases[] = {
		{ "05 03 64 2f 74 00 00 00 01 07", 29, "subsection 'd/t', expected 'd/s'" },
		{ "05 03 64 2f 73 00 00 00 02 07", 29, "version 2, expected 1" },
		{ "05 ff 64 2f 73 00 00 00 02 07", 30, "name of a subsection has 255 bytes" },
		{ "07", 29, "byte 0x07, expected 0x05" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len;
		uint8_t *data = device_with(WITH_SUB, cases[i].hex, &len);

		expect_damage(data, len, cases[i].offset, cases[i].words);
	}
}

/* A description that says n times `unit`, between `head` and `tail`. */
static uint8_t *device_with_many(const char *head, const char *unit, size_t n, const char *tail,
				 size_t *len)
{
	char *json;
	size_t size;
	FILE *to = open_memstream(&json, &size);
	uint8_t *data;

	fputs(head, to);
	while (n--)
		fputs(unit, to);
	fputs(tail, to);
	fclose(to);
	data = device_with(json, BYTES, len);
	free(json);
	return data;
}

Test(analyze_hostile, deep_and_long)
{
#define NEST "[{\"name\":\"n\",\"type\":\"struct\",\"struct\":{\"fields\":"
#define EMPTY "{\"name\":\"f\",\"type\":\"x\",\"size\":0},"
	size_t len;
	uint8_t *data;

	/* Nesting: too deep for the walk, for the parser, for a path. */
	data = device_with_many("@\"fields\":", NEST, 60, "", &len);
	expect_damage(data, len, AT_DEVICE, "malformed JSON");
	data = device_with_many("{\"devices\":", "[", 3000000, "", &len);
	expect_damage(data, len, AT_DEVICE, "more than 2097152 values");
	data = device_with_many("{\"devices\":", "[", 100000, "", &len);
	expect_damage(data, len, AT_DEVICE, "malformed JSON");
	data = device_with_many("@\"fields\":[{\"name\":\"", "long", 300,
				"\",\"type\":\"x\",\"size\":4}]}]}", &len);
	expect_damage(data, len, AT_FIELDS, "path is longer than 1023");
	/* Size: more values than are parsed; fewer, but an array of them for each of many elements. */
	data = device_with_many("@\"fields\":[", "1,", 2500000, "1]}]}", &len);
	expect_damage(data, len, AT_DEVICE, "more than 2097152 values");
	data = device_with_many("@\"fields\":[{\"name\":\"a\",\"type\":\"struct\",\"array_len\":9,"
				"\"struct\":{\"fields\":[",
				EMPTY, 150000, "{\"name\":\"v\",\"type\":\"x\",\"size\":1}]}}]}]}",
				&len);
	expect_damage(data, len, AT_FIELDS + 6, "expected no more than 1048576");
}

Test(analyze_hostile, nested_too_deep)
{
	char *json;
	size_t size, len;
	FILE *to = open_memstream(&json, &size);
	uint8_t *data;

	fputs("@\"fields\":", to);
	for (int i = 0; i < 40; i++)
		fputs(NEST, to);
	fputs("[]", to);
	for (int i = 0; i < 40; i++)
		fputs("}}]", to);
	fputs("}]}", to);
	fclose(to);
	data = device_with(json, BYTES, &len);
	free(json);
	expect_damage(data, len, AT_FIELDS, "too deeply nested");
}

/* A large buffer is told in its first part, and skipped. */
Test(analyze_hostile, large_field)
{
	struct maker m = maker_start();
	struct analyze_result result;
	struct error *err = NULL;
	uint8_t *big = calloc(1, 3 << 20), *data;
	size_t len;
	char *events;

	put_hex(&m, CONFIGURATION);
	section_put_header(m.out, SECTION_FULL, 1, "d", 0, 1);
	put_bytes(m.out, big, 3 << 20);
	section_put_footer(m.out, 1);
	put_u8(m.out, SECTION_EOF);
	put_description(&m,
			"{\"devices\":[{\"name\":\"d\",\"instance_id\":0,\"fields\":["
			"{\"name\":\"f\",\"type\":\"buffer\",\"size\":2097152},"
			"{\"name\":\"n\",\"type\":\"uint64\",\"size\":8,\"array_len\":131072}]}]}");
	data = maker_end(&m, &len);
	events = analyze_into_diary(data, len, &result, &err);
	expect_ok(events != NULL, err);
	cr_assert(strstr(events, " buffer f ="));
	cr_assert(strstr(events, " uint64 n (131072) = 0 0 0 0\n"));
	cr_assert_eq(result.bytes, len);
	free(events);
	free(data);
	free(big);
}
