/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * smp.c - all CPUs of the machine count, the first one watches.
 *
 * The first CPU starts the others by INIT and SIPI, one after the other, with APIC IDs 1 to N-1.
 * Each runs cpu_count() in ring 3 with its own GDT, TSS and stacks, and counts in a cache line
 * of its own. Once all are up ("N cpus up") the first one beats each millisecond, as long as no
 * counter has stood still for twenty seconds. Each time all have counted it says "lap N", at most
 * twice a second: whoever waits for laps knows that no CPU was left behind.
 *
 *	cpus=N		default 2; more than the machine has: code 0x11
 *	run=MS		exit after so much time; 0 (default): never
 *
 * Twenty seconds are long on purpose: CPUs may outnumber the host's, and a host may be busy with
 * others. A pause of the whole guest is told from a CPU that stands still by the first CPU's own
 * clock, which then has a gap, too.
 */
#include "lib.h"

#define MAX_CPUS		255
#define TRAMPOLINE		0x8000ul	/* the SIPI's vector is its page number */
#define ICR_INIT		0x4500
#define ICR_STARTUP		0x4600
#define SPURIOUS_ENABLE		0x100
#define STALL_MS		20000
#define PAUSE_MS		100	/* a longer gap in our own time is a pause */
#define LAP_MS			500
#define STACK_BYTES		4096

struct cpu {
	volatile uint64_t count __attribute__((aligned(64)));
	uint64_t seen __attribute__((aligned(64)));	/* by the first CPU */
	uint64_t seen_at;				/* TSC */
	uint64_t lap_count;				/* where count was at the last lap */
	struct cpu_start start;
	uint64_t gdt[GDT_ENTRIES];
	struct tss tss;
	uint8_t stack0[1024] __attribute__((aligned(16)));
	uint8_t stack[STACK_BYTES] __attribute__((aligned(16)));
};

extern char ap_trampoline[], ap_trampoline_end[];
extern uint64_t ap_start_at;
uint64_t ap_start_at;

const char payload_banner[] = "smp";

static _Noreturn void cpu_count(struct cpu *cpu)
{
	for (;;) {
		cpu->count++;
		cpu_relax();
	}
}

/* The same selectors as the first CPU's, but an own TSS. */
static void prepare(struct cpu *cpu)
{
	uint64_t tss = (uint64_t)&cpu->tss;

	memcpy(cpu->gdt, boot_gdt, sizeof(cpu->gdt));
	cpu->gdt[SEL_TSS / 8] = (TSS_BYTES - 1) | (tss & 0xffffff) << 16 | 0x89ul << 40 |
				(tss >> 24 & 0xff) << 56;
	cpu->gdt[SEL_TSS / 8 + 1] = tss >> 32;
	memcpy(&cpu->tss, &boot_tss, sizeof(cpu->tss));
	cpu->tss.rsp0 = (uint64_t)(cpu->stack0 + sizeof(cpu->stack0));
	cpu->start = (struct cpu_start){
		.gdt_limit = sizeof(cpu->gdt) - 1,
		.gdt_base = (uint64_t)cpu->gdt,
		.arg = (uint64_t)cpu,
		.rip = (uint64_t)cpu_count,
		.cs = SEL_USER_CODE,
		.rflags = RFLAGS_USER,
		.rsp = (uint64_t)(cpu->stack + STACK_BYTES - 8),
		.ss = SEL_USER_DATA,
	};
}

static void start_cpu(struct guest *guest, struct cpu *cpu, uint32_t id)
{
	uint64_t deadline;

	prepare(cpu);
	ap_start_at = (uint64_t)&cpu->start;
	lapic_write(LAPIC_ICR_HIGH, id << 24);
	lapic_write(LAPIC_ICR_LOW, ICR_INIT);
	delay_ms(guest, 1);		/* real CPUs want 10; a virtual one is ready at once */
	for (int i = 0; i < 2 && !cpu->count; i++) {
		lapic_write(LAPIC_ICR_HIGH, id << 24);
		lapic_write(LAPIC_ICR_LOW, ICR_STARTUP | TRAMPOLINE >> 12);
		delay_ms(guest, 1);
	}
	deadline = rdtsc() + STALL_MS * guest->tsc_per_ms;
	while (!cpu->count) {
		if (rdtsc() > deadline) {
			say(FERRY_GUEST_SAYS_STALLED "cpu %u does not start", id);
			leave(FERRY_GUEST_EXIT_STALLED);
		}
		cpu_relax();
	}
}

/* pause: the TSC time since the last look in which no CPU could count, or 0. */
static void watch(const struct guest *guest, struct cpu *cpus, uint64_t nr_cpus, uint64_t now,
		  uint64_t pause)
{
	for (uint64_t id = 1; id < nr_cpus; id++) {
		struct cpu *cpu = &cpus[id];
		uint64_t count = cpu->count;

		cpu->seen_at += pause;
		if (count != cpu->seen || !cpu->seen_at) {
			cpu->seen = count;
			cpu->seen_at = now;
		} else if (now - cpu->seen_at > STALL_MS * guest->tsc_per_ms) {
			say(FERRY_GUEST_SAYS_STALLED "cpu %lu stands still at %lu for %u ms", id,
			    count, STALL_MS);
			leave(FERRY_GUEST_EXIT_STALLED);
		}
	}
}

static void tell_laps(const struct guest *guest, struct cpu *cpus, uint64_t nr_cpus, uint64_t now)
{
	static uint64_t laps, last;

	if (now - last < LAP_MS * guest->tsc_per_ms)
		return;
	for (uint64_t id = 1; id < nr_cpus; id++)
		if (cpus[id].count == cpus[id].lap_count)
			return;
	for (uint64_t id = 1; id < nr_cpus; id++)
		cpus[id].lap_count = cpus[id].count;
	last = now;
	say(FERRY_GUEST_SAYS_LAP "%lu", ++laps);
}

void payload_main(struct guest *guest)
{
	uint64_t nr_cpus = 2, run_ms = 0, start, now, before, pause_min;
	struct beat beat;
	struct cpu *cpus;
	const struct option options[] = {
		{ "cpus", &nr_cpus, NULL },
		{ "run", &run_ms, NULL },
	};

	parse_options(guest, options, ARRAY_SIZE(options));
	if (!nr_cpus || nr_cpus > MAX_CPUS) {
		say("bad value: cpus=%lu", nr_cpus);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	calibrate_tsc(guest);
	cpus = alloc_pages(guest, nr_cpus * sizeof(*cpus));
	map_device(guest, LAPIC_BASE);
	lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
	memcpy((void *)TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	for (uint32_t id = 1; id < nr_cpus; id++)
		start_cpu(guest, &cpus[id], id);
	say("%lu" FERRY_GUEST_SAYS_CPUS_UP, nr_cpus);

	beat_init(&beat, guest, 1);
	pause_min = PAUSE_MS * guest->tsc_per_ms;
	start = now = before = rdtsc();
	while (!run_ms || now - start < run_ms * guest->tsc_per_ms) {
		watch(guest, cpus, nr_cpus, now, now - before > pause_min ? now - before : 0);
		tell_laps(guest, cpus, nr_cpus, now);
		cpu_relax();
		before = now;
		now = rdtsc();
		beat_poll(&beat, now);
	}
	say(FERRY_GUEST_SAYS_OK "%lu cpus, %lu beats", nr_cpus, beat.number);
	leave(FERRY_GUEST_EXIT_OK);
}
