/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the control socket speaks QMP as its documentation has it, so that existing clients work: greeting, negotiation, ids,
 * error classes, events, shapes of the answers, for several clients at a time and however the bytes are cut up.
 *
 * Approach: raw text where the framing is the question, and the client of the other tests where the content is. Shapes are
 * checked by unpacking them with the types that are documented.
 */
#include "tests/integration/moves.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

TestSuite(qmp, .init = world_begin, .fini = world_end, .timeout = 600);

static struct side *start_timer(struct beats *b)
{
	struct side *s = side_start(
		"vm", &(struct side_options){
			      .payload = "timer", .memory_mib = 16, .cpus = 2, .beats = b });

	await_beats(b, 5);
	return s;
}

/* In the strict mode nothing may be left over. */
static void expect_shape(json_t *json, const char *what, const char *format, ...)
{
	json_error_t error;
	va_list ap;

	va_start(ap, format);
	check(json_vunpack_ex(json, &error, JSON_STRICT, format, ap) == 0, "%s: %s in %s", what,
	      error.text, json_dumps(json, 0));
	va_end(ap);
}

static void expect_error(json_t *answer, const char *class)
{
	json_t *error = json_object_get(answer, "error");

	check(error, "no error");
	check(strcmp(json_text(error, "class"), class) == 0, "class %s", json_text(error, "class"));
	check(*json_text(error, "desc"), "no desc");
}

Test(qmp, greeting_and_negotiation)
{
	struct side *s = start_timer(new_beats());
	struct qmp *q = qmp_connect(s);
	int major, minor, micro;
	const char *package;
	json_t *capabilities;

	expect_shape(q->greeting, "greeting", "{s:{s:{s:{s:i,s:i,s:i},s:s},s:o}}", "QMP", "version",
		     "qemu", "major", &major, "minor", &minor, "micro", &micro, "package", &package,
		     "capabilities", &capabilities);
	cr_assert(json_is_array(capabilities));
	cr_assert(strstr(package, "ferry"));
	qmp_refused(q, "query-status", NULL, "CommandNotFound", "qmp_capabilities");
	qmp_refused(q, "stop", NULL, "CommandNotFound", "qmp_capabilities");
	expect_status(s, "running");
	qmp_refused(q, "qmp_capabilities", json_pack("{s:s}", "enable", "oob"), "GenericError",
		    "enable");
	qmp_call(q, "qmp_capabilities", json_pack("{s:[]}", "enable"));
	qmp_refused(q, "qmp_capabilities", NULL, "CommandNotFound", "already");
	qmp_call(q, "query-status", NULL);
	qmp_close(q);
}

Test(qmp, ids_are_echoed)
{
	static const char *const ids[] = { "1",
					   "\"a string\"",
					   "null",
					   "[1,{\"x\":true}]",
					   "1.5",
					   "{\"deep\":{\"er\":[]}}",
					   "9007199254740993" };
	struct side *s = start_timer(new_beats());

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		json_t *want = json_loads(ids[i], JSON_DECODE_ANY, NULL), *answer;

		qmp_send(s->qmp, text_format("{\"execute\":\"query-kvm\",\"id\":%s}\n", ids[i]));
		answer = qmp_answer(s->qmp);
		check(json_object_get(answer, "return"), "id %s", ids[i]);
		check(json_equal(json_object_get(answer, "id"), want), "id %s", ids[i]);
		qmp_send(s->qmp, text_format("{\"id\":%s,\"execute\":\"fly\"}\n", ids[i]));
		answer = qmp_answer(s->qmp);
		expect_error(answer, "CommandNotFound");
		check(json_equal(json_object_get(answer, "id"), want), "id %s of an error", ids[i]);
		json_decref(want);
	}
	qmp_send(s->qmp, "{\"execute\":\"query-kvm\"}\n");
	cr_assert_null(json_object_get(qmp_answer(s->qmp), "id"));
}

