/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boot protocols, as a table: the first that knows a kernel image boots it. Called for each start of the guest, also after a
 * reset, with RAM in any state; so everything that a protocol promises is written anew.
 */
#ifndef FERRY_BOOT_LOADER_H
#define FERRY_BOOT_LOADER_H

#include "vmm/boot/layout.h"
#include "vmm/kvm/vcpu.h"

/* Put the images into guest memory, and a freshly reset vCPU at the kernel's entry. The error says why an image cannot boot. */
bool boot(struct memory *mem, const struct boot_images *images, struct vcpu *vcpu,
	  struct error **errp);

#endif
