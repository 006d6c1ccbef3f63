/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/virtio/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#include "devices/backend/tap.h"
#include "devices/virtio/mmio.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

#define RX 0
#define TX 1
#define MAC_BYTES 6
#define FRAME_MAX (TAP_HEADER_BYTES + 65536u)
#define FRAMES_A_ROUND 64
/* Announcements: at once, and again for who was not listening. */
#define ANNOUNCEMENTS 5
#define ANNOUNCE_AGAIN_MS 100
#define ETHERTYPE_RARP 0x8035
#define RARP_BYTES 60

struct virtio_net {
	struct virtio_device virtio;
	/* set at creation */
	int fd;	      /* of the tap */
	int timer_fd; /* of announcements */
	struct loop_handle *handle, *timer_handle;
	/* the loop's thread */
	uint8_t frame[FRAME_MAX];
	/* virtio.lock */
	bool arriving;		    /* the guest is at the source still */
	unsigned int announcements; /* to be made */
	uint8_t mac[MAC_BYTES];
	struct virtqueue_element elem;
};

static struct virtio_net *net_of(struct virtio_device *v)
{
	return container_of(v, struct virtio_net, virtio);
}

static struct virtio_net *net_of_dev(struct device *dev)
{
	return container_of(dev, struct virtio_net, virtio.dev);
}

/* --- out --- */

static void transmit(struct virtio_device *v, struct virtqueue_element *elem)
{
	uint64_t bytes = element_out_bytes(elem);

	/* What the tap does not take is lost, as on any network. */
	if (bytes > TAP_HEADER_BYTES && bytes <= FRAME_MAX)
		(void)!writev(net_of(v)->fd, elem->iov, (int)elem->nout);
	virtqueue_push(&v->queues[TX], elem, 0);
}

/* "Who am I?", asked in the guest's name: nobody answers, but all switches on the way learn the port. */
static void announce(struct virtio_net *net)
{
	uint8_t frame[TAP_HEADER_BYTES + RARP_BYTES] = { 0 };
	uint8_t *eth = frame + TAP_HEADER_BYTES, *rarp = eth + 14;

	memset(eth, 0xff, MAC_BYTES);
	memcpy(eth + 6, net->mac, MAC_BYTES);
	put_be16(eth + 12, ETHERTYPE_RARP);
	put_be16(rarp, 1); /* Ethernet */
	put_be16(rarp + 2, 0x0800);
	rarp[4] = MAC_BYTES;
	rarp[5] = 4;
	put_be16(rarp + 6, 3); /* request reverse */
	memcpy(rarp + 8, net->mac, MAC_BYTES);
	memcpy(rarp + 18, net->mac, MAC_BYTES);
	(void)!write(net->fd, frame, sizeof(frame));
}

static void announce_again(struct virtio_net *net)
{
	struct itimerspec in = { .it_value.tv_nsec = ANNOUNCE_AGAIN_MS * 1000000L };

	if (!net->announcements || net->virtio.paused)
		return;
	announce(net);
	if (--net->announcements)
		timerfd_settime(net->timer_fd, 0, &in, NULL);
}

static void on_timer(void *opaque, uint32_t events)
{
	struct virtio_net *net = opaque;
	uint64_t count;

	(void)events;
	if (read(net->timer_fd, &count, sizeof(count)) != sizeof(count))
		return;
	pthread_mutex_lock(&net->virtio.lock);
	announce_again(net);
	pthread_mutex_unlock(&net->virtio.lock);
}

/* --- in --- */

/* Does the driver have a buffer? If not, it will tell us when it has. */
static bool can_receive(struct virtio_device *v)
{
	struct virtqueue *vq = &v->queues[RX];

	return virtio_runs(v, RX) && (virtqueue_has_more(vq) || virtqueue_ask_kicks(vq, true));
}

static void deliver(struct virtio_net *net, size_t len)
{
	struct virtio_device *v = &net->virtio;

	if (len <= TAP_HEADER_BYTES || !virtio_pop(v, RX, &net->elem))
		return;
	put_le16(net->frame + offsetof(struct virtio_net_hdr_mrg_rxbuf, num_buffers), 1);
	if (element_in_bytes(&net->elem) < len)
		len = 0; /* it does not fit and is lost */
	element_write(&net->elem, 0, net->frame, len);
	virtqueue_push(&v->queues[RX], &net->elem, (uint32_t)len);
}

/* The interface has been taken away: the guest's cable is out. */
static void lose_host(struct virtio_net *net)
{
	log_error("network '%s': the tap is gone", net->virtio.id);
	loop_remove(net->handle);
	net->handle = NULL;
}