Test(qmp, refused_input)
{
	static const struct {
		const char *text, *class, *words;
	} cases[] = {
		{ "{\"execute\":\"fly\"}", "CommandNotFound", "fly" },
		{ "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"x\"}}",
		  "CommandNotFound", "human-monitor-command" },
		{ "{\"execute\":1}", "GenericError", "string" },
		{ "{}", "GenericError", "execute" },
		{ "[]", "GenericError", "object" },
		{ "\"stop\"", "GenericError", "object" },
		{ "{\"execute\":\"stop\",\"arguments\":[]}", "GenericError", "object" },
		{ "{\"execute\":\"stop\",\"arguments\":{\"now\":true}}", "GenericError", "now" },
		{ "{\"execute\":\"stop\",\"please\":true}", "GenericError", "please" },
		{ "{\"execute\":\"migrate\"}", "GenericError", "uri" },
		{ "{\"execute\":\"migrate\",\"arguments\":{\"uri\":5}}", "GenericError", "string" },
		{ "{\"execute\":\"cont\",\"arguments\":{\"claim-guest\":1}}", "GenericError",
		  "boolean" },
		{ "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"speed\":5}}",
		  "GenericError", "speed" },
		{ "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":-1}}",
		  "GenericError", "max-bandwidth" },
		{ "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":\"1\"}"
		  "}",
		  "GenericError", "integer" },
		{ "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
		  "[{\"capability\":\"flying\",\"state\":true}]}}",
		  "GenericError", "flying" },
		{ "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"unix:x\"}}",
		  "GenericError", "defer" },
	};
	struct beats *b = new_beats();
	struct side *s = start_timer(b);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *answer;

		qmp_send(s->qmp, text_format("%s\r\n", cases[i].text));
		answer = qmp_answer(s->qmp);
		check(json_object_get(answer, "error"), "%s is not refused", cases[i].text);
		expect_error(answer, cases[i].class);
		check(strstr(json_text(json_object_get(answer, "error"), "desc"), cases[i].words),
		      "%s: '%s' does not say '%s'", cases[i].text,
		      json_text(json_object_get(answer, "error"), "desc"), cases[i].words);
	}
	expect_status(s, "running");
	await_beats(b, 20);
}

/* Broken JSON is answered, and the connection is of use from the next line on. */
Test(qmp, broken_json)
{
	static const char *const texts[] = { "nonsense\n", "{\"execute\" \"stop\"}\n", "{]\n",
					     "\x01\x02\n", "{\"execute\n" };
	struct side *s = start_timer(new_beats());

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		qmp_send(s->qmp, texts[i]);
		expect_error(qmp_answer(s->qmp), "GenericError");
		qmp_call(s->qmp, "query-kvm", NULL);
	}
}

/* Cut at every byte, in the middle of an escape and of a UTF-8 sequence, too; between the parts, another client is served. */
Test(qmp, split_input)
{
	static const char request[] =
		"{\"execute\": \"query-kvm\", \"id\": \"\\u00e4\xc3\xa4}{\\\"\"}";
	struct side *s = start_timer(new_beats());
	struct qmp *other = qmp_open(s);

	for (size_t cut = 1; cut < strlen(request); cut++) {
		json_t *answer;

		qmp_send(s->qmp, text_format("%.*s", (int)cut, request));
		qmp_call(other, "query-kvm", NULL);
		qmp_send(s->qmp, request + cut);
		answer = qmp_answer(s->qmp);
		check(json_object_get(answer, "return"), "cut at %zu: %s", cut,
		      json_text(json_object_get(answer, "error"), "desc"));
		cr_assert_str_eq(json_text(answer, "id"), "\xc3\xa4\xc3\xa4}{\"");
	}
	qmp_close(other);
}

Test(qmp, joined_input)
{
	struct side *s = start_timer(new_beats());

	/* Many at once, in order, whatever is between them. */
	qmp_send(s->qmp,
		 "{\"execute\":\"query-kvm\",\"id\":0}{\"execute\":\"query-kvm\",\"id\":1}"
		 "\n\n \t{\"execute\":\"fly\",\"id\":2}\r\n{\"execute\":\"query-kvm\",\"id\":3}");
	for (int i = 0; i < 4; i++)
		cr_assert_eq(json_number(qmp_answer(s->qmp), NULL, "id"), i);
}

