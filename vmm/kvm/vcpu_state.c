/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/vcpu_state.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/vcpu_tsc.h"

#define MSR_IA32_TSC_DEADLINE 0x6e0
#define MSRS_A_CALL 128

static const struct vmstate_field segment_fields[] = {
	VMSTATE_ONE(UINT64, base, struct vcpu_segment),
	VMSTATE_ONE(UINT32, limit, struct vcpu_segment),
	VMSTATE_ONE(UINT16, selector, struct vcpu_segment),
	VMSTATE_ONE(UINT8, type, struct vcpu_segment),
	VMSTATE_ONE(UINT8, present, struct vcpu_segment),
	VMSTATE_ONE(UINT8, dpl, struct vcpu_segment),
	VMSTATE_ONE(UINT8, db, struct vcpu_segment),
	VMSTATE_ONE(UINT8, s, struct vcpu_segment),
	VMSTATE_ONE(UINT8, l, struct vcpu_segment),
	VMSTATE_ONE(UINT8, g, struct vcpu_segment),
	VMSTATE_ONE(UINT8, avl, struct vcpu_segment),
	VMSTATE_ONE(UINT8, unusable, struct vcpu_segment),
	VMSTATE_END,
};
static const struct vmstate_desc segment_vmstate = { .name = "cpu-segment",
						     .version_id = 1,
						     .minimum_version_id = 1,
						     .fields = segment_fields };

static const struct vmstate_field msr_fields[] = {
	VMSTATE_ONE(UINT32, index, struct vcpu_msr),
	VMSTATE_ONE(UINT64, value, struct vcpu_msr),
	VMSTATE_END,
};
static const struct vmstate_desc msr_vmstate = { .name = "cpu-msr",
						 .version_id = 1,
						 .minimum_version_id = 1,
						 .fields = msr_fields };

static const struct vmstate_field vcpu_fields[] = {
	VMSTATE_ONE(UINT32_EQUAL, index, struct vcpu_state),
	VMSTATE_ARRAY(UINT64, gpr, struct vcpu_state),
	VMSTATE_STRUCT_ARRAY(segment, struct vcpu_state, segment_vmstate, struct vcpu_segment),
	VMSTATE_ONE(UINT64, gdt_base, struct vcpu_state),
	VMSTATE_ONE(UINT64, idt_base, struct vcpu_state),
	VMSTATE_ONE(UINT16, gdt_limit, struct vcpu_state),
	VMSTATE_ONE(UINT16, idt_limit, struct vcpu_state),
	VMSTATE_ONE(UINT64, cr0, struct vcpu_state),
	VMSTATE_ONE(UINT64, cr2, struct vcpu_state),
	VMSTATE_ONE(UINT64, cr3, struct vcpu_state),
	VMSTATE_ONE(UINT64, cr4, struct vcpu_state),
	VMSTATE_ONE(UINT64, cr8, struct vcpu_state),
	VMSTATE_ONE(UINT64, efer, struct vcpu_state),
	VMSTATE_ONE(UINT64, apic_base, struct vcpu_state),
	VMSTATE_ONE(UINT64, sregs_flags, struct vcpu_state),
	VMSTATE_ARRAY(UINT64, pdptr, struct vcpu_state),
	VMSTATE_ARRAY(UINT64, db, struct vcpu_state),
	VMSTATE_ONE(UINT64, dr6, struct vcpu_state),
	VMSTATE_ONE(UINT64, dr7, struct vcpu_state),
	VMSTATE_ONE(UINT32, mp_state, struct vcpu_state),
	VMSTATE_ONE(UINT8, exception_injected, struct vcpu_state),
	VMSTATE_ONE(UINT8, exception_nr, struct vcpu_state),
	VMSTATE_ONE(UINT8, exception_has_error_code, struct vcpu_state),
	VMSTATE_ONE(UINT8, exception_pending, struct vcpu_state),
	VMSTATE_ONE(UINT32, exception_error_code, struct vcpu_state),
	VMSTATE_ONE(UINT8, interrupt_injected, struct vcpu_state),
	VMSTATE_ONE(UINT8, interrupt_nr, struct vcpu_state),
	VMSTATE_ONE(UINT8, interrupt_soft, struct vcpu_state),
	VMSTATE_ONE(UINT8, interrupt_shadow, struct vcpu_state),
	VMSTATE_ONE(UINT8, nmi_injected, struct vcpu_state),
	VMSTATE_ONE(UINT8, nmi_pending, struct vcpu_state),
	VMSTATE_ONE(UINT8, nmi_masked, struct vcpu_state),
	VMSTATE_ONE(UINT32, sipi_vector, struct vcpu_state),
	VMSTATE_ONE(UINT32, xsave_bytes, struct vcpu_state),
	VMSTATE_ALLOC_BUFFER(xsave, struct vcpu_state, xsave_bytes, VCPU_XSAVE_MAX),
	VMSTATE_ONE(UINT32, nxcrs, struct vcpu_state),
	VMSTATE_VARRAY(UINT64, xcr, struct vcpu_state, nxcrs),
	VMSTATE_BUFFER(lapic, struct vcpu_state),
	VMSTATE_ONE(UINT32, nmsrs, struct vcpu_state),
	VMSTATE_STRUCT_ALLOC(msrs, struct vcpu_state, nmsrs, VCPU_MSRS_MAX, msr_vmstate,
			     struct vcpu_msr),
	VMSTATE_END,
};

