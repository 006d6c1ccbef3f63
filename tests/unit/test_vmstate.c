/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every kind of VMState has the bytes of the stream format's section 6, comes back as it was
 * saved, and refuses what is wrong with an error that names the place.
 *
 * How: golden bytes written by hand from the specification; round trips of random states; small
 * hand-made streams for each refusal. Containers, lists, sections, the JSON and hostile input have
 * files of their own.
 */
#include "tests/unit/vmstate_support.h"

SUITE(vmstate);

#define SEED 0x5eed0001

/* --- kinds --- */

struct kinds {
	bool b;
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	int8_t s8;
	int16_t s16;
	int32_t s32;
	int64_t s64;
	uint8_t e8;
	uint16_t e16;
	uint32_t e32;
	uint64_t e64;
	int64_t timer;
	uint8_t buffer[3];
};

static const struct vmstate_field kinds_fields[] = {
	VMSTATE_ONE(BOOL, b, struct kinds),
	VMSTATE_ONE(UINT8, u8, struct kinds),
	VMSTATE_ONE(UINT16, u16, struct kinds),
	VMSTATE_ONE(UINT32, u32, struct kinds),
	VMSTATE_ONE(UINT64, u64, struct kinds),
	VMSTATE_ONE(INT8, s8, struct kinds),
	VMSTATE_ONE(INT16, s16, struct kinds),
	VMSTATE_ONE(INT32, s32, struct kinds),
	VMSTATE_ONE(INT64, s64, struct kinds),
	VMSTATE_UNUSED(2),
	VMSTATE_ONE(UINT8_EQUAL, e8, struct kinds),
	VMSTATE_ONE(UINT16_EQUAL, e16, struct kinds),
	VMSTATE_ONE(UINT32_EQUAL, e32, struct kinds),
	VMSTATE_ONE(UINT64_EQUAL, e64, struct kinds),
	VMSTATE_ONE(TIMER, timer, struct kinds),
	VMSTATE_BUFFER(buffer, struct kinds),
	VMSTATE_END,
};
static const struct vmstate_desc kinds_desc = { .name = "kinds", .fields = kinds_fields };

#define KINDS_BEFORE_EQUAL                                                      \
	"01 a1 b1 b2 c1 c2 c3 c4 d1 d2 d3 d4 d5 d6 d7 d8 ff ff fe ff ff ff fd " \
	"ff ff ff ff ff ff ff fc 00 00 "
#define KINDS_GOLDEN       \
	KINDS_BEFORE_EQUAL \
	"e1 e2 e3 e4 e5 e6 e7 01 02 03 04 05 06 07 08 ff ff ff ff ff ff ff ff 41 42 43"

static const struct kinds kinds_example = {
	.b = true,
	.u8 = 0xa1,
	.u16 = 0xb1b2,
	.u32 = 0xc1c2c3c4,
	.u64 = 0xd1d2d3d4d5d6d7d8,
	.s8 = -1,
	.s16 = -2,
	.s32 = -3,
	.s64 = -4,
	.e8 = 0xe1,
	.e16 = 0xe2e3,
	.e32 = 0xe4e5e6e7,
	.e64 = 0x0102030405060708,
	.timer = -1, /* not armed */
	.buffer = "ABC",
};

static void expect_same_kinds(const struct kinds *a, const struct kinds *b, unsigned int i)
{
#define SAME(m) cr_assert_eq(a->m, b->m, "seed %#x iteration %u: " #m, SEED, i)
	SAME(b);
	SAME(u8);
	SAME(u16);
	SAME(u32);
	SAME(u64);
	SAME(s8);
	SAME(s16);
	SAME(s32);
	SAME(s64);
	SAME(timer);
#undef SAME
	cr_assert_eq(memcmp(a->buffer, b->buffer, sizeof(a->buffer)), 0);
}

Test(vmstate, every_kind_has_its_golden_bytes)
{
	struct kinds state = kinds_example;

	vmstate_check(&kinds_desc);
	expect_saved(&kinds_desc, &state, KINDS_GOLDEN);
}

