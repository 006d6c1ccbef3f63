/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <sys/eventfd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

#define BIT64(n) (UINT64_C(1) << (n))
#define TRANSPORT_FEATURES                                                \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) | \
	 BIT64(VIRTIO_RING_F_EVENT_IDX))
#define MAGIC 0x74726976  /* "virt" */
#define VENDOR 0x59525246 /* "FRRY" */

bool virtio_has(const struct virtio_device *v, unsigned int feature)
{
	return v->driver_features >> feature & 1;
}

bool virtio_runs(const struct virtio_device *v, unsigned int queue)
{
	return !v->paused && v->status & VIRTIO_CONFIG_S_DRIVER_OK &&
	       !(v->status & VIRTIO_CONFIG_S_NEEDS_RESET) && v->queues[queue].ready;
}

static void give_edge(struct virtio_device *v)
{
	uint64_t one = 1;

	if (v->irq_fd < 0 || write(v->irq_fd, &one, sizeof(one)) < 0)
		vm_irq_pulse(v->dev.vm, v->irq);
}

static void update_level(struct virtio_device *v)
{
	bool level = v->level && v->isr != 0;

	if (level != v->irq_level)
		vm_irq_line(v->dev.vm, v->irq, level);
	v->irq_level = level;
}

static void raise_irq(struct virtio_device *v, uint32_t bit)
{
	v->isr |= bit;
	if (v->level)
		update_level(v);
	else
		give_edge(v);
}

void virtio_interrupt(struct virtio_device *v, unsigned int queue)
{
	if (!virtqueue_wants_interrupt(&v->queues[queue]))
		return;
	raise_irq(v, VIRTIO_MMIO_INT_VRING);
}