static bool vcpu_pre_save(void *opaque, struct error **errp)
{
	return vcpu_state_read(opaque, errp);
}

static bool vcpu_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct vcpu_state *st = opaque;

	(void)version_id;
	st->no_realtime = !st->realtime;
	vcpu_advance_tsc(st);
	return vcpu_state_write(st, errp);
}

static bool vcpu_pre_load(void *opaque, struct error **errp)
{
	struct vcpu_state *st = opaque;

	(void)errp;
	st->realtime = 0; /* older streams do not have it */
	return true;
}

static bool vcpu_has_realtime(const void *opaque)
{
	const struct vcpu_state *st = opaque;

	return st->realtime != 0;
}

static const struct vmstate_field realtime_fields[] = {
	VMSTATE_ONE(UINT64, realtime, struct vcpu_state),
	VMSTATE_END,
};
static const struct vmstate_desc realtime_vmstate = {
	.name = "cpu/realtime",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = realtime_fields,
	.needed = vcpu_has_realtime,
};

const struct vmstate_desc vcpu_vmstate = {
	.name = "cpu",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = vcpu_fields,
	.subsections = (const struct vmstate_desc *const[]){ &realtime_vmstate, NULL },
	.pre_save = vcpu_pre_save,
	.pre_load = vcpu_pre_load,
	.post_load = vcpu_post_load,
};

