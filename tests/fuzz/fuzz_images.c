/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel images of every boot protocol, loaded into a small guest whose memory lies between pages that may not be touched. What the
 * guest is told lies where layout.h says and is whole: no segment and no initrd has overwritten it.
 *
 * First byte: bit 0: with an initrd, of as many pages as the next byte says.
 */
#include "tests/fuzz/fuzz.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/loader.h"

#define MIB (UINT64_C(1) << 20)

static const struct block_spec specs[] = { { "ram.low", 0, 2 * MIB, true },
					   { "ram.high", UINT64_C(4) << 30, 64 << 10, true } };

static bool holds(const uint8_t *low, const void *what, size_t len, size_t from, size_t to)
{
	return memmem(low + from, to - from, what, len) != NULL;
}

static void expect_boot_area(struct memory *mem, const struct boot_images *images)
{
	const uint8_t *low = mem->blocks[0].host;

	MUST(!strcmp((const char *)low + BOOT_CMDLINE, images->cmdline));
	/* PVH and the zero page point to the tree, Multiboot has no word for it. */
	if (get_le32(low + BOOT_INFO) == 0x336ec578 ||
	    get_le32(low + BOOT_INFO + 0x202) == 0x53726448)
		MUST(holds(low, images->fdt, images->fdt_bytes, BOOT_FDT, BOOT_AREA_END));
	MUST(!images->initrd_bytes ||
	     holds(low, images->initrd, images->initrd_bytes, BOOT_HIGH_RAM, 2 * MIB));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t initrd[256 * 4096] = { 0x77 };
	static const uint8_t fdt[] = "a device tree";
	static struct memory mem;
	static struct vm vm;
	struct vcpu vcpu = { .vm = &vm, .fd = -1 };
	struct input in = { data, size };
	bool with_initrd = take_u8(&in) & 1;
	struct boot_images images = {
		.initrd_bytes = take_u8(&in) * GUEST_PAGE_SIZE * with_initrd,
		.cmdline = "console=ttyS0",
		.fdt = fdt,
		.fdt_bytes = sizeof(fdt),
	};
	scoped_free uint8_t *kernel = malloc(in.left ? in.left : 1);
	struct error *err = NULL;
	bool ok;

	MUST(kernel);
	if (!mem.nblocks)
		memory_make(&mem, specs, 2);
	if (in.left)
		memcpy(kernel, in.data, in.left);
	/* What an earlier input has left must not do for this one. */
	memset(mem.blocks[0].host + BOOT_INFO, 0, BOOT_AREA_END - BOOT_INFO);
	images.kernel = kernel;
	images.kernel_bytes = in.left;
	images.initrd = images.initrd_bytes ? initrd : NULL;
	ok = boot(&mem, &images, &vcpu, &err);
	expect_outcome(ok, err);
	if (ok)
		expect_boot_area(&mem, &images);
	return 0;
}
