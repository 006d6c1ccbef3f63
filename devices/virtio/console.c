/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/virtio/console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>

#include "devices/backend/chardev.h"
#include "devices/virtio/mmio.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

#define RX 0
#define TX 1
#define RX_BYTES 256
#define COPY_BYTES 4096

struct virtio_console {
	struct virtio_device virtio;
	struct chardev *backend; /* NULL: none */
	/* virtio.lock */
	uint16_t cols, rows; /* 0: not known */
	bool tx_held; /* tx has been taken from the driver, and its first tx_done bytes by the reader */
	uint32_t tx_done;
	struct virtqueue_element tx;
	uint32_t rx_len; /* input that waits for a buffer of the driver's */
	uint8_t rx[RX_BYTES];
	struct virtqueue_element rx_elem; /* the one that is being filled */
};

static struct virtio_console *console_of(struct virtio_device *v)
{
	return container_of(v, struct virtio_console, virtio);
}

static struct virtio_console *console_of_dev(struct device *dev)
{
	return container_of(dev, struct virtio_console, virtio.dev);
}

/* Offer the rest of the buffer that is held to the reader, and give it back when all is taken. */
static void flush_tx(struct virtio_console *con)
{
	uint64_t bytes = element_out_bytes(&con->tx);
	uint8_t copy[COPY_BYTES];

	while (con->tx_done < bytes && con->backend) {
		size_t n = element_read(&con->tx, con->tx_done, copy, sizeof(copy));
		size_t done = chardev_write(con->backend, copy, n);

		con->tx_done += (uint32_t)done;
		if (done < n && chardev_connected(con->backend))
			return;
		if (done < n)
			break; /* there is nobody to wait for */
	}
	virtqueue_push(&con->virtio.queues[TX], &con->tx, 0);
	con->tx_held = false;
	con->tx_done = 0;
}

static bool has_room(struct virtio_device *v)
{
	return !console_of(v)->tx_held;
}

static void transmit(struct virtio_device *v, struct virtqueue_element *elem)
{
	struct virtio_console *con = console_of(v);

	(void)elem; /* it is con->tx */
	con->tx_held = true;
	flush_tx(con);
}

/* Input into the driver's buffers, as far as there are some. */
static void flush_rx(struct virtio_console *con)
{
	while (con->rx_len && virtio_pop(&con->virtio, RX, &con->rx_elem)) {
		uint32_t n = (uint32_t)element_write(&con->rx_elem, 0, con->rx, con->rx_len);

		virtqueue_push(&con->virtio.queues[RX], &con->rx_elem, n);
		con->rx_len -= n;
		memmove(con->rx, con->rx + n, con->rx_len);
	}
	virtio_interrupt(&con->virtio, RX);
}

static void console_kicked(struct virtio_device *v, unsigned int queue)
{
	struct virtio_console *con = console_of(v);

	if (queue == TX) {
		virtio_serve(v, TX, &con->tx, has_room, transmit);
		return;
	}
	flush_rx(con);
	if (con->backend && !con->rx_len)
		chardev_room_again(con->backend);
}

static void console_forget(struct virtio_device *v)
{
	struct virtio_console *con = console_of(v);

	con->tx_held = false;
	con->tx_done = 0;
	con->rx_len = 0;
}

static const struct virtio_ops console_ops = {
	.device_id = VIRTIO_ID_CONSOLE,
	.nqueues = 2,
	.kicked = console_kicked,
	.forget = console_forget,
};

/* --- the backend's callbacks: the loop's thread --- */

static size_t console_room(void *opaque)
{
	struct virtio_console *con = opaque;
	struct virtio_device *v = &con->virtio;
	size_t room;

	pthread_mutex_lock(&v->lock);
	/* A driver that does not listen must not keep a line from being read: what is typed then is lost, as on a real one. */
	if (v->paused || con->rx_len)
		room = 0;
	else
		room = virtio_runs(v, RX) && !virtqueue_has_more(&v->queues[RX]) ? 0 : RX_BYTES;
	pthread_mutex_unlock(&v->lock);
	return room;
}

static void console_receive(void *opaque, const uint8_t *data, size_t len)
{
	struct virtio_console *con = opaque;

	pthread_mutex_lock(&con->virtio.lock);
	if (virtio_runs(&con->virtio, RX)) {
		con->rx_len = (uint32_t)MIN_OF(len, sizeof(con->rx));
		memcpy(con->rx, data, con->rx_len);
		flush_rx(con);
	}
	pthread_mutex_unlock(&con->virtio.lock);
}

