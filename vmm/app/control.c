/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/control.h"

#include <errno.h>
#include <sys/socket.h>

#include "vmm/app/commands.h"
#include "vmm/app/json_frame.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define INPUT_MAX (1u << 20)
#define OUTPUT_MAX (4u << 20)

struct client {
	struct control *control;
	int fd;
	struct loop_handle *handle;
	bool negotiated;
	bool dead; /* freed when its callback returns */
	bool busy; /* its callback runs */
	char *in;
	size_t in_len;
	struct json_frame frame; /* of what in begins with */
	char *out;
	size_t out_len;
	TAILQ_ENTRY(client) entry;
};

struct control {
	struct app *app;
	int listen_fd;
	struct loop_handle *listen_handle;
	bool starved; /* as accept_connection() has it */
	char *path;
	TAILQ_HEAD(, client) clients;
};

struct posted_event {
	struct control *control;
	enum control_event event;
	uint64_t value;
	struct timespec when;
};

static void client_free(struct client *c)
{
	TAILQ_REMOVE(&c->control->clients, c, entry);
	loop_remove(c->handle);
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c);
}

static void client_drop(struct client *c)
{
	if (c->busy)
		c->dead = true;
	else
		client_free(c);
}

/* Send what the socket takes now; false where the client has gone. */
static bool client_flush(struct client *c)
{
	while (c->out_len) {
		ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0)
			break;
		memmove(c->out, c->out + n, c->out_len - (size_t)n);
		c->out_len -= (size_t)n;
	}
	loop_set_events(c->handle, EPOLLIN | (c->out_len ? EPOLLOUT : 0));
	return true;
}

/* Takes over json. */
static void client_send(struct client *c, json_t *json)
{
	scoped_free char *text = json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER);
	size_t len;

	json_decref(json);
	if (!text || c->dead)
		return;
	len = strlen(text);
	if (c->out_len + len + 2 > OUTPUT_MAX) {
		client_drop(c);
		return;
	}
	c->out = realloc(c->out, c->out_len + len + 2);
	if (!c->out)
		abort();
	memcpy(c->out + c->out_len, text, len);
	memcpy(c->out + c->out_len + len, "\r\n", 2);
	c->out_len += len + 2;
	if (!client_flush(c))
		client_drop(c);
}

static void send_error(struct client *c, json_t *id, const struct error *err)
{
	static const char *const classes[] = {
		[ERROR_GENERIC] = "GenericError",
		[ERROR_COMMAND_NOT_FOUND] = "CommandNotFound",
		[ERROR_DEVICE_NOT_FOUND] = "DeviceNotFound",
		[ERROR_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
	};
	json_t *answer = json_pack("{s:{s:s,s:s}}", "error", "class", classes[err->cls], "desc",
				   error_msg(err));

	if (id)
		json_object_set(answer, "id", id);
	client_send(c, answer);
}

/* Everything but the id. The result, or NULL with an error. */
static json_t *execute(struct client *c, json_t *request, struct error **errp)
{
	json_t *command = json_object_get(request, "execute");
	json_t *args = json_object_get(request, "arguments");
	const char *key;
	json_t *value;

	json_object_foreach(request, key, value)
	{
		if (strcmp(key, "execute") != 0 && strcmp(key, "arguments") != 0 &&
		    strcmp(key, "id") != 0) {
			error_set(errp, "QMP input member '%s' is unexpected", key);
			return NULL;
		}
	}
	if (!json_is_string(command)) {
		error_set(errp, command ? "QMP input member 'execute' must be a string"
					: "QMP input lacks member 'execute'");
		return NULL;
	}
	if (args && !json_is_object(args)) {
		error_set(errp, "QMP input member 'arguments' must be an object");
		return NULL;
	}
	return command_execute(c->control->app, json_string_value(command), args, &c->negotiated,
			       errp);
}

static void handle_request(struct client *c, json_t *request)
{
	scoped_error err = NULL;
	json_t *id = json_object_get(request, "id");
	json_t *result, *answer;

	if (!json_is_object(request)) {
		error_set(&err, "QMP input must be a JSON object");
		send_error(c, NULL, err);
		return;
	}
	result = execute(c, request, &err);
	if (!result) {
		send_error(c, id, err);
		return;
	}
	answer = json_pack("{s:o}", "return", result);
	if (id)
		json_object_set(answer, "id", id);
	client_send(c, answer);
}

static size_t leading_space(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && strchr(" \t\r\n", text[n]) && text[n])
		n++;
	return n;
}

