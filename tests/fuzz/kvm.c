/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM as the code under test sees it, without KVM: every ioctl of KVM's ends here. It reads all that KVM would read, so that the
 * address sanitizer sees it, and fills what KVM would fill. So post_load and pre_save run as they are, not stripped.
 */
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

/* From here on an MSR is refused, as one is that this CPU model does not have. */
#define MSR_REFUSED 0xc0010000u

static void touch(const void *data, size_t len)
{
	const volatile uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		(void)p[i];
}

static int msrs(struct kvm_msrs *call, bool set)
{
	MUST(call->nmsrs <= VCPU_MSRS_MAX);
	for (uint32_t i = 0; i < call->nmsrs; i++) {
		if (call->entries[i].index >= MSR_REFUSED)
			return (int)i;
		if (!set)
			call->entries[i].data = call->entries[i].index;
	}
	return (int)call->nmsrs;
}

static int msr_list(struct kvm_msr_list *list)
{
	static const uint32_t indices[] = { 0x10, 0x174, 0x6e0, 0xc0000080 };

	MUST(list->nmsrs >= 4);
	list->nmsrs = 4;
	memcpy(list->indices, indices, sizeof(indices));
	return 0;
}

/* A host that has every feature. */
static int supported_cpuid(struct kvm_cpuid2 *table)
{
	static const uint32_t functions[] = { 0, 1, 7, 0xd, 0x80000001, 0x40000001 };

	MUST(table->nent >= 6);
	table->nent = 6;
	for (size_t i = 0; i < 6; i++)
		table->entries[i] = (struct kvm_cpuid_entry2){
			.function = functions[i],
			.eax = ~0u,
			.ebx = ~0u,
			.ecx = ~0u,
			.edx = ~0u,
		};
	table->entries[0].ebx = table->entries[0].ecx = table->entries[0].edx = FUZZ_VENDOR;
	return 0;
}

static int simulate(unsigned long request, void *arg)
{
	switch (request) {
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
		return msrs(arg, request == KVM_SET_MSRS);
	case KVM_GET_MSR_INDEX_LIST:
		return msr_list(arg);
	case KVM_GET_SUPPORTED_CPUID:
		return supported_cpuid(arg);
	case KVM_SET_TSC_KHZ: /* the argument is the number */
		return 0;
	}
	/* Variable and mislabelled sizes apart, the number says how much is read or written. */
	if (_IOC_DIR(request) & _IOC_WRITE)
		touch(arg, _IOC_SIZE(request));
	else if (_IOC_DIR(request) & _IOC_READ)
		memset(arg, 0, _IOC_SIZE(request));
	return 0;
}

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (_IOC_TYPE(request) == KVMIO)
		return simulate(request, arg);
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
