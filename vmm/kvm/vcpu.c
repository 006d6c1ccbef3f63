/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/cpuid.h"

#define KICK_SIGNAL SIGUSR1
#define CODE_BYTES 16

static void on_kick(int signo)
{
	(void)signo; /* its only purpose is to end KVM_RUN with EINTR */
}

void vcpu_init_signals(void)
{
	struct sigaction sa = { .sa_handler = on_kick };

	sigaction(KICK_SIGNAL, &sa, NULL);
}

bool vcpu_ioctl(struct vcpu *vcpu, unsigned long request, void *arg, const char *name,
		struct error **errp)
{
	if (ioctl(vcpu->fd, request, arg) >= 0)
		return true;
	error_set_errno(errp, errno, "vCPU %u: %s", vcpu->index, name);
	return false;
}

void vcpu_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (vcpu->has_thread)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

struct vcpu *vcpu_create(struct vm *vm, unsigned int index, struct error **errp)
{
	struct vcpu *vcpu = xcalloc(1, sizeof(*vcpu));

	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->run = MAP_FAILED;
	vcpu->fd = ioctl(vm->kvm.vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0) {
		error_set_errno(errp, errno, "vCPU %u: KVM_CREATE_VCPU", index);
		goto fail;
	}
	vcpu->run = mmap(NULL, vm->kvm.vcpu_mmap_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		error_set_errno(errp, errno, "vCPU %u: mmap", index);
		goto fail;
	}
	if (!cpuid_apply(vcpu, errp))
		goto fail;
	if (vm->kvm.cap[CAP_GET_TSC_KHZ]) {
		int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

		vm->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	}
	vm->vcpus[vm->nvcpus++] = vcpu;
	return vcpu;
fail:
	vcpu_destroy(vcpu);
	return NULL;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (vcpu->has_thread)
		pthread_join(vcpu->thread, NULL);
	if (vcpu->run != MAP_FAILED)
		munmap(vcpu->run, vcpu->vm->kvm.vcpu_mmap_bytes);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	free(vcpu);
}

/* The instruction bytes at rip, as hex; empty where the guest's tables do not lead to RAM. */
static void describe_code(struct vcpu *vcpu, uint64_t linear, char text[CODE_BYTES * 3 + 1])
{
	size_t at = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < CODE_BYTES; i++) {
		struct kvm_translation tr = { .linear_address = linear + i };
		const uint8_t *byte;

		if (ioctl(vcpu->fd, KVM_TRANSLATE, &tr) < 0 || !tr.valid)
			return;
		byte = memory_host(&vcpu->vm->memory, tr.physical_address, 1);
		if (!byte)
			return;
		at += (size_t)sprintf(text + at, " %02x", *byte);
	}
}

char *vcpu_describe(struct vcpu *vcpu)
{
	struct kvm_regs r = { 0 };
	struct kvm_sregs s = { 0 };
	char code[CODE_BYTES * 3 + 1];

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return xstrdup("registers cannot be read");
	describe_code(vcpu, s.cs.base + r.rip, code);
	return xasprintf("rip=%016llx rflags=%08llx cs=%04x:%016llx\n"
			 "rax=%016llx rbx=%016llx rcx=%016llx rdx=%016llx\n"
			 "rsi=%016llx rdi=%016llx rsp=%016llx rbp=%016llx\n"
			 " r8=%016llx  r9=%016llx r10=%016llx r11=%016llx\n"
			 "r12=%016llx r13=%016llx r14=%016llx r15=%016llx\n"
			 "cr0=%08llx cr2=%016llx cr3=%016llx cr4=%08llx efer=%08llx\n"
			 "code at rip:%s",
			 r.rip, r.rflags, s.cs.selector, s.cs.base, r.rax, r.rbx, r.rcx, r.rdx,
			 r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
			 r.r15, s.cr0, s.cr2, s.cr3, s.cr4, s.efer, *code ? code : " not in RAM");
}

/* The guest cannot go on. Whoever carries the request out adds the registers. */
static void fail(struct vcpu *vcpu, char *why)
{
	vm_make_request(vcpu->vm, VM_REQUEST_ERROR, 0, why);
}

static uint64_t load_value(const void *p, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, p, size); /* x86 is little-endian */
	return value;
}

static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			bus_write(&vcpu->vm->pio, run->io.port, load_value(data, run->io.size),
				  run->io.size);
		} else {
			uint64_t value = bus_read(&vcpu->vm->pio, run->io.port, run->io.size);

			memcpy(data, &value, run->io.size);
		}
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->mmio.is_write) {
		bus_write(&vcpu->vm->mmio, run->mmio.phys_addr,
			  load_value(run->mmio.data, run->mmio.len), run->mmio.len);
	} else {
		uint64_t value = bus_read(&vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.len);

		memcpy(run->mmio.data, &value, run->mmio.len);
	}
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		fail(vcpu, xstrdup("triple fault"));
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(vcpu,
		     xasprintf("KVM_EXIT_INTERNAL_ERROR, suberror %u%s", run->internal.suberror,
			       run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
				       ? " (an instruction that KVM cannot emulate)"
				       : ""));
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fail(vcpu, xasprintf("KVM_EXIT_FAIL_ENTRY, hardware reason 0x%llx",
				     run->fail_entry.hardware_entry_failure_reason));
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		vm_make_request(vcpu->vm,
				run->system_event.type == KVM_SYSTEM_EVENT_RESET
					? VM_REQUEST_RESET
					: VM_REQUEST_SHUTDOWN,
				0, xstrdup("KVM system event"));
		break;
	default:
		fail(vcpu,
		     xasprintf("KVM exit reason %u, which ferry does not know", run->exit_reason));
	}
}

/* Until KVM_RUN says EINTR: then no instruction is half done. */
static void run_until_interrupted(struct vcpu *vcpu)
{
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			handle_exit(vcpu);
			continue;
		}
		if (errno == EINTR)
			return;
		if (errno == EAGAIN)
			continue;
		/* Asks again after a fault in guest memory; anything else will not get better. */
		fail(vcpu, xasprintf("KVM_RUN: %s (exit reason %u)", strerror(errno),
				     vcpu->run->exit_reason));
		return;
	}
}

static void *vcpu_main(void *opaque)
{
	struct vcpu *vcpu = opaque;
	struct vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->lock);
	vcpu->tid = gettid();
	for (;;) {
		vm->parked++;
		pthread_cond_broadcast(&vm->cond);
		while (!vm->run_wanted && !vm->ending)
			pthread_cond_wait(&vm->cond, &vm->lock);
		if (vm->ending)
			break; /* parked for good */
		vm->parked--;
		/* Under the lock: a stop that comes later sets it again. */
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		pthread_mutex_unlock(&vm->lock);
		/* Tells a guest with a paravirtual clock that it was stopped; refused by one without. */
		if (vm->kvm.cap[CAP_KVMCLOCK_CTRL])
			ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
		run_until_interrupted(vcpu);
		pthread_mutex_lock(&vm->lock);
	}
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

bool vcpu_start_thread(struct vcpu *vcpu, struct error **errp)
{
	sigset_t all, old;
	int rc;

	/* Every signal but the kick is for whoever waits for it. */
	sigfillset(&all);
	sigdelset(&all, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&vcpu->thread, NULL, vcpu_main, vcpu);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		error_set_errno(errp, rc, "vCPU %u: thread", vcpu->index);
		return false;
	}
	vcpu->has_thread = true;
	return true;
}
