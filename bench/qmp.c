/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bench/qmp.h"

#include <errno.h>
#include <sys/socket.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define ANSWER_TIMEOUT_NS (30 * NS_PER_SEC)

/* Read what is there. */
static bool receive(struct qmp *qmp, struct why *why)
{
	char buf[4096];
	ssize_t n = recv(qmp->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return why_set(why, "QMP: the connection has ended");
	qmp->in = realloc(qmp->in, qmp->in_len + (size_t)n);
	if (!qmp->in)
		abort();
	memcpy(qmp->in + qmp->in_len, buf, (size_t)n);
	qmp->in_len += (size_t)n;
	return true;
}

/* One message, which is one line; NULL where there is no whole line yet. */
static json_t *take_message(struct qmp *qmp)
{
	char *end = qmp->in_len ? memchr(qmp->in, '\n', qmp->in_len) : NULL;
	size_t len = end ? (size_t)(end - qmp->in) + 1 : 0;
	json_t *message;

	if (!end)
		return NULL;
	message = json_loadb(qmp->in, len, 0, NULL);
	memmove(qmp->in, qmp->in + len, qmp->in_len - len);
	qmp->in_len -= len;
	return message ? message : json_object();
}

static void note_event(struct qmp *qmp, json_t *message)
{
	const char *event = json_string_value(json_object_get(message, "event"));
	json_t *data = json_object_get(message, "data");
	const char *status = json_string_value(json_object_get(data, "status"));

	if (event && status && strcmp(event, "MIGRATION") == 0)
		snprintf(qmp->status, sizeof(qmp->status), "%s", status);
}

/* The next message that has that member; events are noted. */
static json_t *wait_message(struct qmp *qmp, const char *member, const char *other, struct why *why)
{
	uint64_t deadline = clock_now_ns() + ANSWER_TIMEOUT_NS;
	struct pollfd pfd = { .fd = qmp->fd, .events = POLLIN };

	for (;;) {
		json_t *message = take_message(qmp);

		if (message) {
			note_event(qmp, message);
			if (json_object_get(message, member) || json_object_get(message, other))
				return message;
			json_decref(message);
			continue;
		}
		if (wait_fds(&pfd, 1, deadline) <= 0) {
			why_set(why, "QMP: no answer");
			return NULL;
		}
		if (!receive(qmp, why))
			return NULL;
	}
}

json_t *qmp_call(struct qmp *qmp, const char *command, json_t *args, struct why *why)
{
	json_t *request = json_pack("{s:s}", "execute", command);
	json_t *answer, *result;
	scoped_free char *text = NULL;
	size_t len;

	if (args)
		json_object_set_new(request, "arguments", args);
	text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	len = text ? strlen(text) : 0;
	if (!text || send(qmp->fd, text, len, MSG_NOSIGNAL) != (ssize_t)len ||
	    send(qmp->fd, "\n", 1, MSG_NOSIGNAL) != 1) {
		why_set(why, "QMP %s: cannot send", command);
		return NULL;
	}
	answer = wait_message(qmp, "return", "error", why);
	if (!answer)
		return NULL;
	result = json_incref(json_object_get(answer, "return"));
	if (!result)
		why_set(why, "QMP %s: %s", command,
			json_string_value(
				json_object_get(json_object_get(answer, "error"), "desc")));
	json_decref(answer);
	return result;
}

bool qmp_do(struct qmp *qmp, const char *command, json_t *args, struct why *why)
{
	json_t *result = qmp_call(qmp, command, args, why);

	json_decref(result);
	return result != NULL;
}

bool qmp_connect(struct qmp *qmp, const char *path, const struct child *child, struct why *why)
{
	json_t *greeting;

	*qmp = (struct qmp){ .fd = wait_connect(path, child, clock_now_ns() + ANSWER_TIMEOUT_NS,
						why) };
	if (qmp->fd < 0)
		return false;
	greeting = wait_message(qmp, "QMP", "QMP", why);
	json_decref(greeting);
	return greeting && qmp_do(qmp, "qmp_capabilities", NULL, why);
}

void qmp_close(struct qmp *qmp)
{
	if (qmp->fd >= 0)
		close(qmp->fd);
	free(qmp->in);
	*qmp = (struct qmp){ .fd = -1 };
}

bool qmp_take_events(struct qmp *qmp, struct why *why)
{
	json_t *message;

	if (!receive(qmp, why))
		return false;
	while ((message = take_message(qmp)) != NULL) {
		note_event(qmp, message);
		json_decref(message);
	}
	return true;
}
