/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory: RAM blocks, where the guest sees them, and who has written to them.
 *
 * A RAM block is a run of host memory with a name that migration knows it by. Blocks that the guest sees have a guest
 * physical address and a KVM memory slot; a block without a slot is memory of the machine that travels with it (the
 * boot images, which a reset reads again).
 *
 *	256 MiB guest:  ram.low  [0, 256M)             slot 0
 *	6 GiB guest:    ram.low  [0, 3G)               slot 0
 *	                ram.high [4G, 7G)              slot 1      the hole holds APICs and device registers
 *	both:           boot.kernel                    no slot
 *
 * KVM's dirty log does not see what the VMM itself writes. So every write by the VMM goes through memory_write() or is
 * followed by memory_mark_dirty(), which notes the page in the block's `written` bitmap while a migration tracks.
 */
#ifndef FERRY_KVM_MEMORY_H
#define FERRY_KVM_MEMORY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/kvm/kvm.h"

#define GUEST_PAGE_BITS 12
#define GUEST_PAGE_SIZE (UINT64_C(1) << GUEST_PAGE_BITS)
#define MEMORY_HOLE_START (UINT64_C(3) << 30)
#define MEMORY_HOLE_END (UINT64_C(4) << 30)
#define MEMORY_MAX_BLOCKS 16
#define RAM_BLOCK_NAME_MAX 63
#define RAM_BLOCK_NO_SLOT UINT32_MAX

struct ram_block {
	/* set at creation */
	char name[RAM_BLOCK_NAME_MAX + 1];
	uint8_t *host;	     /* size_bytes, page aligned, owned */
	uint64_t size_bytes; /* a multiple of the guest's page */
	uint64_t used_bytes; /* of the content, where it is no multiple of a page: a boot image */
	uint64_t gpa;	     /* guest physical address; only with a slot */
	uint32_t slot;	     /* or RAM_BLOCK_NO_SLOT */
	/* memory.dirty_lock */
	uint64_t *
		written; /* pages the VMM has written since the last memory_take_written(); NULL: not tracking */
};

struct memory {
	/* set at creation */
	struct kvm *kvm;
	struct ram_block blocks[MEMORY_MAX_BLOCKS];
	unsigned int nblocks;
	pthread_mutex_t dirty_lock;
};

void memory_init(struct memory *mem, struct kvm *kvm);
void memory_release(struct memory *mem);

/* Host memory of that many bytes, rounded up to pages, mapped at gpa with a new slot. */
struct ram_block *memory_add_ram(struct memory *mem, const char *name, uint64_t gpa,
				 uint64_t size_bytes, struct error **errp);
/* A block that the guest does not see. */
struct ram_block *memory_add_hidden(struct memory *mem, const char *name, uint64_t used_bytes,
				    struct error **errp);
struct ram_block *memory_find_block(struct memory *mem, const char *name);

static inline uint64_t ram_block_pages(const struct ram_block *block)
{
	return block->size_bytes >> GUEST_PAGE_BITS;
}

/* The host address of [gpa, gpa + len), or NULL where that is not inside one block that the guest sees. */
void *memory_host(struct memory *mem, uint64_t gpa, uint64_t len);
/* Copies into guest memory and marks the pages. Any thread. */
bool memory_write(struct memory *mem, uint64_t gpa, const void *data, uint64_t len,
		  struct error **errp);
/* The VMM has written [gpa, gpa + len), which lies inside one block. Any thread, after the write. */
void memory_mark_dirty(struct memory *mem, uint64_t gpa, uint64_t len);

/* A migration begins or ends: give every block a `written` bitmap, or take it away. */
bool memory_track_writes(struct memory *mem, struct error **errp);
void memory_untrack_writes(struct memory *mem);
/* Or the pages the VMM wrote into words (one bit a page), and forget them. */
void memory_take_written(struct memory *mem, struct ram_block *block, uint64_t *words);

/* Set the slot's flags: KVM_MEM_LOG_DIRTY_PAGES or 0. A hidden block needs nothing. */
bool memory_set_slot_flags(struct memory *mem, struct ram_block *block, uint32_t flags,
			   struct error **errp);

#endif
