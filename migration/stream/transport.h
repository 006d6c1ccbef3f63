/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses of migration streams, and how a channel to one is made.
 *
 *   unix:PATH         a UNIX stream socket
 *   tcp:HOST:PORT     TCP; HOST may be a name, an IPv4 address, or an IPv6 address in brackets; an empty HOST
 *                     listens on all addresses; PORT may be a number or, where listening, 0 for any free one
 *   fd:N              a descriptor this process inherited: a stream socket, a pipe or a file
 *   file:PATH         a file on disk
 *
 * Source: QEMU's documented migration URIs of the same names.
 */
#ifndef FERRY_STREAM_TRANSPORT_H
#define FERRY_STREAM_TRANSPORT_H

#include <stdbool.h>

#include "migration/stream/channel.h"
#include "vmm/base/error.h"

/* How soon a UNIX socket is tried again whose queue is full. */
#define TRANSPORT_CONNECT_RETRY_MS 100
/* How soon a listener looks again that lacked a descriptor. */
#define TRANSPORT_ACCEPT_RETRY_MS 100
#define TRANSPORT_CONNECT_TIMEOUT_MS 10000
/* A TCP peer that acknowledges nothing for so long is gone. */
#define TRANSPORT_TCP_DEAD_MS 20000

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP, ADDRESS_FD, ADDRESS_FILE };

struct address {
	enum address_kind kind;
	char *uri;  /* as given */
	char *path; /* unix, file */
	char *host; /* tcp; "" where it was left out */
	char *port; /* tcp */
	int fd;	    /* fd */
};

/* A URI of another form is an error that lists the forms. NULL on failure. */
struct address *address_parse(const char *uri, struct error **errp);
void address_free(struct address *addr);

/* The sending side: connects, or creates the file. An fd: descriptor is taken over. Waiting for a peer ends with an error after
 * TRANSPORT_CONNECT_TIMEOUT_MS, and as soon as cancel_fd (an eventfd; -1: none) is readable. Looking up a name is not ended by it. */
struct channel *channel_connect(const struct address *addr, int cancel_fd, struct error **errp);

/* The receiving side. For sockets a listener waits for connections; for fd: and file: the first accept gives the
 * channel and a second one fails. */
struct listener;
struct listener *listener_open(const struct address *addr, struct error **errp);
/* Waits for the next connection. NULL with an error when listener_cancel() was called or nothing can come. */
struct channel *listener_accept(struct listener *l, struct error **errp);
/* Can another connection come after the first? */
bool listener_can_repeat(const struct listener *l);
/* The address that peers can use; for tcp with the port that was chosen. Owned by the listener. */
const char *listener_uri(const struct listener *l);
/* Any thread: ends a waiting accept and all later ones. */
void listener_cancel(struct listener *l);
/* Closes; removes a UNIX socket's name. NULL is allowed. */
void listener_free(struct listener *l);

/* A bound, listening UNIX socket (non-blocking, close-on-exec). A name left behind by a dead process is replaced;
 * one that somebody listens on is an error. -1 on failure. */
int unix_listen(const char *path, struct error **errp);
/* accept4() for a listener that goes on whatever a connection does: one that has ended already is passed over. -1 with an errno: EAGAIN
 * where there is none; *starved is set where the host lacks a descriptor or memory for it. It stays there, so look again
 * after TRANSPORT_ACCEPT_RETRY_MS and not at once. *starved begins as false; only a change to true is warned of. */
int accept_connection(int listen_fd, int flags, const char *name, bool *starved);
/* A connected UNIX socket (blocking, close-on-exec); -1 on failure. */
int unix_connect(const char *path, struct error **errp);

#endif
