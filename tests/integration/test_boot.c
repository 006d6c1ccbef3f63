/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a guest starts, runs, and ends as `ferry run` promises: exit statuses, resets, faults, signals.
 *
 * Approach: each payload is run to its end with a few of its options; it tells by its exit code whether what it has seen was
 * right. Options that ferry must refuse are a table.
 */
#include "tests/integration/moves.h"

#include <libfdt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/ferry-guest.h"

TestSuite(boot, .init = world_begin, .fini = world_end, .timeout = 600);
TestSuite(usage, .init = world_begin_anywhere, .fini = world_end, .timeout = 600);

static const char *const reset_means_reset[] = { "--on-reset", "reset", NULL };

static struct side *boot(const char *payload, const char *cmdline, unsigned int cpus,
			 struct beats *b)
{
	return side_start("vm", &(struct side_options){ .payload = payload,
							.cmdline = cmdline,
							.memory_mib = 32,
							.cpus = cpus,
							.beats = b });
}

/* Without a control socket: it may end before anybody has connected. */
static struct side *run(const char *payload, const char *cmdline, const char *const *more,
			struct beats *b)
{
	return side_start("vm", &(struct side_options){ .payload = payload,
							.cmdline = cmdline,
							.memory_mib = 32,
							.beats = b,
							.more = more,
							.no_control = true });
}

