/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages between the two sides beside the sections: commands towards the destination, answers on the return path.
 * Each is be16 number, be16 length, data.
 */
#ifndef FERRY_MIGRATION_RETURN_PATH_H
#define FERRY_MIGRATION_RETURN_PATH_H

#include "migration/stream/protocol.h"
#include "migration/stream/stream.h"

/* Source: write a command into the stream. */
void command_put(struct stream_out *out, uint16_t command, const void *data, uint16_t len);

#define MESSAGE_HEAD_BYTES 4 /* number and length */

struct message {
	uint16_t type; /* enum stream_command or enum return_message */
	uint16_t len;
	uint8_t data[COMMAND_DATA_MAX + 1]; /* with a NUL behind it */
};

/* Read number, length and data (behind the type byte, for a command). A length that does not fit fails the stream. */
void message_get(struct stream_in *in, struct message *msg);
/* Destination: write a message on the return path. */
void message_put(struct stream_out *out, uint16_t type, const void *data, uint16_t len);
void message_put_u32(struct stream_out *out, uint16_t type, uint32_t value);
void message_put_u64(struct stream_out *out, uint16_t type, uint64_t value);
/* Text, cut at COMMAND_DATA_MAX bytes. */
void message_put_text(struct stream_out *out, uint16_t type, const char *text);
/* The data as text with anything unprintable replaced; for messages from a peer that nobody vouches for. */
const char *message_text(struct message *msg);

#endif
