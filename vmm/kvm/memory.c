/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

/* Guest memory is aligned so that the host can back it with transparent huge pages. */
#define HUGE_PAGE (UINT64_C(2) << 20)
/* Where a tiny guest lives: to clear a whole huge page at its first byte would cost more than the rest of its start. */
#define SMALL_PAGES_BELOW (2 * HUGE_PAGE)

void memory_init(struct memory *mem, struct kvm *kvm)
{
	*mem = (struct memory){ .kvm = kvm };
	pthread_mutex_init(&mem->dirty_lock, NULL);
}

void memory_release(struct memory *mem)
{
	memory_untrack_writes(mem);
	for (unsigned int i = 0; i < mem->nblocks; i++)
		munmap(mem->blocks[i].host, mem->blocks[i].size_bytes);
	mem->nblocks = 0;
	pthread_mutex_destroy(&mem->dirty_lock);
}

/* An anonymous mapping aligned to a huge page: map too much, give back the ends. */
static void *map_aligned(uint64_t size)
{
	uint64_t want = size < HUGE_PAGE ? size : size + HUGE_PAGE;
	uint8_t *raw = mmap(NULL, want, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t lead;

	if (raw == MAP_FAILED)
		return NULL;
	if (want == size)
		return raw;
	lead = align_up((uintptr_t)raw, HUGE_PAGE) - (uintptr_t)raw;
	if (lead)
		munmap(raw, lead);
	munmap(raw + lead + size, HUGE_PAGE - lead);
	return raw + lead;
}

static struct ram_block *add_block(struct memory *mem, const char *name, uint64_t used_bytes,
				   struct error **errp)
{
	struct ram_block *block = &mem->blocks[mem->nblocks];

	assert(strlen(name) <= RAM_BLOCK_NAME_MAX && !memory_find_block(mem, name));
	if (mem->nblocks == MEMORY_MAX_BLOCKS) {
		error_set(errp, "RAM block '%s': more than %d blocks", name, MEMORY_MAX_BLOCKS);
		return NULL;
	}
	if (!used_bytes || used_bytes > UINT64_MAX - 2 * HUGE_PAGE) {
		error_set(errp, "RAM block '%s': a size of %llu bytes cannot be", name,
			  (unsigned long long)used_bytes);
		return NULL;
	}
	*block = (struct ram_block){ .slot = RAM_BLOCK_NO_SLOT, .used_bytes = used_bytes };
	strcpy(block->name, name);
	block->size_bytes = align_up(used_bytes, GUEST_PAGE_SIZE);
	block->host = map_aligned(block->size_bytes);
	if (!block->host) {
		error_set_errno(errp, errno, "RAM block '%s': cannot map %llu MiB", name,
				(unsigned long long)(block->size_bytes >> 20));
		return NULL;
	}
	if (block->size_bytes > SMALL_PAGES_BELOW)
		madvise(block->host + SMALL_PAGES_BELOW, block->size_bytes - SMALL_PAGES_BELOW,
			MADV_HUGEPAGE);
	madvise(block->host, block->size_bytes, MADV_DONTFORK);
	mem->nblocks++;
	return block;
}

struct ram_block *memory_add_hidden(struct memory *mem, const char *name, uint64_t used_bytes,
				    struct error **errp)
{
	return add_block(mem, name, used_bytes, errp);
}

struct ram_block *memory_add_ram(struct memory *mem, const char *name, uint64_t gpa,
				 uint64_t size_bytes, struct error **errp)
{
	struct ram_block *block = add_block(mem, name, size_bytes, errp);

	if (!block)
		return NULL;
	block->gpa = gpa;
	block->slot = mem->nblocks - 1;
	if (memory_set_slot_flags(mem, block, 0, errp))
		return block;
	munmap(block->host, block->size_bytes);
	mem->nblocks--;
	return NULL;
}

struct ram_block *memory_find_block(struct memory *mem, const char *name)
{
	for (unsigned int i = 0; i < mem->nblocks; i++)
		if (strcmp(mem->blocks[i].name, name) == 0)
			return &mem->blocks[i];
	return NULL;
}

static struct ram_block *block_of(struct memory *mem, uint64_t gpa, uint64_t len)
{
	for (unsigned int i = 0; i < mem->nblocks; i++) {
		struct ram_block *block = &mem->blocks[i];

		if (block->slot != RAM_BLOCK_NO_SLOT && gpa >= block->gpa &&
		    range_within(gpa - block->gpa, len, block->size_bytes))
			return block;
	}
	return NULL;
}

void *memory_host(struct memory *mem, uint64_t gpa, uint64_t len)
{
	struct ram_block *block = block_of(mem, gpa, len);

	return block ? block->host + (gpa - block->gpa) : NULL;
}

bool memory_write(struct memory *mem, uint64_t gpa, const void *data, uint64_t len,
		  struct error **errp)
{
	void *host = memory_host(mem, gpa, len);

	if (!host) {
		error_set(errp, "guest address 0x%llx, %llu bytes: no RAM there",
			  (unsigned long long)gpa, (unsigned long long)len);
		return false;
	}
	memcpy(host, data, len);
	memory_mark_dirty(mem, gpa, len);
	return true;
}

void memory_mark_dirty(struct memory *mem, uint64_t gpa, uint64_t len)
{
	struct ram_block *block = block_of(mem, gpa, len);
	uint64_t page, last;

	assert(block);
	if (!len)
		return;
	pthread_mutex_lock(&mem->dirty_lock);
	if (block->written) {
		page = (gpa - block->gpa) >> GUEST_PAGE_BITS;
		last = (gpa - block->gpa + len - 1) >> GUEST_PAGE_BITS;
		for (; page <= last; page++)
			bitmap_set_atomic(block->written, page);
	}
	pthread_mutex_unlock(&mem->dirty_lock);
}

bool memory_track_writes(struct memory *mem, struct error **errp)
{
	bool ok = true;

	pthread_mutex_lock(&mem->dirty_lock);
	for (unsigned int i = 0; ok && i < mem->nblocks; i++) {
		struct ram_block *block = &mem->blocks[i];

		if (block->slot == RAM_BLOCK_NO_SLOT)
			continue;
		assert(!block->written);
		block->written = calloc(bitmap_words(ram_block_pages(block)), sizeof(uint64_t));
		ok = block->written != NULL;
		if (!ok)
			error_set(errp, "RAM block '%s': no memory to track writes", block->name);
	}
	pthread_mutex_unlock(&mem->dirty_lock);
	if (!ok)
		memory_untrack_writes(mem);
	return ok;
}

void memory_untrack_writes(struct memory *mem)
{
	pthread_mutex_lock(&mem->dirty_lock);
	for (unsigned int i = 0; i < mem->nblocks; i++) {
		free(mem->blocks[i].written);
		mem->blocks[i].written = NULL;
	}
	pthread_mutex_unlock(&mem->dirty_lock);
}

void memory_take_written(struct memory *mem, struct ram_block *block, uint64_t *words)
{
	uint64_t n = bitmap_words(ram_block_pages(block));

	pthread_mutex_lock(&mem->dirty_lock);
	for (uint64_t i = 0; block->written && i < n; i++) {
		words[i] |= block->written[i];
		block->written[i] = 0;
	}
	pthread_mutex_unlock(&mem->dirty_lock);
}

bool memory_set_slot_flags(struct memory *mem, struct ram_block *block, uint32_t flags,
			   struct error **errp)
{
	struct kvm_userspace_memory_region region = {
		.slot = block->slot,
		.flags = flags,
		.guest_phys_addr = block->gpa,
		.memory_size = block->size_bytes,
		.userspace_addr = (uintptr_t)block->host,
	};

	if (block->slot == RAM_BLOCK_NO_SLOT)
		return true;
	if (kvm_vm_ioctl(mem->kvm, KVM_SET_USER_MEMORY_REGION, &region,
			 "KVM_SET_USER_MEMORY_REGION", errp))
		return true;
	error_prefix(errp, "RAM block '%s' at 0x%llx: ", block->name,
		     (unsigned long long)block->gpa);
	return false;
}
