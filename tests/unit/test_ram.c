/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what is loaded of the "ram" section is what was saved, whatever the encoding, and the cache
 * always holds what the destination has; the loader refuses, in words, whatever stream-format.md
 * section 2 does not allow, and no stream is a danger to it. (test_golden.c has the bytes.)
 *
 * How: two memories made by hand, each block between two pages that may not be touched, and a
 * memory channel between saver and loader. No KVM.
 */
#include <sys/mman.h>

#include "migration/ram/load.h"
#include "migration/ram/save.h"
#include "migration/stream/protocol.h"
#include "tests/unit/support.h"

#define SEED 0x5eed0104
#define PAGE UINT64_C(4096)

/* --- two machines' memory and a channel between them --- */

static void memory_build(struct memory *mem, uint64_t ram_pages, uint64_t boot_pages)
{
	uint64_t sizes[2] = { ram_pages * PAGE, boot_pages * PAGE };

	*mem = (struct memory){ .nblocks = 2 };
	for (unsigned int i = 0; i < 2; i++) {
		struct ram_block *block = &mem->blocks[i];
		uint8_t *area = mmap(NULL, sizes[i] + 2 * PAGE, PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		cr_assert_neq(area, MAP_FAILED);
		strcpy(block->name, i ? "boot" : "ram");
		block->host = area + PAGE;
		block->size_bytes = block->used_bytes = sizes[i];
		block->slot = RAM_BLOCK_NO_SLOT;
		cr_assert_eq(mprotect(block->host, sizes[i], PROT_READ | PROT_WRITE), 0);
	}
}

static void memory_end(struct memory *mem)
{
	for (unsigned int i = 0; i < mem->nblocks; i++)
		munmap(mem->blocks[i].host - PAGE, mem->blocks[i].size_bytes + 2 * PAGE);
}

struct pair {
	struct memory src, dst;
	struct ram_dirty_block dirty[2];
	struct channel *ch;
	struct stream_out *out;
	struct stream_in *in;
	struct ram_save save;
	struct ram_load load;
};

/* cache_pages 0: no cache. */
static void pair_build(struct pair *p, uint64_t ram_pages, uint64_t boot_pages,
		       uint64_t cache_pages)
{
	struct error *err = NULL;

	memory_build(&p->src, ram_pages, boot_pages);
	memory_build(&p->dst, ram_pages, boot_pages);
	p->dirty[0] = (struct ram_dirty_block){ .block = &p->src.blocks[0] };
	p->dirty[1] =
		(struct ram_dirty_block){ .block = &p->src.blocks[1], .first_page = ram_pages };
	p->ch = channel_memory();
	p->out = stream_out_new(p->ch);
	p->in = stream_in_new(p->ch);
	p->save = (struct ram_save){ .out = p->out, .pass = 1 };
	if (cache_pages)
		p->save.cache = page_cache_new(cache_pages * PAGE, &err);
	expect_ok(ram_load_init(&p->load, &p->dst, &err), err);
}

static void pair_end(struct pair *p)
{
	ram_load_release(&p->load);
	page_cache_free(p->save.cache);
	stream_in_free(p->in);
	stream_out_free(p->out);
	channel_free(p->ch);
	memory_end(&p->src);
	memory_end(&p->dst);
}

/* Everything put so far, so many parts, is loaded, and nothing is left. */
static void carry_over(struct pair *p, unsigned int parts)
{
	struct error *err = NULL;
	size_t left;

	cr_assert(stream_flush(p->out));
	for (; parts > 0; parts--)
		ram_load_section(&p->load, p->in);
	expect_ok(stream_in_take_error(p->in, &err), err);
	channel_memory_data(p->ch, &left);
	cr_assert_eq(left + stream_in_buffered(p->in), 0, "the loader has not taken all");
}

static void carry_block_list(struct pair *p)
{
	ram_save_setup(&p->save, &p->src);
	carry_over(p, 1);
}

static void expect_same_memory(const struct pair *p, const char *what)
{
	for (unsigned int i = 0; i < 2; i++)
		cr_assert_eq(memcmp(p->src.blocks[i].host, p->dst.blocks[i].host,
				    p->src.blocks[i].size_bytes),
			     0, "%s: block %u differs", what, i);
}

/* --- round trips --- */

#define RAM_PAGES 90u
#define BOOT_PAGES 60u
#define PAGES (RAM_PAGES + BOOT_PAGES)

static uint8_t *page_of(struct memory *mem, uint64_t page)
{
	return page < RAM_PAGES ? mem->blocks[0].host + page * PAGE
				: mem->blocks[1].host + (page - RAM_PAGES) * PAGE;
}

/* The guest writes, as guests do: a little, much, zeroes, or the same again. */
static void guest_writes(struct prng *rng, uint8_t *page)
{
	uint64_t n;

	switch (prng_below(rng, 8)) {
	case 0:
		prng_fill(rng, page, PAGE);
		break;
	case 1:
		memset(page, 0, PAGE);
		break;
	case 2:
		memset(page, (int)prng_next(rng), PAGE);
		break;
	case 3:
		break;
	default:
		for (n = 1 + prng_below(rng, 8); n > 0; n--)
			page[prng_below(rng, PAGE)] = (uint8_t)prng_next(rng);
	}
}

struct trial {
	struct pair p;
	struct prng rng;
	unsigned int number;
	unsigned int calm; /* pages to one that the guest writes */
	bool dirty[PAGES], next[PAGES];
	unsigned int parts; /* saved and not yet loaded */
};

/* What was sent whole, as a delta, or not at all: the cache must hold what the destination has. */
static void expect_cache_invariant(struct trial *t)
{
	unsigned int cached = 0;

	for (uint64_t page = 0; page < PAGES; page++) {
		struct cache_slot *slot = page_cache_lookup(t->p.save.cache, page, t->p.save.pass);

		cached += slot != NULL;
		if (slot)
			cr_assert_eq(memcmp(page_cache_data(t->p.save.cache, slot),
					    page_of(&t->p.dst, page), PAGE),
				     0, "seed %#x trial %u: page %" PRIu64, SEED, t->number, page);
	}
	cr_assert(cached > 0 || t->p.save.pass == 1, "seed %#x trial %u: no page is cached", SEED,
		  t->number);
}

/* The destination has caught up: only what is dirty may differ. */
static void catch_up(struct trial *t)
{
	carry_over(&t->p, t->parts);
	t->parts = 0;
	for (uint64_t page = 0; page < PAGES; page++) {
		bool same = !memcmp(page_of(&t->p.src, page), page_of(&t->p.dst, page), PAGE);

		cr_assert(same || t->dirty[page], "seed %#x trial %u pass %u: page %" PRIu64, SEED,
			  t->number, t->p.save.pass, page);
	}
}

/* One pass, in which the guest goes on writing to pages that are still to be sent and to others. */
static void run_pass(struct trial *t, bool guest_runs)
{
	uint64_t first = prng_below(&t->rng, PAGES);

	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t page = (first + i) % PAGES, victim = prng_below(&t->rng, PAGES);

		if (t->dirty[page])
			ram_save_page(&t->p.save, &t->p.dirty[page >= RAM_PAGES],
				      page < RAM_PAGES ? page : page - RAM_PAGES);
		t->dirty[page] = false;
		if (guest_runs && prng_below(&t->rng, t->calm) == 0) {
			guest_writes(&t->rng, page_of(&t->p.src, victim));
			t->next[victim] = true;
		}
	}
	ram_save_eos(&t->p.save);
	t->parts++;
	memcpy(t->dirty, t->next, sizeof(t->dirty));
	memset(t->next, 0, sizeof(t->next));
	/* A destination that is slow, or a source that does not flush, changes nothing. */
	if (!guest_runs || prng_below(&t->rng, t->calm) == 0)
		catch_up(t);
	t->p.save.pass++;
}

