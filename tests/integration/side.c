/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/side.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/qmp.h"
#include "vmm/base/cleanup.h"

#define SIDES_MAX 48
#define ARGS_MAX 48

/* In the order of their start, which is the order of their bytes. */
static struct side *sides[SIDES_MAX];
static unsigned int nsides;

const char *ferry_path(void)
{
	const char *path = getenv("FERRY");

	return path ? path : "build/ferry";
}

char *guest_path(const char *payload)
{
	const char *dir = getenv("FERRY_GUESTS");

	return text_format("%s/%s.elf", dir ? dir : "build/guest", payload);
}

/* --- sockets --- */

static int unix_socket(const char *path, struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	check(fd >= 0 && strlen(path) < sizeof(sun->sun_path), "socket %s", path);
	strcpy(sun->sun_path, path);
	return fd;
}

int listen_unix(const char *path)
{
	struct sockaddr_un sun;
	int fd = unix_socket(path, &sun);

	check(bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 && listen(fd, 8) == 0,
	      "listen on %s: %s", path, strerror(errno));
	return fd;
}

int connect_unix(const char *path)
{
	struct sockaddr_un sun;
	int fd = unix_socket(path, &sun);

	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* --- what comes from the process --- */

static void collect(struct text *t, int *fd)
{
	if (*fd < 0 || text_read(t, *fd))
		return;
	unwatch(*fd);
	close(*fd);
	*fd = -1;
}

static void on_output(void *opaque, short revents)
{
	struct side *s = opaque;

	(void)revents;
	collect(&s->out, &s->out_fd);
	collect(&s->err, &s->err_fd);
}

static void read_serials(void)
{
	for (unsigned int i = nsides; i-- > 0;)
		if (!sides[i]->serial_held)
			collect(&sides[i]->fresh, &sides[i]->serial_fd);
	for (unsigned int i = 0; i < nsides; i++) {
		struct side *s = sides[i];

		if (!s->fresh.len)
			continue;
		text_add(&s->serial, s->fresh.data, s->fresh.len);
		if (s->beats)
			beats_feed(s->beats, s->name, s->fresh.data, s->fresh.len);
		text_drop(&s->fresh, s->fresh.len);
	}
}

static void on_serial(void *opaque, short revents)
{
	(void)opaque;
	(void)revents;
	read_serials();
}

static void on_serial_connection(void *opaque, short revents)
{
	struct side *s = opaque;

	(void)revents;
	s->serial_fd = accept4(s->serial_listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s->serial_fd < 0)
		return;
	unwatch(s->serial_listen_fd);
	if (!s->serial_held)
		watch(s->serial_fd, POLLIN, on_serial, s);
}

void side_hold_serial(struct side *s)
{
	s->serial_held = true;
	unwatch(s->serial_fd);
}

void side_release_serial(struct side *s)
{
	s->serial_held = false;
	if (s->serial_fd >= 0)
		watch(s->serial_fd, POLLIN, on_serial, s);
}

/* All that it has said is there to be read; it may have come and gone before we have so much as accepted its serial line. */
static void on_exit_of(void *opaque, short revents)
{
	struct side *s = opaque;
	int status;

	(void)revents;
	if (waitpid(s->pid, &status, WNOHANG) != s->pid)
		return;
	s->exited = true;
	s->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	unwatch(s->pidfd);
	on_output(s, 0);
	if (s->serial_listen_fd >= 0 && s->serial_fd < 0)
		on_serial_connection(s, 0);
	read_serials();
}

static void show(void *opaque)
{
	struct side *s = opaque;
	siginfo_t info = { 0 };
	size_t tail = s->serial.len > 300 ? s->serial.len - 300 : 0;

	fprintf(stderr, "--- %s (%d) ", s->name, s->pid);
	/* It may have ended without our having been told. */
	if (!s->exited &&
	    waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
		fprintf(stderr, "just ended by code %d, %d", info.si_code, info.si_status);
	else if (s->exited)
		fprintf(stderr, "ended with %d", s->status);
	collect(&s->out, &s->out_fd);
	collect(&s->err, &s->err_fd);
	fprintf(stderr, "\n%s%s", text_of(&s->out), text_of(&s->err));
	fprintf(stderr, "--- serial, %zu bytes: ...%s\n", s->serial.len,
		text_of(&s->serial) + tail);
}

static void close_fd(int *fd)
{
	if (*fd >= 0) {
		unwatch(*fd);
		close(*fd);
	}
	*fd = -1;
}

static void side_end(void *opaque)
{
	struct side *s = opaque;

	if (!s->exited) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	if (s->qmp)
		qmp_close(s->qmp);
	close_fd(&s->pidfd);
	close_fd(&s->out_fd);
	close_fd(&s->err_fd);
	close_fd(&s->serial_fd);
	close_fd(&s->serial_listen_fd);
	text_release(&s->out);
	text_release(&s->err);
	text_release(&s->serial);
	text_release(&s->fresh);
	free(s);
	nsides = 0; /* the whole world ends */
}

/* --- start --- */

/* Standard input, output and error of the child, which is us. */
static void take_streams(const struct side_options *o, int out, int err)
{
	int in = o->in_fd > 0 ? o->in_fd : open("/dev/null", O_RDONLY);

	if (o->terminal_fd > 0) {
		setsid();
		ioctl(o->terminal_fd, TIOCSCTTY, 0);
		in = out = o->terminal_fd;
	}
	if (dup2(in, 0) < 0 || dup2(o->out_fd > 0 ? o->out_fd : out, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	if (o->inherit_fd > 0)
		fcntl(o->inherit_fd, F_SETFD, 0);
}

static int spawn(const char *const *argv, const struct side_options *o, int out, int err)
{
	int parent = getpid(), pid = fork();
	sigset_t none;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Whatever these tests run under: nohup, or the background of a shell. */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	take_streams(o, out, err);
	execv(argv[0], (char *const *)argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

struct side *side_spawn(const char *name, const char *const *args, const struct side_options *o)
{
	struct side *s = xcalloc(1, sizeof(*s));
	const char *argv[ARGS_MAX] = { ferry_path() };
	int out[2], err[2];

	for (unsigned int i = 0; args[i]; i++) {
		cr_assert(i + 2 < ARGS_MAX);
		argv[i + 1] = args[i];
	}
	check(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0, "pipe");
	s->name = name;
	s->serial_fd = s->serial_listen_fd = -1;
	s->pid = spawn(argv, o, out[1], err[1]);
	check(s->pid > 0, "fork");
	close(out[1]);
	close(err[1]);
	s->out_fd = out[0];
	s->err_fd = err[0];
	fcntl(s->out_fd, F_SETFL, O_NONBLOCK);
	fcntl(s->err_fd, F_SETFL, O_NONBLOCK);
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	watch(s->pidfd, POLLIN, on_exit_of, s);
	watch(s->out_fd, POLLIN, on_output, s);
	watch(s->err_fd, POLLIN, on_output, s);
	cr_assert(nsides < SIDES_MAX);
	sides[nsides++] = s;
	world_add(&(struct world_item){ side_end, show, NULL, s });
	return s;
}

static const char *serial_option(const char *name, const struct side_options *o, int *listen_fd)
{
	char *path = world_path(text_format("%s.serial", name));

	if (o->serial)
		return o->serial;
	unlink(path); /* of an earlier side of that name */
	*listen_fd = listen_unix(path);
	return text_format("unix:%s", path);
}

struct side *side_launch(const char *name, const struct side_options *o)
{
	const char *args[ARGS_MAX] = { "run", "--serial" };
	unsigned int n = 2;
	char *control = world_path(text_format("%s.control", name));
	int listen_fd = -1;
	struct side *s;

	args[n++] = serial_option(name, o, &listen_fd);
	if (!o->no_control) {
		args[n++] = "--control";
		args[n++] = text_format("unix:%s", control);
	}
	if (o->payload) {
		args[n++] = "--kernel";
		args[n++] = o->payload[0] == '/' ? o->payload : guest_path(o->payload);
		args[n++] = "--memory";
		args[n++] = text_format("%uM", o->memory_mib ? o->memory_mib : 32);
		args[n++] = "--cmdline";
		args[n++] = o->cmdline ? o->cmdline : "";
	} else {
		args[n++] = "--incoming";
		args[n++] = o->incoming ? o->incoming
					: text_format("unix:%s",
						      world_path(text_format("%s.in", name)));
	}
	if (o->cpus) {
		args[n++] = "--cpus";
		args[n++] = text_format("%u", o->cpus);
	}
	for (unsigned int i = 0; o->more && o->more[i]; i++)
		args[n++] = o->more[i];
	s = side_spawn(name, args, o);
	s->control = control;
	s->beats = o->beats;
	s->serial_listen_fd = listen_fd;
	if (listen_fd >= 0)
		watch(listen_fd, POLLIN, on_serial_connection, s);
	return s;
}

struct side *side_start(const char *name, const struct side_options *o)
{
	struct side *s = side_launch(name, o);

	if (!o->no_control)
		s->qmp = qmp_open(s);
	if (!o->payload && (!o->incoming || strcmp(o->incoming, "defer") != 0))
		side_uri(s);
	return s;
}

/* --- what tests ask and do --- */

int side_wait(struct side *s)
{
	WAIT_FOR(s->exited);
	return s->status;
}

void side_kill(struct side *s, int signal)
{
	check(syscall(SYS_pidfd_send_signal, s->pidfd, signal, NULL, 0) == 0, "signal %d to %s",
	      signal, s->name);
}

bool side_said(const struct side *s, const char *text)
{
	return strstr(text_of(&s->err), text) || strstr(text_of(&s->out), text);
}

char *side_uri(struct side *s)
{
	static const char announces[] = "waiting for a migration on ";
	const char *at;

	WAIT_FOR((at = strstr(text_of(&s->err), announces)) && strchr(at, '\n'));
	at += strlen(announces);
	return text_format("%.*s", (int)strcspn(at, "\n"), at);
}

static void end_beats(void *opaque)
{
	beats_release(opaque);
	free(opaque);
}

static void show_beats(void *opaque)
{
	struct beats *b = opaque;

	fprintf(stderr, "--- %llu beats, longest silence %llu us\n", (unsigned long long)b->count,
		(unsigned long long)b->longest_ns / 1000);
}

static const char *wrong_beats(void *opaque)
{
	struct beats *b = opaque;

	return b->wrong ? b->why : NULL;
}

struct beats *new_beats(void)
{
	struct beats *b = xcalloc(1, sizeof(*b));

	world_add(&(struct world_item){ end_beats, show_beats, wrong_beats, b });
	return b;
}

void await_beats(struct beats *b, unsigned int n)
{
	uint64_t until = b->count + n;

	WAIT_FOR(b->count >= until);
}

void await_laps(struct beats *b, unsigned int n)
{
	unsigned int until = beats_messages(b, "lap ") + n;

	WAIT_FOR(beats_messages(b, "lap ") >= until);
}

void await_message(struct beats *b, const char *text)
{
	WAIT_FOR(beats_message(b, text));
}
