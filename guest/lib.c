/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lib.c - the payloads' runtime: start, serial output, heartbeats, options, memory, time.
 *
 * guest_start() is the first C code, already in ring 3. It copies what it wants of hvm_start_info
 * (memory map, command line) before anything is allocated, because that structure may lie
 * anywhere; the module list is not read. Then memory behind the image is ours: a bump allocator
 * hands it out for page directories and tables.
 *
 * Mapping: one PML4 entry, one page directory pointer table (512 GiB), a page directory for each
 * GiB in use, 2 MiB pages one to one. Only non-present entries are ever made present, so there is
 * nothing to flush.
 *
 * No initialised writable data here: a reset that does not load the image again finds all
 * variables cleared all the same.
 */
#include "lib.h"

#define PIT_CHANNEL0		0x40
#define PIT_COMMAND		0x43
#define PIT_HZ			1193182ul

#define PTE_TABLE		0x27ul	/* present, writable, user, accessed */
#define PTE_LARGE		0xe7ul	/* the same, dirty, 2 MiB */
#define PTE_UNCACHED		0x18ul

#define START_MAGIC		0x336ec578u
#define MEMMAP_RAM		1

/* Xen's public ABI, include/public/arch-x86/hvm/start_info.h. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp;
	uint64_t memmap;		/* from version 1 on */
	uint32_t memmap_entries, reserved;
};

struct memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

extern char bss_start[], bss_end[], image_end[];

/* Entered from boot.S only. */
_Noreturn void guest_start(uint64_t start_info);
_Noreturn void exception_report(void);

void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
	const uint8_t *x = a, *y = b;

	for (; bytes; bytes--, x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}

#define LSR			(FERRY_GUEST_PORT_COM1 + 5)
#define LSR_DATA_READY		0x01
#define LSR_THR_EMPTY		0x20

bool has_input(void)
{
	return inb(LSR) & LSR_DATA_READY;
}

static void put(char c)
{
	while (!(inb(LSR) & LSR_THR_EMPTY))
		cpu_relax();
	outb(FERRY_GUEST_PORT_COM1, (uint8_t)c);
}

static void put_string(const char *s)
{
	while (*s)
		put(*s++);
}

static void put_number(uint64_t value, unsigned int base)
{
	char digits[20];
	unsigned int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		put(digits[--n]);
}

static void put_format(const char *format, va_list args)
{
	for (; *format; format++) {
		bool wide = false;

		if (*format != '%') {
			put(*format);
			continue;
		}
		if (*++format == 'l') {
			wide = true;
			format++;
		}
		switch (*format) {
		case 's':
			put_string(va_arg(args, const char *));
			break;
		case 'c':
			put((char)va_arg(args, int));
			break;
		case 'u':
		case 'x':
			put_number(wide ? va_arg(args, uint64_t) : va_arg(args, unsigned int),
				   *format == 'x' ? 16 : 10);
			break;
		default:
			put(*format);
			break;
		}
	}
}

void say(const char *format, ...)
{
	va_list args;

	put(FERRY_GUEST_MESSAGE_MARK);
	put(' ');
	va_start(args, format);
	put_format(format, args);
	va_end(args);
	put(FERRY_GUEST_MESSAGE_END);
}

_Noreturn void leave(uint8_t code)
{
	outb(FERRY_GUEST_PORT_EXIT, code);
	for (;;)
		cpu_relax();
}

_Noreturn void exception_report(void)
{
	const struct exception_record *e = &boot_exception;

	say(FERRY_GUEST_SAYS_EXCEPTION "%lu, error code 0x%lx, rip 0x%lx, cr2 0x%lx", e->vector,
	    e->error_code, e->rip, e->cr2);
	leave(FERRY_GUEST_EXIT_EXCEPTION);
}

void beat_init(struct beat *beat, const struct guest *guest, uint64_t period_ms)
{
	beat->period = period_ms * guest->tsc_per_ms;
	beat->next = rdtsc() + beat->period;
	beat->number = 0;
}

void beat_emit(struct beat *beat)
{
	put(FERRY_GUEST_BEAT_ALPHABET[beat->number++ % FERRY_GUEST_BEAT_COUNT]);
}

void beat_poll(struct beat *beat, uint64_t now)
{
	if (!beat->period || now < beat->next)
		return;
	beat_emit(beat);
	beat->next += beat->period;
	if (beat->next <= now)
		beat->next = now + beat->period;
}

/* Length of the word that ends at c or at the end of the string. */
static size_t span(const char *s, char c)
{
	size_t n = 0;

	while (s[n] && s[n] != c)
		n++;
	return n;
}

