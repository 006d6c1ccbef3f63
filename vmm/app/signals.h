/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The signals of `ferry run`. A thread of their own waits for them: the main thread may be waiting for a disk that hangs.
 *
 *	SIGWINCH			the terminal has another size
 *	SIGHUP, SIGTERM, SIGINT		the process ends in order; a SIGHUP that is ignored stays so
 *	a second SIGTERM or SIGINT	it ends by that signal at once, whatever it waits for
 *	a third one			the same, also where standard error takes no message
 *
 * What comes right behind the first one is the same wish: timeout(1) sends its signal to the process and then to the whole group.
 */
#ifndef FERRY_APP_SIGNALS_H
#define FERRY_APP_SIGNALS_H

#include "vmm/base/clock.h"
#include "vmm/kvm/loop.h"

/* A second one is at least so much later than the first. */
#define SIGNALS_SECOND_NS (NS_PER_SEC / 2)

/* Called on the loop's thread. */
struct signals_owner {
	void (*resized)(void *opaque);
	void (*end)(void *opaque);
	void *opaque;
};

struct signals;

/* Blocks them in the calling thread: before any other is started. terminal: standard input is one that will be set raw; it is put back
 * where the process ends at once. */
struct signals *signals_start(struct loop *loop, const struct signals_owner *owner, bool terminal,
			      struct error **errp);
/* From now on they are ignored. While the loop is still there. NULL is allowed. */
void signals_stop(struct signals *s);

#endif
