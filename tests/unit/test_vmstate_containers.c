/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every container of VMState (arrays, counted, allocated, behind pointers, of structs) has
 * the bytes of the stream format's section 6, comes back as it was saved, bounds what it reads, and
 * says where an error lies.
 *
 * How: one struct with a member of every sort; golden bytes; random round trips; small hand-made
 * streams for each refusal.
 */
#include "tests/unit/vmstate_support.h"

SUITE(vmstate_containers);

#define SEED 0x5eed0007

struct point {
	int16_t x;
	bool lit;
};

static const struct vmstate_field point_fields[] = {
	VMSTATE_ONE(INT16, x, struct point),
	VMSTATE_ONE(BOOL, lit, struct point),
	VMSTATE_END,
};
static const struct vmstate_desc point_desc = { .name = "point", .fields = point_fields };

#define NWORDS_MAX 5
#define TEXT_MAX 9
#define TRAIL_MAX 4

struct box {
	uint16_t fixed[3];
	uint32_t nvar;
	uint32_t var[4];
	uint32_t nwords;
	uint64_t *words; /* owned */
	uint8_t raw[2];
	uint32_t nraw;
	uint8_t vraw[6];
	uint32_t ntext;
	uint8_t *text; /* owned */
	struct point one;
	struct point *ptr;
	struct point array[2];
	uint32_t ntrail;
	struct point *trail; /* owned */
	struct point *slots[3];
	struct point slot_memory[4]; /* [0..2]: the slots; [3]: ptr */
};

static const struct vmstate_field box_fields[] = {
	VMSTATE_ARRAY(UINT16, fixed, struct box),
	VMSTATE_ONE(UINT32, nvar, struct box),
	VMSTATE_VARRAY(UINT32, var, struct box, nvar),
	VMSTATE_ONE(UINT32, nwords, struct box),
	VMSTATE_ALLOC_ARRAY(UINT64, words, struct box, nwords, NWORDS_MAX),
	VMSTATE_BUFFER(raw, struct box),
	VMSTATE_ONE(UINT32, nraw, struct box),
	VMSTATE_VBUFFER(vraw, struct box, nraw),
	VMSTATE_ONE(UINT32, ntext, struct box),
	VMSTATE_ALLOC_BUFFER(text, struct box, ntext, TEXT_MAX),
	VMSTATE_STRUCT(one, struct box, point_desc, struct point),
	VMSTATE_STRUCT_PTR(ptr, struct box, point_desc, struct point),
	VMSTATE_STRUCT_ARRAY(array, struct box, point_desc, struct point),
	VMSTATE_ONE(UINT32, ntrail, struct box),
	VMSTATE_STRUCT_ALLOC(trail, struct box, ntrail, TRAIL_MAX, point_desc, struct point),
	VMSTATE_STRUCT_POINTERS(slots, struct box, point_desc, struct point),
	VMSTATE_END,
};
static const struct vmstate_desc box_desc = { .name = "box", .fields = box_fields };

/* As its builder leaves it: `slots` are there, the rest is empty. */
static void box_build(struct box *box, unsigned int slots)
{
	*box = (struct box){ .ptr = &box->slot_memory[3] };
	for (unsigned int i = 0; i < 3; i++)
		box->slots[i] = slots >> i & 1 ? &box->slot_memory[i] : NULL;
}

static void box_release(struct box *box)
{
	free(box->words);
	free(box->text);
	free(box->trail);
}

static struct point random_point(struct prng *rng)
{
	return (struct point){ .x = (int16_t)prng_next(rng), .lit = prng_below(rng, 2) };
}

static void box_fill(struct box *box, struct prng *rng)
{
	prng_fill(rng, box->fixed, sizeof(box->fixed));
	prng_fill(rng, box->var, sizeof(box->var));
	prng_fill(rng, box->raw, sizeof(box->raw));
	prng_fill(rng, box->vraw, sizeof(box->vraw));
	box->nvar = (uint32_t)prng_below(rng, 5);
	box->nraw = (uint32_t)prng_below(rng, 7);
	box->nwords = (uint32_t)prng_below(rng, NWORDS_MAX + 1);
	box->ntext = (uint32_t)prng_below(rng, TEXT_MAX + 1);
	box->ntrail = (uint32_t)prng_below(rng, TRAIL_MAX + 1);
	box->words = calloc(box->nwords + 1, sizeof(*box->words));
	box->text = calloc(box->ntext + 1, 1);
	box->trail = calloc(box->ntrail + 1, sizeof(*box->trail));
	prng_fill(rng, box->words, box->nwords * sizeof(*box->words));
	prng_fill(rng, box->text, box->ntext);
	for (unsigned int i = 0; i < box->ntrail; i++)
		box->trail[i] = random_point(rng);
	for (unsigned int i = 0; i < 4; i++)
		box->slot_memory[i] = random_point(rng);
	box->one = random_point(rng);
	box->array[0] = random_point(rng);
	box->array[1] = random_point(rng);
}

