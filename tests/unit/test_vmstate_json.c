/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the JSON that goes with a device's state (stream format, section 7) lets a stranger's tool
 * read the bytes: members, types and sizes are right, and the sizes add up to the bytes written,
 * whatever the state.
 *
 * How: one description with a field of every sort; its JSON compared with one written by hand;
 * random states of it, whose JSON is walked as a reader would.
 */
#include "tests/unit/vmstate_support.h"
#include "vmm/base/queue.h"

SUITE(vmstate_json);

#define SEED 0x5eed0004

struct entry {
	uint16_t v;
	TAILQ_ENTRY(entry) link;
};

struct pair {
	uint8_t a;
	uint32_t n;
	uint16_t words[3];
};

struct all {
	bool flag;
	int64_t timer;
	uint16_t equal;
	uint32_t row[4];
	uint32_t nraw;
	uint8_t raw[5];
	struct pair one;
	struct pair two[2];
	struct pair *ptrs[2];
	struct pair pointed;
	TAILQ_HEAD(, entry) list;
	uint8_t sub;
	bool want_sub;
};

static const struct vmstate_field pair_fields[] = {
	VMSTATE_ONE(UINT8, a, struct pair),
	VMSTATE_ONE(UINT32, n, struct pair),
	VMSTATE_VARRAY(UINT16, words, struct pair, n),
	VMSTATE_END,
};
static const struct vmstate_desc pair_desc = { .name = "pair",
					       .version_id = 2,
					       .fields = pair_fields };
static const struct vmstate_field entry_fields[] = { VMSTATE_ONE(UINT16, v, struct entry),
						     VMSTATE_END };
static const struct vmstate_desc entry_desc = { .name = "entry", .fields = entry_fields };
static const struct vmstate_list entry_list = VMSTATE_TAILQ_OF(struct entry, link, entry_desc, 9);
static const struct vmstate_field all_fields[] = {
	VMSTATE_ONE(BOOL, flag, struct all),
	VMSTATE_ONE(TIMER, timer, struct all),
	VMSTATE_ONE(UINT16_EQUAL, equal, struct all),
	VMSTATE_ARRAY(UINT32, row, struct all),
	VMSTATE_UNUSED(3),
	VMSTATE_ONE(UINT32, nraw, struct all),
	VMSTATE_VBUFFER(raw, struct all, nraw),
	VMSTATE_STRUCT(one, struct all, pair_desc, struct pair),
	VMSTATE_STRUCT_ARRAY(two, struct all, pair_desc, struct pair),
	VMSTATE_STRUCT_POINTERS(ptrs, struct all, pair_desc, struct pair),
	VMSTATE_QTAILQ(list, struct all, entry_list, struct entry),
	VMSTATE_END,
};

static bool sub_needed(const void *opaque)
{
	return ((const struct all *)opaque)->want_sub;
}

static const struct vmstate_field sub_fields[] = { VMSTATE_ONE(UINT8, sub, struct all),
						   VMSTATE_END };
static const struct vmstate_desc sub_desc = { .name = "all/sub",
					      .version_id = 7,
					      .needed = sub_needed,
					      .fields = sub_fields };
static const struct vmstate_desc all_desc = {
	.name = "all",
	.version_id = 5,
	.fields = all_fields,
	.subsections = (const struct vmstate_desc *const[]){ &sub_desc, NULL },
};

#define PAIR_HEAD                                    \
	"{'vmsd_name':'pair','version':2,'fields':[" \
	"{'name':'a','type':'uint8','size':1},{'name':'n','type':'uint32','size':4}"
#define PAIR_0 PAIR_HEAD "]}},"
#define PAIR_1 PAIR_HEAD ",{'name':'words','type':'uint16','size':2}]}},"
#define PAIR_2 PAIR_HEAD ",{'name':'words','array_len':2,'type':'uint16','size':2}]}},"

/* clang-format off */
static const char golden[] =
	"{'vmsd_name':'all','version':5,'fields':["
	"{'name':'flag','type':'bool','size':1},"
	"{'name':'timer','type':'timer','size':8},"
	"{'name':'equal','type':'uint16 equal','size':2},"
	"{'name':'row','array_len':4,'type':'uint32','size':4},"
	"{'name':'unused','type':'unused_buffer','size':3},"
	"{'name':'nraw','type':'uint32','size':4},"
	"{'name':'raw','type':'buffer','size':2},"
	"{'name':'one','type':'struct','size':9,'struct':" PAIR_2
	"{'name':'two','index':0,'type':'struct','size':5,'struct':" PAIR_0
	"{'name':'two','index':1,'type':'struct','size':7,'struct':" PAIR_1
	"{'name':'ptrs','index':0,'type':'nullptr','size':1},"
	"{'name':'ptrs','index':1,'type':'struct','size':5,'struct':" PAIR_0
	"{'name':'list','type':'qtailq','size':4}"
	"],'subsections':[{'vmsd_name':'all/sub','version':7,'fields':["
	"{'name':'sub','type':'uint8','size':1}]}]}";
