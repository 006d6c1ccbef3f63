/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/proxy.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/integration/side.h"
#include "vmm/base/cleanup.h"

/* Read no more than this ahead of what could be written. */
#define AHEAD_MAX (256u << 10)

static void on_traffic(void *opaque, short revents);

static void close_end(struct proxy *p, enum proxy_way way)
{
	if (p->fds[way] < 0)
		return;
	unwatch(p->fds[way]);
	close(p->fds[way]);
	p->fds[way] = -1;
}

void proxy_cut(struct proxy *p)
{
	p->cut = true;
	close_end(p, TO_TARGET);
	close_end(p, TO_SOURCE);
}

/* One byte goes by: is it the end of the present step's pattern? */
static bool matches(struct proxy *p, const struct proxy_step *step, char byte)
{
	cr_assert(step->len && step->len <= sizeof(p->window));
	if (p->window_len == step->len)
		memmove(p->window, p->window + 1, --p->window_len);
	p->window[p->window_len++] = byte;
	return p->window_len == step->len && memcmp(p->window, step->pattern, step->len) == 0;
}

/* Bytes that were read go to what is waiting, by the script. */
static void take(struct proxy *p, enum proxy_way way, const char *data, size_t len)
{
	struct text *to = &p->waiting[way];

	for (size_t i = 0; i < len && !p->cut; i++) {
		const struct proxy_step *step = &p->script[p->step];
		char byte = data[i];

		if (step->action == PROXY_END || step->way != way) {
			text_add(to, data + i, len - i);
			return;
		}
		if (!matches(p, step, byte)) {
			text_add(to, &byte, 1);
			continue;
		}
		p->step++;
		p->window_len = 0;
		if (step->action == PROXY_FLIP)
			byte ^= (char)step->flip;
		if (step->action == PROXY_HOLD)
			p->held[way] = true;
		if (step->action == PROXY_CUT)
			proxy_cut(p);
		else
			text_add(to, &byte, 1);
		if (step->action == PROXY_INSERT)
			text_add(to, step->insert->data, step->insert->len);
	}
}

/* What may be passed on now: a held direction keeps everything that has not gone. */
static void pass_on(struct proxy *p, enum proxy_way way)
{
	struct text *t = &p->waiting[way];
	int to = p->fds[!way];

	while (t->len && !p->held[way] && to >= 0) {
		ssize_t n = send(to, t->data, t->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) { /* the receiver has gone; what it said before goes its way */
			text_drop(t, t->len);
			return;
		}
		text_drop(t, (size_t)n);
	}
	if (!t->len && p->ended[way] && to >= 0)
		shutdown(to, SHUT_WR);
}

static void update(struct proxy *p, enum proxy_way way)
{
	short events = 0;

	if (p->fds[way] < 0)
		return;
	if (!p->ended[way] && p->waiting[way].len < AHEAD_MAX)
		events |= POLLIN;
	if (p->waiting[!way].len && !p->held[!way])
		events |= POLLOUT;
	/* A socket that has hung up says so for ever. */
	unwatch(p->fds[way]);
	if (events)
		watch(p->fds[way], events, on_traffic, p);
}

static void read_way(struct proxy *p, enum proxy_way way)
{
	char buf[65536];
	ssize_t n;

	if (p->fds[way] < 0 || p->ended[way] || p->waiting[way].len >= AHEAD_MAX)
		return;
	n = recv(p->fds[way], buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		p->ended[way] = true;
	else
		take(p, way, buf, (size_t)n);
}

static void serve(struct proxy *p)
{
	read_way(p, TO_TARGET);
	read_way(p, TO_SOURCE);
	pass_on(p, TO_TARGET);
	pass_on(p, TO_SOURCE);
	if (p->ended[TO_TARGET] && p->ended[TO_SOURCE] && !p->waiting[TO_TARGET].len &&
	    !p->waiting[TO_SOURCE].len)
		proxy_cut(p);
	update(p, TO_TARGET);
	update(p, TO_SOURCE);
}

static void on_traffic(void *opaque, short revents)
{
	(void)revents;
	serve(opaque);
}

static void on_connection(void *opaque, short revents)
{
	struct proxy *p = opaque;
	int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)revents;
	if (fd < 0)
		return;
	unwatch(p->listen_fd); /* one is enough */
	p->fds[TO_TARGET] = fd;
	p->fds[TO_SOURCE] = connect_unix(p->target_path);
	check(p->fds[TO_SOURCE] >= 0, "the proxy cannot reach %s", p->target_path);
	update(p, TO_TARGET);
	update(p, TO_SOURCE);
}

static void proxy_end(void *opaque)
{
	struct proxy *p = opaque;

	proxy_cut(p);
	unwatch(p->listen_fd);
	close(p->listen_fd);
	text_release(&p->waiting[TO_TARGET]);
	text_release(&p->waiting[TO_SOURCE]);
	free(p);
}

struct proxy *proxy_start(const char *target_uri, const struct proxy_step *script)
{
	static unsigned int count;
	struct proxy *p = xcalloc(1, sizeof(*p));
	char *path = world_path(text_format("proxy%u", count++));

	p->fds[TO_TARGET] = p->fds[TO_SOURCE] = -1;
	p->uri = text_format("unix:%s", path);
	p->target_path = target_uri + strlen("unix:");
	p->script = script;
	p->listen_fd = listen_unix(path);
	watch(p->listen_fd, POLLIN, on_connection, p);
	world_add(&(struct world_item){ proxy_end, NULL, NULL, p });
	return p;
}

void proxy_release(struct proxy *p)
{
	p->held[TO_TARGET] = p->held[TO_SOURCE] = false;
	serve(p);
}