static void expect_same_points(const struct point *a, const struct point *b, unsigned int n,
			       unsigned int i)
{
	for (unsigned int k = 0; k < n; k++)
		cr_assert(a[k].x == b[k].x && a[k].lit == b[k].lit,
			  "seed %#x iteration %u point %u", SEED, i, k);
}

static void expect_same_box(const struct box *a, const struct box *b, unsigned int i)
{
#define SAME(cond) cr_assert(cond, "seed %#x iteration %u: " #cond, SEED, i)
	SAME(!memcmp(a->fixed, b->fixed, sizeof(a->fixed)));
	SAME(a->nvar == b->nvar && !memcmp(a->var, b->var, a->nvar * sizeof(*a->var)));
	SAME(a->nwords == b->nwords);
	SAME(!memcmp(a->words, b->words, a->nwords * sizeof(*a->words)));
	SAME(!memcmp(a->raw, b->raw, sizeof(a->raw)));
	SAME(a->nraw == b->nraw && !memcmp(a->vraw, b->vraw, a->nraw));
	SAME(a->ntext == b->ntext && !memcmp(a->text, b->text, a->ntext));
	SAME(b->text[b->ntext] == '\0'); /* an allocated buffer ends with a NUL */
	SAME(a->ntrail == b->ntrail);
#undef SAME
	expect_same_points(&a->one, &b->one, 1, i);
	expect_same_points(a->ptr, b->ptr, 1, i);
	expect_same_points(a->array, b->array, 2, i);
	expect_same_points(a->trail, b->trail, a->ntrail, i);
	for (unsigned int k = 0; k < 3; k++)
		if (a->slots[k])
			expect_same_points(a->slots[k], b->slots[k], 1, i);
}

Test(vmstate_containers, containers_have_their_golden_bytes)
{
	uint64_t words[] = { 0x1122334455667788 };
	struct point trail[] = { { 7, true } };
	struct box box;

	vmstate_check(&box_desc);
	box_build(&box, 2);
	memcpy(box.fixed, (uint16_t[]){ 1, 2, 0xfffe }, sizeof(box.fixed));
	box.nvar = 2;
	memcpy(box.var, (uint32_t[]){ 0x10, 0x20, 0x30, 0x40 }, sizeof(box.var));
	box.nwords = 1;
	box.words = words;
	memcpy(box.raw, "hi", 2);
	box.nraw = 3;
	memcpy(box.vraw, "abcdef", 6);
	box.ntext = 2;
	box.text = (uint8_t *)"ok";
	box.one = (struct point){ 1, true };
	*box.ptr = (struct point){ -1, false };
	box.array[1].lit = true;
	box.ntrail = 1;
	box.trail = trail;
	*box.slots[1] = (struct point){ 0x3030, true };
	expect_saved(&box_desc, &box,
		     "00 01 00 02 ff fe "		    /* fixed */
		     "00 00 00 02 00 00 00 10 00 00 00 20 " /* nvar, var */
		     "00 00 00 01 11 22 33 44 55 66 77 88 " /* nwords, words */
		     "68 69 "				    /* raw */
		     "00 00 00 03 61 62 63 "		    /* nraw, vraw */
		     "00 00 00 02 6f 6b "		    /* ntext, text */
		     "00 01 01 "			    /* one */
		     "ff ff 00 "			    /* ptr */
		     "00 00 00 00 00 01 "		    /* array */
		     "00 00 00 01 00 07 01 "		    /* ntrail, trail */
		     "30 30 30 01 30");			    /* slots: NULL, 3030 01, NULL */
}

/*
 * What lies on the destination before is replaced, and allocated memory is freed (as the address
 * sanitizer sees).
 */
Test(vmstate_containers, random_containers_come_back)
{
	struct prng rng = { SEED };

	for (unsigned int i = 0; i < 300; i++) {
		unsigned int slots = (unsigned int)prng_below(&rng, 8);
		struct box box, copy;
		struct saved saved;

		box_build(&box, slots);
		box_fill(&box, &rng);
		box_build(&copy, slots);
		if (i % 2)
			box_fill(&copy, &rng);
		saved = save_ok(&box_desc, &box);
		load_ok(&box_desc, &copy, 0, &saved);
		expect_same_box(&box, &copy, i);
		free(saved.data);
		box_release(&box);
		box_release(&copy);
	}
}

/* A device with nothing in its arrays may have no memory for them, either. */
Test(vmstate_containers, empty_arrays_behind_null_pointers_are_nothing_on_the_wire)
{
	struct box box, copy;
	struct saved saved;

	box_build(&box, 0);
	box_build(&copy, 0);
	saved = save_ok(&box_desc, &box);
	cr_assert_eq(saved.len, 43, "%zu bytes", saved.len);
	load_ok(&box_desc, &copy, 0, &saved);
	cr_assert(copy.nwords == 0 && copy.ntext == 0 && copy.ntrail == 0);
	free(saved.data);
	box_release(&copy);
}

