/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket's input: what a client sends, in pieces of the sizes that the input says, through the real event loop. Each
 * line that comes back is a JSON object of one of QMP's kinds, the greeting first; a client that ends its connection is let go.
 *
 * What the commands do to a running machine (app_*) is the target's own here and says yes and no in turn.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/app/control.h"

#define INPUT_MAX (64u << 10)
#define PIECES_MAX 64

static bool in_turn(struct app *app, struct error **errp)
{
	if (app->exit_status++ % 2 == 0)
		return true;
	error_set(errp, "not this time");
	return false;
}

bool app_start_incoming(struct app *app, const char *uri, struct error **errp)
{
	struct address *addr = address_parse(uri, errp);

	address_free(addr);
	return addr && in_turn(app, errp);
}

bool app_start_migration(struct app *app, const char *uri, struct error **errp)
{
	return app_start_incoming(app, uri, errp);
}

bool app_stop_guest(struct app *app, struct error **errp)
{
	control_post_event(app->control, EVENT_STOP, 0);
	return in_turn(app, errp);
}

bool app_continue_guest(struct app *app, bool claim, struct error **errp)
{
	control_post_event(app->control, EVENT_RESUME, 0);
	return claim || in_turn(app, errp);
}

bool app_reset_guest(struct app *app, struct error **errp)
{
	control_emit_reset(app->control, false);
	return in_turn(app, errp);
}

void app_quit(struct app *app, int status, bool by_guest, const char *reason)
{
	(void)status;
	control_emit_shutdown(app->control, by_guest, reason);
	control_emit_migration(app->control, "active");
}

/* --- the client, in the same event loop: each round it sends a piece and reads what is there --- */

struct client {
	struct loop *loop;
	struct loop_handle *handle;
	int fd;
	const uint8_t *data;
	size_t left;
	uint8_t pace;
	unsigned int pieces;
	char text[4 * INPUT_MAX]; /* a line that is not complete */
	size_t len;
	unsigned int lines;
};

static void expect_line(struct client *c, const char *line, size_t len)
{
	json_t *json = json_loadb(line, len, 0, NULL);

	MUST(json_is_object(json));
	MUST(c->lines ? json_object_get(json, "return") || json_object_get(json, "error") ||
				json_object_get(json, "event")
		      : json_object_get(json, "QMP") != NULL);
	c->lines++;
	json_decref(json);
}

/* False at the end of the connection. */
static bool read_answers(struct client *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->text + c->len, sizeof(c->text) - c->len, MSG_DONTWAIT);
		char *end;

		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		c->len += (size_t)n;
		while ((end = memmem(c->text, c->len, "\r\n", 2))) {
			expect_line(c, c->text, (size_t)(end - c->text));
			c->len -= (size_t)(end + 2 - c->text);
			memmove(c->text, end + 2, c->len);
		}
		MUST(c->len < sizeof(c->text));
	}
}

static void send_piece(struct client *c)
{
	size_t n = c->pieces++ < PIECES_MAX ? 1 + (c->pace >> (c->pieces % 4)) : c->left;
	ssize_t sent = send(c->fd, c->data, n < c->left ? n : c->left, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent > 0) {
		c->data += sent;
		c->left -= (size_t)sent;
	}
	if (!c->left) {
		shutdown(c->fd, SHUT_WR);
		loop_set_events(c->handle, EPOLLIN);
	}
}

static void on_ready(void *opaque, uint32_t events)
{
	struct client *c = opaque;

	if (!read_answers(c))
		loop_quit(c->loop);
	else if (events & EPOLLOUT && c->left)
		send_piece(c);
}

static void converse(struct app *app, int fd, const uint8_t *data, size_t size)
{
	static struct client c;

	c = (struct client){ .loop = app->loop, .fd = fd, .data = data, .left = size };
	c.pace = size ? data[0] : 0;
	c.handle = loop_add(app->loop, fd, EPOLLIN | EPOLLOUT, on_ready, &c);
	if (!size)
		send_piece(&c);
	loop_run(app->loop);
	loop_remove(c.handle);
	/* Whoever stays to the end gets whole lines. */
	MUST(c.lines >= 1 && (c.left || c.len == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct app app;
	struct migration_observer nobody = { 0 };
	struct vm_observer no_one = { 0 };
	int fds[2];

	if (size > INPUT_MAX)
		return -1;
	memset(&app, 0, sizeof(app));
	app.loop = loop_new(NULL);
	MUST(app.loop);
	app.opts.incoming = size % 2 ? "defer" : NULL;
	vm_init(&app.machine.vm, app.loop, &no_one, RUNSTATE_PAUSED);
	migration_init(&app.migration, &nobody);
	app.control = control_new(&app);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	control_serve(app.control, fds[0]);
	converse(&app, fds[1], data, size);
	close(fds[1]);
	control_free(app.control);
	migration_release(&app.migration);
	vm_release(&app.machine.vm);
	loop_free(app.loop);
	return 0;
}
