/* SPDX-License-Identifier: GPL-2.0-or-later */
/* T1 and T2: a VMM that starts, and one that idles. */
#include "bench/bench.h"
#include "vmm/base/cleanup.h"

#define FIRST_BYTE_TIMEOUT_NS (30 * NS_PER_SEC)

static bool first_byte(struct child *child, uint64_t start, double *value, struct why *why)
{
	struct pollfd pfd = { .fd = child->out, .events = POLLIN };
	struct why words;
	char byte;

	if (wait_fds(&pfd, 1, start + FIRST_BYTE_TIMEOUT_NS) <= 0)
		return why_set(why, "no first byte");
	*value = bench_ms(clock_now_ns() - start);
	if (read(child->out, &byte, 1) != 1)
		return why_set(why, "it ended without a byte: %s", child_last_words(child, &words));
	return true;
}

static void spawn_vmm(struct bench *b, const struct vmm *vmm, struct samples *samples)
{
	struct guest guest = { b->hello, "", 256 };
	struct why why = { "" };
	struct child child;
	uint64_t start;
	double value;

	if (vmm_start(vmm, &guest, b->dir, "spawn", false, &child, &start, &why) &&
	    first_byte(&child, start, &value, &why))
		samples_add(samples, value);
	else
		bench_failed(b, "T1", vmm->name, &why);
	child_kill(&child);
}

static void spawn_bare(struct bench *b, struct samples *samples)
{
	char *argv[] = { b->bare, NULL };
	char errors[PATH_BYTES];
	struct why why = { "" };
	struct child child;
	uint64_t start;
	double value;

	snprintf(errors, sizeof(errors), "%.80s/bare.err", b->dir);
	if (child_start(&child, argv, errors, &start, &why) &&
	    first_byte(&child, start, &value, &why))
		samples_add(samples, value);
	else
		bench_failed(b, "T1", "bare", &why);
	child_kill(&child);
}

void measure_spawn(struct bench *b)
{
	struct row *row = table_row(b->table, "T1 spawn to the guest's first byte, ms", "QEMU");
	struct row *bare = table_row(b->table, "T1 the same, beside the bare ioctls", "bare");
	/* A run takes milliseconds, so there may be more of them. */
	unsigned int runs = MIN_OF(b->runs * 4, (unsigned int)SAMPLES_MAX);

	row->ratio_max = 0.1;
	bare->ratio_max = 2;
	for (unsigned int run = 0; run < runs; run++) {
		for (const struct vmm *vmm = NULL; (vmm = bench_next_vmm(b, run, vmm));)
			spawn_vmm(b, vmm, vmm->is_qemu ? &row->ref : &row->ours);
		if (b->have_bare && !process_interrupted())
			spawn_bare(b, &bare->ref);
	}
	bare->ours = row->ours;
}

static bool idle_memory(struct bench *b, const struct vmm *vmm, double *mib, struct why *why)
{
	struct guest guest = { b->work, "rate=0 footprint=16M", 256 };
	struct serial serial = { 0 };
	struct child child;
	uint64_t kb = 0;
	bool ok;

	ok = vmm_start(vmm, &guest, b->dir, "idle", false, &child, NULL, why) &&
	     guest_wait_working(&child, &serial, why) &&
	     private_dirty_kb(child.pid, (uint64_t)guest.memory_mib << 10, &kb, why);
	child_kill(&child);
	*mib = (double)kb / 1024;
	return ok;
}

void measure_memory(struct bench *b)
{
	struct row *row =
		table_row(b->table, "T2 private dirty memory of an idle VMM, MiB", "QEMU");

	row->ratio_max = 0.1;
	row->ours_max = 2;
	for (unsigned int run = 0; run < b->runs; run++) {
		for (const struct vmm *vmm = NULL; (vmm = bench_next_vmm(b, run, vmm));) {
			struct why why = { "" };
			double mib;

			if (idle_memory(b, vmm, &mib, &why))
				samples_add(vmm->is_qemu ? &row->ref : &row->ours, mib);
			else
				bench_failed(b, "T2", vmm->name, &why);
		}
	}
}
