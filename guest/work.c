/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * work.c - rewrites memory at a known rate, checks all of it, and beats each millisecond.
 *
 * The guest a migration is tested with. Every page of the footprint has a sequence number, kept
 * in a table outside the footprint, and page number plus sequence number decide what all its 512
 * words must be. A page is checked in full before it is rewritten; besides, a background scan
 * checks page after page whenever no rewrite is due. So a page that was lost, is stale or went to
 * a wrong place is found within one lap of the scan, wherever it is.
 *
 *	footprint=SIZE	bytes in use (default 64M)
 *	base=ADDR	first physical address (default: the first free one); holes are skipped
 *	rate=N		pages rewritten a millisecond (default 4); 0: none after the fill
 *	pattern=	sparse (default), pages, random, zero: see pattern_word()
 *	order=		rand (default), seq: which page is next
 *	scan=		on (default), off: the background scan
 *	beat=MS		heartbeat period (default 1); 0: none
 *	run=MS		after so much time check everything and exit; 0 (default): never
 *
 * Messages: "filled", "working", "lap N" (at most one a second), "ok: ...", "DAMAGED page ...".
 *
 * The rate is a budget of guest time. What a slow host (or a pause) leaves undone is forgotten but
 * for BACKLOG_MS, so there is no burst after a stall; with a rate that the host cannot reach, the
 * guest writes as fast as it can and the scan gets no turn.
 *
 * It does not sleep: one host CPU is busy as long as it runs.
 */
#include "lib.h"

#define PAGE_WORDS	512
#define BACKLOG_MS	4
#define MAX_SEGMENTS	8
#define HOT_WORDS	8
#define HOT_STRIDE	63		/* 1 + 8 * 63 <= 512; word 0 is the tag */

enum pattern { PATTERN_SPARSE, PATTERN_PAGES, PATTERN_RANDOM, PATTERN_ZERO };
enum order { ORDER_RAND, ORDER_SEQ };
enum scan { SCAN_ON, SCAN_OFF };

static const char *const patterns[] = { "sparse", "pages", "random", "zero", NULL };
static const char *const orders[] = { "rand", "seq", NULL };
static const char *const scans[] = { "on", "off", NULL };

struct segment {
	uint64_t start, pages;
};

struct work {
	/* options */
	uint64_t footprint, base, rate, pattern, order, scan, beat_ms, run_ms;

	struct guest *guest;
	struct beat beat;

	/* Page index -> address: the segments one after the other. */
	struct segment segments[MAX_SEGMENTS];
	unsigned int nr_segments;
	uint64_t pages;
	uint32_t *seq;			/* by page index, the truth about each page */

	uint64_t credit;		/* TSC units times rate; one page costs tsc_per_ms */
	uint64_t credited;		/* TSC up to which credit was given */
	uint64_t next_write;		/* counts rewrites */
	uint64_t next_scan;		/* page index */
	uint64_t laps, last_lap_message;	/* the latter in TSC */
	uint64_t written, verified;
};

const char payload_banner[] = "work";

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 32)) * 0x9fb21c651e98df25ul;
	z = (z ^ (z >> 29)) * 0xd6e8feb86659fd93ul;
	return z ^ (z >> 32);
}

static inline uint64_t hash(uint64_t addr, uint64_t seq, uint64_t i)
{
	return mix(addr + i + (seq << 40) * 3 + seq * 0x9e3779b97f4a7c15ul);
}

/* Sparse: the k-th of the eight words of this page that change. */
static inline unsigned int hot_word(uint64_t addr, unsigned int k)
{
	return 1 + k * HOT_STRIDE + (unsigned int)(mix(~addr + k) % HOT_STRIDE);
}

/* Sparse: write s goes to hot word s % 8, so this one's last write was at most 7 ago. */
static inline uint64_t hot_value(uint64_t addr, uint32_t seq, unsigned int k)
{
	uint32_t age = (seq - k) % HOT_WORDS;

	return hash(addr, age < seq ? seq - age : 0, hot_word(addr, k));
}

/*
 * What word i of the page must be, but for sparse's hot words. Word 0 is a tag of page number and
 * sequence number: a page in the wrong place, or an old one, tells so itself.
 *
 * sparse: noise that stays, eight hot words. pages: one number, counted up over the page, so it
 * compresses. random: all noise, all new. zero: odd pages all zero, even ones the tag and zeros.
 */
static inline __attribute__((always_inline)) uint64_t
pattern_word(enum pattern pattern, uint64_t addr, uint32_t seq, unsigned int i)
{
	if (pattern == PATTERN_ZERO && (seq % 2 || i))
		return 0;
	if (!i)
		return addr / PAGE_BYTES << 32 | seq;
	switch (pattern) {
	case PATTERN_SPARSE:
		return hash(addr, 0, i);
	case PATTERN_PAGES:
		return hash(addr, seq, 0) + i;
	default:
		return hash(addr, seq, i);
	}
}

