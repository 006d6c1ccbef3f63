/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two states in which boot protocols start a freshly reset vCPU. The general registers are the protocol's; of the flags
 * only the fixed one is set, so interrupts are off.
 */
#ifndef FERRY_BOOT_ENTRY_H
#define FERRY_BOOT_ENTRY_H

#include "vmm/boot/layout.h"
#include "vmm/kvm/vcpu.h"

/* 32-bit protected mode, paging off, flat segments, code in 0x08 and data in 0x10, which no GDT holds. */
bool entry_protected(struct vcpu *vcpu, const struct kvm_regs *regs, struct error **errp);
/* 64-bit mode: the first 4 GiB mapped where they are, code in 0x10, data in 0x18, with the tables of entry_long_tables(). */
bool entry_long(struct vcpu *vcpu, const struct kvm_regs *regs, struct error **errp);
/* Write the GDT and the page tables, at BOOT_GDT and BOOT_PAGE_TABLES. */
bool entry_long_tables(struct memory *mem, struct error **errp);

#endif
