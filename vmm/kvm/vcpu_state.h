/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All of a vCPU's state, as one struct that VMState can walk, and its way into and out of KVM.
 *
 * Reading and writing need a parked vCPU. The order of writing matters and stands in vcpu_state.c.
 */
#ifndef FERRY_KVM_VCPU_STATE_H
#define FERRY_KVM_VCPU_STATE_H

#include "migration/stream/vmstate.h"
#include "vmm/kvm/vcpu.h"

#define VCPU_GPRS \
	18 /* rax rbx rcx rdx rsi rdi rsp rbp r8..r15 rip rflags: the order of struct kvm_regs */
#define VCPU_SEGMENTS 8 /* cs ds es fs gs ss tr ldt */
#define VCPU_XCRS 16
#define VCPU_LAPIC_BYTES 1024
#define VCPU_XSAVE_MAX (64u << 10)
#define VCPU_MSRS_MAX 1024u

struct vcpu_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint8_t type, present, dpl, db, s, l, g, avl, unusable;
};

struct vcpu_msr {
	uint32_t index;
	uint64_t value;
};

struct vcpu_state {
	struct vcpu *vcpu; /* the one that pre_save reads and post_load writes; set at creation */
	uint32_t index;	   /* compared on load */
	uint64_t gpr[VCPU_GPRS];
	struct vcpu_segment segment[VCPU_SEGMENTS];
	uint64_t gdt_base, idt_base;
	uint16_t gdt_limit, idt_limit;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
	uint64_t sregs_flags, pdptr[4];
	uint64_t db[4], dr6, dr7;
	uint32_t mp_state;
	uint8_t exception_injected, exception_nr, exception_has_error_code, exception_pending;
	uint32_t exception_error_code;
	uint8_t interrupt_injected, interrupt_nr, interrupt_soft, interrupt_shadow;
	uint8_t nmi_injected, nmi_pending, nmi_masked;
	uint32_t sipi_vector;
	uint32_t xsave_bytes;
	uint8_t *xsave; /* owned */
	uint32_t nxcrs;
	uint64_t xcr[VCPU_XCRS];
	uint8_t lapic[VCPU_LAPIC_BYTES];
	uint32_t nmsrs;
	struct vcpu_msr *msrs; /* owned */
	uint64_t realtime;     /* of the host, ns, when the MSRs were read; 0: not known */
	bool no_realtime;      /* as in struct clock_state */
};

extern const struct vmstate_desc vcpu_vmstate;

/* Room for a state of this vCPU; the lists of MSRs is read from KVM once. */
struct vcpu_state *vcpu_state_new(struct vcpu *vcpu, struct error **errp);
void vcpu_state_free(struct vcpu_state *state);
bool vcpu_state_read(struct vcpu_state *state, struct error **errp);
bool vcpu_state_write(struct vcpu_state *state, struct error **errp);

/* The MSRs that KVM on this host wants saved; *n of them, to be freed. */
uint32_t *kvm_msr_list(struct kvm *kvm, uint32_t *n, struct error **errp);

#endif
