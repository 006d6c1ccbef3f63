/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: linked lists travel as the stream format says, and the four things that describe one (the
 * loop's bytes, the links, the element, the allocator) can each be changed alone. A load that fails
 * leaves the old list as it was and leaks nothing.
 *
 * How: golden bytes; random lists there and back; lists with other loops, links and allocators; an
 * allocator that counts.
 */
#include "tests/unit/vmstate_support.h"
#include "vmm/base/queue.h"

SUITE(vmstate_list);

#define SEED 0x5eed0002
#define MAX_ITEMS 12

struct item {
	uint8_t flag; /* travels as the loop's byte, in the lists that say so */
	uint16_t value;
	TAILQ_ENTRY(item) entry;
};
TAILQ_HEAD(items, item);

static const struct vmstate_field item_fields[] = {
	VMSTATE_ONE(UINT16, value, struct item),
	VMSTATE_END,
};
static const struct vmstate_desc item_desc = { .name = "item", .fields = item_fields };

static const struct vmstate_list items_list =
	VMSTATE_TAILQ_OF(struct item, entry, item_desc, MAX_ITEMS);

struct dev {
	uint8_t before;
	struct items items;
	uint8_t after;
};

static const struct vmstate_field dev_fields[] = {
	VMSTATE_ONE(UINT8, before, struct dev),
	VMSTATE_QTAILQ(items, struct dev, items_list, struct item),
	VMSTATE_ONE(UINT8, after, struct dev),
	VMSTATE_END,
};
static const struct vmstate_desc dev_desc = { .name = "dev", .fields = dev_fields };

static struct item *add(struct items *items, uint16_t value, uint8_t flag)
{
	struct item *item = calloc(1, sizeof(*item));

	item->value = value;
	item->flag = flag;
	TAILQ_INSERT_TAIL(items, item, entry);
	return item;
}

static void clear(struct items *items)
{
	struct item *item, *next;

	TAILQ_FOREACH_SAFE (item, items, entry, next)
		free(item);
	TAILQ_INIT(items);
}

/* The queue holds these values, forwards and backwards: all its links are right. */
static void expect_values(struct items *items, const uint16_t *values, unsigned int n)
{
	struct item *item;
	unsigned int i = 0;

	TAILQ_FOREACH (item, items, entry) {
		cr_assert_lt(i, n, "more than %u elements", n);
		cr_assert_eq(item->value, values[i], "element %u is %u", i, item->value);
		i++;
	}
	cr_assert_eq(i, n, "%u elements, expected %u", i, n);
	TAILQ_FOREACH_REVERSE(item, items, items, entry)
	cr_assert_eq(item->value, values[--i]);
	cr_assert_eq(i, 0);
}

Test(vmstate_list, a_qtailq_has_its_golden_bytes)
{
	struct dev dev = { .before = 0xbe, .after = 0xaf };

	vmstate_check(&dev_desc);
	TAILQ_INIT(&dev.items);
	expect_saved(&dev_desc, &dev, "be 00 af");
	add(&dev.items, 0x1122, 9);
	add(&dev.items, 0x0000, 9);
	add(&dev.items, 0x0100, 9);
	expect_saved(&dev_desc, &dev, "be 01 11 22 01 00 00 01 01 00 00 af");
	clear(&dev.items);
}

Test(vmstate_list, random_lists_come_back_as_working_queues)
{
	struct prng rng = { SEED };

	for (unsigned int i = 0; i < 300; i++) {
		struct dev dev = { .before = 1, .after = (uint8_t)i }, copy = { 0 };
		unsigned int n = (unsigned int)prng_below(&rng, MAX_ITEMS + 1);
		unsigned int old = (unsigned int)prng_below(&rng, 3);
		uint16_t values[MAX_ITEMS + 1];
		struct saved saved;

		TAILQ_INIT(&dev.items);
		TAILQ_INIT(&copy.items);
		for (unsigned int k = 0; k < n; k++)
			add(&dev.items, values[k] = (uint16_t)prng_next(&rng), 0);
		while (old--)
			add(&copy.items, 0xdead, 0);
		saved = save_ok(&dev_desc, &dev);
		load_ok(&dev_desc, &copy, 0, &saved);
		cr_assert_eq(copy.after, (uint8_t)i);
		expect_values(&copy.items, values, n);
		expect_values(&dev.items, values, n); /* saving leaves the source as it was */
		add(&copy.items, values[n] = 77, 0);  /* the tail pointer is right, too */
		expect_values(&copy.items, values, n + 1);
		clear(&copy.items);
		clear(&dev.items);
		free(saved.data);
	}
}

Test(vmstate_list, too_many_elements_are_refused_on_both_sides)
{
	struct dev dev = { 0 };
	struct error *err = NULL;
	struct saved saved;
	char hex[512] = "be ";

	TAILQ_INIT(&dev.items);
	for (unsigned int i = 0; i < MAX_ITEMS; i++) {
		add(&dev.items, 1, 0);
		strcat(hex, "01 00 02 ");
	}
	saved = save_ok(&dev_desc, &dev);
	load_ok(&dev_desc, &dev, 0, &saved); /* just as many as are allowed */
	free(saved.data);
	strcat(hex, "01"); /* refused before its fields are read */
	load_hex_fails(&dev_desc, &dev, 0, hex, ".items: ", "more than 12");
	cr_assert_eq(TAILQ_FIRST(&dev.items)->value, 1);
	add(&dev.items, 1, 0);
	cr_assert_not(save_to_bytes(&dev_desc, &dev, NULL, &saved, &err));
	expect_error(err, ".items: 13 elements, at most 12");
	clear(&dev.items);
}

Test(vmstate_list, a_wrong_loop_byte_is_refused)
{
	struct dev dev = { 0 };

	TAILQ_INIT(&dev.items);
	load_hex_fails(&dev_desc, &dev, 0, "be 02 00 01 00 af", ".items: ", "loop byte 2");
	load_hex_fails(&dev_desc, &dev, 0, "be 01 00 01 ff", ".items: ", "loop byte 255");
	load_hex_fails(&dev_desc, &dev, 0, "be 01 00 01", ".items: ", "ends in the middle");
	cr_assert(TAILQ_EMPTY(&dev.items));
}

/* --- other loops --- */

static const struct vmstate_list_loop loop_42 = { .more = 42 };
static const struct vmstate_list_loop loop_flag = { .flag_offset = offsetof(struct item, flag),
						    .flag_max = 2 };

Test(vmstate_list, another_marker)
{
	struct vmstate_list list = items_list;
	const struct vmstate_field fields[] = {
		VMSTATE_QTAILQ(items, struct dev, list, struct item), VMSTATE_END
	};
	const struct vmstate_desc desc = { .name = "dev42", .fields = fields };
	struct dev dev = { 0 }, copy = { 0 };
	struct saved saved;

	list.loop = &loop_42;
	TAILQ_INIT(&dev.items);
	TAILQ_INIT(&copy.items);
	add(&dev.items, 1, 0);
	add(&dev.items, 2, 0);
	expect_saved(&desc, &dev, "2a 00 01 2a 00 02 00");
	saved = save_ok(&desc, &dev);
	load_ok(&desc, &copy, 0, &saved);
	expect_values(&copy.items, (uint16_t[]){ 1, 2 }, 2);
	load_hex_fails(&desc, &copy, 0, "01 00 01 00", ".items: ", "loop byte 1");
	load_hex_fails(&desc, &copy, 0, "2b 00 01 00", ".items: ", "42");
	expect_values(&copy.items, (uint16_t[]){ 1, 2 }, 2);
	free(saved.data);
	clear(&dev.items);
	clear(&copy.items);
}

Test(vmstate_list, a_loop_byte_that_is_a_field)
{
	struct vmstate_list list = items_list;
	const struct vmstate_field fields[] = {
		VMSTATE_QTAILQ(items, struct dev, list, struct item), VMSTATE_END
	};
	const struct vmstate_desc desc = { .name = "devflag", .fields = fields };
	struct dev dev = { 0 }, copy = { 0 };
	struct saved saved;

	list.loop = &loop_flag;
	TAILQ_INIT(&dev.items);
	TAILQ_INIT(&copy.items);
	add(&dev.items, 1, 2);
	add(&dev.items, 2, 1);
	expect_saved(&desc, &dev, "02 00 01 01 00 02 00");
	saved = save_ok(&desc, &dev);
	load_ok(&desc, &copy, 0, &saved);
	expect_values(&copy.items, (uint16_t[]){ 1, 2 }, 2);
	cr_assert_eq(TAILQ_FIRST(&copy.items)->flag, 2);
	cr_assert_eq(TAILQ_LAST(&copy.items, items)->flag, 1);
	load_hex_fails(&desc, &copy, 0, "01 00 01 03 00 02 00", ".items: ", "loop byte 3");
	free(saved.data);
	clear(&dev.items);
	clear(&copy.items);
}

/* --- an element with memory of its own, and an allocator that counts --- */

struct packet {
	uint32_t len;
	uint8_t *data; /* owned */
	bool last;
	TAILQ_ENTRY(packet) entry;
};

struct nic {
	TAILQ_HEAD(, packet) txq;
};

static int packets_alive; /* each test is a process of its own */
static int packets_left;  /* until the allocator fails */

static void *packet_alloc(size_t size)
{
	cr_assert_eq(size, sizeof(struct packet));
	if (packets_left-- == 0)
		return NULL;
	packets_alive++;
	return calloc(1, size);
}

static void packet_free(void *element)
{
	struct packet *packet = element;

	packets_alive--;
	free(packet->data);
	free(packet);
}

static const struct vmstate_field packet_fields[] = {
	VMSTATE_ONE(UINT32, len, struct packet),
	VMSTATE_ALLOC_BUFFER(data, struct packet, len, 8),
	VMSTATE_ONE(BOOL, last, struct packet),
	VMSTATE_END,
};
static const struct vmstate_desc packet_desc = { .name = "packet", .fields = packet_fields };
static const struct vmstate_list txq_list = VMSTATE_TAILQ_OF(
	struct packet, entry, packet_desc, 4, .alloc = packet_alloc, .free = packet_free);
static const struct vmstate_field nic_fields[] = {
	VMSTATE_QTAILQ(txq, struct nic, txq_list, struct packet),
	VMSTATE_END,
};
static const struct vmstate_desc nic_desc = { .name = "nic", .fields = nic_fields };

#define PACKET_A "01 00 00 00 01 61 00 "
#define PACKET_BC "01 00 00 00 02 62 63 01 "

static void load_hex_ok(const struct vmstate_desc *desc, void *opaque, const char *hex)
{
	uint8_t bytes[256];
	struct saved saved = { bytes, bytes_of(hex, bytes, sizeof(bytes)) };

	load_ok(desc, opaque, 0, &saved);
}

/*
 * Whatever goes wrong, and wherever: the two packets that were there stay, and nothing else does.
 */
Test(vmstate_list, a_load_that_fails_midway_changes_and_leaks_nothing)
{
	static const struct {
		const char *hex, *path, *text;
	} bad[] = {
		{ PACKET_A PACKET_BC "01 00 00 00 09", ".txq[2].data: ", "at most 8" },
		{ PACKET_A "01 00 00 00 01 61 02", ".txq[1].last: ", "value 2" },
		{ PACKET_A PACKET_BC "01 00 00 00 03 61", ".txq[2].data: ", "ends" },
		{ PACKET_A PACKET_BC "07", ".txq: ", "loop byte 7" },
		{ PACKET_A PACKET_BC, ".txq: ", "ends" },
		{ PACKET_A PACKET_A PACKET_A PACKET_A "01", ".txq: ", "more than 4" },
	};
	struct packet *first, *second;
	struct nic nic;

	TAILQ_INIT(&nic.txq);
	packets_left = 1000;
	load_hex_ok(&nic_desc, &nic, PACKET_A PACKET_BC "00");
	expect_saved(&nic_desc, &nic, PACKET_A PACKET_BC "00");
	first = TAILQ_FIRST(&nic.txq);
	second = TAILQ_NEXT(first, entry);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		load_hex_fails(&nic_desc, &nic, 0, bad[i].hex, bad[i].path, bad[i].text);
		cr_assert_eq(packets_alive, 2, "row %zu: %d packets", i, packets_alive);
		cr_assert(TAILQ_FIRST(&nic.txq) == first && TAILQ_NEXT(first, entry) == second);
		expect_saved(&nic_desc, &nic, PACKET_A PACKET_BC "00");
	}
	packets_left = 1;
	load_hex_fails(&nic_desc, &nic, 0, PACKET_A PACKET_BC "00", ".txq", "out of memory");
	cr_assert_eq(packets_alive, 2);
	load_hex_ok(&nic_desc, &nic, "00"); /* an empty list takes the place of a full one */
	cr_assert(TAILQ_EMPTY(&nic.txq));
	cr_assert_eq(packets_alive, 0);
}