static void run_trial(struct trial *t, uint64_t cache_pages, struct ram_counters *sum)
{
	unsigned int passes = 1 + (unsigned int)prng_below(&t->rng, 12);
	struct ram_save *save = &t->p.save;

	pair_build(&t->p, RAM_PAGES, BOOT_PAGES, cache_pages);
	carry_block_list(&t->p);
	for (uint64_t page = 0; page < PAGES; page++) {
		guest_writes(&t->rng, page_of(&t->p.src, page));
		t->dirty[page] = true;
	}
	save->fill_cache = prng_below(&t->rng, 2);
	for (unsigned int i = 0; i <= passes; i++) {
		run_pass(t, i < passes);
		if (i == 0)
			cr_assert_eq(save->counters.xbzrle_pages, 0, "a delta in the first pass");
		save->fill_cache = false;
		/* Where the link is fast for a while, it is switched off for a pass. */
		save->use_xbzrle = i == 0 || prng_below(&t->rng, 8) > 0;
	}
	expect_same_memory(&t->p, "after the last pass");
	if (save->cache)
		expect_cache_invariant(t);
	sum->xbzrle_pages += save->counters.xbzrle_pages;
	sum->xbzrle_unchanged += save->counters.xbzrle_unchanged;
	sum->xbzrle_overflows += save->counters.xbzrle_overflows;
	sum->zero_pages += save->counters.zero_pages;
	pair_end(&t->p);
}