Test(qmp, queries)
{
	struct beats *b = new_beats();
	struct side *s = start_timer(b);
	int i, running, enabled, present, index, tid, socket, core, thread;
	const char *status, *path, *target;
	json_t *cpu, *list;
	json_int_t bandwidth, downtime, cache;
	size_t k;

	expect_shape(call(s, "query-status", NULL), "query-status", "{s:s,s:b}", "status", &status,
		     "running", &running);
	cr_assert(strcmp(status, "running") == 0 && running);
	expect_shape(call(s, "query-kvm", NULL), "query-kvm", "{s:b,s:b}", "enabled", &enabled,
		     "present", &present);
	cr_assert(enabled && present);
	json_array_foreach(call(s, "query-cpus-fast", NULL), k, cpu)
	{
		expect_shape(cpu, "query-cpus-fast", "{s:i,s:s,s:i,s:s,s:{s:i,s:i,s:i}}",
			     "cpu-index", &index, "qom-path", &path, "thread-id", &tid, "target",
			     &target, "props", "socket-id", &socket, "core-id", &core, "thread-id",
			     &thread);
		cr_assert_eq(index, (int)k);
		cr_assert_eq(access(text_format("/proc/%d/task/%d", s->pid, tid), F_OK), 0);
	}
	cr_assert_eq(k, 2);
	expect_shape(call(s, "query-migrate-parameters", NULL), "parameters", "{s:I,s:I,s:I}",
		     "max-bandwidth", &bandwidth, "downtime-limit", &downtime, "xbzrle-cache-size",
		     &cache);
	cr_assert_eq(downtime, 300);
	list = call(s, "query-migrate-capabilities", NULL);
	cr_assert(json_array_size(list) >= 4);
	json_array_foreach(list, k, cpu)
		expect_shape(cpu, "capabilities", "{s:s,s:b}", "capability", &path, "state", &i);
	cr_assert_eq(json_object_size(query_migrate(s)), 0);
}

/* Each command that issue and documentation promise. */
Test(qmp, commands)
{
	static const char *const names[] = { "qmp_capabilities",
					     "query-version",
					     "query-commands",
					     "query-status",
					     "query-kvm",
					     "stop",
					     "cont",
					     "quit",
					     "system_reset",
					     "query-cpus-fast",
					     "migrate",
					     "migrate-incoming",
					     "migrate_cancel",
					     "migrate-continue",
					     "query-migrate",
					     "migrate-set-capabilities",
					     "query-migrate-capabilities",
					     "migrate-set-parameters",
					     "query-migrate-parameters" };
	struct side *s = start_timer(new_beats());
	json_t *list = call(s, "query-commands", NULL), *item;
	size_t i;

	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		bool found = false;

		json_array_foreach(list, i, item) found |=
			strcmp(json_text(item, "name"), names[n]) == 0;
		check(found, "%s is missing", names[n]);
	}
	/* And what is listed exists. */
	json_array_foreach(list, i, item)
	{
		json_t *answer = qmp_execute(s->qmp, json_text(item, "name"),
					     json_pack("{s:n}", "no such argument"));

		check(strcmp(json_text(json_object_get(answer, "error"), "desc"), "") != 0,
		      "%s takes anything", json_text(item, "name"));
	}
}

Test(qmp, settings_stay)
{
	struct side *s = start_timer(new_beats());
	json_t *params, *list, *item;
	size_t i;

	call(s, "migrate-set-parameters",
	     json_pack("{s:I,s:I,s:I}", "max-bandwidth", (json_int_t)123456, "downtime-limit",
		       (json_int_t)77, "xbzrle-cache-size", (json_int_t)(8 << 20)));
	/* One that is wrong changes none. */
	refused(s, "migrate-set-parameters",
		json_pack("{s:i,s:i}", "max-bandwidth", 5, "downtime-limit", -1), "downtime-limit");
	params = call(s, "query-migrate-parameters", NULL);
	cr_assert_eq(json_number(params, NULL, "max-bandwidth"), 123456);
	cr_assert_eq(json_number(params, NULL, "downtime-limit"), 77);
	cr_assert_eq(json_number(params, NULL, "xbzrle-cache-size"), 8 << 20);
	refused(s, "migrate-set-capabilities",
		json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability", "xbzrle",
			  "state", 0, "capability", "nonsense", "state", 1),
		"nonsense");
	list = call(s, "query-migrate-capabilities", NULL);
	json_array_foreach(list, i, item) if (strcmp(json_text(item, "capability"), "xbzrle") == 0)
		cr_assert(json_is_true(json_object_get(item, "state")));
}

