/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the kinds and containers that a device meets less often (bitmaps, arrays of arrays, arrays of pointers, parts of buffers,
 * counters of 8 and 16 bits, structs of a set version, temporaries) have the bytes of the stream format's section 6, come
 * back, and refuse what is wrong.
 *
 * How: golden bytes written by hand; the same bytes loaded into an empty device and saved again; hand-made streams for each refusal.
 */
#include "tests/unit/vmstate_support.h"

SUITE(vmstate_kinds);

/* The bytes are what is saved, and what is loaded from them is saved as them again. */
static void expect_there_and_back(const struct vmstate_desc *desc, void *full, void *empty,
				  const char *hex)
{
	struct saved saved = save_ok(desc, full);

	vmstate_check(desc);
	expect_hex(saved.data, saved.len, hex, desc->name);
	load_ok(desc, empty, desc->version_id, &saved);
	expect_saved(desc, empty, hex);
	free(saved.data);
}

/* --- bitmaps --- */

struct maps {
	uint64_t fixed[2];
	uint8_t nbits;
	uint64_t *bits; /* owned */
};

static const struct vmstate_field maps_fields[] = {
	VMSTATE_BITMAP(fixed, struct maps, 65),
	VMSTATE_ONE(UINT8, nbits, struct maps),
	VMSTATE_ALLOC_BITMAP(bits, struct maps, nbits, 130),
	VMSTATE_END,
};
static const struct vmstate_desc maps_desc = { .name = "maps", .fields = maps_fields };

#define FIXED "80 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 "

Test(vmstate_kinds, a_bitmap_is_big_endian_words)
{
	uint64_t bits[3] = { 0x0102030405060708, 0, 3 };
	struct maps maps = { .fixed = { UINT64_C(1) << 63 | 1, 1 }, .nbits = 130, .bits = bits };
	struct maps loaded = { 0 };

	expect_there_and_back(&maps_desc, &maps, &loaded,
			      FIXED "82 01 02 03 04 05 06 07 08 00 00 00 00 00 00 00 00 "
				    "00 00 00 00 00 00 00 03");
	load_hex_fails(&maps_desc, &loaded, 0, FIXED "83", ".bits: ", "131 elements, at most 130");
	load_hex_fails(&maps_desc, &loaded, 0, FIXED "01 00 00 00 00 00 00 00 02", ".bits: ",
		       "bits beyond the bitmap's 1 are set (last word 0x0000000000000002)");
	load_hex_fails(&maps_desc, &loaded, 0, "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02",
		       ".fixed: ", "beyond the bitmap's 65");
	load_hex_fails(&maps_desc, &loaded, 0, FIXED "41 00 00 00 00 00 00 00 02 00 00 00 00",
		       ".bits: ", "ends");
	vmstate_release(&maps_desc, &loaded);
	cr_assert_null(loaded.bits);
}

Test(vmstate_kinds, a_bitmap_of_no_bits_has_no_bytes)
{
	struct maps maps = { .fixed = { UINT64_C(1) << 63 | 1, 1 } }, loaded = { 0 };

	expect_there_and_back(&maps_desc, &maps, &loaded, FIXED "00");
	vmstate_release(&maps_desc, &loaded);
}

/* --- arrays of arrays, of pointers; parts of buffers; small counters --- */

struct pile {
	uint16_t grid[2][3];
	uint32_t *lines[3]; /* not owned */
	uint8_t page[8];
	uint8_t nsmall;
	uint16_t small[4];
	uint16_t nbytes;
	uint8_t *bytes; /* owned */
};

static const struct vmstate_field pile_fields[] = {
	VMSTATE_ARRAY_2D(UINT16, grid, struct pile),
	VMSTATE_POINTER_ARRAY(UINT32, lines, struct pile),
	VMSTATE_BUFFER_PART(page, struct pile, 2, 3),
	VMSTATE_ONE(UINT8, nsmall, struct pile),
	VMSTATE_VARRAY(UINT16, small, struct pile, nsmall),
	VMSTATE_ONE(UINT16, nbytes, struct pile),
	VMSTATE_ALLOC_BUFFER(bytes, struct pile, nbytes, 0x101),
	VMSTATE_END,
};
static const struct vmstate_desc pile_desc = { .name = "pile", .fields = pile_fields };

#define PILE "00 01 00 02 00 03 00 04 00 05 00 06 30 00 00 00 07 30 63 64 65 "

Test(vmstate_kinds, containers_less_often_met)
{
	uint32_t line = 7, other = 8;
	uint8_t bytes[] = { 0xaa, 0xbb };
	struct pile pile = { .grid = { { 1, 2, 3 }, { 4, 5, 6 } },
			     .lines = { NULL, &line, NULL },
			     .page = "abcdefg",
			     .nsmall = 1,
			     .small = { 0x1234, 9, 9, 9 },
			     .nbytes = 2,
			     .bytes = bytes };
	struct pile loaded = { .lines = { NULL, &other, NULL }, .page = "zzzzzzz" };

	expect_there_and_back(&pile_desc, &pile, &loaded, PILE "01 12 34 00 02 aa bb");
	cr_assert_eq(other, 7);
	cr_assert_str_eq((char *)loaded.page, "zzcdezz", "only the part");
	load_hex_fails(&pile_desc, &loaded, 0, PILE "05", ".small: ", "5 elements, at most 4");
	load_hex_fails(&pile_desc, &loaded, 0, PILE "00 01 02",
		       ".bytes: ", "258 elements, at most 257");
	load_hex_fails(&pile_desc, &loaded, 0, "00 01 00 02 00 03 00 04 00 05 00 06 00 00 00 00 07",
		       ".lines[0]: ", "byte 0x00, expected the NULL marker 0x30");
	load_hex_fails(&pile_desc, &loaded, 0, "00 01 00 02 00 03 00", ".grid[3]: ", "ends");
	vmstate_release(&pile_desc, &loaded);
}

