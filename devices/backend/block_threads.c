/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that a few threads do, one at a time each, by the system calls that wait. They are started with the first request. */
#include <errno.h>
#include <fcntl.h>

#include "devices/backend/block_parts.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/thread.h"

#define ZEROES_BYTES (64u << 10)

/* All of it, however often the kernel stops half way. */
static int transfer(int fd, const struct iovec *from, unsigned int n, uint64_t offset, bool write)
{
	struct iovec iov[BLOCK_SEGMENTS_MAX], *at = iov;

	memcpy(iov, from, n * sizeof(*from));
	while (n) {
		ssize_t done = write ? pwritev(fd, at, (int)n, (off_t)offset)
				     : preadv(fd, at, (int)n, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return errno;
		if (!done)
			return EIO; /* the image ends here */
		offset += (uint64_t)done;
		for (; n && (size_t)done >= at->iov_len; at++, n--)
			done -= (ssize_t)at->iov_len;
		if (n) {
			at->iov_base = (uint8_t *)at->iov_base + done;
			at->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int allocate(int fd, int mode, const struct block_request *req)
{
	int rc;

	do {
		rc = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)req->offset,
			       (off_t)req->bytes);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? errno : 0;
}

static bool not_offered(int error)
{
	return error == EOPNOTSUPP || error == ENOSYS || error == EINVAL || error == ENODEV;
}

static int write_zeroes(int fd, const struct block_request *req)
{
	scoped_free void *zeroes = xcalloc(1, ZEROES_BYTES);
	uint64_t left = req->bytes;
	int error;

	if (req->may_unmap && !allocate(fd, FALLOC_FL_PUNCH_HOLE, req))
		return 0;
	error = allocate(fd, FALLOC_FL_ZERO_RANGE, req);
	if (!error || !not_offered(error))
		return error;
	for (error = 0; !error && left;) {
		struct iovec iov = { zeroes, MIN_OF(left, ZEROES_BYTES) };

		error = transfer(fd, &iov, 1, req->offset + req->bytes - left, true);
		left -= iov.iov_len;
	}
	return error;
}

int block_perform(struct block *b, const struct block_request *req)
{
	int error;

	switch (req->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		return transfer(b->fd, req->iov, req->niov, req->offset, req->op == BLOCK_WRITE);
	case BLOCK_FLUSH:
		return fdatasync(b->fd) < 0 ? errno : 0;
	case BLOCK_DISCARD:
		error = allocate(b->fd, FALLOC_FL_PUNCH_HOLE, req);
		return not_offered(error) ? 0 : error; /* it is advice */
	default:
		return write_zeroes(b->fd, req);
	}
}

static void *worker(void *opaque)
{
	struct block *b = opaque;

	pthread_mutex_lock(&b->lock);
	while (!b->ending) {
		struct block_request *req = TAILQ_FIRST(&b->waiting);
		int error;

		if (!req) {
			pthread_cond_wait(&b->work, &b->lock);
			continue;
		}
		TAILQ_REMOVE(&b->waiting, req, entry);
		b->busy++;
		pthread_mutex_unlock(&b->lock);
		error = block_perform(b, req);
		pthread_mutex_lock(&b->lock);
		b->busy--;
		block_finish_locked(b, req, error);
		pthread_cond_broadcast(&b->idle);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

static void start_workers(struct block *b)
{
	while (b->nworkers < BLOCK_WORKERS &&
	       thread_start(&b->workers[b->nworkers], worker, b) == 0)
		b->nworkers++;
}

void block_threads_submit_locked(struct block *b, struct block_request *req)
{
	if (!b->nworkers)
		start_workers(b);
	if (!b->nworkers) {
		block_finish_locked(b, req, EAGAIN); /* not one thread can be had */
		return;
	}
	TAILQ_INSERT_TAIL(&b->waiting, req, entry);
	pthread_cond_signal(&b->work);
}

void block_threads_drain_locked(struct block *b)
{
	struct block_request *req;

	while ((req = TAILQ_FIRST(&b->waiting)) != NULL) {
		TAILQ_REMOVE(&b->waiting, req, entry);
		block_finish_locked(b, req, ECANCELED);
	}
	while (b->busy) {
		struct timespec until = clock_timespec(clock_now_ns() + BLOCK_PATIENCE_NS);

		pthread_cond_clockwait(&b->idle, &b->lock, CLOCK_MONOTONIC, &until);
		if (b->busy)
			block_still_drains_locked(b);
	}
}

void block_threads_stop(struct block *b)
{
	pthread_mutex_lock(&b->lock);
	b->ending = true;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->lock);
	for (unsigned int i = 0; i < b->nworkers; i++)
		pthread_join(b->workers[i], NULL);
}
