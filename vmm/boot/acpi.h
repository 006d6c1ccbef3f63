/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's description for guests that know no device tree: ACPI tables.
 *
 *	RSDP -> XSDT (and RSDT) -> FADT -> DSDT: the devices, and the value that powers off
 *	                        |       -> FACS
 *	                        -> MADT: CPUs, I/O APIC
 *
 * They say what the device tree says. They lie at BOOT_ACPI, where guests look for the RSDP if nobody tells them.
 * Source: ACPI 6.5, chapter 5.2.
 */
#ifndef FERRY_BOOT_ACPI_H
#define FERRY_BOOT_ACPI_H

#include "vmm/boot/devicetree.h"
#include "vmm/boot/layout.h"

/* Write the tables; *rsdp is where they begin, or 0: this machine has no ACPI registers ("ferry,acpi-pm"), and no tables. */
bool acpi_write(struct memory *mem, const struct machine_plan *plan, uint64_t *rsdp,
		struct error **errp);

#endif
