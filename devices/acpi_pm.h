/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI's fixed registers, as far as there is something behind them: PM1a events (there are none, but the registers must be
 * there) and PM1a control, through which a guest powers itself off. The machine is always in ACPI mode (SCI_EN reads 1), and its
 * interrupt never comes.
 *
 * Source: ACPI 6.5, chapter 4.8.3. The tables that tell a guest of them are vmm/boot/acpi.c's.
 */
#ifndef FERRY_DEVICES_ACPI_PM_H
#define FERRY_DEVICES_ACPI_PM_H

#include "vmm/kvm/device.h"

/* Offsets from the base port, and how many ports there are. */
#define ACPI_PM_EVENT 0 /* status, 2 bytes; enable, 2 bytes */
#define ACPI_PM_CONTROL 4
#define ACPI_PM_PORTS 8

#define ACPI_PM_TYPE_OFF 5 /* the sleep type that means to power off */

extern const struct device_class acpi_pm_class;

#endif
