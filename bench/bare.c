/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The least a program can do for a guest to write a byte: what `ferry run` is held against.
 *
 * /dev/kvm, a VM, one memory slot, one vCPU in real mode with its registers set, KVM_RUN until the
 * guest's `out 0x3f8`, and that byte on standard output. No interrupt controller, no CPUID, no
 * image read from a file. Exit status 0, or 1 with the name of what failed.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define COM1 0x3f8
#define ENTRY 0x1000
#define MEMORY_BYTES 0x100000

/* mov $'#', %al; mov $0x3f8, %dx; out %al, %dx; hlt */
static const uint8_t code[] = { 0xb0, '#', 0xba, 0xf8, 0x03, 0xee, 0xf4 };

static int failed(const char *what)
{
	perror(what);
	return 1;
}

static int set_registers(int vcpu)
{
	struct kvm_regs regs = { .rip = ENTRY, .rflags = 2 };
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
		return -1;
	return ioctl(vcpu, KVM_SET_REGS, &regs);
}

int main(void)
{
	struct kvm_userspace_memory_region slot = { .memory_size = MEMORY_BYTES };
	struct kvm_run *run;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	uint8_t *mem = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	int vcpu, run_bytes;

	if (vm < 0 || mem == MAP_FAILED)
		return failed("/dev/kvm");
	memcpy(mem + ENTRY, code, sizeof(code));
	slot.userspace_addr = (uintptr_t)mem;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return failed("KVM_SET_USER_MEMORY_REGION");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vcpu < 0 || run_bytes < 0)
		return failed("KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED || set_registers(vcpu) < 0)
		return failed("KVM_SET_REGS");
	if (ioctl(vcpu, KVM_RUN, 0) < 0)
		return failed("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != COM1) {
		fprintf(stderr, "bare: exit reason %u, expected an out\n", run->exit_reason);
		return 1;
	}
	return write(STDOUT_FILENO, (uint8_t *)run + run->io.data_offset, 1) == 1 ? 0 : 1;
}
