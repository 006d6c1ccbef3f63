/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/qmp_client.h"

#include <errno.h>
#include <sys/socket.h>

#include "migration/stream/transport.h"
#include "vmm/base/cleanup.h"

struct qmp_client {
	int fd;
	FILE *in;
	char *line;
	size_t line_size;
	const char *kept; /* what the name of an event to keep begins with */
	json_t *events;	  /* an array of those */
};

static json_t *read_object(struct qmp_client *c, struct error **errp)
{
	json_error_t error;
	json_t *json;
	ssize_t n;

	do {
		errno = 0;
		n = getline(&c->line, &c->line_size, c->in);
	} while (n < 0 && errno == EINTR && (clearerr(c->in), true));
	if (n < 0) {
		error_set(errp, "control socket: the VMM has closed the connection");
		return NULL;
	}
	json = json_loads(c->line, 0, &error);
	if (!json)
		error_set(errp, "control socket: not JSON: %s", error.text);
	return json;
}

static bool send_all(int fd, const char *data, size_t len, struct error **errp)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EPIPE)
			return true; /* what was said before it was closed is still to be read */
		if (n < 0) {
			error_set_errno(errp, errno, "control socket");
			return false;
		}
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* Takes it over. */
static void take_event(struct qmp_client *c, json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "event"));

	if (name && c->kept && strncmp(name, c->kept, strlen(c->kept)) == 0)
		json_array_append(c->events, event);
	json_decref(event);
}

void qmp_client_keep_events(struct qmp_client *c, const char *prefix)
{
	c->kept = prefix;
}

json_t *qmp_client_take_event(struct qmp_client *c)
{
	json_t *event = json_incref(json_array_get(c->events, 0));

	json_array_remove(c->events, 0);
	return event;
}

json_t *qmp_client_call(struct qmp_client *c, const char *command, json_t *args,
			struct error **errp)
{
	json_t *request = json_pack("{s:s}", "execute", command);
	scoped_free char *text = NULL;
	bool sent;

	if (args)
		json_object_set_new(request, "arguments", args);
	text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	sent = text && send_all(c->fd, text, strlen(text), errp);
	while (sent) {
		json_t *answer = read_object(c, errp);
		json_t *result, *error;

		if (!answer)
			return NULL;
		result = json_incref(json_object_get(answer, "return"));
		error = json_object_get(answer, "error");
		if (error) {
			const char *desc = json_string_value(json_object_get(error, "desc"));

			error_set(errp, "%s", desc ? desc : "the command failed");
		}
		if (result || error) {
			json_decref(answer);
			return result;
		}
		take_event(c, answer);
	}
	return NULL;
}

struct qmp_client *qmp_client_connect(const char *path, struct error **errp)
{
	struct qmp_client *c;
	json_t *json;
	int fd = unix_connect(path, errp);

	if (fd < 0)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->fd = fd;
	c->events = json_array();
	c->in = fdopen(fd, "r");
	if (!c->in)
		abort();
	json = read_object(c, errp);
	if (json) {
		bool greeting = json_object_get(json, "QMP") != NULL;

		json_decref(json);
		json = NULL;
		if (greeting)
			json = qmp_client_call(c, "qmp_capabilities", NULL, errp);
		else
			error_set(errp, "unix:%s: no QMP greeting", path);
	}
	if (!json) {
		qmp_client_close(c);
		return NULL;
	}
	json_decref(json);
	return c;
}

void qmp_client_close(struct qmp_client *c)
{
	if (!c)
		return;
	fclose(c->in);
	free(c->line);
	json_decref(c->events);
	free(c);
}
