/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reset of what lives in KVM: vCPUs and interrupt controllers.
 *
 * KVM has no reset call, and a list of reset values kept by hand grows stale. So the reset state is read off a second,
 * short-lived VM with the same CPUID and written over the first. A reset is rare and costs a few milliseconds.
 */
#ifndef FERRY_KVM_RESET_H
#define FERRY_KVM_RESET_H

#include "vmm/kvm/vm.h"

/* All vCPUs are parked. On failure the guest is not fit to run. */
bool kvm_state_reset(struct vm *vm, struct error **errp);

#endif