static bool same(const char *word, size_t length, const char *string)
{
	return span(string, '\0') == length && !memcmp(word, string, length);
}

static bool parse_number(const char *s, size_t length, uint64_t *value)
{
	uint64_t base = 10, n = 0;
	unsigned int shift = 0, digits = 0;
	size_t i = 0;

	if (length > 2 && s[0] == '0' && s[1] == 'x') {
		base = 16;
		i = 2;
	}
	for (; i < length; i++, digits++) {
		uint64_t digit;

		if (s[i] >= '0' && s[i] <= '9')
			digit = (uint64_t)(s[i] - '0');
		else if (base == 16 && s[i] >= 'a' && s[i] <= 'f')
			digit = (uint64_t)(s[i] - 'a' + 10);
		else
			break;
		if (n > (UINT64_MAX - digit) / base)
			return false;
		n = n * base + digit;
	}
	if (i + 1 == length) {
		shift = s[i] == 'K' ? 10 : s[i] == 'M' ? 20 : s[i] == 'G' ? 30 : 0;
		if (!shift || n > UINT64_MAX >> shift)
			return false;
	} else if (i != length) {
		return false;
	}
	*value = n << shift;
	return digits > 0;
}

static bool parse_value(const struct option *option, const char *s, size_t length)
{
	if (!option->choices)
		return parse_number(s, length, option->value);
	for (uint64_t i = 0; option->choices[i]; i++) {
		if (same(s, length, option->choices[i])) {
			*option->value = i;
			return true;
		}
	}
	return false;
}

