/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linked lists: the tail queue of <sys/queue.h>, plus the loop that allows the current element to be removed.
 *
 * A head is { first element, address of the last element's next }, an element's entry is { next element, address
 * of the previous next }. VMState walks such a queue from the offsets of head and entry alone
 * (migration/stream/vmstate.h), which is why the layout is written down here and asserted there.
 */
#ifndef FERRY_BASE_QUEUE_H
#define FERRY_BASE_QUEUE_H

#include <sys/queue.h>

#ifndef TAILQ_FOREACH_SAFE
#define TAILQ_FOREACH_SAFE(var, head, field, next)                                     \
	for ((var) = TAILQ_FIRST(head); (var) && ((next) = TAILQ_NEXT(var, field), 1); \
	     (var) = (next))
#endif

#endif
