/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: any loop goes with any representation. Each pair has the bytes that the loop alone decides, and the list in memory that
 * the representation alone decides; a load that fails leaves the old list, element for element.
 *
 * How: one element type that can be in a TAILQ, a LIST, an SLIST, an array or a sorted tree, and a table of all representations,
 * run with a table of all loops. test_vmstate_list.c has the tail queue in depth.
 */
#include "tests/unit/vmstate_support.h"
#include "vmm/base/queue.h"

SUITE(vmstate_loops);

#define ROOM 5

struct item {
	uint8_t flag;
	uint16_t key;
	uint32_t ntext;
	uint8_t *text; /* VMState's */
	TAILQ_ENTRY(item) tq;
	LIST_ENTRY(item) l;
	SLIST_ENTRY(item) sl;
	struct item *left, *right;
};

struct device {
	TAILQ_HEAD(, item) tq;
	LIST_HEAD(, item) l;
	SLIST_HEAD(, item) sl;
	struct item array[ROOM];
	uint32_t used;
	struct item *tree;
};

static const struct vmstate_field item_fields[] = {
	VMSTATE_ONE(UINT16, key, struct item),
	VMSTATE_ONE(UINT32, ntext, struct item),
	VMSTATE_ALLOC_BUFFER(text, struct item, ntext, 4),
	VMSTATE_END,
};
static const struct vmstate_desc item_desc = { .name = "item", .fields = item_fields };

/* --- a tree of the device's own, sorted by key: an ordered map --- */

static void *tree_first(const struct vmstate_list *list, const void *head)
{
	struct item *item = *(struct item *const *)head;

	(void)list;
	while (item && item->left)
		item = item->left;
	return item;
}

static void *tree_next(const struct vmstate_list *list, const void *head, const void *element)
{
	const struct item *item = *(struct item *const *)head, *best = NULL;
	uint16_t key = ((const struct item *)element)->key;

	(void)list;
	while (item) {
		if (item->key > key)
			best = item;
		item = item->key > key ? item->left : item->right;
	}
	return (void *)best;
}

static void tree_attach(const struct vmstate_list *list, void *head, void *const *elements,
			uint32_t n)
{
	(void)list;
	*(struct item **)head = NULL;
	for (uint32_t i = 0; i < n; i++) {
		struct item *item = elements[i], **at = head;

		item->left = item->right = NULL;
		while (*at)
			at = item->key < (*at)->key ? &(*at)->left : &(*at)->right;
		*at = item;
	}
}

static bool keys_differ(void *const *elements, uint32_t n, struct error **errp)
{
	for (uint32_t i = 1; i < n; i++) {
		const struct item *a = elements[i - 1], *b = elements[i];

		if (a->key >= b->key) {
			error_set(errp, "key %u follows key %u", b->key, a->key);
			return false;
		}
	}
	return true;
}

static const struct vmstate_list_links tree_links = { tree_first, tree_next, tree_attach, false };

/* --- representations and loops --- */

static struct vmstate_list lists[] = {
	VMSTATE_TAILQ_OF(struct item, tq, item_desc, ROOM),
	VMSTATE_LIST_OF(struct item, l, item_desc, ROOM),
	VMSTATE_SLIST_OF(struct item, sl, item_desc, ROOM),
	VMSTATE_ARRAY_OF(struct device, array, used, struct item, item_desc),
	{ .links = &tree_links,
	  .element = &item_desc,
	  .element_size = sizeof(struct item),
	  .max_elements = ROOM,
	  .check = keys_differ },
};
static const struct vmstate_field fields[][2] = {
	{ VMSTATE_QTAILQ(tq, struct device, lists[0], struct item), VMSTATE_END },
	{ VMSTATE_QLIST(l, struct device, lists[1], struct item), VMSTATE_END },
	{ VMSTATE_QSLIST(sl, struct device, lists[2], struct item), VMSTATE_END },
	{ VMSTATE_LIST_ARRAY(array, struct device, lists[3], struct item), VMSTATE_END },
	{ VMSTATE_OWN_LIST(tree, struct device, lists[4], struct item), VMSTATE_END },
};
#define REPRESENTATIONS (sizeof(lists) / sizeof(lists[0]))

static const struct vmstate_list_loop loop_42 = { .more = 42 };
static const struct vmstate_list_loop loop_flag = { .flag_offset = offsetof(struct item, flag),
						    .flag_max = 2 };

