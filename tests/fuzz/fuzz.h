/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzz targets share: a way to say what must hold, the input as a stream, and a machine without KVM.
 *
 * A target is one file with LLVMFuzzerTestOneInput(); `scripts/fuzz` builds and runs them. A target that only looks for crashes
 * would be half a test: each also says what must be true of every result.
 */
#ifndef FERRY_TESTS_FUZZ_H
#define FERRY_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migration/stream/section.h"
#include "migration/stream/stream.h"
#include "vmm/base/error.h"
#include "vmm/kvm/irqchip.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vm.h"

/* Called by libFuzzer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Also where NDEBUG is set, and with the place in the message. */
#define MUST(cond)                                                                                \
	do {                                                                                      \
		if (!(cond)) {                                                                    \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                                  \
		}                                                                                 \
	} while (0)

/* For whoever replays an input: with FUZZ_SAY in the environment each outcome is told. */
static inline void say(bool ok, const struct error *err)
{
	if (getenv("FUZZ_SAY"))
		fprintf(stderr, "%s\n", ok ? "accepted" : error_msg(err));
}

/* Exactly on failure there is an error, and it says something on one line. It is freed. */
static inline void expect_outcome(bool ok, struct error *err)
{
	say(ok, err);
	MUST(ok == !err);
	for (const char *c = err ? err->msg : ""; *c; c++)
		MUST((unsigned char)*c >= ' ');
	MUST(!err || *err->msg);
	error_free(err);
}

/* --- the input, taken from the front; zeroes once it has ended --- */

struct input {
	const uint8_t *data;
	size_t left;
};

static inline uint8_t take_u8(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->data++;
}

static inline uint16_t take_u16(struct input *in)
{
	uint16_t high = take_u8(in);

	return (uint16_t)(high << 8 | take_u8(in));
}

/* --- the input as a stream, and what is written as bytes (memory.c) --- */

struct reader {
	struct channel *ch;
	struct stream_in *in;
};
void reader_open(struct reader *r, const void *data, size_t size);
void reader_close(struct reader *r);

struct writer {
	struct channel *ch;
	struct stream_out *out;
};
void writer_open(struct writer *w);
/* What has been written; valid until the close. */
const uint8_t *writer_bytes(struct writer *w, size_t *len);
void writer_close(struct writer *w);

/* --- guest memory whose blocks lie between pages that may not be touched (memory.c) --- */

struct block_spec {
	const char *name;
	uint64_t gpa, bytes;
	bool visible; /* to the guest */
};
void memory_make(struct memory *mem, const struct block_spec *specs, unsigned int n);
/* All zero again, as if just made. */
void memory_clear(struct memory *mem);

/* --- a machine with KVM's parts simulated: kvm.c takes every KVM ioctl, machine.c holds the state --- */

struct fuzz_line {
	const void *client;
	void *opaque;
	size_t room; /* for output */
	bool connected;
};

struct fuzz_machine {
	struct vm vm;
	struct vcpu *vcpu;
	struct vcpu_state *vcpu_state;
	struct irqchip_states irqchip;
	struct fuzz_line line;
	struct section_table sections;
};
/* What the simulated host's CPUID leaf 0 has in EBX, EDX and ECX: "fuzz". */
#define FUZZ_VENDOR 0x7a7a7566u

/* One vCPU, a serial port, reset ports, two blocks of RAM: "ram.low" of 32 KiB and "boot.kernel" of 8 KiB. */
void machine_make(struct fuzz_machine *m);
/* Another one, with the same memory as it is. */
void machine_make_beside(struct fuzz_machine *m);
void machine_end(struct fuzz_machine *m);

/* A source of randomness, a disk of 64 KiB and a console, from FUZZ_VIRTIO_BASE on; their sections are the table's last ones. */
#define FUZZ_VIRTIO_DEVICES 3u
#define FUZZ_VIRTIO_BASE 0xd0000000u
#define FUZZ_VIRTIO_BYTES 0x1000u
void machine_add_virtio(struct fuzz_machine *m);

#endif