Test(qmp, several_clients)
{
	struct beats *b = new_beats();
	struct side *s = start_timer(b);
	struct qmp *clients[5], *deaf = qmp_connect(s);

	for (size_t i = 0; i < 5; i++)
		clients[i] = qmp_open(s);
	call(s, "stop", NULL);
	for (size_t i = 0; i < 5; i++) {
		json_t *event = qmp_event(clients[i], "STOP");

		cr_assert(json_number(event, "timestamp", "seconds") > 0);
		cr_assert(json_number(event, "timestamp", "microseconds") < 1000000);
		cr_assert_str_eq(json_text(qmp_call(clients[i], "query-status", NULL), "status"),
				 "paused");
	}
	qmp_close(clients[1]);
	qmp_close(clients[3]);
	qmp_call(clients[4], "cont", NULL);
	qmp_event(clients[0], "RESUME");
	qmp_event(clients[2], "RESUME");
	qmp_event(s->qmp, "RESUME");
	cr_assert_eq(json_array_size(deaf->events), 0, "events before the negotiation");
	await_beats(b, 20);
	qmp_close(deaf);
	qmp_close(clients[0]);
	qmp_close(clients[2]);
	qmp_close(clients[4]);
}

/* A new descriptor of that process has to be below the limit; those that are open stay. */
static struct rlimit limit_descriptors(struct side *s, rlim_t limit)
{
	struct rlimit before, now;

	check(prlimit(s->pid, RLIMIT_NOFILE, NULL, &before) == 0, "prlimit");
	now = (struct rlimit){ .rlim_cur = limit, .rlim_max = before.rlim_max };
	check(prlimit(s->pid, RLIMIT_NOFILE, &now, NULL) == 0, "prlimit");
	return before;
}

/* Those that are connected go on, and the next one is served when there is a descriptor for it. */
Test(qmp, no_descriptor_for_a_client)
{
	struct side *s = start_timer(new_beats());
	struct rlimit before = limit_descriptors(s, 3);
	int fd = connect_unix(s->control);
	struct text greeting = { 0 };

	cr_assert(fd >= 0);
	WAIT_FOR(side_said(s, "--control: connections have to wait: Too many open files"));
	expect_status(s, "running");
	await_beats(s->beats, 5);
	limit_descriptors(s, before.rlim_cur);
	qmp_connect(s); /* behind the one that has waited */
	cr_assert(text_read(&greeting, fd) && strstr(text_of(&greeting), "\"QMP\""));
	cr_assert_null(strstr(strstr(text_of(&s->err), "have to wait") + 1, "have to wait"));
	text_release(&greeting);
	close(fd);
}