static const struct {
	const struct vmstate_list_loop *loop;
	const char *two; /* elements: key 1, "ab"; key 2, nothing; flags 2 and 1 */
	const char *empty;
	const char *bad[4], *says[4];
} loops[] = {
	{ NULL,
	  "01 0001 00000002 6162 01 0002 00000000 00",
	  "00",
	  { "01 0003 00000001 63 02", "01 0003 00000001 63", "01 0003 00000005", "01 00" },
	  { "loop byte 2, expected 0 or 1", "ends", "[0].text: 5 elements", "[0].key: " } },
	{ &loop_42,
	  "2a 0001 00000002 6162 2a 0002 00000000 00",
	  "00",
	  { "2a 0003 00000001 63 01", "2a 0003 00000001 63", "2a 0003 00000005", "2a 00" },
	  { "loop byte 1, expected 0 or 42", "ends", "[0].text: 5 elements", "[0].key: " } },
	{ &loop_flag,
	  "02 0001 00000002 6162 01 0002 00000000 00",
	  "00",
	  { "02 0003 00000001 63 03", "02 0003 00000001 63", "02 0003 00000005", "02 00" },
	  { "loop byte 3, expected 0 or at most 2", "ends", "[0].text: 5 elements", "[0].key: " } },
	{ &vmstate_loop_count,
	  "00000002 0001 00000002 6162 0002 00000000",
	  "00000000",
	  { "00000006", "ffffffff", "00000002 0003 00000001 63", "0000" },
	  { "6 elements, at most 5", "at most 5", "[1].key: ", "ends" } },
	{ &vmstate_loop_map,
	  "00000002 01 0001 00000002 6162 01 0002 00000000 00",
	  "00000000 00",
	  { "00000002 01 0003 00000001 63 00", "00000001 01 0003 00000000 01 0004 00000000 00",
	    "00000006", "00000000 02" },
	  { "1 elements, but a count of 2 in front", "2 elements, but a count of 1", "at most 5",
	    "loop byte 2" } },
};
#define LOOPS (sizeof(loops) / sizeof(loops[0]))

static void device_init(struct device *device)
{
	memset(device, 0, sizeof(*device));
	TAILQ_INIT(&device->tq);
	LIST_INIT(&device->l);
	SLIST_INIT(&device->sl);
}

static void load_hex_ok(const struct vmstate_desc *desc, void *opaque, const char *hex)
{
	uint8_t bytes[256];
	struct saved saved = { bytes, bytes_of(hex, bytes, sizeof(bytes)) };

	load_ok(desc, opaque, 0, &saved);
}

static void run_pair(size_t representation, size_t loop)
{
	const struct vmstate_desc desc = { .name = "pair", .fields = fields[representation] };
	struct device device;

	lists[representation].loop = loops[loop].loop;
	vmstate_check(&desc);
	device_init(&device);
	expect_saved(&desc, &device, loops[loop].empty);
	load_hex_ok(&desc, &device, loops[loop].two);
	expect_saved(&desc, &device, loops[loop].two);
	for (size_t i = 0; i < 4; i++)
		load_hex_fails(&desc, &device, 0, loops[loop].bad[i], ".", loops[loop].says[i]);
	load_hex_ok(&desc, &device, loops[loop].two); /* in place of the same */
	expect_saved(&desc, &device, loops[loop].two);
	load_hex_ok(&desc, &device, loops[loop].empty);
	expect_saved(&desc, &device, loops[loop].empty);
	load_hex_ok(&desc, &device, loops[loop].two);
	vmstate_release(&desc, &device);
	expect_saved(&desc, &device, loops[loop].empty);
}

Test(vmstate_loops, every_loop_with_every_representation)
{
	for (size_t r = 0; r < REPRESENTATIONS; r++)
		for (size_t l = 0; l < LOOPS; l++)
			run_pair(r, l);
}

/* The links are right backwards, too: elements can be taken out. */
Test(vmstate_loops, a_loaded_list_can_be_taken_apart)
{
	const struct vmstate_desc desc = { .name = "list", .fields = fields[1] };
	struct device device;
	struct item *first, *second;

	device_init(&device);
	load_hex_ok(&desc, &device, "01 0001 00000000 01 0002 00000000 01 0003 00000000 00");
	first = LIST_FIRST(&device.l);
	second = LIST_NEXT(first, l);
	LIST_REMOVE(second, l);
	LIST_REMOVE(first, l);
	expect_saved(&desc, &device, "01 0003 00000000 00");
	free(first->text);
	free(first);
	free(second->text);
	free(second);
	vmstate_release(&desc, &device);
}

Test(vmstate_loops, a_map_refuses_two_alike_keys)
{
	const struct vmstate_desc desc = { .name = "map", .fields = fields[4] };
	struct device device;

	lists[4].loop = &vmstate_loop_map;
	device_init(&device);
	load_hex_ok(&desc, &device, "00000001 01 0007 00000001 61 00");
	load_hex_fails(&desc, &device, 0, "00000002 01 0001 00000000 01 0001 00000001 62 00",
		       ".tree: ", "key 1 follows key 1");
	vmstate_release(&desc, &device);
}

/* An array holds as many as it has room for, at most; what stood in it is freed with the elements. */
Test(vmstate_loops, an_array_can_be_full)
{
	const struct vmstate_desc desc = { .name = "array", .fields = fields[3] };
	const char *five = "01 0001 00000001 61 01 0002 00000001 62 01 0003 00000001 63 "
			   "01 0004 00000001 64 01 0005 00000001 65 00";
	struct device device;

	device_init(&device);
	load_hex_ok(&desc, &device, five);
	cr_assert_eq(device.used, 5);
	cr_assert_eq(device.array[4].text[0], 'e');
	load_hex_fails(&desc, &device, 0,
		       "01 0001 00000000 01 0001 00000000 01 0001 00000000 01 0001 00000000 "
		       "01 0001 00000000 01",
		       ".array: ", "more than 5 elements");
	expect_saved(&desc, &device, five);
	vmstate_release(&desc, &device);
}
