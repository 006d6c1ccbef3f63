/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: integers have the stated byte order at any alignment, and checked arithmetic is right at
 * its edges.
 * How: fixed values byte by byte; edges by hand; random ranges against 128-bit arithmetic.
 */
#include "tests/unit/support.h"
#include "vmm/base/bytes.h"

SUITE(bytes);

#define SEED 0x5eed0011

Test(bytes, orders)
{
	uint8_t buf[9] = { 0 };

	put_be16(buf + 1, 0x0102);
	expect_hex(buf, 4, "00 01 02 00", "be16");
	put_le16(buf + 1, 0x0102);
	expect_hex(buf, 4, "00 02 01 00", "le16");
	put_be32(buf + 1, 0x01020304);
	expect_hex(buf, 6, "00 01 02 03 04 00", "be32");
	put_le32(buf + 1, 0x01020304);
	expect_hex(buf, 6, "00 04 03 02 01 00", "le32");
	put_be64(buf + 1, 0x0102030405060708);
	expect_hex(buf, 9, "00 01 02 03 04 05 06 07 08", "be64");
	cr_assert_eq(get_be16(buf + 1), 0x0102);
	cr_assert_eq(get_be32(buf + 1), 0x01020304);
	cr_assert_eq(get_be64(buf + 1), 0x0102030405060708);
	cr_assert_eq(get_le16(buf + 1), 0x0201);
	cr_assert_eq(get_le32(buf + 1), 0x04030201);
	cr_assert_eq(get_le64(buf + 1), 0x0807060504030201);
	put_le64(buf + 1, 0x0102030405060708);
	expect_hex(buf, 9, "00 08 07 06 05 04 03 02 01", "le64");
}

Test(bytes, range_within_at_the_edges)
{
	const uint64_t top = UINT64_MAX;

	cr_assert(range_within(0, 0, 0));
	cr_assert_not(range_within(0, 1, 0));
	cr_assert_not(range_within(1, 0, 0));
	cr_assert(range_within(10, 0, 10));
	cr_assert(range_within(9, 1, 10));
	cr_assert_not(range_within(9, 2, 10));
	cr_assert_not(range_within(10, 1, 10));
	cr_assert(range_within(0, top, top));
	cr_assert(range_within(top, 0, top));
	cr_assert(range_within(top - 1, 1, top));
	cr_assert_not(range_within(top, 1, top));
	cr_assert_not(range_within(2, top, top)); /* the sum would wrap */
	cr_assert_not(range_within(top, top, 100));
}

Test(bytes, random_ranges_match_wide_arithmetic)
{
	struct prng rng = { SEED };

	for (unsigned int i = 0; i < 20000; i++) {
		unsigned int shift = (unsigned int)prng_below(&rng, 64);
		uint64_t a = prng_next(&rng) >> shift, b = prng_next(&rng) >> shift;
		uint64_t limit = prng_next(&rng) >> shift, sum = 77, product = 77;
		unsigned __int128 wide = (unsigned __int128)a + b;
		unsigned __int128 square = (unsigned __int128)a * b;

		cr_assert_eq(range_within(a, b, limit), wide <= limit, "seed %#x step %u", SEED, i);
		cr_assert_eq(add_fits(a, b, &sum), wide <= UINT64_MAX);
		cr_assert(wide > UINT64_MAX || sum == (uint64_t)wide);
		cr_assert_eq(mul_fits(a, b, &product), square <= UINT64_MAX);
		cr_assert(square > UINT64_MAX || product == (uint64_t)square);
	}
}

Test(bytes, alignment)
{
	cr_assert_eq(align_down(0, 4096), 0);
	cr_assert_eq(align_down(4095, 4096), 0);
	cr_assert_eq(align_down(4096, 4096), 4096);
	cr_assert_eq(align_down(UINT64_MAX, 4096), UINT64_MAX - 4095);
	cr_assert_eq(align_up(0, 4096), 0);
	cr_assert_eq(align_up(1, 4096), 4096);
	cr_assert_eq(align_up(4096, 4096), 4096);
	cr_assert_eq(align_up(4097, 4096), 8192);
	cr_assert_eq(align_up(UINT64_MAX - 4095, 4096), UINT64_MAX - 4095);
	cr_assert_eq(align_up(UINT64_MAX, 4096), 0); /* as the header warns */
	cr_assert_eq(align_up(7, 1), 7);
	cr_assert(is_aligned(0, 8) && is_aligned(16, 8) && !is_aligned(17, 8) && is_aligned(17, 1));
}

Test(bytes, division_rounds_up_without_wrapping)
{
	cr_assert_eq(div_round_up(0, 7), 0);
	cr_assert_eq(div_round_up(1, 7), 1);
	cr_assert_eq(div_round_up(7, 7), 1);
	cr_assert_eq(div_round_up(8, 7), 2);
	cr_assert_eq(div_round_up(UINT64_MAX, 2), UINT64_C(1) << 63);
	cr_assert_eq(div_round_up(UINT64_MAX, 1), UINT64_MAX);
}
