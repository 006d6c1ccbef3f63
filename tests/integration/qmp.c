/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/qmp.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"

const char *json_text(json_t *json, const char *member)
{
	const char *s = json_string_value(json_object_get(json, member));

	return s ? s : "";
}

json_int_t json_number(json_t *json, const char *group, const char *member)
{
	json_t *from = group ? json_object_get(json, group) : json;
	json_t *n = json_object_get(from, member);

	check(json_is_integer(n), "no number %s%s%s", group ? group : "", group ? "." : "", member);
	return json_integer_value(n);
}

static void take_event(struct qmp *q, json_t *event)
{
	const char *name = json_text(event, "event");
	json_t *data = json_object_get(event, "data");

	if (strcmp(name, "MIGRATION") == 0)
		json_array_append(q->statuses, json_object_get(data, "status"));
	if (strcmp(name, "MIGRATION_PASS") == 0)
		q->pass = json_number(data, NULL, "pass");
	json_array_append(q->events, event);
}

static void take_line(struct qmp *q, const char *line, size_t len)
{
	json_error_t error;
	json_t *json = json_loadb(line, len, 0, &error);

	check(json, "%s: not JSON: %s: %.*s", q->side->name, error.text, (int)len, line);
	if (json_object_get(json, "QMP"))
		q->greeting = keep_json(json_incref(json));
	else if (json_object_get(json, "event"))
		take_event(q, json);
	else
		json_array_append(q->answers, json);
	json_decref(json);
}

static void on_readable(void *opaque, short revents)
{
	struct qmp *q = opaque;
	bool open = text_read(&q->in, q->fd);
	char *end;

	(void)revents;
	while (q->in.len && (end = memchr(q->in.data, '\n', q->in.len))) {
		size_t len = (size_t)(end - q->in.data) + 1;

		take_line(q, q->in.data, len);
		text_drop(&q->in, len);
	}
	if (open)
		return;
	unwatch(q->fd);
	close(q->fd);
	q->fd = -1;
}

static void on_inotify(void *opaque, short revents)
{
	char buf[4096];
	int fd = *(int *)opaque;

	(void)revents;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

/* The socket's name appears when ferry binds it; between that and its listening there is only a moment. */
static int connect_when_there(struct side *s)
{
	uint64_t deadline = world_deadline();
	int notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	char *dir = world_path("");
	int fd;

	cr_assert(notify >= 0 && inotify_add_watch(notify, dir, IN_CREATE) >= 0);
	watch(notify, POLLIN, on_inotify, &notify);
	while ((fd = connect_unix(s->control)) < 0) {
		check(!s->exited, "%s has ended", s->name);
		if (errno == ECONNREFUSED)
			sched_yield();
		else
			check(world_turn(deadline), "%s does not listen on %s", s->name,
			      s->control);
	}
	unwatch(notify);
	close(notify);
	return fd;
}

struct qmp *qmp_connect(struct side *s)
{
	struct qmp *q = xcalloc(1, sizeof(*q));

	q->side = s;
	q->answers = keep_json(json_array());
	q->events = keep_json(json_array());
	q->statuses = keep_json(json_array());
	q->fd = connect_when_there(s);
	watch(q->fd, POLLIN, on_readable, q);
	WAIT_FOR(q->greeting || q->fd < 0);
	check(q->greeting, "%s: no greeting", s->name);
	return q;
}

struct qmp *qmp_open(struct side *s)
{
	struct qmp *q = qmp_connect(s);

	qmp_call(q, "qmp_capabilities", NULL);
	qmp_call(q, "migrate-set-capabilities",
		 json_pack("{s:[{s:s,s:b}]}", "capabilities", "capability", "events", "state", 1));
	return q;
}

void qmp_close(struct qmp *q)
{
	if (q->fd >= 0) {
		unwatch(q->fd);
		close(q->fd);
	}
	text_release(&q->in);
	free(q);
}

void qmp_send(struct qmp *q, const char *text)
{
	size_t len = strlen(text);

	check(send(q->fd, text, len, MSG_NOSIGNAL) == (ssize_t)len, "%s: control socket: %s",
	      q->side->name, strerror(errno));
}

json_t *qmp_answer(struct qmp *q)
{
	WAIT_FOR(json_array_size(q->answers) > q->answered || q->fd < 0);
	check(json_array_size(q->answers) > q->answered, "%s closed its control socket",
	      q->side->name);
	return json_array_get(q->answers, q->answered++);
}

json_t *qmp_execute(struct qmp *q, const char *command, json_t *args)
{
	unsigned int id = q->next_id++;
	json_t *request = json_pack("{s:s,s:i}", "execute", command, "id", id);
	scoped_free char *text = NULL;
	json_t *answer;

	if (args)
		json_object_set_new(request, "arguments", args);
	text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	qmp_send(q, text);
	answer = qmp_answer(q);
	check(json_number(answer, NULL, "id") == id, "%s: the answer to %s has another id",
	      q->side->name, command);
	return answer;
}

json_t *qmp_call(struct qmp *q, const char *command, json_t *args)
{
	json_t *answer = qmp_execute(q, command, args);
	json_t *result = json_object_get(answer, "return");

	check(result, "%s: %s: %s", q->side->name, command,
	      json_text(json_object_get(answer, "error"), "desc"));
	return result;
}

const char *qmp_refused(struct qmp *q, const char *command, json_t *args, const char *class,
			const char *words)
{
	json_t *answer = qmp_execute(q, command, args);
	json_t *error = json_object_get(answer, "error");
	const char *desc = json_text(error, "desc");

	check(error, "%s: %s was not refused", q->side->name, command);
	check(strcmp(json_text(error, "class"), class) == 0, "%s: %s: class %s, expected %s",
	      q->side->name, command, json_text(error, "class"), class);
	check(strstr(desc, words), "%s: %s: '%s' does not say '%s'", q->side->name, command, desc,
	      words);
	return desc;
}

static size_t find_event(struct qmp *q, const char *name)
{
	size_t i = 0, n = json_array_size(q->events);

	while (i < n && strcmp(json_text(json_array_get(q->events, i), "event"), name) != 0)
		i++;
	return i;
}

bool qmp_has_event(struct qmp *q, const char *name)
{
	return find_event(q, name) < json_array_size(q->events);
}

json_t *qmp_event(struct qmp *q, const char *name)
{
	json_t *event, *data;
	size_t i;

	WAIT_FOR(qmp_has_event(q, name) || q->fd < 0);
	check(qmp_has_event(q, name), "%s has ended without event %s", q->side->name, name);
	i = find_event(q, name);
	event = keep_json(json_incref(json_array_get(q->events, i)));
	for (size_t k = 0; k <= i; k++)
		json_array_remove(q->events, 0);
	data = json_object_get(event, "data");
	return data ? data : event;
}
