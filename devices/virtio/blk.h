/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk: read, write, flush, discard, write zeroes, get id. Source: virtio 1.2, section 5.2.
 *
 * A request that the driver has made is an element of a list until the driver has its answer, and the list is part of the state.
 * drain() lets finish what the host has begun, and these get their answers here; what it had not begun stays in the list, travels,
 * and is submitted after resume(), here or at the destination. So each is answered once, by one of the two.
 *
 *	source       pause, drain: A done, B cancelled      state: list = B
 *	destination  load: list = B, resume: B submitted, done, answered
 *	or the migration fails: source resumes: B submitted, done, answered
 *
 * The disk's dirty bitmaps are found in the machine's list, vm->disks, under the device's id.
 *
 * An error of the image (it is full, it has become shorter, it cannot be read) is the driver's as VIRTIO_BLK_S_IOERR, and the
 * user's as one message.
 */
#ifndef FERRY_VIRTIO_BLK_H
#define FERRY_VIRTIO_BLK_H

#include "vmm/kvm/device.h"

#define VIRTIO_BLK_IN_FLIGHT_MAX 64

extern const struct device_class virtio_blk_class;

/* For query-block. */
struct virtio_blk_info {
	const char *id;
	const char *path;
	uint64_t bytes;
	bool read_only, locked;
	const char *engine;
	unsigned int in_flight;
	uint64_t errors; /* answers of VIRTIO_BLK_S_IOERR */
	struct disk_bitmaps *bitmaps;
	struct block *block;
};
/* dev is of virtio_blk_class. Pointers live as long as the device. */
void virtio_blk_query(struct device *dev, struct virtio_blk_info *info);

#endif
