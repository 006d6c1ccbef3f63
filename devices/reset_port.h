/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ways in which a PC resets itself.
 *
 * i8042: the keyboard controller's command port 0x64, command 0xfe (pulse the reset line). Nothing else of the controller is
 * there: its status reads 0 (ready, empty), so that drivers find no keyboard and go on.
 *
 * pch-reset: the reset control register 0xcf9. Bit 1 chooses the kind of reset, and bit 2 going from 0 to 1 resets.
 * Source: Intel chipset data sheets, "RST_CNT".
 */
#ifndef FERRY_DEVICES_RESET_PORT_H
#define FERRY_DEVICES_RESET_PORT_H

#include "vmm/kvm/device.h"

extern const struct device_class i8042_class;
extern const struct device_class pch_reset_class;

#endif