/* --- lists in arrays, and lists of lists --- */

struct fan {
	struct items queues[3];
};

static const struct vmstate_field fan_fields[] = {
	{ .name = "queues",
	  .kind = VMSTATE_KIND_LIST,
	  .list = &items_list,
	  .count = 3,
	  .element_size = sizeof(struct item),
	  .size = sizeof(struct items),
	  .offset = offsetof(struct fan, queues) },
	VMSTATE_END,
};
static const struct vmstate_desc fan_desc = { .name = "fan", .fields = fan_fields };

Test(vmstate_list, lists_in_an_array)
{
	struct fan fan;

	vmstate_check(&fan_desc);
	for (unsigned int i = 0; i < 3; i++)
		TAILQ_INIT(&fan.queues[i]);
	load_hex_ok(&fan_desc, &fan, "01 00 01 01 00 02 00 00 01 00 03 00");
	expect_values(&fan.queues[0], (uint16_t[]){ 1, 2 }, 2);
	expect_values(&fan.queues[1], NULL, 0);
	expect_values(&fan.queues[2], (uint16_t[]){ 3 }, 1);
	expect_saved(&fan_desc, &fan, "01 00 01 01 00 02 00 00 01 00 03 00");
	load_hex_fails(&fan_desc, &fan, 0, "00 01 00 01 01 00 02 01 00",
		       ".queues[1][2].value: ", "ends");
	for (unsigned int i = 0; i < 3; i++)
		clear(&fan.queues[i]);
}