uint32_t *kvm_msr_list(struct kvm *kvm, uint32_t *n, struct error **errp)
{
	struct kvm_msr_list *list = xcalloc(1, sizeof(*list) + VCPU_MSRS_MAX * sizeof(uint32_t));
	uint32_t *indices = NULL;

	list->nmsrs = VCPU_MSRS_MAX;
	if (ioctl(kvm->dev_fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		error_set_errno(errp, errno, "KVM_GET_MSR_INDEX_LIST");
	} else {
		indices = xcalloc(list->nmsrs, sizeof(*indices));
		memcpy(indices, list->indices, list->nmsrs * sizeof(*indices));
		*n = list->nmsrs;
	}
	free(list);
	return indices;
}

struct vcpu_state *vcpu_state_new(struct vcpu *vcpu, struct error **errp)
{
	struct kvm *kvm = &vcpu->vm->kvm;
	scoped_free uint32_t *indices = NULL;
	struct vcpu_state *state;
	uint32_t n;

	indices = kvm_msr_list(kvm, &n, errp);
	if (!indices)
		return NULL;
	state = xcalloc(1, sizeof(*state));
	state->vcpu = vcpu;
	state->index = vcpu->index;
	state->xsave_bytes = MAX_OF((uint32_t)kvm->cap[CAP_XSAVE2], sizeof(struct kvm_xsave));
	state->xsave = xcalloc(1, state->xsave_bytes);
	state->nmsrs = n;
	state->msrs = xcalloc(n, sizeof(*state->msrs));
	for (uint32_t i = 0; i < n; i++)
		state->msrs[i].index = indices[i];
	return state;
}

void vcpu_state_free(struct vcpu_state *state)
{
	if (!state)
		return;
	free(state->xsave);
	free(state->msrs);
	free(state);
}

static void segment_from_kvm(struct vcpu_segment *to, const struct kvm_segment *from)
{
	*to = (struct vcpu_segment){ from->base,    from->limit, from->selector, from->type,
				     from->present, from->dpl,	 from->db,	 from->s,
				     from->l,	    from->g,	 from->avl,	 from->unusable };
}

static void segment_to_kvm(struct kvm_segment *to, const struct vcpu_segment *from)
{
	*to = (struct kvm_segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.type = from->type,
		.present = from->present,
		.dpl = from->dpl,
		.db = from->db,
		.s = from->s,
		.l = from->l,
		.g = from->g,
		.avl = from->avl,
		.unusable = from->unusable,
	};
}

/* kvm_sregs2 begins like kvm_sregs and replaces the interrupt bitmap, which is empty with an irqchip in the kernel. */
static bool read_sregs(struct vcpu_state *st, struct error **errp)
{
	struct kvm_sregs2 s = { 0 };
	struct kvm_sregs old;
	const struct kvm_segment *segments = &s.cs;

	if (st->vcpu->vm->kvm.cap[CAP_SREGS2]) {
		if (!vcpu_ioctl(st->vcpu, KVM_GET_SREGS2, &s, "KVM_GET_SREGS2", errp))
			return false;
	} else {
		if (!vcpu_ioctl(st->vcpu, KVM_GET_SREGS, &old, "KVM_GET_SREGS", errp))
			return false;
		memcpy(&s, &old, offsetof(struct kvm_sregs, interrupt_bitmap));
	}
	for (size_t i = 0; i < VCPU_SEGMENTS; i++)
		segment_from_kvm(&st->segment[i], &segments[i]);
	st->gdt_base = s.gdt.base;
	st->gdt_limit = s.gdt.limit;
	st->idt_base = s.idt.base;
	st->idt_limit = s.idt.limit;
	st->cr0 = s.cr0;
	st->cr2 = s.cr2;
	st->cr3 = s.cr3;
	st->cr4 = s.cr4;
	st->cr8 = s.cr8;
	st->efer = s.efer;
	st->apic_base = s.apic_base;
	st->sregs_flags = s.flags;
	for (size_t i = 0; i < 4; i++)
		st->pdptr[i] = s.pdptrs[i];
	return true;
}

static bool write_sregs(struct vcpu_state *st, struct error **errp)
{
	struct kvm_sregs2 s = {
		.gdt = { .base = st->gdt_base, .limit = st->gdt_limit },
		.idt = { .base = st->idt_base, .limit = st->idt_limit },
		.cr0 = st->cr0,
		.cr2 = st->cr2,
		.cr3 = st->cr3,
		.cr4 = st->cr4,
		.cr8 = st->cr8,
		.efer = st->efer,
		.apic_base = st->apic_base,
		.flags = st->sregs_flags,
	};
	struct kvm_sregs old = { 0 };
	struct kvm_segment *segments = &s.cs;

	for (size_t i = 0; i < VCPU_SEGMENTS; i++)
		segment_to_kvm(&segments[i], &st->segment[i]);
	for (size_t i = 0; i < 4; i++)
		s.pdptrs[i] = st->pdptr[i];
	if (st->vcpu->vm->kvm.cap[CAP_SREGS2])
		return vcpu_ioctl(st->vcpu, KVM_SET_SREGS2, &s, "KVM_SET_SREGS2", errp);
	memcpy(&old, &s, offsetof(struct kvm_sregs, interrupt_bitmap));
	return vcpu_ioctl(st->vcpu, KVM_SET_SREGS, &old, "KVM_SET_SREGS", errp);
}

static bool read_regs(struct vcpu_state *st, struct error **errp)
{
	struct kvm_regs regs;

	_Static_assert(sizeof(regs) == sizeof(st->gpr), "18 registers of 64 bits");
	if (!vcpu_ioctl(st->vcpu, KVM_GET_REGS, &regs, "KVM_GET_REGS", errp))
		return false;
	memcpy(st->gpr, &regs, sizeof(regs));
	return true;
}

static bool write_regs(struct vcpu_state *st, struct error **errp)
{
	struct kvm_regs regs;

	memcpy(&regs, st->gpr, sizeof(regs));
	return vcpu_ioctl(st->vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS", errp);
}

static bool read_xsave(struct vcpu_state *st, struct error **errp)
{
	if (st->vcpu->vm->kvm.cap[CAP_XSAVE2])
		return vcpu_ioctl(st->vcpu, KVM_GET_XSAVE2, st->xsave, "KVM_GET_XSAVE2", errp);
	return vcpu_ioctl(st->vcpu, KVM_GET_XSAVE, st->xsave, "KVM_GET_XSAVE", errp);
}

static bool write_xsave(struct vcpu_state *st, struct error **errp)
{
	uint32_t have =
		MAX_OF((uint32_t)st->vcpu->vm->kvm.cap[CAP_XSAVE2], sizeof(struct kvm_xsave));
	uint8_t *room;

	if (st->xsave_bytes > have) {
		error_set(errp, "vCPU %u: xsave area of %u bytes, this host has %u", st->index,
			  st->xsave_bytes, have);
		return false;
	}
	/* KVM reads and writes as many bytes as it has, however many came. */
	room = xcalloc(1, have);
	memcpy(room, st->xsave, st->xsave_bytes);
	free(st->xsave);
	st->xsave = room;
	st->xsave_bytes = have;
	return vcpu_ioctl(st->vcpu, KVM_SET_XSAVE, st->xsave, "KVM_SET_XSAVE", errp);
}

static bool read_xcrs(struct vcpu_state *st, struct error **errp)
{
	struct kvm_xcrs xcrs = { 0 };

	if (!vcpu_ioctl(st->vcpu, KVM_GET_XCRS, &xcrs, "KVM_GET_XCRS", errp))
		return false;
	st->nxcrs = MIN_OF(xcrs.nr_xcrs, VCPU_XCRS);
	for (uint32_t i = 0; i < st->nxcrs; i++)
		st->xcr[i] = xcrs.xcrs[i].value;
	return true;
}

static bool write_xcrs(struct vcpu_state *st, struct error **errp)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = st->nxcrs };

	for (uint32_t i = 0; i < st->nxcrs; i++)
		xcrs.xcrs[i] = (struct kvm_xcr){ .xcr = i, .value = st->xcr[i] };
	return vcpu_ioctl(st->vcpu, KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS", errp);
}

static bool read_small(struct vcpu_state *st, struct error **errp)
{
	struct kvm_debugregs dbg = { 0 };
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;

	if (!vcpu_ioctl(st->vcpu, KVM_GET_DEBUGREGS, &dbg, "KVM_GET_DEBUGREGS", errp) ||
	    !vcpu_ioctl(st->vcpu, KVM_GET_MP_STATE, &mp, "KVM_GET_MP_STATE", errp) ||
	    !vcpu_ioctl(st->vcpu, KVM_GET_LAPIC, &lapic, "KVM_GET_LAPIC", errp))
		return false;
	for (size_t i = 0; i < 4; i++)
		st->db[i] = dbg.db[i];
	st->dr6 = dbg.dr6;
	st->dr7 = dbg.dr7;
	st->mp_state = mp.mp_state;
	memcpy(st->lapic, lapic.regs, sizeof(st->lapic));
	return true;
}

static bool write_debugregs(struct vcpu_state *st, struct error **errp)
{
	struct kvm_debugregs dbg = { .dr6 = st->dr6, .dr7 = st->dr7 };

	for (size_t i = 0; i < 4; i++)
		dbg.db[i] = st->db[i];
	return vcpu_ioctl(st->vcpu, KVM_SET_DEBUGREGS, &dbg, "KVM_SET_DEBUGREGS", errp);
}

static bool write_mp_state(struct vcpu_state *st, struct error **errp)
{
	struct kvm_mp_state mp = { .mp_state = st->mp_state };

	return vcpu_ioctl(st->vcpu, KVM_SET_MP_STATE, &mp, "KVM_SET_MP_STATE", errp);
}

static bool write_lapic(struct vcpu_state *st, struct error **errp)
{
	struct kvm_lapic_state lapic;

	memcpy(lapic.regs, st->lapic, sizeof(lapic.regs));
	return vcpu_ioctl(st->vcpu, KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC", errp);
}

static bool read_events(struct vcpu_state *st, struct error **errp)
{
	struct kvm_vcpu_events ev = { 0 };

	if (!vcpu_ioctl(st->vcpu, KVM_GET_VCPU_EVENTS, &ev, "KVM_GET_VCPU_EVENTS", errp))
		return false;
	st->exception_injected = ev.exception.injected;
	st->exception_nr = ev.exception.nr;
	st->exception_has_error_code = ev.exception.has_error_code;
	st->exception_pending = ev.exception.pending;
	st->exception_error_code = ev.exception.error_code;
	st->interrupt_injected = ev.interrupt.injected;
	st->interrupt_nr = ev.interrupt.nr;
	st->interrupt_soft = ev.interrupt.soft;
	st->interrupt_shadow = ev.interrupt.shadow;
	st->nmi_injected = ev.nmi.injected;
	st->nmi_pending = ev.nmi.pending;
	st->nmi_masked = ev.nmi.masked;
	st->sipi_vector = ev.sipi_vector;
	return true;
}

static bool write_events(struct vcpu_state *st, struct error **errp)
{
	struct kvm_vcpu_events ev = {
		.exception = { .injected = st->exception_injected,
			       .nr = st->exception_nr,
			       .has_error_code = st->exception_has_error_code,
			       .error_code = st->exception_error_code },
		.interrupt = { .injected = st->interrupt_injected,
			       .nr = st->interrupt_nr,
			       .soft = st->interrupt_soft,
			       .shadow = st->interrupt_shadow },
		.nmi = { .injected = st->nmi_injected,
			 .pending = st->nmi_pending,
			 .masked = st->nmi_masked },
		.sipi_vector = st->sipi_vector,
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};

	return vcpu_ioctl(st->vcpu, KVM_SET_VCPU_EVENTS, &ev, "KVM_SET_VCPU_EVENTS", errp);
}

/* struct kvm_msrs with room for its entries. */
struct msr_call {
	uint32_t nmsrs, pad;
	struct kvm_msr_entry entries[MSRS_A_CALL];
};
_Static_assert(offsetof(struct msr_call, entries) == sizeof(struct kvm_msrs), "laid out as KVM's");

/* KVM stops at the first MSR it cannot read (listed, but not backed by this CPU model): it leaves the list. */
static bool read_msrs(struct vcpu_state *st, struct error **errp)
{
	struct msr_call call;
	uint32_t at = 0;

	st->realtime = st->no_realtime ? 0 : clock_realtime_ns();
	while (at < st->nmsrs) {
		uint32_t n = MIN_OF(st->nmsrs - at, MSRS_A_CALL);
		int done;

		memset(&call, 0, sizeof(call));
		call.nmsrs = n;
		for (uint32_t i = 0; i < n; i++)
			call.entries[i].index = st->msrs[at + i].index;
		done = ioctl(st->vcpu->fd, KVM_GET_MSRS, &call);
		if (done < 0) {
			error_set_errno(errp, errno, "vCPU %u: KVM_GET_MSRS", st->index);
			return false;
		}
		for (int i = 0; i < done; i++)
			st->msrs[at + (uint32_t)i].value = call.entries[i].data;
		at += (uint32_t)done;
		if ((uint32_t)done < n) {
			st->nmsrs--;
			memmove(&st->msrs[at], &st->msrs[at + 1],
				(st->nmsrs - at) * sizeof(*st->msrs));
		}
	}
	return true;
}

/* An MSR that KVM refuses is no loss where it already has the wanted value, or would only be zeroed. */
static bool refused_msr_is_harmless(struct vcpu_state *st, const struct vcpu_msr *msr)
{
	struct msr_call call = { .nmsrs = 1, .entries[0].index = msr->index };

	if (ioctl(st->vcpu->fd, KVM_GET_MSRS, &call) == 1)
		return call.entries[0].data == msr->value;
	return msr->value == 0;
}

static bool write_msrs(struct vcpu_state *st, bool deadline, struct error **errp)
{
	struct msr_call call;
	uint32_t at = 0;

	while (at < st->nmsrs) {
		uint32_t from[MSRS_A_CALL];
		uint32_t n = 0;
		int done;

		memset(&call, 0, sizeof(call));
		for (; at < st->nmsrs && n < MSRS_A_CALL; at++) {
			if ((st->msrs[at].index == MSR_IA32_TSC_DEADLINE) != deadline)
				continue;
			call.entries[n].index = st->msrs[at].index;
			call.entries[n].data = st->msrs[at].value;
			from[n++] = at;
		}
		call.nmsrs = n;
		done = n ? ioctl(st->vcpu->fd, KVM_SET_MSRS, &call) : 0;
		if (done < 0) {
			error_set_errno(errp, errno, "vCPU %u: KVM_SET_MSRS", st->index);
			return false;
		}
		if ((uint32_t)done == n)
			continue;
		if (!refused_msr_is_harmless(st, &st->msrs[from[done]])) {
			error_set(errp, "vCPU %u: this host refuses MSR 0x%x = 0x%llx", st->index,
				  call.entries[done].index, call.entries[done].data);
			return false;
		}
		at = from[done] + 1;
	}
	return true;
}

bool vcpu_state_read(struct vcpu_state *state, struct error **errp)
{
	/* MP state first: reading it makes KVM take in a pending INIT or SIPI, which changes the rest. */
	return read_small(state, errp) && read_regs(state, errp) && read_sregs(state, errp) &&
	       read_xsave(state, errp) && read_xcrs(state, errp) && read_events(state, errp) &&
	       read_msrs(state, errp);
}

bool vcpu_state_write(struct vcpu_state *state, struct error **errp)
{
	/* The APIC's base (sregs) before its registers; XCR0 before the state it enables; the deadline MSR after the APIC
	 * timer's mode; events after everything that could make KVM raise or drop them. */
	return write_sregs(state, errp) && write_xcrs(state, errp) && write_xsave(state, errp) &&
	       write_regs(state, errp) && write_msrs(state, false, errp) &&
	       vcpu_correct_tsc(state, errp) && write_lapic(state, errp) &&
	       write_msrs(state, true, errp) && write_debugregs(state, errp) &&
	       write_mp_state(state, errp) && write_events(state, errp);
}
