/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A KVM virtual machine for the tests that need one, or a skip that says why there is none. */
#ifndef FERRY_TESTS_KVM_SUPPORT_H
#define FERRY_TESTS_KVM_SUPPORT_H

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tests/unit/support.h"
#include "vmm/kvm/kvm.h"

/* Opens /dev/kvm as a user would; where it cannot be had, the test is skipped aloud. */
#define KVM_OR_SKIP(kvm)                                                                \
	do {                                                                            \
		struct error *kvm_err_ = NULL;                                          \
		int kvm_fd_ = open("/dev/kvm", O_RDWR | O_CLOEXEC);                     \
                                                                                        \
		if (kvm_fd_ < 0)                                                        \
			cr_skip_test("/dev/kvm cannot be opened: %s", strerror(errno)); \
		close(kvm_fd_);                                                         \
		expect_ok(kvm_open(kvm, &kvm_err_), kvm_err_);                          \
	} while (0)

/*
 * A page of code in a slot of its own, which is in no dirty log: KVM may call a page written that was only fetched from (it maps
 * it for writing at once where it may). To be unmapped after the VM.
 */
static inline void *code_page_add(struct kvm *kvm, uint64_t gpa, const void *code, size_t len)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .slot = 31,
						      .guest_phys_addr = gpa,
						      .memory_size = 4096,
						      .userspace_addr = (uintptr_t)page };

	cr_assert_neq(page, MAP_FAILED);
	memcpy(page, code, len);
	cr_assert_eq(ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	return page;
}

#endif