/* --- a list with the device's own links: singly linked, pushed at the end by walking there --- */

struct node {
	uint16_t value;
	struct node *next;
};

static void *node_first(const struct vmstate_list *list, const void *head)
{
	(void)list;
	return *(struct node *const *)head;
}

static void *node_next(const struct vmstate_list *list, const void *head, const void *element)
{
	(void)list;
	(void)head;
	return ((const struct node *)element)->next;
}

static void node_attach(const struct vmstate_list *list, void *head, void *const *elements,
			uint32_t n)
{
	struct node **at = head;

	cr_assert_eq(list->element_size, sizeof(struct node));
	for (uint32_t i = 0; i < n; i++) {
		*at = elements[i];
		at = &(*at)->next;
	}
	*at = NULL;
}

static const struct vmstate_list_links node_links = { .first = node_first,
						      .next = node_next,
						      .attach = node_attach };
static const struct vmstate_field node_fields[] = {
	VMSTATE_ONE(UINT16, value, struct node),
	VMSTATE_END,
};
static const struct vmstate_desc node_desc = { .name = "node", .fields = node_fields };
static const struct vmstate_list node_list = {
	.loop = &loop_42,
	.links = &node_links,
	.element = &node_desc,
	.element_size = sizeof(struct node),
	.max_elements = 100,
};

Test(vmstate_list, a_list_with_links_of_its_own)
{
	struct {
		struct node *head;
	} dev = { NULL };
	const struct vmstate_field fields[] = {
		VMSTATE_OWN_LIST(head, __typeof__(dev), node_list, struct node),
		VMSTATE_END,
	};
	const struct vmstate_desc desc = { .name = "own", .fields = fields };

	load_hex_ok(&desc, &dev, "2a 00 05 2a 00 06 2a 00 07 00");
	expect_saved(&desc, &dev, "2a 00 05 2a 00 06 2a 00 07 00");
	load_hex_fails(&desc, &dev, 0, "2a 00 05 2a 00", ".head[1].value: ", "ends");
	expect_saved(&desc, &dev, "2a 00 05 2a 00 06 2a 00 07 00");
	load_hex_ok(&desc, &dev, "2a 00 09 00");
	cr_assert(dev.head->value == 9 && !dev.head->next);
	load_hex_ok(&desc, &dev, "00");
	cr_assert_null(dev.head);
}