void virtio_config_changed(struct virtio_device *v)
{
	v->generation++;
	if (!(v->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	raise_irq(v, VIRTIO_MMIO_INT_CONFIG);
}

void virtio_break(struct virtio_device *v, struct error *err)
{
	/* Once, for a guest could go on like this. */
	log_line(v->complained ? LOG_DEBUG : LOG_ERROR,
		 "device '%s': the guest's driver is at fault: %s; the device waits for a reset",
		 v->id, error_msg(err));
	v->complained = true;
	error_free(err);
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	virtio_config_changed(v);
}

bool virtio_pop(struct virtio_device *v, unsigned int queue, struct virtqueue_element *elem)
{
	struct error *err = NULL;
	int n;

	if (!virtio_runs(v, queue))
		return false;
	n = virtqueue_pop(&v->queues[queue], elem, &err);
	if (n < 0)
		virtio_break(v, err);
	return n > 0;
}

static void run_queue(struct virtio_device *v, unsigned int queue)
{
	if (virtio_runs(v, queue))
		v->ops->kicked(v, queue);
}

/* The register QueueNotify, by KVM or by us. */
static void notify(struct virtio_device *v, unsigned int queue)
{
	uint64_t one = 1;

	if (v->kicks[queue].fd < 0)
		run_queue(v, queue);
	else if (write(v->kicks[queue].fd, &one, sizeof(one)) < 0)
		return; /* the counter is full, so the loop has been told */
}

void virtio_kick_again(struct virtio_device *v, unsigned int queue)
{
	notify(v, queue);
}

static void on_kick(void *opaque, uint32_t events)
{
	struct virtio_kick *kick = opaque;
	struct virtio_device *v = kick->v;
	uint64_t count;

	(void)events;
	if (read(kick->fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&v->lock);
	run_queue(v, (unsigned int)(kick - v->kicks));
	pthread_mutex_unlock(&v->lock);
}

void virtio_serve(struct virtio_device *v, unsigned int queue, struct virtqueue_element *elem,
		  bool (*has_room)(struct virtio_device *v),
		  void (*serve)(struct virtio_device *v, struct virtqueue_element *elem))
{
	struct virtqueue *vq = &v->queues[queue];
	unsigned int left = vq->size;

	virtqueue_ask_kicks(vq, false);
	for (;;) {
		if (has_room && !has_room(v))
			break;
		if (v->kicks[queue].fd >= 0 && !left--) {
			virtio_kick_again(v, queue);
			break;
		}
		if (virtio_pop(v, queue, elem))
			serve(v, elem);
		else if (!virtio_runs(v, queue) || !virtqueue_ask_kicks(vq, true))
			break;
	}
	virtio_interrupt(v, queue);
}

/* --- registers --- */

static void reset(struct virtio_device *v)
{
	if (v->ops->forget)
		v->ops->forget(v);
	v->status = v->isr = 0;
	v->device_features_sel = v->driver_features_sel = v->queue_sel = 0;
	v->driver_features = 0;
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++)
		virtqueue_reset(&v->queues[i]);
	update_level(v);
}

static void features_to_queues(struct virtio_device *v)
{
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		v->queues[i].event_idx = virtio_has(v, VIRTIO_RING_F_EVENT_IDX);
		v->queues[i].indirect = virtio_has(v, VIRTIO_RING_F_INDIRECT_DESC);
	}
}

static void write_status(struct virtio_device *v, uint32_t value)
{
	uint32_t fresh = value & ~v->status;

	if (!value) {
		reset(v);
		return;
	}
	if (fresh & VIRTIO_CONFIG_S_FEATURES_OK &&
	    (v->driver_features & ~v->features || !virtio_has(v, VIRTIO_F_VERSION_1)))
		value &= ~(
			uint32_t)VIRTIO_CONFIG_S_FEATURES_OK; /* the driver reads that we refuse */
	if (!(value & VIRTIO_CONFIG_S_FEATURES_OK))
		value &= ~(uint32_t)VIRTIO_CONFIG_S_DRIVER_OK;
	/* Only a reset takes bits away. */
	v->status |= value & 0xff & ~(uint32_t)VIRTIO_CONFIG_S_NEEDS_RESET;
	if (v->status & VIRTIO_CONFIG_S_FEATURES_OK)
		features_to_queues(v);
	if (fresh & v->status & VIRTIO_CONFIG_S_DRIVER_OK)
		for (unsigned int i = 0; i < v->ops->nqueues; i++)
			notify(v, i);
}

static void write_driver_features(struct virtio_device *v, uint32_t value)
{
	unsigned int shift = v->driver_features_sel * 32;

	if (v->status & VIRTIO_CONFIG_S_FEATURES_OK || v->driver_features_sel > 1)
		return;
	v->driver_features &= ~(UINT64_C(0xffffffff) << shift);
	v->driver_features |= (uint64_t)value << shift;
}

static void write_queue_ready(struct virtio_device *v, struct virtqueue *vq, uint32_t value)
{
	struct error *err = NULL;

	if (!value) {
		if (vq->ready && v->ops->forget)
			v->ops->forget(v);
		vq->ready = false;
	} else if (!vq->ready && !virtqueue_start(vq, &err)) {
		error_prefix(&err, "queue %u: ", v->queue_sel);
		virtio_break(v, err);
	}
}

static void set_half(uint64_t *value, bool high, uint32_t half)
{
	*value = high ? (uint32_t)*value | (uint64_t)half << 32
		      : (*value & ~UINT64_C(0xffffffff)) | half;
}

/* The registers of the selected queue, which are the driver's until the queue is ready. */
static void write_queue(struct virtio_device *v, uint64_t reg, uint32_t value)
{
	struct virtqueue *vq;

	if (v->queue_sel >= v->ops->nqueues)
		return;
	vq = &v->queues[v->queue_sel];
	if (reg == VIRTIO_MMIO_QUEUE_READY) {
		write_queue_ready(v, vq, value);
		return;
	}
	if (vq->ready)
		return;
	switch (reg) {
	case VIRTIO_MMIO_QUEUE_NUM:
		vq->size =
			(uint16_t)MIN_OF(value, UINT16_MAX); /* looked at when it is made ready */
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&vq->desc, reg & 4, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&vq->avail, reg & 4, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&vq->used, reg & 4, value);
		break;
	}
}

