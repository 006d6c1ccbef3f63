/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/stream/section.h"

#include <assert.h>
#include <string.h>

#include "migration/stream/protocol.h"

void section_table_add(struct section_table *table, const char *idstr, uint32_t instance_id,
		       const struct vmstate_desc *desc, void *opaque)
{
	unsigned int at;

	assert(table->n < SECTION_TABLE_MAX && strlen(idstr) <= STREAM_NAME_MAX);
	assert(!section_find(table, idstr, instance_id));
	vmstate_check(desc);
	for (at = table->n; at > 0 && table->items[at - 1].desc->priority < desc->priority; at--)
		table->items[at] = table->items[at - 1];
	table->items[at] = (struct section){ idstr, instance_id, desc, opaque };
	table->n++;
}

const struct section *section_find(const struct section_table *table, const char *idstr,
				   uint32_t instance_id)
{
	for (unsigned int i = 0; i < table->n; i++)
		if (table->items[i].instance_id == instance_id &&
		    strcmp(table->items[i].idstr, idstr) == 0)
			return &table->items[i];
	return NULL;
}

void section_put_header(struct stream_out *out, uint8_t type, uint32_t section_id,
			const char *idstr, uint32_t instance_id, uint32_t version_id)
{
	put_u8(out, type);
	put_u32(out, section_id);
	put_name(out, idstr);
	put_u32(out, instance_id);
	put_u32(out, version_id);
}

void section_put_footer(struct stream_out *out, uint32_t section_id)
{
	put_u8(out, SECTION_FOOTER);
	put_u32(out, section_id);
}

void section_get_footer(struct stream_in *in, uint32_t section_id)
{
	uint8_t type = get_u8(in);
	uint32_t id = get_u32(in);

	if (type != SECTION_FOOTER || id != section_id)
		stream_in_fail(
			in, "section %u ends with byte 0x%02x and id %u, expected a footer 0x%02x",
			section_id, type, id, SECTION_FOOTER);
}

bool section_save(struct stream_out *out, const struct section *section, uint32_t section_id,
		  json_t *devices, struct error **errp)
{
	json_t *json = devices ? json_object() : NULL;

	if (json) {
		json_object_set_new(json, "name", json_string(section->idstr));
		json_object_set_new(json, "instance_id", json_integer(section->instance_id));
		json_array_append_new(devices, json);
	}
	section_put_header(out, SECTION_FULL, section_id, section->idstr, section->instance_id,
			   section->desc->version_id);
	if (!vmstate_save(out, section->desc, section->opaque, json, errp)) {
		error_prefix(errp, "%s[%u]", section->idstr, section->instance_id);
		return false;
	}
	section_put_footer(out, section_id);
	return true;
}

bool section_load(struct stream_in *in, const struct section *section, uint32_t section_id,
		  uint32_t version_id, struct error **errp)
{
	if (!vmstate_load(in, section->desc, section->opaque, version_id, errp)) {
		error_prefix(errp, "%s[%u]", section->idstr, section->instance_id);
		return false;
	}
	section_get_footer(in, section_id);
	if (stream_in_take_error(in, errp))
		return true;
	error_prefix(errp, "%s[%u]: ", section->idstr, section->instance_id);
	return false;
}
