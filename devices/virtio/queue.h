/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A split virtqueue, seen from the device.
 *
 * Three tables in guest memory: the descriptors (buffers, linked into chains), the available ring (heads of chains that the
 * driver offers, and a running index), and the used ring (heads that the device gives back, with what it has written).
 *
 *	driver:  desc[3] -> desc[7]          a chain: what the device reads comes first, what it writes follows
 *	         avail.ring[avail.idx % size] = 3, then avail.idx++
 *	device:  pop: last_avail < avail.idx, so the chain of head 3 becomes an element
 *	         push: used.ring[used_idx % size] = {3, bytes written}, then used.idx++
 *
 * All of it belongs to the guest, which may be hostile and may change it while it is read. So each word is read once, into a
 * variable of ours, and what was read is checked: indices against the size, addresses against RAM, chains for loops by counting.
 * What the driver may not do damages its queue alone: pop says so, and the queue gives nothing any more until it is reset.
 *
 * The VMM's stores are marked as dirty, for KVM does not see them.
 *
 * Threads: the caller's lock. Source: virtio 1.2, sections 2.6 to 2.8.
 */
#ifndef FERRY_VIRTIO_QUEUE_H
#define FERRY_VIRTIO_QUEUE_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "migration/stream/vmstate.h"
#include "vmm/base/error.h"
#include "vmm/kvm/memory.h"

/* The largest queue; a chain cannot be longer than its queue, nor have more segments by an indirect table. */
#define VIRTQUEUE_SIZE_MAX 128

/* One chain: nout segments that the device reads, then nsegs - nout that it writes. */
struct virtqueue_element {
	uint16_t head;
	uint32_t nout, nsegs;
	uint64_t gpa[VIRTQUEUE_SIZE_MAX];
	uint32_t len[VIRTQUEUE_SIZE_MAX];
	struct iovec iov[VIRTQUEUE_SIZE_MAX]; /* the same, as host memory; does not travel */
};

struct virtqueue {
	/* set at creation */
	struct memory *mem;
	/* what the driver has chosen */
	uint16_t size;
	bool ready;
	uint64_t desc, avail, used; /* guest physical addresses */
	bool event_idx, indirect;   /* negotiated */
	/* where the device is; both run from 0 to 65535 and wrap */
	uint16_t last_avail;
	uint16_t used_idx;
	/* does not travel */
	bool broken;		  /* by the driver */
	uint16_t signalled_used;  /* up to where the driver has been told, or did not want to be */
	const uint8_t *desc_host; /* these three while ready */
	struct vring_avail *avail_host;
	struct vring_used *used_host;
};

void virtqueue_init(struct virtqueue *vq, struct memory *mem);
/* Back to what virtqueue_init() left. */
void virtqueue_reset(struct virtqueue *vq);
/* The driver has set it up (or it was loaded): checks size, alignment and that the tables lie in RAM, and makes it ready. */
bool virtqueue_start(struct virtqueue *vq, struct error **errp);

/* Take the next chain: 1 and *elem, 0 if there is none, -1 with an error if the driver has damaged the queue. */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_element *elem, struct error **errp);
/* Has the driver offered more? */
bool virtqueue_has_more(const struct virtqueue *vq);
/* Give an element back; the device has written the first in_bytes of its in-segments, or less. */
void virtqueue_push(struct virtqueue *vq, const struct virtqueue_element *elem, uint32_t in_bytes);
/* After a push or several: does the driver want an interrupt for them? Asking answers it. */
bool virtqueue_wants_interrupt(struct virtqueue *vq);
/* Ask the driver for notifications, or tell it that they are not needed. When asking: is there something already? Then a
 * notification for it may never come. */
bool virtqueue_ask_kicks(struct virtqueue *vq, bool ask);

/* Resolve a loaded element's addresses. */
bool virtqueue_element_map(struct virtqueue *vq, struct virtqueue_element *elem,
			   struct error **errp);
uint64_t element_out_bytes(const struct virtqueue_element *elem);
uint64_t element_in_bytes(const struct virtqueue_element *elem);
/* Copy from the out-segments, or into the in-segments, from a byte offset on; returns how many bytes there were. */
size_t element_read(const struct virtqueue_element *elem, uint64_t offset, void *dst, size_t len);
size_t element_write(const struct virtqueue_element *elem, uint64_t offset, const void *src,
		     size_t len);
/* The part [offset, offset + len) of the out- or in-segments as segments of its own in iov, which has room for
 * VIRTQUEUE_SIZE_MAX; returns their number. */
unsigned int element_slice(const struct virtqueue_element *elem, bool in, uint64_t offset,
			   uint64_t len, struct iovec *iov);

/* An element loads unresolved: virtqueue_element_map(). */
extern const struct vmstate_desc virtqueue_vmstate, virtqueue_element_vmstate;

#endif
