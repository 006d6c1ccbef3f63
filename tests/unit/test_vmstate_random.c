/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: any table of fields in any order writes what a naive writer, which knows the format and not the walkers, writes; it
 * comes back; and a load that is cut or damaged anywhere leaves the whole device as before, with nothing leaked.
 *
 * How: a device with a member of each sort, nested memory in nested memory; random tables drawn from a pool of field entries,
 * each with its line of a model writer beside it. The device that is loaded into has a state of its own, as large.
 */
#include "tests/unit/vmstate_support.h"
#include "vmm/base/queue.h"

SUITE(vmstate_random);

#define SEED 0x5eed0008
#define MAX 4

struct leaf {
	uint8_t n;
	uint8_t *bytes; /* VMState's */
	TAILQ_ENTRY(leaf) entry;
};
TAILQ_HEAD(leaves, leaf);

struct branch {
	uint16_t nleaves;
	struct leaf *leaves; /* VMState's, and what is in them */
	struct leaves list;
};

struct tree {
	bool flag;
	uint16_t words[3];
	uint8_t grid[2][2];
	uint8_t raw[5];
	uint64_t bits[2]; /* 70 of them */
	uint32_t nbranches;
	struct branch *branches; /* VMState's, and what is in them */
	struct leaves list;
	struct leaf array[MAX];
	uint32_t used;
};

static const struct vmstate_field leaf_fields[] = {
	VMSTATE_ONE(UINT8, n, struct leaf),
	VMSTATE_ALLOC_BUFFER(bytes, struct leaf, n, MAX),
	VMSTATE_END,
};
static const struct vmstate_desc leaf_desc = { .name = "leaf", .fields = leaf_fields };
static const struct vmstate_list leaf_list = VMSTATE_TAILQ_OF(struct leaf, entry, leaf_desc, MAX);
static const struct vmstate_list leaf_array = VMSTATE_ARRAY_OF(
	struct tree, array, used, struct leaf, leaf_desc, .loop = &vmstate_loop_count);
static const struct vmstate_field branch_fields[] = {
	VMSTATE_ONE(UINT16, nleaves, struct branch),
	VMSTATE_STRUCT_ALLOC(leaves, struct branch, nleaves, MAX, leaf_desc, struct leaf),
	VMSTATE_QTAILQ(list, struct branch, leaf_list, struct leaf),
	VMSTATE_END,
};
static const struct vmstate_desc branch_desc = { .name = "branch", .fields = branch_fields };

static const struct vmstate_field pool[] = {
	VMSTATE_ONE(BOOL, flag, struct tree),
	VMSTATE_ARRAY(UINT16, words, struct tree),
	VMSTATE_ARRAY_2D(UINT8, grid, struct tree),
	VMSTATE_BUFFER(raw, struct tree),
	VMSTATE_BITMAP(bits, struct tree, 70),
	VMSTATE_STRUCT_ALLOC(branches, struct tree, nbranches, MAX, branch_desc, struct branch),
	VMSTATE_QTAILQ(list, struct tree, leaf_list, struct leaf),
	VMSTATE_LIST_ARRAY(array, struct tree, leaf_array, struct leaf),
	VMSTATE_UNUSED(3),
	VMSTATE_END,
};
#define POOL (sizeof(pool) / sizeof(pool[0]) - 1)
#define BRANCHES 5

/* --- the model --- */

struct sink {
	uint8_t bytes[4096];
	size_t n;
};

static void emit(struct sink *s, uint64_t value, unsigned int bytes)
{
	while (bytes-- > 0)
		s->bytes[s->n++] = (uint8_t)(value >> 8 * bytes);
}

static void model_leaf(struct sink *s, const struct leaf *leaf)
{
	emit(s, leaf->n, 1);
	for (unsigned int i = 0; i < leaf->n; i++)
		emit(s, leaf->bytes[i], 1);
}

static void model_list(struct sink *s, const struct leaves *list)
{
	const struct leaf *leaf;

	TAILQ_FOREACH (leaf, list, entry) {
		emit(s, 1, 1);
		model_leaf(s, leaf);
	}
	emit(s, 0, 1);
}

static void model_branch(struct sink *s, const struct branch *branch)
{
	emit(s, branch->nleaves, 2);
	for (unsigned int i = 0; i < branch->nleaves; i++)
		model_leaf(s, &branch->leaves[i]);
	model_list(s, &branch->list);
}

