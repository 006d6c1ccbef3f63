/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/virtio/queue.h"

#include <assert.h>
#include <stddef.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

#define AVAIL_BYTES(size) (6 + 2 * (uint64_t)(size)) /* with used_event behind the ring */
#define USED_BYTES(size) (6 + 8 * (uint64_t)(size))  /* with avail_event */

/* One read of a word that the guest may be changing. */
#define READ_ONCE_LE16(p) le16toh(__atomic_load_n(p, __ATOMIC_RELAXED))

/* A table of descriptors that is being walked, and how far. */
struct walk {
	const uint8_t *table;
	uint32_t entries;
	uint32_t steps; /* taken; more than entries is a loop */
	bool indirect;	/* the table is one */
};

void virtqueue_init(struct virtqueue *vq, struct memory *mem)
{
	*vq = (struct virtqueue){ .mem = mem };
}

void virtqueue_reset(struct virtqueue *vq)
{
	virtqueue_init(vq, vq->mem);
}

static void *map_table(struct virtqueue *vq, uint64_t gpa, uint64_t bytes, uint64_t align,
		       const char *what, struct error **errp)
{
	void *host = memory_host(vq->mem, gpa, bytes);

	if (host && is_aligned(gpa, align))
		return host;
	error_set(errp, "the %s at 0x%llx (%llu bytes) is not in RAM or not aligned to %llu", what,
		  (unsigned long long)gpa, (unsigned long long)bytes, (unsigned long long)align);
	return NULL;
}

bool virtqueue_start(struct virtqueue *vq, struct error **errp)
{
	void *desc, *avail, *used;

	if (!vq->size || vq->size > VIRTQUEUE_SIZE_MAX || vq->size & (vq->size - 1)) {
		error_set(errp, "a queue of %u entries: expected a power of two up to %d", vq->size,
			  VIRTQUEUE_SIZE_MAX);
		return false;
	}
	desc = map_table(vq, vq->desc, (uint64_t)vq->size * sizeof(struct vring_desc), 16,
			 "descriptor table", errp);
	avail = desc ? map_table(vq, vq->avail, AVAIL_BYTES(vq->size), 2, "available ring", errp)
		     : NULL;
	used = avail ? map_table(vq, vq->used, USED_BYTES(vq->size), 4, "used ring", errp) : NULL;
	if (!used)
		return false;
	vq->desc_host = desc;
	vq->avail_host = avail;
	vq->used_host = used;
	vq->signalled_used = vq->used_idx; /* nobody is paused between a push and its interrupt */
	vq->ready = true;
	return true;
}

static bool add_segment(struct virtqueue *vq, struct virtqueue_element *elem,
			const struct vring_desc *d, struct error **errp)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	void *host;

	if (!d->len)
		return true;
	if (!in && elem->nout < elem->nsegs) {
		error_set(errp, "chain %u: a segment to be read behind one to be written",
			  elem->head);
		return false;
	}
	if (elem->nsegs == VIRTQUEUE_SIZE_MAX) {
		error_set(errp, "chain %u: more than %d segments", elem->head, VIRTQUEUE_SIZE_MAX);
		return false;
	}
	host = memory_host(vq->mem, d->addr, d->len);
	if (!host) {
		error_set(errp, "chain %u: a segment at 0x%llx (%u bytes) is not in RAM",
			  elem->head, (unsigned long long)d->addr, d->len);
		return false;
	}
	elem->gpa[elem->nsegs] = d->addr;
	elem->len[elem->nsegs] = d->len;
	elem->iov[elem->nsegs] = (struct iovec){ host, d->len };
	elem->nsegs++;
	elem->nout += !in;
	return true;
}

static bool enter_indirect(struct virtqueue *vq, struct walk *w, const struct vring_desc *d,
			   uint16_t head, struct error **errp)
{
	const void *table;

	if (!vq->indirect || w->indirect || d->flags & VRING_DESC_F_NEXT) {
		error_set(errp, "chain %u: an indirect table %s", head,
			  !vq->indirect ? "without the feature"
			  : w->indirect ? "inside another"
					: "that is not the last");
		return false;
	}
	table = memory_host(vq->mem, d->addr, d->len);
	if (!table || !d->len || d->len % sizeof(struct vring_desc)) {
		error_set(errp, "chain %u: an indirect table at 0x%llx (%u bytes)", head,
			  (unsigned long long)d->addr, d->len);
		return false;
	}
	*w = (struct walk){ table, d->len / (uint32_t)sizeof(struct vring_desc), 0, true };
	return true;
}

/* Once, and not aligned: an indirect table may lie anywhere. Behind the fence the compiler cannot go back to the guest's copy. */
static struct vring_desc read_descriptor(const uint8_t *from)
{
	uint8_t raw[sizeof(struct vring_desc)];

