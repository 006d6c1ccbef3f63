/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the decision to stop the guest follows convergence.h's words: never above the limit, at
 * once where the rest costs no more than the switch itself, otherwise when passes no longer help.
 *
 * How: the header's example, each rule at its edge, and random inputs beside a model in 128-bit
 * integers.
 */
#include "migration/convergence.h"
#include "tests/unit/support.h"

#define SEED 0x5eed0103
#define MS UINT64_C(1000000)
#define SEC UINT64_C(1000000000)
#define MIB (UINT64_C(1) << 20)

typedef unsigned __int128 u128;

static const struct convergence_input usual = { .bandwidth = UINT64_C(1) << 30,
						.limit_ns = 300 * MS,
						.fixed_ns = 2 * MS };

/* The rests of successive passes; the caller's bookkeeping is the engine's. */
static size_t passes_until_switch(struct convergence_input in, const uint64_t *rests, size_t n,
				  struct convergence_output *outs)
{
	for (size_t i = 0; i < n; i++) {
		in.rest_bytes = rests[i];
		outs[i] = convergence_decide(&in);
		if (outs[i].switch_over)
			return i + 1;
		in.previous_bytes = rests[i];
		in.fitting = outs[i].fits ? in.fitting + 1 : 0;
	}
	return 0;
}

/* With last rests of 3 MiB, which cost more than the fixed part: it ends as they shrink no more. */
Test(convergence, the_headers_example)
{
	static const uint64_t rests[] = { 900 * MIB, 120 * MIB, 16 * MIB, 3 * MIB, 3 * MIB };
	static const uint64_t ms[] = { 880, 119, 17, 4, 4 }; /* rounded down */
	struct convergence_output outs[5];

	cr_assert_eq(passes_until_switch(usual, rests, 5, outs), 5, "not at the fifth");
	for (size_t i = 0; i < 5; i++) {
		cr_assert_eq(outs[i].estimate_ns / MS, ms[i], "pass %zu: %" PRIu64 " ns", i + 1,
			     outs[i].estimate_ns);
		cr_assert_eq(outs[i].fits, i > 0, "pass %zu", i + 1);
	}
}

/* 2 MiB take 1.95 ms, which is no more than the fixed 2 ms: no pass can be worth its time. */
Test(convergence, the_headers_example_with_a_smaller_rest)
{
	static const uint64_t rests[] = { 900 * MIB, 120 * MIB, 16 * MIB, 2 * MIB, 2 * MIB };
	struct convergence_output outs[5];

	cr_assert_eq(passes_until_switch(usual, rests, 5, outs), 4, "not at the fourth");
}

/* The estimate may be equal to the limit, but not above. */
Test(convergence, the_limit_is_the_limit)
{
	struct convergence_input in = usual;
	struct convergence_output out;

	in.bandwidth = SEC; /* a byte a nanosecond */
	in.fixed_ns = 1000;
	in.limit_ns = 51000;
	in.previous_bytes = 50000;
	in.fitting = 1;
	in.rest_bytes = 50000;
	out = convergence_decide(&in);
	cr_assert(out.fits && out.switch_over && out.estimate_ns == 51000, "%" PRIu64,
		  out.estimate_ns);
	in.rest_bytes = 50001;
	out = convergence_decide(&in);
	cr_assert(!out.fits && !out.switch_over && out.estimate_ns == 51001, "%" PRIu64,
		  out.estimate_ns);
	in.rest_bytes = 10;
	in.limit_ns = 999; /* the fixed part alone is too long */
	out = convergence_decide(&in);
	cr_assert(!out.fits && !out.switch_over, "a limit below the fixed part");
}

Test(convergence, a_rest_that_costs_no_more_than_the_switch_is_small_enough)
{
	struct convergence_input in = usual;

	in.bandwidth = SEC;
	in.rest_bytes = in.fixed_ns;
	in.previous_bytes = 100 * in.rest_bytes; /* it shrinks well, but what for */
	cr_assert(convergence_decide(&in).switch_over);
	in.rest_bytes++;
	cr_assert_not(convergence_decide(&in).switch_over);
	in.previous_bytes = 0;
	in.rest_bytes = 0;
	cr_assert(convergence_decide(&in).switch_over, "nothing is left, in the first pass");
}

