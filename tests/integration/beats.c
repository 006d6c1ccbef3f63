/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/beats.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/ferry-guest.h"
#include "vmm/base/clock.h"

static const char alphabet[] = FERRY_GUEST_BEAT_ALPHABET;
static const char *const alarms[] = { FERRY_GUEST_SAYS_DAMAGED, FERRY_GUEST_SAYS_STALLED,
				      FERRY_GUEST_SAYS_EXCEPTION, "unknown option", "bad value" };
static const char *const banners[] = { "work", "timer", "smp", "disk", FERRY_GUEST_SAYS_HELLO };

__attribute__((format(printf, 3, 4))) static void is_wrong(struct beats *b, const char *from,
							   const char *format, ...)
{
	size_t n =
		(size_t)snprintf(b->why, sizeof(b->why), "%s, byte %llu, after beat %llu: ", from,
				 (unsigned long long)b->bytes, (unsigned long long)b->count);
	va_list ap;

	b->wrong = true;
	va_start(ap, format);
	vsnprintf(b->why + n, sizeof(b->why) - n, format, ap);
	va_end(ap);
}

static bool begins_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_banner(const char *text)
{
	for (size_t i = 0; i < sizeof(banners) / sizeof(banners[0]); i++)
		if (begins_with(text, banners[i]) && strchr("\n,", text[strlen(banners[i])]))
			return true;
	return false;
}

static void end_message(struct beats *b, const char *from)
{
	const char *text = b->message + (b->message[0] == ' ');

	b->message[b->message_len] = '\0';
	b->in_message = false;
	if (b->nmessages < BEATS_MESSAGES_MAX)
		b->messages[b->nmessages++] = strdup(text);
	else
		is_wrong(b, from, "more than %d messages", BEATS_MESSAGES_MAX);
	for (size_t i = 0; i < sizeof(alarms) / sizeof(alarms[0]); i++)
		if (begins_with(text, alarms[i]))
			is_wrong(b, from, "the guest says '%s'", text);
	if (b->may_restart && is_banner(text)) {
		b->may_restart = false;
		b->count = 0;
	}
}

static void feed_message(struct beats *b, const char *from, char c)
{
	if (c == FERRY_GUEST_MESSAGE_MARK && b->may_restart) {
		b->message_len = 0; /* the reset came in the midst of a message */
		return;
	}
	if (c == FERRY_GUEST_MESSAGE_END)
		end_message(b, from);
	else if (c < ' ' || c > '~' || c == FERRY_GUEST_MESSAGE_MARK)
		is_wrong(b, from, "byte 0x%02x in a message", (unsigned char)c);
	else if (b->message_len + 1 < sizeof(b->message))
		b->message[b->message_len++] = c;
	else
		is_wrong(b, from, "a message without end: '%.60s'", b->message);
}

static void feed_beat(struct beats *b, const char *from, char c)
{
	char want = alphabet[b->count % FERRY_GUEST_BEAT_COUNT];

	if (c == want)
		b->count++;
	else if (c < ' ' || c > '~')
		is_wrong(b, from, "byte 0x%02x where beat '%c' is due", (unsigned char)c, want);
	else
		is_wrong(b, from, "'%c' where beat '%c' is due", c, want);
}

void beats_feed(struct beats *b, const char *from, const char *data, size_t len)
{
	uint64_t now = clock_now_ns();

	if (b->last_ns && len && now - b->last_ns > b->longest_ns)
		b->longest_ns = now - b->last_ns;
	b->last_ns = now;
	for (size_t i = 0; i < len && !b->wrong; i++, b->bytes++) {
		if (!b->began && data[i] != FERRY_GUEST_MESSAGE_MARK)
			is_wrong(b, from, "the first byte is 0x%02x", (unsigned char)data[i]);
		b->began = true;
		if (b->in_message) {
			feed_message(b, from, data[i]);
		} else if (data[i] == FERRY_GUEST_MESSAGE_MARK) {
			b->in_message = true;
			b->message_len = 0;
		} else {
			feed_beat(b, from, data[i]);
		}
	}
}

const char *beats_message(const struct beats *b, const char *text)
{
	for (unsigned int i = b->nmessages; i-- > 0;)
		if (begins_with(b->messages[i], text))
			return b->messages[i];
	return NULL;
}

unsigned int beats_messages(const struct beats *b, const char *text)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < b->nmessages; i++)
		n += begins_with(b->messages[i], text);
	return n;
}

void beats_allow_restart(struct beats *b)
{
	b->may_restart = true;
}

void beats_fork(const struct beats *b, struct beats *fork)
{
	*fork = *b;
	memset(fork->messages, 0, sizeof(fork->messages));
	fork->nmessages = 0;
}

void beats_release(struct beats *b)
{
	for (unsigned int i = 0; i < b->nmessages; i++)
		free(b->messages[i]);
	b->nmessages = 0;
}