	memcpy(raw, from, sizeof(raw));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return (struct vring_desc){ .addr = get_le64(raw),
				    .len = get_le32(raw + 8),
				    .flags = get_le16(raw + 12),
				    .next = get_le16(raw + 14) };
}

static bool walk_chain(struct virtqueue *vq, struct virtqueue_element *elem, struct error **errp)
{
	struct walk w = { vq->desc_host, vq->size, 0, false };
	uint32_t at = elem->head;

	for (;;) {
		struct vring_desc d;

		if (++w.steps > w.entries) {
			error_set(errp, "chain %u goes in a circle", elem->head);
			return false;
		}
		d = read_descriptor(w.table + at * sizeof(struct vring_desc));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (!enter_indirect(vq, &w, &d, elem->head, errp))
				return false;
			at = 0;
			continue;
		}
		if (!add_segment(vq, elem, &d, errp))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		if (d.next >= w.entries) {
			error_set(errp, "chain %u goes on at %u of %u", elem->head, d.next,
				  w.entries);
			return false;
		}
		at = d.next;
	}
}

static bool check_length(const struct virtqueue_element *elem, struct error **errp)
{
	if (element_out_bytes(elem) <= UINT32_MAX && element_in_bytes(elem) <= UINT32_MAX)
		return true;
	error_set(errp, "chain %u is longer than 4 GiB", elem->head);
	return false;
}

bool virtqueue_has_more(const struct virtqueue *vq)
{
	return vq->ready && !vq->broken &&
	       le16toh(__atomic_load_n(&vq->avail_host->idx, __ATOMIC_ACQUIRE)) != vq->last_avail;
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_element *elem, struct error **errp)
{
	uint16_t idx, offered;

	if (!vq->ready || vq->broken)
		return 0;
	idx = le16toh(__atomic_load_n(&vq->avail_host->idx, __ATOMIC_ACQUIRE));
	offered = (uint16_t)(idx - vq->last_avail);
	if (!offered)
		return 0;
	elem->nout = elem->nsegs = 0;
	elem->head = READ_ONCE_LE16(&vq->avail_host->ring[vq->last_avail % vq->size]);
	if (offered > vq->size)
		error_set(errp, "the available index went from %u to %u in a queue of %u",
			  vq->last_avail, idx, vq->size);
	else if (elem->head >= vq->size)
		error_set(errp, "the available ring offers chain %u in a queue of %u", elem->head,
			  vq->size);
	else if (walk_chain(vq, elem, errp) && check_length(elem, errp)) {
		vq->last_avail++;
		return 1;
	}
	vq->broken = true;
	return -1;
}

static void mark_used(struct virtqueue *vq, size_t offset, size_t len)
{
	memory_mark_dirty(vq->mem, vq->used + offset, len);
}

void virtqueue_push(struct virtqueue *vq, const struct virtqueue_element *elem, uint32_t in_bytes)
{
	uint16_t slot = vq->used_idx % vq->size;
	uint32_t left = in_bytes;

	assert(vq->ready);
	for (uint32_t i = elem->nout; left && i < elem->nsegs; i++) {
		uint32_t n = MIN_OF(left, elem->len[i]);

		memory_mark_dirty(vq->mem, elem->gpa[i], n);
		left -= n;
	}
	__atomic_store_n(&vq->used_host->ring[slot].id, htole32(elem->head), __ATOMIC_RELAXED);
	__atomic_store_n(&vq->used_host->ring[slot].len, htole32(in_bytes), __ATOMIC_RELAXED);
	vq->used_idx++;
	__atomic_store_n(&vq->used_host->idx, htole16(vq->used_idx), __ATOMIC_RELEASE);
	mark_used(vq, offsetof(struct vring_used, ring) + slot * sizeof(struct vring_used_elem),
		  sizeof(struct vring_used_elem));
	mark_used(vq, offsetof(struct vring_used, idx), sizeof(uint16_t));
}

/* The word behind a ring: used_event of the available ring, avail_event of the used ring. */
static uint16_t used_event(const struct virtqueue *vq)
{
	return READ_ONCE_LE16(&vq->avail_host->ring[vq->size]);
}

bool virtqueue_wants_interrupt(struct virtqueue *vq)
{
	uint16_t old = vq->signalled_used;

	if (!vq->ready || old == vq->used_idx)
		return false;
	/* The used index must be out before the driver's wish is read, or both sides could go to sleep. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vq->signalled_used = vq->used_idx;
	if (!vq->event_idx)
		return !(READ_ONCE_LE16(&vq->avail_host->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return vring_need_event(used_event(vq), vq->used_idx, old);
}

bool virtqueue_ask_kicks(struct virtqueue *vq, bool ask)
{
	size_t offset = offsetof(struct vring_used, flags);
	uint16_t flags = ask ? 0 : VRING_USED_F_NO_NOTIFY;

	if (!vq->ready || vq->broken)
		return false;
	if (vq->event_idx) {
		void *event = &vq->used_host->ring[vq->size];

		if (!ask)
			return false; /* an event index that lies behind is enough */
		__atomic_store_n((__virtio16 *)event, htole16(vq->last_avail), __ATOMIC_RELAXED);
		offset = USED_BYTES(vq->size) - sizeof(uint16_t);
	} else {
		__atomic_store_n(&vq->used_host->flags, htole16(flags), __ATOMIC_RELAXED);
	}
	mark_used(vq, offset, sizeof(uint16_t));
	/* The wish must be out before the index is looked at again, for the same reason. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ask && virtqueue_has_more(vq);
}

/* --- elements --- */