Test(convergence, nothing_is_left)
{
	struct convergence_input in = usual;
	struct convergence_output out;

	in.bandwidth = 0;
	out = convergence_decide(&in);
	cr_assert(out.fits && out.switch_over && out.estimate_ns == in.fixed_ns,
		  "no bandwidth is needed for nothing");
	in.limit_ns = 0;
	out = convergence_decide(&in);
	cr_assert(!out.fits && !out.switch_over, "but the switch itself takes time");
	in.fixed_ns = 0;
	out = convergence_decide(&in);
	cr_assert(out.fits && out.switch_over && out.estimate_ns == 0);
}

Test(convergence, an_unknown_bandwidth_never_fits)
{
	struct convergence_input in = { .rest_bytes = 1, .limit_ns = 2000 * SEC, .fitting = 8 };
	struct convergence_output out = convergence_decide(&in);

	cr_assert_eq(out.estimate_ns, UINT64_MAX);
	cr_assert(!out.fits && !out.switch_over);
	in.rest_bytes = UINT64_MAX;
	out = convergence_decide(&in);
	cr_assert(out.estimate_ns == UINT64_MAX && !out.fits && !out.switch_over);
}

/* "As long as each pass shrinks the rest by a quarter or more another one is worth its time." */
Test(convergence, a_quarter_less_is_worth_another_pass)
{
	struct convergence_input in = usual;

	in.fitting = 1;
	in.previous_bytes = 80 * MIB;
	in.rest_bytes = 60 * MIB - 1;
	cr_assert_not(convergence_decide(&in).switch_over, "more than a quarter less");
	in.rest_bytes = 60 * MIB;
	cr_assert_not(convergence_decide(&in).switch_over, "a quarter less");
	in.rest_bytes = 60 * MIB + 1;
	cr_assert(convergence_decide(&in).switch_over, "less than a quarter less");
	in.rest_bytes = 80 * MIB;
	cr_assert(convergence_decide(&in).switch_over, "no less");
	in.rest_bytes = 100 * MIB;
	cr_assert(convergence_decide(&in).switch_over, "it grows, and still fits");
}

Test(convergence, the_first_pass_that_fits_is_not_the_last)
{
	struct convergence_input in = usual;

	in.rest_bytes = in.previous_bytes = 20 * MIB;
	cr_assert_not(convergence_decide(&in).switch_over);
	in.fitting = 1;
	cr_assert(convergence_decide(&in).switch_over);
	in.previous_bytes = 0;
	in.fitting = 0;
	cr_assert_not(convergence_decide(&in).switch_over, "the first pass of all");
}

/* A rest that halves each time fits for long, yet an end must come: "after a few of them". */
Test(convergence, it_ends_however_well_it_shrinks)
{
	struct convergence_input in = usual;
	struct convergence_output outs[40];
	uint64_t rests[40];
	size_t n;

	in.bandwidth = UINT64_C(1) << 40;
	in.fixed_ns = 0;
	for (size_t i = 0; i < 40; i++)
		rests[i] = (UINT64_C(1) << 42) >> i; /* 4 s, 2 s, 1 s, ... */
	n = passes_until_switch(in, rests, 40, outs);
	cr_assert(n > 5 && n <= 5 + 15, "%zu passes, the fifth being the first that fits", n);
	cr_assert(outs[n - 1].fits);
}

Test(convergence, numbers_that_overflow_64_bits)
{
	struct convergence_input in = { .rest_bytes = UINT64_MAX,
					.previous_bytes = UINT64_MAX,
					.bandwidth = 1,
					.limit_ns = 2000 * SEC,
					.fixed_ns = 2 * MS,
					.fitting = 100 };
	struct convergence_output out = convergence_decide(&in);

	cr_assert(!out.fits && !out.switch_over && out.estimate_ns > in.limit_ns);
	in.bandwidth = UINT64_MAX;
	out = convergence_decide(&in);
	cr_assert_eq(out.estimate_ns, in.fixed_ns + SEC, "2^64-1 bytes at 2^64-1 a second");
	cr_assert(out.fits && out.switch_over);
	in.bandwidth = SEC;
	in.rest_bytes = 1;
	in.fixed_ns = UINT64_MAX;
	out = convergence_decide(&in);
	cr_assert(!out.fits && !out.switch_over, "a fixed part of 585 years: %" PRIu64 " ns",
		  out.estimate_ns);
	in.rest_bytes = UINT64_MAX;
	in.fixed_ns = (UINT64_C(1) << 63) + 1;
	in.bandwidth = 1;
	out = convergence_decide(&in);
	cr_assert(!out.fits && !out.switch_over, "%" PRIu64 " ns", out.estimate_ns);
}