static void write_reg(struct virtio_device *v, uint64_t reg, uint32_t value)
{
	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		v->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		v->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_driver_features(v, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		v->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		if (value < v->ops->nqueues)
			notify(v, value);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		v->isr &= ~value;
		update_level(v);
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(v, value);
		break;
	default:
		write_queue(v, reg, value);
	}
}

static uint32_t read_reg(struct virtio_device *v, uint64_t reg)
{
	bool has_queue = v->queue_sel < v->ops->nqueues;

	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return 2;
	case VIRTIO_MMIO_DEVICE_ID:
		return v->ops->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return v->device_features_sel > 1
			       ? 0
			       : (uint32_t)(v->features >> (v->device_features_sel * 32));
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return has_queue ? VIRTQUEUE_SIZE_MAX : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return has_queue && v->queues[v->queue_sel].ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return v->isr;
	case VIRTIO_MMIO_STATUS:
		return v->status;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return v->generation;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return ~0u; /* no shared memory */
	default:
		return 0;
	}
}

static uint64_t read_config(struct virtio_device *v, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	if (range_within(offset, size, v->config_bytes))
		memcpy(&value, v->config + offset, size);
	return value;
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct virtio_device *v = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&v->lock);
	if (offset >= VIRTIO_MMIO_CONFIG)
		value = read_config(v, offset - VIRTIO_MMIO_CONFIG, size);
	else if (size == 4 && is_aligned(offset, 4))
		value = read_reg(v, offset);
	pthread_mutex_unlock(&v->lock);
	return value;
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned int size)
{
	struct virtio_device *v = opaque;

	pthread_mutex_lock(&v->lock);
	if (offset < VIRTIO_MMIO_CONFIG && size == 4 && is_aligned(offset, 4))
		write_reg(v, offset, (uint32_t)value);
	pthread_mutex_unlock(&v->lock);
}

static const struct bus_ops mmio_ops = { mmio_read, mmio_write };

/* --- being a device --- */

void virtio_reset(struct virtio_device *v)
{
	pthread_mutex_lock(&v->lock);
	reset(v);
	pthread_mutex_unlock(&v->lock);
}

void virtio_pause(struct virtio_device *v)
{
	pthread_mutex_lock(&v->lock);
	v->paused = true;
	pthread_mutex_unlock(&v->lock);
}

void virtio_resume(struct virtio_device *v)
{
	pthread_mutex_lock(&v->lock);
	v->paused = false;
	if (!v->level && v->isr)
		give_edge(v);
	for (unsigned int i = 0; i < v->ops->nqueues; i++)
		if (virtio_runs(v, i))
			notify(v, i);
	pthread_mutex_unlock(&v->lock);
}

