/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: guest addresses lead to the host memory of one block or to NULL, and what the VMM writes is
 * noted while a migration tracks, page by page and no further.
 *
 * How: a small machine with a low and a high block, a gap between them and a hidden block; edges by
 * hand; random writes against an array of bools. Needs /dev/kvm, as blocks have slots.
 */
#include "tests/unit/kvm_support.h"
#include "vmm/base/bitmap.h"
#include "vmm/kvm/memory.h"

SUITE(memory);

#define SEED 0x5eed0021
#define LOW_PAGES 70u
#define LOW_SIZE (LOW_PAGES * GUEST_PAGE_SIZE)
#define HIGH_SIZE (16 * GUEST_PAGE_SIZE)
#define WORDS 2

struct machine {
	struct kvm kvm;
	struct memory mem;
	struct ram_block *low, *high, *hidden;
};

static void machine_build(struct machine *m)
{
	struct error *err = NULL;

	memory_init(&m->mem, &m->kvm);
	/* First, so that an address is looked for in it first: it has none. */
	m->hidden = memory_add_hidden(&m->mem, "boot.kernel", 5000, &err);
	expect_ok(m->hidden, err);
	m->low = memory_add_ram(&m->mem, "ram.low", 0, LOW_SIZE, &err);
	expect_ok(m->low, err);
	m->high = memory_add_ram(&m->mem, "ram.high", MEMORY_HOLE_END, HIGH_SIZE, &err);
	expect_ok(m->high, err);
}

static void machine_end(struct machine *m)
{
	memory_release(&m->mem);
	kvm_close(&m->kvm);
}

#define MACHINE(m)                \
	struct machine m = { 0 }; \
	KVM_OR_SKIP(&m.kvm);      \
	machine_build(&m)

Test(memory, blocks_are_what_was_asked_for)
{
	MACHINE(m);
	cr_assert(m.low->gpa == 0 && m.low->size_bytes == LOW_SIZE);
	cr_assert(m.high->gpa == MEMORY_HOLE_END && ram_block_pages(m.high) == 16);
	cr_assert(m.low->slot != RAM_BLOCK_NO_SLOT && m.high->slot != RAM_BLOCK_NO_SLOT);
	cr_assert_neq(m.low->slot, m.high->slot);
	cr_assert_eq(m.hidden->slot, RAM_BLOCK_NO_SLOT);
	cr_assert(m.hidden->used_bytes == 5000 && m.hidden->size_bytes == 8192);
	cr_assert_eq((uintptr_t)m.low->host % GUEST_PAGE_SIZE, 0);
	cr_assert_eq(memory_find_block(&m.mem, "ram.high"), m.high);
	cr_assert_eq(memory_find_block(&m.mem, "boot.kernel"), m.hidden);
	cr_assert_null(memory_find_block(&m.mem, "ram"));
	for (uint64_t i = 0; i < m.hidden->size_bytes; i++)
		cr_assert_eq(m.hidden->host[i], 0);
	m.hidden->host[8191] = 1;
	machine_end(&m);
}

Test(memory, an_address_leads_into_one_block_or_nowhere)
{
	MACHINE(m);
	cr_assert_eq(memory_host(&m.mem, 0, 1), m.low->host);
	cr_assert_eq(memory_host(&m.mem, 0, LOW_SIZE), m.low->host);
	cr_assert_eq(memory_host(&m.mem, LOW_SIZE - 1, 1), m.low->host + LOW_SIZE - 1);
	cr_assert_null(memory_host(&m.mem, LOW_SIZE - 1, 2));
	cr_assert_null(memory_host(&m.mem, 0, LOW_SIZE + 1));
	cr_assert_null(memory_host(&m.mem, LOW_SIZE, 1));
	cr_assert_null(memory_host(&m.mem, MEMORY_HOLE_START, 1));
	cr_assert_null(memory_host(&m.mem, MEMORY_HOLE_END - 1, 1));
	cr_assert_null(memory_host(&m.mem, MEMORY_HOLE_END - 1, 2));
	cr_assert_eq(memory_host(&m.mem, MEMORY_HOLE_END, HIGH_SIZE), m.high->host);
	cr_assert_eq(memory_host(&m.mem, MEMORY_HOLE_END + 4096, 4), m.high->host + 4096);
	cr_assert_null(memory_host(&m.mem, MEMORY_HOLE_END + HIGH_SIZE - 4, 5));
	cr_assert_null(memory_host(&m.mem, 0, UINT64_MAX));
	cr_assert_null(memory_host(&m.mem, UINT64_MAX, 2)); /* its end would wrap */
	cr_assert_null(memory_host(&m.mem, 4096, UINT64_MAX - 4095));
	machine_end(&m);
}

/* Two blocks that touch are still two: their host memory does not. */
Test(memory, a_range_across_two_neighbours_is_refused)
{
	struct error *err = NULL;
	struct ram_block *next;

	MACHINE(m);
	next = memory_add_ram(&m.mem, "next", LOW_SIZE, 4096, &err);
	expect_ok(next, err);
	cr_assert_eq(memory_host(&m.mem, LOW_SIZE, 1), next->host);
	cr_assert_null(memory_host(&m.mem, LOW_SIZE - 1, 2));
	cr_assert_not(memory_write(&m.mem, LOW_SIZE - 1, "ab", 2, &err));
	expect_error(err, "no RAM there");
	machine_end(&m);
}

