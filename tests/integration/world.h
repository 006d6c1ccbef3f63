/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * world.[ch] - the event loop of one integration test, and what lives as long as the test.
 *
 * Goal: tests that never sleep and never leave anything behind. A test does a step (a command, a signal, a closed socket) and
 * then waits for what must follow: WAIT_FOR(condition). The wait turns one poll loop over everything that is open (serial
 * lines, control sockets, standard error, processes, proxies), whose handlers change what the condition looks at. Its deadline
 * only fires on failure, and then shows what every process has said.
 *
 * A test begins with world_begin() and ends with world_end(), its suite's init and fini; Criterion runs each test in a process of
 * its own, so the one world is a file-scope variable.
 */
#ifndef FERRY_TESTS_WORLD_H
#define FERRY_TESTS_WORLD_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define WAIT_SECONDS 60

/* Bytes that grow; data ends in a NUL that len does not count. */
struct text {
	char *data;
	size_t len, room;
};

void text_add(struct text *t, const void *data, size_t len);
void text_drop(struct text *t, size_t len);
const char *text_of(const struct text *t);
void text_release(struct text *t);
/* Read what is there into t. False: the other side has closed. */
bool text_read(struct text *t, int fd);

/* Skips aloud where there is no /dev/kvm; the other one is for tests without a guest. */
void world_begin(void);
void world_begin_anywhere(void);
void world_end(void);

/* Called when poll says something of the descriptor. */
typedef void (*watch_fn)(void *opaque, short revents);
void watch(int fd, short events, watch_fn fn, void *opaque);
void watch_events(int fd, short events);
void unwatch(int fd);

/* At the end of the test, newest first, is called with opaque; and when a test fails, to say what is known. */
struct world_item {
	void (*end)(void *opaque);
	void (*show)(void *opaque); /* NULL: nothing to show */
	/* Something is wrong whatever is waited for: what, or NULL. May be NULL. */
	const char *(*wrong)(void *opaque);
	void *opaque;
};
void world_add(const struct world_item *item);

/* Strings and JSON that live until the test ends. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
json_t *keep_json(json_t *json);
/* A path in the test's own directory. */
char *world_path(const char *name);

/* Show everything, for a test that is about to fail. */
void world_show(void);
/* One turn of the loop: waits for at least one event, until the deadline. False: it has passed. */
bool world_turn(uint64_t deadline_ns);
/* Handle what is there now, without waiting. */
void world_turn_now(void);
uint64_t world_deadline(void);

#define check(cond, ...)                             \
	do {                                         \
		if (!(cond)) {                       \
			world_show();                \
			cr_assert_fail(__VA_ARGS__); \
		}                                    \
	} while (0)

/* Criterion does not end the suite's world of a test that is skipped on the way. */
#define skip(...)                                          \
	do {                                               \
		char why_[512];                            \
                                                           \
		snprintf(why_, sizeof(why_), __VA_ARGS__); \
		world_end();                               \
		cr_skip_test("%s", why_);                  \
	} while (0)

/* When the deadline has passed, what has come by then still counts: it may be us who did not run. */
#define WAIT_FOR(cond)                                                             \
	do {                                                                       \
		uint64_t deadline_ = world_deadline();                             \
                                                                                   \
		while (!(cond))                                                    \
			check(world_turn(deadline_) || (world_turn_now(), (cond)), \
			      "in vain, for %d s: %s", WAIT_SECONDS, #cond);       \
	} while (0)

#endif
