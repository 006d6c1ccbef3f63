/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * init.c - the first and only program of a Linux guest that is moved.
 *
 * Goal: a guest that notices what a move must not do, and says so on its serial line. How: a process for beats and one for each CPU.
 *
 *	beats	prints "beat N MONOTONIC REAL ASKED" each 10 ms, times in microseconds, paced by a timer of the kernel, so that
 *		timer interrupts that do not come any more are seen as well; ASKED counts what was typed before the clocks were read
 *	work	copies and compares memory as fast as it can, on its CPU alone, and reads both clocks after each page; prints
 *		"cpu C rounds N" each ROUNDS_A_LINE rounds, so that a CPU that stands still is seen
 *
 * "WRONG ..." is a page that differs from what was written or a clock that went back, also as seen from two CPUs; each process says so
 * at once. Whether the numbers have no gap is for the reader of the line to see. "source=NAME", on the kernel's command line, chooses the
 * clock source; "clock NAME" tells which there is.
 *
 * Run as anything but the first process it prints REAL, the host's, which the guest's is to be compared with.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
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
#define ROUNDS_A_LINE 64

/* The latest reading by any process, ns. */
struct clocks {
	_Atomic uint64_t monotonic, real;
};
static struct clocks *latest;

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

static uint64_t look_at_clock(clockid_t id, _Atomic uint64_t *last, const char *name)
{
	uint64_t before = atomic_load(last), now = clock_ns(id);

	if (now < before)
		say("WRONG %s time %llu after %llu\n", name, (unsigned long long)now,
		    (unsigned long long)before);
	while (before < now && !atomic_compare_exchange_weak(last, &before, now))
		;
	return now;
}

_Noreturn static void work(int cpu)
{
	static uint64_t pages[2][PAGES][PAGE_WORDS];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		say("WRONG affinity to CPU %d\n", cpu);
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
			look_at_clock(CLOCK_MONOTONIC, &latest->monotonic, "monotonic");
			look_at_clock(CLOCK_REALTIME, &latest->real, "real");
		}
		if ((round + 1) % ROUNDS_A_LINE == 0)
			say("cpu %d rounds %llu\n", cpu, (unsigned long long)round + 1);
	}
}

static unsigned int typed(void)
{
	struct pollfd line = { .fd = 0, .events = POLLIN };
	char room[16];
	ssize_t n = poll(&line, 1, 0) == 1 ? read(0, room, sizeof(room)) : 0;

	return n > 0 ? (unsigned int)n : 0;
}

_Noreturn static void beat(void)
{
	struct itimerspec each = { { 0, PERIOD_NS }, { 0, PERIOD_NS } };
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	uint64_t ticks, monotonic, real;
	unsigned int asked = 0;

	timerfd_settime(timer, 0, &each, NULL);
	for (unsigned long long n = 0;; n++) {
		asked += typed();
		monotonic = look_at_clock(CLOCK_MONOTONIC, &latest->monotonic, "monotonic");
		real = look_at_clock(CLOCK_REALTIME, &latest->real, "real");
		say("beat %llu %llu %llu %u\n", n, (unsigned long long)monotonic / 1000,
		    (unsigned long long)real / 1000, asked);
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
	if (getpid() != 1) {
		printf("%llu\n", (unsigned long long)clock_ns(CLOCK_REALTIME) / 1000);
		return 0;
	}
	mkdir("/dev", 0755);
	mkdir("/sys", 0755);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	klogctl(8, NULL,
		4); /* to the console go errors and worse: a slow machine is worth a warning */
	open_line();
	choose_clock(getenv("source"));
	latest = mmap(NULL, sizeof(*latest), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (latest == MAP_FAILED)
		say("WRONG mmap\n");
	for (int cpu = 0; cpu < (int)sysconf(_SC_NPROCESSORS_ONLN); cpu++)
		if (fork() == 0)
			work(cpu);
	beat();
}
