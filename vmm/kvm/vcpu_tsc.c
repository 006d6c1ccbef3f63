/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/vcpu_tsc.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/base/clock.h"

static struct vcpu_msr *find_tsc(struct vcpu_state *state)
{
	for (uint32_t i = 0; i < state->nmsrs; i++)
		if (state->msrs[i].index == MSR_IA32_TSC)
			return &state->msrs[i];
	return NULL;
}

void vcpu_advance_tsc(struct vcpu_state *state)
{
	struct vcpu_msr *tsc = find_tsc(state);

	if (tsc)
		tsc->value += clock_missed_ns(state->realtime) / NS_PER_US *
			      state->vcpu->vm->tsc_khz / 1000;
}

static bool read_tsc(struct vcpu *vcpu, uint64_t *value, struct error **errp)
{
	/* struct kvm_msrs with room for one entry. */
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry;
	} call = { .nmsrs = 1, .entry.index = MSR_IA32_TSC };

	_Static_assert(offsetof(__typeof__(call), entry) == sizeof(struct kvm_msrs),
		       "laid out as KVM's");

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &call) == 1) {
		*value = call.entry.data;
		return true;
	}
	error_set_errno(errp, errno, "vCPU %u: KVM_GET_MSRS of the TSC", vcpu->index);
	return false;
}

static bool correct(struct vcpu *vcpu, uint64_t value, struct error **errp)
{
	uint64_t offset, now, millisecond = vcpu->vm->tsc_khz;
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
					.attr = KVM_VCPU_TSC_OFFSET,
					.addr = (uintptr_t)&offset };

	if (vcpu->index > 0 || !millisecond || ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr) < 0)
		return true;
	if (!read_tsc(vcpu, &now, errp))
		return false;
	if (now - value < millisecond) /* a TSC that is behind makes it huge */
		return true;
	if (!vcpu_ioctl(vcpu, KVM_GET_DEVICE_ATTR, &attr, "KVM_GET_DEVICE_ATTR of the TSC's offset",
			errp))
		return false;
	offset += value - now;
	return vcpu_ioctl(vcpu, KVM_SET_DEVICE_ATTR, &attr,
			  "KVM_SET_DEVICE_ATTR of the TSC's offset", errp);
}

bool vcpu_correct_tsc(struct vcpu_state *state, struct error **errp)
{
	struct vcpu_msr *tsc = find_tsc(state);

	return !tsc || correct(state->vcpu, tsc->value, errp);
}
