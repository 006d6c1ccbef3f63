/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timer.c - one heartbeat per timer interrupt.
 *
 * Shows that a timer and its way to the CPU survive a migration: the PIT through the PIC, or the
 * local APIC's own timer. The gate in boot.S counts boot_ticks, ring 3 prints as many beats. If
 * the TSC says that there was no tick for twenty seconds, the guest has stalled; so long because a
 * busy host may be late. Time in which the CPU itself did not run (the guest was paused) does not
 * count: who sleeps hears no clock.
 *
 *	source=pit|lapic	default pit
 *	hz=N			default 1000
 *	run=MS			exit after so much time; 0 (default): never
 *
 * Ticks that a host makes up for after a pause are printed too: beats count interrupts here, not
 * time.
 */
#include "lib.h"

#define PIC1			0x20
#define PIC2			0xa0
#define PIT_CHANNEL0		0x40
#define PIT_COMMAND		0x43
#define PIT_HZ			1193182u
#define LVT_PERIODIC		0x20000
#define LVT_MASKED		0x10000
#define LVT_EXTINT		0x700
#define SPURIOUS_ENABLE		0x100
#define DIVIDE_BY_1		0x0b
#define STALL_MS		20000
#define PAUSE_MS		100	/* a longer gap in our own time is a pause */

enum source { SOURCE_PIT, SOURCE_LAPIC };

static const char *const sources[] = { "pit", "lapic", NULL };

const char payload_banner[] = "timer";

static void pit_load(uint8_t mode, uint16_t count)
{
	outb(PIT_COMMAND, (uint8_t)(0x30 | mode << 1));
	outb(PIT_CHANNEL0, (uint8_t)count);
	outb(PIT_CHANNEL0, (uint8_t)(count >> 8));
}

static void start_pit(struct guest *guest, uint64_t hz)
{
	/* Firmware may have masked the local APIC's pin that the PIC is wired to. */
	map_device(guest, LAPIC_BASE);
	lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
	lapic_write(LAPIC_LVT_LINT0, LVT_EXTINT);
	/* A full one-shot count: no edge for 55 ms, while the PIC has no vectors yet. */
	pit_load(0, 0);
	outb(PIC1, 0x11);
	outb(PIC1 + 1, VECTOR_PIC);
	outb(PIC1 + 1, 0x04);
	outb(PIC1 + 1, 0x01);
	outb(PIC2, 0x11);
	outb(PIC2 + 1, VECTOR_PIC + 8);
	outb(PIC2 + 1, 0x02);
	outb(PIC2 + 1, 0x01);
	outb(PIC2 + 1, 0xff);
	outb(PIC1 + 1, 0xfe);
	pit_load(2, (uint16_t)((PIT_HZ + hz / 2) / hz));
}

/* The timer's own frequency is not told, so let it run for a while beside the TSC. */
static void start_lapic(struct guest *guest, uint64_t hz)
{
	uint64_t counted = 0;

	map_device(guest, LAPIC_BASE);
	lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR_LAPIC_TIMER);
	for (int i = 0; i < 3; i++) {
		uint64_t start = rdtsc(), per_ms;

		lapic_write(LAPIC_TIMER_INITIAL, UINT32_MAX);
		delay_ms(guest, 3);
		per_ms = UINT32_MAX - lapic_read(LAPIC_TIMER_CURRENT);
		per_ms = per_ms * guest->tsc_per_ms / (rdtsc() - start);
		/* A host that looked away at either end makes it less, never more. */
		if (per_ms > counted)
			counted = per_ms;
	}
	counted = counted * 1000 / hz;
	if (!counted || counted > UINT32_MAX) {
		say("the local APIC's timer cannot tick at %lu Hz", hz);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR_LAPIC_TIMER);
	lapic_write(LAPIC_TIMER_INITIAL, (uint32_t)counted);
}

void payload_main(struct guest *guest)
{
	uint64_t source = SOURCE_PIT, hz = 1000, run_ms = 0, seen = 0;
	uint64_t start, last, now, before;
	struct beat beat;
	const struct option options[] = {
		{ "source", &source, sources },
		{ "hz", &hz, NULL },
		{ "run", &run_ms, NULL },
	};

	parse_options(guest, options, ARRAY_SIZE(options));
	if (hz > 20000 || (source == SOURCE_PIT ? hz < 19 : !hz)) {
		say("bad value: hz=%lu", hz);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	calibrate_tsc(guest);
	beat_init(&beat, guest, 0);
	boot_ticks = 0;
	if (source == SOURCE_PIT)
		start_pit(guest, hz);
	else
		start_lapic(guest, hz);

	start = last = now = rdtsc();
	while (!run_ms || last - start < run_ms * guest->tsc_per_ms) {
		before = now;
		now = rdtsc();
		if (now - before > PAUSE_MS * guest->tsc_per_ms)
			last += now - before;
		if (seen != boot_ticks) {
			beat_emit(&beat);
			seen++;
			last = now;
		} else if (now - last > STALL_MS * guest->tsc_per_ms) {
			say(FERRY_GUEST_SAYS_STALLED "no tick for %u ms after %lu ticks", STALL_MS,
			    seen);
			leave(FERRY_GUEST_EXIT_STALLED);
		} else {
			cpu_relax();
		}
	}
	say(FERRY_GUEST_SAYS_OK "%lu ticks", seen);
	leave(FERRY_GUEST_EXIT_OK);
}
