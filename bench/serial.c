/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bench/serial.h"

#include <errno.h>

#include "guest/ferry-guest.h"
#include "vmm/base/cleanup.h"

__attribute__((format(printf, 2, 3))) static void wrong(struct serial *s, const char *fmt, ...)
{
	va_list ap;

	if (*s->wrong)
		return;
	va_start(ap, fmt);
	vsnprintf(s->wrong, sizeof(s->wrong), fmt, ap);
	va_end(ap);
}

static void end_message(struct serial *s)
{
	static const char *const bad[] = { FERRY_GUEST_SAYS_DAMAGED, FERRY_GUEST_SAYS_STALLED,
					   FERRY_GUEST_SAYS_EXCEPTION };
	const char *text = s->message + (*s->message == ' ');

	s->in_message = false;
	s->message[s->message_len] = '\0';
	s->message_len = 0;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (strncmp(text, bad[i], strlen(bad[i])) == 0)
			wrong(s, "the guest says: %s", text);
	if (strcmp(text, FERRY_GUEST_SAYS_WORKING) == 0)
		s->working = true;
}

static void beat(struct serial *s, enum serial_line line, unsigned int number, uint64_t now_ns)
{
	unsigned int missing = (number - s->next) % FERRY_GUEST_BEAT_COUNT;

	if (s->counting && missing)
		wrong(s, "beat %llu: %u beats lost or %u doubled", (unsigned long long)s->beats,
		      missing, FERRY_GUEST_BEAT_COUNT - missing);
	s->counting = true;
	s->next = number + 1;
	s->beats++;
	if (s->last_ns && now_ns - s->last_ns > s->longest_ns)
		s->longest_ns = now_ns - s->last_ns;
	if (line == SERIAL_DESTINATION && !s->moved) {
		s->moved = true;
		s->first_here_ns = now_ns;
		s->handover_ns = now_ns - s->last_ns;
	}
	s->last_ns = now_ns;
}

static void take(struct serial *s, enum serial_line line, char c, uint64_t now_ns)
{
	const char *place;

	if (s->in_message) {
		if (c == FERRY_GUEST_MESSAGE_END)
			end_message(s);
		else if (s->message_len < sizeof(s->message) - 1)
			s->message[s->message_len++] = c;
		return;
	}
	if (c == FERRY_GUEST_MESSAGE_MARK) {
		s->in_message = true;
		return;
	}
	place = c ? strchr(FERRY_GUEST_BEAT_ALPHABET, c) : NULL;
	if (place)
		beat(s, line, (unsigned int)(place - FERRY_GUEST_BEAT_ALPHABET), now_ns);
	else
		wrong(s, "byte 0x%02x is neither beat nor message", (unsigned char)c);
}

void serial_feed(struct serial *s, enum serial_line line, const char *data, size_t len,
		 uint64_t now_ns)
{
	if (line == SERIAL_SOURCE && s->moved && len)
		wrong(s, "the source beats on after the destination began: TWO GUESTS RUN");
	for (size_t i = 0; i < len; i++)
		take(s, line, data[i], now_ns);
}

void serial_watch(struct serial *s, uint64_t now_ns)
{
	s->longest_ns = 0;
	s->last_ns = now_ns;
}

bool serial_read(struct serial *s, enum serial_line line, int fd, uint64_t now_ns)
{
	char buf[4096];

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		serial_feed(s, line, buf, (size_t)n, now_ns);
	}
}