static void model_field(struct sink *s, const struct tree *t, size_t entry)
{
	switch (entry) {
	case 0:
		emit(s, t->flag, 1);
		break;
	case 1:
		for (unsigned int i = 0; i < 3; i++)
			emit(s, t->words[i], 2);
		break;
	case 2:
		for (unsigned int i = 0; i < 4; i++)
			emit(s, t->grid[i / 2][i % 2], 1);
		break;
	case 3:
		for (unsigned int i = 0; i < 5; i++)
			emit(s, t->raw[i], 1);
		break;
	case 4:
		emit(s, t->bits[0], 8);
		emit(s, t->bits[1], 8);
		break;
	case BRANCHES:
		for (unsigned int i = 0; i < t->nbranches; i++)
			model_branch(s, &t->branches[i]);
		break;
	case 6:
		model_list(s, &t->list);
		break;
	case 7:
		emit(s, t->used, 4);
		for (unsigned int i = 0; i < t->used; i++)
			model_leaf(s, &t->array[i]);
		break;
	default:
		emit(s, 0, 3);
	}
}

/* --- random devices and tables --- */

static void fill_leaf(struct leaf *leaf, struct prng *rng)
{
	leaf->n = (uint8_t)prng_below(rng, MAX + 1);
	leaf->bytes = calloc(leaf->n + 1u, 1);
	prng_fill(rng, leaf->bytes, leaf->n);
}

static void fill_list(struct leaves *list, struct prng *rng)
{
	TAILQ_INIT(list);
	for (uint64_t n = prng_below(rng, MAX + 1); n > 0; n--) {
		struct leaf *leaf = calloc(1, sizeof(*leaf));

		fill_leaf(leaf, rng);
		TAILQ_INSERT_TAIL(list, leaf, entry);
	}
}

static void fill_branch(struct branch *branch, struct prng *rng)
{
	branch->nleaves = (uint16_t)prng_below(rng, MAX + 1);
	branch->leaves = calloc(branch->nleaves + 1u, sizeof(*branch->leaves));
	for (unsigned int i = 0; i < branch->nleaves; i++)
		fill_leaf(&branch->leaves[i], rng);
	fill_list(&branch->list, rng);
}

static void fill_tree(struct tree *t, struct prng *rng)
{
	memset(t, 0, sizeof(*t));
	t->flag = prng_below(rng, 2);
	prng_fill(rng, t->words, sizeof(t->words));
	prng_fill(rng, t->grid, sizeof(t->grid));
	prng_fill(rng, t->raw, sizeof(t->raw));
	t->bits[0] = prng_next(rng);
	t->bits[1] = prng_below(rng, 64);
	t->nbranches = (uint32_t)prng_below(rng, MAX + 1);
	t->branches = calloc(t->nbranches + 1u, sizeof(*t->branches));
	for (unsigned int i = 0; i < t->nbranches; i++)
		fill_branch(&t->branches[i], rng);
	fill_list(&t->list, rng);
	t->used = (uint32_t)prng_below(rng, MAX + 1);
	for (unsigned int i = 0; i < t->used; i++)
		fill_leaf(&t->array[i], rng);
}

struct table {
	struct vmstate_field fields[POOL + 2];
	struct vmstate_desc desc;
};

/* The counter, then all of the pool in a random order: so every table holds whatever must be released. */
static void draw_table(struct table *table, const struct tree *t, struct sink *model,
		       struct prng *rng)
{
	static const struct vmstate_field counter = VMSTATE_ONE(UINT32, nbranches, struct tree);
	static const struct vmstate_field end = VMSTATE_END;
	size_t order[POOL];

	model->n = 0;
	table->fields[0] = counter;
	emit(model, t->nbranches, 4);
	for (size_t i = 0; i < POOL; i++) {
		size_t at = prng_below(rng, i + 1);

		order[i] = order[at];
		order[at] = i;
	}
	for (size_t i = 0; i < POOL; i++) {
		table->fields[i + 1] = pool[order[i]];
		model_field(model, t, order[i]);
	}
	table->fields[POOL + 1] = end;
	table->desc = (struct vmstate_desc){ .name = "tree", .fields = table->fields };
}

static void expect_unchanged(const struct vmstate_desc *desc, struct tree *t,
			     const struct saved *before, unsigned int i, size_t at)
{
	struct saved after = save_ok(desc, t);

	cr_assert(after.len == before->len && !memcmp(after.data, before->data, after.len),
		  "seed %#x iteration %u: a load that failed at %zu changed the device", SEED, i,
		  at);
	free(after.data);
}