/* The fill routine is compiled once per pattern; sparse is filled whole only at seq 0. */
static inline __attribute__((always_inline)) void
fill(enum pattern pattern, uint64_t *page, uint32_t seq)
{
	for (unsigned int i = 0; i < PAGE_WORDS; i++)
		page[i] = pattern_word(pattern, (uint64_t)page, seq, i);
}

static inline __attribute__((always_inline)) uint64_t
difference(enum pattern pattern, const uint64_t *page, uint32_t seq)
{
	uint64_t bits = 0;

	for (unsigned int i = 0; i < PAGE_WORDS; i++)
		bits |= page[i] ^ pattern_word(pattern, (uint64_t)page, seq, i);
	return bits;
}

/* As difference(), but the one hot word in each stride has its own value. */
static uint64_t sparse_difference(const uint64_t *page, uint32_t seq)
{
	uint64_t addr = (uint64_t)page, bits = page[0] ^ pattern_word(PATTERN_SPARSE, addr, seq, 0);
	unsigned int i = 1;

	for (unsigned int k = 0; k < HOT_WORDS; k++) {
		unsigned int hot = hot_word(addr, k);

		bits |= page[hot] ^ hot_value(addr, seq, k);
		for (; i < hot; i++)
			bits |= page[i] ^ hash(addr, 0, i);
		i = hot + 1;
	}
	for (; i < PAGE_WORDS; i++)
		bits |= page[i] ^ hash(addr, 0, i);
	return bits;
}

static void write_page(const struct work *work, uint64_t *page, uint32_t seq)
{
	unsigned int k = seq % HOT_WORDS;

	switch ((enum pattern)work->pattern) {
	case PATTERN_SPARSE:
		if (!seq) {
			fill(PATTERN_SPARSE, page, 0);
			break;
		}
		page[0] = pattern_word(PATTERN_SPARSE, (uint64_t)page, seq, 0);
		page[hot_word((uint64_t)page, k)] = hot_value((uint64_t)page, seq, k);
		break;
	case PATTERN_PAGES:
		fill(PATTERN_PAGES, page, seq);
		break;
	case PATTERN_RANDOM:
		fill(PATTERN_RANDOM, page, seq);
		break;
	case PATTERN_ZERO:
		fill(PATTERN_ZERO, page, seq);
		break;
	}
}

static bool page_is_intact(const struct work *work, const uint64_t *page, uint32_t seq)
{
	switch ((enum pattern)work->pattern) {
	case PATTERN_SPARSE:
		return !sparse_difference(page, seq);
	case PATTERN_PAGES:
		return !difference(PATTERN_PAGES, page, seq);
	case PATTERN_RANDOM:
		return !difference(PATTERN_RANDOM, page, seq);
	default:
		return !difference(PATTERN_ZERO, page, seq);
	}
}

static uint64_t wanted_word(const struct work *work, const uint64_t *page, uint32_t seq,
			    unsigned int i)
{
	uint64_t addr = (uint64_t)page;

	for (unsigned int k = 0; work->pattern == PATTERN_SPARSE && k < HOT_WORDS; k++) {
		if (hot_word(addr, k) == i)
			return hot_value(addr, seq, k);
	}
	return pattern_word((enum pattern)work->pattern, addr, seq, i);
}

/* Name the first wrong word and count them all; the tag tells whose content it is. */
static _Noreturn void report_damage(const struct work *work, const uint64_t *page, uint32_t seq)
{
	unsigned int first = PAGE_WORDS, count = 0;
	uint64_t have = 0, want = 0;

	for (unsigned int i = 0; i < PAGE_WORDS; i++) {
		uint64_t word = page[i], wanted = wanted_word(work, page, seq, i);

		if (word == wanted)
			continue;
		if (!count++) {
			first = i;
			have = word;
			want = wanted;
		}
	}
	say(FERRY_GUEST_SAYS_DAMAGED "0x%lx word %u seq %u: have 0x%lx want 0x%lx, "
	    "%u words differ, tag 0x%lx", (uint64_t)page, first, seq, have, want, count,
	    page[0]);
	leave(FERRY_GUEST_EXIT_DAMAGED);
}

static uint64_t *page_at(const struct work *work, uint64_t index)
{
	const struct segment *segment = work->segments;

	for (; index >= segment->pages; segment++)
		index -= segment->pages;
	return (uint64_t *)(segment->start + index * PAGE_BYTES);
}

static void verify(struct work *work, uint64_t index)
{
	const uint64_t *page = page_at(work, index);

	if (!page_is_intact(work, page, work->seq[index]))
		report_damage(work, page, work->seq[index]);
	work->verified++;
}