bool virtqueue_element_map(struct virtqueue *vq, struct virtqueue_element *elem,
			   struct error **errp)
{
	if (elem->head >= vq->size || elem->nout > elem->nsegs) {
		error_set(errp, "chain %u of %u, with %u of %u segments to be read", elem->head,
			  vq->size, elem->nout, elem->nsegs);
		return false;
	}
	for (uint32_t i = 0; i < elem->nsegs; i++) {
		void *host = memory_host(vq->mem, elem->gpa[i], elem->len[i]);

		if (!host) {
			error_set(errp, "chain %u: a segment at 0x%llx (%u bytes) is not in RAM",
				  elem->head, (unsigned long long)elem->gpa[i], elem->len[i]);
			return false;
		}
		elem->iov[i] = (struct iovec){ host, elem->len[i] };
	}
	return check_length(elem, errp);
}

static uint64_t sum(const struct virtqueue_element *elem, uint32_t from, uint32_t to)
{
	uint64_t bytes = 0;

	for (uint32_t i = from; i < to; i++)
		bytes += elem->len[i];
	return bytes;
}

uint64_t element_out_bytes(const struct virtqueue_element *elem)
{
	return sum(elem, 0, elem->nout);
}

uint64_t element_in_bytes(const struct virtqueue_element *elem)
{
	return sum(elem, elem->nout, elem->nsegs);
}

unsigned int element_slice(const struct virtqueue_element *elem, bool in, uint64_t offset,
			   uint64_t len, struct iovec *iov)
{
	uint32_t end = in ? elem->nsegs : elem->nout;
	unsigned int n = 0;

	for (uint32_t i = in ? elem->nout : 0; i < end && len; i++) {
		uint64_t here = elem->iov[i].iov_len;

		if (offset >= here) {
			offset -= here;
			continue;
		}
		iov[n].iov_base = (uint8_t *)elem->iov[i].iov_base + offset;
		iov[n].iov_len = MIN_OF(here - offset, len);
		len -= iov[n++].iov_len;
		offset = 0;
	}
	return n;
}

size_t element_read(const struct virtqueue_element *elem, uint64_t offset, void *dst, size_t len)
{
	struct iovec iov[VIRTQUEUE_SIZE_MAX];
	unsigned int n = element_slice(elem, false, offset, len, iov);
	size_t done = 0;

	for (unsigned int i = 0; i < n; i++) {
		memcpy((uint8_t *)dst + done, iov[i].iov_base, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	return done;
}

size_t element_write(const struct virtqueue_element *elem, uint64_t offset, const void *src,
		     size_t len)
{
	struct iovec iov[VIRTQUEUE_SIZE_MAX];
	unsigned int n = element_slice(elem, true, offset, len, iov);
	size_t done = 0;

	for (unsigned int i = 0; i < n; i++) {
		memcpy(iov[i].iov_base, (const uint8_t *)src + done, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	return done;
}

/* --- state --- */

static const struct vmstate_field virtqueue_fields[] = {
	VMSTATE_ONE(UINT16, size, struct virtqueue),
	VMSTATE_ONE(BOOL, ready, struct virtqueue),
	VMSTATE_ONE(UINT64, desc, struct virtqueue),
	VMSTATE_ONE(UINT64, avail, struct virtqueue),
	VMSTATE_ONE(UINT64, used, struct virtqueue),
	VMSTATE_ONE(UINT16, last_avail, struct virtqueue),
	VMSTATE_ONE(UINT16, used_idx, struct virtqueue),
	VMSTATE_END,
};
const struct vmstate_desc virtqueue_vmstate = {
	.name = "virtqueue",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = virtqueue_fields,
};

static const struct vmstate_field element_fields[] = {
	VMSTATE_ONE(UINT16, head, struct virtqueue_element),
	VMSTATE_ONE(UINT32, nout, struct virtqueue_element),
	VMSTATE_ONE(UINT32, nsegs, struct virtqueue_element),
	VMSTATE_VARRAY(UINT64, gpa, struct virtqueue_element, nsegs),
	VMSTATE_VARRAY(UINT32, len, struct virtqueue_element, nsegs),
	VMSTATE_END,
};
const struct vmstate_desc virtqueue_element_vmstate = {
	.name = "virtqueue-element",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = element_fields,
};
