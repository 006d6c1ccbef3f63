/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The saving walker. Beside the bytes it can write the description that lets a stranger's tool read them. */
#include <assert.h>

#include "migration/stream/protocol.h"
#include "migration/stream/vmstate_walk.h"
#include "vmm/base/cleanup.h"

static bool save_version(struct stream_out *out, const struct vmstate_desc *desc, void *opaque,
			 uint32_t version_id, json_t *json, struct error **errp);

static void save_scalar(struct stream_out *out, enum vmstate_kind kind, const void *p)
{
	unsigned int width = vmstate_scalar_width(kind);
	uint64_t value = vmstate_scalar_get(p, width);

	switch (width) {
	case 1:
		put_u8(out, (uint8_t)value);
		break;
	case 2:
		put_u16(out, (uint16_t)value);
		break;
	case 4:
		put_u32(out, (uint32_t)value);
		break;
	default:
		put_u64(out, value);
	}
}

static void save_bitmap(struct stream_out *out, const uint64_t *words, uint32_t bits)
{
	for (size_t i = 0; i < BITMAP_WORDS(bits); i++)
		put_u64(out, words[i]);
}

static void save_unused(struct stream_out *out, size_t size)
{
	while (size--)
		put_u8(out, 0);
}

static bool save_list_element(struct stream_out *out, const struct vmstate_list *list, uint8_t *e,
			      struct error **errp)
{
	const struct vmstate_list_loop *loop = vmstate_loop_of(list);

	if (!loop->no_marks) {
		uint8_t mark = loop->more ? loop->more : e[loop->flag_offset];

		assert(mark);
		put_u8(out, mark);
	}
	return vmstate_save(out, list->element, e, NULL, errp);
}

static bool save_list(struct stream_out *out, const struct vmstate_list *list, void *head,
		      struct error **errp)
{
	uint32_t n = 0, index = 0;
	void *e;

	for (e = list->links->first(list, head); e; e = list->links->next(list, head, e))
		n++;
	if (n > list->max_elements) {
		error_set(errp, ": %u elements, at most %u are allowed", n, list->max_elements);
		return false;
	}
	if (vmstate_loop_of(list)->count_first)
		put_u32(out, n);
	for (e = list->links->first(list, head); e; e = list->links->next(list, head, e)) {
		if (!save_list_element(out, list, e, errp)) {
			error_prefix(errp, "[%u]", index);
			return false;
		}
		index++;
	}
	if (!vmstate_loop_of(list)->no_marks)
		put_u8(out, 0);
	return true;
}

static bool save_struct(struct stream_out *out, const struct vmstate_field *field, void *p,
			json_t *json, struct error **errp)
{
	json_t *nested = json ? json_object() : NULL;
	bool ok = save_version(out, field->desc, p, vmstate_struct_version(field), nested, errp);

	if (json)
		json_object_set_new(json, "struct", nested);
	return ok;
}

/* n: elements of a BUFFER (bytes, if they are counted) or a BITMAP (bits). */
static bool save_element(struct stream_out *out, const struct vmstate_field *field, void *p,
			 uint32_t n, json_t *json, struct error **errp)
{
	switch (field->kind) {
	case VMSTATE_KIND_BUFFER:
		put_bytes(out, p, (size_t)n * field->size);
		return true;
	case VMSTATE_KIND_BITMAP:
		save_bitmap(out, p, n);
		return true;
	case VMSTATE_KIND_UNUSED:
		save_unused(out, field->size);
		return true;
	case VMSTATE_KIND_LIST:
		return save_list(out, field->list, p, errp);
	case VMSTATE_KIND_STRUCT:
		return save_struct(out, field, p, json, errp);
	default:
		save_scalar(out, field->kind, p);
		return true;
	}
}

/* One entry of a description's "fields". index < 0: the field is no array, or stands for the whole array. */
static json_t *describe(const struct vmstate_field *field, const char *type, uint32_t array_len,
			int64_t index)
{
	json_t *json = json_object();

	json_object_set_new(json, "name", json_string(field->name));
	if (index >= 0)
		json_object_set_new(json, "index", json_integer(index));
	else if (array_len != 1)
		json_object_set_new(json, "array_len", json_integer(array_len));
	json_object_set_new(json, "type", json_string(type));
	return json;
}

/* Buffers and bitmaps are one element, however long. */
static bool is_one_piece(const struct vmstate_field *field)
{
	return field->kind == VMSTATE_KIND_BUFFER || field->kind == VMSTATE_KIND_BITMAP;
}

