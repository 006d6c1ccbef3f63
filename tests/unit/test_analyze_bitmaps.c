/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the analyzer says what is in section "dirty-bitmap", of ferry's streams and of those whose names are longer; and of a
 * damaged one, where it is damaged.
 *
 * How: chunks written by hand, compared with a list of events; the stream that ferry itself writes, compared with its disks; each
 * cut and each damage of it; a table of one wrong thing each.
 */
#include "migration/bitmaps/format.h"
#include "migration/bitmaps/save.h"
#include "tests/unit/analyze_support.h"
#include "vmm/base/cleanup.h"

SUITE(analyze_bitmaps);

#define ID 5
#define CONFIGURATION "07 00 00 00 01 6d"
/* Behind header and CONFIGURATION, at 14; its chunks are at CHUNKS. */
#define HEAD "01 00 00 00 05 0c 64 69 72 74 79 2d 62 69 74 6d 61 70 00 00 00 00 00 00 00 01 "
#define CHUNKS 40
#define START "1c 02 64 30 01 61 00 01 00 00 01 " /* d0/a, grains of 64 KiB */
#define FOOTER " 7e 00 00 00 05 "
#define ZEROES "42 00 00 00 00 00 00 00 00 00 00 08 00 " /* 1 MiB */
#define ZEROES_16 "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
#define COMPLETE "20 "
#define EOS "01"

static uint8_t *make(const char *hex, size_t *len)
{
	struct maker m = maker_start();

	put_hex(&m, CONFIGURATION);
	put_hex(&m, hex);
	return maker_end(&m, len);
}

static const char events[] = "8 type 7\n"
			     "  9 uint32 name_bytes = 1\n"
			     "  13 buffer name = 6d\n"
			     "  machine m, offers 0 0x0\n"
			     "  size 6\n"
			     "14 type 1 dirty-bitmap[0] id 5 version 1\n"
			     "  40 chunk 0 d0/a, 11 bytes: 65536 1 0\n"
			     "  51 chunk 0 d0/b, 8 bytes: 512 0 1\n"
			     "  chunks 0 0\n"
			     "  size 51\n"
			     "65 type 2 dirty-bitmap[0] id 5 version 1\n"
			     "  70 chunk 1 d0/a, 58 bytes: 3 of 16 in 0 + 1048576\n"
			     "  128 chunk 2 d0/b, 15 bytes: 0 of 2048 in 0 + 1048576\n"
			     "  chunks 1 1\n"
			     "  size 84\n"
			     "149 type 3 dirty-bitmap[0] id 5 version 1\n"
			     "  154 chunk 3 d0/b, 1 bytes\n"
			     "  155 chunk 1 d0/a, 55 bytes: 1 of 1 in 983040 + 65536\n"
			     "  210 chunk 3 d0/a, 1 bytes\n"
			     "  chunks 1 0\n"
			     "  size 68\n"
			     "217 type 0\n"
			     "  size 1\n";

Test(analyze_bitmaps, tells_everything)
{
	struct analyze_result *result = xcalloc(1, sizeof(*result));
	struct error *err = NULL;
	char *told;
	size_t len;
	/* Bits behind the last grain are not counted. */
	uint8_t *data =
		make(HEAD START
		     "14 01 62 00 00 02 00 02 " EOS FOOTER "02 00 00 00 05 "
		     "4c 02 64 30 01 61 00 00 00 00 00 00 00 00 00 00 08 00 "
		     "00 00 00 00 00 00 00 20 03 80 ff " ZEROES_16
		     "00 00 00 00 00 00 00 00 00 00 00 00 00 "
		     "46 01 62 00 00 00 00 00 00 00 00 00 00 08 00 " EOS FOOTER
		     "03 00 00 00 05 " COMPLETE "44 01 61 00 00 00 00 00 00 07 80 00 00 00 80 "
		     "00 00 00 00 00 00 00 20 ff " ZEROES_16
		     "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 " COMPLETE EOS FOOTER "00",
		     &len);

	told = analyze_into_diary(data, len, result, &err);
	expect_ok(err == NULL, err);
	cr_assert_str_eq(told, events);
	cr_assert_eq(result->bytes, len);
	cr_assert_eq(result->nbitmaps, 2);
	cr_assert_eq(result->bitmaps[0].chunks, 2);
	cr_assert_eq(result->bitmaps[0].zeroes, 0);
	cr_assert_eq(result->bitmaps[0].bytes, 11 + 58 + 55 + 1);
	cr_assert_eq(result->bitmaps[0].covered, 1 << 20);
	cr_assert(result->bitmaps[0].complete && result->bitmaps[1].complete);
	cr_assert_eq(result->bitmaps[1].zeroes, 1);
	cr_assert(result->bitmaps[1].persistent && !result->bitmaps[1].enabled);
	free(told);
	free(data);
	free(result);
}

