/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the walkers share: kinds, existence, counts, releasing; and what a description must keep to. */
#include "migration/stream/vmstate.h"

#include <assert.h>
#include <string.h>

#include "migration/stream/vmstate_walk.h"

static const struct {
	const char *name;
	unsigned int width; /* of a scalar */
	bool equal;
} kinds[] = {
	[VMSTATE_KIND_BOOL] = { "bool", 1, false },
	[VMSTATE_KIND_UINT8] = { "uint8", 1, false },
	[VMSTATE_KIND_UINT16] = { "uint16", 2, false },
	[VMSTATE_KIND_UINT32] = { "uint32", 4, false },
	[VMSTATE_KIND_UINT64] = { "uint64", 8, false },
	[VMSTATE_KIND_INT8] = { "int8", 1, false },
	[VMSTATE_KIND_INT16] = { "int16", 2, false },
	[VMSTATE_KIND_INT32] = { "int32", 4, false },
	[VMSTATE_KIND_INT64] = { "int64", 8, false },
	[VMSTATE_KIND_UINT8_EQUAL] = { "uint8 equal", 1, true },
	[VMSTATE_KIND_UINT16_EQUAL] = { "uint16 equal", 2, true },
	[VMSTATE_KIND_UINT32_EQUAL] = { "uint32 equal", 4, true },
	[VMSTATE_KIND_UINT64_EQUAL] = { "uint64 equal", 8, true },
	[VMSTATE_KIND_TIMER] = { "timer", 8, false },
	[VMSTATE_KIND_BUFFER] = { "buffer", 0, false },
	[VMSTATE_KIND_BITMAP] = { "bitmap", 0, false },
	[VMSTATE_KIND_UNUSED] = { "unused_buffer", 0, false },
	[VMSTATE_KIND_STRUCT] = { "struct", 0, false },
	[VMSTATE_KIND_LIST] = { "list", 0, false },
};

const char *vmstate_field_type(const struct vmstate_field *field)
{
	if (field->kind == VMSTATE_KIND_LIST && vmstate_loop_of(field->list)->type)
		return vmstate_loop_of(field->list)->type;
	return kinds[field->kind].name;
}

unsigned int vmstate_scalar_width(enum vmstate_kind kind)
{
	return kinds[kind].width;
}

bool vmstate_kind_is_equal(enum vmstate_kind kind)
{
	return kinds[kind].equal;
}

uint64_t vmstate_scalar_get(const void *p, unsigned int width)
{
	switch (width) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		return *(const uint64_t *)p;
	}
}

void vmstate_scalar_set(void *p, unsigned int width, uint64_t value)
{
	switch (width) {
	case 1:
		*(uint8_t *)p = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)p = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)p = (uint32_t)value;
		break;
	default:
		*(uint64_t *)p = value;
	}
}

bool vmstate_field_exists(const struct vmstate_field *field, const void *opaque,
			  uint32_t version_id)
{
	if (field->exists)
		return field->exists(opaque, version_id);
	return field->version_id <= version_id;
}

uint32_t vmstate_struct_version(const struct vmstate_field *field)
{
	return field->struct_version ? field->struct_version : field->desc->version_id;
}

uint32_t vmstate_field_counter(const struct vmstate_field *field, const void *opaque)
{
	return (uint32_t)vmstate_scalar_get((const uint8_t *)opaque + field->count_offset,
					    field->count_size);
}

size_t vmstate_elements_size(const struct vmstate_field *field, uint32_t n)
{
	return field->kind == VMSTATE_KIND_BITMAP ? BITMAP_WORDS(n) * sizeof(uint64_t)
						  : (size_t)n * field->size;
}

/* --- releasing --- */

void vmstate_release_element(const struct vmstate_field *field, void *element)
{
	uint32_t n;
	void **elements;

	if (field->kind == VMSTATE_KIND_STRUCT) {
		vmstate_release(field->desc, element);
	} else if (field->kind == VMSTATE_KIND_LIST) {
		elements = vmstate_list_elements(field->list, element, &n);
		field->list->links->attach(field->list, element, NULL, 0);
		while (n-- > 0)
			vmstate_list_free_element(field->list, elements[n]);
		free(elements);
	}
}

