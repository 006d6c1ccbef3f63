/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench - ferry beside QEMU and beside the machine's own limits, in one run on one machine.
 *
 * Every number here is seen from outside: the time at which a byte of the guest arrives on its
 * serial line, the kernel's account of a process's memory, a clock around a socket. (Only bytes on
 * the wire and pages dirtied are what each VMM counts itself.) The two take turns, run by run, so
 * that a noisy hour hits both; medians are compared, and the targets are ratios. Numbers from
 * different machines, or from different runs, say nothing.
 *
 *	T1  spawn to the first byte of the guest; beside QEMU, and beside a program that does only
 *	    the system calls (bare.c)
 *	T2  private dirty memory of a VMM whose guest idles, without the guest's RAM
 *	T3  moving 1 GiB of noise through a UNIX socket; beside a copy of as many bytes (copy.c)
 *	T4  the longest silence of an idle guest that moves
 *	T5  the same with 16 pages a millisecond, 8 bytes changed in each
 *	T6  the same over a cap of 60 MB/s: does it end, when, and after how many bytes?
 *
 * QEMU is Debian's microvm without any device but the serial line; the guest is the same image.
 * The guest of T3 to T6 sends a letter each millisecond. It never sleeps, so a migration has to
 * share the CPUs with it: that, too, is the same for both. Beats that are lost or doubled are
 * alarms at the table's end. The exit status tells only whether the bench could run.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <sched.h>
#include <strings.h>

#include "bench/bench.h"
#include "vmm/base/cleanup.h"

void bench_failed(struct bench *b, const char *what, const char *who, const struct why *why)
{
	if (!process_interrupted())
		table_alarm(b->table, "%s, %s: %s", what, who, why->text);
}

const struct vmm *bench_next_vmm(const struct bench *b, unsigned int run, const struct vmm *vmm)
{
	const struct vmm *turns[] = { &b->ferry, &b->qemu };

	if (process_interrupted())
		return NULL;
	if (!b->have_qemu)
		return vmm ? NULL : &b->ferry;
	if (!vmm)
		return turns[run % 2];
	return vmm == turns[run % 2] ? turns[(run + 1) % 2] : NULL;
}

static const struct test {
	const char *name;
	void (*measure)(struct bench *b);
	bool moves; /* wants a warm machine */
} tests[] = {
	{ "T1", measure_spawn, false },	       { "T2", measure_memory, false },
	{ "T3", measure_bulk, true },	       { "T4", measure_idle_blackout, true },
	{ "T5", measure_busy_blackout, true }, { "T6", measure_capped, true },
};

/* The time stamps should be the guest's, not those of a scheduler's queue. */
static void take_priority(struct bench *b)
{
	struct sched_param param = { .sched_priority = 1 };

	/* Children are ordinary processes again. */
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) < 0)
		table_note(b->table,
			   "the reader has no real-time priority (%s): silences may seem longer",
			   strerror(errno));
}

static bool find_qemu(struct bench *b)
{
	scoped_free char *path = xstrdup(getenv("PATH") ? getenv("PATH") : "/usr/bin");
	char *save = NULL;

	for (char *dir = strtok_r(path, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		snprintf(b->qemu.path, sizeof(b->qemu.path), "%s/qemu-system-x86_64", dir);
		if (access(b->qemu.path, X_OK) == 0)
			return true;
	}
	return false;
}

/* bare lies where bench lies. */
static void find_bare(struct bench *b)
{
	char self[PATH_BYTES * 4 - 8] = "";
	char *slash;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		*self = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	snprintf(b->bare, sizeof(b->bare), "%s/bare", self);
	b->have_bare = access(b->bare, X_OK) == 0;
}

static void find_references(struct bench *b)
{
	b->have_qemu = find_qemu(b);
	find_bare(b);
	if (b->have_qemu)
		table_note(b->table,
			   "QEMU is %s -M microvm; its default cap of 128 MiB/s is "
			   "lifted for T3 to T5, all else is default",
			   b->qemu.path);
	else
		table_note(b->table, "QEMU is not installed: no qemu-system-x86_64 in PATH; "
				     "everything beside it was skipped");
	if (!b->have_bare)
		table_note(b->table, "%s: not there; T1 beside it was skipped", b->bare);
	table_note(b->table, "silences are between two beats, so 1 ms is none at all; "
			     "bytes on the wire are what each VMM counts");
}

static int usage(FILE *to, int status)
{
	fprintf(to, "usage: bench [--runs N] [--only T1..T6] [FERRY] [GUESTDIR]\n"
		    "by default 5 runs, build/ferry, build/guest\n");
	return status;
}

static bool parse(struct bench *b, int argc, char **argv)
{
	static const struct option options[] = { { "runs", required_argument, NULL, 'r' },
						 { "only", required_argument, NULL, 'o' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	const char *guests;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'r')
			b->runs = (unsigned int)strtoul(optarg, NULL, 10);
		else if (opt == 'o')
			b->only = optarg;
		else
			return false;
	}
	if (argc - optind > 2 || !b->runs || b->runs > SAMPLES_MAX)
		return false;
	snprintf(b->ferry.path, sizeof(b->ferry.path), "%s",
		 optind < argc ? argv[optind] : "build/ferry");
	guests = optind + 1 < argc ? argv[optind + 1] : "build/guest";
	snprintf(b->hello, sizeof(b->hello), "%s/hello.elf", guests);
	snprintf(b->work, sizeof(b->work), "%s/work.elf", guests);
	return true;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static bool can_run(const struct bench *b)
{
	scoped_fd kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const char *const files[] = { b->ferry.path, b->hello, b->work };

	if (kvm < 0) {
		printf("skipped: /dev/kvm cannot be opened: %s\n", strerror(errno));
		return false;
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (access(files[i], R_OK) < 0) {
			printf("skipped: %s: %s\n", files[i], strerror(errno));
			return false;
		}
	}
	return true;
}

static bool is_wanted(const struct bench *b, const struct test *test)
{
	return !b->only || strcasecmp(b->only, test->name) == 0;
}

static bool any_wanted(const struct bench *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		if (is_wanted(b, &tests[i]))
			return true;
	return false;
}

static void run_tests(struct bench *b)
{
	bool warm = false;

	for (size_t i = 0; i < ARRAY_SIZE(tests) && !process_interrupted(); i++) {
		if (!is_wanted(b, &tests[i]))
			continue;
		if (tests[i].moves && !warm)
			warm_up(b);
		warm |= tests[i].moves;
		fprintf(stderr, "%s, %u runs\n", tests[i].name, b->runs);
		tests[i].measure(b);
	}
}

int main(int argc, char **argv)
{
	struct bench b = { .runs = 5, .ferry.name = "ferry", .qemu = { "QEMU", true, "" } };

	if (!parse(&b, argc, argv) || !any_wanted(&b))
		return usage(stderr, 2);
	if (!can_run(&b))
		return 0;
	snprintf(b.dir, sizeof(b.dir), "/tmp/ferry-bench-XXXXXX");
	if (!mkdtemp(b.dir)) {
		perror(b.dir);
		return 1;
	}
	b.table = table_new("ferry");
	process_init();
	find_references(&b);
	take_priority(&b);
	run_tests(&b);
	if (process_interrupted())
		table_alarm(b.table, "interrupted: the table is not complete");
	table_print(b.table);
	table_free(b.table);
	nftw(b.dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
