/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's side of a serial line.
 *
 *	null               output vanishes, no input
 *	stdio              the terminal, in raw mode; Ctrl-A X leaves, Ctrl-A Ctrl-A sends one Ctrl-A
 *	pty                a new pseudo-terminal, whose name is logged
 *	file:PATH          output to a file: a fresh machine empties it first, one that comes by migration appends; no FIFO
 *	unix:PATH          connects to a UNIX socket
 *	unix:PATH,server   listens on one; one reader at a time, another may follow
 *
 * Writing never blocks: what the reader has no room for is the caller's to keep, and the client's can_send is called when
 * there is room again. A device therefore loses nothing to a slow reader.
 *
 * Threads: chardev_write() from any thread; the client's callbacks on the loop's thread, without a lock of the chardev held.
 */
#ifndef FERRY_BACKEND_CHARDEV_H
#define FERRY_BACKEND_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/kvm/loop.h"

struct chardev;

struct chardev_client {
	/* How many bytes of input could be taken now? */
	size_t (*room)(void *opaque);
	/* len is at most what room() said. */
	void (*receive)(void *opaque, const uint8_t *data, size_t len);
	/* There is room for output again, or a new reader. */
	void (*can_send)(void *opaque);
};

/* Is it one of the forms above? Nothing is opened. */
bool chardev_check_spec(const char *spec, struct error **errp);

/* append: do not empty a file. on_leave is called on the loop's thread when the user types Ctrl-A X. */
struct chardev *chardev_open(struct loop *loop, const char *spec, bool append,
			     void (*on_leave)(void *opaque), void *opaque, struct error **errp);
/* Puts the terminal back. NULL is allowed. */
void chardev_close(struct chardev *cd);

/* The device behind the line; NULL detaches. While no vCPU runs. */
void chardev_attach(struct chardev *cd, const struct chardev_client *client, void *opaque);
/* How many bytes were taken; less than len: can_send follows. */
size_t chardev_write(struct chardev *cd, const uint8_t *data, size_t len);
/* Is anybody there to read? Where nobody is, output may be dropped. */
bool chardev_connected(struct chardev *cd);
/* The size of the terminal behind it; both 0 where there is none. */
void chardev_size(struct chardev *cd, uint16_t *cols, uint16_t *rows);
/* room() has grown. Any thread. */
void chardev_room_again(struct chardev *cd);

#endif
