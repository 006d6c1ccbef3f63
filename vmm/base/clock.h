/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time. For measuring: nanoseconds of CLOCK_MONOTONIC, which starts anywhere and never steps back. For what another host is to
 * understand: nanoseconds of CLOCK_REALTIME, since 1970.
 */
#ifndef FERRY_BASE_CLOCK_H
#define FERRY_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_SEC UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_US UINT64_C(1000)

static inline uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* The longest time that a guest's clocks make up for. */
#define CLOCK_MISSED_MAX_NS (60 * NS_PER_SEC)

/* How long a guest's clock, read when clock_realtime_ns() was `then`, maybe on another host, has not been going. 0 if that
 * cannot be told: there is no `then` (0), it is in this host's future, or so long ago that it is not a move's blackout but a guest out of a
 * file, for which a jump would be worse than a clock that is behind. */
static inline uint64_t clock_missed_ns(uint64_t then)
{
	uint64_t now = clock_realtime_ns();

	return then && now > then && now - then <= CLOCK_MISSED_MAX_NS ? now - then : 0;
}

/* An absolute time as pthread_cond_timedwait takes it, for a condition on CLOCK_MONOTONIC. */
static inline struct timespec clock_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_SEC),
				  .tv_nsec = (long)(ns % NS_PER_SEC) };
}

#endif