static void consume(struct client *c, size_t n)
{
	memmove(c->in, c->in + n, c->in_len - n);
	c->in_len -= n;
}

static void refuse_input(struct client *c, const char *why)
{
	scoped_error err = NULL;

	error_set(&err, "Invalid JSON syntax: %s", why);
	send_error(c, NULL, err);
}

static void handle_text(struct client *c, size_t len)
{
	json_error_t error;
	json_t *request = json_loadb(c->in, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

	if (request)
		handle_request(c, request);
	else
		refuse_input(c, error.text);
	json_decref(request);
}

/* Carry out what is complete in the buffer. */
static void handle_input(struct client *c)
{
	while (!c->dead) {
		enum json_frame_state state;

		if (!c->frame.seen)
			consume(c, leading_space(c->in, c->in_len));
		state = json_frame_scan(&c->frame, c->in, c->in_len);
		if (state == JSON_FRAME_PARTIAL)
			return;
		if (state == JSON_FRAME_WHOLE)
			handle_text(c, c->frame.seen);
		else
			refuse_input(c, "a string has no end in its line");
		consume(c, c->frame.seen);
		c->frame = (struct json_frame){ 0 };
	}
}

static bool receive(struct client *c)
{
	char buf[4096];
	ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0 || c->in_len + (size_t)n > INPUT_MAX)
		return false;
	c->in = realloc(c->in, c->in_len + (size_t)n);
	if (!c->in)
		abort();
	memcpy(c->in + c->in_len, buf, (size_t)n);
	c->in_len += (size_t)n;
	handle_input(c);
	return true;
}

static void on_client(void *opaque, uint32_t events)
{
	struct client *c = opaque;

	c->busy = true;
	if (events & EPOLLOUT && !client_flush(c))
		c->dead = true;
	if (!c->dead && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !receive(c))
		c->dead = true;
	c->busy = false;
	if (c->dead)
		client_free(c);
}

void control_serve(struct control *control, int fd)
{
	struct client *c = xcalloc(1, sizeof(*c));

	c->control = control;
	c->fd = fd;
	c->handle = loop_add(control->app->loop, fd, EPOLLIN, on_client, c);
	TAILQ_INSERT_TAIL(&control->clients, c, entry);
	client_send(c, command_greeting());
}

static void on_connection(void *opaque, uint32_t events)
{
	struct control *control = opaque;
	int fd = accept_connection(control->listen_fd, SOCK_CLOEXEC | SOCK_NONBLOCK, "--control",
				   &control->starved);

	(void)events;
	if (fd >= 0)
		control_serve(control, fd);
	else if (control->starved)
		loop_pause(control->listen_handle, TRANSPORT_ACCEPT_RETRY_MS);
}

struct control *control_new(struct app *app)
{
	struct control *control = xcalloc(1, sizeof(*control));

	control->app = app;
	control->listen_fd = -1;
	TAILQ_INIT(&control->clients);
	return control;
}

bool control_listen(struct control *control, const char *path, struct error **errp)
{
	control->listen_fd = unix_listen(path, errp);
	if (control->listen_fd < 0) {
		error_prefix(errp, "--control: ");
		return false;
	}
	control->path = xstrdup(path);
	control->listen_handle =
		loop_add(control->app->loop, control->listen_fd, EPOLLIN, on_connection, control);
	return true;
}

