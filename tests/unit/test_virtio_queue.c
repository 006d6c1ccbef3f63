/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what a driver puts into a split virtqueue comes out as it was meant, once, and goes back by
 * the used ring; no ring that a guest can write is a danger, nor stops more than its own queue.
 *
 * How: the test is the driver, in memory that looks like a guest's (no KVM is needed). Random
 * chains, direct and indirect, are popped and compared with a list the test keeps; then rings that
 * are wrong in one way each, and rings of random bytes, behind which every address is looked at.
 */
#include <sys/mman.h>

#include "devices/virtio/queue.h"
#include "tests/unit/vmstate_support.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

SUITE(virtio_queue);

#define SEED 0x5eed0400
#define RAM_BYTES (UINT64_C(4) << 20)
#define HIGH_BYTES (UINT64_C(1) << 20)
#define SIZE 16
#define DESC 0x1000u
#define AVAIL 0x2000u
#define USED 0x3000u
#define SPLIT_USED 0x8ffcu
#define TABLES 0x4000u /* indirect ones */
#define DATA 0x10000u

struct guest {
	struct memory mem;
	struct virtqueue vq;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t idx; /* available index */
};

static void add_block(struct memory *mem, const char *name, uint64_t gpa, uint64_t bytes)
{
	struct ram_block *b = &mem->blocks[mem->nblocks];

	*b = (struct ram_block){ .gpa = gpa, .size_bytes = bytes, .slot = mem->nblocks };
	strcpy(b->name, name);
	b->host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(b->host, MAP_FAILED);
	mem->nblocks++;
}

static void *at(struct guest *g, uint64_t gpa)
{
	return g->mem.blocks[0].host + gpa;
}

static void guest_start(struct guest *g, uint16_t size)
{
	struct error *err = NULL;

	memset(g, 0, sizeof(*g));
	memory_init(&g->mem, NULL);
	add_block(&g->mem, "ram.low", 0, RAM_BYTES);
	add_block(&g->mem, "ram.high", MEMORY_HOLE_END, HIGH_BYTES);
	g->desc = at(g, DESC);
	g->avail = at(g, AVAIL);
	g->used = at(g, USED);
	virtqueue_init(&g->vq, &g->mem);
	g->vq.size = size;
	g->vq.desc = DESC;
	g->vq.avail = AVAIL;
	g->vq.used = USED;
	g->vq.indirect = true;
	expect_ok(virtqueue_start(&g->vq, &err), err);
}

static void guest_end(struct guest *g)
{
	memory_release(&g->mem);
}

static void set_desc(struct guest *g, unsigned int i, uint64_t addr, uint32_t len, uint16_t flags,
		     uint16_t next)
{
	g->desc[i] = (struct vring_desc){ addr, len, flags, next };
}

static void offer(struct guest *g, uint16_t head)
{
	g->avail->ring[g->idx % g->vq.size] = head;
	g->avail->idx = ++g->idx;
}

static void pops_nothing(struct guest *g)
{
	static struct virtqueue_element elem;
	struct error *err = NULL;

	cr_assert_eq(virtqueue_pop(&g->vq, &elem, &err), 0);
	cr_assert_null(err);
}

static void pop_fails(struct guest *g, const char *text)
{
	static struct virtqueue_element elem;
	struct error *err = NULL;

	cr_assert_eq(virtqueue_pop(&g->vq, &elem, &err), -1, "expected: %s", text);
	expect_error(err, text);
	cr_assert(g->vq.broken);
	pops_nothing(g); /* once is enough */
	cr_assert_not(virtqueue_has_more(&g->vq));
	cr_assert_not(virtqueue_ask_kicks(&g->vq, true));
}