/* --- ferry's own --- */

static void put_part(struct maker *m, uint8_t type)
{
	put_u8(m->out, type);
	put_u32(m->out, ID);
}

static uint8_t *make_own(size_t *len)
{
	struct disk_bitmaps_list list = TAILQ_HEAD_INITIALIZER(list);
	struct maker m = maker_start();
	struct disk_bitmaps disk;
	struct bitmap_save save;

	disk_bitmaps_init(&disk, "disk0", (UINT64_C(3) << 30) + 512);
	TAILQ_INSERT_TAIL(&list, &disk, entry);
	cr_assert(disk_bitmap_add(&disk, "day", 65536, true, NULL));
	cr_assert(disk_bitmap_add(&disk, "week", 1 << 20, false, NULL));
	disk_bitmaps_mark(&disk, 0, 1 << 20);
	put_hex(&m, CONFIGURATION);
	section_put_header(m.out, SECTION_START, ID, BITMAP_SECTION_NAME, 0,
			   BITMAP_SECTION_VERSION);
	cr_assert(bitmap_save_begin(&save, m.out, &list, NULL));
	bitmap_save_setup(&save);
	section_put_footer(m.out, ID);
	put_part(&m, SECTION_PART);
	while (bitmap_save_some(&save))
		;
	bitmap_save_eos(&save);
	section_put_footer(m.out, ID);
	disk_bitmaps_mark(&disk, UINT64_C(3) << 30, 512);
	put_part(&m, SECTION_END);
	bitmap_save_rest(&save);
	section_put_footer(m.out, ID);
	bitmap_save_end(&save);
	put_u8(m.out, SECTION_EOF);
	disk_bitmaps_release(&disk);
	return maker_end(&m, len);
}

Test(analyze_bitmaps, own_stream)
{
	struct analyze_result *result = xcalloc(1, sizeof(*result));
	struct error *err = NULL;
	size_t len;
	uint8_t *data = make_own(&len);
	char *told = analyze_into_diary(data, len, result, &err);
	const struct analyze_bitmap *day = &result->bitmaps[0], *week = &result->bitmaps[1];

	expect_ok(err == NULL, err);
	cr_assert_eq(result->nbitmaps, 2);
	cr_assert_str_eq(day->node, "disk0");
	cr_assert_str_eq(day->name, "day");
	/* 3 GiB are 6 chunks of 8192 grains, of which the first has bits; a seventh has the last sector, twice. */
	cr_assert_eq(day->chunks, 2);
	cr_assert_eq(day->zeroes, 6);
	cr_assert(strstr(told, " disk0/day, 1049 bytes: 16 of 8192 in 0 + 536870912\n"), "%s",
		  told);
	cr_assert(strstr(told, ": 1 of 1 in 3221225472 + 512\n"));
	cr_assert_eq(day->covered, (UINT64_C(3) << 30) + 512);
	cr_assert(day->enabled && day->complete);
	cr_assert_eq(week->zeroes, 1);
	cr_assert(!week->enabled && week->complete);
	free(told);
	free(data);
	free(result);
}

