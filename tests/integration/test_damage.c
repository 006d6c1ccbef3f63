/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a stream that arrives otherwise than it was sent is refused, the person at the source reads why, and the guest
 * runs on there as if nothing had been tried.
 *
 * Approach: a proxy changes one byte, named by what stands before it in the stream. One guest goes through all cases, each with a
 * destination of its own, and beats on; in the end it moves for good. The reason that the destination prints is the one
 * that the source must tell.
 */
#include "migration/stream/protocol.h"
#include "tests/integration/moves.h"
#include "tests/integration/proxy.h"

#include <string.h>

TestSuite(damage, .init = world_begin, .fini = world_end, .timeout = 600);

/* A START, PART, END or FULL section of "ram" begins or ends like this: the end of its records, its footer. */
#define RAM_END "\0\0\0\0\0\0\0\x10\x7e\0\0\0\0"
/* The name of a device's section, its instance and its version. */
#define CLOCK "\x08kvmclock\0\0\0\0\0\0\0\x01"

#define CASE(when, what, bytes, xor, reason)                                              \
	{                                                                                 \
		what, { PROXY_FLIP, TO_TARGET, PATTERN(bytes), .flip = xor}, reason, when \
	}
#define EARLY true
#define LATER false

static const struct damage {
	const char *what;
	struct proxy_step step;
	const char *reason; /* a word of what the destination must say */
	bool early;	    /* it cannot know yet whether the source understands its reasons */
} cases[] = {
	CASE(EARLY, "CONFIGURATION's type", "QEVM\0\0\0\x03\x07", 0x40, "CONFIGURATION"),
	CASE(EARLY, "length of the machine's name, far too long", "QEVM\0\0\0\x03\x07\0\0", 0xff,
	     "configuration"),
	CASE(LATER, "a subsection's name", "configuration/cpu", 0x01, "configuration/cpt"),
	CASE(LATER, "the version of a subsection", "configuration/cpu\0\0\0\x01", 0x40,
	     "configuration/cpu"),
	CASE(LATER, "number of CPUID leaves", "configuration/cpu\0\0\0\x01\0\0", 0xff, "cpuid"),
	CASE(LATER, "the device tree's magic", "\xd0\x0d\xfe\xed", 0x01, "device tree"),
	CASE(LATER, "the device tree's idea of a device", "ferry,pch-rese", 0x01, "ferry,pch-res"),
	CASE(LATER, "the name of section ram", "\x01\0\0\0\0\x03ram", 0x01, "'ral'"),
	CASE(LATER, "the version of section ram", "\x03ram\0\0\0\0\0\0\0\x04", 0x03, "version 7"),
	CASE(LATER, "the type of the first memory record", "\x03ram\0\0\0\0\0\0\0\x04\0\0\0\0",
	     0x40, "ram"),
	CASE(LATER, "a footer's type", "\0\0\0\0\0\0\0\x10\x7e", 0x01, "footer"),
	CASE(LATER, "a footer's section", RAM_END, 0x05, "footer"),
	CASE(LATER, "a section's type", RAM_END "\x02", 0x40, "0x42"),
	CASE(LATER, "the section that a part belongs to", RAM_END "\x02\0\0\0\0", 0x09,
	     "section 9"),
	CASE(LATER, "a page's address", RAM_END "\x02\0\0\0\0\0", 0x40, "ram"),
	CASE(LATER, "a device's name", "\x08kvmclock", 0x01, "kvmclocj"),
	CASE(LATER, "a device's instance", "\x08kvmclock\0\0\0\0", 0x02, "instance 2"),
	CASE(LATER, "a device's version", CLOCK, 0x40, "kvmclock"),
	CASE(LATER, "a device that comes where another was", "\x05i8259\0\0\0\x01", 0x01, "i8259"),
};

