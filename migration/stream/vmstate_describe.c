/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A description as JSON, without any state: what a peer of another release has to know to tell whether it can load what this one
 * writes. Nothing of the layout in memory is in it.
 */
#include "migration/stream/vmstate_walk.h"

static void set_int(json_t *json, const char *key, uint64_t value)
{
	json_object_set_new(json, key, json_integer((json_int_t)value));
}

static const char *counter_name(const struct vmstate_desc *desc, const struct vmstate_field *field)
{
	const struct vmstate_field *c = desc->fields;

	while (c->offset != field->count_offset || c->flags || c->count != 1)
		c++;
	return c->name;
}

static json_t *describe_list(const struct vmstate_list *list)
{
	const struct vmstate_list_loop *loop = vmstate_loop_of(list);
	json_t *json = json_object();

	json_object_set_new(json, "count_first", json_boolean(loop->count_first));
	if (loop->no_marks)
		json_object_set_new(json, "mark", json_null());
	else if (loop->more)
		set_int(json, "mark", loop->more);
	else
		set_int(json, "mark_is_a_flag_up_to", loop->flag_max);
	set_int(json, "max", list->max_elements);
	json_object_set_new(json, "element", vmstate_describe(list->element));
	return json;
}

static json_t *describe_field(const struct vmstate_desc *desc, const struct vmstate_field *field)
{
	unsigned int width = vmstate_scalar_width(field->kind);
	json_t *json = json_object();

	json_object_set_new(json, "name", json_string(field->name));
	json_object_set_new(json, "type", json_string(vmstate_field_type(field)));
	if (width)
		set_int(json, "size", width);
	else if (field->kind == VMSTATE_KIND_BUFFER || field->kind == VMSTATE_KIND_UNUSED)
		set_int(json, "size", field->size);
	if (field->flags & VMSTATE_COUNTED) {
		json_object_set_new(json, "counter", json_string(counter_name(desc, field)));
		set_int(json, "max", field->count);
	} else if (field->count != 1) {
		set_int(json, "count", field->count);
	}
	if (field->flags & VMSTATE_POINTERS)
		json_object_set_new(json, "pointers", json_true());
	if (field->exists)
		json_object_set_new(json, "conditional", json_true());
	else if (field->version_id)
		set_int(json, "since_version", field->version_id);
	if (field->desc) {
		set_int(json, "struct_version", vmstate_struct_version(field));
		json_object_set_new(json, "struct", vmstate_describe(field->desc));
	}
	if (field->list)
		json_object_set_new(json, "list", describe_list(field->list));
	return json;
}

json_t *vmstate_describe(const struct vmstate_desc *desc)
{
	json_t *json = json_object(), *fields = json_array(), *subsections = json_array();

	json_object_set_new(json, "name", json_string(desc->name));
	set_int(json, "version", desc->version_id);
	set_int(json, "minimum_version", desc->minimum_version_id);
	if (desc->needed)
		json_object_set_new(json, "needed", json_true());
	for (const struct vmstate_field *f = desc->fields; f && f->kind; f++)
		json_array_append_new(fields, describe_field(desc, f));
	for (size_t i = 0; desc->subsections && desc->subsections[i]; i++)
		json_array_append_new(subsections, vmstate_describe(desc->subsections[i]));
	json_object_set_new(json, "fields", fields);
	if (json_array_size(subsections))
		json_object_set_new(json, "subsections", subsections);
	else
		json_decref(subsections);
	return json;
}
