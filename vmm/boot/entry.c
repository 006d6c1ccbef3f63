/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/entry.h"

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

#define CR0_PE 0x1u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

#define PTE_TABLE 0x3u	/* present, writable */
#define PTE_LARGE 0x83u /* the same, of 2 MiB */
#define TABLE_BYTES 4096u
#define MAPPED_GIB 4u
#define TABLES (2 + MAPPED_GIB)

#define CODE_TYPE 11 /* execute, read, accessed */
#define DATA_TYPE 3  /* read, write, accessed */

_Static_assert(BOOT_PAGE_TABLES + TABLES * TABLE_BYTES <= BOOT_FDT, "the tables fit");

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){ .limit = 0xffffffff,
				     .present = 1,
				     .s = 1,
				     .db = 1,
				     .g = 1,
				     .selector = selector,
				     .type = type };
}

static bool enter(struct vcpu *vcpu, const struct kvm_sregs *sregs, const struct kvm_regs *regs,
		  struct error **errp)
{
	struct kvm_regs r = *regs;

	r.rflags = 2;
	return vcpu_ioctl(vcpu, KVM_SET_SREGS, (void *)sregs, "KVM_SET_SREGS", errp) &&
	       vcpu_ioctl(vcpu, KVM_SET_REGS, &r, "KVM_SET_REGS", errp);
}

bool entry_protected(struct vcpu *vcpu, const struct kvm_regs *regs, struct error **errp)
{
	struct kvm_sregs sregs;

	if (!vcpu_ioctl(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS", errp))
		return false;
	sregs.cs = flat(0x08, CODE_TYPE);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(0x10, DATA_TYPE);
	sregs.tr =
		(struct kvm_segment){ .limit = 0x67, .present = 1, .type = 11, .selector = 0x18 };
	sregs.cr0 = CR0_PE;
	sregs.cr4 = 0;
	sregs.efer = 0;
	return enter(vcpu, &sregs, regs, errp);
}

bool entry_long(struct vcpu *vcpu, const struct kvm_regs *regs, struct error **errp)
{
	struct kvm_sregs sregs;

	if (!vcpu_ioctl(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS", errp))
		return false;
	sregs.cs = flat(0x10, CODE_TYPE);
	sregs.cs.db = 0;
	sregs.cs.l = 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(0x18, DATA_TYPE);
	sregs.tr =
		(struct kvm_segment){ .limit = 0x67, .present = 1, .type = 11, .selector = 0x20 };
	sregs.gdt.base = BOOT_GDT;
	sregs.gdt.limit = 4 * 8 - 1;
	sregs.cr3 = BOOT_PAGE_TABLES;
	sregs.cr4 = CR4_PAE;
	sregs.cr0 = CR0_PE | CR0_PG;
	sregs.efer = EFER_LME | EFER_LMA;
	return enter(vcpu, &sregs, regs, errp);
}

bool entry_long_tables(struct memory *mem, struct error **errp)
{
	static const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	scoped_free uint8_t *tables = xcalloc(TABLES, TABLE_BYTES);
	uint8_t *pdpt = tables + TABLE_BYTES, *pd = pdpt + TABLE_BYTES;

	put_le64(tables, (BOOT_PAGE_TABLES + TABLE_BYTES) | PTE_TABLE);
	for (uint64_t i = 0; i < MAPPED_GIB; i++)
		put_le64(pdpt + i * 8, (BOOT_PAGE_TABLES + (2 + i) * TABLE_BYTES) | PTE_TABLE);
	for (uint64_t i = 0; i < MAPPED_GIB * 512; i++)
		put_le64(pd + i * 8, i << 21 | PTE_LARGE);
	return memory_write(mem, BOOT_GDT, gdt, sizeof(gdt), errp) &&
	       memory_write(mem, BOOT_PAGE_TABLES, tables, TABLES * TABLE_BYTES, errp);
}