static void damage_one(struct side *source, struct beats *b, const struct damage *d, unsigned int i)
{
	const struct proxy_step script[] = { d->step, { .action = PROXY_END } };
	struct side *target = side_start(text_format("target%u", i), &(struct side_options){ 0 });
	struct proxy *proxy = proxy_start(side_uri(target), script);
	const char *refusal, *failure;

	begin_migration(source, proxy->uri);
	failure = expect_failed(source);
	check(proxy->step == 1, "%s: did not go by; the source says '%s'", d->what, failure);
	refusal = expect_refusal(target);
	check(strstr(refusal, d->reason), "%s: '%s' does not say '%s'", d->what, refusal,
	      d->reason);
	check(d->early || strstr(failure, refusal),
	      "%s: the source says '%s', the destination '%s'", d->what, failure, refusal);
	check(target->serial.len == 0, "%s: the destination's guest has spoken", d->what);
	await_beats(b, 20);
}

static void damage_some(unsigned int from, unsigned int to)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target;

	for (unsigned int i = from; i < to; i++)
		damage_one(source, b, &cases[i], i);
	target = start_target("target", b);
	move(source, target);
	await_beats(b, 50);
	expect_moved(source, target, "running");
}

#define CASES (sizeof(cases) / sizeof(cases[0]))

Test(damage, first_half_of_the_cases)
{
	damage_some(0, CASES / 2);
}

Test(damage, second_half_of_the_cases)
{
	damage_some(CASES / 2, CASES);
}

/* What is not a stream of this version is turned away, and the destination waits on. */
Test(damage, header)
{
	static const struct proxy_step magic[] = {
		{ PROXY_FLIP, TO_TARGET, PATTERN("QEVM"), .flip = 0x20 }, { .action = PROXY_END }
	};
	static const struct proxy_step version[] = { { PROXY_FLIP, TO_TARGET,
						       PATTERN("QEVM\0\0\0\x03"), .flip = 0x01 },
						     { .action = PROXY_END } };
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");
	struct side *target = start_target("target", b);

	begin_migration(source, proxy_start(side_uri(target), magic)->uri);
	expect_failed(source);
	WAIT_FOR(side_said(target, "not a migration stream"));
	begin_migration(source, proxy_start(side_uri(target), version)->uri);
	expect_failed(source);
	WAIT_FOR(side_said(target, "version 2, expected 3"));
	expect_status(target, "inmigrate");
	move(source, target);
	await_beats(b, 50);
	expect_moved(source, target, "running");
}

/* The other direction: an answer that is none. */
_Static_assert(OFFERS_KNOWN == 0x07, "what the destination offers is in a pattern below");

Test(damage, answers)
{
	static const struct proxy_step cases_of_answers[][2] = {
		{ { PROXY_FLIP, TO_SOURCE, PATTERN("\x40"), .flip = 0x01 } },
		{ { PROXY_FLIP, TO_SOURCE, PATTERN("\x40\0\0\x08"), .flip = 0x08 } },
		{ { PROXY_FLIP, TO_SOURCE, PATTERN("\x40\0\0\x08\0\0\0\0\0\0\0\x07"), .flip = 7 } },
		{ { PROXY_FLIP, TO_SOURCE, PATTERN("\0\x02\0\x04\0\0\0\x01"), .flip = 0x01 } },
		{ { PROXY_FLIP, TO_SOURCE, PATTERN("\0\x01"), .flip = 0x02 } },
		{ { PROXY_FLIP, TO_SOURCE, SHUT_0, .flip = 0x01 } },
	};
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "");

	for (unsigned int i = 0; i < sizeof(cases_of_answers) / sizeof(cases_of_answers[0]); i++) {
		struct side *target =
			side_start(text_format("target%u", i), &(struct side_options){ 0 });
		struct proxy *proxy = proxy_start(side_uri(target), cases_of_answers[i]);

		begin_migration(source, proxy->uri);
		expect_failed(source);
		check(proxy->step == 1, "case %u did not go by", i);
		await_beats(b, 20);
		expect_refusal(target);
		cr_assert_eq(target->serial.len, 0);
	}
}