Test(virtio_queue, a_chain_comes_out_and_goes_back)
{
	static struct virtqueue_element elem;
	struct error *err = NULL;
	struct guest g;
	char text[16] = "";

	guest_start(&g, SIZE);
	memcpy(at(&g, DATA), "hello ", 6);
	memcpy(at(&g, DATA + 100), "world", 5);
	set_desc(&g, 3, DATA, 6, VRING_DESC_F_NEXT, 9);
	set_desc(&g, 9, DATA + 100, 5, VRING_DESC_F_NEXT, 1);
	set_desc(&g, 1, DATA + 200, 4, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 0);
	set_desc(&g, 0, MEMORY_HOLE_END + 8, 8, VRING_DESC_F_WRITE, 0);
	pops_nothing(&g);
	offer(&g, 3);
	cr_assert(virtqueue_has_more(&g.vq));
	cr_assert_eq(virtqueue_pop(&g.vq, &elem, &err), 1);
	cr_assert(elem.head == 3 && elem.nout == 2 && elem.nsegs == 4);
	cr_assert(element_out_bytes(&elem) == 11 && element_in_bytes(&elem) == 12);
	cr_assert_eq(element_read(&elem, 3, text, 15), 8);
	cr_assert_str_eq(text, "lo world");
	cr_assert_eq(element_write(&elem, 2, "abcdef", 6), 6);
	cr_assert_eq(memcmp((uint8_t *)at(&g, DATA + 202), "ab", 2), 0);
	cr_assert_eq(memcmp(g.mem.blocks[1].host + 8, "cdef", 4), 0);
	cr_assert_eq(element_write(&elem, 10, "abcdef", 6), 2, "the segments' end");
	pops_nothing(&g);
	virtqueue_push(&g.vq, &elem, 8);
	cr_assert(g.used->idx == 1 && g.used->ring[0].id == 3 && g.used->ring[0].len == 8);
	guest_end(&g);
}

Test(virtio_queue, the_vmm_s_stores_are_marked_dirty_and_no_others)
{
	static struct virtqueue_element elem;
	struct error *err = NULL;
	uint64_t words[RAM_BYTES / 4096 / 64] = { 0 }, high[4] = { 0 };
	struct guest g;

	guest_start(&g, SIZE);
	/* The used ring's index on one page, its entries on the next. */
	virtqueue_reset(&g.vq);
	g.vq.size = 128;
	g.vq.desc = DESC;
	g.vq.avail = AVAIL;
	g.vq.used = SPLIT_USED;
	g.vq.indirect = g.vq.event_idx = true;
	expect_ok(virtqueue_start(&g.vq, &err), err);
	set_desc(&g, 0, DATA, 100, VRING_DESC_F_NEXT, 1);
	set_desc(&g, 1, DATA + 0x5ffe, 4, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2);
	set_desc(&g, 2, MEMORY_HOLE_END, 0x3000, VRING_DESC_F_WRITE, 0);
	offer(&g, 0);
	cr_assert_eq(virtqueue_pop(&g.vq, &elem, &err), 1);
	cr_assert(memory_track_writes(&g.mem, &err));
	virtqueue_push(&g.vq, &elem, 4 + 0x1001);
	memory_take_written(&g.mem, &g.mem.blocks[0], words);
	memory_take_written(&g.mem, &g.mem.blocks[1], high);
	for (uint64_t page = 0; page < RAM_BYTES / 4096; page++)
		cr_assert_eq((words[page / 64] >> page % 64 & 1) != 0,
			     page == SPLIT_USED / 4096 || page == SPLIT_USED / 4096 + 1 ||
				     page == (DATA + 0x5ffe) / 4096 ||
				     page == (DATA + 0x6000) / 4096,
			     "page %" PRIu64, page);
	cr_assert_eq(high[0], 3, "two of three pages were written");
	guest_end(&g);
}

/* --- random chains against a list --- */

struct expected {
	uint16_t head;
	unsigned int nout, n;
	uint64_t gpa[SIZE * 2];
	uint32_t len[SIZE * 2];
};

/* A random chain into `table` whose entries `free_list` says are free; the rest in order. */
static void fill_chain(struct prng *p, struct expected *e, struct vring_desc *table,
		       const uint16_t *order, unsigned int n)
{
	e->n = n;
	e->nout = (unsigned int)prng_below(p, n + 1);
	for (unsigned int i = 0; i < n; i++) {
		bool high = prng_below(p, 4) == 0;
		uint64_t room = high ? HIGH_BYTES : RAM_BYTES;

		e->len[i] = (uint32_t)prng_below(p, 5000) + 1;
		e->gpa[i] = prng_below(p, room - e->len[i]) + (high ? MEMORY_HOLE_END : 0);
		table[order[i]] =
			(struct vring_desc){ e->gpa[i], e->len[i],
					     (uint16_t)((i >= e->nout ? VRING_DESC_F_WRITE : 0) |
							(i + 1 < n ? VRING_DESC_F_NEXT : 0)),
					     i + 1 < n ? order[i + 1] : (uint16_t)prng_next(p) };
	}
}

