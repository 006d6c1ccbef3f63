/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests of what a guest finds at its start: a machine's memory that looks visible to the guest, without KVM. */
#ifndef FERRY_TESTS_BOOT_SUPPORT_H
#define FERRY_TESTS_BOOT_SUPPORT_H

#include "tests/unit/support.h"
#include "vmm/base/bytes.h"
#include "vmm/boot/layout.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static inline void add_ram(struct memory *mem, const char *name, uint64_t gpa, uint64_t size)
{
	struct ram_block *block = memory_add_hidden(mem, name, size, NULL);

	block->gpa = gpa;
	block->slot = (uint32_t)(block - mem->blocks);
}

/* RAM of a size, below and above the hole, with 0xcc where kernels of the tests go; and a hidden block. */
static inline void machine_build(struct memory *mem, uint64_t size)
{
	struct error *err = NULL;

	memory_init(mem, NULL);
	add_ram(mem, "low", 0, size < 3 * GIB ? size : 3 * GIB);
	if (size > 3 * GIB)
		add_ram(mem, "high", 4 * GIB, size - 3 * GIB);
	expect_ok(memory_add_hidden(mem, "boot", 4096, &err), err);
	memset(mem->blocks[0].host + 0x100000, 0xcc, 0x10000);
}

#endif