static bool save_array(struct stream_out *out, const struct vmstate_field *field, uint8_t *base,
		       uint32_t length, json_t *fields, struct error **errp)
{
	/* Elements of one size need one description for all of them. */
	bool uniform = field->kind != VMSTATE_KIND_STRUCT && field->kind != VMSTATE_KIND_LIST &&
		       !(field->flags & VMSTATE_POINTERS);
	uint32_t n = is_one_piece(field) ? 1 : length;

	for (uint32_t i = 0; i < n; i++) {
		uint8_t *p = i ? base + (size_t)i * field->size : base; /* NULL for no bytes */
		uint64_t start = stream_out_position(out);
		json_t *json = NULL;
		const char *type = vmstate_field_type(field);

		if (field->flags & VMSTATE_POINTERS) {
			p = ((uint8_t **)base)[i];
			type = p ? type : "nullptr";
		}
		if (fields && !(uniform && i > 0))
			json = describe(field, type, n, uniform || n == 1 ? -1 : (int64_t)i);
		if (!p && field->flags & VMSTATE_POINTERS) {
			put_u8(out, VMSTATE_NULL_MARKER);
		} else if (!save_element(out, field, p, length, json, errp)) {
			json_decref(json);
			if (n > 1)
				error_prefix(errp, "[%u]", i);
			return false;
		}
		if (json) {
			json_object_set_new(
				json, "size",
				json_integer((json_int_t)(stream_out_position(out) - start)));
			json_array_append_new(fields, json);
		}
	}
	return true;
}

/* See VMSTATE_TEMPORARY. */
static bool save_temporary(struct stream_out *out, const struct vmstate_field *field, void *opaque,
			   json_t *fields, struct error **errp)
{
	scoped_free void **temporary = xcalloc(1, field->size);
	bool ok;

	temporary[0] = opaque;
	ok = save_array(out, field, (uint8_t *)temporary, 1, fields, errp);
	vmstate_release(field->desc, temporary);
	return ok;
}

static bool save_field(struct stream_out *out, const struct vmstate_field *field, void *opaque,
		       json_t *fields, struct error **errp)
{
	uint8_t *base = (uint8_t *)opaque + field->offset;
	uint32_t n = field->count;

	if (field->flags & VMSTATE_TEMP)
		return save_temporary(out, field, opaque, fields, errp);
	if (field->flags & VMSTATE_COUNTED) {
		n = vmstate_field_counter(field, opaque);
		assert(n <= field->count);
	}
	if (field->flags & VMSTATE_POINTER)
		base = *(uint8_t **)base;
	return save_array(out, field, base, n, fields, errp);
}

static bool save_fields(struct stream_out *out, const struct vmstate_desc *desc, void *opaque,
			uint32_t version_id, json_t *fields, struct error **errp)
{
	for (const struct vmstate_field *f = desc->fields; f && f->kind; f++) {
		if (vmstate_field_exists(f, opaque, version_id) &&
		    !save_field(out, f, opaque, fields, errp)) {
			error_prefix(errp, ".%s", f->name);
			return false;
		}
	}
	return true;
}

static bool save_subsection(struct stream_out *out, const struct vmstate_desc *sub, void *opaque,
			    json_t *json, struct error **errp)
{
	json_t *list = json ? json_object_get(json, "subsections") : NULL;
	json_t *own = json ? json_object() : NULL;

	if (json && !list) {
		list = json_array();
		json_object_set_new(json, "subsections", list);
	}
	if (json)
		json_array_append_new(list, own);
	put_u8(out, SECTION_SUBSECTION);
	put_name(out, sub->name);
	put_u32(out, sub->version_id);
	if (vmstate_save(out, sub, opaque, own, errp))
		return true;
	error_prefix(errp, "(%s)", sub->name);
	return false;
}

static bool save_version(struct stream_out *out, const struct vmstate_desc *desc, void *opaque,
			 uint32_t version_id, json_t *json, struct error **errp)
{
	json_t *fields = json ? json_array() : NULL;
	bool ok;

	if (json) {
		json_object_set_new(json, "vmsd_name", json_string(desc->name));
		json_object_set_new(json, "version", json_integer(version_id));
		json_object_set_new(json, "fields", fields);
	}
	if (desc->pre_save && !desc->pre_save(opaque, errp)) {
		error_prefix(errp, ": ");
		return false;
	}
	ok = save_fields(out, desc, opaque, version_id, fields, errp);
	for (size_t i = 0; ok && desc->subsections && desc->subsections[i]; i++) {
		const struct vmstate_desc *sub = desc->subsections[i];

		if (!sub->needed || sub->needed(opaque))
			ok = save_subsection(out, sub, opaque, json, errp);
	}
	if (desc->post_save)
		desc->post_save(opaque);
	return ok;
}

bool vmstate_save(struct stream_out *out, const struct vmstate_desc *desc, void *opaque,
		  json_t *json, struct error **errp)
{
	return save_version(out, desc, opaque, desc->version_id, json, errp);
}
