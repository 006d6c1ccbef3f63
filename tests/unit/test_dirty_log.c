/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: each way of dirty tracking reports every page that the guest or the VMM has written since
 * the last report, in every block, and loses none; it can be stopped and started again.
 *
 * How: for each row that this KVM supports, a machine whose one vCPU runs real-mode code that
 * stores to the page it is told to and halts. The log is read after known stores.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tests/unit/kvm_support.h"
#include "vmm/base/bitmap.h"
#include "vmm/kvm/dirty_log.h"

SUITE(dirty_log);

#define PAGES 128u
#define HIGH_GPA \
	UINT64_C(0x100000) /* the first address above what real mode reaches by segment << 4 */
#define CODE 0x90000u	   /* in a slot of its own */
#define WORDS (PAGES / 64)

struct machine {
	struct kvm kvm;
	struct memory mem;
	struct ram_block *low, *high, *hidden;
	void *code;
	int vcpu;
	struct kvm_run *run;
	const struct dirty_log_ops *ops;
};

/* mov byte ptr [bx], 1; hlt */
static const uint8_t code[] = { 0xc6, 0x07, 0x01, 0xf4 };

static void machine_build(struct machine *m)
{
	struct error *err = NULL;

	memory_init(&m->mem, &m->kvm);
	m->low = memory_add_ram(&m->mem, "low", 0, PAGES * GUEST_PAGE_SIZE, &err);
	expect_ok(m->low, err);
	m->hidden = memory_add_hidden(&m->mem, "hidden", 3 * GUEST_PAGE_SIZE, &err);
	expect_ok(m->hidden, err);
	m->high = memory_add_ram(&m->mem, "high", HIGH_GPA, PAGES * GUEST_PAGE_SIZE, &err);
	expect_ok(m->high, err);
	m->code = code_page_add(&m->kvm, CODE, code, sizeof(code));
	m->vcpu = ioctl(m->kvm.vm_fd, KVM_CREATE_VCPU, 0);
	cr_assert_geq(m->vcpu, 0);
	m->run = mmap(NULL, m->kvm.vcpu_mmap_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	cr_assert_neq(m->run, MAP_FAILED);
}

static void machine_end(struct machine *m)
{
	munmap(m->run, m->kvm.vcpu_mmap_bytes);
	close(m->vcpu);
	memory_release(&m->mem);
	kvm_close(&m->kvm);
	munmap(m->code, GUEST_PAGE_SIZE);
}

/* The guest writes a byte at gpa, and nowhere else: real mode with the data segment at gpa. */
static void guest_stores(struct machine *m, uint64_t gpa)
{
	struct kvm_regs regs = { .rflags = 2 };
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

static void guest_stores_to_page(struct machine *m, struct ram_block *block, unsigned int page)
{
	block->host[page * GUEST_PAGE_SIZE] = 0;
	guest_stores(m, block->gpa + page * GUEST_PAGE_SIZE);
	cr_assert_eq(block->host[page * GUEST_PAGE_SIZE], 1, "the store went elsewhere");
}

static void read_log(struct machine *m, struct ram_block *block, uint64_t words[WORDS])
{
	struct error *err = NULL;

	memset(words, 0xa5, WORDS * sizeof(*words)); /* to be overwritten */
	expect_ok(dirty_log_read(m->ops, &m->mem, block, words, &err), err);
}

static void clear_log(struct machine *m, struct ram_block *block, const uint64_t *words)
{
	struct error *err = NULL;

	if (m->ops->clears_by_hand)
		expect_ok(dirty_log_clear(m->ops, &m->mem, block, 0, PAGES, words, &err), err);
}

static void start(struct machine *m)
{
	struct error *err = NULL;
	uint64_t words[WORDS];

	expect_ok(dirty_log_start(m->ops, &m->mem, &err), err);
	/* What is dirty from the start (all of it, or nothing) goes with the first pass. */
	read_log(m, m->low, words);
	cr_assert_eq(words[0], m->ops->clears_by_hand ? ~UINT64_C(0) : 0);
	clear_log(m, m->low, words);
	read_log(m, m->high, words);
	clear_log(m, m->high, words);
}

static void expect_log(struct machine *m, struct ram_block *block, uint64_t low, uint64_t high)
{
	uint64_t words[WORDS];

	read_log(m, block, words);
	cr_assert(words[0] == low && words[1] == high,
		  "%s %s: %" PRIx64 " %" PRIx64 ", expected %" PRIx64 " %" PRIx64, m->ops->name,
		  block->name, words[0], words[1], low, high);
	clear_log(m, block, words);
}

/* Once for each row that there is. */
static void with_each_row(void (*test)(struct machine *m), const char *only)
{
	static const char *const names[] = { "manual-protect", "plain" };

	for (unsigned int i = 0; i < 2; i++) {
		struct machine m = { 0 };
		struct error *err = NULL;

		if (only && strcmp(only, names[i]) != 0)
			continue;
		KVM_OR_SKIP(&m.kvm);
		m.ops = dirty_log_select(&m.kvm, names[i], &err);
		if (!m.ops && strcmp(names[i], "manual-protect") == 0) {
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

static void log_guest(struct machine *m)
{
	start(m);
	expect_log(m, m->low, 0, 0);
	guest_stores_to_page(m, m->low, 5);
	guest_stores_to_page(m, m->low, 127);
	guest_stores_to_page(m, m->high, 64);
	expect_log(m, m->low, 1u << 5, UINT64_C(1) << 63);
	expect_log(m, m->high, 0, 1);
	expect_log(m, m->low, 0, 0); /* read and cleared */
	expect_log(m, m->high, 0, 0);
	guest_stores_to_page(m, m->low, 5); /* it is protected again */
	expect_log(m, m->low, 1u << 5, 0);
	dirty_log_stop(m->ops, &m->mem);
}

Test(dirty_log, the_guests_writes_are_seen)
{
	with_each_row(log_guest, NULL);
}

static void log_vmm(struct machine *m)
{
	uint64_t words[WORDS];

	start(m);
	cr_assert(memory_write(&m->mem, 2 * 4096 - 1, "ab", 2, NULL));
	cr_assert(memory_write(&m->mem, HIGH_GPA + 100 * 4096, "ab", 2, NULL));
	guest_stores_to_page(m, m->low, 9);
	read_log(m, m->low, words);
	cr_assert_eq(words[0], 0x6 | 1u << 9, "%s: %" PRIx64, m->ops->name, words[0]);
	clear_log(m, m->low, words);
	expect_log(m, m->high, 0, UINT64_C(1) << 36);
	expect_log(m, m->low, 0, 0);
	dirty_log_stop(m->ops, &m->mem);
}

Test(dirty_log, the_vmms_writes_are_seen_too)
{
	with_each_row(log_vmm, NULL);
}

static void log_hidden(struct machine *m)
{
	uint64_t words[WORDS];

	start(m);
	m->hidden->host[0] = 1;
	memset(words, 0xa5, sizeof(words));
	expect_ok(dirty_log_read(m->ops, &m->mem, m->hidden, words, NULL), NULL);
	cr_assert_eq(words[0], 0);
	if (m->ops->clears_by_hand)
		cr_assert(dirty_log_clear(m->ops, &m->mem, m->hidden, 0, 3, words, NULL));
	dirty_log_stop(m->ops, &m->mem);
}

Test(dirty_log, a_hidden_block_has_no_writers)
{
	with_each_row(log_hidden, NULL);
}

static void log_again(struct machine *m)
{
	struct error *err = NULL;
	uint64_t words[WORDS];

	start(m);
	guest_stores_to_page(m, m->low, 3);
	cr_assert(memory_write(&m->mem, 4 * 4096, "x", 1, NULL));
	dirty_log_stop(m->ops, &m->mem);
	cr_assert_null(m->low->written, "nothing is tracked any more");
	cr_assert_not(dirty_log_read(m->ops, &m->mem, m->low, words, &err), "no log to be read");
	expect_error(err, "RAM block 'low': KVM_GET_DIRTY_LOG");
	guest_stores_to_page(m, m->low, 3); /* nobody minds */
	start(m);
	expect_log(m, m->low, 0, 0);
	guest_stores_to_page(m, m->low, 6);
	expect_log(m, m->low, 1u << 6, 0);
	dirty_log_stop(m->ops, &m->mem);
}

Test(dirty_log, it_is_stopped_and_started_again)
{
	with_each_row(log_again, NULL);
}

/* Both rows on one machine: what the first has set up must be gone when the second starts. */
static void log_other_row(struct machine *m)
{
	start(m);
	dirty_log_stop(m->ops, &m->mem);
	m->ops = dirty_log_select(&m->kvm, "plain", NULL);
	start(m);
	guest_stores_to_page(m, m->low, 2);
	expect_log(m, m->low, 1u << 2, 0);
	expect_log(m, m->low, 0, 0);
	dirty_log_stop(m->ops, &m->mem);
}

Test(dirty_log, one_row_after_the_other)
{
	with_each_row(log_other_row, NULL);
}

/* Reading takes nothing; only what is cleared goes, and a part may be cleared alone. */
static void log_by_hand(struct machine *m)
{
	const uint64_t page_5 = 1u << 5, first_of_second = 1;
	struct error *err = NULL;
	uint64_t words[WORDS];

	start(m);
	guest_stores_to_page(m, m->low, 5);
	guest_stores_to_page(m, m->low, 7);
	guest_stores_to_page(m, m->low, 64);
	for (unsigned int i = 0; i < 2; i++) {
		read_log(m, m->low, words);
		cr_assert(words[0] == 0xa0 && words[1] == 1, "reading has cleared");
	}
	expect_ok(dirty_log_clear(m->ops, &m->mem, m->low, 0, 64, &page_5, &err), err);
	read_log(m, m->low, words);
	cr_assert(words[0] == 0x80 && words[1] == 1);
	expect_ok(dirty_log_clear(m->ops, &m->mem, m->low, 64, 64, &first_of_second, &err), err);
	read_log(m, m->low, words);
	cr_assert(words[0] == 0x80 && words[1] == 0);
	guest_stores_to_page(m, m->low, 5);
	guest_stores_to_page(m, m->low, 64);
	expect_log(m, m->low, 0xa0, 1);
	dirty_log_stop(m->ops, &m->mem);
}

Test(dirty_log, clearing_by_hand_clears_what_it_is_given)
{
	with_each_row(log_by_hand, "manual-protect");
}

Test(dirty_log, rows_are_chosen_by_name)
{
	struct kvm full = { 0 }, old = { 0 };
	struct error *err = NULL;

	full.cap[CAP_MANUAL_DIRTY_LOG] =
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	cr_assert_str_eq(dirty_log_select(&full, NULL, NULL)->name, "manual-protect");
	cr_assert_str_eq(dirty_log_select(&full, "auto", NULL)->name, "manual-protect");
	cr_assert_str_eq(dirty_log_select(&full, "plain", NULL)->name, "plain");
	cr_assert_str_eq(dirty_log_select(&old, "auto", NULL)->name, "plain");
	cr_assert_null(dirty_log_select(&old, "manual-protect", &err));
	expect_error(err, "does not support");
	cr_assert_null(dirty_log_select(&full, "ring", &err));
	expect_error(err, "'ring': expected auto, manual-protect or plain");
	old.cap[CAP_MANUAL_DIRTY_LOG] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE; /* half of it */
	cr_assert_str_eq(dirty_log_select(&old, NULL, NULL)->name, "plain");
}
