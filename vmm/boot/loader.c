/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/loader.h"

#include <elf.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/entry.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/pvh.h"

static const struct boot_loader {
	const char *name;
	bool (*probe)(const uint8_t *image, uint64_t size);
	bool (*load)(struct memory *mem, const struct boot_images *images, struct kvm_regs *regs,
		     struct error **errp);
	bool (*enter)(struct vcpu *vcpu, const struct kvm_regs *regs, struct error **errp);
} loaders[] = {
	{ "bzImage", bzimage_probe, bzimage_load, entry_long },
	{ "PVH", pvh_probe, pvh_load, entry_protected },
	{ "Multiboot", multiboot_probe, multiboot_load, entry_protected },
};

/* What people hand over by mistake, by its first bytes. */
static const struct {
	uint64_t at;
	const char *bytes, *what;
} mistakes[] = {
	{ 0, "\x1f\x8b", "compressed by gzip; unpack it first" },
	{ 0, "\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first" },
	{ 0,
	  "\xfd"
	  "7zXZ",
	  "compressed by xz; unpack it first" },
	{ 0x38, "ARM\x64", "an image of Linux for another architecture (arm64)" },
	{ 0x38, "RSC\x05", "an image of Linux for another architecture (riscv)" },
	{ 0, "MZ", "an EFI program that is no Linux kernel of x86" },
};

static bool refuse(const uint8_t *image, uint64_t size, struct error **errp)
{
	if (size >= SELFMAG && memcmp(image, ELFMAG, SELFMAG) == 0)
		return pvh_check(image, size, errp);
	for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
		size_t n = strlen(mistakes[i].bytes);

		if (range_within(mistakes[i].at, n, size) &&
		    memcmp(image + mistakes[i].at, mistakes[i].bytes, n) == 0)
			return boot_bad_image(errp, mistakes[i].what);
	}
	return boot_bad_image(errp, "not an ELF file, nor a bzImage, nor a Multiboot image");
}

bool boot(struct memory *mem, const struct boot_images *images, struct vcpu *vcpu,
	  struct error **errp)
{
	for (size_t i = 0; i < ARRAY_SIZE(loaders); i++) {
		const struct boot_loader *l = &loaders[i];
		struct kvm_regs regs;

		if (!l->probe(images->kernel, images->kernel_bytes))
			continue;
		if (l->load(mem, images, &regs, errp) && l->enter(vcpu, &regs, errp))
			return true;
		error_prefix(errp, "%s: ", l->name);
		return false;
	}
	return refuse(images->kernel, images->kernel_bytes, errp);
}
