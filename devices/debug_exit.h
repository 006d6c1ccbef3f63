/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The debug exit port: a byte v written ends the machine, and the process exits with the status (v << 1) | 1, as QEMU's
 * isa-debug-exit does. It holds no state.
 */
#ifndef FERRY_DEVICES_DEBUG_EXIT_H
#define FERRY_DEVICES_DEBUG_EXIT_H

#include "vmm/kvm/device.h"

extern const struct device_class debug_exit_class;

#endif
