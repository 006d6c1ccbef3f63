/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proxy.[ch] - a man in the middle of a migration, who acts at an exact byte.
 *
 * It listens on a UNIX socket, connects each caller on to the destination, and moves bytes both ways. A script of steps says what
 * happens on the way. Only the present step is looked for; once its pattern has gone by in its direction, it acts and the next
 * step's turn comes. So "the last word, but not before everything was loaded" is two steps, and page data that looks like the last
 * word does no harm before.
 *
 *	PROXY_PASS	nothing but going on to the next step
 *	PROXY_FLIP	change the pattern's last byte by xor; it is the first byte of the pattern still in our hands
 *	PROXY_INSERT	our own bytes go behind the pattern
 *	PROXY_CUT	the pattern's end is not passed on; both connections are closed
 *	PROXY_HOLD	the pattern's end, and what follows in this direction, stays with us until proxy_release()
 *
 * A pattern's bytes but the last may have been passed on already. That is harmless for CUT and HOLD, since messages and commands
 * count only when they are whole.
 */
#ifndef FERRY_TESTS_PROXY_H
#define FERRY_TESTS_PROXY_H

#include "tests/integration/world.h"

enum proxy_action { PROXY_END, PROXY_PASS, PROXY_FLIP, PROXY_INSERT, PROXY_CUT, PROXY_HOLD };
enum proxy_way { TO_TARGET, TO_SOURCE };

struct proxy_step {
	enum proxy_action action; /* END ends a script */
	enum proxy_way way;
	const char *pattern;
	size_t len;
	uint8_t flip;
	const struct text *insert;
};

#define PATTERN(bytes) .pattern = (bytes), .len = sizeof(bytes) - 1
/* Return path: everything is loaded; the guest was taken over. */
#define SHUT_0 PATTERN("\x00\x01\x00\x04\x00\x00\x00\x00")
#define TOOK_OVER PATTERN("\x40\x02\x00\x00")
/* The last word. */
#define HAND_OVER PATTERN("\x08\x40\x00\x00\x00")

struct proxy {
	int listen_fd, fds[2]; /* of what goes TO_TARGET, TO_SOURCE: where it is read */
	const char *uri, *target_path;
	const struct proxy_step *script;
	unsigned int step; /* how many are done */
	char window[64];   /* the last bytes in the direction of the present step */
	size_t window_len;
	struct text waiting[2]; /* read, not yet written */
	bool held[2], ended[2];
	bool cut;
};

/* A way from the returned uri to target_uri (unix:), until the test ends. The script must live as long. */
struct proxy *proxy_start(const char *target_uri, const struct proxy_step *script);
void proxy_release(struct proxy *p);
/* Close both connections. */
void proxy_cut(struct proxy *p);

#endif