#define ZEROES_6 "00 00 00 00 00 00 "

Test(vmstate_containers, counts_are_compared_with_their_bound)
{
	uint64_t *old = calloc(1, sizeof(*old));
	struct box box;

	box_build(&box, 0);
	box.words = old;
	/* Nothing follows the counts: a loader that read first would say that the stream ends. */
	load_hex_fails(&box_desc, &box, 0, ZEROES_6 "00 00 00 05", ".var: ", "at most 4");
	load_hex_fails(&box_desc, &box, 0, ZEROES_6 "ff ff ff ff", ".var: ", "4294967295");
	load_hex_fails(&box_desc, &box, 0, ZEROES_6 "00 00 00 00 00 00 00 06",
		       ".words: ", "at most 5");
	cr_assert_eq(box.words, old, "the old array stays until the new one is whole");
	load_hex_fails(&box_desc, &box, 0, ZEROES_6 "00 00 00 00 00 00 00 02 01 02 03 04 05",
		       ".words[0]: ", "ends");
	cr_assert_eq(box.words, old);
	load_hex_fails(&box_desc, &box, 0, ZEROES_6 "00 00 00 00 00 00 00 00 61 61 00 00 00 07",
		       ".vraw: ", "at most 6");
	load_hex_fails(&box_desc, &box, 0,
		       ZEROES_6 "00 00 00 00 00 00 00 00 61 61 00 00 00 00 00 00 00 0a",
		       ".text: ", "at most 9");
	box_release(&box);
}

/* The most that is allowed is allowed. */
Test(vmstate_containers, a_count_at_its_bound_is_accepted)
{
	struct prng rng = { SEED };
	struct box box, copy;
	struct saved saved;

	box_build(&box, 7);
	do {
		box_release(&box);
		box_fill(&box, &rng);
	} while (box.nwords != NWORDS_MAX || box.nvar != 4);
	box_build(&copy, 7);
	saved = save_ok(&box_desc, &box);
	load_ok(&box_desc, &copy, 0, &saved);
	expect_same_box(&box, &copy, 0);
	free(saved.data);
	box_release(&box);
	box_release(&copy);
}

Test(vmstate_containers, null_and_non_null_must_agree_with_the_device)
{
	struct {
		struct point *p[2];
	} state = { { NULL, NULL } };
	const struct vmstate_field fields[] = {
		VMSTATE_STRUCT_POINTERS(p, __typeof__(state), point_desc, struct point),
		VMSTATE_END,
	};
	const struct vmstate_desc desc = { .name = "pointers", .fields = fields };

	expect_saved(&desc, &state, "30 30");
	load_hex_fails(&desc, &state, 0, "30 31", ".p[1]: ", "0x31");
	load_hex_fails(&desc, &state, 0, "30", ".p", "ends in the middle");
}

/* --- paths --- */

struct request {
	uint64_t sector;
	bool barrier;
};

struct disk {
	uint32_t nrequests;
	struct request requests[8];
};

static const struct vmstate_field request_fields[] = {
	VMSTATE_ONE(UINT64, sector, struct request),
	VMSTATE_ONE(BOOL, barrier, struct request),
	VMSTATE_END,
};
static const struct vmstate_desc request_desc = { .name = "request", .fields = request_fields };
static const struct vmstate_field disk_fields[] = {
	VMSTATE_ONE(UINT32, nrequests, struct disk),
	VMSTATE_STRUCT_ARRAY(requests, struct disk, request_desc, struct request,
			     .flags = VMSTATE_COUNTED,
			     .count_offset = offsetof(struct disk, nrequests)),
	VMSTATE_END,
};
static const struct vmstate_desc disk_desc = { .name = "disk", .fields = disk_fields };

#define REQUEST "00 00 00 00 00 00 00 01 01 "

Test(vmstate_containers, errors_are_paths)
{
	struct disk disk = { 0 };

	load_hex_fails(&disk_desc, &disk, 0, "00 00 00 04 " REQUEST REQUEST REQUEST "00 00",
		       ".requests[3].sector: ", "ends in the middle");
	load_hex_fails(&disk_desc, &disk, 0, "00 00 00 02 " REQUEST "00 00 00 00 00 00 00 01 02",
		       ".requests[1].barrier: ", "value 2");
	load_hex_fails(&disk_desc, &disk, 0, "00 00 00 01 00 00 00 00 00 00 00 01 02",
		       ".requests[0].barrier: ", "value 2");
	load_hex_fails(&disk_desc, &disk, 0, "00 00 00 09", ".requests: ", "at most 8");
	load_hex_fails(&disk_desc, &disk, 0, "00 00", ".nrequests: ", "ends in the middle");
}
