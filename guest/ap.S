/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ap.S - where the other CPUs wake up: real mode, at the start of a page below 1 MiB to which
 * smp.c has copied ap_trampoline. It goes to 32-bit mode with the first CPU's GDT and then takes
 * the first CPU's own way, cpu_up in boot.S, with the struct cpu_start that ap_start_at points
 * to. CPUs are started one at a time, so one such pointer is enough.
 */
#include "lib.h"

	.section .rodata
	.globl ap_trampoline, ap_trampoline_end
	.code16
ap_trampoline:
	cli
	lgdtl	%cs:(gdt_pointer - ap_trampoline)
	mov	$0x11, %eax		/* ET, PE */
	mov	%eax, %cr0
	ljmpl	$SEL_CODE32, $ap_start32
gdt_pointer:
	.word	GDT_ENTRIES * 8 - 1
	.long	boot_gdt
ap_trampoline_end:

	.text
	.code32
ap_start32:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	ap_start_at, %esi
	jmp	cpu_up

	.section .note.GNU-stack, "", @progbits