/* A number of any magnitude of at most `bits` bits. */
static uint64_t any_number(struct prng *rng, unsigned int bits)
{
	uint64_t number = prng_next(rng) >> (64 - bits);

	return number >> prng_below(rng, bits);
}

/* What the words come to, without a care for cost. */
static bool model_switches(const struct convergence_input *in, u128 send_ns)
{
	bool shrinks =
		in->previous_bytes && (u128)in->rest_bytes * 4 <= (u128)in->previous_bytes * 3;

	if (send_ns + in->fixed_ns > in->limit_ns)
		return false;
	return send_ns <= in->fixed_ns || in->fitting >= 8 || (in->fitting > 0 && !shrinks);
}

Test(convergence, random_numbers_beside_a_model)
{
	struct prng rng = { SEED };
	unsigned int switches = 0;

	for (unsigned int i = 0; i < 200000; i++) {
		struct convergence_input in = { 0 };
		struct convergence_output out;
		__int128 beyond_a_quarter;
		u128 send_ns;

		in.rest_bytes = any_number(&rng, 64);
		in.previous_bytes = any_number(&rng, 64);
		in.bandwidth = 1 + any_number(&rng, 63);
		in.limit_ns = any_number(&rng, 62);
		in.fixed_ns = any_number(&rng, 62);
		in.fitting = (unsigned int)prng_below(&rng, 10);
		if (prng_below(&rng, 2)) /* nearby, so that shrinking is decided by little */
			in.rest_bytes = in.previous_bytes / 256 * prng_below(&rng, 300);
		out = convergence_decide(&in);
		send_ns = (u128)in.rest_bytes * SEC / in.bandwidth;
		beyond_a_quarter = (__int128)in.rest_bytes * 4 - (__int128)in.previous_bytes * 3;
		cr_assert_eq(out.fits, send_ns + in.fixed_ns <= in.limit_ns,
			     "seed %#x iteration %u", SEED, i);
		if (send_ns < UINT64_MAX / 2)
			cr_assert_eq(out.estimate_ns, (uint64_t)send_ns + in.fixed_ns,
				     "seed %#x iteration %u", SEED, i);
		/* The quarter to a few bytes: nobody counts these. */
		if (beyond_a_quarter < -16 || beyond_a_quarter > 16)
			cr_assert_eq(out.switch_over, model_switches(&in, send_ns),
				     "seed %#x iteration %u", SEED, i);
		switches += out.switch_over;
	}
	cr_assert(switches > 1000 && switches < 190000, "%u", switches);
}

/* --- the speed of the link --- */

/* Before one full sample there is any sample. */
Test(convergence, a_small_guest_is_measured)
{
	struct bandwidth_meter m = { 0 };

	cr_assert_eq(bandwidth_meter_read(&m, 0, 0), 0);
	cr_assert_eq(bandwidth_meter_read(&m, 1000, 0), 0, "from no time at all");
	cr_assert_eq(bandwidth_meter_read(&m, 40000, 40000), SEC);
	bandwidth_meter_mark(&m, 40000, 40000); /* not full: goes on */
	cr_assert_eq(bandwidth_meter_read(&m, 50000, 100000), SEC / 2);
	cr_assert_eq(bandwidth_meter_read(&m, 50000, UINT64_MAX), 1, "slow, but known");
}

/* Once full samples are there, no small one counts; small passes add up to full ones. */
Test(convergence, full_samples_count)
{
	struct bandwidth_meter m = { 0 };
	uint64_t bytes = 4 * MIB, ns = 4 * MIB;

	cr_assert_eq(bandwidth_meter_read(&m, bytes, ns), SEC);
	bandwidth_meter_mark(&m, bytes, ns);
	for (unsigned int pass = 1; pass <= 16; pass++) {
		bytes += MIB / 16;
		ns += MIB / 8;
		cr_assert_eq(bandwidth_meter_read(&m, bytes, ns), pass < 16 ? SEC : SEC / 2,
			     "pass %u", pass);
		bandwidth_meter_mark(&m, bytes, ns);
	}
	cr_assert_eq(bandwidth_meter_read(&m, bytes + MIB, ns + 4 * MIB), SEC / 4);
}
