/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"

static const struct {
	int number;
	struct kvm_cap_info info;
} kvm_caps[CAP_COUNT] = {
#define REQUIRED(index, number) [index] = { number, { #number, true, "nothing works" } }
#define OPTIONAL(index, number, without) [index] = { number, { #number, false, without } }
	REQUIRED(CAP_IRQCHIP, KVM_CAP_IRQCHIP),
	REQUIRED(CAP_USER_MEMORY, KVM_CAP_USER_MEMORY),
	REQUIRED(CAP_EXT_CPUID, KVM_CAP_EXT_CPUID),
	REQUIRED(CAP_PIT2, KVM_CAP_PIT2),
	REQUIRED(CAP_PIT_STATE2, KVM_CAP_PIT_STATE2),
	REQUIRED(CAP_MP_STATE, KVM_CAP_MP_STATE),
	REQUIRED(CAP_VCPU_EVENTS, KVM_CAP_VCPU_EVENTS),
	REQUIRED(CAP_DEBUGREGS, KVM_CAP_DEBUGREGS),
	REQUIRED(CAP_XSAVE, KVM_CAP_XSAVE),
	REQUIRED(CAP_XCRS, KVM_CAP_XCRS),
	REQUIRED(CAP_ADJUST_CLOCK, KVM_CAP_ADJUST_CLOCK),
	REQUIRED(CAP_IMMEDIATE_EXIT, KVM_CAP_IMMEDIATE_EXIT),
	OPTIONAL(CAP_SET_TSS_ADDR, KVM_CAP_SET_TSS_ADDR,
		 "real mode on Intel CPUs without unrestricted guest"),
	OPTIONAL(CAP_SET_IDENTITY_MAP, KVM_CAP_SET_IDENTITY_MAP_ADDR,
		 "real mode on Intel CPUs without unrestricted guest"),
	OPTIONAL(CAP_GET_TSC_KHZ, KVM_CAP_GET_TSC_KHZ, "the check of the TSC frequency"),
	OPTIONAL(CAP_XSAVE2, KVM_CAP_XSAVE2, "vector state beyond 4 KiB (AMX)"),
	OPTIONAL(CAP_SREGS2, KVM_CAP_SREGS2, "the PDPTRs of a guest in PAE mode"),
	OPTIONAL(CAP_TSC_CONTROL, KVM_CAP_TSC_CONTROL,
		 "migration between hosts whose TSC frequency differs"),
	OPTIONAL(CAP_KVMCLOCK_CTRL, KVM_CAP_KVMCLOCK_CTRL,
		 "soft lockup warnings may follow a pause"),
	OPTIONAL(CAP_TSC_DEADLINE, KVM_CAP_TSC_DEADLINE_TIMER, "the TSC deadline timer"),
	OPTIONAL(CAP_MANUAL_DIRTY_LOG, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		 "clearing the dirty log in chunks; the plain log is used"),
	OPTIONAL(CAP_MAX_VCPUS, KVM_CAP_MAX_VCPUS, "more than the recommended number of vCPUs"),
	OPTIONAL(CAP_NR_MEMSLOTS, KVM_CAP_NR_MEMSLOTS, "knowing the number of memory slots"),
	OPTIONAL(CAP_IOEVENTFD, KVM_CAP_IOEVENTFD,
		 "notifying a virtio device without an exit to user space"),
	OPTIONAL(CAP_IRQFD, KVM_CAP_IRQFD, "an interrupt of a virtio device by one system call"),
#undef REQUIRED
#undef OPTIONAL
};

const struct kvm_cap_info *kvm_cap_describe(enum kvm_cap_index index)
{
	return &kvm_caps[index].info;
}

static bool check_caps(struct kvm *kvm, struct error **errp)
{
	for (size_t i = 0; i < CAP_COUNT; i++) {
		int value = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, kvm_caps[i].number);

		kvm->cap[i] = value > 0 ? value : 0;
		if (value <= 0 && kvm_caps[i].info.required) {
			error_set(errp, "/dev/kvm: %s is missing, which ferry needs",
				  kvm_caps[i].info.name);
			return false;
		}
	}
	return true;
}

static bool open_all(struct kvm *kvm, struct error **errp)
{
	int size;

	kvm->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->dev_fd < 0) {
		error_set_errno(errp, errno, "cannot open /dev/kvm");
		return false;
	}
	size = ioctl(kvm->dev_fd, KVM_GET_API_VERSION, 0);
	if (size != KVM_API_VERSION) {
		error_set(errp, "/dev/kvm: API version %d, expected %d", size, KVM_API_VERSION);
		return false;
	}
	do {
		kvm->vm_fd = ioctl(kvm->dev_fd, KVM_CREATE_VM, 0);
	} while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0) {
		error_set_errno(errp, errno, "KVM_CREATE_VM");
		return false;
	}
	size = ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run)) {
		error_set(errp, "KVM_GET_VCPU_MMAP_SIZE: %d bytes, expected at least %zu", size,
			  sizeof(struct kvm_run));
		return false;
	}
	kvm->vcpu_mmap_bytes = (size_t)size;
	return check_caps(kvm, errp);
}

bool kvm_open(struct kvm *kvm, struct error **errp)
{
	*kvm = (struct kvm){ .dev_fd = -1, .vm_fd = -1 };
	if (open_all(kvm, errp))
		return true;
	kvm_close(kvm);
	return false;
}

void kvm_close(struct kvm *kvm)
{
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->dev_fd >= 0)
		close(kvm->dev_fd);
	kvm->vm_fd = kvm->dev_fd = -1;
}

bool kvm_vm_ioctl(struct kvm *kvm, unsigned long request, void *arg, const char *name,
		  struct error **errp)
{
	if (ioctl(kvm->vm_fd, request, arg) >= 0)
		return true;
	error_set_errno(errp, errno, "%s", name);
	return false;
}
