/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/dirty_log.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cleanup.h"

static bool always(const struct kvm *kvm)
{
	(void)kvm;
	return true;
}

static bool manual_supported(const struct kvm *kvm)
{
	int both = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;

	return (kvm->cap[CAP_MANUAL_DIRTY_LOG] & both) == both;
}

static bool manual_prepare(struct kvm *kvm, bool on, struct error **errp)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { on ? KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET
			     : 0 },
	};

	return kvm_vm_ioctl(kvm, KVM_ENABLE_CAP, &cap,
			    "KVM_ENABLE_CAP of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", errp);
}

/* In order of preference. */
static const struct dirty_log_ops rows[] = {
	{ "manual-protect", true, manual_supported, manual_prepare },
	{ "plain", false, always, NULL },
};

const struct dirty_log_ops *dirty_log_select(const struct kvm *kvm, const char *name,
					     struct error **errp)
{
	bool any = !name || strcmp(name, "auto") == 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!any && strcmp(rows[i].name, name) != 0)
			continue;
		if (rows[i].supported(kvm))
			return &rows[i];
		if (!any) {
			error_set(errp, "dirty log '%s': this KVM does not support it", name);
			return NULL;
		}
	}
	error_set(errp, "dirty log '%s': expected auto, manual-protect or plain", name);
	return NULL;
}

bool dirty_log_start(const struct dirty_log_ops *ops, struct memory *mem, struct error **errp)
{
	if (!memory_track_writes(mem, errp))
		return false;
	if (ops->prepare && !ops->prepare(mem->kvm, true, errp)) {
		memory_untrack_writes(mem);
		return false;
	}
	for (unsigned int i = 0; i < mem->nblocks; i++) {
		if (!memory_set_slot_flags(mem, &mem->blocks[i], KVM_MEM_LOG_DIRTY_PAGES, errp)) {
			dirty_log_stop(ops, mem);
			return false;
		}
	}
	return true;
}

void dirty_log_stop(const struct dirty_log_ops *ops, struct memory *mem)
{
	for (unsigned int i = 0; i < mem->nblocks; i++)
		memory_set_slot_flags(mem, &mem->blocks[i], 0, NULL);
	if (ops->prepare)
		ops->prepare(mem->kvm, false, NULL);
	memory_untrack_writes(mem);
}

bool dirty_log_read(const struct dirty_log_ops *ops, struct memory *mem, struct ram_block *block,
		    uint64_t *words, struct error **errp)
{
	struct kvm_dirty_log log = { .slot = block->slot, .dirty_bitmap = words };

	(void)ops; /* both rows read alike; they differ in what reading leaves behind */
	memset(words, 0, bitmap_words(ram_block_pages(block)) * sizeof(*words));
	if (block->slot == RAM_BLOCK_NO_SLOT)
		return true;
	if (!kvm_vm_ioctl(mem->kvm, KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG", errp)) {
		error_prefix(errp, "RAM block '%s': ", block->name);
		return false;
	}
	memory_take_written(mem, block, words);
	return true;
}

bool dirty_log_clear(const struct dirty_log_ops *ops, struct memory *mem, struct ram_block *block,
		     uint64_t first, uint64_t n, const uint64_t *words, struct error **errp)
{
	struct kvm_clear_dirty_log log = {
		.slot = block->slot,
		.first_page = first,
		.num_pages = (uint32_t)n,
		.dirty_bitmap = (void *)words,
	};

	assert(ops->clears_by_hand && first % 64 == 0);
	assert(n % 64 == 0 || first + n == ram_block_pages(block));
	if (block->slot == RAM_BLOCK_NO_SLOT)
		return true;
	if (kvm_vm_ioctl(mem->kvm, KVM_CLEAR_DIRTY_LOG, &log, "KVM_CLEAR_DIRTY_LOG", errp))
		return true;
	error_prefix(errp, "RAM block '%s': ", block->name);
	return false;
}