/* Somebody who asks and does not listen is dropped before he fills our memory; others are not disturbed. */
Test(qmp, client_that_does_not_read)
{
	static const char request[] = "{\"execute\":\"query-commands\"}";
	struct beats *b = new_beats();
	struct side *s = start_timer(b);
	struct qmp *q = qmp_open(s);
	struct text batch = { 0 };
	size_t sent = 0;

	for (int i = 0; i < 100; i++)
		text_add(&batch, request, strlen(request));
	unwatch(q->fd);
	/* Its connection is closed by ferry sooner or later: sending to it then fails. */
	while (write(q->fd, batch.data, batch.len) >= 0) {
		sent += batch.len;
		check(sent < 16u << 20, "16 MiB of questions were taken");
		call(s, "query-kvm", NULL);
	}
	cr_assert(errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
	text_release(&batch);
	call(s, "query-status", NULL);
	await_beats(b, 20);
	qmp_close(q);
}

Test(qmp, events_of_a_life)
{
	struct beats *b = new_beats();
	struct side *s = start_timer(b);
	json_t *data;
	const char *reason;
	int guest;

	call(s, "stop", NULL);
	qmp_event(s->qmp, "STOP");
	call(s, "stop", NULL);
	call(s, "cont", NULL);
	qmp_event(s->qmp, "RESUME");
	call(s, "cont", NULL);
	beats_allow_restart(b);
	call(s, "system_reset", NULL);
	data = qmp_event(s->qmp, "RESET");
	expect_shape(data, "RESET", "{s:b,s:s}", "guest", &guest, "reason", &reason);
	cr_assert(!guest && strcmp(reason, "host-qmp-system-reset") == 0);
	cr_assert(!qmp_has_event(s->qmp, "STOP"), "stop of a stopped guest is no event");
	cr_assert_eq(json_object_size(call(s, "quit", NULL)), 0);
	data = qmp_event(s->qmp, "SHUTDOWN");
	expect_shape(data, "SHUTDOWN", "{s:b,s:s}", "guest", &guest, "reason", &reason);
	cr_assert(!guest && strcmp(reason, "host-qmp-quit") == 0);
	cr_assert_eq(side_wait(s), 0);
}

/* What the guest does is told as the guest's. */
Test(qmp, events_of_the_guest)
{
	static const char *const args[] = { "--paused", "--on-reset", "reset", NULL };
	struct beats *b = new_beats();
	struct side *s = side_start("vm", &(struct side_options){ .payload = "hello",
								  .cmdline = "boots=2 exit=1",
								  .beats = b,
								  .more = args });
	json_t *data;

	call(s, "cont", NULL);
	data = qmp_event(s->qmp, "RESET");
	cr_assert(json_is_true(json_object_get(data, "guest")));
	cr_assert_str_eq(json_text(data, "reason"), "guest-reset");
	data = qmp_event(s->qmp, "SHUTDOWN");
	cr_assert(json_is_true(json_object_get(data, "guest")));
	cr_assert_str_eq(json_text(data, "reason"), "guest-shutdown");
	cr_assert_eq(side_wait(s), 3);
}

/* Without the capability there are no events of migrations, with it they are in the order of their making. */
Test(qmp, events_of_a_migration)
{
	static const char *const order[] = { "setup", "active", "device", "completed" };
	struct beats *b = new_beats();
	struct side *source = start_timer(b);
	struct side *target = start_target("target", b);
	struct side *third = start_target("third", b);

	move(source, target);
	cr_assert(source->qmp->pass >= 2);
	cr_assert_eq(json_array_size(source->qmp->statuses), 4);
	for (size_t i = 0; i < 4; i++)
		cr_assert_str_eq(json_string_value(json_array_get(source->qmp->statuses, i)),
				 order[i]);
	qmp_event(source->qmp, "STOP");
	qmp_event(target->qmp, "RESUME");
	json_array_clear(target->qmp->events);
	set_capability(target, "events", false);
	begin_migration(target, side_uri(third));
	qmp_event(target->qmp, "STOP");
	await_migration(third, "completed");
	expect_status(third, "running");
	cr_assert_eq(json_array_size(target->qmp->statuses), 0);
	cr_assert(!qmp_has_event(target->qmp, "MIGRATION_PASS"));
}

Test(qmp, query_migrate)
{
	struct beats *b = new_beats();
	struct side *source = start_timer(b);
	struct side *target = start_target("target", b);
	static const char *const ram[] = { "transferred",  "remaining",	       "total",
					   "duplicate",	   "skipped",	       "normal",
					   "normal-bytes", "dirty-pages-rate", "dirty-sync-count",
					   "page-size",	   "pages-per-second" };
	json_t *q;

	set_parameter(source, "max-bandwidth", BARELY);
	begin_migration(source, side_uri(target));
	await_pass(source, 1);
	await_migration(target, "active");
	q = query_migrate(source);
	cr_assert_str_eq(json_text(q, "status"), "active");
	for (size_t i = 0; i < sizeof(ram) / sizeof(ram[0]); i++)
		json_number(q, "ram", ram[i]);
	cr_assert(json_is_real(json_object_get(json_object_get(q, "ram"), "mbps")));
	json_number(q, NULL, "total-time");
	json_number(q, NULL, "setup-time");
	cr_assert_null(json_object_get(q, "downtime"));
	cr_assert_null(json_object_get(q, "error-desc"));
	cr_assert_eq(json_number(q, "ram", "dirty-sync-count"), 1);
	cr_assert_eq(json_number(q, "ram", "page-size"), 4096);
	cr_assert_str_eq(json_text(query_migrate(target), "status"), "active");
	set_parameter(source, "max-bandwidth", NO_CAP);
	await_migration(source, "completed");
	await_migration(target, "completed");
	q = query_migrate(source);
	cr_assert_eq(json_number(q, "ram", "remaining"), 0);
	cr_assert(json_number(q, NULL, "downtime") >= 0);
	cr_assert(json_number(q, NULL, "total-time") >= json_number(q, NULL, "downtime"));
	cr_assert_str_eq(json_text(query_migrate(target), "status"), "completed");
}
