/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/reset.h"

#include "vmm/base/cleanup.h"
#include "vmm/kvm/irqchip.h"
#include "vmm/kvm/vcpu_state.h"

static bool build_fresh(struct vm *fresh, const struct vm *vm, struct error **errp)
{
	size_t size = sizeof(*vm->cpuid) + vm->cpuid->nent * sizeof(vm->cpuid->entries[0]);

	if (!kvm_open(&fresh->kvm, errp) || !irqchip_create(fresh, errp))
		return false;
	fresh->cpuid = xcalloc(1, size);
	memcpy(fresh->cpuid, vm->cpuid, size);
	fresh->nvcpus_total = vm->nvcpus_total;
	for (unsigned int i = 0; i < vm->nvcpus; i++)
		if (!vcpu_create(fresh, i, errp))
			return false;
	return true;
}

static bool copy_vcpu(struct vcpu *to, struct vcpu *from, struct error **errp)
{
	struct vcpu_state *state = vcpu_state_new(from, errp);
	bool ok;

	if (!state)
		return false;
	ok = vcpu_state_read(state, errp);
	if (ok) {
		state->vcpu = to;
		ok = vcpu_state_write(state, errp);
	}
	vcpu_state_free(state);
	return ok;
}

bool kvm_state_reset(struct vm *vm, struct error **errp)
{
	struct vm_observer nobody = { 0 };
	struct vm fresh;
	bool ok;

	vm_init(&fresh, vm->loop, &nobody, RUNSTATE_PRELAUNCH);
	ok = build_fresh(&fresh, vm, errp) && irqchip_copy(vm, &fresh, errp);
	for (unsigned int i = 0; ok && i < vm->nvcpus; i++)
		ok = copy_vcpu(vm->vcpus[i], fresh.vcpus[i], errp);
	vm_release(&fresh);
	if (!ok)
		error_prefix(errp, "reset: ");
	return ok;
}