Test(ram, what_is_loaded_is_what_was_saved)
{
	static const uint64_t cache_pages[] = { 0, 1, 4, 16, 64, 256 };
	struct ram_counters sum = { 0 };
	static struct trial t;

	for (unsigned int i = 0; i < 120; i++) {
		t = (struct trial){ .rng = { SEED + i }, .number = i, .calm = i / 6 % 2 ? 30 : 3 };
		run_trial(&t, cache_pages[i % 6], &sum);
	}
	cr_assert(sum.xbzrle_pages > 500 && sum.xbzrle_unchanged > 50 &&
			  sum.xbzrle_overflows > 50 && sum.zero_pages > 500,
		  "the guests' writes are of the wrong sort");
}

/* Offsets need more than 32 bits. */
Test(ram, a_page_beyond_4_gib)
{
	const uint64_t page = UINT64_C(0x140000000) / PAGE;
	struct pair p;

	pair_build(&p, page + 1, 1, 4);
	carry_block_list(&p);
	p.src.blocks[0].host[page * PAGE] = 0x77;
	p.save.use_xbzrle = true;
	for (unsigned int i = 1; i < 3; i++) {
		ram_save_page(&p.save, &p.dirty[0], page);
		ram_save_eos(&p.save);
		carry_over(&p, 1);
		cr_assert_eq(p.dst.blocks[0].host[page * PAGE], 0x77);
		cr_assert_eq(p.dst.blocks[0].host[page * PAGE + 1], i - 1, "the delta, if any");
		p.src.blocks[0].host[page * PAGE + 1] = 1;
	}
	cr_assert_eq(p.save.counters.xbzrle_pages, 1);
	cr_assert_eq(p.dst.blocks[0].host[0], 0);
	pair_end(&p);
}

/* --- streams that must be refused --- */

#define LIST                                                                                   \
	"00 00 00 00 00 00 40 04 03 72 61 6d 00 00 00 00 00 00 30 00 04 62 6f 6f 74 00 00 00 " \
	"00 00 00 10 00 "
#define RAM_ID "03 72 61 6d "
#define ZERO_0 "00 00 00 00 00 00 00 02 " RAM_ID "00 " /* page 0 has come, as zeroes */
#define EOS "00 00 00 00 00 00 00 10"

