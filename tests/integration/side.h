/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * side.[ch] - a ferry process: one side of a migration, or a command that is run to its end.
 *
 * side_start() runs `ferry run` with its serial line and its control socket connected to the test; side_spawn() runs anything
 * else of ferry. Standard output and standard error are collected. Whatever happens to the test, the process ends with it
 * (PR_SET_PDEATHSIG).
 *
 * Serial lines of several sides that share one struct beats are one guest's: what an earlier side has written is fed before what
 * a later one has. To be sure of that order, the later side's line is read first: a byte found there was written after all
 * that the earlier side will ever write, which is then found in the earlier line.
 */
#ifndef FERRY_TESTS_SIDE_H
#define FERRY_TESTS_SIDE_H

#include "tests/integration/beats.h"
#include "tests/integration/world.h"

struct side_options {
	const char *payload; /* "work"; an absolute path is an image; NULL: an incoming side */
	const char *
		incoming; /* a URI or "defer"; NULL with no payload: unix:, in the test's directory */
	const char *cmdline;
	unsigned int memory_mib; /* 0: 32 */
	unsigned int cpus;
	const char *serial;	 /* NULL: a socket that the test reads */
	const char *const *more; /* further arguments, ending in NULL */
	struct beats *beats; /* what the serial line's bytes are fed to; NULL: they are only kept */
	int inherit_fd;	     /* > 0: stays open in ferry, under its number */
	int terminal_fd;     /* > 0: becomes standard input, output, and the controlling terminal */
	int in_fd, out_fd;   /* > 0: standard input, output */
	bool no_control;
};

struct side {
	const char *name; /* "source" */
	int pid, pidfd;
	bool exited;
	int status; /* the exit status; 128 + n where signal n ended it */
	struct text out, err;
	struct text serial, fresh; /* all bytes; those that are not yet fed */
	int out_fd, err_fd, serial_fd, serial_listen_fd;
	bool serial_held;
	struct beats *beats;
	const char *control; /* the socket's path */
	struct qmp *qmp;     /* negotiated, with events of migrations on */
};

/* ferry with these arguments, the last one NULL. */
struct side *side_spawn(const char *name, const char *const *args, const struct side_options *o);
#define side_run(name, ...) \
	side_spawn(name, (const char *const[]){ __VA_ARGS__, NULL }, &(struct side_options){ 0 })
/* ferry run; waits until it can be talked to and, where incoming, until it listens. */
struct side *side_start(const char *name, const struct side_options *o);
/* The same, but no more than spawned: for a ferry that is to fail. */
struct side *side_launch(const char *name, const struct side_options *o);

/* Waits for the process's end; the exit status. */
int side_wait(struct side *s);
void side_kill(struct side *s, int signal);
bool side_said(const struct side *s, const char *text);
/* The address at which an incoming side listens. */
char *side_uri(struct side *s);
/* Do not read the serial line any more; read it again. */
void side_hold_serial(struct side *s);
void side_release_serial(struct side *s);

/* A checker for one guest; a byte that is wrong fails the test. */
struct beats *new_beats(void);
/* Wait for n more beats; for n more laps, of which the first may have begun before; for a message. */
void await_beats(struct beats *b, unsigned int n);
void await_laps(struct beats *b, unsigned int n);
void await_message(struct beats *b, const char *text);

/* A file of the guest payloads, a path to ferry. */
char *guest_path(const char *payload);
const char *ferry_path(void);
int listen_unix(const char *path);
int connect_unix(const char *path);

#endif