static void on_frames(void *opaque, uint32_t events)
{
	struct virtio_net *net = opaque;
	struct virtio_device *v = &net->virtio;

	pthread_mutex_lock(&v->lock);
	for (unsigned int i = 0; net->handle && i < FRAMES_A_ROUND; i++) {
		ssize_t n;

		if (!net->arriving && !can_receive(v)) {
			if (events & (EPOLLERR | EPOLLHUP))
				lose_host(net);
			else
				loop_set_events(net->handle, 0); /* until kicked */
			break;
		}
		n = read(net->fd, net->frame, sizeof(net->frame));
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			lose_host(net);
		if (n <= 0)
			break;
		if (!net->arriving)
			deliver(net, (size_t)n);
	}
	virtio_interrupt(v, RX);
	pthread_mutex_unlock(&v->lock);
}

static void net_kicked(struct virtio_device *v, unsigned int queue)
{
	struct virtio_net *net = net_of(v);

	if (queue == TX) {
		virtio_serve(v, TX, &net->elem, NULL, transmit);
		return;
	}
	virtqueue_ask_kicks(&v->queues[RX], false);
	if (net->handle)
		loop_set_events(net->handle, EPOLLIN);
}

static const struct virtio_ops net_ops = {
	.device_id = VIRTIO_ID_NET,
	.nqueues = 2,
	.kicked = net_kicked,
};

/* --- being a device --- */

static void free_net(struct virtio_net *net)
{
	loop_remove(net->handle);
	loop_remove(net->timer_handle);
	if (net->fd >= 0)
		close(net->fd);
	if (net->timer_fd >= 0)
		close(net->timer_fd);
	free(net);
}

/* The host's side, not yet watched. */
static bool open_host(struct virtio_net *net, const struct device_config *config,
		      struct error **errp)
{
	if (!config->path || !config->mac) {
		error_set(errp, "network '%s': no %s is known", config->id,
			  config->path ? "address" : "tap");
		return false;
	}
	memcpy(net->mac, config->mac, MAC_BYTES);
	net->fd = tap_open(config->path, errp);
	if (net->fd < 0) {
		error_prefix(errp, "network '%s': ", config->id);
		return false;
	}
	net->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (net->timer_fd >= 0)
		return true;
	error_set_errno(errp, errno, "network '%s': timer", config->id);
	return false;
}

/* Frames are asked for when the driver has a buffer; at a destination from the begin, to throw them away. */
static bool watch_host(struct virtio_net *net, struct loop *loop, struct error **errp)
{
	net->timer_handle = loop_add(loop, net->timer_fd, EPOLLIN, on_timer, net);
	net->handle = loop_add(loop, net->fd, net->arriving ? EPOLLIN : 0, on_frames, net);
	if (net->handle && net->timer_handle)
		return true;
	error_set(errp, "network '%s': the tap cannot be watched", net->virtio.id);
	virtio_release(&net->virtio);
	return false;
}

static struct device *net_create(struct vm *vm, const struct device_config *config,
				 struct error **errp)
{
	const uint64_t features =
		UINT64_C(1) << VIRTIO_NET_F_MAC | UINT64_C(1) << VIRTIO_NET_F_CSUM |
		UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4 | UINT64_C(1) << VIRTIO_NET_F_HOST_TSO6 |
		UINT64_C(1) << VIRTIO_NET_F_HOST_ECN;
	struct virtio_net *net = xcalloc(1, sizeof(*net));

	net->fd = net->timer_fd = -1;
	net->arriving = config->incoming;
	if (!open_host(net, config, errp) ||
	    !virtio_init(&net->virtio, vm, config, &net_ops, features, errp) ||
	    !watch_host(net, vm->loop, errp)) {
		free_net(net);
		return NULL;
	}
	net->virtio.config_bytes = MAC_BYTES;
	memcpy(net->virtio.config, net->mac, MAC_BYTES);
	return &net->virtio.dev;
}

static void *net_state(struct device *dev)
{
	return net_of_dev(dev);
}

static void net_reset(struct device *dev)
{
	virtio_reset(&net_of_dev(dev)->virtio);
}

static void net_pause(struct device *dev)
{
	virtio_pause(&net_of_dev(dev)->virtio);
}

static void net_resume(struct device *dev)
{
	struct virtio_net *net = net_of_dev(dev);

	virtio_resume(&net->virtio);
	pthread_mutex_lock(&net->virtio.lock);
	if (net->arriving) {
		net->arriving = false;
		net->announcements = ANNOUNCEMENTS;
	}
	announce_again(net);
	pthread_mutex_unlock(&net->virtio.lock);
}

static void net_destroy(struct device *dev)
{
	struct virtio_net *net = net_of_dev(dev);

	virtio_release(&net->virtio);
	free_net(net);
}

/* --- state --- */

static const struct vmstate_field net_fields[] = {
	VMSTATE_STRUCT(virtio, struct virtio_net, virtio_vmstate, struct virtio_device),
	VMSTATE_END,
};
static const struct vmstate_desc net_vmstate = {
	.name = "virtio-net",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = net_fields,
};

const struct device_class virtio_net_class = {
	.name = "virtio-net",
	.compatible = "virtio,mmio",
	.kind = "net",
	.vmstate = &net_vmstate,
	.create = net_create,
	.state = net_state,
	.reset = net_reset,
	.pause = net_pause,
	.resume = net_resume,
	.destroy = net_destroy,
};
