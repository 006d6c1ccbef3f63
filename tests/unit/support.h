/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the unit tests share: a seeded random number generator, expectations about errors and bytes,
 * scratch directories, and threads that are seen to wait.
 *
 * Every random test names its seed and iteration in its messages, so that a failure can be run
 * again.
 */
#ifndef FERRY_TESTS_SUPPORT_H
#define FERRY_TESTS_SUPPORT_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_LEAK_CHECK
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_LEAK_CHECK
#endif
#endif

/*
 * Criterion does not look at how a test's process ends, so what the sanitizer reports at the exit
 * would fail nothing; nor does it count an assertion here. A crash in the teardown it does count,
 * as a failure of the whole run.
 */
static inline void expect_no_leaks(void)
{
#ifdef WITH_LEAK_CHECK
	int __lsan_do_recoverable_leak_check(void);

	if (__lsan_do_recoverable_leak_check())
		abort();
#endif
}

/* Once in each file, for each suite in it. */
#define SUITE(name) TestSuite(name, .fini = expect_no_leaks)

struct prng {
	uint64_t state;
};

/* splitmix64: any seed is a good one. */
static inline uint64_t prng_next(struct prng *p)
{
	uint64_t z = (p->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* In [0, n). */
static inline uint64_t prng_below(struct prng *p, uint64_t n)
{
	return prng_next(p) % n;
}

static inline void prng_fill(struct prng *p, void *dst, size_t len)
{
	uint8_t *to = dst;

	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)prng_next(p);
}

/* The error exists and says `text` somewhere. It is freed. */
#define expect_error(err, text)                                                         \
	do {                                                                            \
		struct error *expected_ = (err);                                        \
		cr_assert_not_null(expected_, "no error was set, expected '%s'", text); \
		cr_assert_not_null(strstr(expected_->msg, text), "'%s' has no '%s'",    \
				   expected_->msg, text);                               \
		error_free(expected_);                                                  \
		(err) = NULL;                                                           \
	} while (0)

/* Success: the condition holds and no error was set. */
#define expect_ok(cond, err)                                               \
	do {                                                               \
		bool ok_ = (cond);                                         \
		cr_assert(ok_ && !(err), "%s: %s", #cond, error_msg(err)); \
	} while (0)

/* Bytes as "01 ab 00": for messages that show both sides. */
static inline char *hex_of(const void *data, size_t len)
{
	const uint8_t *from = data;
	char *text = malloc(len * 3 + 1);

	for (size_t i = 0; i < len; i++)
		sprintf(text + i * 3, "%02x ", from[i]);
	text[len ? len * 3 - 1 : 0] = '\0';
	return text;
}

/* The bytes of "01 ab 00"; returns how many. */
static inline size_t bytes_of(const char *hex, uint8_t *dst, size_t room)
{
	size_t n = 0;
	unsigned int byte;
	int used;

	while (sscanf(hex, " %2x%n", &byte, &used) == 1) {
		cr_assert(n < room);
		dst[n++] = (uint8_t)byte;
		hex += used;
	}
	return n;
}

/* The data are these bytes; blanks in `hex` do not count. */
static inline void expect_hex(const void *data, size_t len, const char *hex, const char *what)
{
	char *have = hex_of(data, len);
	uint8_t *want = malloc(strlen(hex) / 2 + 1);
	size_t n = bytes_of(hex, want, strlen(hex) / 2 + 1);

	cr_assert(n == len && !memcmp(data, want, n), "%s: have %s, want %s", what, have, hex);
	free(want);
	free(have);
}

/* A fresh directory for a test's files. */
static inline void scratch_make(char dir[static 64])
{
	strcpy(dir, "/tmp/ferry-unit-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static inline unsigned int scratch_count(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	unsigned int n = 0;

	while ((entry = readdir(d)))
		n += entry->d_name[0] != '.';
	closedir(d);
	return n;
}

static inline void scratch_remove(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	char path[512];

	while ((entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		unlink(path);
	}
	closedir(d);
	cr_assert_eq(rmdir(dir), 0);
}

/*
 * Is thread `tid` of this process asleep in the kernel? A test that wants to end a *waiting* call
 * asks this in a loop that yields the CPU: the answer comes from the kernel, not from a time. A
 * call that is caught a moment earlier must behave alike, so a "yes" for another reason (a page
 * fault, a lock) makes no test wrong.
 */
static inline bool thread_waits(int tid)
{
	char path[64], text[512], state = 0;
	size_t n;
	FILE *f;
	const char *after;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	after = strrchr(text, ')');
	if (after)
		state = after[2];
	return state == 'S';
}

#endif
