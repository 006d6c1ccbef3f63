/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a description tells all that decides what is on the wire.
 *
 * How: one table with a field of each sort, beside its description written by hand; then each member that decides something is changed
 * alone, and the description must change with it.
 */
#include "tests/unit/vmstate_support.h"
#include "vmm/base/queue.h"

SUITE(vmstate_describe);

struct entry {
	uint8_t flag;
	uint16_t v;
	TAILQ_ENTRY(entry) link;
};

struct all {
	bool flag;
	uint32_t row[4];
	uint8_t nraw;
	uint8_t raw[5];
	uint64_t bits[2];
	struct entry one;
	struct entry *ptrs[2];
	TAILQ_HEAD(, entry) list, flagged, counted;
};

static bool sometimes(const void *opaque, uint32_t version_id)
{
	return opaque && version_id;
}

static bool needed(const void *opaque)
{
	return opaque != NULL;
}

static const struct vmstate_field entry_fields[] = { VMSTATE_ONE(UINT16, v, struct entry),
						     VMSTATE_END };
static const struct vmstate_desc entry_desc = { .name = "entry",
						.version_id = 3,
						.minimum_version_id = 2,
						.fields = entry_fields };
static const struct vmstate_list_loop flag_loop = { .flag_offset = offsetof(struct entry, flag),
						    .flag_max = 2 };
static const struct vmstate_list list = VMSTATE_TAILQ_OF(struct entry, link, entry_desc, 9);
static const struct vmstate_list flagged =
	VMSTATE_TAILQ_OF(struct entry, link, entry_desc, 8, .loop = &flag_loop);
static const struct vmstate_list counted =
	VMSTATE_TAILQ_OF(struct entry, link, entry_desc, 7, .loop = &vmstate_loop_count);

static const struct vmstate_field all_fields[] = {
	VMSTATE_ONE(BOOL, flag, struct all, .exists = sometimes),
	VMSTATE_ARRAY(UINT32, row, struct all, .version_id = 2),
	VMSTATE_UNUSED(3),
	VMSTATE_ONE(UINT8, nraw, struct all),
	VMSTATE_VBUFFER(raw, struct all, nraw),
	VMSTATE_BITMAP(bits, struct all, 65),
	VMSTATE_STRUCT(one, struct all, entry_desc, struct entry, .struct_version = 2),
	VMSTATE_STRUCT_POINTERS(ptrs, struct all, entry_desc, struct entry),
	VMSTATE_QTAILQ(list, struct all, list, struct entry),
	VMSTATE_QTAILQ(flagged, struct all, flagged, struct entry),
	VMSTATE_QTAILQ(counted, struct all, counted, struct entry),
	VMSTATE_END,
};
static const struct vmstate_desc sub_desc = { .name = "all/sub",
					      .version_id = 7,
					      .needed = needed };
static const struct vmstate_desc all_desc = {
	.name = "all",
	.version_id = 5,
	.minimum_version_id = 1,
	.fields = all_fields,
	.subsections = (const struct vmstate_desc *const[]){ &sub_desc, NULL },
};

#define ENTRY                                                        \
	"{'name':'entry','version':3,'minimum_version':2,'fields':[" \
	"{'name':'v','type':'uint16','size':2}]}"

/* clang-format off */
static const char golden[] =
	"{'name':'all','version':5,'minimum_version':1,'fields':["
	"{'name':'flag','type':'bool','size':1,'conditional':true},"
	"{'name':'row','type':'uint32','size':4,'count':4,'since_version':2},"
	"{'name':'unused','type':'unused_buffer','size':3},"
	"{'name':'nraw','type':'uint8','size':1},"
	"{'name':'raw','type':'buffer','size':1,'counter':'nraw','max':5},"
	"{'name':'bits','type':'bitmap','count':65},"
	"{'name':'one','type':'struct','struct_version':2,'struct':" ENTRY "},"
	"{'name':'ptrs','type':'struct','count':2,'pointers':true,'struct_version':3,'struct':" ENTRY "},"
	"{'name':'list','type':'qtailq','list':{'count_first':false,'mark':1,'max':9,'element':" ENTRY "}},"
	"{'name':'flagged','type':'list','list':"
		"{'count_first':false,'mark_is_a_flag_up_to':2,'max':8,'element':" ENTRY "}},"
	"{'name':'counted','type':'list','list':"
		"{'count_first':true,'mark':null,'max':7,'element':" ENTRY "}}"
	"],'subsections':["
	"{'name':'all/sub','version':7,'minimum_version':0,'needed':true,'fields':[]}]}";
/* clang-format on */

Test(vmstate_describe, all_that_decides_is_told)
{
	json_t *json = vmstate_describe(&all_desc);
	char *text = json_dumps(json, JSON_COMPACT);
	char want[sizeof(golden)];

	vmstate_check(&all_desc);
	for (size_t i = 0; i < sizeof(golden); i++)
		want[i] = golden[i] == '\'' ? '"' : golden[i];
	cr_assert_str_eq(text, want, "%s\n%s", text, want);
	free(text);
	json_decref(json);
}

static bool describes_differently(const struct vmstate_field *field)
{
	const struct vmstate_field was[] = { VMSTATE_ONE(UINT16, v, struct entry), VMSTATE_END };
	const struct vmstate_field is[] = { *field, VMSTATE_END };
	const struct vmstate_desc a = { .name = "d", .fields = was },
				  b = { .name = "d", .fields = is };
	json_t *before = vmstate_describe(&a), *after = vmstate_describe(&b);
	bool differ = !json_equal(before, after);

	json_decref(before);
	json_decref(after);
	return differ;
}

Test(vmstate_describe, a_change_is_seen)
{
	const struct vmstate_field v = VMSTATE_ONE(UINT16, v, struct entry);
	struct vmstate_field f = v;

	f.offset = 64;
	cr_assert_not(describes_differently(&f), "what is in memory does not count");
	f = v;
	f.kind = VMSTATE_KIND_INT16;
	cr_assert(describes_differently(&f));
	f = v;
	f.count = 2;
	cr_assert(describes_differently(&f));
	f = v;
	f.version_id = 1;
	cr_assert(describes_differently(&f));
	f = v;
	f.exists = sometimes;
	cr_assert(describes_differently(&f));
	f = v;
	f.flags = VMSTATE_POINTERS;
	cr_assert(describes_differently(&f));
}
