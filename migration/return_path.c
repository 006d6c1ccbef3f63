/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/return_path.h"

#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

void command_put(struct stream_out *out, uint16_t command, const void *data, uint16_t len)
{
	put_u8(out, SECTION_COMMAND);
	message_put(out, command, data, len);
}

void message_get(struct stream_in *in, struct message *msg)
{
	msg->type = get_u16(in);
	msg->len = get_u16(in);
	if (msg->len > COMMAND_DATA_MAX) {
		stream_in_fail(in, "message 0x%x of %u bytes, at most %u are allowed", msg->type,
			       msg->len, COMMAND_DATA_MAX);
		msg->len = 0;
	}
	get_bytes(in, msg->data, msg->len);
	msg->data[msg->len] = '\0';
}

void message_put(struct stream_out *out, uint16_t type, const void *data, uint16_t len)
{
	put_u16(out, type);
	put_u16(out, len);
	put_bytes(out, data, len);
}

void message_put_u32(struct stream_out *out, uint16_t type, uint32_t value)
{
	uint8_t data[4];

	put_be32(data, value);
	message_put(out, type, data, sizeof(data));
}

void message_put_u64(struct stream_out *out, uint16_t type, uint64_t value)
{
	uint8_t data[8];

	put_be64(data, value);
	message_put(out, type, data, sizeof(data));
}

void message_put_text(struct stream_out *out, uint16_t type, const char *text)
{
	message_put(out, type, text, (uint16_t)MIN_OF(strlen(text), COMMAND_DATA_MAX));
}

const char *message_text(struct message *msg)
{
	for (uint16_t i = 0; i < msg->len; i++)
		if (msg->data[i] < 0x20 || msg->data[i] > 0x7e)
			msg->data[i] = '?';
	return (const char *)msg->data;
}
