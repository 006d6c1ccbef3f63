/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the disk image share. All under block.lock unless a line says otherwise. */
#ifndef FERRY_BACKEND_BLOCK_PARTS_H
#define FERRY_BACKEND_BLOCK_PARTS_H

#include <pthread.h>

#include "devices/backend/block.h"
#include "vmm/base/clock.h"

struct uring;
struct backup;

#define BLOCK_WORKERS 4
/* A wait for the host that is longer is told in the log. */
#define BLOCK_PATIENCE_NS NS_PER_SEC

struct block {
	/* set at creation */
	int fd;
	char *path;
	bool read_only, is_file;
	uint64_t bytes;
	struct disk_bitmaps *bitmaps; /* NULL: none */
	void (*done)(void *opaque);
	void *opaque;
	int event_fd;
	struct loop_handle *handle;
	struct uring *uring; /* NULL: threads do all */
	pthread_mutex_t lock;
	/* lock */
	struct block_requests finished;
	bool draining;	       /* who drains takes what io_uring has done, nobody else */
	uint64_t patience;     /* clock; of who drains: when to tell that it waits. 0: it has */
	bool running;	       /* the lock RUNNING is held */
	struct backup *backup; /* holds writes to what it has not copied; NULL: none */
	/* lock; the threads' part */
	struct block_requests waiting;
	unsigned int busy; /* threads that are in a request */
	pthread_cond_t work, idle;
	bool ending;
	unsigned int nworkers;
	pthread_t workers[BLOCK_WORKERS];
};

/* It comes back. */
void block_finish_locked(struct block *b, struct block_request *req, int error);

/* The drain still waits: say so, once and not at once. */
void block_still_drains_locked(struct block *b);

/* Begins it in any case, from any thread: not by io_uring, which gives up what was submitted by a thread that ends. */
void block_begin_in_threads_locked(struct block *b, struct block_request *req);

/* backup.c */
/* True: the request waits for its clusters to be copied. */
bool backup_hold_locked(struct backup *backup, struct block_request *req);
/* Those that wait come back, not done. */
void backup_give_back_locked(struct backup *backup);

/* block_threads.c */
/* Does the request, however long it takes; 0 or an errno. Without the lock. */
int block_perform(struct block *b, const struct block_request *req);
void block_threads_submit_locked(struct block *b, struct block_request *req);
void block_threads_drain_locked(struct block *b);
void block_threads_stop(struct block *b);

/* block_uring.c */
/* NULL where io_uring is not to be had. */
struct uring *uring_new(int event_fd, struct error **errp);
void uring_free(struct uring *u);
/* False: not a request for it, or it is full. */
bool uring_submit_locked(struct block *b, struct block_request *req);
void uring_reap_locked(struct block *b);
void uring_drain_locked(struct block *b);

#endif
