/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/irqchip.h"

#include <stddef.h>
#include <string.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

/* Below the APICs' page and above RAM's end: where Intel CPUs without unrestricted guest keep a TSS and a page table. */
#define IDENTITY_MAP_ADDRESS UINT64_C(0xfeffc000)
#define TSS_ADDRESS (IDENTITY_MAP_ADDRESS + 0x1000)

#define PIC_FIRST offsetof(struct pic_state, last_irr)
_Static_assert(sizeof(struct kvm_pic_state) == 16 && sizeof(struct pic_state) - PIC_FIRST >= 16 &&
		       offsetof(struct pic_state, elcr_mask) - PIC_FIRST == 15,
	       "pic_state holds KVM's 16 bytes in KVM's order");

static bool pic_pre_save(void *opaque, struct error **errp)
{
	struct pic_state *st = opaque;
	struct kvm_irqchip chip = { .chip_id = st->chip_id };

	if (!kvm_vm_ioctl(&st->vm->kvm, KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP (PIC)", errp))
		return false;
	memcpy((uint8_t *)st + PIC_FIRST, &chip.chip.pic, sizeof(chip.chip.pic));
	return true;
}

static bool pic_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct pic_state *st = opaque;
	struct kvm_irqchip chip = { .chip_id = st->chip_id };

	(void)version_id;
	memcpy(&chip.chip.pic, (uint8_t *)st + PIC_FIRST, sizeof(chip.chip.pic));
	return kvm_vm_ioctl(&st->vm->kvm, KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP (PIC)", errp);
}

static const struct vmstate_field pic_fields[] = {
	VMSTATE_ONE(UINT8, last_irr, struct pic_state),
	VMSTATE_ONE(UINT8, irr, struct pic_state),
	VMSTATE_ONE(UINT8, imr, struct pic_state),
	VMSTATE_ONE(UINT8, isr, struct pic_state),
	VMSTATE_ONE(UINT8, priority_add, struct pic_state),
	VMSTATE_ONE(UINT8, irq_base, struct pic_state),
	VMSTATE_ONE(UINT8, read_reg_select, struct pic_state),
	VMSTATE_ONE(UINT8, poll, struct pic_state),
	VMSTATE_ONE(UINT8, special_mask, struct pic_state),
	VMSTATE_ONE(UINT8, init_state, struct pic_state),
	VMSTATE_ONE(UINT8, auto_eoi, struct pic_state),
	VMSTATE_ONE(UINT8, rotate_on_auto_eoi, struct pic_state),
	VMSTATE_ONE(UINT8, special_fully_nested_mode, struct pic_state),
	VMSTATE_ONE(UINT8, init4, struct pic_state),
	VMSTATE_ONE(UINT8, elcr, struct pic_state),
	VMSTATE_ONE(UINT8, elcr_mask, struct pic_state),
	VMSTATE_END,
};
const struct vmstate_desc pic_vmstate = {
	.name = "i8259",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = pic_fields,
	.pre_save = pic_pre_save,
	.post_load = pic_post_load,
};

static bool ioapic_pre_save(void *opaque, struct error **errp)
{
	struct ioapic_state *st = opaque;
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	if (!kvm_vm_ioctl(&st->vm->kvm, KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP (I/O APIC)", errp))
		return false;
	st->base_address = chip.chip.ioapic.base_address;
	st->ioregsel = chip.chip.ioapic.ioregsel;
	st->id = chip.chip.ioapic.id;
	st->irr = chip.chip.ioapic.irr;
	for (size_t i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		st->redirtbl[i] = chip.chip.ioapic.redirtbl[i].bits;
	return true;
}

static bool ioapic_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct ioapic_state *st = opaque;
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	(void)version_id;
	chip.chip.ioapic.base_address = st->base_address;
	chip.chip.ioapic.ioregsel = st->ioregsel;
	chip.chip.ioapic.id = st->id;
	chip.chip.ioapic.irr = st->irr;
	for (size_t i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		chip.chip.ioapic.redirtbl[i].bits = st->redirtbl[i];
	return kvm_vm_ioctl(&st->vm->kvm, KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP (I/O APIC)",
			    errp);
}

static const struct vmstate_field ioapic_fields[] = {
	VMSTATE_ONE(UINT64, base_address, struct ioapic_state),
	VMSTATE_ONE(UINT32, ioregsel, struct ioapic_state),
	VMSTATE_ONE(UINT32, id, struct ioapic_state),
	VMSTATE_ONE(UINT32, irr, struct ioapic_state),
	VMSTATE_ARRAY(UINT64, redirtbl, struct ioapic_state),
	VMSTATE_END,
};
const struct vmstate_desc ioapic_vmstate = {
	.name = "ioapic",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = ioapic_fields,
	.pre_save = ioapic_pre_save,
	.post_load = ioapic_post_load,
};

static bool pit_pre_save(void *opaque, struct error **errp)
{
	struct pit_state *st = opaque;
	struct kvm_pit_state2 pit = { 0 };

	if (!kvm_vm_ioctl(&st->vm->kvm, KVM_GET_PIT2, &pit, "KVM_GET_PIT2", errp))
		return false;
	st->flags = pit.flags;
	for (size_t i = 0; i < 3; i++) {
		const struct kvm_pit_channel_state *c = &pit.channels[i];

		st->channel[i] = (struct pit_channel_state){
			c->count,   c->latched_count, c->count_latched, c->status_latched,
			c->status,  c->read_state,    c->write_state,	c->write_latch,
			c->rw_mode, c->mode,	      c->bcd,		c->gate,
		};
	}
	return true;
}

static bool pit_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct pit_state *st = opaque;
	struct kvm_pit_state2 pit = { .flags = st->flags };

	(void)version_id;
	for (size_t i = 0; i < 3; i++) {
		const struct pit_channel_state *c = &st->channel[i];

		pit.channels[i] = (struct kvm_pit_channel_state){
			.count = c->count,
			.latched_count = c->latched_count,
			.count_latched = c->count_latched,
			.status_latched = c->status_latched,
			.status = c->status,
			.read_state = c->read_state,
			.write_state = c->write_state,
			.write_latch = c->write_latch,
			.rw_mode = c->rw_mode,
			.mode = c->mode,
			.bcd = c->bcd,
			.gate = c->gate,
		};
	}
	return kvm_vm_ioctl(&st->vm->kvm, KVM_SET_PIT2, &pit, "KVM_SET_PIT2", errp);
}

static const struct vmstate_field pit_channel_fields[] = {
	VMSTATE_ONE(UINT32, count, struct pit_channel_state),
	VMSTATE_ONE(UINT16, latched_count, struct pit_channel_state),
	VMSTATE_ONE(UINT8, count_latched, struct pit_channel_state),
	VMSTATE_ONE(UINT8, status_latched, struct pit_channel_state),
	VMSTATE_ONE(UINT8, status, struct pit_channel_state),
	VMSTATE_ONE(UINT8, read_state, struct pit_channel_state),
	VMSTATE_ONE(UINT8, write_state, struct pit_channel_state),
	VMSTATE_ONE(UINT8, write_latch, struct pit_channel_state),
	VMSTATE_ONE(UINT8, rw_mode, struct pit_channel_state),
	VMSTATE_ONE(UINT8, mode, struct pit_channel_state),
	VMSTATE_ONE(UINT8, bcd, struct pit_channel_state),
	VMSTATE_ONE(UINT8, gate, struct pit_channel_state),
	VMSTATE_END,
};
static const struct vmstate_desc pit_channel_vmstate = {
	.name = "i8254-channel",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = pit_channel_fields,
};
static const struct vmstate_field pit_fields[] = {
	VMSTATE_STRUCT_ARRAY(channel, struct pit_state, pit_channel_vmstate,
			     struct pit_channel_state),
	VMSTATE_ONE(UINT32, flags, struct pit_state),
	VMSTATE_END,
};
const struct vmstate_desc pit_vmstate = {
	.name = "i8254",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = pit_fields,
	.pre_save = pit_pre_save,
	.post_load = pit_post_load,
};

static bool clock_pre_save(void *opaque, struct error **errp)
{
	struct clock_state *st = opaque;
	struct kvm_clock_data data = { 0 };

	if (!kvm_vm_ioctl(&st->vm->kvm, KVM_GET_CLOCK, &data, "KVM_GET_CLOCK", errp))
		return false;
	st->clock = data.clock;
	if (!st->no_realtime)
		st->realtime =
			data.flags & KVM_CLOCK_REALTIME ? data.realtime : clock_realtime_ns();
	return true;
}

static bool clock_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct clock_state *st = opaque;
	struct kvm_clock_data data = { .clock = st->clock + clock_missed_ns(st->realtime) };

	(void)version_id;
	st->no_realtime = !st->realtime;
	return kvm_vm_ioctl(&st->vm->kvm, KVM_SET_CLOCK, &data, "KVM_SET_CLOCK", errp);
}

static bool clock_pre_load(void *opaque, struct error **errp)
{
	struct clock_state *st = opaque;

	(void)errp;
	st->realtime = 0; /* older streams do not have it */
	return true;
}

static bool clock_has_realtime(const void *opaque)
{
	const struct clock_state *st = opaque;

	return st->realtime != 0;
}

static const struct vmstate_field clock_realtime_fields[] = {
	VMSTATE_ONE(UINT64, realtime, struct clock_state),
	VMSTATE_END,
};
static const struct vmstate_desc clock_realtime_vmstate = {
	.name = "kvmclock/realtime",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = clock_realtime_fields,
	.needed = clock_has_realtime,
};
static const struct vmstate_field clock_fields[] = {
	VMSTATE_ONE(UINT64, clock, struct clock_state),
	VMSTATE_END,
};
const struct vmstate_desc clock_vmstate = {
	.name = "kvmclock",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = clock_fields,
	.subsections = (const struct vmstate_desc *const[]){ &clock_realtime_vmstate, NULL },
	.pre_save = clock_pre_save,
	.pre_load = clock_pre_load,
	.post_load = clock_post_load,
};

bool irqchip_create(struct vm *vm, struct error **errp)
{
	struct kvm *kvm = &vm->kvm;
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = IDENTITY_MAP_ADDRESS;

	if (kvm->cap[CAP_SET_IDENTITY_MAP] &&
	    !kvm_vm_ioctl(kvm, KVM_SET_IDENTITY_MAP_ADDR, &identity, "KVM_SET_IDENTITY_MAP_ADDR",
			  errp))
		return false;
	if (kvm->cap[CAP_SET_TSS_ADDR] &&
	    !kvm_vm_ioctl(kvm, KVM_SET_TSS_ADDR, (void *)TSS_ADDRESS, "KVM_SET_TSS_ADDR", errp))
		return false;
	return kvm_vm_ioctl(kvm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP", errp) &&
	       kvm_vm_ioctl(kvm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2", errp);
}

void irqchip_states_init(struct irqchip_states *states, struct vm *vm)
{
	*states = (struct irqchip_states){
		.pic = { { .vm = vm, .chip_id = KVM_IRQCHIP_PIC_MASTER },
			 { .vm = vm, .chip_id = KVM_IRQCHIP_PIC_SLAVE } },
		.ioapic.vm = vm,
		.pit.vm = vm,
		.clock.vm = vm,
	};
}

bool irqchip_copy(struct vm *vm, struct vm *fresh, struct error **errp)
{
	struct irqchip_states st;

	irqchip_states_init(&st, fresh);
	for (size_t i = 0; i < 2; i++) {
		if (!pic_pre_save(&st.pic[i], errp))
			return false;
		st.pic[i].vm = vm;
		if (!pic_post_load(&st.pic[i], 1, errp))
			return false;
	}
	if (!ioapic_pre_save(&st.ioapic, errp) || !pit_pre_save(&st.pit, errp))
		return false;
	st.ioapic.vm = st.pit.vm = vm;
	return ioapic_post_load(&st.ioapic, 1, errp) && pit_post_load(&st.pit, 1, errp);
}
