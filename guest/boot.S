/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boot.S - from the PVH entry (32-bit protected mode, no paging, ebx = hvm_start_info) to
 * guest_start() in ring 3.
 *
 * Ring 0 is interpreted on some hosts at a third of a microsecond an instruction, and not every
 * instruction is known there. So ring 0 does almost nothing: all tables (GDT, TSS, page tables,
 * gates, even the frame for the iretq) are data of the image, finished by the assembler, and
 * about thirty plain instructions load them. Everything is writable by ring 3, which does the
 * rest: it maps more memory, it prepares other CPUs. No FPU or vector instruction is used.
 *
 * Invariants: nothing in .tables is changed in a way that a second start from the same memory
 * (a reset without loading the image again) could not bear. The TSS descriptor turns busy at ltr
 * and is therefore made available before. Accessed and dirty bits are set from the start, so no
 * page table is written by the hardware.
 *
 * Ring 3 may use the ports twice over, by IOPL 3 and by the TSS's permission bitmap: there are hosts
 * that drop the IOPL, and an emulator (QEMU's TCG) that looks at no bitmap of a TSS that is busy, as
 * every TSS is that has been loaded into a virtual CPU from outside.
 *
 * Gates: an exception notes what happened and continues in ring 3 in exception_report() on its
 * own stack, never to return. The two timers count boot_ticks. All else returns at once.
 */
#include "lib.h"

#define CR4_PAE		0x20
#define CR0_PG_NE_ET_PE	0x80000031
#define MSR_EFER	0xc0000080
#define EFER_LME	0x100
#define TSS_AVAILABLE	0x89
#define PTE_TABLE	0x27		/* present, writable, user, accessed */
#define PTE_LARGE	0xe7		/* the same, dirty, 2 MiB */

	.section .note.Xen, "a", @note
	.p2align 2
	.long 4				/* name */
	.long 4				/* desc */
	.long 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.section .boot, "ax", @progbits
	.globl boot_base, start, cpu_up
boot_base:
	.code32
start:
	mov	$FERRY_GUEST_PORT_COM1, %edx
	mov	$FERRY_GUEST_MESSAGE_MARK, %al
	out	%al, %dx
	/* Ring 3 runs with interrupts on, so nothing may come from the PICs. */
	mov	$0xff, %al
	out	%al, $0x21
	out	%al, $0xa1
	mov	$boot_cpu, %esi
	mov	%ebx, CPU_START_ARG(%esi)

	/* Any CPU: esi = its struct cpu_start, flat 32-bit segments. */
cpu_up:
	lgdt	CPU_START_GDT(%esi)
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$boot_pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	mov	$EFER_LME, %eax
	xor	%edx, %edx
	wrmsr
	mov	$CR0_PG_NE_ET_PE, %eax
	mov	%eax, %cr0
	ljmp	$SEL_CODE64, $1f
	.code64
1:	mov	$SEL_USER_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	CPU_START_GDT_BASE(%rsi), %rax
	movb	$TSS_AVAILABLE, SEL_TSS + 5(%rax)
	mov	$SEL_TSS, %eax
	ltr	%ax
	lidt	boot_idt_pointer(%rip)
	mov	CPU_START_ARG(%rsi), %rdi
	lea	CPU_START_FRAME(%rsi), %rsp
	iretq

	/* 16 bytes of code for each exception; those without an error code push a 0. */
	.p2align 4
exception_stubs:
	.set	vector, 0
	.rept	32
	.p2align 4
	.if	(vector < 10 || vector > 14) && vector != 8 && vector != 17 && vector != 21
	push	$0
	.endif
	push	$vector
	jmp	exception_common
	.set	vector, vector + 1
	.endr

	.p2align 4
exception_common:
	popq	boot_exception(%rip)
	popq	boot_exception + 8(%rip)
	popq	boot_exception + 16(%rip)
	mov	%cr2, %rax
	mov	%rax, boot_exception + 24(%rip)
	lea	exception_frame(%rip), %rsp
	iretq

tick_pic:
	incq	boot_ticks(%rip)
	push	%rax
	mov	$0x20, %al
	out	%al, $0x20
	pop	%rax
	iretq

tick_lapic:
	incq	boot_ticks(%rip)
	push	%rax
	mov	$0xfee000b0, %eax	/* LAPIC_EOI */
	movl	$0, (%rax)
	pop	%rax
	iretq

ignore:
	iretq

	.section .tables, "aw", @progbits
	.globl boot_pdpt, boot_gdt, boot_tss, boot_exception, boot_ticks, boot_stack0_end
	.p2align 12
boot_pml4:
	.quad	boot_pdpt + PTE_TABLE
	.fill	511, 8, 0
boot_pdpt:
	.quad	boot_pd + PTE_TABLE
	.fill	511, 8, 0
boot_pd:
	.quad	PTE_LARGE
	.fill	511, 8, 0

	/* A gate's offset is 0x100000 + (handler - boot_base), and the image's rule is < 64 KiB. */
	.macro	gate handler:vararg
	.word	(\handler) - boot_base
	.word	SEL_CODE64
	.word	0x8e00
	.word	0x100000 >> 16
	.quad	0
	.endm
boot_idt:
	.set	vector, 0
	.rept	32
	gate	exception_stubs + 16 * vector
	.set	vector, vector + 1
	.endr
	gate	tick_pic
	.rept	VECTOR_LAPIC_TIMER - VECTOR_PIC - 1
	gate	ignore
	.endr
	gate	tick_lapic
	.rept	VECTOR_SPURIOUS - VECTOR_LAPIC_TIMER
	gate	ignore
	.endr
boot_idt_end:

	.p2align 4
boot_gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08 ring 0, 32-bit code */
	.quad	0x00af9b000000ffff	/* 0x10 ring 0, 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x18 ring 0, data */
	.quad	0x00cffb000000ffff	/* 0x23 ring 3, 32-bit code (unused) */
	.quad	0x00cff3000000ffff	/* 0x2b ring 3, data */
	.quad	0x00affb000000ffff	/* 0x33 ring 3, 64-bit code */
	.quad	0
	/* 0x40: the TSS. Its address is below 16 MiB, so the upper bytes are constants. */
	.word	TSS_BYTES - 1
	.long	boot_tss + (TSS_AVAILABLE << 24)
	.word	0
	.quad	0
boot_gdt_end:

	.p2align 4
boot_tss:
	.long	0
	.quad	boot_stack0_end
	.fill	90, 1, 0
	.word	104			/* the I/O permission bitmap: all ports */
	.fill	8192, 1, 0
	.byte	0xff

	.p2align 4
boot_idt_pointer:
	.word	boot_idt_end - boot_idt - 1
	.quad	boot_idt

	.p2align 4
boot_cpu:				/* struct cpu_start */
	.word	0, 0, 0
	.word	boot_gdt_end - boot_gdt - 1
	.quad	boot_gdt
	.quad	0
	.quad	guest_start, SEL_USER_CODE, RFLAGS_USER, boot_stack_end - 8, SEL_USER_DATA

exception_frame:
	.quad	exception_report, SEL_USER_CODE, 0x3002, exception_stack_end - 8, SEL_USER_DATA

boot_ticks:
	.quad	0
boot_exception:
	.fill	4, 8, 0

	.section .noinit, "aw", @nobits
	.p2align 4
	.skip	1024
boot_stack0_end:
	.skip	4096
exception_stack_end:
	.skip	16384
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
