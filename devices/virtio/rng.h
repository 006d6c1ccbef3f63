/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A source of randomness: the host's getrandom(). Source: virtio 1.2, section 5.4. */
#ifndef FERRY_VIRTIO_RNG_H
#define FERRY_VIRTIO_RNG_H

#include "vmm/kvm/device.h"

/* What one request gets at most; a driver asks again for more. */
#define VIRTIO_RNG_BYTES_MAX 4096

extern const struct device_class virtio_rng_class;

#endif
