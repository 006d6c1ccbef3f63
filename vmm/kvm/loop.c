/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/queue.h"

#define EVENTS_A_ROUND 32

struct loop_handle {
	struct loop *loop;
	int fd;
	loop_fn fn;
	void *opaque;
	bool dead;
	uint32_t events;   /* wished for */
	uint64_t until_ns; /* paused; 0: not */
	TAILQ_ENTRY(loop_handle) entry;
};

struct posted {
	void (*fn)(void *opaque);
	void *opaque;
	TAILQ_ENTRY(posted) entry;
};

struct loop {
	int epoll_fd;
	int wake_fd;
	pthread_mutex_t lock;
	/* lock */
	TAILQ_HEAD(, posted) posted;
	TAILQ_HEAD(, loop_handle) handles;
	bool quit;
	/* the loop's thread */
	bool any_dead;
	unsigned int npaused;
};

struct loop *loop_new(struct error **errp)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };

	pthread_mutex_init(&loop->lock, NULL);
	TAILQ_INIT(&loop->posted);
	TAILQ_INIT(&loop->handles);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &ev) < 0) {
		error_set_errno(errp, errno, "event loop");
		loop_free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	struct loop_handle *h, *next_h;
	struct posted *p, *next_p;

	if (!loop)
		return;
	TAILQ_FOREACH_SAFE (h, &loop->handles, entry, next_h)
		free(h);
	TAILQ_FOREACH_SAFE (p, &loop->posted, entry, next_p)
		free(p);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

struct loop_handle *loop_add(struct loop *loop, int fd, uint32_t events, loop_fn fn, void *opaque)
{
	struct loop_handle *h = xcalloc(1, sizeof(*h));
	struct epoll_event ev = { .events = events, .data.ptr = h };

	*h = (struct loop_handle){
		.loop = loop, .fd = fd, .fn = fn, .opaque = opaque, .events = events
	};
	pthread_mutex_lock(&loop->lock);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		free(h);
		h = NULL;
	} else {
		TAILQ_INSERT_TAIL(&loop->handles, h, entry);
	}
	pthread_mutex_unlock(&loop->lock);
	return h;
}

static void tell_epoll(struct loop_handle *handle, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = handle };

	epoll_ctl(handle->loop->epoll_fd, EPOLL_CTL_MOD, handle->fd, &ev);
}

void loop_set_events(struct loop_handle *handle, uint32_t events)
{
	handle->events = events;
	if (!handle->until_ns)
		tell_epoll(handle, events);
}

void loop_pause(struct loop_handle *handle, uint64_t ms)
{
	handle->loop->npaused += !handle->until_ns;
	handle->until_ns = clock_now_ns() + ms * NS_PER_MS;
	tell_epoll(handle, 0);
}

static void end_pause(struct loop_handle *handle)
{
	if (handle->until_ns)
		handle->loop->npaused--;
	handle->until_ns = 0;
}

void loop_remove(struct loop_handle *handle)
{
	if (!handle)
		return;
	assert(!handle->dead);
	epoll_ctl(handle->loop->epoll_fd, EPOLL_CTL_DEL, handle->fd, NULL);
	end_pause(handle);
	handle->dead = true;
	handle->loop->any_dead = true;
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;

	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

void loop_post(struct loop *loop, void (*fn)(void *opaque), void *opaque)
{
	struct posted *p = xcalloc(1, sizeof(*p));

	p->fn = fn;
	p->opaque = opaque;
	pthread_mutex_lock(&loop->lock);
	TAILQ_INSERT_TAIL(&loop->posted, p, entry);
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
}

void loop_quit(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->quit = true;
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
}

/* Runs what has been posted; true when the loop shall end. */
static bool run_posted(struct loop *loop)
{
	for (;;) {
		struct posted *p;
		bool quit;

		pthread_mutex_lock(&loop->lock);
		p = TAILQ_FIRST(&loop->posted);
		if (p)
			TAILQ_REMOVE(&loop->posted, p, entry);
		quit = loop->quit;
		pthread_mutex_unlock(&loop->lock);
		if (!p)
			return quit;
		p->fn(p->opaque);
		free(p);
	}
}

static void bury(struct loop *loop)
{
	struct loop_handle *h, *next;

	if (!loop->any_dead)
		return;
	loop->any_dead = false;
	pthread_mutex_lock(&loop->lock);
	TAILQ_FOREACH_SAFE (h, &loop->handles, entry, next) {
		if (h->dead) {
			TAILQ_REMOVE(&loop->handles, h, entry);
			free(h);
		}
	}
	pthread_mutex_unlock(&loop->lock);
}

/* Goes on with what was paused long enough. How long to wait for the next one, in ms; -1: there is none. */
static int end_pauses(struct loop *loop)
{
	uint64_t now, next = UINT64_MAX;
	struct loop_handle *h;

	if (!loop->npaused)
		return -1;
	now = clock_now_ns();
	pthread_mutex_lock(&loop->lock);
	TAILQ_FOREACH (h, &loop->handles, entry) {
		if (h->until_ns && h->until_ns <= now) {
			end_pause(h);
			tell_epoll(h, h->events);
		} else if (h->until_ns) {
			next = MIN_OF(next, h->until_ns);
		}
	}
	pthread_mutex_unlock(&loop->lock);
	return next == UINT64_MAX ? -1 : (int)((next - now) / NS_PER_MS) + 1;
}

void loop_run(struct loop *loop)
{
	struct epoll_event events[EVENTS_A_ROUND];

	while (!run_posted(loop)) {
		int n = epoll_wait(loop->epoll_fd, events, EVENTS_A_ROUND, end_pauses(loop));

		for (int i = 0; i < n; i++) {
			struct loop_handle *h = events[i].data.ptr;
			uint64_t count;

			if (!h) {
				if (read(loop->wake_fd, &count, sizeof(count)) < 0)
					assert(errno == EAGAIN);
			} else if (!h->dead) {
				h->fn(h->opaque, events[i].events);
			}
		}
		bury(loop);
	}
	bury(loop);
}