Test(boot, hello_exit_statuses)
{
	static const struct {
		const char *cmdline;
		int status;
	} cases[] = { { "", 1 },
		      { "exit=1", 3 },
		      { "exit=42", 85 },
		      { "exit=127", 255 },
		      { "exit=128", 1 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct beats *b = new_beats();
		struct side *s = run("hello", cases[i].cmdline, NULL, b);

		cr_assert_eq(side_wait(s), cases[i].status, "%s: %d", cases[i].cmdline, s->status);
		cr_assert_not_null(beats_message(b, FERRY_GUEST_SAYS_HELLO));
	}
}

static void run_to_ok(const char *payload, const char *cmdline, unsigned int cpus)
{
	struct beats *b = new_beats();
	struct side *s = side_start("vm", &(struct side_options){ .payload = payload,
								  .cmdline = cmdline,
								  .cpus = cpus,
								  .beats = b,
								  .no_control = true });

	check(side_wait(s) == FERRY_GUEST_EXIT_STATUS(FERRY_GUEST_EXIT_OK), "%s %s ended with %d",
	      payload, cmdline, s->status);
	check(beats_message(b, FERRY_GUEST_SAYS_OK), "%s is not ok", payload);
}

Test(boot, work)
{
	run_to_ok("work", "footprint=4M run=100 pattern=sparse", 1);
	run_to_ok("work", "footprint=4M run=100 pattern=pages", 1);
	run_to_ok("work", "footprint=4M run=100 pattern=random order=seq", 1);
	run_to_ok("work", "footprint=4M run=100 pattern=zero", 1);
}

Test(boot, timer)
{
	run_to_ok("timer", "run=200 source=pit", 1);
	run_to_ok("timer", "run=200 source=lapic", 1);
}

Test(boot, smp)
{
	run_to_ok("smp", "run=200 cpus=1", 1);
	run_to_ok("smp", "run=200 cpus=2", 2);
	run_to_ok("smp", "run=200 cpus=4", 4);
	run_to_ok("smp", "run=100 cpus=8", 8);
}

/* 64 are built; that many busy ones would be too many for a test. */
Test(boot, most_cpus)
{
	struct beats *b = new_beats();
	struct side *s = boot("smp", "cpus=2", 64, b);

	await_beats(b, 50);
	cr_assert_eq(json_array_size(call(s, "query-cpus-fast", NULL)), 64);
	call(s, "quit", NULL);
	cr_assert_eq(side_wait(s), 0);
}

/* RAM below and above the hole under 4 GiB, in which devices have their place. */
Test(boot, six_gib)
{
	struct beats *b = new_beats();
	struct side *s = side_start(
		"vm", &(struct side_options){ .payload = "work",
					      .memory_mib = 6144,
					      .cmdline = "footprint=8M base=0xbfc00000 run=100",
					      .beats = b,
					      .no_control = true });

	cr_assert_eq(side_wait(s), 1);
	cr_assert_not_null(beats_message(b, "4096 KiB at 0xbfc00000"));
	cr_assert_not_null(beats_message(b, "4096 KiB at 0x100000000"));
	cr_assert_not_null(beats_message(b, FERRY_GUEST_SAYS_OK));
}

Test(boot, paused)
{
	struct beats *b = new_beats();
	struct side *s = side_start(
		"vm", &(struct side_options){ .payload = "hello",
					      .beats = b,
					      .more = (const char *[]){ "--paused", NULL } });

	expect_status(s, "prelaunch");
	call(s, "stop", NULL);
	expect_status(s, "prelaunch");
	cr_assert_eq(b->bytes, 0, "a guest that has not been started speaks");
	call(s, "cont", NULL);
	cr_assert_eq(side_wait(s), 1);
	cr_assert_not_null(beats_message(b, FERRY_GUEST_SAYS_HELLO));
}

/* --- resets and faults --- */

Test(boot, reset_ends)
{
	static const struct {
		const char *cmdline, *words;
	} cases[] = { { "boots=2 via=cf9", "the guest has reset itself: port 0xcf9" },
		      { "boots=2 via=kbd", "the guest has reset itself: i8042 command 0xfe" } };

	for (size_t i = 0; i < 2; i++) {
		struct beats *b = new_beats();
		struct side *s = run("hello", cases[i].cmdline, NULL, b);

		cr_assert_eq(side_wait(s), 0);
		cr_assert(side_said(s, cases[i].words), "%s", text_of(&s->err));
		cr_assert_not_null(beats_message(b, "boot 1"));
		cr_assert_null(beats_message(b, "boot 2"));
	}
}

Test(boot, reset_boots_again)
{
	static const char *const cmdlines[] = { "boots=3 via=cf9 exit=7",
						"boots=3 via=kbd exit=7" };

	for (size_t i = 0; i < 2; i++) {
		struct beats *b = new_beats();
		struct side *s = run("hello", cmdlines[i], reset_means_reset, b);

		cr_assert_eq(side_wait(s), 15);
		cr_assert_eq(beats_messages(b, FERRY_GUEST_SAYS_HELLO), 3);
		cr_assert_not_null(beats_message(b, "boot 3"));
	}
}

/* A user's reset boots again, whatever --on-reset says, and works on a busy guest with several CPUs. */
Test(boot, system_reset)
{
	struct beats *b = new_beats();
	struct side *s = boot("smp", "cpus=2", 2, b);

	await_beats(b, 20);
	for (unsigned int i = 1; i <= 3; i++) {
		beats_allow_restart(b);
		call(s, "system_reset", NULL);
		WAIT_FOR(beats_messages(b, "2 cpus up") == i + 1);
		await_beats(b, 20);
		expect_status(s, "running");
	}
	call(s, "stop", NULL);
	beats_allow_restart(b);
	call(s, "system_reset", NULL);
	qmp_event(s->qmp, "RESET");
	expect_status(s, "paused");
	call(s, "cont", NULL);
	WAIT_FOR(beats_messages(b, "2 cpus up") == 5);
	await_beats(b, 20);
}

/* Who must find out why needs the registers and the instruction. On AMD's CPUs they are lost: KVM has reset the CPU by then. */
Test(boot, triple_fault)
{
	static const char *const words[] = { "triple fault",
					     "rip=", "cr3=", "efer=", "code at rip:" };
	struct side *s = run("hello", "boots=2 via=triple", NULL, new_beats());

	cr_assert_eq(side_wait(s), 1);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		cr_assert(side_said(s, words[i]), "'%s' is missing in: %s", words[i],
			  text_of(&s->err));
	cr_assert(side_said(s, "code at rip: c6 00 01") ||
			  side_said(s, "rip=000000000000fff0 rflags=00000002 cs=f000"),
		  "neither the instruction nor a CPU after reset: %s", text_of(&s->err));
}

Test(boot, exceptions)
{
	static const char *const faults[] = { "fault=pf", "fault=ud", "fault=de", "fault=gp" };

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct side *s = run("hello", faults[i], NULL, NULL);

		cr_assert_eq(side_wait(s), FERRY_GUEST_EXIT_STATUS(FERRY_GUEST_EXIT_EXCEPTION));
		cr_assert(strstr(text_of(&s->serial), "# " FERRY_GUEST_SAYS_EXCEPTION));
	}
}

/* --- signals --- */

Test(boot, signals_end_it)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct beats *b = new_beats();
		struct side *s = boot("work", "footprint=4M", 1, b);

		await_beats(b, 20);
		cr_assert_eq(access(s->control, F_OK), 0);
		side_kill(s, signals[i]);
		cr_assert_eq(side_wait(s), 0, "signal %d: %d", signals[i], s->status);
		cr_assert_neq(access(s->control, F_OK), 0, "the control socket is still there");
		cr_assert_eq(s->err.len, 0, "%s", text_of(&s->err));
	}
}

Test(boot, signal_while_waiting)
{
	struct side *s = side_start("target", &(struct side_options){ 0 });
	char *path = side_uri(s) + strlen("unix:");

	side_kill(s, SIGTERM);
	cr_assert_eq(side_wait(s), 0);
	cr_assert_neq(access(path, F_OK), 0, "the migration socket is still there");
}

/* --- the command line --- */