Test(vmstate_random, tables_beside_a_model)
{
	struct prng rng = { SEED };
	struct sink model;

	for (unsigned int i = 0; i < 200; i++) {
		struct table table;
		struct tree from, to;
		struct saved saved;

		fill_tree(&from, &rng);
		fill_tree(&to, &rng);
		draw_table(&table, &from, &model, &rng);
		vmstate_check(&table.desc);
		saved = save_ok(&table.desc, &from);
		cr_assert(saved.len == model.n && !memcmp(saved.data, model.bytes, model.n),
			  "seed %#x iteration %u: not the model's bytes", SEED, i);
		load_ok(&table.desc, &to, 0, &saved);
		expect_unchanged(&table.desc, &to, &saved, i, saved.len);
		expect_unchanged(&table.desc, &from, &saved, i, saved.len);
		vmstate_release(&table.desc, &from);
		vmstate_release(&table.desc, &to);
		free(saved.data);
	}
}

/* A stream may say an array more than once. Whatever is in between is freed, whole, with a success and with a failure. */
Test(vmstate_random, an_array_that_is_said_again)
{
	static const struct vmstate_field fields[] = {
		VMSTATE_ONE(UINT32, nbranches, struct tree),
		VMSTATE_STRUCT_ALLOC(branches, struct tree, nbranches, MAX, branch_desc,
				     struct branch),
		VMSTATE_ONE(UINT32, nbranches, struct tree),
		VMSTATE_STRUCT_ALLOC(branches, struct tree, nbranches, MAX, branch_desc,
				     struct branch),
		VMSTATE_ONE(BOOL, flag, struct tree),
		VMSTATE_END,
	};
	static const struct vmstate_desc desc = { .name = "again", .fields = fields };
	struct prng rng = { SEED + 2 };

	for (unsigned int i = 0; i < 200; i++) {
		struct sink model = { .n = 0 };
		struct tree first, last, to;
		struct saved before;
		struct error *err = NULL;

		fill_tree(&first, &rng);
		fill_tree(&last, &rng);
		fill_tree(&to, &rng);
		emit(&model, first.nbranches, 4);
		model_field(&model, &first, BRANCHES);
		emit(&model, last.nbranches, 4);
		model_field(&model, &last, BRANCHES);
		emit(&model, 2, 1); /* not a bool */
		before = save_ok(&desc, &to);
		cr_assert_not(load_from_bytes(&desc, &to, 0, model.bytes, model.n, NULL, &err));
		expect_error(err, "not a bool");
		expect_unchanged(&desc, &to, &before, i, model.n);
		model.bytes[model.n - 1] = 1;
		load_ok(&desc, &to, 0, &(struct saved){ model.bytes, model.n });
		cr_assert_eq(to.nbranches, last.nbranches);
		vmstate_release(&desc, &to);
		vmstate_release(&desc, &first);
		vmstate_release(&desc, &last);
		for (size_t k = 0; k < 3; k++)
			vmstate_release(&(struct vmstate_desc){ .fields = pool + 6 },
					(struct tree *[]){ &first, &last, &to }[k]);
		free(before.data);
	}
}

/* Cut at each byte, and each byte damaged, over a device that has something to lose. */
Test(vmstate_random, a_load_is_all_or_nothing)
{
	struct prng rng = { SEED + 1 };
	struct sink model;
	unsigned int refused = 0;

	for (unsigned int i = 0; i < 12; i++) {
		struct table table;
		struct tree from, to;
		struct saved before;

		fill_tree(&from, &rng);
		fill_tree(&to, &rng);
		draw_table(&table, &from, &model, &rng);
		before = save_ok(&table.desc, &to);
		for (size_t at = 0; at < model.n; at++) {
			struct error *err = NULL;

			cr_assert_not(
				load_from_bytes(&table.desc, &to, 0, model.bytes, at, NULL, &err));
			error_free(err);
			expect_unchanged(&table.desc, &to, &before, i, at);
			model.bytes[at] ^= 0xff;
			err = NULL;
			if (!load_from_bytes(&table.desc, &to, 0, model.bytes, model.n, NULL,
					     &err)) {
				expect_unchanged(&table.desc, &to, &before, i, at);
				refused++;
			} else { /* it has understood something else */
				vmstate_release(&table.desc, &to);
				fill_tree(&to, &rng);
				free(before.data);
				before = save_ok(&table.desc, &to);
			}
			error_free(err);
			model.bytes[at] ^= 0xff;
		}
		vmstate_release(&table.desc, &from);
		vmstate_release(&table.desc, &to);
		free(before.data);
	}
	cr_assert_gt(refused, 100, "%u", refused);
}
