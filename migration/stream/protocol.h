/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers of the migration stream, in one place. Frame, records and commands have the values of version 3 of QEMU's
 * migration stream; docs/stream-format.md is the specification. Numbers from 0x4000 are ferry's own and are used only
 * after the peer has offered them.
 */
#ifndef FERRY_STREAM_PROTOCOL_H
#define FERRY_STREAM_PROTOCOL_H

#define STREAM_MAGIC 0x5145564du /* "QEVM" */
#define STREAM_VERSION 3u

enum section_type {
	SECTION_EOF = 0x00,
	SECTION_START = 0x01,
	SECTION_PART = 0x02,
	SECTION_END = 0x03,
	SECTION_FULL = 0x04,
	SECTION_SUBSECTION = 0x05,
	SECTION_VMDESCRIPTION = 0x06,
	SECTION_CONFIGURATION = 0x07,
	SECTION_COMMAND = 0x08,
	SECTION_FOOTER = 0x7e,
};

#define VMSTATE_NULL_MARKER 0x30

/* Flags of a "ram" record, in the low bits of its be64. */
#define RAM_FLAG_ZERO 0x02u
#define RAM_FLAG_MEM_SIZE 0x04u
#define RAM_FLAG_PAGE 0x08u
#define RAM_FLAG_EOS 0x10u
#define RAM_FLAG_CONTINUE 0x20u
#define RAM_FLAG_XBZRLE 0x40u
#define RAM_SECTION_VERSION 4u
#define RAM_XBZRLE_ENCODING 0x01u

#define RAM_PAGE_BITS 12
#define RAM_PAGE_SIZE (1u << RAM_PAGE_BITS)

/* Commands, source to destination: be16 number, be16 length, data. */
enum stream_command {
	COMMAND_OPEN_RETURN_PATH = 1,
	COMMAND_PING = 2,
	/* The source has given up its right to run the guest: the destination may start it. No data. */
	COMMAND_HAND_OVER = 0x4000,
	/* The source keeps the guest; the destination gives up. Data: the reason, as text. */
	COMMAND_ABORT = 0x4001,
};

/* Messages on the return path, destination to source: be16 number, be16 length, data. */
enum return_message {
	RETURN_SHUT = 1, /* be32: 0 loaded, else failed */
	RETURN_PONG = 2, /* be32, as in the PING */
	/* What the destination offers: be64, OFFER_* bits. Sent before the first PONG. */
	RETURN_OFFERS = 0x4000,
	/* Why the destination gives up, as text; a SHUT with an error follows. */
	RETURN_REASON = 0x4001,
	/* The guest is the destination's: it runs there, or is paused there as it was at the source. */
	RETURN_TOOK_OVER = 0x4002,
	/* Something that whoever moves the guest should know, as text; the migration goes on. Before SHUT, to a source that offers it. */
	RETURN_NOTICE = 0x4003,
};

/* Offers; the source's are in the CONFIGURATION subsection "configuration/offers". */
#define OFFER_HAND_OVER 0x1u /* HAND_OVER, ABORT, TOOK_OVER */
#define OFFER_REASON 0x2u    /* REASON */
#define OFFER_NOTICE 0x4u    /* NOTICE */
#define OFFERS_KNOWN (OFFER_HAND_OVER | OFFER_REASON | OFFER_NOTICE)

#define COMMAND_DATA_MAX 4096u

#endif
