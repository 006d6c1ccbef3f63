/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine saves: a list of (name, instance) with a description and the state it describes, in the order in which it is
 * loaded. The machine fills it when it is built; it borrows everything it points to.
 */
#ifndef FERRY_STREAM_SECTION_H
#define FERRY_STREAM_SECTION_H

#include "migration/stream/stream.h"
#include "migration/stream/vmstate.h"

#define SECTION_TABLE_MAX 256

struct section {
	const char *idstr;
	uint32_t instance_id;
	const struct vmstate_desc *desc;
	void *opaque;
};

struct section_table {
	struct section items[SECTION_TABLE_MAX];
	unsigned int n;
};

/* Behind all of no lower priority; the table's end and a second section of the same name and instance are bugs of ours and asserted, as is what vmstate_check() asserts. */
void section_table_add(struct section_table *table, const char *idstr, uint32_t instance_id,
		       const struct vmstate_desc *desc, void *opaque);
/* NULL where there is none. */
const struct section *section_find(const struct section_table *table, const char *idstr,
				   uint32_t instance_id);

/* Frame pieces that more than one kind of section uses. */
/* u8 type, be32 section_id, name, be32 instance, be32 version: START and FULL. */
void section_put_header(struct stream_out *out, uint8_t type, uint32_t section_id,
			const char *idstr, uint32_t instance_id, uint32_t version_id);
void section_put_footer(struct stream_out *out, uint32_t section_id);
/* Read a footer; a wrong one is an error of the stream. */
void section_get_footer(struct stream_in *in, uint32_t section_id);

/* A FULL section, with header and footer. `devices`, where not NULL, is a JSON array that gets the section's description. */
bool section_save(struct stream_out *out, const struct section *section, uint32_t section_id,
		  json_t *devices, struct error **errp);
/* The part of a FULL section behind its header; the error begins with "idstr[instance]". */
bool section_load(struct stream_in *in, const struct section *section, uint32_t section_id,
		  uint32_t version_id, struct error **errp);

#endif
