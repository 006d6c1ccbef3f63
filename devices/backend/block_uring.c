/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests by io_uring. What it does only in part is given to the threads, which do the whole of it again. */
#include <errno.h>
#include <liburing.h>

#include "devices/backend/block_parts.h"
#include "vmm/base/cleanup.h"

#define DEPTH 64

struct uring {
	struct io_uring ring;
	unsigned int in_flight; /* without cancellations */
};

struct uring *uring_new(int event_fd, struct error **errp)
{
	struct uring *u = xcalloc(1, sizeof(*u));
	int rc = io_uring_queue_init(DEPTH, &u->ring, 0);

	if (rc == 0) {
		rc = io_uring_register_eventfd(&u->ring, event_fd);
		if (rc == 0)
			return u;
		io_uring_queue_exit(&u->ring);
	}
	error_set_errno(errp, -rc, "io_uring");
	free(u);
	return NULL;
}

void uring_free(struct uring *u)
{
	if (u)
		io_uring_queue_exit(&u->ring);
	free(u);
}

/* What the kernel has no memory for now stays in the ring, and the loop tries again. */
static void submit(struct block *b)
{
	uint64_t one = 1;

	if (io_uring_submit(&b->uring->ring) < 0 && write(b->event_fd, &one, sizeof(one)) < 0)
		return; /* it is full: the loop has been told */
}

bool uring_submit_locked(struct block *b, struct block_request *req)
{
	struct uring *u = b->uring;
	struct io_uring_sqe *sqe = NULL;

	if (req->op > BLOCK_FLUSH || u->in_flight == DEPTH)
		return false;
	sqe = io_uring_get_sqe(&u->ring);
	if (!sqe)
		return false;
	switch (req->op) {
	case BLOCK_READ:
		io_uring_prep_readv(sqe, b->fd, req->iov, req->niov, req->offset);
		break;
	case BLOCK_WRITE:
		io_uring_prep_writev(sqe, b->fd, req->iov, req->niov, req->offset);
		break;
	default:
		io_uring_prep_fsync(sqe, b->fd, IORING_FSYNC_DATASYNC);
	}
	io_uring_sqe_set_data(sqe, req);
	u->in_flight++;
	submit(b);
	return true;
}

/* Not done, or in part: interrupted, cut short, or cancelled, by us or because the thread that submitted it has ended. */
static bool is_incomplete(const struct block_request *req, int res)
{
	if (res == -EINTR || res == -EAGAIN || res == -ECANCELED)
		return true;
	return req->op != BLOCK_FLUSH && res >= 0 && (uint64_t)res < req->bytes;
}

static void take(struct block *b, struct block_request *req, int res)
{
	b->uring->in_flight--;
	if (!is_incomplete(req, res))
		block_finish_locked(b, req, res < 0 ? -res : 0);
	else if (b->draining)
		block_finish_locked(b, req, ECANCELED);
	else
		block_threads_submit_locked(b, req);
}

void uring_reap_locked(struct block *b)
{
	struct io_uring *ring = &b->uring->ring;
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(ring, &cqe) == 0) {
		struct block_request *req = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(ring, cqe);
		if (req)
			take(b, req, res);
	}
	if (io_uring_sq_ready(ring))
		submit(b);
}

/* Have the kernel give back what it has not begun. A kernel before 5.19 does not know how; then all is waited for. */
static void cancel_all(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe)
		return;
	io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
	io_uring_sqe_set_data(sqe, NULL);
}

void uring_drain_locked(struct block *b)
{
	struct __kernel_timespec patience = { .tv_nsec = BLOCK_PATIENCE_NS % NS_PER_SEC,
					      .tv_sec = BLOCK_PATIENCE_NS / NS_PER_SEC };
	struct uring *u = b->uring;
	struct io_uring_cqe *cqe;

	uring_reap_locked(b);
	if (u->in_flight)
		cancel_all(u);
	while (u->in_flight) {
		/* The ring is ours alone: nobody submits, and nobody else takes what is done. */
		pthread_mutex_unlock(&b->lock);
		io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &patience, NULL);
		pthread_mutex_lock(&b->lock);
		uring_reap_locked(b);
		if (u->in_flight)
			block_still_drains_locked(b);
	}
}
