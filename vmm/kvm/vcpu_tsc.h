/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU's TSC, as exactly as it was saved, and as much later as it is.
 *
 * KVM takes a TSC that is written within a second of what it has for an attempt to synchronize CPUs, and keeps what it has (x86.c,
 * kvm_synchronize_tsc()). A vCPU just created counts from zero, so the TSC of a guest younger than a second would go back, by up
 * to a second; newer kernels (6.7) spare the first write, but not that of a reset. The offset of the TSC, an attribute of the vCPU
 * (Documentation/virt/kvm/devices/vcpu.rst, group KVM_VCPU_TSC_CTRL), is taken as it is given.
 */
#ifndef FERRY_KVM_VCPU_TSC_H
#define FERRY_KVM_VCPU_TSC_H

#include "vmm/kvm/vcpu_state.h"

#define MSR_IA32_TSC 0x10

/* Before a state that was loaded is written: put its TSC ahead by the time that has passed since it was read (clock_missed_ns()), as
 * kvmclock is by its own section. */
void vcpu_advance_tsc(struct vcpu_state *state);

/* After the state's MSRs were written: see that the TSC counts on from what it has. Only the first vCPU is looked at; the others,
 * whose MSRs are written after, are synchronized with it by KVM. Where KVM lacks the attribute nothing is done. */
bool vcpu_correct_tsc(struct vcpu_state *state, struct error **errp);

#endif
