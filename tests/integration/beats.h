/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * beats.[ch] - is what a guest prints whole, and in order, wherever it runs?
 *
 * Goal: to see a lost, doubled or reordered byte of a moved guest's output. A payload beats: beat n is one letter, the
 * n modulo 64th of an alphabet, so a reader knows which letter must come next (guest/ferry-guest.h has the grammar). The
 * checker is fed with the bytes of one guest in the order in which it has written them, first those that came out of the source
 * and then those of the destination, and does not care where one ends and the other begins.
 *
 *	"# work\n012# filled\n34"   5 beats, messages "work" and "filled"
 *	"...89AC"                   wrong: beat B expected, C came
 *
 * Besides it keeps the messages, takes those that tell of damage for wrong, and notes the longest silence, which is for
 * information only: no test depends on time.
 */
#ifndef FERRY_TESTS_BEATS_H
#define FERRY_TESTS_BEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BEATS_MESSAGES_MAX 512
#define BEATS_MESSAGE_BYTES 256

struct beats {
	uint64_t count;			    /* beats so far, so the number of the next one */
	char *messages[BEATS_MESSAGES_MAX]; /* owned; without the mark and its blank */
	unsigned int nmessages;
	bool may_restart; /* a reset is expected: the next banner begins at beat 0 */
	bool wrong;
	char why[BEATS_MESSAGE_BYTES * 2]; /* where wrong: what and where */
	uint64_t longest_ns;		   /* between two bytes */

	bool began, in_message;
	char message[BEATS_MESSAGE_BYTES];
	size_t message_len;
	uint64_t bytes, last_ns;
};

/* All zero is a new one. from names the side in messages. Once wrong it takes nothing more. */
void beats_feed(struct beats *b, const char *from, const char *data, size_t len);
/* The newest message that begins with text, or NULL. */
const char *beats_message(const struct beats *b, const char *text);
/* How many messages begin with text. */
unsigned int beats_messages(const struct beats *b, const char *text);
/* What a reset does to the numbers: the guest says its banner again and counts from 0. */
void beats_allow_restart(struct beats *b);
/* A new one begins where b is now: the guest goes on in two places. It has none of the messages. */
void beats_fork(const struct beats *b, struct beats *fork);
void beats_release(struct beats *b);

#endif
