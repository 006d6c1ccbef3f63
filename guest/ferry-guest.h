/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ferry-guest.h - what the test guests and the host agree on.
 *
 * A payload talks to the host by two ports only: it prints on COM1 and it ends through the
 * debug exit port. What it prints follows one grammar:
 *
 *	output = { beat | message }
 *	message = '#' text '\n'
 *
 * Beat number n (0, 1, 2, ... without a gap) is the one character BEAT_ALPHABET[n % 64]. So a
 * host that has lost, doubled or reordered output of a moved guest sees it in the letters, and
 * the time between two letters is the guest's pause. '#' and '\n' are not in the alphabet.
 *
 * The very first byte a payload sends, before it does anything else, is the '#' of its first
 * message.
 *
 * Only plain #defines live here: the file is read by host C, by guest C and by the assembler.
 */
#ifndef FERRY_GUEST_H
#define FERRY_GUEST_H

/* Ports. */
#define FERRY_GUEST_PORT_COM1		0x3f8
#define FERRY_GUEST_PORT_EXIT		0xf4	/* as QEMU's isa-debug-exit: one byte, the code */

/* Output. */
#define FERRY_GUEST_MESSAGE_MARK	'#'
#define FERRY_GUEST_MESSAGE_END		'\n'
#define FERRY_GUEST_BEAT_COUNT		64
#define FERRY_GUEST_BEAT_ALPHABET	\
	"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"

/* How the messages begin that a test may wait for (after the mark and one space). */
#define FERRY_GUEST_SAYS_HELLO		"hello from the guest"
#define FERRY_GUEST_SAYS_BOOT		"boot "		/* hello: boot K, with boots=N */
#define FERRY_GUEST_SAYS_FILLED		"filled"	/* work: every page has its first content */
#define FERRY_GUEST_SAYS_WORKING	"working"	/* work: rewriting has begun */
#define FERRY_GUEST_SAYS_LAP		"lap "		/* work: N full background checks so far; smp:
							   all CPUs have counted since the last */
#define FERRY_GUEST_SAYS_OK		"ok: "		/* work, timer, smp: run=MS is over */
#define FERRY_GUEST_SAYS_DAMAGED	"DAMAGED page "	/* work: memory is not what was written */
#define FERRY_GUEST_SAYS_STALLED	"STALLED "	/* timer, smp: no tick, or a CPU stopped */
#define FERRY_GUEST_SAYS_EXCEPTION	"EXCEPTION "	/* any: a fault nobody expected */
#define FERRY_GUEST_SAYS_CPUS_UP	" cpus up"	/* smp: follows the number */

/* Exit codes, and the exit status a VMM turns them into. */
#define FERRY_GUEST_EXIT_OK		0x00
#define FERRY_GUEST_EXIT_DAMAGED	0x10	/* memory differs from what was written */
#define FERRY_GUEST_EXIT_STALLED	0x11	/* a timer, a CPU or a reset does not come */
#define FERRY_GUEST_EXIT_BAD_OPTION	0x12	/* unknown key, bad value, or more than there is */
#define FERRY_GUEST_EXIT_EXCEPTION	0x13	/* unexpected exception */
#define FERRY_GUEST_EXIT_STATUS(code)	((((code) << 1) | 1) & 0xff)

/* hello keeps its boot counter here: two little-endian u64, the magic and the count. */
#define FERRY_GUEST_BOOT_COUNTER	0x80000
#define FERRY_GUEST_BOOT_MAGIC		0x746f6f4279727265	/* "erryBoot" */

#endif /* FERRY_GUEST_H */