Test(memory, what_kvm_or_the_host_refuses_leaves_nothing_behind)
{
	struct error *err = NULL;
	unsigned int n;

	MACHINE(m);
	n = m.mem.nblocks;
	cr_assert_null(memory_add_ram(&m.mem, "overlap", LOW_SIZE - 4096, 8192, &err));
	cr_assert_not_null(strstr(error_msg(err), "overlap"));
	expect_error(err, "KVM_SET_USER_MEMORY_REGION");
	cr_assert_null(memory_add_hidden(&m.mem, "empty", 0, &err));
	expect_error(err, "'empty'");
	cr_assert_null(memory_add_hidden(&m.mem, "huge", UINT64_MAX, &err));
	expect_error(err, "'huge'");
	cr_assert_null(memory_add_hidden(&m.mem, "large", UINT64_C(1) << 60, &err));
	expect_error(err, "'large'");
	cr_assert_eq(m.mem.nblocks, n);
	cr_assert_null(memory_find_block(&m.mem, "overlap"));
	cr_assert_not_null(memory_add_hidden(&m.mem, "overlap", 1, NULL), "the name is free");
	for (n = m.mem.nblocks; n < MEMORY_MAX_BLOCKS; n++) {
		char name[20];

		snprintf(name, sizeof(name), "more-%u", n);
		cr_assert_not_null(memory_add_hidden(&m.mem, name, 1, NULL));
	}
	cr_assert_null(memory_add_hidden(&m.mem, "one-too-many", 1, &err));
	expect_error(err, "'one-too-many'");
	machine_end(&m);
}

/* --- writes by the VMM --- */

static void take_low(struct machine *m, uint64_t words[WORDS])
{
	memset(words, 0, WORDS * sizeof(*words));
	memory_take_written(&m->mem, m->low, words);
}

Test(memory, writes_are_noted_while_somebody_tracks)
{
	struct error *err = NULL;
	uint64_t words[WORDS];

	MACHINE(m);
	expect_ok(memory_write(&m.mem, 0x1ffe, "abcd", 4, &err), err); /* nobody tracks yet */
	cr_assert_eq(memcmp(m.low->host + 0x1ffe, "abcd", 4), 0);
	take_low(&m, words);
	cr_assert(!words[0] && !words[1]);
	expect_ok(memory_track_writes(&m.mem, &err), err);
	take_low(&m, words);
	cr_assert(!words[0] && !words[1], "what was written before is not noted");
	expect_ok(memory_write(&m.mem, 0x1ffe, "abcd", 4, &err), err);
	memory_mark_dirty(&m.mem, 64 * 4096, 1);
	memory_mark_dirty(&m.mem, 5 * 4096, 4096); /* just one page */
	memory_mark_dirty(&m.mem, 7 * 4096, 0);	   /* nothing */
	words[0] = 1;
	words[1] = 0;
	memory_take_written(&m.mem, m.low, words);
	cr_assert_eq(words[0], 0x1 | 0x6 | 0x20, "%" PRIx64,
		     words[0]); /* or'ed to what was there */
	cr_assert_eq(words[1], 1);
	take_low(&m, words);
	cr_assert(!words[0] && !words[1], "taken is taken");
	cr_assert_not(memory_write(&m.mem, LOW_SIZE - 2, "abcd", 4, &err));
	expect_error(err, "no RAM there");
	cr_assert_eq(m.low->host[LOW_SIZE - 2], 0, "nothing is written halfway");
	expect_ok(memory_write(&m.mem, MEMORY_HOLE_END + 0x3000, "x", 1, &err), err);
	take_low(&m, words);
	cr_assert(!words[0] && !words[1], "each block has its own");
	memory_take_written(&m.mem, m.high, words);
	cr_assert_eq(words[0], 8);
	memory_untrack_writes(&m.mem);
	memory_mark_dirty(&m.mem, 0, 1);
	memory_take_written(&m.mem, m.low, words);
	cr_assert_eq(words[0], 8);
	memory_untrack_writes(&m.mem); /* twice is allowed */
	expect_ok(memory_track_writes(&m.mem, &err), err);
	take_low(&m, words);
	cr_assert_eq(words[0], 0, "a second migration starts afresh");
	machine_end(&m); /* while tracking */
}

Test(memory, random_writes_match_the_shadow)
{
	struct prng rng = { SEED };
	bool shadow[LOW_PAGES] = { false };
	uint8_t data[3 * 4096];
	struct error *err = NULL;

	MACHINE(m);
	expect_ok(memory_track_writes(&m.mem, &err), err);
	for (unsigned int i = 0; i < 2000; i++) {
		uint64_t len = prng_below(&rng, sizeof(data) + 1);
		uint64_t gpa = prng_below(&rng, LOW_SIZE + 1 - len), words[WORDS];

		data[0] = (uint8_t)i;
		expect_ok(memory_write(&m.mem, gpa, data, len, &err), err);
		for (uint64_t page = gpa / 4096; len && page <= (gpa + len - 1) / 4096; page++)
			shadow[page] = true;
		if (prng_below(&rng, 4))
			continue;
		take_low(&m, words);
		for (unsigned int page = 0; page < WORDS * 64; page++)
			cr_assert_eq(words[page / 64] >> (page % 64) & 1,
				     page < LOW_PAGES && shadow[page], "seed %#x step %u page %u",
				     SEED, i, page);
		memset(shadow, 0, sizeof(shadow));
	}
	machine_end(&m);
}
