/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * init.c - the first and only program of a Linux guest that is moved.
 *
 * Goal: a guest that notices what a move must not do, and says so on its serial line. How: two processes.
 *
 *	beats	prints "beat N MONOTONIC REAL" each 10 ms, times in microseconds, paced by a timer of the kernel, so that
 *		timer interrupts that do not come any more are seen as well
 *	work	copies and compares memory as fast as it can, and reads both clocks after each page
 *
 * "WRONG ..." is a page that differs from what was written or a clock that went back; either process says so at once. Whether the
 * numbers have no gap is for the reader of the line to see. "source=NAME", on the kernel's command line, chooses the clock source;
 * "clock NAME" tells which there is.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define SOURCE "/sys/devices/system/clocksource/clocksource0/current_clocksource"
#define PERIOD_NS 10000000
#define PAGE_WORDS 512
#define PAGES 256

struct clocks {
	uint64_t monotonic, real; /* ns */
};

/* A line at once, so that those of two processes do not mix. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char line[160];
	va_list ap;
	int len;

	va_start(ap, format);
	len = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (write(1, line, (size_t)len) != len)
		_exit(1);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void look_at_clocks(struct clocks *last, const char *who)
{
	struct clocks now = { clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME) };

	if (now.monotonic < last->monotonic)
		say("WRONG %s: monotonic time %llu after %llu\n", who,
		    (unsigned long long)now.monotonic, (unsigned long long)last->monotonic);
	if (now.real < last->real)
		say("WRONG %s: real time %llu after %llu\n", who, (unsigned long long)now.real,
		    (unsigned long long)last->real);
	*last = now;
}

static void work(void)
{
	static uint64_t pages[2][PAGES][PAGE_WORDS];
	struct clocks last = { 0 };

	for (uint64_t round = 0;; round++) {
		uint64_t(*to)[PAGE_WORDS] = pages[round & 1],
		(*from)[PAGE_WORDS] = pages[~round & 1];

		for (size_t i = 0; i < PAGES; i++) {
			for (size_t j = 0; round && j < PAGE_WORDS; j++)
				if (from[i][j] != ((round - 1) << 32 | i << 16 | j))
					say("WRONG memory: page %zu word %zu is %llx in round "
					    "%llu\n",
					    i, j, (unsigned long long)from[i][j],
					    (unsigned long long)round);
			for (size_t j = 0; j < PAGE_WORDS; j++)
				to[i][j] = round << 32 | i << 16 | j;
			look_at_clocks(&last, "work");
		}
	}
}

static void beat(void)
{
	struct itimerspec each = { { 0, PERIOD_NS }, { 0, PERIOD_NS } };
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct clocks last = { 0 };
	uint64_t ticks;

	timerfd_settime(timer, 0, &each, NULL);
	for (unsigned long long n = 0;; n++) {
		look_at_clocks(&last, "beats");
		say("beat %llu %llu %llu\n", n, (unsigned long long)last.monotonic / 1000,
		    (unsigned long long)last.real / 1000);
		if (read(timer, &ticks, sizeof(ticks)) != sizeof(ticks))
			say("WRONG timer\n");
	}
}

static void open_line(void)
{
	struct termios raw;
	int fd = open("/dev/ttyS0", O_RDWR);

	tcgetattr(fd, &raw);
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
}

static void choose_clock(const char *name)
{
	char have[32] = "";
	int fd = open(SOURCE, O_RDWR);

	if (name && write(fd, name, strlen(name)) < 0)
		say("no clock source '%s'\n", name);
	if (pread(fd, have, sizeof(have) - 1, 0) > 0)
		say("clock %s", have);
}

int main(void)
{
	mkdir("/dev", 0755);
	mkdir("/sys", 0755);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	klogctl(8, NULL,
		4); /* to the console go errors and worse: a slow machine is worth a warning */
	open_line();
	choose_clock(getenv("source"));
	if (fork() == 0)
		work();
	beat();
	return 0;
}
