/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 16550A serial port: registers, FIFOs, all four interrupts, loopback.
 *
 * The transmitter has no speed of its own: a byte written is offered to the backend at once. What the backend does not take
 * is kept in a list of chunks and offered again later; the list is part of the device's state, so that a migration does not
 * lose what a slow reader has not read yet. When the list is long the transmitter stays busy (THRE clear), which is how a
 * 16550 tells a driver to wait. Where no reader is connected the oldest output is dropped instead.
 *
 * Source: National Semiconductor PC16550D data sheet, section 8 (registers).
 */
#ifndef FERRY_DEVICES_UART16550_H
#define FERRY_DEVICES_UART16550_H

#include "vmm/kvm/device.h"

extern const struct device_class uart16550_class;

#endif
