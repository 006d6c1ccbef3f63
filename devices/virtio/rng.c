/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/virtio/rng.h"

#include <linux/virtio_ids.h>
#include <sys/random.h>

#include "devices/virtio/mmio.h"
#include "vmm/base/cleanup.h"

#define QUEUE 0

struct virtio_rng {
	struct virtio_device virtio;
	struct virtqueue_element elem; /* the one that is being served */
};

static void serve(struct virtio_device *v, struct virtqueue_element *elem)
{
	uint8_t bytes[256]; /* what getrandom() gives without being interrupted */
	uint64_t want = MIN_OF(element_in_bytes(elem), VIRTIO_RNG_BYTES_MAX);
	uint64_t done = 0;

	while (done < want) {
		ssize_t n = getrandom(bytes, MIN_OF(want - done, sizeof(bytes)), 0);

		if (n <= 0)
			break;
		done += element_write(elem, done, bytes, (size_t)n);
	}
	virtqueue_push(&v->queues[QUEUE], elem, (uint32_t)done);
}

static void rng_kicked(struct virtio_device *v, unsigned int queue)
{
	struct virtio_rng *rng = container_of(v, struct virtio_rng, virtio);

	virtio_serve(v, queue, &rng->elem, NULL, serve);
}

static const struct virtio_ops rng_ops = {
	.device_id = VIRTIO_ID_RNG,
	.nqueues = 1,
	.kicked = rng_kicked,
};

static struct virtio_rng *rng_of(struct device *dev)
{
	return container_of(dev, struct virtio_rng, virtio.dev);
}

static struct device *rng_create(struct vm *vm, const struct device_config *config,
				 struct error **errp)
{
	struct virtio_rng *rng = xcalloc(1, sizeof(*rng));

	if (virtio_init(&rng->virtio, vm, config, &rng_ops, 0, errp))
		return &rng->virtio.dev;
	free(rng);
	return NULL;
}

static void *rng_state(struct device *dev)
{
	return rng_of(dev);
}

static void rng_reset(struct device *dev)
{
	virtio_reset(&rng_of(dev)->virtio);
}

static void rng_pause(struct device *dev)
{
	virtio_pause(&rng_of(dev)->virtio);
}

static void rng_resume(struct device *dev)
{
	virtio_resume(&rng_of(dev)->virtio);
}

static void rng_destroy(struct device *dev)
{
	virtio_release(&rng_of(dev)->virtio);
	free(rng_of(dev));
}

static const struct vmstate_field rng_fields[] = {
	VMSTATE_STRUCT(virtio, struct virtio_rng, virtio_vmstate, struct virtio_device),
	VMSTATE_END,
};
static const struct vmstate_desc rng_vmstate = {
	.name = "virtio-rng",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = rng_fields,
};

const struct device_class virtio_rng_class = {
	.name = "virtio-rng",
	.compatible = "virtio,mmio",
	.kind = "rng",
	.vmstate = &rng_vmstate,
	.create = rng_create,
	.state = rng_state,
	.reset = rng_reset,
	.pause = rng_pause,
	.resume = rng_resume,
	.destroy = rng_destroy,
};
