/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/stream/vmstate_undo.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/cleanup.h"

struct vmstate_undo_note {
	enum { NOTE_BYTES, NOTE_POINTER, NOTE_LIST } type;
	void *where;
	size_t size, at;		   /* BYTES: so many, in undo->bytes from `at` */
	const struct vmstate_field *field; /* POINTER */
	void *old;			   /* ... to old_n elements; new_n now */
	const struct vmstate_list *list;   /* LIST */
	void **elements;		   /* ... old_n of them */
	uint32_t old_n, new_n;
};

/* Room for one more at least; doubles. */
static void *more_room(void *p, size_t *room, size_t want, size_t size)
{
	if (want <= *room)
		return p;
	*room = MAX_OF(want, *room * 2);
	return xrealloc(p, *room * size);
}

static struct vmstate_undo_note *new_note(struct vmstate_undo *undo)
{
	undo->notes =
		more_room(undo->notes, &undo->notes_room, undo->nnotes + 1, sizeof(*undo->notes));
	return &undo->notes[undo->nnotes++];
}

void vmstate_undo_bytes(struct vmstate_undo *undo, void *p, size_t size)
{
	if (!undo || !size)
		return;
	undo->bytes = more_room(undo->bytes, &undo->bytes_room, undo->nbytes + size, 1);
	memcpy(undo->bytes + undo->nbytes, p, size);
	*new_note(undo) = (struct vmstate_undo_note){
		.type = NOTE_BYTES, .where = p, .size = size, .at = undo->nbytes
	};
	undo->nbytes += size;
}

/*
 * How many elements lie in *slot now. The counter has been loaded before the array, so it says what the stream has. If this load
 * has replaced the array before (a stream may say a subsection twice), that note knows; else the first note of the counter.
 */
static uint32_t elements_in_place(const struct vmstate_undo *undo,
				  const struct vmstate_field *field, const void *opaque)
{
	const void *counter = (const char *)opaque + field->count_offset;
	const void *slot = (const char *)opaque + field->offset;
	uint64_t n = vmstate_field_counter(field, opaque);

	for (size_t i = undo->nnotes; i-- > 0;) {
		const struct vmstate_undo_note *note = &undo->notes[i];

		if (note->type == NOTE_POINTER && note->where == slot)
			return note->new_n;
		if (note->type == NOTE_BYTES && note->where == counter) {
			uint64_t old = 0; /* aligned, which a note need not be */

			memcpy(&old, undo->bytes + note->at, field->count_size);
			n = vmstate_scalar_get(&old, field->count_size);
		}
	}
	return (uint32_t)n;
}

static void free_elements(const struct vmstate_field *field, void *elements, uint32_t n)
{
	if (elements && field->kind == VMSTATE_KIND_STRUCT)
		for (uint32_t i = 0; i < n; i++)
			vmstate_release_element(field, (char *)elements + i * field->size);
	free(elements);
}

void vmstate_undo_replace(struct vmstate_undo *undo, const struct vmstate_field *field,
			  void *opaque, void *fresh, uint32_t n)
{
	void **slot = (void **)((char *)opaque + field->offset);

	if (undo) {
		uint32_t old_n = elements_in_place(undo, field, opaque);

		*new_note(undo) = (struct vmstate_undo_note){ .type = NOTE_POINTER,
							      .where = slot,
							      .field = field,
							      .old = *slot,
							      .old_n = old_n,
							      .new_n = n };
	} else {
		/* Memory of this load was zeroed, and a table names an array once. */
		free_elements(field, *slot, 0);
	}
	*slot = fresh;
}

static void free_list_elements(const struct vmstate_list *list, void **elements, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		vmstate_list_free_element(list, elements[i]);
	free(elements);
}

/* What was in the elements is in the list; the copies go without it. */
static void free_copies(const struct vmstate_list *list, void **elements, uint32_t n)
{
	for (uint32_t i = 0; list->links->by_value && i < n; i++)
		free(elements[i]);
}

void vmstate_undo_attach(struct vmstate_undo *undo, const struct vmstate_list *list, void *head,
			 void **elements, uint32_t n)
{
	uint32_t old_n;
	void **old = vmstate_list_elements(list, head, &old_n);

	list->links->attach(list, head, elements, n);
	free_copies(list, elements, n);
	if (undo)
		*new_note(undo) = (struct vmstate_undo_note){ .type = NOTE_LIST,
							      .where = head,
							      .list = list,
							      .elements = old,
							      .old_n = old_n };
	else
		free_list_elements(list, old, old_n);
}

static void forget(struct vmstate_undo *undo)
{
	free(undo->notes);
	free(undo->bytes);
	*undo = (struct vmstate_undo){ 0 };
}

void vmstate_undo_commit(struct vmstate_undo *undo)
{
	for (size_t i = 0; i < undo->nnotes; i++) {
		struct vmstate_undo_note *note = &undo->notes[i];

		if (note->type == NOTE_POINTER)
			free_elements(note->field, note->old, note->old_n);
		else if (note->type == NOTE_LIST)
			free_list_elements(note->list, note->elements, note->old_n);
	}
	forget(undo);
}

static void put_back_list(struct vmstate_undo_note *note)
{
	uint32_t n;
	void **fresh = vmstate_list_elements(note->list, note->where, &n);

	note->list->links->attach(note->list, note->where, note->elements, note->old_n);
	free_copies(note->list, note->elements, note->old_n);
	free(note->elements);
	free_list_elements(note->list, fresh, n);
}

void vmstate_undo_rollback(struct vmstate_undo *undo)
{
	for (size_t i = undo->nnotes; i-- > 0;) {
		struct vmstate_undo_note *note = &undo->notes[i];

		switch (note->type) {
		case NOTE_BYTES:
			memcpy(note->where, undo->bytes + note->at, note->size);
			break;
		case NOTE_POINTER:
			free_elements(note->field, *(void **)note->where, note->new_n);
			*(void **)note->where = note->old;
			break;
		case NOTE_LIST:
			put_back_list(note);
			break;
		}
	}
	forget(undo);
}