static void release_field(const struct vmstate_field *field, void *opaque)
{
	uint8_t *member = (uint8_t *)opaque + field->offset, *base = member;
	uint32_t n = field->count;

	if (field->kind != VMSTATE_KIND_STRUCT && field->kind != VMSTATE_KIND_LIST &&
	    !(field->flags & VMSTATE_ALLOC))
		return;
	if (field->flags & (VMSTATE_POINTER | VMSTATE_POINTERS)) {
		if (!(field->flags & VMSTATE_ALLOC))
			return; /* the device's own */
		base = *(uint8_t **)member;
		n = base ? vmstate_field_counter(field, opaque) : 0;
	}
	for (uint32_t i = 0; i < n; i++)
		vmstate_release_element(field, base + (size_t)i * field->size);
	if (field->flags & VMSTATE_ALLOC) {
		free(base);
		*(void **)member = NULL;
	}
}

void vmstate_release(const struct vmstate_desc *desc, void *opaque)
{
	for (const struct vmstate_field *f = desc->fields; f && f->kind; f++)
		if (!(f->flags & VMSTATE_TEMP))
			release_field(f, opaque);
	for (size_t i = 0; desc->subsections && desc->subsections[i]; i++)
		vmstate_release(desc->subsections[i], opaque);
}

/* --- checks --- */

/* Inside another one a description has no version on the wire: what changes needs a new version of the outer one. */
static void check_nested(const struct vmstate_desc *desc, uint32_t version)
{
	assert(!desc->subsections);
	assert(version <= desc->version_id);
	for (const struct vmstate_field *f = desc->fields; f && f->kind; f++) {
		assert(version || f->version_id <= desc->minimum_version_id);
		for (const struct vmstate_field *g = desc->fields; g != f; g++)
			assert(!(f->flags & VMSTATE_ALLOC) || g->offset != f->offset);
	}
	vmstate_check(desc);
}

/* The field that counts the elements of f is loaded before them. */
static void check_counter(const struct vmstate_desc *desc, const struct vmstate_field *f)
{
	const struct vmstate_field *c = desc->fields;

	while (c != f && !(c->offset == f->count_offset && !c->flags && c->count == 1 &&
			   vmstate_scalar_width(c->kind) == f->count_size))
		c++;
	assert(c != f);
}

static void check_list(const struct vmstate_list *list)
{
	const struct vmstate_list_loop *loop = vmstate_loop_of(list);

	assert(list->max_elements && list->element_size);
	assert(!loop->no_marks || loop->count_first);
	assert(loop->no_marks || loop->more || loop->flag_max);
	assert(!list->links->by_value || (!list->alloc && !list->free));
	check_nested(list->element, 0);
}

static void check_field(const struct vmstate_desc *desc, const struct vmstate_field *f)
{
	unsigned int width = vmstate_scalar_width(f->kind);

	assert(f->name && f->count);
	if (f->flags & VMSTATE_COUNTED)
		check_counter(desc, f);
	assert((f->kind == VMSTATE_KIND_STRUCT) == !!f->desc);
	assert((f->kind == VMSTATE_KIND_LIST) == !!f->list);
	assert(!width || f->size == width);
	assert(!(f->flags & VMSTATE_ALLOC) ||
	       (f->flags & VMSTATE_POINTER && f->flags & VMSTATE_COUNTED));
	assert(!(f->flags & VMSTATE_TEMP) || f->flags == VMSTATE_TEMP);
	if (f->desc)
		check_nested(f->desc, f->struct_version);
	if (f->list) {
		assert(f->element_size == f->list->element_size);
		assert(!f->flags);
		check_list(f->list);
	}
}

void vmstate_check(const struct vmstate_desc *desc)
{
	assert(desc->name && strlen(desc->name) <= STREAM_NAME_MAX);
	assert(desc->minimum_version_id <= desc->version_id);
	for (const struct vmstate_field *f = desc->fields; f && f->kind; f++)
		check_field(desc, f);
	for (size_t i = 0; desc->subsections && desc->subsections[i]; i++) {
		const struct vmstate_desc *sub = desc->subsections[i];
		size_t len = strlen(desc->name);

		assert(strncmp(sub->name, desc->name, len) == 0 && sub->name[len] == '/');
		vmstate_check(sub);
	}
}
