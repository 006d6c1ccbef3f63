/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/convergence.h"

#include "vmm/base/bytes.h"
#include "vmm/base/clock.h"

#define FITTING_PASSES_MAX 8
#define SAMPLE_BYTES (UINT64_C(1) << 20) /* a full sample; less is mostly the cost of the calls */

static uint64_t send_time_ns(uint64_t bytes, uint64_t bandwidth)
{
	unsigned __int128 ns;

	if (!bytes)
		return 0;
	if (!bandwidth)
		return UINT64_MAX;
	ns = (unsigned __int128)bytes * NS_PER_SEC / bandwidth;
	return ns > UINT64_MAX / 2 ? UINT64_MAX / 2 : (uint64_t)ns;
}

struct convergence_output convergence_decide(const struct convergence_input *in)
{
	struct convergence_output out = { 0 };
	uint64_t send_ns = send_time_ns(in->rest_bytes, in->bandwidth);
	bool shrinks =
		in->previous_bytes && in->rest_bytes <= in->previous_bytes - in->previous_bytes / 4;

	if (!add_fits(in->fixed_ns, send_ns, &out.estimate_ns))
		out.estimate_ns = UINT64_MAX;
	out.fits = out.estimate_ns <= in->limit_ns;
	if (!out.fits)
		return out;
	out.switch_over = send_ns <= in->fixed_ns || !(shrinks || !in->fitting) ||
			  in->fitting >= FITTING_PASSES_MAX;
	return out;
}

void bandwidth_meter_mark(struct bandwidth_meter *meter, uint64_t bytes, uint64_t ns)
{
	if (bytes - meter->start_bytes < SAMPLE_BYTES)
		return;
	meter->start_bytes = bytes;
	meter->start_ns = ns;
}

uint64_t bandwidth_meter_read(struct bandwidth_meter *meter, uint64_t bytes, uint64_t ns)
{
	uint64_t sample_bytes = bytes - meter->start_bytes, sample_ns = ns - meter->start_ns;
	bool full = sample_bytes >= SAMPLE_BYTES;

	if (!sample_bytes || !sample_ns || (meter->settled && !full))
		return meter->bandwidth;
	meter->settled = full;
	meter->bandwidth = (uint64_t)((unsigned __int128)sample_bytes * NS_PER_SEC / sample_ns);
	if (!meter->bandwidth)
		meter->bandwidth = 1;
	return meter->bandwidth;
}