static void shuffle(struct prng *p, uint16_t *order, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		order[i] = (uint16_t)i;
	for (unsigned int i = n; i > 1; i--) {
		unsigned int k = (unsigned int)prng_below(p, i);
		uint16_t t = order[i - 1];

		order[i - 1] = order[k];
		order[k] = t;
	}
}

static void expect_element(const struct virtqueue_element *elem, const struct expected *e,
			   unsigned int round)
{
	cr_assert(elem->head == e->head && elem->nout == e->nout && elem->nsegs == e->n,
		  "seed 0x%x round %u", SEED, round);
	for (unsigned int i = 0; i < e->n; i++)
		cr_assert(elem->gpa[i] == e->gpa[i] && elem->len[i] == e->len[i] &&
				  elem->iov[i].iov_len == e->len[i],
			  "seed 0x%x round %u segment %u", SEED, round, i);
}

Test(virtio_queue, random_chains_come_out_as_they_went_in)
{
	static struct virtqueue_element elem;
	static struct expected e[SIZE];
	struct prng p = { SEED };
	struct error *err = NULL;
	struct guest g;

	guest_start(&g, SIZE);
	for (unsigned int round = 0; round < 6000; round++) {
		uint16_t order[SIZE], inner[SIZE * 2];
		unsigned int used = 0, n = 0;

		shuffle(&p, order, SIZE);
		while (used < SIZE && prng_below(&p, 5)) {
			if (prng_below(&p, 2)) {
				unsigned int many = (unsigned int)prng_below(&p, SIZE * 2) + 1;
				uint64_t table = TABLES + n * 0x400 + prng_below(&p, 3);

				shuffle(&p, inner, many);
				for (unsigned int i = 0; inner[0] && i < many; i++)
					if (!inner[i]) { /* a table begins with its first */
						inner[i] = inner[0];
						inner[0] = 0;
					}
				/* Not aligned: filled here and copied there. */
				struct vring_desc copy[SIZE * 2];

				fill_chain(&p, &e[n], copy, inner, many);
				memcpy(at(&g, table), copy, many * sizeof(copy[0]));
				e[n].head = order[used];
				set_desc(&g, order[used], table, many * 16,
					 VRING_DESC_F_INDIRECT |
						 (prng_below(&p, 2) ? VRING_DESC_F_WRITE : 0),
					 0xffff);
				used++;
			} else {
				unsigned int many = (unsigned int)prng_below(&p, SIZE - used) + 1;

				fill_chain(&p, &e[n], g.desc, order + used, many);
				e[n].head = order[used];
				used += many;
			}
			offer(&g, e[n++].head);
		}
		for (unsigned int i = 0; i < n; i++) {
			cr_assert_eq(virtqueue_pop(&g.vq, &elem, &err), 1, "round %u: %s", round,
				     error_msg(err));
			expect_element(&elem, &e[i], round);
			virtqueue_push(&g.vq, &elem, 0);
			cr_assert_eq(g.used->idx, g.vq.used_idx);
			cr_assert_eq(g.used->ring[(uint16_t)(g.used->idx - 1) % SIZE].id,
				     e[i].head);
		}
		pops_nothing(&g);
	}
	cr_assert_gt(g.vq.used_idx, 0);
	guest_end(&g);
}

Test(virtio_queue, indices_wrap)
{
	static struct virtqueue_element elem;
	struct error *err = NULL;
	struct guest g;

	guest_start(&g, 4);
	set_desc(&g, 2, DATA, 1, 0, 0);
	for (unsigned int i = 0; i < 70000; i++) {
		offer(&g, 2);
		cr_assert_eq(virtqueue_pop(&g.vq, &elem, &err), 1);
		virtqueue_push(&g.vq, &elem, i);
		cr_assert_eq(g.used->ring[i % 4].len, i);
	}
	cr_assert_eq(g.used->idx, (uint16_t)70000);
	guest_end(&g);
}

/* --- hostile rings --- */

#define HOSTILE(name)                  \
	Test(virtio_queue, name)       \
	{                              \
		struct guest g;        \
		guest_start(&g, SIZE); \
		name##_body(&g);       \
		guest_end(&g);         \
	}

