/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a vCPU's TSC counts on from the value that is loaded, whatever it was before, and all vCPUs agree on it. The TSC and kvmclock
 * make up for the time since they were saved, if that is known and no longer than a move may take.
 *
 * How: machines of two vCPUs that never run. States are written with values near what KVM has anyway, where it would rather keep
 * that, and far from it; what is read back may be ahead by the time that passed, and by nothing else. The time since a state was
 * saved is made long or short by changing the stamp in the saved bytes.
 */
#include "tests/unit/kvm_support.h"
#include "tests/unit/vmstate_support.h"
#include "vmm/base/bytes.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/irqchip.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vcpu_tsc.h"

SUITE(clocks);

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

#define MACHINE_OR_SKIP(m)                                             \
	do {                                                           \
		struct vm_observer nobody_ = { 0 };                    \
		vm_init(&(m)->vm, NULL, &nobody_, RUNSTATE_PRELAUNCH); \
		KVM_OR_SKIP(&(m)->vm.kvm);                             \
		machine_build(m);                                      \
	} while (0)

static bool tsc_can_be_set(struct machine *m)
{
	struct error *err = NULL;

	*tsc_of(m->states[0]) = 0;
	expect_ok(vcpu_state_write(m->states[0], &err), err);
	return now_on(m, 0) <= 10000 * (uint64_t)m->vm.tsc_khz;
}

#define TSC_OR_SKIP(m)                                                                       \
	do {                                                                                 \
		if (!tsc_can_be_set(m)) {                                                    \
			machine_end(m);                                                      \
			cr_skip_test("this KVM gives its guests the TSC of the host, which " \
				     "cannot be set");                                       \
		}                                                                            \
	} while (0)

Test(clocks, tsc_counts_on_from_what_is_loaded)
{
	/* Milliseconds: young guests, one that is reset, an old one, and one reset in turn. */
	static const uint64_t ages[] = { 500, 100, 900, 1, 3600000, 3599500, 3600200, 5 };
	struct machine m = { 0 };
	struct error *err = NULL;

	MACHINE_OR_SKIP(&m);
	TSC_OR_SKIP(&m);
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

/* --- time that has passed since a state was saved --- */

#define MS NS_PER_MS
#define TOLERANCE (100 * MS)

/* How old the stamp of a saved state is, and for how much of it is to be made up. */
static const struct age {
	const char *what;
	int64_t age;
	uint64_t missed;
	bool without; /* an older stream, that has no stamp */
} ages_of_stamps[] = {
	{ "now", 0, 0, false },
	{ "a blackout", 300 * (int64_t)MS, 300 * MS, false },
	{ "a long blackout", 20000 * (int64_t)MS, 20000 * MS, false },
	{ "out of a file", (int64_t)CLOCK_MISSED_MAX_NS + 1000 * (int64_t)MS, 0, false },
	{ "days", 1000000000 * (int64_t)MS, 0, false },
	{ "a host whose clock is ahead", -5000 * (int64_t)MS, 0, false },
	{ "no stamp", 0, 0, true },
};

/* Saved, but as if some time ago. The stamp is all that the subsection has, and the subsection is last. */
static struct saved saved_before(const struct vmstate_desc *desc, void *opaque,
				 const struct age *age)
{
	struct saved saved = save_ok(desc, opaque);
	const char *name = desc->subsections[0]->name;

	cr_assert_gt(saved.len, 8);
	cr_assert_lt(clock_realtime_ns() + NS_PER_SEC - get_be64(saved.data + saved.len - 8),
		     10 * NS_PER_SEC, "the stamp is not of now");
	put_be64(saved.data + saved.len - 8, clock_realtime_ns() - (uint64_t)age->age);
	if (age->without)
		saved.len -= 2 + strlen(name) + 4 + 8;
	return saved;
}

static uint64_t kvmclock_now(struct vm *vm)
{
	struct kvm_clock_data data = { 0 };

	cr_assert_eq(ioctl(vm->kvm.vm_fd, KVM_GET_CLOCK, &data), 0);
	return data.clock;
}

Test(clocks, kvmclock_makes_up_for_a_move)
{
	struct machine m = { 0 };
	struct irqchip_states chips;

	MACHINE_OR_SKIP(&m);
	irqchip_states_init(&chips, &m.vm);
	for (size_t i = 0; i < sizeof(ages_of_stamps) / sizeof(ages_of_stamps[0]); i++) {
		const struct age *age = &ages_of_stamps[i];
		uint64_t began = clock_now_ns(), clock, now, passed;
		struct saved saved = saved_before(&clock_vmstate, &chips.clock, age);

		clock = get_be64(saved.data);
		load_ok(&clock_vmstate, &chips.clock, 1, &saved);
		now = kvmclock_now(&m.vm);
		passed = clock_now_ns() - began;
		cr_assert(now >= clock + age->missed &&
				  now <= clock + age->missed + passed + TOLERANCE,
			  "%s: %" PRIi64 " ms ahead of what was saved", age->what,
			  (int64_t)(now - clock) / (int64_t)MS);
		free(saved.data);
	}
	machine_end(&m);
}

/* What came without a stamp is saved without, so that the older build can take its guest back. */
static void expect_saved_as_it_came(const struct vmstate_desc *desc, void *opaque)
{
	static const struct age without = { .without = true };
	struct saved first = saved_before(desc, opaque, &without), again;

	load_ok(desc, opaque, 1, &first);
	again = save_ok(desc, opaque);
	cr_assert_eq(again.len, first.len, "%s", desc->name);
	free(first.data);
	free(again.data);
}

Test(clocks, an_older_builds_guest_is_saved_as_it_came)
{
	struct machine m = { 0 };
	struct irqchip_states chips;

	MACHINE_OR_SKIP(&m);
	irqchip_states_init(&chips, &m.vm);
	expect_saved_as_it_came(&clock_vmstate, &chips.clock);
	expect_saved_as_it_came(&vcpu_vmstate, m.states[0]);
	machine_end(&m);
}

Test(clocks, tsc_makes_up_for_a_move)
{
	struct machine m = { 0 };

	MACHINE_OR_SKIP(&m);
	TSC_OR_SKIP(&m);
	for (size_t i = 0; i < sizeof(ages_of_stamps) / sizeof(ages_of_stamps[0]); i++) {
		const struct age *age = &ages_of_stamps[i];
		uint64_t before = 0, began = clock_now_ns(), now[3], passed;
		int64_t ahead[2], khz = m.vm.tsc_khz;

		for (unsigned int cpu = 0; cpu < CPUS; cpu++) {
			struct saved saved = saved_before(&vcpu_vmstate, m.states[cpu], age);

			if (cpu == 0)
				before = *tsc_of(m.states[0]);
			load_ok(&vcpu_vmstate, m.states[cpu], 1, &saved);
			free(saved.data);
		}
		now[0] = now_on(&m, 0);
		now[1] = now_on(&m, 1);
		now[2] = now_on(&m, 0);
		passed = clock_now_ns() - began;
		ahead[0] = (int64_t)(now[0] - before) / khz;
		ahead[1] = (int64_t)(now[2] - before) / khz;
		cr_assert(ahead[0] >= (int64_t)(age->missed / MS) - 1 &&
				  ahead[1] <= (int64_t)((age->missed + passed + TOLERANCE) / MS),
			  "%s: %" PRIi64 " ms ahead of what was saved", age->what, ahead[0]);
		cr_assert(now[0] <= now[1] && now[1] <= now[2], "%s: two CPUs, two times",
			  age->what);
	}
	machine_end(&m);
}
