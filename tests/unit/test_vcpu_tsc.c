/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a vCPU's TSC counts on from the value that is loaded, whatever it was before, and all vCPUs agree on it.
 *
 * How: machines of two vCPUs that never run. States are written with values near what KVM has anyway, where it would rather keep
 * that, and far from it; what is read back may be ahead by the time that passed, and by nothing else.
 */
#include "tests/unit/kvm_support.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/irqchip.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vcpu_tsc.h"

SUITE(vcpu_tsc);

#define CPUS 2

struct machine {
	struct vm vm;
	struct vcpu_state *states[CPUS];
};

static void machine_build(struct machine *m)
{
	struct error *err = NULL;

	m->vm.cpuid = cpuid_default(&m->vm.kvm, &err);
	expect_ok(m->vm.cpuid && irqchip_create(&m->vm, &err), err);
	m->vm.nvcpus_total = CPUS;
	for (unsigned int i = 0; i < CPUS; i++) {
		struct vcpu *vcpu = vcpu_create(&m->vm, i, &err);

		expect_ok(vcpu, err);
		m->states[i] = vcpu_state_new(vcpu, &err);
		expect_ok(m->states[i] && vcpu_state_read(m->states[i], &err), err);
	}
}

static void machine_end(struct machine *m)
{
	for (unsigned int i = 0; i < CPUS; i++)
		vcpu_state_free(m->states[i]);
	vm_release(&m->vm);
}

static uint64_t *tsc_of(struct vcpu_state *state)
{
	for (uint32_t i = 0; i < state->nmsrs; i++)
		if (state->msrs[i].index == MSR_IA32_TSC)
			return &state->msrs[i].value;
	cr_assert_fail("no TSC");
	return NULL;
}

static uint64_t now_on(struct machine *m, unsigned int index)
{
	struct error *err = NULL;

	expect_ok(vcpu_state_read(m->states[index], &err), err);
	return *tsc_of(m->states[index]);
}

Test(vcpu_tsc, it_counts_on_from_what_is_loaded)
{
	/* Milliseconds: young guests, one that is reset, an old one, and one reset in turn. */
	static const uint64_t ages[] = { 500, 100, 900, 1, 3600000, 3599500, 3600200, 5 };
	struct vm_observer nobody = { 0 };
	struct machine m = { 0 };
	struct error *err = NULL;

	vm_init(&m.vm, NULL, &nobody, RUNSTATE_PRELAUNCH);
	KVM_OR_SKIP(&m.vm.kvm);
	machine_build(&m);
	*tsc_of(m.states[0]) = 0;
	expect_ok(vcpu_state_write(m.states[0], &err), err);
	if (now_on(&m, 0) > 10000 * (uint64_t)m.vm.tsc_khz) {
		machine_end(&m);
		cr_skip_test("this KVM gives its guests the TSC of the host, which cannot be set");
	}
	for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++) {
		uint64_t value = ages[i] * m.vm.tsc_khz, began = clock_now_ns(), passed;
		uint64_t now[3];

		for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
			*tsc_of(m.states[cpu]) = value + cpu;
			expect_ok(vcpu_state_write(m.states[cpu], &err), err);
		}
		now[0] = now_on(&m, 0);
		now[1] = now_on(&m, 1);
		now[2] = now_on(&m, 0);
		passed = (clock_now_ns() - began) / 1000 * m.vm.tsc_khz / 1000;
		passed +=
			passed / 10 + 2 * m.vm.tsc_khz; /* clocks differ, and a tolerance of 1 ms */
		cr_assert(now[0] >= value && now[2] - value <= passed,
			  "loaded %" PRIu64 " ms: %" PRIi64 " ms ahead, %" PRIu64 " ms have passed",
			  ages[i], (int64_t)(now[2] - value) / (int64_t)m.vm.tsc_khz,
			  passed / m.vm.tsc_khz);
		cr_assert(now[0] <= now[1] && now[1] <= now[2], "two CPUs, two times");
	}
	machine_end(&m);
}
