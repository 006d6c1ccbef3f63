/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PVH boot: an ELF image with the Xen note 18 (XEN_ELFNOTE_PHYS32_ENTRY) is entered in 32-bit protected mode with
 * paging off and the address of an hvm_start_info in ebx. Its module 0 is the initrd (size 0: none), module 1 the device tree.
 *
 * Source: Xen public/arch-x86/hvm/start_info.h and docs/misc/pvh.pandoc; ELF gABI 4.1.
 */
#ifndef FERRY_BOOT_PVH_H
#define FERRY_BOOT_PVH_H

#include <linux/kvm.h>

#include "vmm/boot/layout.h"

/* Is it an ELF image with a PVH entry? */
bool pvh_probe(const uint8_t *image, uint64_t size);
/* The same, with the reason why not. */
bool pvh_check(const uint8_t *image, uint64_t size, struct error **errp);
/* Put everything into guest memory; *regs is how the first vCPU begins, in the state of entry_protected(). */
bool pvh_load(struct memory *mem, const struct boot_images *images, struct kvm_regs *regs,
	      struct error **errp);

#endif