static void an_index_that_jumps_body(struct guest *g)
{
	set_desc(g, 0, DATA, 1, 0, 0);
	g->avail->idx = SIZE + 1;
	pop_fails(g, "the available index went from 0 to 17 in a queue of 16");
}

static void a_head_beyond_the_queue_body(struct guest *g)
{
	offer(g, SIZE);
	pop_fails(g, "chain 16 in a queue of 16");
}

static void a_next_beyond_the_queue_body(struct guest *g)
{
	set_desc(g, 0, DATA, 1, VRING_DESC_F_NEXT, SIZE);
	offer(g, 0);
	pop_fails(g, "goes on at 16 of 16");
}

static void a_circle_body(struct guest *g)
{
	set_desc(g, 0, DATA, 1, VRING_DESC_F_NEXT, 1);
	set_desc(g, 1, DATA, 1, VRING_DESC_F_NEXT, 0);
	offer(g, 0);
	pop_fails(g, "in a circle");
}

static void a_circle_of_empty_segments_body(struct guest *g)
{
	set_desc(g, 5, 0, 0, VRING_DESC_F_NEXT, 5);
	offer(g, 5);
	pop_fails(g, "in a circle");
}

static void a_circle_in_an_indirect_table_body(struct guest *g)
{
	struct vring_desc *table = at(g, TABLES);

	set_desc(g, 0, TABLES, 32, VRING_DESC_F_INDIRECT, 0);
	table[0] = (struct vring_desc){ DATA, 1, VRING_DESC_F_NEXT, 1 };
	table[1] = (struct vring_desc){ DATA, 1, VRING_DESC_F_NEXT, 0 };
	offer(g, 0);
	pop_fails(g, "in a circle");
}

static void a_segment_beyond_ram_body(struct guest *g)
{
	set_desc(g, 0, RAM_BYTES - 4, 5, 0, 0);
	offer(g, 0);
	pop_fails(g, "not in RAM");
}

static void a_segment_that_wraps_body(struct guest *g)
{
	set_desc(g, 0, UINT64_MAX - 7, 0x1000, VRING_DESC_F_WRITE, 0);
	offer(g, 0);
	pop_fails(g, "not in RAM");
}

static void a_segment_in_the_registers_body(struct guest *g)
{
	set_desc(g, 0, 0xfee00000, 16, VRING_DESC_F_WRITE, 0);
	offer(g, 0);
	pop_fails(g, "not in RAM");
}

