/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual CPU and its thread.
 *
 * The thread is born parked and runs KVM_RUN while vm->run_wanted. KVM's vCPU descriptor is used by the vCPU's thread while it
 * runs and by anybody, one at a time, while it is parked.
 */
#ifndef FERRY_KVM_VCPU_H
#define FERRY_KVM_VCPU_H

#include <pthread.h>

#include "vmm/kvm/vm.h"

struct vcpu {
	/* set at creation */
	struct vm *vm;
	unsigned int index; /* also the APIC id */
	int fd;
	struct kvm_run *
		run; /* shared with KVM; run->immediate_exit is set by vcpu_kick() from any thread */
	pthread_t thread;
	bool has_thread;
	int tid; /* of the thread, for query-cpus-fast */
};

/* Create KVM's vCPU with the vm's CPUID; no thread yet. It is added to vm->vcpus. */
struct vcpu *vcpu_create(struct vm *vm, unsigned int index, struct error **errp);
bool vcpu_start_thread(struct vcpu *vcpu, struct error **errp);
/* vm->ending is set, or there is no thread: joins and frees. */
void vcpu_destroy(struct vcpu *vcpu);
/* Make KVM_RUN return soon, now or the next time. Any thread. */
void vcpu_kick(struct vcpu *vcpu);
/* Registers and the bytes at the instruction pointer, for a message; the vCPU's own thread or a parked vCPU. */
char *vcpu_describe(struct vcpu *vcpu);
/* ioctl on the vCPU; the error is "vCPU N: NAME: reason". */
bool vcpu_ioctl(struct vcpu *vcpu, unsigned long request, void *arg, const char *name,
		struct error **errp);
/* Install the signal handler that kicks use. Once per process, before the first vCPU. */
void vcpu_init_signals(void);

#endif
