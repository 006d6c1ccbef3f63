/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Multiboot 1: what many small kernels and the public KVM test images are made for. A header in the first 8 KiB says how to
 * load the image, by addresses of its own or as an ELF file; it is entered in 32-bit protected mode with a magic number in
 * eax and the Multiboot information in ebx: memory, memory map, command line behind the word "kernel", and the initrd as the one
 * module. There is no BIOS, but the words of a BIOS's data area that tell where the memory below 1 MiB ends.
 *
 * Source: Multiboot Specification 0.6.96.
 */
#ifndef FERRY_BOOT_MULTIBOOT_H
#define FERRY_BOOT_MULTIBOOT_H

#include <linux/kvm.h>

#include "vmm/boot/layout.h"

/* Does it have a Multiboot header? */
bool multiboot_probe(const uint8_t *image, uint64_t size);
/* Put everything into guest memory; *regs is how the first vCPU begins, in the state of entry_protected(). */
bool multiboot_load(struct memory *mem, const struct boot_images *images, struct kvm_regs *regs,
		    struct error **errp);

#endif