/* --- structs of a set version --- */

struct inner {
	uint8_t old, fresh;
};

struct outer {
	struct inner a, b;
};

static const struct vmstate_field inner_fields[] = {
	VMSTATE_ONE(UINT8, old, struct inner),
	VMSTATE_ONE(UINT8, fresh, struct inner, .version_id = 2),
	VMSTATE_END,
};
static const struct vmstate_desc inner_desc = { .name = "inner",
						.version_id = 2,
						.minimum_version_id = 1,
						.fields = inner_fields };

static bool before_2(const void *opaque, uint32_t version_id)
{
	(void)opaque;
	return version_id < 2;
}

/* b had inner's version 1 in streams of version 1, and has 2 since. */
static const struct vmstate_field outer_fields[] = {
	VMSTATE_STRUCT(a, struct outer, inner_desc, struct inner, .struct_version = 1),
	VMSTATE_STRUCT(b, struct outer, inner_desc, struct inner, .struct_version = 1,
		       .exists = before_2),
	VMSTATE_STRUCT(b, struct outer, inner_desc, struct inner, .struct_version = 2,
		       .version_id = 2),
	VMSTATE_END,
};
static const struct vmstate_desc outer_desc = { .name = "outer",
						.version_id = 2,
						.minimum_version_id = 1,
						.fields = outer_fields };

Test(vmstate_kinds, a_struct_of_a_set_version)
{
	struct outer outer = { { 1, 2 }, { 3, 4 } }, loaded = { { 9, 9 }, { 9, 9 } };
	uint8_t v1[] = { 5, 6 };

	expect_there_and_back(&outer_desc, &outer, &loaded, "01 03 04");
	cr_assert_eq(loaded.a.fresh, 9, "is not in version 1");
	load_ok(&outer_desc, &loaded, 1, &(struct saved){ v1, 2 });
	cr_assert(loaded.a.old == 5 && loaded.b.old == 6 && loaded.b.fresh == 4);
}

/* --- temporaries --- */

struct clock {
	uint64_t deadline; /* absolute; on the wire as what is left at `now` */
	uint64_t now;
};

struct clock_wire {
	struct clock *parent;
	uint32_t left;
	uint32_t nnotes;
	uint8_t *notes; /* VMState's */
};

static bool wire_pre_save(void *opaque, struct error **errp)
{
	struct clock_wire *wire = opaque;

	if (wire->parent->deadline < wire->parent->now) {
		error_set(errp, "deadline %" PRIu64 " is past", wire->parent->deadline);
		return false;
	}
	wire->left = (uint32_t)(wire->parent->deadline - wire->parent->now);
	return true;
}

static bool wire_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct clock_wire *wire = opaque;

	(void)version_id;
	if (wire->left > 1000) {
		error_set(errp, "left %u exceeds 1000", wire->left);
		return false;
	}
	wire->parent->deadline = wire->parent->now + wire->left;
	return true;
}

static const struct vmstate_field wire_fields[] = {
	VMSTATE_ONE(UINT32, left, struct clock_wire),
	VMSTATE_ONE(UINT32, nnotes, struct clock_wire),
	VMSTATE_ALLOC_BUFFER(notes, struct clock_wire, nnotes, 4),
	VMSTATE_END,
};
static const struct vmstate_desc wire_desc = { .name = "clock-wire",
					       .fields = wire_fields,
					       .pre_save = wire_pre_save,
					       .post_load = wire_post_load };
static const struct vmstate_field clock_fields[] = {
	VMSTATE_TEMPORARY("wire", struct clock, wire_desc, struct clock_wire),
	VMSTATE_END,
};
static const struct vmstate_desc clock_desc = { .name = "clock", .fields = clock_fields };

Test(vmstate_kinds, a_temporary_is_computed_for_the_wire)
{
	struct clock clock = { .deadline = 1500, .now = 1000 }, loaded = { .now = 7000 };
	struct error *err = NULL;
	struct saved saved;
	uint8_t with_notes[] = { 0, 0, 0, 9, 0, 0, 0, 2, 'h', 'i' };

	expect_there_and_back(&clock_desc, &clock, &loaded, "00 00 01 f4 00 00 00 00");
	cr_assert_eq(loaded.deadline, 7500);
	load_ok(&clock_desc, &loaded, 0, &(struct saved){ with_notes, sizeof(with_notes) });
	cr_assert_eq(loaded.deadline, 7009, "and the notes are freed");
	load_hex_fails(&clock_desc, &loaded, 0, "00 00 10 00 00 00 00 02 68 69",
		       ".wire: ", "left 4096 exceeds 1000");
	load_hex_fails(&clock_desc, &loaded, 0, "00 00 00 01 00 00 00 05",
		       ".wire.notes: ", "5 elements");
	clock.deadline = 1;
	cr_assert_not(save_to_bytes(&clock_desc, &clock, NULL, &saved, &err));
	expect_error(err, ".wire: deadline 1 is past");
}
