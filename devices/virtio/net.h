/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network card: one pair of queues, behind it a tap. Source: virtio 1.2, section 5.1.
 *
 * Nothing is in flight: a frame is written to the tap when the driver offers it, and read from the tap when the driver has a buffer.
 * At the destination frames that come before the switch are thrown away, for the guest at the source gets them, too; with the switch the
 * device announces itself by a few RARP requests in the guest's name, so that switches learn where it is now.
 */
#ifndef FERRY_VIRTIO_NET_H
#define FERRY_VIRTIO_NET_H

#include "vmm/kvm/device.h"

extern const struct device_class virtio_net_class;

#endif