static const struct {
	const char *hex, *error;
} refused[] = {
	/* the block list */
	{ "00 00 00 00 00 00 40 04 03 72 61 6e 00 00 00 00 00 00 30 00", "block 'ran' is not" },
	{ "00 00 00 00 00 00 40 04 00 00 00 00 00 00 00 30 00", "block '' is not" },
	{ "00 00 00 00 00 00 40 04 80", "name of 128 bytes" },
	{ "00 00 00 00 00 00 40 04 04 72 61 6d 00 00 00 00 00 00 00 30 00", "NUL inside" },
	{ "00 00 00 00 00 00 40 04 03 72 61 6d 00 00 00 00 00 00 40 00", "16384 bytes in" },
	{ "00 00 00 00 00 00 40 04 03 72 61 6d 00 00 00 00 00 00 20 00", "8192 bytes in" },
	{ "00 00 00 00 00 00 30 04 03 72 61 6d 00 00 00 00 00 00 30 00 " EOS, "lacks a block" },
	{ "00 00 00 00 00 00 00 04 " EOS, "lacks a block" },
	{ "00 00 00 00 00 00 60 04 03 72 61 6d 00 00 00 00 00 00 30 00 03 72 61 6d 00 00 00 00 00 "
	  "00 30 00",
	  "'ram' is listed twice" },
	{ "00 00 00 00 00 00 20 04 03 72 61 6d 00 00 00 00 00 00 30 00", "exceed the total" },
	{ LIST LIST, "a second block list" },
	/* places */
	{ "00 00 00 00 00 00 00 08 " RAM_ID, "a page before the block list" },
	{ "00 00 00 00 00 00 00 02 " RAM_ID "00", "a page before the block list" },
	{ LIST "00 00 00 00 00 00 00 28 ", "none came before" },
	{ LIST "00 00 00 00 00 00 00 22 00", "none came before" },
	{ LIST "00 00 00 00 00 00 00 08 03 72 61 6e ", "block 'ran' is not" },
	{ LIST "00 00 00 00 00 00 30 08 " RAM_ID, "offset 0x3000 lies beyond block 'ram'" },
	{ LIST "00 00 00 00 00 00 10 02 04 62 6f 6f 74 00",
	  "offset 0x1000 lies beyond block 'boot'" },
	{ LIST ZERO_0 "00 00 00 00 00 00 30 22 00", "offset 0x3000 lies beyond" },
	{ LIST "ff ff ff ff ff ff f0 08 " RAM_ID, "offset 0xfffffffffffff000 lies beyond" },
	{ LIST "00 00 01 00 00 00 00 08 " RAM_ID, "offset 0x10000000000 lies beyond" },
	/* contents */
	{ LIST "00 00 00 00 00 00 00 02 " RAM_ID "01", "fill byte 0x01" },
	{ LIST ZERO_0 "00 00 00 00 00 00 00 22 ff", "fill byte 0xff" },
	{ LIST "00 00 00 00 00 00 00 40 " RAM_ID "01 00 03 00 01 aa", "never came" },
	{ LIST ZERO_0 "00 00 00 00 00 00 10 60 01 00 03 00 01 aa", "never came" },
	{ LIST ZERO_0 "00 00 00 00 00 00 00 60 02 00 03 00 01 aa", "encoding 2" },
	{ LIST ZERO_0 "00 00 00 00 00 00 00 60 01 10 01 00 01 aa", "a delta of 4097 bytes" },
	{ LIST ZERO_0 "00 00 00 00 00 00 00 60 01 ff ff 00 01 aa", "a delta of 65535 bytes" },
	{ LIST ZERO_0 "00 00 00 00 00 00 00 60 01 00 02 00 00", "malformed or exceeds" },
	{ LIST ZERO_0 "00 00 00 00 00 00 00 60 01 00 05 ff 1f 02 aa bb", "malformed or exceeds" },
	/* flags */
	{ LIST "00 00 00 00 00 00 00 00", "flags that are not understood" },
	{ LIST ZERO_0 "00 00 00 00 00 00 00 20", "flags that are not understood" },
	{ LIST "00 00 00 00 00 00 00 01 " RAM_ID, "flags that are not understood" },
	{ LIST "00 00 00 00 00 00 00 0a " RAM_ID, "flags that are not understood" },
	{ LIST "00 00 00 00 00 00 00 48 " RAM_ID, "flags that are not understood" },
	{ LIST "00 00 00 00 00 00 00 80 " RAM_ID, "flags that are not understood" },
	{ LIST "00 00 00 00 00 00 01 00 " RAM_ID, "flags that are not understood" },
	{ LIST "00 00 00 00 00 00 02 00", "flags that are not understood" },
	{ LIST "00 00 00 00 00 00 08 08 " RAM_ID, "flags that are not understood" },
};

/* Load bytes into fresh memory; the caller asks the stream how it went, and ends the pair. */
static bool load_bytes(struct pair *p, const uint8_t *data, size_t len, struct error **errp)
{
	struct iovec iov = { (void *)data, len };

	cr_assert(!len || channel_writev(p->ch, &iov, 1, NULL));
	ram_load_section(&p->load, p->in);
	return stream_in_take_error(p->in, errp);
}

