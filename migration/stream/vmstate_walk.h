/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the walkers over a VMState table share; for migration/stream/vmstate*.c alone. */
#ifndef FERRY_STREAM_VMSTATE_WALK_H
#define FERRY_STREAM_VMSTATE_WALK_H

#include "migration/stream/vmstate.h"

#define BITMAP_WORDS(bits) (((size_t)(bits) + 63) / 64)

/* Bytes of a scalar kind, on the wire and in memory; 0: not a scalar. */
unsigned int vmstate_scalar_width(enum vmstate_kind kind);
/* Does the loader compare instead of taking? */
bool vmstate_kind_is_equal(enum vmstate_kind kind);
uint64_t vmstate_scalar_get(const void *p, unsigned int width);
void vmstate_scalar_set(void *p, unsigned int width, uint64_t value);
/* Does the field exist in a stream of this version? */
bool vmstate_field_exists(const struct vmstate_field *field, const void *opaque,
			  uint32_t version_id);
/* The version of a nested struct that is inline. */
uint32_t vmstate_struct_version(const struct vmstate_field *field);
/* What the field's counter says. */
uint32_t vmstate_field_counter(const struct vmstate_field *field, const void *opaque);
/* Bytes in memory of n elements (of n bytes, of n bits). */
size_t vmstate_elements_size(const struct vmstate_field *field, uint32_t n);
/* Release one element: a struct, a list, or nothing. */
void vmstate_release_element(const struct vmstate_field *field, void *element);
static inline const struct vmstate_list_loop *vmstate_loop_of(const struct vmstate_list *list)
{
	return list->loop ? list->loop : &vmstate_loop_one;
}

/* The elements of a list, in an array to be freed; elements of a list by value are copied. */
void **vmstate_list_elements(const struct vmstate_list *list, const void *head, uint32_t *n);
/* Release and free an element; of a list by value, the copy. */
void vmstate_list_free_element(const struct vmstate_list *list, void *element);

#endif