Test(usage, refused)
{
	static const struct {
		const char *args[8];
		const char *words;
	} cases[] = {
		{ { NULL }, "usage" },
		{ { "fly", NULL }, "'fly'" },
		{ { "run", NULL }, "--kernel" },
		{ { "run", "--kernel", NULL }, "--kernel" },
		{ { "run", "--kernel", "x", "--incoming", "unix:x", NULL }, "exclude" },
		{ { "run", "--kernel", "x", "--memory", "lots", NULL }, "--memory" },
		{ { "run", "--kernel", "x", "--cpus", "0", NULL }, "--cpus" },
		{ { "run", "--kernel", "x", "--cpus", "65", NULL }, "--cpus" },
		{ { "run", "--kernel", "x", "--cpus", "two", NULL }, "--cpus" },
		{ { "run", "--kernel", "x", "--control", "/tmp/x", NULL }, "--control" },
		{ { "run", "--kernel", "x", "--on-reset", "cry", NULL }, "--on-reset" },
		{ { "run", "--kernel", "x", "--acpi", "maybe", NULL }, "--acpi" },
		{ { "run", "--kernel", "x", "--nonsense", NULL }, "--nonsense" },
		{ { "run", "--kernel", "x", "y", NULL }, "'y'" },
		{ { "run", "--incoming", "defer", NULL }, "--control" },
		{ { "run", "--incoming", "unix:x", "--initrd", "y", NULL }, "--initrd" },
		{ { "migrate", NULL }, "--control" },
		{ { "migrate", "--control", "unix:x", NULL }, "URI" },
		{ { "migrate", "--control", "unix:x", "unix:y", "unix:z", NULL }, "unix:z" },
		{ { "migrate", "--control", "unix:x", "unix:y", "--xbzrle", "maybe", NULL },
		  "--xbzrle" },
		{ { "migrate", "--control", "unix:x", "unix:y", "--bandwidth", "-1", NULL },
		  "--bandwidth" },
		{ { "migrate", "--control", "unix:x", "unix:y", "--downtime", "soon", NULL },
		  "--downtime" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct side *s = side_spawn("ferry", cases[i].args, &(struct side_options){ 0 });

		check(side_wait(s) == 2, "case %zu: exit status %d, expected 2", i, s->status);
		check(strstr(text_of(&s->err), cases[i].words), "case %zu does not say '%s'", i,
		      cases[i].words);
		check(s->out.len == 0, "case %zu prints on standard output", i);
	}
}

Test(usage, help_and_version)
{
	static const struct {
		const char *args[4];
		const char *words;
	} cases[] = {
		{ { "--help", NULL }, "ferry run" },
		{ { "run", "--help", NULL }, "--on-reset" },
		{ { "migrate", "--help", NULL }, "--bandwidth" },
		{ { "--version", NULL }, "ferry " },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct side *s = side_spawn("ferry", cases[i].args, &(struct side_options){ 0 });

		check(side_wait(s) == 0, "case %zu: exit status %d", i, s->status);
		check(strstr(text_of(&s->out), cases[i].words), "case %zu", i);
		check(s->err.len == 0, "case %zu prints on standard error", i);
	}
}

/* What can only be found out while starting is status 1. */
Test(usage, not_startable)
{
	static const struct {
		const char *args[8];
		const char *words;
	} cases[] = {
		{ { "run", "--kernel", "/nonexistent/kernel", NULL }, "/nonexistent/kernel" },
		{ { "migrate", "--control", "unix:/nonexistent/control", "unix:x", NULL },
		  "/nonexistent/control" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct side *s = side_spawn("ferry", cases[i].args, &(struct side_options){ 0 });

		check(side_wait(s) == 1, "case %zu: exit status %d, expected 1", i, s->status);
		check(strstr(text_of(&s->err), cases[i].words), "case %zu", i);
	}
}

Test(usage, dump_dtb)
{
	char *path = world_path("machine.dtb");
	struct side *s = side_run("ferry", "run", "--kernel", guest_path("hello"), "--memory", "5G",
				  "--cpus", "3", "--cmdline", "boots=1 exit=3", "--dump-dtb", path);
	char *dtb = malloc(1 << 16);
	FILE *f;
	size_t len;
	int node, n = 0;

	check(side_wait(s) == 0, "exit status %d", s->status);
	cr_assert(s->out.len == 0 && s->err.len == 0, "a guest has started");
	f = fopen(path, "re");
	cr_assert_not_null(f);
	len = fread(dtb, 1, 1 << 16, f);
	fclose(f);
	cr_assert(len > 64 && fdt_check_header(dtb) == 0 && fdt_totalsize(dtb) == len);
	node = fdt_path_offset(dtb, "/chosen");
	cr_assert_str_eq((const char *)fdt_getprop(dtb, node, "bootargs", NULL), "boots=1 exit=3");
	node = fdt_path_offset(dtb, "/cpus");
	for (int cpu = fdt_first_subnode(dtb, node); cpu >= 0; cpu = fdt_next_subnode(dtb, cpu))
		n++;
	cr_assert_eq(n, 3);
	node = fdt_node_offset_by_prop_value(dtb, -1, "device_type", "memory", 7);
	cr_assert(node >= 0);
	free(dtb);
}