static void console_can_send(void *opaque)
{
	struct virtio_console *con = opaque;

	pthread_mutex_lock(&con->virtio.lock);
	if (con->tx_held && virtio_runs(&con->virtio, TX)) {
		flush_tx(con);
		if (!con->tx_held)
			virtio_serve(&con->virtio, TX, &con->tx, has_room, transmit);
	}
	pthread_mutex_unlock(&con->virtio.lock);
}

static const struct chardev_client console_client = { console_room, console_receive,
						      console_can_send };

/* --- being a device --- */

static void write_config(struct virtio_console *con)
{
	uint8_t *c = con->virtio.config;

	con->virtio.config_bytes = offsetof(struct virtio_console_config, max_nr_ports);
	put_le16(c + offsetof(struct virtio_console_config, cols), con->cols);
	put_le16(c + offsetof(struct virtio_console_config, rows), con->rows);
}

/* True: it is another size than before. */
static bool look_at_size(struct virtio_console *con)
{
	uint16_t cols = 0, rows = 0;

	if (con->backend)
		chardev_size(con->backend, &cols, &rows);
	if (cols == con->cols && rows == con->rows)
		return false;
	con->cols = cols;
	con->rows = rows;
	write_config(con);
	return true;
}

void virtio_console_resized(struct device *dev)
{
	struct virtio_console *con = console_of_dev(dev);

	pthread_mutex_lock(&con->virtio.lock);
	if (!con->virtio.paused && look_at_size(con))
		virtio_config_changed(&con->virtio);
	pthread_mutex_unlock(&con->virtio.lock);
}

static struct device *console_create(struct vm *vm, const struct device_config *config,
				     struct error **errp)
{
	struct virtio_console *con = xcalloc(1, sizeof(*con));

	con->backend = config->backend;
	if (!virtio_init(&con->virtio, vm, config, &console_ops,
			 UINT64_C(1) << VIRTIO_CONSOLE_F_SIZE, errp)) {
		free(con);
		return NULL;
	}
	look_at_size(con);
	write_config(con);
	if (con->backend)
		chardev_attach(con->backend, &console_client, con);
	return &con->virtio.dev;
}

static void console_destroy(struct device *dev)
{
	struct virtio_console *con = console_of_dev(dev);

	if (con->backend)
		chardev_attach(con->backend, NULL, NULL);
	virtio_release(&con->virtio);
	free(con);
}

static void *console_state(struct device *dev)
{
	return console_of_dev(dev);
}

static void console_reset(struct device *dev)
{
	virtio_reset(&console_of_dev(dev)->virtio);
}

static void console_pause(struct device *dev)
{
	virtio_pause(&console_of_dev(dev)->virtio);
}

static void console_resume(struct device *dev)
{
	struct virtio_console *con = console_of_dev(dev);

	virtio_resume(&con->virtio);
	console_can_send(con);
	virtio_console_resized(dev);
	if (con->backend)
		chardev_room_again(con->backend);
}

/* --- state --- */

static bool console_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct virtio_console *con = opaque;
	struct virtqueue *vq = &con->virtio.queues[TX];

	(void)version_id;
	if (con->tx_held) {
		if (!vq->ready) {
			error_set(errp, "tx: a buffer of a queue that is not ready");
			return false;
		}
		if (!virtqueue_element_map(vq, &con->tx, errp)) {
			error_prefix(errp, "tx: ");
			return false;
		}
	}
	write_config(con);
	return true;
}

static const struct vmstate_field console_fields[] = {
	VMSTATE_STRUCT(virtio, struct virtio_console, virtio_vmstate, struct virtio_device),
	VMSTATE_ONE(UINT16, cols, struct virtio_console),
	VMSTATE_ONE(UINT16, rows, struct virtio_console),
	VMSTATE_ONE(BOOL, tx_held, struct virtio_console),
	VMSTATE_ONE(UINT32, tx_done, struct virtio_console),
	VMSTATE_STRUCT(tx, struct virtio_console, virtqueue_element_vmstate,
		       struct virtqueue_element),
	VMSTATE_ONE(UINT32, rx_len, struct virtio_console),
	VMSTATE_VBUFFER(rx, struct virtio_console, rx_len),
	VMSTATE_END,
};
static const struct vmstate_desc console_vmstate = {
	.name = "virtio-console",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = console_fields,
	.post_load = console_post_load,
};

const struct device_class virtio_console_class = {
	.name = "virtio-console",
	.compatible = "virtio,mmio",
	.kind = "console",
	.vmstate = &console_vmstate,
	.create = console_create,
	.state = console_state,
	.reset = console_reset,
	.pause = console_pause,
	.resume = console_resume,
	.destroy = console_destroy,
};
