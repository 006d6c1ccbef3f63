/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/world.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define WATCHES_MAX 256
#define ITEMS_MAX 64
#define STRINGS_MAX 1024

static struct {
	char dir[64];
	struct pollfd fds[WATCHES_MAX]; /* fd -1: free */
	struct {
		watch_fn fn;
		void *opaque;
	} watches[WATCHES_MAX];
	unsigned int nwatches;
	struct world_item items[ITEMS_MAX];
	unsigned int nitems;
	char *strings[STRINGS_MAX];
	unsigned int nstrings;
	json_t *kept;
} world;

/* --- text --- */

void text_add(struct text *t, const void *data, size_t len)
{
	if (t->len + len + 1 > t->room) {
		t->room = (t->len + len + 1) * 2;
		t->data = realloc(t->data, t->room);
		if (!t->data)
			abort();
	}
	memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void text_drop(struct text *t, size_t len)
{
	memmove(t->data, t->data + len, t->len - len + 1);
	t->len -= len;
}

const char *text_of(const struct text *t)
{
	return t->data ? t->data : "";
}

void text_release(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

bool text_read(struct text *t, int fd)
{
	char buf[16384];

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		text_add(t, buf, (size_t)n);
		if ((size_t)n < sizeof(buf))
			return true;
	}
}

/* --- begin and end --- */

void world_begin(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		cr_skip_test("/dev/kvm cannot be opened: %s", strerror(errno));
	close(kvm);
	world_begin_anywhere();
}

void world_begin_anywhere(void)
{
	prctl(PR_SET_PDEATHSIG,
	      SIGKILL); /* with the runner goes the test, with the test its ferries */
	signal(SIGPIPE, SIG_IGN);
	strcpy(world.dir, "/tmp/ferry-it-XXXXXX");
	check(mkdtemp(world.dir), "mkdtemp: %s", strerror(errno));
	world.kept = json_array();
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void world_end(void)
{
	while (world.nitems)
		if (world.items[--world.nitems].end)
			world.items[world.nitems].end(world.items[world.nitems].opaque);
	json_decref(world.kept);
	world.kept = NULL;
	while (world.nstrings)
		free(world.strings[--world.nstrings]);
	if (world.dir[0])
		nftw(world.dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void world_add(const struct world_item *item)
{
	cr_assert(world.nitems < ITEMS_MAX);
	world.items[world.nitems++] = *item;
}

void world_show(void)
{
	for (unsigned int i = 0; i < world.nitems; i++)
		if (world.items[i].show)
			world.items[i].show(world.items[i].opaque);
	fflush(stderr);
}

static char *keep_string(char *s)
{
	cr_assert(s && world.nstrings < STRINGS_MAX);
	world.strings[world.nstrings++] = s;
	return s;
}

char *text_format(const char *format, ...)
{
	char *s;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&s, format, ap) < 0)
		abort();
	va_end(ap);
	return keep_string(s);
}

json_t *keep_json(json_t *json)
{
	cr_assert_not_null(json);
	json_array_append_new(world.kept, json);
	return json;
}

char *world_path(const char *name)
{
	return text_format("%s/%s", world.dir, name);
}

/* --- the loop --- */

static unsigned int find_watch(int fd)
{
	unsigned int i = 0;

	while (i < world.nwatches && world.fds[i].fd != fd)
		i++;
	return i;
}

void watch(int fd, short events, watch_fn fn, void *opaque)
{
	unsigned int i = find_watch(-1);

	cr_assert(fd >= 0 && i < WATCHES_MAX);
	if (i == world.nwatches)
		world.nwatches++;
	world.fds[i] = (struct pollfd){ .fd = fd, .events = events };
	world.watches[i].fn = fn;
	world.watches[i].opaque = opaque;
}

void watch_events(int fd, short events)
{
	unsigned int i = find_watch(fd);

	cr_assert(fd >= 0 && i < world.nwatches);
	world.fds[i].events = events;
}

void unwatch(int fd)
{
	unsigned int i = find_watch(fd);

	if (fd >= 0 && i < world.nwatches)
		world.fds[i] = (struct pollfd){ .fd = -1 };
}

static void fail_where_wrong(void)
{
	for (unsigned int i = 0; i < world.nitems; i++) {
		struct world_item *item = &world.items[i];
		const char *why = item->wrong ? item->wrong(item->opaque) : NULL;

		check(!why, "%s", why);
	}
}

static bool turn(int timeout_ms)
{
	int n = poll(world.fds, world.nwatches, timeout_ms);

	if (n < 0)
		return errno == EINTR;
	for (unsigned int i = 0; n && i < world.nwatches; i++) {
		short revents = world.fds[i].revents;

		world.fds[i].revents = 0;
		/* A handler may have removed it, and put another one here. */
		if (world.fds[i].fd >= 0 && revents)
			world.watches[i].fn(world.watches[i].opaque, revents);
	}
	fail_where_wrong();
	return n > 0;
}

bool world_turn(uint64_t deadline_ns)
{
	uint64_t now = clock_now_ns();

	if (now >= deadline_ns)
		return false;
	turn((int)((deadline_ns - now) / NS_PER_MS) + 1);
	return true;
}

void world_turn_now(void)
{
	turn(0);
}

uint64_t world_deadline(void)
{
	return clock_now_ns() + WAIT_SECONDS * NS_PER_SEC;
}
