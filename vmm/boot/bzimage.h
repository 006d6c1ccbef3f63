/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bzImage: Linux's own boot protocol, by its 64-bit entry.
 *
 * The file is sectors of real-mode code that nobody runs here, with the setup header in the first, and then the kernel, which
 * is put where it prefers to be (it would move itself there otherwise), and started 512 bytes in, in 64-bit mode, with rsi
 * pointing to the zero page: the setup header as it was found and completed, and the memory map. The device tree goes
 * along as setup_data, for kernels that have CONFIG_OF.
 *
 * Source: Linux Documentation/arch/x86/boot.rst, protocol 2.12 and later; the structures are those of <asm/bootparam.h>.
 */
#ifndef FERRY_BOOT_BZIMAGE_H
#define FERRY_BOOT_BZIMAGE_H

#include <linux/kvm.h>

#include "vmm/boot/layout.h"

/* Does it have the protocol's magic? */
bool bzimage_probe(const uint8_t *image, uint64_t size);
/* Put everything into guest memory; *regs is how the first vCPU begins, in the state of entry_long(). */
bool bzimage_load(struct memory *mem, const struct boot_images *images, struct kvm_regs *regs,
		  struct error **errp);

#endif