Test(ram, what_is_not_allowed_is_refused_in_words)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct error *err = NULL;
		uint8_t bytes[256];
		struct pair p;
		uint64_t pages;

		pair_build(&p, 3, 1, 0);
		cr_assert_not(
			load_bytes(&p, bytes, bytes_of(refused[i].hex, bytes, sizeof(bytes)), &err),
			"'%s' was loaded", refused[i].hex);
		expect_error(err, refused[i].error);
		pages = strstr(refused[i].hex, ZERO_0) != NULL;
		cr_assert_eq(p.load.pages, pages, "'%s': %" PRIu64 " records were applied",
			     refused[i].error, p.load.pages);
		expect_same_memory(&p, refused[i].error); /* both are zeroes */
		pair_end(&p);
	}
}

/* Each part stands for itself: what an earlier part has named is forgotten. */
Test(ram, a_part_cannot_continue_the_one_before)
{
	uint8_t bytes[128];
	size_t len = bytes_of(LIST ZERO_0 EOS "00 00 00 00 00 00 00 22 00", bytes, sizeof(bytes));
	struct error *err = NULL;
	struct pair p;

	pair_build(&p, 3, 1, 0);
	expect_ok(load_bytes(&p, bytes, len, &err), err);
	ram_load_section(&p.load, p.in);
	cr_assert_not(stream_in_take_error(p.in, &err));
	expect_error(err, "none came before");
	pair_end(&p);
}

/* A short stream with every kind of record: 3 whole pages, 3 deltas, a zero page. */
static size_t example_stream(uint8_t *data, size_t room)
{
	struct pair p;
	const uint8_t *have;
	size_t len;

	pair_build(&p, 3, 1, 8);
	ram_save_setup(&p.save, &p.src);
	p.save.fill_cache = true;
	for (unsigned int pass = 0; pass < 2; pass++) {
		for (uint64_t page = 0; page < 3; page++) {
			p.src.blocks[0].host[page * PAGE + pass] = (uint8_t)(page + 1);
			ram_save_page(&p.save, &p.dirty[0], page);
		}
		p.save.pass++;
		p.save.use_xbzrle = true;
	}
	ram_save_page(&p.save, &p.dirty[1], 0);
	ram_save_eos(&p.save);
	stream_flush(p.out);
	have = channel_memory_data(p.ch, &len);
	cr_assert(len < room && p.save.counters.xbzrle_pages == 3);
	memcpy(data, have, len);
	pair_end(&p);
	return len;
}

/* The list and the parts are one section's worth here: the first EOS is that of the list. */
static bool load_example(const uint8_t *data, size_t len, struct error **errp)
{
	struct pair p;
	bool ok;

	pair_build(&p, 3, 1, 0);
	ok = load_bytes(&p, data, len, errp);
	if (ok) {
		ram_load_section(&p.load, p.in);
		ok = stream_in_take_error(p.in, errp);
	}
	pair_end(&p);
	return ok;
}

Test(ram, a_stream_cut_at_any_byte_is_refused)
{
	uint8_t data[4 * PAGE];
	size_t len = example_stream(data, sizeof(data));
	struct error *err = NULL;

	expect_ok(load_example(data, len, &err), err);
	for (size_t cut = 0; cut < len; cut++) {
		cr_assert_not(load_example(data, cut, &err), "cut at %zu of %zu", cut, len);
		expect_error(err, "ends in the middle of a record");
	}
}

Test(ram, flipped_bits_are_refused_or_taken_but_no_danger)
{
	uint8_t data[4 * PAGE];
	size_t len = example_stream(data, sizeof(data));
	struct prng rng = { SEED + 1 };
	unsigned int seen = 0;

	for (unsigned int i = 0; i < 4000; i++) {
		uint8_t copy[4 * PAGE];
		struct error *err = NULL;

		memcpy(copy, data, len);
		for (uint64_t n = 1 + prng_below(&rng, 3); n > 0; n--) {
			/* Mostly where records begin: the bodies are only memory. */
			size_t at = prng_below(&rng, prng_below(&rng, 2) ? 60 : len);

			copy[at] ^= (uint8_t)(1u << prng_below(&rng, 8));
		}
		cr_assert_eq(load_example(copy, len, &err), !err, "seed %#x iteration %u", SEED + 1,
			     i);
		seen += err != NULL;
		error_free(err);
	}
	cr_assert(seen > 1000 && seen < 3999, "%u of 4000 were refused", seen);
}