void control_free(struct control *control)
{
	struct client *c, *next;

	if (!control)
		return;
	TAILQ_FOREACH_SAFE (c, &control->clients, entry, next)
		client_free(c);
	loop_remove(control->listen_handle);
	if (control->listen_fd >= 0)
		close(control->listen_fd);
	if (control->path)
		unlink(control->path);
	free(control->path);
	free(control);
}

/* data is taken over and may be NULL. */
static void broadcast(struct control *control, const char *name, json_t *data,
		      const struct timespec *when)
{
	struct client *c, *next;
	json_t *event =
		json_pack("{s:{s:I,s:I},s:s}", "timestamp", "seconds", (json_int_t)when->tv_sec,
			  "microseconds", (json_int_t)(when->tv_nsec / 1000), "event", name);

	if (data)
		json_object_set_new(event, "data", data);
	TAILQ_FOREACH_SAFE (c, &control->clients, entry, next)
		if (c->negotiated)
			client_send(c, json_incref(event));
	json_decref(event);
}

void control_emit(struct control *control, const char *name, json_t *data)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	broadcast(control, name, data, &now);
}

static bool events_wanted(struct control *control)
{
	struct migration_params params;
	struct migration_caps caps;

	migration_get_settings(&control->app->migration, &params, &caps);
	return caps.events != CAPABILITY_OFF;
}

static void emit_posted(void *opaque)
{
	struct posted_event *e = opaque;
	struct control *control = e->control;
	const char *status =
		e->event == EVENT_MIGRATION ? migration_status_name(e->value) : "active";

	if (e->event == EVENT_INCOMING)
		control->app->incoming_status = status;
	if (TAILQ_EMPTY(&control->clients)) {
		free(e);
		return; /* nobody to make texts for */
	}
	switch (e->event) {
	case EVENT_STOP:
		broadcast(control, "STOP", NULL, &e->when);
		break;
	case EVENT_RESUME:
		broadcast(control, "RESUME", NULL, &e->when);
		break;
	case EVENT_MIGRATION:
	case EVENT_INCOMING:
		if (events_wanted(control))
			broadcast(control, "MIGRATION", json_pack("{s:s}", "status", status),
				  &e->when);
		break;
	case EVENT_MIGRATION_PASS:
		if (events_wanted(control))
			broadcast(control, "MIGRATION_PASS",
				  json_pack("{s:I}", "pass", (json_int_t)e->value), &e->when);
		break;
	}
	free(e);
}

void control_post_event(struct control *control, enum control_event event, uint64_t value)
{
	struct posted_event *e = xcalloc(1, sizeof(*e));

	*e = (struct posted_event){ .control = control, .event = event, .value = value };
	clock_gettime(CLOCK_REALTIME, &e->when);
	loop_post(control->app->loop, emit_posted, e);
}

void control_emit_shutdown(struct control *control, bool by_guest, const char *reason)
{
	control_emit(control, "SHUTDOWN",
		     json_pack("{s:b,s:s}", "guest", by_guest, "reason", reason));
}

void control_emit_migration(struct control *control, const char *status)
{
	if (events_wanted(control))
		control_emit(control, "MIGRATION", json_pack("{s:s}", "status", status));
}

void control_emit_reset(struct control *control, bool by_guest)
{
	control_emit(control, "RESET",
		     json_pack("{s:b,s:s}", "guest", by_guest, "reason",
			       by_guest ? "guest-reset" : "host-qmp-system-reset"));
}

void control_emit_disk_error(struct control *control, const char *id, const char *operation,
			     int error)
{
	control_emit(control, "BLOCK_IO_ERROR",
		     json_pack("{s:s,s:s,s:s,s:s,s:b,s:s}", "device", id, "qom-path", id,
			       "operation", operation, "action", "report", "nospace",
			       error == ENOSPC, "reason", strerror(error)));
}
