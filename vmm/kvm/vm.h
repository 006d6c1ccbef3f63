/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual machine: KVM's descriptor, memory, buses, vCPUs, devices, and whether they run.
 *
 * Pausing is asynchronous at heart. Someone says that vCPUs must not run, all of them are signalled, and each parks itself
 * when KVM_RUN has returned with EINTR, which also means that the I/O instruction it was in the middle of is complete. Only
 * then does anybody read or write a vCPU's state.
 *
 *	vm->run_wanted = false
 *	each vCPU: run->immediate_exit = 1, then the kick signal   (first all, then wait for all)
 *	vCPU in KVM_RUN:       the signal ends it, EINTR, parks
 *	vCPU before KVM_RUN:   immediate_exit ends it, EINTR, parks
 *
 * What the guest asks for (reset, power off) and what stops it for good (an emulation failure) is a request: it stops all
 * vCPUs at once, and is carried out by the thread that owns the machine (the event loop's), or, when a migration has just
 * stopped the guest, after that migration has stepped back. So a request is never lost to a migration, nor acted on twice.
 *
 * Lock order: vm->lock, then a device's lock, then memory.dirty_lock. The observer is called without a lock held,
 * but for disk_failed.
 */
#ifndef FERRY_KVM_VM_H
#define FERRY_KVM_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/disk_bitmap.h"
#include "vmm/base/error.h"
#include "vmm/base/queue.h"
#include "vmm/kvm/bus.h"
#include "vmm/kvm/device.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/loop.h"
#include "vmm/kvm/memory.h"
#include "vmm/kvm/runstate.h"

#define VM_MAX_VCPUS 64
#define VM_NO_VCPU (~0u)

enum vm_request {
	VM_REQUEST_NONE,
	VM_REQUEST_RESET_BY_USER,
	VM_REQUEST_RESET,    /* the guest asks */
	VM_REQUEST_SHUTDOWN, /* the guest asks; request_code is the process's exit status */
	VM_REQUEST_ERROR,    /* the guest cannot go on; request_text tells */
};

struct vm_observer {
	/* The run state has changed. Any thread. */
	void (*state_changed)(void *opaque, enum runstate from, enum runstate to);
	/* There is a request to be carried out, on another thread than this one. */
	void (*request_made)(void *opaque);
	void *opaque;
	/* The image behind the disk of that id has failed, in QEMU's words for what was done ("read" or "write"), with an errno.
	 * Any thread, with the device's lock held. May be NULL. */
	void (*disk_failed)(void *opaque, const char *id, const char *operation, int error);
};

struct vcpu;

struct vm {
	/* set at creation */
	struct loop *loop;
	struct vm_observer observer;
	/* set while the machine is built */
	bool built; /* everything below is there */
	struct kvm kvm;
	struct memory memory;
	struct bus pio, mmio;
	struct vcpu *vcpus[VM_MAX_VCPUS];
	unsigned int nvcpus;
	unsigned int
		nvcpus_total; /* what the machine is to have; known before the first is created */
	uint32_t tsc_khz;     /* of the vCPUs; 0: not known */
	struct kvm_cpuid2 *cpuid; /* what the guest's CPUs show; owned */
	TAILQ_HEAD(, device) devices;
	struct disk_bitmaps_list
		disks; /* the dirty bitmaps of each disk, which belong to its device */

	pthread_mutex_t lock;
	pthread_cond_t cond; /* parked, request */
	/* written while the guest is stopped by a migration: shall it run at the other side? Travels. */
	bool run_after_migration;
	/* lock */
	enum runstate state;
	bool run_wanted;
	bool ending; /* vCPU threads must return */
	unsigned int parked;
	enum vm_request request;   /* made, not yet taken */
	bool handling;		   /* one is being carried out */
	unsigned int request_vcpu; /* that made it; VM_NO_VCPU: not a vCPU */
	int request_code;
	char *request_text;
};

void vm_init(struct vm *vm, struct loop *loop, const struct vm_observer *observer,
	     enum runstate state);
/* No vCPU runs any more and no request will be carried out: whoever waits for either goes on. The first step of an orderly
 * end, while other threads may still use the vm. */
void vm_end(struct vm *vm);
/* vm_end(), then joins the vCPU threads, destroys devices, frees everything that was built. */
void vm_release(struct vm *vm);

enum runstate vm_state(struct vm *vm);
/* Change the state; an illegal change is a bug of ours and asserted. */
void vm_set_state(struct vm *vm, enum runstate state);
/* Change from one of the states in from_mask (1 << RUNSTATE_x) or fail, in one step. *old, where not NULL, gets the state
 * before. The error tells the state. */
bool vm_change_state(struct vm *vm, unsigned int from_mask, enum runstate to, enum runstate *old,
		     struct error **errp);

/* Let the vCPUs run, or stop them and wait until all are parked; neither changes the state. */
void vm_unpark(struct vm *vm);
void vm_park(struct vm *vm);

/* vCPU threads, devices, users: stop all vCPUs at once and have the request carried out. A graver request replaces a lesser
 * one. text is taken over and may be NULL. */
void vm_make_request(struct vm *vm, enum vm_request request, int code, char *text);
/* A user's wish for a reset; refused where the guest is being handed over, or is not here. */
bool vm_request_user_reset(struct vm *vm, struct error **errp);
/* Take the pending request to carry it out, if there is one: the vCPUs are parked when this returns, and stay so until
 * vm_request_done(). *text becomes the caller's. A shutdown and an error change the state at once, so that no migration can
 * begin to stop the guest afterwards. While a migration holds the guest stopped (finish-migrate) nothing is taken. */
enum vm_request vm_take_request(struct vm *vm, int *code, char **text, unsigned int *vcpu);
void vm_request_done(struct vm *vm);
/* Is a request waiting, or being carried out? */
bool vm_request_pending(struct vm *vm);
/* Wait until vm_request_pending() is false, or the vm is ending. */
void vm_wait_request_done(struct vm *vm);
/* Have the observer look at a pending request again. */
void vm_renotify_request(struct vm *vm);

/* Set an input of the interrupt controller. Any thread. */
void vm_irq_line(struct vm *vm, unsigned int irq, bool level);
/* Up and down again: an edge. */
void vm_irq_pulse(struct vm *vm, unsigned int irq);

#endif
