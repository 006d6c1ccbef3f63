/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: one thread that waits on descriptors and runs what they call for.
 *
 * A handle is removed in two phases: loop_remove() takes it out of epoll and marks it dead at once, so its callback is not
 * called again, even for an event that has been fetched already; its memory goes at the end of the round.
 *
 * Threads: loop_add() and loop_post() from any thread; everything else on the loop's own thread, or while nobody runs it.
 */
#ifndef FERRY_KVM_LOOP_H
#define FERRY_KVM_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "vmm/base/error.h"

struct loop;
struct loop_handle;

/* events: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR as epoll gives them. */
typedef void (*loop_fn)(void *opaque, uint32_t events);

struct loop *loop_new(struct error **errp);
void loop_free(struct loop *loop);

/* The descriptor stays the caller's and must stay open until loop_remove(). NULL where epoll cannot watch it (a regular
 * file): the caller does without. */
struct loop_handle *loop_add(struct loop *loop, int fd, uint32_t events, loop_fn fn, void *opaque);
void loop_set_events(struct loop_handle *handle, uint32_t events);
/* For so long only EPOLLHUP and EPOLLERR are told; then it goes on with its events. For what is ready and cannot be served now. */
void loop_pause(struct loop_handle *handle, uint64_t ms);
/* NULL is allowed. */
void loop_remove(struct loop_handle *handle);

/* Have fn(opaque) called on the loop's thread, soon and in the order of posting. */
void loop_post(struct loop *loop, void (*fn)(void *opaque), void *opaque);

/* Runs until loop_quit(); what was posted before the quit has been run then. */
void loop_run(struct loop *loop);
/* Any thread. */
void loop_quit(struct loop *loop);

#endif