void parse_options(const struct guest *guest, const struct option *options, size_t count)
{
	const char *word = guest->cmdline;
	char copy[64];

	for (; *word; word += span(word, ' ')) {
		size_t length, key, i;

		while (*word == ' ')
			word++;
		length = span(word, ' ');
		key = span(word, '=');
		if (!length || span(word, '.') < key)
			continue;
		for (i = 0; i < count && !(key < length && same(word, key, options[i].key)); i++)
			;
		if (i < count && parse_value(&options[i], word + key + 1, length - key - 1))
			continue;
		memset(copy, 0, sizeof(copy));
		memcpy(copy, word, length < sizeof(copy) ? length : sizeof(copy) - 1);
		say("%s option %s", i < count ? "bad value in" : "unknown", copy);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
}

/*
 * Read the PIT's count together with the TSC of that moment. A host that is interrupted between
 * the two would spoil the pair, so take the closest of a few.
 */
static uint64_t read_pit(uint16_t *count)
{
	uint64_t best = UINT64_MAX, tsc = 0;

	for (int i = 0; i < 4; i++) {
		uint64_t before = rdtsc(), after;
		uint16_t value;

		outb(PIT_COMMAND, 0x00);
		after = rdtsc();
		value = inb(PIT_CHANNEL0);
		value |= (uint16_t)(inb(PIT_CHANNEL0) << 8);
		if (after - before < best) {
			best = after - before;
			tsc = before + best / 2;
			*count = value;
		}
	}
	return tsc;
}

/* Has the count gone below zero? Then it goes on from the top, and tells no time any more. */
static bool pit_has_ended(void)
{
	outb(PIT_COMMAND, 0xe2);	/* read back the status of channel 0 */
	return inb(PIT_CHANNEL0) & 0x80;	/* its output */
}

static bool measure_tsc(struct guest *guest, uint16_t wanted)
{
	uint64_t start, end;
	uint16_t first = 0, last = 0;

	outb(PIT_COMMAND, 0x30);	/* channel 0, both bytes, mode 0: count down once */
	outb(PIT_CHANNEL0, 0xff);
	outb(PIT_CHANNEL0, 0xff);
	start = read_pit(&first);
	do {
		end = read_pit(&last);
	} while ((uint16_t)(first - last) < wanted);
	guest->tsc_per_ms = (end - start) * PIT_HZ / (uint16_t)(first - last) / 1000;
	return !pit_has_ended();
}

/* A host that looks away for the 55 ms of the whole count spoils the measurement; it is done anew, and is over sooner. */
void calibrate_tsc(struct guest *guest)
{
	uint16_t wanted = PIT_HZ * 8 / 1000;

	while (!measure_tsc(guest, wanted))
		if (wanted > PIT_HZ / 1000)
			wanted /= 2;
}

void delay_ms(const struct guest *guest, uint64_t ms)
{
	uint64_t end = rdtsc() + ms * guest->tsc_per_ms;

	while (rdtsc() < end)
		cpu_relax();
}

static void map_large_page(struct guest *guest, uint64_t addr, uint64_t flags)
{
	uint64_t *pdpte, *pde;

	if (addr >> 39) {
		say("no mapping above 512 GiB: 0x%lx", addr);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	pdpte = &boot_pdpt[addr >> 30];
	if (!*pdpte)
		*pdpte = (uint64_t)alloc_pages(guest, PAGE_BYTES) | PTE_TABLE;
	pde = (uint64_t *)(*pdpte & ~(PAGE_BYTES - 1)) + (addr >> 21 & 511);
	if (!*pde)
		*pde = addr | flags;
	/* The entry must be in memory before the first access that needs it. */
	__asm__ volatile("" : : : "memory");
}

void map_range(struct guest *guest, uint64_t start, uint64_t bytes)
{
	uint64_t addr = start & ~(LARGE_PAGE_BYTES - 1);

	for (; addr < start + bytes; addr += LARGE_PAGE_BYTES)
		map_large_page(guest, addr, PTE_LARGE);
}

void *map_device(struct guest *guest, uint64_t start)
{
	map_large_page(guest, start & ~(LARGE_PAGE_BYTES - 1), PTE_LARGE | PTE_UNCACHED);
	return (void *)start;
}

/* The first GiB has its page directory from boot.S, so this never calls itself. */
void *alloc_pages(struct guest *guest, uint64_t bytes)
{
	uint64_t addr = guest->alloc_next;

	bytes = (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	if (bytes > guest->alloc_end - addr) {
		say("no room for %lu KiB of tables", bytes >> 10);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	guest->alloc_next += bytes;
	map_range(guest, addr, bytes);
	return memset((void *)addr, 0, bytes);
}

uint64_t ram_top(const struct guest *guest)
{
	uint64_t top = 0;

	for (unsigned int i = 0; i < guest->nr_ram; i++) {
		if (guest->ram[i].end > top)
			top = guest->ram[i].end;
	}
	return top;
}

static void read_start_info(struct guest *guest, const struct start_info *info)
{
	const struct memmap_entry *entry;
	const char *cmdline = (const char *)info->cmdline;

	if (info->magic != START_MAGIC)
		return;
	if (cmdline) {
		map_range(guest, info->cmdline, sizeof(guest->cmdline));
		for (size_t i = 0; i < sizeof(guest->cmdline) - 1 && cmdline[i]; i++)
			guest->cmdline[i] = cmdline[i];
	}
	if (info->version < 1 || !info->memmap)
		return;
	entry = (const struct memmap_entry *)info->memmap;
	map_range(guest, info->memmap, info->memmap_entries * sizeof(*entry));
	for (uint32_t i = 0; i < info->memmap_entries; i++, entry++) {
		if (entry->type == MEMMAP_RAM && guest->nr_ram < ARRAY_SIZE(guest->ram))
			guest->ram[guest->nr_ram++] =
				(struct ram_range){ entry->addr, entry->addr + entry->size };
	}
}

_Noreturn void guest_start(uint64_t start_info)
{
	struct guest guest = { 0 };
	uint64_t end = (uint64_t)image_end;

	memset(bss_start, 0, (uint64_t)bss_end - (uint64_t)bss_start);
	/*
	 * Were the image not loaded anew by a reset, these would be what the last run left: the
	 * stack that hello.c breaks, page directories in memory that is free again. Look before
	 * writing: a write to a page table may be expensive.
	 */
	boot_tss.rsp0 = (uint64_t)boot_stack0_end;
	for (unsigned int i = 1; i < 512; i++) {
		if (boot_pdpt[i])
			boot_pdpt[i] = 0;
	}
	/* Enough for a page directory, should the start info lie above 1 GiB. */
	guest.alloc_next = end;
	guest.alloc_end = LARGE_PAGE_BYTES;
	map_range(&guest, start_info, sizeof(struct start_info));
	read_start_info(&guest, (const struct start_info *)start_info);
	for (unsigned int i = 0; i < guest.nr_ram; i++) {
		if (guest.ram[i].start <= end && guest.ram[i].end > end)
			guest.alloc_end = guest.ram[i].end;
	}
	if (guest.alloc_end > 1ul << 30)
		guest.alloc_end = 1ul << 30;

	/* boot.S has sent the mark already. */
	put(' ');
	put_string(payload_banner);
	if (guest.cmdline[0]) {
		put_string(", options: ");
		put_string(guest.cmdline);
	}
	put(FERRY_GUEST_MESSAGE_END);
	payload_main(&guest);
	leave(FERRY_GUEST_EXIT_OK);
}
