/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting a thread that no signal goes to: who waits for signals asks for them. */
#ifndef FERRY_BASE_THREAD_H
#define FERRY_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* 0 or an errno. */
static inline int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, NULL, run, opaque);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

#endif