/* clang-format on */

static json_t *parse(const char *text)
{
	char *copy = strdup(text);
	json_error_t error;
	json_t *json;

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	json = json_loads(copy, 0, &error);
	cr_assert_not_null(json, "%s at %d", error.text, error.position);
	free(copy);
	return json;
}

Test(vmstate_json, the_description_is_the_golden_one)
{
	struct entry e = { .v = 1 };
	struct all all = { .nraw = 2, .want_sub = true };
	json_t *want = parse(golden), *have = json_object();
	struct error *err = NULL;
	struct saved saved;
	char *text;

	all.one.n = 2;
	all.two[1].n = 1;
	all.ptrs[1] = &all.pointed;
	TAILQ_INIT(&all.list);
	TAILQ_INSERT_TAIL(&all.list, &e, link);
	expect_ok(save_to_bytes(&all_desc, &all, have, &saved, &err), err);
	text = json_dumps(have, JSON_COMPACT);
	cr_assert(json_equal(have, want), "%s", text);
	free(text);
	free(saved.data);
	json_decref(have);
	json_decref(want);
}

static size_t size_of_fields(const json_t *desc);

/* Bytes of one entry of "fields", as a reader measures them. */
static size_t size_of_field(const json_t *field)
{
	size_t size = (size_t)json_integer_value(json_object_get(field, "size"));
	const json_t *nested = json_object_get(field, "struct");
	const json_t *len = json_object_get(field, "array_len");

	cr_assert(json_is_string(json_object_get(field, "name")));
	if (nested)
		cr_assert_eq(size_of_fields(nested), size, "a struct's fields and its size");
	return len ? size * (size_t)json_integer_value(len) : size;
}

static size_t size_of_fields(const json_t *desc)
{
	const json_t *fields = json_object_get(desc, "fields");
	size_t sum = 0;

	for (size_t i = 0; i < json_array_size(fields); i++)
		sum += size_of_field(json_array_get(fields, i));
	return sum;
}

static size_t size_of_desc(const json_t *desc)
{
	const json_t *subs = json_object_get(desc, "subsections");
	size_t sum = size_of_fields(desc);

	for (size_t i = 0; i < json_array_size(subs); i++) {
		const json_t *sub = json_array_get(subs, i);

		/* u8 0x05, u8 length, name, be32 version */
		sum += 6 + strlen(json_string_value(json_object_get(sub, "vmsd_name")));
		sum += size_of_desc(sub);
	}
	return sum;
}

Test(vmstate_json, sizes_add_up_to_the_bytes)
{
	struct prng rng = { SEED };

	for (unsigned int i = 0; i < 200; i++) {
		struct entry entries[9] = { 0 };
		struct all all = { .nraw = (uint32_t)prng_below(&rng, 6) };
		json_t *json = json_object();
		struct error *err = NULL;
		struct saved saved, plain;
		char *text;

		all.one.n = (uint32_t)prng_below(&rng, 4);
		all.two[0].n = (uint32_t)prng_below(&rng, 4);
		all.pointed.n = (uint32_t)prng_below(&rng, 4);
		all.ptrs[0] = prng_below(&rng, 2) ? &all.pointed : NULL;
		all.ptrs[1] = prng_below(&rng, 2) ? &all.pointed : NULL;
		all.want_sub = prng_below(&rng, 2);
		TAILQ_INIT(&all.list);
		for (uint64_t k = prng_below(&rng, 10); k > 0; k--)
			TAILQ_INSERT_TAIL(&all.list, &entries[k - 1], link);
		expect_ok(save_to_bytes(&all_desc, &all, json, &saved, &err), err);
		text = json_dumps(json, JSON_COMPACT);
		cr_assert_eq(size_of_desc(json), saved.len, "seed %#x iteration %u: %zu bytes: %s",
			     SEED, i, saved.len, text);
		/* Describing changes nothing on the wire. */
		plain = save_ok(&all_desc, &all);
		cr_assert(plain.len == saved.len && !memcmp(plain.data, saved.data, plain.len));
		free(text);
		free(plain.data);
		free(saved.data);
		json_decref(json);
	}
}

static bool refuse(void *opaque, struct error **errp)
{
	(void)opaque;
	error_set(errp, "no");
	return false;
}

/* A save that fails inside nested structs leaks no JSON (as the address sanitizer sees). */
Test(vmstate_json, a_failed_save_leaks_nothing)
{
	struct vmstate_desc bad = pair_desc;
	const struct vmstate_field fields[] = {
		VMSTATE_ONE(BOOL, flag, struct all),
		VMSTATE_STRUCT_ARRAY(two, struct all, bad, struct pair),
		VMSTATE_END,
	};
	const struct vmstate_desc desc = { .name = "bad", .fields = fields };
	struct all all = { 0 };
	json_t *json = json_object();
	struct error *err = NULL;
	struct saved saved;

	bad.pre_save = refuse;
	cr_assert_not(save_to_bytes(&desc, &all, json, &saved, &err));
	expect_error(err, ".two[0]: no");
	json_decref(json);
}