static void rewrite(struct work *work)
{
	uint64_t n = work->next_write++, index;

	if (work->order == ORDER_SEQ)
		index = n % work->pages;
	else
		index = (uint64_t)((unsigned __int128)mix(n + 1) * work->pages >> 64);
	verify(work, index);
	write_page(work, page_at(work, index), ++work->seq[index]);
	work->written++;
}

static void scan_one(struct work *work, uint64_t now)
{
	verify(work, work->next_scan);
	if (++work->next_scan < work->pages)
		return;
	work->next_scan = 0;
	work->laps++;
	if (now - work->last_lap_message >= 1000 * work->guest->tsc_per_ms) {
		say(FERRY_GUEST_SAYS_LAP "%lu", work->laps);
		work->last_lap_message = now;
	}
}

/* Take rate pages a millisecond, as smoothly as the clock is read. */
static bool write_is_due(struct work *work, uint64_t now)
{
	uint64_t cost = work->guest->tsc_per_ms, elapsed = now - work->credited;

	work->credited = now;
	if (elapsed > BACKLOG_MS * cost)
		elapsed = BACKLOG_MS * cost;
	work->credit += elapsed * work->rate;
	if (work->credit > BACKLOG_MS * cost * work->rate)
		work->credit = BACKLOG_MS * cost * work->rate;
	if (work->credit < cost)
		return false;
	work->credit -= cost;
	return true;
}

/*
 * Lay the footprint over the RAM above the tables. How many page directories mapping will take
 * is known only afterwards, so room is left for all that the machine's RAM could need.
 */
static void choose_footprint(struct work *work)
{
	struct guest *guest = work->guest;
	uint64_t wanted = (work->footprint + PAGE_BYTES - 1) / PAGE_BYTES, first;

	work->seq = alloc_pages(guest, wanted * sizeof(*work->seq));
	first = guest->alloc_next + ((ram_top(guest) >> 30) + 1) * PAGE_BYTES;
	first = (first + LARGE_PAGE_BYTES - 1) & ~(LARGE_PAGE_BYTES - 1);
	if (work->base && (work->base < first || work->base % PAGE_BYTES)) {
		say("base=0x%lx is below 0x%lx or no page", work->base, first);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	if (guest->alloc_end > first)
		guest->alloc_end = first;
	if (work->base)
		first = work->base;

	for (unsigned int i = 0; i < guest->nr_ram && work->nr_segments < MAX_SEGMENTS; i++) {
		uint64_t start = guest->ram[i].start, end = guest->ram[i].end;

		start = start < first ? first : (start + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
		if (end < start + PAGE_BYTES || work->pages == wanted)
			continue;
		end = (end - start) / PAGE_BYTES;
		if (end > wanted - work->pages)
			end = wanted - work->pages;
		work->segments[work->nr_segments++] = (struct segment){ start, end };
		work->pages += end;
		map_range(guest, start, end * PAGE_BYTES);
		say("%lu KiB at 0x%lx", end * PAGE_BYTES >> 10, start);
	}
	if (!wanted || work->pages < wanted) {
		say("only %lu KiB of memory for the footprint", work->pages * PAGE_BYTES >> 10);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
}

static void run(struct work *work)
{
	uint64_t now = rdtsc(), start = now, length = work->run_ms * work->guest->tsc_per_ms;

	work->credited = now;
	work->last_lap_message = now;
	while (!length || now - start < length) {
		if (write_is_due(work, now))
			rewrite(work);
		else if (work->scan == SCAN_ON)
			scan_one(work, now);
		else
			cpu_relax();
		now = rdtsc();
		beat_poll(&work->beat, now);
	}
}

void payload_main(struct guest *guest)
{
	struct work work = { .guest = guest, .footprint = 64 << 20, .rate = 4, .beat_ms = 1 };
	const struct option options[] = {
		{ "footprint", &work.footprint, NULL },
		{ "base", &work.base, NULL },
		{ "rate", &work.rate, NULL },
		{ "pattern", &work.pattern, patterns },
		{ "order", &work.order, orders },
		{ "scan", &work.scan, scans },
		{ "beat", &work.beat_ms, NULL },
		{ "run", &work.run_ms, NULL },
	};

	parse_options(guest, options, ARRAY_SIZE(options));
	choose_footprint(&work);
	calibrate_tsc(guest);
	beat_init(&work.beat, guest, work.beat_ms);
	for (uint64_t i = 0; i < work.pages; i++) {
		write_page(&work, page_at(&work, i), 0);
		beat_poll(&work.beat, rdtsc());
	}
	say(FERRY_GUEST_SAYS_FILLED);
	say(FERRY_GUEST_SAYS_WORKING);
	run(&work);
	for (uint64_t i = 0; i < work.pages; i++) {
		verify(&work, i);
		beat_poll(&work.beat, rdtsc());
	}
	say(FERRY_GUEST_SAYS_OK "%lu pages written, %lu verified", work.written, work.verified);
	leave(FERRY_GUEST_EXIT_OK);
}
