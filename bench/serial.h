/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest says on its serial line, or on the two lines of a guest that moves.
 *
 * The grammar is guest/ferry-guest.h's: beats, one letter each, and messages. The lines of source
 * and destination are read as one text, because a message may begin on one and end on the other.
 * So the caller empties the source's line before it reads the destination's; a byte of the source
 * after the first beat of the destination is a guest that runs twice.
 *
 * Silence is the time between two beats. The beats of one read came at one time.
 */
#ifndef FERRY_BENCH_SERIAL_H
#define FERRY_BENCH_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum serial_line { SERIAL_SOURCE, SERIAL_DESTINATION };

struct serial {
	/* text */
	bool in_message;
	char message[160];
	size_t message_len;
	bool working; /* the guest has said so */
	/* order */
	bool counting;
	unsigned int next; /* beat number, modulo the alphabet */
	bool moved;	   /* the destination has beaten */
	char wrong[200];   /* the first thing that must not be; "" where all is well */
	/* time */
	uint64_t beats;
	uint64_t last_ns;
	uint64_t longest_ns;	/* since serial_watch() */
	uint64_t handover_ns;	/* last beat of the source to first of the destination */
	uint64_t first_here_ns; /* the destination's first beat */
};

void serial_feed(struct serial *s, enum serial_line line, const char *data, size_t len,
		 uint64_t now_ns);
/* From now on look for the longest silence anew. */
void serial_watch(struct serial *s, uint64_t now_ns);
/* Read what is there. False at the end of the line. */
bool serial_read(struct serial *s, enum serial_line line, int fd, uint64_t now_ns);

#endif
