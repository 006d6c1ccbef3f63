/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel: where a migration stream comes from or goes to.
 *
 * It moves bytes, knows the name of its peer for messages, and can be given up from another thread. Descriptors
 * are non-blocking inside; every wait is a poll on the descriptor and on the channel's own cancel event, so that
 * channel_cancel() ends any wait at once, on a socket, a pipe or a file alike.
 *
 *   kind      return path   peer's end of life is seen by
 *   socket    yes           EOF, EPIPE; TCP also by keep-alive and TCP_USER_TIMEOUT
 *   pipe      no            EOF, EPIPE
 *   file      no            written under a temporary name, renamed by channel_finish()
 *   memory    no            tests; reads what was written
 *
 * One thread reads and one writes at a time (they may be two); channel_cancel() may be called from any thread.
 */
#ifndef FERRY_STREAM_CHANNEL_H
#define FERRY_STREAM_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "vmm/base/error.h"

struct channel;

/* Takes over fd (closed on failure, too). `name` is copied and names the peer in errors: "unix:/tmp/a.sock". A
 * regular file, a pipe and a stream socket are accepted; anything else is an error. */
struct channel *channel_from_fd(int fd, const char *name, struct error **errp);
/* A file to be written: the bytes go to a new file beside path, which takes path's name in channel_finish(). */
struct channel *channel_create_file(const char *path, struct error **errp);
struct channel *channel_memory(void);
/* Where channel_finish() was not called, a file being written is removed. NULL is allowed. */
void channel_free(struct channel *ch);

const char *channel_name(const struct channel *ch);
/* Can the peer answer on this channel? */
bool channel_is_duplex(const struct channel *ch);

/* Write everything; iov is used up. An error names the peer, and means that the last byte was not given to the
 * kernel: whoever reads complete messages has certainly not got the one that failed. */
bool channel_writev(struct channel *ch, struct iovec *iov, size_t n, struct error **errp);
/* At least one byte; 0 at the end of the stream; -1 on error. */
ssize_t channel_read(struct channel *ch, void *buf, size_t max, struct error **errp);
/* Is there something to read, or the end of the stream, right now? */
bool channel_readable(struct channel *ch);
/* A read that waits longer than this fails ("sent nothing within ..."). 0: no limit, which is what a new channel has. */
void channel_set_read_timeout(struct channel *ch, uint64_t timeout_ms);
/* The same for a write of which the peer takes nothing for so long. */
void channel_set_write_timeout(struct channel *ch, uint64_t timeout_ms);

/* Everything was written: sync and rename a file, tell a socket's peer that no more will come. */
bool channel_finish(struct channel *ch, struct error **errp);
/* After a failure: say that no more will come, and read until the peer has closed too (2 s at most), so that what
 * was written last is not destroyed by a reset. */
void channel_linger(struct channel *ch);
/* Any thread: each call in progress and every later one fails with "cancelled". */
void channel_cancel(struct channel *ch);

/* Make a cancelled channel usable once more, for a last word to the peer. The thread that uses it. */
void channel_rearm(struct channel *ch);

/* Memory channels only: what has been written and not yet read. */
const uint8_t *channel_memory_data(const struct channel *ch, size_t *len);

#endif
