/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lib.h - what every payload stands on.
 *
 * A payload is boot.S + lib.c + one file that defines payload_banner and payload_main(). It runs
 * in ring 3 with interrupts enabled and both PICs masked, memory mapped one to one. Ring 3 may do
 * all a payload needs: every port is open to it (boot.S's TSS), and page tables, TSS and gates
 * lie in memory it can write. It cannot execute privileged instructions, not even hlt. The
 * reason for ring 3 is speed: on some nested hosts ring 0 is interpreted, a thousand times
 * slower.
 *
 * The upper part is for the assembler, too.
 */
#ifndef FERRY_GUEST_LIB_H
#define FERRY_GUEST_LIB_H

#include "ferry-guest.h"

/* Selectors; the order is that of Linux's GDT, which paravirtual hosts may take for granted. */
#define SEL_CODE32		0x08
#define SEL_CODE64		0x10
#define SEL_DATA		0x18
#define SEL_USER_DATA		0x2b
#define SEL_USER_CODE		0x33
#define SEL_TSS			0x40
#define GDT_ENTRIES		10

/* Interrupt vectors beyond the 32 exceptions. */
#define VECTOR_PIC		0x20	/* 16 of them; the first one is the PIT */
#define VECTOR_LAPIC_TIMER	0x30
#define VECTOR_SPURIOUS		0x3f

#define TSS_BYTES		(104 + 8192 + 1)
#define RFLAGS_USER		0x3202	/* interrupts on, IOPL 3; see boot.S */

/* Offsets into struct cpu_start. */
#define CPU_START_GDT		6
#define CPU_START_GDT_BASE	8
#define CPU_START_ARG		16
#define CPU_START_FRAME		24

#ifndef __ASSEMBLER__

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES		4096ul
#define LARGE_PAGE_BYTES	0x200000ul
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

/* What cpu_up in boot.S loads on the way from 32-bit mode to ring 3. */
struct cpu_start {
	uint16_t pad[3];
	uint16_t gdt_limit;
	uint64_t gdt_base;
	uint64_t arg;			/* goes to rdi */
	uint64_t rip, cs, rflags, rsp, ss;
};

/* Boot.S's tables and records. */
struct tss {
	uint32_t reserved0;
	uint64_t rsp0;
	uint8_t reserved1[90];
	uint16_t io_bitmap_offset;
	uint8_t io_bitmap[8192 + 1];	/* 0: allowed; the last byte must be 0xff */
} __attribute__((packed));

struct exception_record {
	uint64_t vector, error_code, rip, cr2;
};

extern uint64_t boot_gdt[GDT_ENTRIES];
extern struct tss boot_tss;
extern char boot_stack0_end[];		/* ring 0's stack */
extern uint64_t boot_pdpt[512];
extern struct exception_record boot_exception;
extern volatile uint64_t boot_ticks;	/* counted by the two timer gates */

struct ram_range {
	uint64_t start, end;
};

/* One per payload, lives on the first stack. */
struct guest {
	char cmdline[1024];
	struct ram_range ram[32];	/* type 1 entries of the memory map, in its order */
	unsigned int nr_ram;
	uint64_t alloc_next, alloc_end;	/* page allocator: behind the image, below 1 GiB */
	uint64_t tsc_per_ms;		/* 0 until calibrate_tsc() */
};

/* Given by each payload. The banner opens the first message: "# banner, options: ...". */
extern const char payload_banner[];
void payload_main(struct guest *guest);

/* Ports. */
static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Print one message; knows %s %c %u %x %lu %lx %%. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Has a byte come on COM1? */
bool has_input(void);

/* Tell the host the exit code; a host without the port leaves us spinning. */
_Noreturn void leave(uint8_t code);

/*
 * Heartbeats. poll prints at most one beat and is cheap when none is due; a late beat moves the
 * ones after it, so there are never two in a row to make up for lost time.
 */
struct beat {
	uint64_t period;		/* in TSC units; 0: no heartbeat */
	uint64_t next;			/* TSC */
	uint64_t number;		/* of the next beat */
};

void beat_init(struct beat *beat, const struct guest *guest, uint64_t period_ms);
void beat_emit(struct beat *beat);
void beat_poll(struct beat *beat, uint64_t now);

/*
 * Options: key=value words of the command line. value points to the variable, which holds the
 * default before. A word that no entry knows, or a value that is none, ends the payload with
 * FERRY_GUEST_EXIT_BAD_OPTION. Keys with a dot in them are meant for kernel modules (VMMs append
 * such) and are skipped.
 */
struct option {
	const char *key;
	uint64_t *value;
	const char *const *choices;	/* NULL: a number (K, M, G); else the index of the word */
};

void parse_options(const struct guest *guest, const struct option *options, size_t count);

/* Measure tsc_per_ms against the PIT, about 8 ms. Leaves channel 0 counting once, masked. */
void calibrate_tsc(struct guest *guest);
void delay_ms(const struct guest *guest, uint64_t ms);

/* Memory. Physical and virtual addresses are the same; only what is mapped may be touched. */
void map_range(struct guest *guest, uint64_t start, uint64_t bytes);
void *map_device(struct guest *guest, uint64_t start);	/* one large page, uncached */
void *alloc_pages(struct guest *guest, uint64_t bytes);	/* zeroed, page aligned, never freed */
uint64_t ram_top(const struct guest *guest);

/* The local APIC, as 32-bit registers. */
#define LAPIC_BASE		0xfee00000ul
#define LAPIC_EOI		0xb0
#define LAPIC_SPURIOUS		0xf0
#define LAPIC_ICR_LOW		0x300
#define LAPIC_ICR_HIGH		0x310
#define LAPIC_LVT_TIMER		0x320
#define LAPIC_LVT_LINT0		0x350
#define LAPIC_TIMER_INITIAL	0x380
#define LAPIC_TIMER_CURRENT	0x390
#define LAPIC_TIMER_DIVIDE	0x3e0

static inline void lapic_write(unsigned int reg, uint32_t value)
{
	*(volatile uint32_t *)(LAPIC_BASE + reg) = value;
}

static inline uint32_t lapic_read(unsigned int reg)
{
	return *(volatile uint32_t *)(LAPIC_BASE + reg);
}

/* The compiler may call these three even in freestanding code. */
void *memset(void *to, int byte, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#endif /* __ASSEMBLER__ */
#endif /* FERRY_GUEST_LIB_H */