/* KVM writes to the eventfd by itself, if it can. */
static void add_ioeventfd(struct virtio_device *v, unsigned int queue)
{
	struct kvm_ioeventfd io = {
		.datamatch = queue,
		.addr = v->base + VIRTIO_MMIO_QUEUE_NOTIFY,
		.len = 4,
		.fd = v->kicks[queue].fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	v->kicks[queue].by_kvm = v->dev.vm->kvm.cap[CAP_IOEVENTFD] &&
				 kvm_vm_ioctl(&v->dev.vm->kvm, KVM_IOEVENTFD, &io, "", NULL);
}

/* Without one edges are given by an ioctl. To close the eventfd ends the binding. */
static void open_irqfd(struct virtio_device *v)
{
	struct kvm_irqfd irqfd = { .gsi = v->irq };
	int fd;

	if (v->level || !v->dev.vm->kvm.cap[CAP_IRQFD])
		return;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	irqfd.fd = (uint32_t)fd;
	if (fd >= 0 && kvm_vm_ioctl(&v->dev.vm->kvm, KVM_IRQFD, &irqfd, "", NULL))
		v->irq_fd = fd;
	else if (fd >= 0)
		close(fd);
}

static bool open_kicks(struct virtio_device *v, struct error **errp)
{
	for (unsigned int i = 0; i < v->ops->nqueues && v->dev.vm->loop; i++) {
		struct virtio_kick *kick = &v->kicks[i];

		kick->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (kick->fd >= 0)
			kick->handle = loop_add(v->dev.vm->loop, kick->fd, EPOLLIN, on_kick, kick);
		if (!kick->handle) {
			error_set(errp, "device '%s': no eventfd can be had", v->id);
			return false;
		}
		add_ioeventfd(v, i);
	}
	return true;
}

bool virtio_init(struct virtio_device *v, struct vm *vm, const struct device_config *config,
		 const struct virtio_ops *ops, uint64_t features, struct error **errp)
{
	struct bus_region region = { config->base, VIRTIO_MMIO_BYTES, "virtio", &mmio_ops, v };

	v->dev.vm = vm;
	v->ops = ops;
	v->base = config->base;
	v->irq = config->irq;
	v->level = config->level;
	v->irq_fd = -1;
	v->features = features | TRANSPORT_FEATURES;
	v->id = xstrdup(config->id ? config->id : "?");
	pthread_mutex_init(&v->lock, NULL);
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		v->kicks[i] = (struct virtio_kick){ .v = v, .fd = -1 };
		virtqueue_init(&v->queues[i], &vm->memory);
	}
	open_irqfd(v);
	/* The bus last: its regions cannot be taken back. */
	if (open_kicks(v, errp) && bus_add(&vm->mmio, &region, errp))
		return true;
	virtio_release(v);
	return false;
}

void virtio_release(struct virtio_device *v)
{
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		loop_remove(v->kicks[i].handle);
		if (v->kicks[i].fd >= 0)
			close(v->kicks[i].fd);
	}
	if (v->irq_fd >= 0)
		close(v->irq_fd);
	pthread_mutex_destroy(&v->lock);
	free(v->id);
}

/* --- state --- */

static bool virtio_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct virtio_device *v = opaque;

	(void)version_id;
	if (v->status & VIRTIO_CONFIG_S_FEATURES_OK && v->driver_features & ~v->features) {
		error_set(errp, "the driver uses features 0x%llx, of which only 0x%llx are here",
			  (unsigned long long)v->driver_features, (unsigned long long)v->features);
		return false;
	}
	if (v->status & VIRTIO_CONFIG_S_FEATURES_OK)
		features_to_queues(v);
	for (unsigned int i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		struct virtqueue *vq = &v->queues[i];

		if (!vq->ready)
			continue;
		vq->ready = false;
		if (i >= v->ops->nqueues || !virtqueue_start(vq, errp)) {
			if (i >= v->ops->nqueues)
				error_set(errp, "there is no such queue");
			error_prefix(errp, "queues[%u]: ", i);
			return false;
		}
	}
	/* Down for a line with edges: the source may have saved its controllers in the middle of a pulse. */
	v->irq_level = v->level && v->isr != 0;
	vm_irq_line(v->dev.vm, v->irq, v->irq_level);
	return true;
}

static const struct vmstate_field virtio_fields[] = {
	VMSTATE_ONE(UINT32, status, struct virtio_device),
	VMSTATE_ONE(UINT32, isr, struct virtio_device),
	VMSTATE_ONE(UINT32, generation, struct virtio_device),
	VMSTATE_ONE(UINT32, device_features_sel, struct virtio_device),
	VMSTATE_ONE(UINT32, driver_features_sel, struct virtio_device),
	VMSTATE_ONE(UINT32, queue_sel, struct virtio_device),
	VMSTATE_ONE(UINT64, driver_features, struct virtio_device),
	VMSTATE_STRUCT_ARRAY(queues, struct virtio_device, virtqueue_vmstate, struct virtqueue),
	VMSTATE_END,
};
const struct vmstate_desc virtio_vmstate = {
	.name = "virtio",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = virtio_fields,
	.post_load = virtio_post_load,
};
