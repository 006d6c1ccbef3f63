/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/vm.h"

#include <assert.h>
#include <sys/ioctl.h>

#include "vmm/base/cleanup.h"
#include "vmm/kvm/vcpu.h"

void vm_init(struct vm *vm, struct loop *loop, const struct vm_observer *observer,
	     enum runstate state)
{
	pthread_condattr_t attr;

	*vm = (struct vm){ .loop = loop, .observer = *observer, .state = state };
	vm->kvm.dev_fd = vm->kvm.vm_fd = -1;
	vm->pio.name = "port I/O";
	vm->mmio.name = "memory-mapped I/O";
	TAILQ_INIT(&vm->devices);
	TAILQ_INIT(&vm->disks);
	pthread_mutex_init(&vm->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->cond, &attr);
	pthread_condattr_destroy(&attr);
}

static void stop_running_locked(struct vm *vm)
{
	vm->run_wanted = false;
	for (unsigned int i = 0; i < vm->nvcpus; i++)
		vcpu_kick(vm->vcpus[i]);
}

void vm_end(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->ending = true;
	stop_running_locked(vm);
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

void vm_release(struct vm *vm)
{
	struct device *dev, *next;

	vm_end(vm);
	for (unsigned int i = 0; i < vm->nvcpus; i++)
		vcpu_destroy(vm->vcpus[i]);
	TAILQ_FOREACH_SAFE (dev, &vm->devices, entry, next)
		dev->cls->destroy(dev);
	if (vm->memory.kvm)
		memory_release(&vm->memory);
	kvm_close(&vm->kvm);
	free(vm->cpuid);
	free(vm->request_text);
	pthread_cond_destroy(&vm->cond);
	pthread_mutex_destroy(&vm->lock);
}

enum runstate vm_state(struct vm *vm)
{
	enum runstate state;

	pthread_mutex_lock(&vm->lock);
	state = vm->state;
	pthread_mutex_unlock(&vm->lock);
	return state;
}

bool vm_change_state(struct vm *vm, unsigned int from_mask, enum runstate to, enum runstate *old,
		     struct error **errp)
{
	enum runstate from;
	bool ok;

	pthread_mutex_lock(&vm->lock);
	from = vm->state;
	ok = from_mask >> from & 1;
	if (ok) {
		assert(from == to || runstate_can_change(from, to));
		vm->state = to;
	}
	pthread_mutex_unlock(&vm->lock);
	if (!ok) {
		error_set(errp, "the guest is in state '%s'", runstate_name(from));
		return false;
	}
	if (old)
		*old = from;
	if (from != to)
		vm->observer.state_changed(vm->observer.opaque, from, to);
	return true;
}

void vm_set_state(struct vm *vm, enum runstate state)
{
	vm_change_state(vm, ~0u, state, NULL, NULL);
}

void vm_unpark(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	/* A request stops the guest until it has been carried out, whoever else wants it to run. */
	if (vm->request == VM_REQUEST_NONE && !vm->handling && !vm->ending) {
		vm->run_wanted = true;
		pthread_cond_broadcast(&vm->cond);
	}
	pthread_mutex_unlock(&vm->lock);
}

static void wait_parked_locked(struct vm *vm)
{
	while (vm->parked < vm->nvcpus)
		pthread_cond_wait(&vm->cond, &vm->lock);
}

void vm_park(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	stop_running_locked(vm);
	wait_parked_locked(vm);
	pthread_mutex_unlock(&vm->lock);
}

/* The vCPU whose thread this is. */
static unsigned int calling_vcpu(const struct vm *vm)
{
	for (unsigned int i = 0; i < vm->nvcpus; i++)
		if (vm->vcpus[i]->has_thread && pthread_equal(vm->vcpus[i]->thread, pthread_self()))
			return i;
	return VM_NO_VCPU;
}

void vm_make_request(struct vm *vm, enum vm_request request, int code, char *text)
{
	pthread_mutex_lock(&vm->lock);
	if (request > vm->request) {
		vm->request = request;
		vm->request_code = code;
		vm->request_vcpu = calling_vcpu(vm);
		free(vm->request_text);
		vm->request_text = take_ptr(text);
	}
	stop_running_locked(vm);
	pthread_mutex_unlock(&vm->lock);
	free(text);
	vm->observer.request_made(vm->observer.opaque);
}

bool vm_request_user_reset(struct vm *vm, struct error **errp)
{
	enum runstate state;
	bool ok;

	pthread_mutex_lock(&vm->lock);
	state = vm->state;
	ok = state == RUNSTATE_RUNNING || state == RUNSTATE_PAUSED || state == RUNSTATE_PRELAUNCH;
	if (ok) {
		/* A request of the guest's that waits already leads to a reset or to the end. */
		vm->request = MAX_OF(vm->request, VM_REQUEST_RESET_BY_USER);
		vm->request_vcpu =
			vm->request == VM_REQUEST_RESET_BY_USER ? VM_NO_VCPU : vm->request_vcpu;
		stop_running_locked(vm);
	}
	pthread_mutex_unlock(&vm->lock);
	if (ok)
		vm->observer.request_made(vm->observer.opaque);
	else
		error_set(errp, "the guest is in state '%s' and cannot be reset",
			  runstate_name(state));
	return ok;
}

/* The state that a request leads to by itself, or the present one. */
static enum runstate state_after(const struct vm *vm)
{
	enum runstate to = vm->request == VM_REQUEST_SHUTDOWN ? RUNSTATE_SHUTDOWN
			   : vm->request == VM_REQUEST_ERROR  ? RUNSTATE_INTERNAL_ERROR
							      : vm->state;

	return runstate_can_change(vm->state, to) ? to : vm->state;
}

enum vm_request vm_take_request(struct vm *vm, int *code, char **text, unsigned int *vcpu)
{
	enum vm_request request = VM_REQUEST_NONE;
	enum runstate from, to;

	pthread_mutex_lock(&vm->lock);
	from = to = vm->state;
	if (vm->request && !vm->handling && from != RUNSTATE_FINISH_MIGRATE) {
		vm->handling = true;
		wait_parked_locked(vm);
		request = vm->request;
		*code = vm->request_code;
		*vcpu = vm->request_vcpu;
		*text = take_ptr(vm->request_text);
		from = vm->state;
		vm->state = to = state_after(vm);
		vm->request = VM_REQUEST_NONE;
	}
	pthread_mutex_unlock(&vm->lock);
	if (from != to)
		vm->observer.state_changed(vm->observer.opaque, from, to);
	return request;
}

void vm_request_done(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->handling = false;
	pthread_cond_broadcast(&vm->cond);
	pthread_mutex_unlock(&vm->lock);
}

bool vm_request_pending(struct vm *vm)
{
	bool pending;

	pthread_mutex_lock(&vm->lock);
	pending = vm->request != VM_REQUEST_NONE || vm->handling;
	pthread_mutex_unlock(&vm->lock);
	return pending;
}

void vm_wait_request_done(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	while ((vm->request != VM_REQUEST_NONE || vm->handling) && !vm->ending)
		pthread_cond_wait(&vm->cond, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

void vm_renotify_request(struct vm *vm)
{
	if (vm_request_pending(vm))
		vm->observer.request_made(vm->observer.opaque);
}

void vm_irq_line(struct vm *vm, unsigned int irq, bool level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };
	int rc = ioctl(vm->kvm.vm_fd, KVM_IRQ_LINE, &line);

	assert(rc == 0); /* irq is one of ours, and the irqchip is there */
}

void vm_irq_pulse(struct vm *vm, unsigned int irq)
{
	vm_irq_line(vm, irq, true);
	vm_irq_line(vm, irq, false);
}

void devices_pause(struct vm *vm)
{
	struct device *dev;

	TAILQ_FOREACH (dev, &vm->devices, entry)
		if (dev->cls->pause)
			dev->cls->pause(dev);
	TAILQ_FOREACH (dev, &vm->devices, entry)
		if (dev->cls->drain)
			dev->cls->drain(dev);
}

void devices_resume(struct vm *vm)
{
	struct device *dev;

	TAILQ_FOREACH (dev, &vm->devices, entry)
		if (dev->cls->resume)
			dev->cls->resume(dev);
}

void devices_reset(struct vm *vm)
{
	struct device *dev;

	TAILQ_FOREACH (dev, &vm->devices, entry)
		dev->cls->reset(dev);
}
