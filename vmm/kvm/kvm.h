/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The door to KVM: /dev/kvm, its capabilities, and one virtual machine's descriptor.
 *
 * Whether KVM is usable is found out by opening /dev/kvm and asking it, never from CPUID flags: a nested,
 * paravirtual KVM shows neither VMX nor SVM. Capabilities are a table: required ones are missing with an error that
 * names them, optional ones with a known loss.
 *
 * Source: Linux Documentation/virt/kvm/api.rst.
 */
#ifndef FERRY_KVM_KVM_H
#define FERRY_KVM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

/* Indices into struct kvm.cap; kvm_caps[] in kvm.c has a row for each. */
enum kvm_cap_index {
	CAP_IRQCHIP,
	CAP_USER_MEMORY,
	CAP_EXT_CPUID,
	CAP_PIT2,
	CAP_PIT_STATE2,
	CAP_MP_STATE,
	CAP_VCPU_EVENTS,
	CAP_DEBUGREGS,
	CAP_XSAVE,
	CAP_XCRS,
	CAP_ADJUST_CLOCK,
	CAP_IMMEDIATE_EXIT,
	CAP_SET_TSS_ADDR,
	CAP_SET_IDENTITY_MAP,
	CAP_GET_TSC_KHZ,
	CAP_XSAVE2,
	CAP_SREGS2,
	CAP_TSC_CONTROL,
	CAP_KVMCLOCK_CTRL,
	CAP_TSC_DEADLINE,
	CAP_MANUAL_DIRTY_LOG,
	CAP_MAX_VCPUS,
	CAP_NR_MEMSLOTS,
	CAP_IOEVENTFD,
	CAP_IRQFD,
	CAP_COUNT,
};

struct kvm {
	int dev_fd; /* /dev/kvm */
	int vm_fd;
	int cap[CAP_COUNT];	/* what KVM_CHECK_EXTENSION answered */
	size_t vcpu_mmap_bytes; /* of a vCPU's shared run area */
};

/* Open /dev/kvm, check API and capabilities, create a VM. On failure nothing stays open. */
bool kvm_open(struct kvm *kvm, struct error **errp);
void kvm_close(struct kvm *kvm);
/* ioctl on the VM; an error text is "KVM_NAME: reason". */
bool kvm_vm_ioctl(struct kvm *kvm, unsigned long request, void *arg, const char *name,
		  struct error **errp);

struct kvm_cap_info {
	const char *name;
	bool required;
	const char *without; /* what is lost where it is missing */
};
/* The table, for people and tests. */
const struct kvm_cap_info *kvm_cap_describe(enum kvm_cap_index index);

#endif
