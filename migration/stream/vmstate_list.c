/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How lists hang together. They are walked without knowing the C types of head and element, by the layouts that the macros of
 * <sys/queue.h> make, which are asserted here.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "migration/stream/vmstate_walk.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/queue.h"

const struct vmstate_list_loop vmstate_loop_one = { .type = "qtailq", .more = 1 };
const struct vmstate_list_loop vmstate_loop_count = { .count_first = true, .no_marks = true };
const struct vmstate_list_loop vmstate_loop_map = { .type = "gtree",
						    .count_first = true,
						    .more = 1 };

/* TAILQ: prev_next of an element, and the head's last_next, point to the pointer that points there.
 * LIST: the same, and the head has no end. SLIST: entries are `next` alone. */
struct any_head {
	void *first;
	void **last_next;
};

struct any_entry {
	void *next;
	void **prev_next;
};

struct layout_probe {
	TAILQ_ENTRY(layout_probe) tq;
	LIST_ENTRY(layout_probe) l;
	SLIST_ENTRY(layout_probe) sl;
};
TAILQ_HEAD(tq_probe, layout_probe);
LIST_HEAD(l_probe, layout_probe);
SLIST_HEAD(sl_probe, layout_probe);

#define SAME_SIZE(type, member, other) (sizeof(((type *)0)->member) == sizeof(other))
_Static_assert(sizeof(struct any_head) == sizeof(struct tq_probe) &&
		       offsetof(struct tq_probe, tqh_first) == 0 &&
		       offsetof(struct tq_probe, tqh_last) == offsetof(struct any_head, last_next),
	       "TAILQ_HEAD is laid out differently here");
_Static_assert(SAME_SIZE(struct layout_probe, tq, struct any_entry) &&
		       offsetof(struct layout_probe, tq.tqe_prev) ==
			       offsetof(struct any_entry, prev_next),
	       "TAILQ_ENTRY is laid out differently here");
_Static_assert(sizeof(struct l_probe) == sizeof(void *) &&
		       SAME_SIZE(struct layout_probe, l, struct any_entry) &&
		       offsetof(struct layout_probe, l.le_prev) -
				       offsetof(struct layout_probe, l.le_next) ==
			       offsetof(struct any_entry, prev_next),
	       "LIST_HEAD or LIST_ENTRY is laid out differently here");
_Static_assert(sizeof(struct sl_probe) == sizeof(void *) &&
		       SAME_SIZE(struct layout_probe, sl, void *),
	       "SLIST_HEAD or SLIST_ENTRY is laid out differently here");

static void *linked_first(const struct vmstate_list *list, const void *head)
{
	(void)list;
	return *(void *const *)head;
}

/* In each of the entries the pointer to the next element comes first. */
static void *linked_next(const struct vmstate_list *list, const void *head, const void *element)
{
	(void)head;
	return *(void *const *)((const char *)element + list->link);
}

static struct any_entry *entry_of(const struct vmstate_list *list, void *element)
{
	return (struct any_entry *)((char *)element + list->link);
}

static void tailq_attach(const struct vmstate_list *list, void *head, void *const *elements,
			 uint32_t n)
{
	struct any_head *h = head;

	h->first = NULL;
	h->last_next = &h->first;
	for (uint32_t i = 0; i < n; i++) {
		struct any_entry *e = entry_of(list, elements[i]);

		*e = (struct any_entry){ .prev_next = h->last_next };
		*h->last_next = elements[i];
		h->last_next = &e->next;
	}
}

static void list_attach(const struct vmstate_list *list, void *head, void *const *elements,
			uint32_t n)
{
	void **at = head;

	*at = NULL;
	for (uint32_t i = 0; i < n; i++) {
		struct any_entry *e = entry_of(list, elements[i]);

		*e = (struct any_entry){ .prev_next = at };
		*at = elements[i];
		at = &e->next;
	}
}

static void slist_attach(const struct vmstate_list *list, void *head, void *const *elements,
			 uint32_t n)
{
	void **at = head;

	for (uint32_t i = 0; i < n; i++) {
		*at = elements[i];
		at = (void **)((char *)elements[i] + list->link);
	}
	*at = NULL;
}

static uint32_t *array_counter(const struct vmstate_list *list, const void *head)
{
	return (uint32_t *)((char *)head + list->counter);
}

static void *array_next(const struct vmstate_list *list, const void *head, const void *element)
{
	const char *next = (const char *)element + list->element_size;
	uint32_t used = *array_counter(list, head);

	assert(used <= list->max_elements);
	return next < (const char *)head + used * list->element_size ? (void *)next : NULL;
}

static void *array_first(const struct vmstate_list *list, const void *head)
{
	return *array_counter(list, head) ? (void *)head : NULL;
}

static void array_attach(const struct vmstate_list *list, void *head, void *const *elements,
			 uint32_t n)
{
	assert(n <= list->max_elements);
	for (uint32_t i = 0; i < n; i++)
		memcpy((char *)head + i * list->element_size, elements[i], list->element_size);
	*array_counter(list, head) = n;
}

const struct vmstate_list_links vmstate_tailq_links = { linked_first, linked_next, tailq_attach,
							false };
const struct vmstate_list_links vmstate_list_links = { linked_first, linked_next, list_attach,
						       false };
const struct vmstate_list_links vmstate_slist_links = { linked_first, linked_next, slist_attach,
							false };
const struct vmstate_list_links vmstate_array_links = { array_first, array_next, array_attach,
							true };

void **vmstate_list_elements(const struct vmstate_list *list, const void *head, uint32_t *n)
{
	void **elements = NULL;
	uint32_t room = 0;

	*n = 0;
	for (void *e = list->links->first(list, head); e; e = list->links->next(list, head, e)) {
		void *copy;

		if (*n == room) {
			room = room ? room * 2 : 16;
			elements = xrealloc(elements, room * sizeof(*elements));
		}
		if (list->links->by_value) {
			copy = xcalloc(1, list->element_size);
			memcpy(copy, e, list->element_size);
			elements[(*n)++] = copy;
		} else {
			elements[(*n)++] = e;
		}
	}
	return elements;
}

void vmstate_list_free_element(const struct vmstate_list *list, void *element)
{
	vmstate_release(list->element, element);
	if (list->free)
		list->free(element);
	else
		free(element);
}