/* The error is where the stream ends; what came before is told. */
Test(analyze_bitmaps, cut_at_every_byte)
{
	struct analyze_result *result = xcalloc(1, sizeof(*result));
	size_t len;
	uint8_t *data = make_own(&len);

	for (size_t cut = 14; cut < len; cut++) {
		uint8_t *part = malloc(cut); /* of its own, so that a read beyond it is seen */
		struct error *err = NULL;

		memcpy(part, data, cut);
		free(analyze_into_diary(part, cut, result, &err));
		cr_assert_not_null(err, "cut at %zu: no error", cut);
		cr_assert_eq(result->error_offset, cut, "cut at %zu: %s", cut, err->msg);
		error_free(err);
		free(part);
	}
	free(data);
	free(result);
}

Test(analyze_bitmaps, every_byte_damaged)
{
	static const uint8_t flips[] = { 0x01, 0x02, 0x10, 0x40, 0x80, 0xff };
	struct analyze_result *result = xcalloc(1, sizeof(*result));
	unsigned int errors = 0;
	size_t len;
	uint8_t *data = make_own(&len);

	for (size_t at = 0; at < len; at++) {
		for (size_t k = 0; k < sizeof(flips); k++) {
			struct error *err = NULL;

			data[at] ^= flips[k];
			free(analyze_into_diary(data, len, result, &err));
			data[at] ^= flips[k];
			errors += err != NULL;
			error_free(err);
		}
	}
	cr_assert(errors > 1000, "only %u errors", errors);
	free(data);
	free(result);
}

/* --- what is wrong --- */

static const struct {
	const char *what, *hex; /* behind the head, at 40 */
	uint64_t offset;
	const char *words;
} wrongs[] = {
	{ "no kind", "0c 02 64 30 01 61", CHUNKS, "flags 0x0c, expected one kind" },
	{ "two kinds", "7c 02 64 30 01 61", CHUNKS, "flags 0x7c" },
	{ "flags of more bytes", "80 10", CHUNKS, "flags 0x80" },
	{ "the end, with a name", "05 01 61", CHUNKS, "flags 0x05" },
	{ "no names", "10 00 01 00 00 01", CHUNKS, "a chunk without a name" },
	{ "a node only", "18 02 64 30 00 01 00 00 01", CHUNKS, "a chunk without a name" },
	{ "a name of no bytes", "1c 02 64 30 00", CHUNKS + 4, "name of a bitmap has 0 bytes" },
	{ "NUL in a name", "18 02 64 00", CHUNKS + 1, "name of a disk has a NUL" },
	{ "granularity 0", "1c 02 64 30 01 61 00 00 00 00 01", CHUNKS + 6, "granularity 0 of 'a'" },
	{ "granularity 256", "1c 02 64 30 01 61 00 00 01 00 01", CHUNKS + 6, "granularity 256" },
	{ "granularity 3 GiB", "1c 02 64 30 01 61 c0 00 00 00 01", CHUNKS + 6,
	  "granularity 3221225472" },
	{ "unknown flags", "1c 02 64 30 01 61 00 01 00 00 09", CHUNKS + 10, "flags 0x09 of 'a'" },
	{ "a second start", START "10 00 01 00 00 01", CHUNKS + 11, "started a second time" },
	{ "not started", "4c 02 64 30 01 61", CHUNKS, "'a' of 'd0', expected its start" },
	{ "not started by that name", START "24 01 62", CHUNKS + 11, "'b' of 'd0', expected its" },
	{ "an escape", START "24 01 1b", CHUNKS + 11, "'?' of 'd0'" },
	{ "no sectors", START "42 00 00 00 00 00 00 00 00 00 00 00 00", CHUNKS + 12, "0 sectors" },
	{ "beyond all disks", START "42 00 7f ff ff ff ff ff ff 00 00 00 01", CHUNKS + 12,
	  "1 sectors at 36028797018963967" },
	{ "a gap", START "42 00 00 00 00 00 00 00 80 00 00 00 80", CHUNKS + 12,
	  "from byte 0x10000, expected no gap behind 0x0" },
	{ "within a grain", START ZEROES "42 00 00 00 00 00 00 00 01 00 00 00 01", CHUNKS + 25,
	  "from byte 0x200, expected a multiple of the granularity 65536" },
	{ "behind its end", START ZEROES COMPLETE ZEROES, CHUNKS + 25, "expected none as it is" },
	{ "two ends", START ZEROES COMPLETE COMPLETE, CHUNKS + 25, "completed a second time" },
	{ "a short buffer", START "40 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 00 10",
	  CHUNKS + 24, "16 bytes for 16 bits, expected 32" },
	{ "a buffer beyond measure",
	  "1c 02 64 30 01 61 00 00 02 00 01 40 00 00 00 00 00 00 00 00 ff ff ff ff "
	  "00 00 00 00 20 00 00 00",
	  CHUNKS + 24, "536870912 bytes for 4294967295 bits" },
	{ "half a buffer",
	  START "40 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 00 20 01", CHUNKS + 33,
	  "ends within section 'dirty-bitmap' instance 0" },
	{ "wrong footer", EOS " 7f 00 00 00 05", CHUNKS + 1, "expected a footer" },
	{ "a second START of the section", EOS FOOTER HEAD, CHUNKS + 6,
	  "a second START of 'dirty-bitmap'" },
	{ "PART of another", EOS FOOTER "02 00 00 00 04", CHUNKS + 6, "PART of section 4" },
	{ "PART behind END", EOS FOOTER "03 00 00 00 05 " EOS FOOTER "02 00 00 00 05", CHUNKS + 17,
	  "which has ended" },
	{ "ram of the same id", EOS FOOTER "01 00 00 00 05 03 72 61 6d 00 00 00 00 00 00 00 04",
	  CHUNKS + 6, "id 5, expected another than that of 'dirty-bitmap'" },
};