static void written_before_read_body(struct guest *g)
{
	set_desc(g, 0, DATA, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	set_desc(g, 1, DATA, 1, 0, 0);
	offer(g, 0);
	pop_fails(g, "a segment to be read behind one to be written");
}

static void indirect_in_indirect_body(struct guest *g)
{
	struct vring_desc *table = at(g, TABLES);

	set_desc(g, 0, TABLES, 16, VRING_DESC_F_INDIRECT, 0);
	table[0] = (struct vring_desc){ TABLES, 16, VRING_DESC_F_INDIRECT, 0 };
	offer(g, 0);
	pop_fails(g, "an indirect table inside another");
}

static void indirect_and_more_body(struct guest *g)
{
	set_desc(g, 0, TABLES, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	offer(g, 0);
	pop_fails(g, "not the last");
}

static void indirect_without_the_feature_body(struct guest *g)
{
	g->vq.indirect = false;
	set_desc(g, 0, TABLES, 16, VRING_DESC_F_INDIRECT, 0);
	offer(g, 0);
	pop_fails(g, "without the feature");
}

static void an_odd_indirect_table_body(struct guest *g)
{
	set_desc(g, 0, TABLES, 24, VRING_DESC_F_INDIRECT, 0);
	offer(g, 0);
	pop_fails(g, "indirect table at 0x4000 (24 bytes)");
}

static void an_empty_indirect_table_body(struct guest *g)
{
	set_desc(g, 0, TABLES, 0, VRING_DESC_F_INDIRECT, 0);
	offer(g, 0);
	pop_fails(g, "indirect table at 0x4000 (0 bytes)");
}

static void an_indirect_table_beyond_ram_body(struct guest *g)
{
	set_desc(g, 0, RAM_BYTES - 16, 32, VRING_DESC_F_INDIRECT, 0);
	offer(g, 0);
	pop_fails(g, "indirect table at");
}

static void more_segments_than_any_queue_body(struct guest *g)
{
	struct vring_desc *table = at(g, TABLES);

	for (uint16_t i = 0; i <= VIRTQUEUE_SIZE_MAX; i++)
		table[i] = (struct vring_desc){ DATA, 1, VRING_DESC_F_NEXT, (uint16_t)(i + 1) };
	set_desc(g, 0, TABLES, (VIRTQUEUE_SIZE_MAX + 1) * 16, VRING_DESC_F_INDIRECT, 0);
	offer(g, 0);
	pop_fails(g, "more than 128 segments");
}

HOSTILE(an_index_that_jumps)
HOSTILE(a_head_beyond_the_queue)
HOSTILE(a_next_beyond_the_queue)
HOSTILE(a_circle)
HOSTILE(a_circle_of_empty_segments)
HOSTILE(a_circle_in_an_indirect_table)
HOSTILE(a_segment_beyond_ram)
HOSTILE(a_segment_that_wraps)
HOSTILE(a_segment_in_the_registers)
HOSTILE(written_before_read)
HOSTILE(indirect_in_indirect)
HOSTILE(indirect_and_more)
HOSTILE(indirect_without_the_feature)
HOSTILE(an_odd_indirect_table)
HOSTILE(an_empty_indirect_table)
HOSTILE(an_indirect_table_beyond_ram)
HOSTILE(more_segments_than_any_queue)

Test(virtio_queue, a_setup_that_cannot_be_is_refused)
{
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
		const char *text;
	} wrong[] = {
		{ 0, DESC, AVAIL, USED, "0 entries" },
		{ 12, DESC, AVAIL, USED, "12 entries" },
		{ VIRTQUEUE_SIZE_MAX * 2, DESC, AVAIL, USED, "256 entries" },
		{ 16, DESC + 8, AVAIL, USED, "descriptor table" },
		{ 16, RAM_BYTES - 16, AVAIL, USED, "descriptor table" },
		{ 16, UINT64_MAX - 15, AVAIL, USED, "descriptor table" },
		{ 16, DESC, AVAIL + 1, USED, "available ring" },
		{ 16, DESC, RAM_BYTES - 36, USED, "available ring" },
		{ 16, DESC, AVAIL, USED + 2, "used ring" },
		{ 16, DESC, AVAIL, RAM_BYTES - 132, "used ring" },
		{ 16, DESC, AVAIL, 0xfec00000, "used ring" },
	};
	struct guest g;

	guest_start(&g, SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct error *err = NULL;

		virtqueue_reset(&g.vq);
		g.vq.size = wrong[i].size;
		g.vq.desc = wrong[i].desc;
		g.vq.avail = wrong[i].avail;
		g.vq.used = wrong[i].used;
		cr_assert_not(virtqueue_start(&g.vq, &err), "row %zu", i);
		expect_error(err, wrong[i].text);
		cr_assert_not(g.vq.ready);
		pops_nothing(&g);
	}
	guest_end(&g);
}

/* Tables of random bytes that are often nearly right. Whatever is popped must lie in RAM. */
Test(virtio_queue, random_rings_give_only_what_lies_in_ram)
{
	static struct virtqueue_element elem;
	struct prng p = { SEED + 1 };
	unsigned int popped = 0, broken = 0;
	struct guest g;

	guest_start(&g, SIZE);
	for (unsigned int round = 0; round < 40000; round++) {
		struct error *err = NULL;

		g.vq.broken = false;
		g.vq.last_avail = g.avail->idx;
		for (unsigned int i = 0; i < SIZE; i++)
			set_desc(&g, i, prng_below(&p, RAM_BYTES + 0x1000),
				 (uint32_t)prng_below(&p, 3) ? (uint32_t)prng_below(&p, 0x1000)
							     : (uint32_t)prng_next(&p),
				 (uint16_t)prng_below(&p, 9), (uint16_t)prng_below(&p, SIZE + 1));
		prng_fill(&p, at(&g, prng_below(&p, 0x8000) + TABLES), 256);
		g.avail->ring[g.vq.last_avail % SIZE] = (uint16_t)prng_below(&p, SIZE + 1);
		g.avail->idx += (uint16_t)prng_below(&p, 3) + 1;
		switch (virtqueue_pop(&g.vq, &elem, &err)) {
		case 1:
			popped++;
			cr_assert(elem.nsegs <= VIRTQUEUE_SIZE_MAX && elem.nout <= elem.nsegs);
			for (uint32_t i = 0; i < elem.nsegs; i++)
				cr_assert_eq(memory_host(&g.mem, elem.gpa[i], elem.len[i]),
					     elem.iov[i].iov_base, "seed 0x%x round %u", SEED + 1,
					     round);
			break;
		case -1:
			broken++;
			cr_assert_not_null(err);
			error_free(err);
			break;
		}
	}
	cr_assert(popped > 100 && broken > 100, "%u popped, %u broken: the test tests nothing",
		  popped, broken);
	guest_end(&g);
}

/* --- notifications --- */

Test(virtio_queue, interrupts_by_flag)
{
	static struct virtqueue_element elem;
	struct error *err = NULL;
	struct guest g;

	guest_start(&g, SIZE);
	set_desc(&g, 0, DATA, 1, 0, 0);
	cr_assert_not(virtqueue_wants_interrupt(&g.vq), "nothing was pushed");
	for (unsigned int i = 0; i < 4; i++) {
		offer(&g, 0);
		virtqueue_pop(&g.vq, &elem, &err);
		virtqueue_push(&g.vq, &elem, 0);
		g.avail->flags = i % 2 ? VRING_AVAIL_F_NO_INTERRUPT : 0;
		cr_assert_eq(virtqueue_wants_interrupt(&g.vq), i % 2 == 0);
	}
	cr_assert_not(virtqueue_ask_kicks(&g.vq, false));
	cr_assert_eq(g.used->flags, VRING_USED_F_NO_NOTIFY);
	cr_assert_not(virtqueue_ask_kicks(&g.vq, true));
	cr_assert_eq(g.used->flags, 0);
	offer(&g, 0);
	cr_assert(virtqueue_ask_kicks(&g.vq, true), "one that came meanwhile");
	guest_end(&g);
}

Test(virtio_queue, interrupts_by_event_index)
{
	static struct virtqueue_element elem;
	struct error *err = NULL;
	struct guest g;
	uint16_t *used_event, *avail_event;

	guest_start(&g, SIZE);
	g.vq.event_idx = true;
	used_event = &g.avail->ring[SIZE];
	avail_event = (uint16_t *)&g.used->ring[SIZE];
	set_desc(&g, 0, DATA, 1, 0, 0);
	/* The driver wants to hear of the third: 1 and 2 say nothing, 3 does, 4 not again. */
	*used_event = 2;
	for (unsigned int i = 1; i <= 4; i++) {
		offer(&g, 0);
		virtqueue_pop(&g.vq, &elem, &err);
		virtqueue_push(&g.vq, &elem, 0);
		cr_assert_eq(virtqueue_wants_interrupt(&g.vq), i == 3, "push %u", i);
	}
	cr_assert_not(virtqueue_ask_kicks(&g.vq, true));
	cr_assert_eq(*avail_event, 4);
	guest_end(&g);
}

/* --- state --- */

Test(virtio_queue, an_element_travels_and_is_resolved_again)
{
	static struct virtqueue_element elem, loaded;
	struct error *err = NULL;
	struct saved saved;
	struct guest g;

	guest_start(&g, SIZE);
	set_desc(&g, 7, DATA, 100, VRING_DESC_F_NEXT, 8);
	set_desc(&g, 8, MEMORY_HOLE_END, 200, VRING_DESC_F_WRITE, 0);
	offer(&g, 7);
	cr_assert_eq(virtqueue_pop(&g.vq, &elem, &err), 1);
	saved = save_ok(&virtqueue_element_vmstate, &elem);
	load_ok(&virtqueue_element_vmstate, &loaded, 1, &saved);
	expect_ok(virtqueue_element_map(&g.vq, &loaded, &err), err);
	cr_assert(loaded.head == 7 && loaded.nout == 1 && loaded.nsegs == 2);
	for (unsigned int i = 0; i < 2; i++)
		cr_assert(loaded.iov[i].iov_base == elem.iov[i].iov_base &&
			  loaded.iov[i].iov_len == elem.iov[i].iov_len);
	loaded.gpa[1] = RAM_BYTES;
	cr_assert_not(virtqueue_element_map(&g.vq, &loaded, &err));
	expect_error(err, "not in RAM");
	loaded.nout = 3;
	cr_assert_not(virtqueue_element_map(&g.vq, &loaded, &err));
	expect_error(err, "3 of 2");
	free(saved.data);
	guest_end(&g);
}
