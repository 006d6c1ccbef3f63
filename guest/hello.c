/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hello.c - the smallest payload: says hello and ends with a chosen exit code.
 *
 *	exit=N				exit code, default 0
 *	boots=N via=cf9|kbd|triple	reset the machine until this is boot N, then exit
 *	fault=none|pf|ud|de|gp		raise an exception on purpose; ends with code 0x13
 *
 * The boot counter lives in RAM, which a reset keeps. It is valid only with its magic before it,
 * and the last boot erases the magic, so the next run starts at 1 again.
 */
#include "lib.h"

enum reset_way { RESET_CF9, RESET_KBD, RESET_TRIPLE };
enum fault { FAULT_NONE, FAULT_PF, FAULT_UD, FAULT_DE, FAULT_GP };

struct boot_counter {
	uint64_t magic;
	uint64_t count;
};

static const char *const reset_ways[] = { "cf9", "kbd", "triple", NULL };
static const char *const faults[] = { "none", "pf", "ud", "de", "gp", NULL };

const char payload_banner[] = FERRY_GUEST_SAYS_HELLO;

static void raise_fault(enum fault fault)
{
	switch (fault) {
	case FAULT_NONE:
		break;
	case FAULT_PF:
		__asm__ volatile("movb $1, (%0)" : : "r"(0xdeadb000ul) : "memory");
		break;
	case FAULT_UD:
		__asm__ volatile("ud2");
		break;
	case FAULT_DE:
		__asm__ volatile("divb %%ah" : : "a"(1));
		break;
	case FAULT_GP:
		__asm__ volatile("hlt");
		break;
	}
}

static void reset(struct guest *guest, enum reset_way way)
{
	switch (way) {
	case RESET_CF9:
		outb(0xcf9, 0x06);
		break;
	case RESET_KBD:
		outb(0x64, 0xfe);
		break;
	case RESET_TRIPLE:
		/* With no stack to deliver it on, a fault ends in a triple fault. */
		boot_tss.rsp0 = 0xdeadc000;
		raise_fault(FAULT_PF);
		break;
	}
	calibrate_tsc(guest);
	delay_ms(guest, 20000);
	say(FERRY_GUEST_SAYS_STALLED "no reset by %s", reset_ways[way]);
	leave(FERRY_GUEST_EXIT_STALLED);
}

static void count_boots(struct guest *guest, uint64_t boots, enum reset_way way)
{
	volatile struct boot_counter *counter = (void *)FERRY_GUEST_BOOT_COUNTER;

	if (counter->magic != FERRY_GUEST_BOOT_MAGIC) {
		counter->magic = FERRY_GUEST_BOOT_MAGIC;
		counter->count = 0;
	}
	counter->count++;
	say(FERRY_GUEST_SAYS_BOOT "%lu", counter->count);
	if (counter->count < boots)
		reset(guest, way);
	counter->magic = 0;
}

void payload_main(struct guest *guest)
{
	uint64_t code = FERRY_GUEST_EXIT_OK, boots = 0, way = RESET_CF9, fault = FAULT_NONE;
	const struct option options[] = {
		{ "exit", &code, NULL },
		{ "boots", &boots, NULL },
		{ "via", &way, reset_ways },
		{ "fault", &fault, faults },
	};

	parse_options(guest, options, ARRAY_SIZE(options));
	if (boots)
		count_boots(guest, boots, (enum reset_way)way);
	raise_fault((enum fault)fault);
	leave((uint8_t)code);
}
