/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When to stop the guest: numbers in, decision out.
 *
 * At the end of each pass the rest could be sent with the guest stopped, in  fixed + rest / bandwidth. Above the limit another
 * pass is made. Below it the guest could be stopped, but as long as each pass shrinks the rest by a quarter or more another one
 * is worth its time: it makes the blackout shorter. It ends when the rest is no more than what the fixed part costs anyway,
 * when passes no longer help, or after a few of them.
 *
 * Example: limit 300 ms, 1 GiB/s, fixed 2 ms. Rests of 900, 120, 16, 3, 3 MiB: 880 ms, go on; 119 ms, fits, but is the first;
 * 17 ms, fits and shrinks; 4 ms; 4 ms, no better: switch.
 *
 * The speed of the link is measured while sending, over a whole pass where a pass is large, over several where they are small. A
 * guest whose memory is mostly zero never fills one sample: until one is full, what there is has to do.
 *
 * Pure. It does not throttle the guest.
 */
#ifndef FERRY_MIGRATION_CONVERGENCE_H
#define FERRY_MIGRATION_CONVERGENCE_H

#include <stdbool.h>
#include <stdint.h>

struct convergence_input {
	uint64_t rest_bytes;	 /* to be sent, as they would go on the wire */
	uint64_t previous_bytes; /* the same at the end of the pass before; 0: the first pass */
	uint64_t bandwidth;	 /* bytes/s while sending; 0: not known */
	uint64_t limit_ns;	 /* the blackout the user accepts */
	uint64_t fixed_ns;	 /* what the switch costs beside the rest */
	unsigned int fitting;	 /* passes before this one whose rest fitted as well */
};

struct convergence_output {
	bool switch_over;
	bool fits;	      /* the estimate is within the limit */
	uint64_t estimate_ns; /* of the blackout, were it now; UINT64_MAX: not known */
};

struct convergence_output convergence_decide(const struct convergence_input *in);

/* Both functions take how many bytes have been sent since the migration began, and the ns spent sending them. */
struct bandwidth_meter {
	uint64_t start_bytes, start_ns; /* where the sample in hand began */
	uint64_t bandwidth;		/* bytes/s; 0: not known */
	bool settled;			/* it came from a full sample */
};

/* A pass begins: a full sample ends here. */
void bandwidth_meter_mark(struct bandwidth_meter *meter, uint64_t bytes, uint64_t ns);
/* Returns the bandwidth, by the sample in hand where that tells more than is known. */
uint64_t bandwidth_meter_read(struct bandwidth_meter *meter, uint64_t bytes, uint64_t ns);

#endif