Test(analyze_bitmaps, what_is_wrong)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
		scoped_free char *hex = xasprintf("%s%s", HEAD, wrongs[i].hex);
		size_t len;
		uint8_t *data = make(hex, &len);

		expect_damage(data, len, wrongs[i].offset, wrongs[i].words);
	}
}

Test(analyze_bitmaps, another_version)
{
	size_t len;
	uint8_t *data = make("01 00 00 00 05 0c 64 69 72 74 79 2d 62 69 74 6d 61 70 00 00 00 00 "
			     "00 00 00 02",
			     &len);

	expect_damage(data, len, 14, "version 2, expected 1");
}

/* Names that no section has: others' may have 255 bytes. And more bitmaps than are counted. */
Test(analyze_bitmaps, many_with_long_names)
{
	struct analyze_result *result = xcalloc(1, sizeof(*result));
	struct maker m = maker_start();
	char name[ANALYZE_LONG_NAME_MAX + 1], words[64];
	struct error *err = NULL;
	uint64_t at = 0;
	size_t len;
	uint8_t *data;

	put_hex(&m, CONFIGURATION HEAD);
	for (unsigned int i = 0; i <= ANALYZE_BITMAPS_MAX; i++) {
		at = maker_at(&m);
		snprintf(name, sizeof(name), "%0255u", i);
		put_u8(m.out, BITMAP_START | BITMAP_HAS_NODE | BITMAP_HAS_NAME);
		put_hex(&m, "02 64 30 ff");
		put_bytes(m.out, name, 255);
		put_hex(&m, "00 01 00 00 01");
	}
	data = maker_end(&m, &len);
	free(analyze_into_diary(data, len, result, &err));
	snprintf(words, sizeof(words), "bitmap number %u", ANALYZE_BITMAPS_MAX + 1);
	cr_assert_eq(result->error_offset, at);
	expect_error(err, words);
	cr_assert_eq(result->nbitmaps, ANALYZE_BITMAPS_MAX);
	cr_assert_eq(strlen(result->bitmaps[ANALYZE_BITMAPS_MAX - 1].name), 255);
	free(data);
	free(result);
}
