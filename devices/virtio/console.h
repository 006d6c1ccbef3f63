/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A console: one port, and the size of the terminal behind it. Source: virtio 1.2, section 5.3.
 *
 * A slow reader holds the driver's buffer until it has taken all of it; where nobody reads, output vanishes, for a driver may
 * wait for its buffer with the CPU in its hand. A buffer that is half written, and input for which the driver had no buffer,
 * travel.
 */
#ifndef FERRY_VIRTIO_CONSOLE_H
#define FERRY_VIRTIO_CONSOLE_H

#include "vmm/kvm/device.h"

/* Its backend is a struct chardev *, or NULL: null. */
extern const struct device_class virtio_console_class;

/* The terminal's size may have changed. dev is of virtio_console_class; the loop's thread. */
void virtio_console_resized(struct device *dev);

#endif
