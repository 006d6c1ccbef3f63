/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's own devices: the two PICs, the I/O APIC, the timer chip (PIT) and the paravirtual clock. They are created in the
 * kernel; here they get sections of their own in the stream and a way to be reset.
 *
 * The memory slots must exist before irqchip_create(): afterwards the first change of a slot waits for a grace period
 * (several milliseconds).
 */
#ifndef FERRY_KVM_IRQCHIP_H
#define FERRY_KVM_IRQCHIP_H

#include "migration/stream/vmstate.h"
#include "vmm/kvm/vm.h"

struct pic_state {
	struct vm *vm;
	uint32_t chip_id; /* KVM_IRQCHIP_PIC_MASTER or _SLAVE */
	uint8_t last_irr, irr, imr, isr, priority_add, irq_base, read_reg_select, poll;
	uint8_t special_mask, init_state, auto_eoi, rotate_on_auto_eoi;
	uint8_t special_fully_nested_mode, init4, elcr, elcr_mask;
};

struct ioapic_state {
	struct vm *vm;
	uint64_t base_address;
	uint32_t ioregsel, id, irr;
	uint64_t redirtbl[KVM_IOAPIC_NUM_PINS];
};

/* When the count was loaded does not travel: it is in the source host's clock, and KVM loads the count anew. */
struct pit_channel_state {
	uint32_t count;
	uint16_t latched_count;
	uint8_t count_latched, status_latched, status, read_state, write_state, write_latch,
		rw_mode;
	uint8_t mode, bcd, gate;
};

struct pit_state {
	struct vm *vm;
	struct pit_channel_state channel[3];
	uint32_t flags;
};

struct clock_state {
	struct vm *vm;
	uint64_t clock;	   /* ns of kvmclock */
	uint64_t realtime; /* of the host, ns, when the clock was read; 0: not known */
	bool no_realtime; /* it came without, from an older build, which is to be able to take it back */
};

extern const struct vmstate_desc pic_vmstate, ioapic_vmstate, pit_vmstate, clock_vmstate;

struct irqchip_states {
	struct pic_state pic[2];
	struct ioapic_state ioapic;
	struct pit_state pit;
	struct clock_state clock;
};

bool irqchip_create(struct vm *vm, struct error **errp);
void irqchip_states_init(struct irqchip_states *states, struct vm *vm);
/* Give vm's chips the state that fresh's have. */
bool irqchip_copy(struct vm *vm, struct vm *fresh, struct error **errp);

#endif