Test(vmstate, every_kind_loads_its_golden_bytes)
{
	struct kinds state = {
		.e8 = 0xe1, .e16 = 0xe2e3, .e32 = 0xe4e5e6e7, .e64 = 0x0102030405060708
	};
	struct saved saved = { malloc(128), 0 };

	saved.len = bytes_of(KINDS_GOLDEN, saved.data, 128);
	load_ok(&kinds_desc, &state, 0, &saved);
	expect_same_kinds(&state, &kinds_example, 0);
	free(saved.data);
}

Test(vmstate, unused_bytes_are_skipped_whatever_they_are)
{
	struct {
		uint8_t a, b;
	} state = { 0 };
	const struct vmstate_field fields[] = {
		VMSTATE_ONE(UINT8, a, __typeof__(state)),
		VMSTATE_UNUSED(3),
		VMSTATE_ONE(UINT8, b, __typeof__(state)),
		VMSTATE_END,
	};
	const struct vmstate_desc desc = { .name = "unused", .fields = fields };
	uint8_t bytes[] = { 1, 0xff, 0x30, 0x05, 2 };
	struct saved saved = { bytes, sizeof(bytes) };

	load_ok(&desc, &state, 0, &saved);
	cr_assert(state.a == 1 && state.b == 2);
	expect_saved(&desc, &state, "01 00 00 00 02");
}

Test(vmstate, random_kinds_come_back)
{
	struct prng rng = { SEED };

	for (unsigned int i = 0; i < 300; i++) {
		struct kinds state, copy;
		struct saved saved;

		prng_fill(&rng, &state, sizeof(state));
		state.b = prng_below(&rng, 2);
		prng_fill(&rng, &copy, sizeof(copy));
		copy.b = false;
		copy.e8 = state.e8;
		copy.e16 = state.e16;
		copy.e32 = state.e32;
		copy.e64 = state.e64;
		saved = save_ok(&kinds_desc, &state);
		load_ok(&kinds_desc, &copy, 0, &saved);
		expect_same_kinds(&copy, &state, i);
		free(saved.data);
	}
}

Test(vmstate, a_bool_of_2_is_refused)
{
	struct kinds state = kinds_example;

	load_hex_fails(&kinds_desc, &state, 0, "02", ".b: ", "2");
	cr_assert(state.b, "a refused value must not be stored");
	load_hex_fails(&kinds_desc, &state, 0, "ff", ".b: ", "255");
}

Test(vmstate, an_equal_field_that_differs_names_both_values)
{
	struct kinds state = kinds_example;

	load_hex_fails(&kinds_desc, &state, 0, KINDS_BEFORE_EQUAL "07", ".e8: ", " 7");
	load_hex_fails(&kinds_desc, &state, 0, KINDS_BEFORE_EQUAL "07", ".e8: ", "225");
	load_hex_fails(&kinds_desc, &state, 0, KINDS_BEFORE_EQUAL "e1 00 09", ".e16: ", "58083");
	load_hex_fails(&kinds_desc, &state, 0, KINDS_BEFORE_EQUAL "e1 e2 e3 00 00 00 0b",
		       ".e32: ", "3840272103");
	load_hex_fails(&kinds_desc, &state, 0,
		       KINDS_BEFORE_EQUAL "e1 e2 e3 e4 e5 e6 e7 11 02 03 04 05 06 07 08",
		       ".e64: ", "72623859790382856");
	cr_assert_eq(state.e8, 0xe1, "the device's value stays");
}

/*
 * "the stream has 0, this machine has 225" would send a person looking for a difference that is not
 * there.
 */
Test(vmstate, an_equal_field_that_is_cut_off_says_so)
{
	struct kinds state = kinds_example;

	load_hex_fails(&kinds_desc, &state, 0, KINDS_BEFORE_EQUAL, ".e8: ", "ends in the middle");
	load_hex_fails(&kinds_desc, &state, 0, KINDS_BEFORE_EQUAL "e1 e2",
		       ".e16: ", "ends in the middle");
	load_hex_fails(&kinds_desc, &state, 0, KINDS_BEFORE_EQUAL "e1 e2 e3 e4 e5 e6",
		       ".e32: ", "ends in the middle");
}
