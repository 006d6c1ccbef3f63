/* SPDX-License-Identifier: GPL-2.0-or-later */
/* T3 to T6: guests that move. */
#include "bench/bench.h"
#include "bench/copy.h"
#include "vmm/base/cleanup.h"

#define MOVE_BOUND_NS (60 * NS_PER_SEC)
#define QUIET_FIRST_NS (300 * NS_PER_MS) /* until it is known how long a migration takes */
#define QUIET_MAX_NS (2 * NS_PER_SEC)
#define MIB (1ull << 20)
#define CAP_BANDWIDTH 60000000ull
#define CAP_BOUND 5    /* times RAM / cap */
#define RATE_WANTED 14 /* thousand pages a second, which is about the cap */

/* One migration with its alarms and a line of progress. False where it failed. */
static bool one_move(struct bench *b, const char *test, const struct vmm *vmm,
		     const struct move_plan *plan, struct move_result *r)
{
	struct why why = { "" };
	bool ok = move_guest(vmm, plan, b->dir, r, &why);

	if (!ok)
		bench_failed(b, test, vmm->name, &why);
	if (*r->wrong)
		table_alarm(b->table, "%s, %s: %s", test, vmm->name, r->wrong);
	fprintf(stderr, "%s %s: ", test, vmm->name);
	if (!ok)
		fprintf(stderr, "%s\n", why.text);
	else if (r->moved)
		fprintf(stderr,
			"moved in %.1f ms (CPU %.1f + %.1f ms), silent for %.2f ms, %.2f at the "
			"change, %.2f before; %llu passes, %.1f MiB, %llu pages/s dirtied\n",
			bench_ms(r->total_ns), bench_ms(r->source_cpu_ns),
			bench_ms(r->destination_cpu_ns), bench_ms(r->longest_ns),
			bench_ms(r->handover_ns), bench_ms(r->quiet_ns),
			(unsigned long long)r->passes, (double)r->wire_bytes / MIB,
			(unsigned long long)r->dirty_pages_rate);
	else
		fprintf(stderr, "not moved within %.1f s, %llu passes, %.1f MiB\n",
			bench_ms(plan->bound_ns) / 1e3, (unsigned long long)r->passes,
			(double)r->wire_bytes / MIB);
	return ok;
}

static void copy_once(struct bench *b, bool huge, bool busy, struct samples *samples)
{
	struct copy_plan plan = { 1024 * MIB, huge, busy };
	struct why why = { "" };
	uint64_t ns;

	if (process_interrupted())
		return;
	if (copy_measure(&plan, &ns, &why))
		samples_add(samples, 1024e3 / bench_ms(ns));
	else
		bench_failed(b, "T3", "socket", &why);
}

/* QEMU with the cap that it has unless told otherwise. */
static void capped_qemu(struct bench *b, struct move_plan plan, struct row *row)
{
	struct move_result r;

	plan.as_it_comes = true;
	if (b->have_qemu && !process_interrupted() && one_move(b, "T3", &b->qemu, &plan, &r) &&
	    r.moved)
		samples_add(&row->ref, bench_ms(r.total_ns));
}

void measure_bulk(struct bench *b)
{
	struct move_plan plan = { .guest = { b->work, "pattern=random rate=0 footprint=1G", 1152 },
				  .warm = true,
				  .bound_ns = MOVE_BOUND_NS };
	struct row *row = table_row(b->table, "T3 moving 1 GiB of noise, ms", "QEMU");
	struct row *capped = table_row(b->table, "   beside QEMU with its default cap, ms", "QEMU");
	struct row *cpu = table_row(b->table, "   CPU time of the destination, ms", "QEMU");
	struct row *raw = table_row(b->table, "T3 its speed, MiB/s, beside a raw copy", "socket");
	struct row *busy = table_row(b->table, "   beside a copy with one CPU spinning", "socket");
	struct row *huge = table_row(b->table, "   ... into huge pages, as guest RAM is", "socket");
	struct row *best = table_row(b->table, "   into huge pages, nothing spinning", "socket");
	struct move_result r;

	row->ratio_max = 0.25;
	raw->ratio_min = 0.75;
	for (unsigned int run = 0; run <= b->runs; run++) {
		for (const struct vmm *vmm = NULL; (vmm = bench_next_vmm(b, run, vmm));) {
			bool q = vmm->is_qemu;

			if (!one_move(b, "T3", vmm, &plan, &r) || !r.moved || !run)
				continue;
			samples_add(q ? &row->ref : &row->ours, bench_ms(r.total_ns));
			samples_add(q ? &cpu->ref : &cpu->ours, bench_ms(r.destination_cpu_ns));
			if (!q)
				samples_add(&raw->ours, 1024e3 / bench_ms(r.total_ns));
		}
		if (!run)
			continue; /* to warm up */
		capped_qemu(b, plan, capped);
		copy_once(b, false, false, &raw->ref);
		copy_once(b, false, true, &busy->ref);
		copy_once(b, true, true, &huge->ref);
		copy_once(b, true, false, &best->ref);
	}
	capped->ours = row->ours;
	busy->ours = huge->ours = best->ours = raw->ours;
}

struct blackout_rows {
	struct row *silence, *change, *quiet, *total;
};

static void add_blackout_rows(struct bench *b, struct blackout_rows *rows, const char *what)
{
	rows->silence = table_row(b->table, what, "QEMU");
	rows->change = table_row(b->table, "   the silence that holds the hand-over", "QEMU");
	rows->quiet = table_row(b->table, "   noise: longest without a migration", "QEMU");
	rows->total = table_row(b->table, "   total time, ms", "QEMU");
}

