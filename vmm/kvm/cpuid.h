/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's CPUs say of themselves.
 *
 * A fresh machine shows what KVM supports on this host, but for virtualization (VMX, SVM). The table belongs to the machine: it travels in front of a migration,
 * and a destination either supports every feature in it or refuses, naming the feature. Per vCPU only the APIC id and the
 * topology leaves differ, and these are computed from the table and the vCPU's index.
 *
 * Source: Intel SDM volume 2A, CPUID; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
#ifndef FERRY_KVM_CPUID_H
#define FERRY_KVM_CPUID_H

#include "vmm/kvm/kvm.h"

struct vcpu;

#define CPUID_MAX_ENTRIES 256

/* What KVM supports on this host; to be freed. */
struct kvm_cpuid2 *cpuid_supported(struct kvm *kvm, struct error **errp);
/* The table of a fresh guest. */
struct kvm_cpuid2 *cpuid_default(struct kvm *kvm, struct error **errp);
/* Could a guest that has seen `guest` go on where `host` is supported? The error names what is missing. */
bool cpuid_check(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *host,
		 struct error **errp);
/* Give a vCPU the vm's table, with its own APIC id and topology. */
bool cpuid_apply(struct vcpu *vcpu, struct error **errp);

#endif
