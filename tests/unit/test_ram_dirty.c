/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a migration that takes pages until none is left has taken every page after its last write,
 * whoever wrote it and whenever; it begins with all of them, and a second one does so again.
 *
 * How: for each way of dirty tracking that this KVM has, a machine whose one vCPU stores, in real
 * mode, to the page it is told to. What was written since it was taken is kept in a model.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "migration/ram/dirty.h"
#include "tests/unit/kvm_support.h"

#define SEED 0x5eed0108
#define LOW 100u /* pages; not a multiple of 64 */
#define HIDDEN 3u
#define HIGH 128u
#define ALL (LOW + HIDDEN + HIGH)
#define HIGH_GPA UINT64_C(0x100000)
#define CODE 0x90000u /* in a slot of its own */

struct machine {
	struct kvm kvm;
	struct memory mem;
	struct ram_block *low, *hidden, *high;
	void *code;
	int vcpu;
	struct kvm_run *run;
	const struct dirty_log_ops *ops;
	struct ram_dirty dirty;
};

static void machine_build(struct machine *m)
{
	static const uint8_t code[] = { 0xc6, 0x07, 0x01, 0xf4 }; /* mov byte ptr [bx], 1; hlt */
	struct error *err = NULL;

	memory_init(&m->mem, &m->kvm);
	m->low = memory_add_ram(&m->mem, "low", 0, LOW * GUEST_PAGE_SIZE, &err);
	expect_ok(m->low, err);
	m->hidden = memory_add_hidden(&m->mem, "hidden", HIDDEN * GUEST_PAGE_SIZE, &err);
	expect_ok(m->hidden, err);
	m->high = memory_add_ram(&m->mem, "high", HIGH_GPA, HIGH * GUEST_PAGE_SIZE, &err);
	expect_ok(m->high, err);
	m->code = code_page_add(&m->kvm, CODE, code, sizeof(code));
	m->vcpu = ioctl(m->kvm.vm_fd, KVM_CREATE_VCPU, 0);
	cr_assert_geq(m->vcpu, 0);
	m->run = mmap(NULL, m->kvm.vcpu_mmap_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	cr_assert_neq(m->run, MAP_FAILED);
}

static void machine_end(struct machine *m)
{
	ram_dirty_stop(&m->dirty);
	munmap(m->run, m->kvm.vcpu_mmap_bytes);
	close(m->vcpu);
	memory_release(&m->mem);
	kvm_close(&m->kvm);
	munmap(m->code, GUEST_PAGE_SIZE);
}

static void guest_writes(struct machine *m, struct ram_block *block, uint64_t page)
{
	struct kvm_regs regs = { .rflags = 2 };
	uint64_t gpa = block->gpa + page * GUEST_PAGE_SIZE;
	struct kvm_sregs sregs;

	cr_assert_eq(ioctl(m->vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = CODE;
	sregs.cs.selector = CODE >> 4;
	sregs.ds.base = gpa;
	sregs.ds.selector = (uint16_t)(gpa >> 4);
	cr_assert_eq(ioctl(m->vcpu, KVM_SET_SREGS, &sregs), 0);
	cr_assert_eq(ioctl(m->vcpu, KVM_SET_REGS, &regs), 0);
	cr_assert_eq(ioctl(m->vcpu, KVM_RUN, 0), 0);
	cr_assert_eq(m->run->exit_reason, KVM_EXIT_HLT, "exit %u", m->run->exit_reason);
}

static void vmm_writes(struct machine *m, struct ram_block *block, uint64_t page)
{
	cr_assert(memory_write(&m->mem, block->gpa + page * GUEST_PAGE_SIZE + 8, "x", 1, NULL));
}

static void start(struct machine *m)
{
	struct error *err = NULL;

	expect_ok(ram_dirty_start(&m->dirty, &m->mem, m->ops, &err), err);
}

static uint64_t sync_log(struct machine *m)
{
	struct error *err = NULL;
	uint64_t fresh;

	expect_ok(ram_dirty_sync(&m->dirty, &fresh, &err), err);
	return fresh;
}

/* The next page, in a numbering of all; ALL: the pass is over. */
static uint64_t take(struct machine *m, bool guest_stopped)
{
	struct ram_dirty_block *block;
	struct error *err = NULL;
	uint64_t page;

	if (ram_dirty_take(&m->dirty, guest_stopped, &block, &page, &err)) {
		cr_assert_lt(page, ram_block_pages(block->block));
		return block->first_page + page;
	}
	expect_ok(true, err);
	return ALL;
}

/* Nothing but these pages is left, in this order; the last is ALL. */
static void expect_taken(struct machine *m, const uint64_t *pages)
{
	for (size_t i = 0;; i++) {
		uint64_t have = take(m, false);

		cr_assert_eq(have, pages[i], "%s: page %" PRIu64 ", expected %" PRIu64,
			     m->ops->name, have, pages[i]);
		if (have == ALL)
			break;
	}
	cr_assert_eq(ram_dirty_remaining(&m->dirty), 0);
}

static void take_all(struct machine *m)
{
	uint64_t pages[ALL + 1];

	for (uint64_t i = 0; i <= ALL; i++)
		pages[i] = i;
	cr_assert_eq(ram_dirty_remaining(&m->dirty), ALL);
	expect_taken(m, pages);
}

/* Once for each row that there is. */
static void with_each_row(void (*test)(struct machine *m))
{
	static const char *const names[] = { "manual-protect", "plain" };

	for (unsigned int i = 0; i < 2; i++) {
		struct machine m = { 0 };
		struct error *err = NULL;

		KVM_OR_SKIP(&m.kvm);
		m.ops = dirty_log_select(&m.kvm, names[i], &err);
		if (!m.ops && i == 0) {
			cr_log_warn("row left out: %s", error_msg(err));
			error_free(err);
			kvm_close(&m.kvm);
			continue;
		}
		expect_ok(m.ops, err);
		machine_build(&m);
		test(&m);
		machine_end(&m);
	}
}

static void dirty_first_pass(struct machine *m)
{
	start(m);
	cr_assert_eq(m->dirty.nblocks, 3);
	cr_assert(m->dirty.blocks[0].block == m->low && m->dirty.blocks[0].first_page == 0);
	cr_assert(m->dirty.blocks[1].block == m->hidden && m->dirty.blocks[1].first_page == LOW);
	cr_assert_eq(m->dirty.blocks[2].first_page, LOW + HIDDEN);
	take_all(m);
	cr_assert_eq(take(m, false), ALL, "over is over");
	cr_assert_eq(sync_log(m), 0, "nothing was written");
	expect_taken(m, (uint64_t[]){ ALL });
}

Test(ram_dirty, the_first_pass_has_every_page_once)
{
	with_each_row(dirty_first_pass);
}

static void dirty_found(struct machine *m)
{
	start(m);
	take_all(m);
	guest_writes(m, m->high, 0);
	guest_writes(m, m->low, 99);
	guest_writes(m, m->low, 5);
	vmm_writes(m, m->low, 6);
	vmm_writes(m, m->low, 5);
	vmm_writes(m, m->high, 127);
	m->hidden->host[0]++; /* nobody writes there: nobody looks */
	cr_assert_eq(ram_dirty_remaining(&m->dirty), 0, "not before the sync");
	cr_assert_eq(sync_log(m), 5);
	cr_assert_eq(ram_dirty_remaining(&m->dirty), 5);
	expect_taken(m, (uint64_t[]){ 5, 6, 99, LOW + HIDDEN, ALL - 1, ALL });
	guest_writes(m, m->low, 5);
	cr_assert_eq(sync_log(m), 1, "and again");
	cr_assert_eq(sync_log(m), 0, "known already");
	expect_taken(m, (uint64_t[]){ 5, ALL });
}

Test(ram_dirty, what_the_guest_and_the_vmm_write_is_found_again)
{
	with_each_row(dirty_found);
}

/* A page that is written right after it was taken, in the same pass. */
static void dirty_meanwhile(struct machine *m)
{
	start(m);
	for (uint64_t i = 0; i < 50; i++)
		cr_assert_eq(take(m, false), i);
	guest_writes(m, m->low, 49);
	vmm_writes(m, m->low, 48);
	for (uint64_t i = 50; i < ALL; i++)
		cr_assert_eq(take(m, false), i, "this pass goes on where it was");
	cr_assert_eq(sync_log(m), 2);
	cr_assert_eq(take(m, false), 48);
	/* A sync in the middle of a pass: the next page is the first again. */
	guest_writes(m, m->low, 7);
	cr_assert_eq(sync_log(m), 1);
	expect_taken(m, (uint64_t[]){ 7, 49, ALL });
}

Test(ram_dirty, what_is_written_during_a_pass_is_the_next_ones)
{
	with_each_row(dirty_meanwhile);
}

static void dirty_again(struct machine *m)
{
	start(m);
	for (unsigned int i = 0; i < 30; i++)
		take(m, false);
	guest_writes(m, m->low, 3);
	sync_log(m); /* the log has given its bit away, and the migration fails */
	ram_dirty_stop(&m->dirty);
	cr_assert_null(m->low->written, "nothing is tracked any more");
	cr_assert_eq(m->dirty.nblocks, 0);
	ram_dirty_stop(&m->dirty); /* no harm */
	guest_writes(m, m->low, 4);
	start(m);
	take_all(m);
	guest_writes(m, m->low, 9);
	sync_log(m);
	expect_taken(m, (uint64_t[]){ 9, ALL });
}

Test(ram_dirty, a_second_migration_begins_with_all)
{
	with_each_row(dirty_again);
}

/* Guest and VMM write at any moment between any two steps. */
static void dirty_random(struct machine *m)
{
	bool written[ALL] = { false }; /* since the page was taken */
	struct prng rng = { SEED };
	uint64_t page;

	start(m);
	memset(written, true, sizeof(written));
	for (unsigned int i = 0; i < 1500; i++) {
		struct ram_block *block = prng_below(&rng, 2) ? m->low : m->high;
		uint64_t n = prng_below(&rng, ram_block_pages(block)), before;

		switch (prng_below(&rng, 8)) {
		case 0:
			guest_writes(m, block, n);
			written[n + (block == m->high ? LOW + HIDDEN : 0)] = true;
			break;
		case 1:
			vmm_writes(m, block, n);
			written[n + (block == m->high ? LOW + HIDDEN : 0)] = true;
			break;
		default:
			page = take(m, false);
			if (page < ALL) {
				written[page] = false;
				break;
			}
			before = ram_dirty_remaining(&m->dirty);
			cr_assert_eq(sync_log(m) + before, ram_dirty_remaining(&m->dirty));
		}
	}
	sync_log(m); /* the guest is stopped */
	while ((page = take(m, true)) < ALL)
		written[page] = false;
	for (page = 0; page < ALL; page++)
		cr_assert_not(written[page], "seed %#x %s: page %" PRIu64 " is lost", SEED,
			      m->ops->name, page);
}

Test(ram_dirty, no_write_is_lost)
{
	with_each_row(dirty_random);
}

/* --- the log that is cleared by hand --- */

/* How many pages of [first, first + n) KVM's log has. */
static uint64_t in_the_log(struct ram_dirty *dirty, struct ram_block *block, uint64_t first,
			   uint64_t n)
{
	uint64_t *words = calloc(bitmap_words(ram_block_pages(block)), sizeof(*words)), sum = 0;
	struct error *err = NULL;

	expect_ok(dirty_log_read(dirty->ops, dirty->mem, block, words, &err), err);
	for (uint64_t i = first; i < first + n; i++)
		sum += words[i / 64] >> i % 64 & 1;
	free(words);
	return sum;
}

/* Chunks of 64 MiB are cleared as the first of their pages is taken; of a stopped guest, none. */
Test(ram_dirty, clearing_goes_chunk_by_chunk)
{
	const uint64_t chunk = CLEAR_CHUNK_PAGES, tail = 72;
	const struct dirty_log_ops *ops;
	struct ram_dirty dirty;
	struct ram_dirty_block *b;
	struct error *err = NULL;
	struct ram_block *block;
	uint64_t page, fresh;
	struct memory mem;
	struct kvm kvm;

	KVM_OR_SKIP(&kvm);
	ops = dirty_log_select(&kvm, NULL, &err);
	if (!ops->clears_by_hand) {
		kvm_close(&kvm);
		cr_skip_test("this KVM's log cannot be cleared by hand");
	}
	memory_init(&mem, &kvm);
	block = memory_add_ram(&mem, "ram", 0, (chunk + tail) * GUEST_PAGE_SIZE, &err);
	expect_ok(block, err);
	expect_ok(ram_dirty_start(&dirty, &mem, ops, &err), err);
	cr_assert_eq(in_the_log(&dirty, block, 0, chunk + tail), chunk + tail, "all at first");
	for (uint64_t i = 0; i < chunk; i++) {
		cr_assert(ram_dirty_take(&dirty, false, &b, &page, &err) && page == i);
		if (i == 0) {
			cr_assert_eq(in_the_log(&dirty, block, 0, chunk), 0);
			cr_assert_eq(in_the_log(&dirty, block, chunk, tail), tail, "not yet");
		}
	}
	cr_assert_eq(ram_dirty_remaining(&dirty), tail);
	cr_assert(ram_dirty_take(&dirty, false, &b, &page, &err) && page == chunk);
	cr_assert_eq(in_the_log(&dirty, block, chunk, tail), 0, "the chunk that is not whole");
	while (ram_dirty_take(&dirty, false, &b, &page, &err))
		;
	cr_assert(memory_write(&mem, 8, "x", 1, NULL));
	expect_ok(ram_dirty_sync(&dirty, &fresh, &err), err);
	cr_assert_eq(fresh, 1);
	ram_dirty_stop(&dirty);
	expect_ok(ram_dirty_start(&dirty, &mem, ops, &err), err);
	while (ram_dirty_take(&dirty, true, &b, &page, &err))
		;
	cr_assert_eq(in_the_log(&dirty, block, 0, chunk + tail), chunk + tail, "a stopped guest");
	ram_dirty_stop(&dirty);
	memory_release(&mem);
	kvm_close(&kvm);
}

/* --- failures --- */

static bool refuse(struct kvm *kvm, bool on, struct error **errp)
{
	(void)kvm;
	(void)on;
	error_set(errp, "not today");
	return false;
}

static bool always(const struct kvm *kvm)
{
	(void)kvm;
	return true;
}

Test(ram_dirty, a_start_that_fails_leaves_nothing)
{
	static const struct dirty_log_ops broken = { "broken", false, always, refuse };
	struct ram_dirty dirty;
	struct error *err = NULL;
	struct memory mem;

	memory_init(&mem, NULL);
	expect_ok(memory_add_hidden(&mem, "hidden", 5, &err), err);
	cr_assert_not(ram_dirty_start(&dirty, &mem, &broken, &err));
	expect_error(err, "not today");
	cr_assert(dirty.nblocks == 0 && !dirty.scratch && !dirty.logging);
	ram_dirty_stop(&dirty);
	memory_release(&mem);
}