static void add_blackout(const struct blackout_rows *rows, bool is_qemu,
			 const struct move_result *r)
{
	const struct {
		struct row *row;
		uint64_t ns;
	} values[] = { { rows->silence, r->longest_ns },
		       { rows->change, r->handover_ns },
		       { rows->quiet, r->quiet_ns },
		       { rows->total, r->total_ns } };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		samples_add(is_qemu ? &values[i].row->ref : &values[i].row->ours,
			    bench_ms(values[i].ns));
}

static void measure_blackout(struct bench *b, const char *test, const char *cmdline,
			     const struct blackout_rows *rows)
{
	uint64_t quiet_ns[2] = { QUIET_FIRST_NS, QUIET_FIRST_NS };
	struct move_result r;

	for (unsigned int run = 0; run < b->runs; run++) {
		for (const struct vmm *vmm = NULL; (vmm = bench_next_vmm(b, run, vmm));) {
			struct move_plan plan = { .guest = { b->work, cmdline, 512 },
						  .quiet_ns = quiet_ns[vmm->is_qemu],
						  .bound_ns = MOVE_BOUND_NS };

			if (!one_move(b, test, vmm, &plan, &r))
				continue;
			if (!r.moved) {
				table_alarm(b->table, "%s, %s: not moved within %.0f s", test,
					    vmm->name, bench_ms(plan.bound_ns) / 1e3);
				continue;
			}
			add_blackout(rows, vmm->is_qemu, &r);
			quiet_ns[vmm->is_qemu] = MIN_OF(r.total_ns + 100 * NS_PER_MS, QUIET_MAX_NS);
		}
	}
}

void measure_idle_blackout(struct bench *b)
{
	struct blackout_rows rows;

	add_blackout_rows(b, &rows, "T4 longest silence, idle guest, ms");
	rows.silence->ratio_max = 0.5;
	rows.silence->ours_max = 3; /* 2 ms beyond the heartbeat */
	measure_blackout(b, "T4", "rate=0 footprint=64M", &rows);
}

void measure_busy_blackout(struct bench *b)
{
	struct blackout_rows rows;

	add_blackout_rows(b, &rows, "T5 longest silence, 64 MB/s sparse writes, ms");
	rows.silence->ratio_max = 0.25;
	measure_blackout(b, "T5", "pattern=sparse rate=16 footprint=240M", &rows);
}

struct capped {
	unsigned int ended, tried;
};

static void count_capped(char text[static 40], const struct capped *c)
{
	if (c->tried)
		snprintf(text, 40, "%u of %u ended", c->ended, c->tried);
}

void measure_capped(struct bench *b)
{
	const double ram = 240 * MIB, ideal_ms = ram * 1e3 / CAP_BANDWIDTH;
	struct move_plan plan = { .guest = { b->work, "pattern=sparse rate=16 footprint=240M",
					     512 },
				  .bandwidth = CAP_BANDWIDTH,
				  .bound_ns = (uint64_t)(CAP_BOUND * ideal_ms) * NS_PER_MS };
	struct row *ends = table_row(b->table, "T6 the same under a cap of 60 MB/s", "QEMU");
	struct row *total = table_row(b->table, "T6 total time / (240 MiB / cap)", "QEMU");
	struct row *bytes = table_row(b->table, "   bytes on the wire / 240 MiB", "QEMU");
	struct row *silence = table_row(b->table, "   longest silence, ms", "QEMU");
	struct row *rate = table_row(b->table, "   pages dirtied a second, in thousands", "QEMU");
	struct capped counts[2] = { { 0, 0 } };
	struct move_result r;

	total->ours_max = 1.3;
	for (unsigned int run = 0; run < b->runs; run++) {
		for (const struct vmm *vmm = NULL; (vmm = bench_next_vmm(b, run, vmm));) {
			bool q = vmm->is_qemu;

			if (!one_move(b, "T6", vmm, &plan, &r))
				continue;
			counts[q].tried++;
			counts[q].ended += r.moved;
			samples_add(q ? &bytes->ref : &bytes->ours, (double)r.wire_bytes / ram);
			/* What does not end is at least this bad. */
			samples_add(q ? &total->ref : &total->ours,
				    bench_ms(r.moved ? r.total_ns : plan.bound_ns) / ideal_ms);
			if (r.moved)
				samples_add(q ? &silence->ref : &silence->ours,
					    bench_ms(r.longest_ns));
			if (r.dirty_pages_rate)
				samples_add(q ? &rate->ref : &rate->ours,
					    (double)r.dirty_pages_rate / 1e3);
		}
	}
	if (rate->ours.n && samples_median(&rate->ours) < RATE_WANTED)
		table_note(b->table,
			   "T6: the guest did not get to write %d thousand pages a "
			   "second, so QEMU may end, too",
			   RATE_WANTED);
	count_capped(ends->ours_text, &counts[0]);
	count_capped(ends->ref_text, &counts[1]);
	if (counts[1].tried && !counts[1].ended)
		snprintf(total->ref_text, sizeof(total->ref_text), "did not converge (%d)",
			 CAP_BOUND);
	if (counts[0].ended < counts[0].tried)
		table_alarm(b->table, "T6: ferry did not converge in %u of %u tries",
			    counts[0].tried - counts[0].ended, counts[0].tried);
}

/* Files and memory that the machine has not used for long cost the first run: it does not count. */
void warm_up(struct bench *b)
{
	const struct move_plan plan = { .guest = { b->work, "rate=0 footprint=64M", 512 },
					.bound_ns = MOVE_BOUND_NS };
	struct move_result r;

	for (const struct vmm *vmm = NULL; (vmm = bench_next_vmm(b, 0, vmm));)
		one_move(b, "warm-up", vmm, &plan, &r);
}
