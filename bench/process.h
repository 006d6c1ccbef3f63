/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children, and waiting for them.
 *
 * A child is killed when its parent ends, whatever way that ends. Everything that waits does so in
 * wait_fds(), with a deadline, and gives up when the user has pressed Ctrl-C.
 */
#ifndef FERRY_BENCH_PROCESS_H
#define FERRY_BENCH_PROCESS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Why something did not work, in words; the caller's memory. */
struct why {
	char text[240];
};

/* Always false, so that a failing function can return it. The first reason stays. */
__attribute__((format(printf, 2, 3))) bool why_set(struct why *why, const char *fmt, ...);

struct child {
	pid_t pid;	  /* 0: none */
	int out;	  /* its standard output, non-blocking; -1: none */
	char errors[108]; /* the file with its standard error */
};

/* Catch SIGINT and SIGTERM. */
void process_init(void);
bool process_interrupted(void);

/* argv[0] is a path. Standard input is empty, standard output a pipe to us, standard error goes to
 * the file `errors`. started_ns (may be NULL) is the time just before the process is made. */
bool child_start(struct child *child, char *const *argv, const char *errors, uint64_t *started_ns,
		 struct why *why);
/* Kill it and wait until it is gone. Does nothing where there is none. */
void child_kill(struct child *child);
/* Its last line on standard error, or "". */
const char *child_last_words(const struct child *child, struct why *buffer);

/* Have this machine own as much free memory, in huge pages: a process takes it, touches it and ends. Where this is a guest itself, memory
 * that it has not used for some seconds may be back at its host, and to touch that takes ten times as long (measured: 0.3 and 3 to 5 s
 * a GiB); which process of a comparison meets it is chance. */
void process_warm_memory(uint64_t bytes);

/* As poll(). 0: deadline_ns (CLOCK_MONOTONIC) is over; -1: interrupted. */
int wait_fds(struct pollfd *fds, nfds_t n, uint64_t deadline_ns);
/* Wait until a socket's name is in the file system and somebody listens there; connect to it. The
 * descriptor, or -1. */
int wait_connect(const char *path, const struct child *child, uint64_t deadline_ns,
		 struct why *why);

/* The kB of all Private_Dirty lines in /proc/PID/smaps, without the guest's RAM: the neighbouring
 * anonymous mappings that are together ram_kb long. False where there are no such mappings. */
bool private_dirty_kb(pid_t pid, uint64_t ram_kb, uint64_t *kb, struct why *why);

#endif
