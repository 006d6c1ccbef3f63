/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>

#include "devices/backend/block.h"
#include "devices/virtio/mmio.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

#define QUEUE 0
#define SECTOR_BITS 9
#define HEADER_BYTES 16
#define RANGE_BYTES 16 /* a range to discard or zero */
#define STATUS_BYTES 1
#define RANGE_SECTORS_MAX (1u << 22)
#define DISCARD_ALIGN_SECTORS 8
_Static_assert(BLOCK_SEGMENTS_MAX == VIRTQUEUE_SIZE_MAX, "a chain fits into a transfer");

struct blk_request {
	struct virtqueue_element elem;
	struct block_request io;
	struct iovec iov[BLOCK_SEGMENTS_MAX];
	bool begun; /* the host has it */
	TAILQ_ENTRY(blk_request) entry;
};
TAILQ_HEAD(blk_requests, blk_request);

struct virtio_blk {
	struct virtio_device virtio;
	/* set at creation */
	struct block *block;
	struct disk_bitmaps bitmaps; /* of the machine's list */
	char *path;
	bool read_only;
	struct virtqueue_element elem; /* the one that is being taken */
	/* virtio.lock */
	uint64_t sectors; /* what the guest knows; the image has as many or more */
	struct blk_requests requests;
	unsigned int in_flight; /* of them */
	bool left_over;		/* some in the list are not begun */
	bool held_back;		/* the queue was not looked at for want of room */
	int last_error;		/* that the user was told of; 0 after a success */
	uint64_t errors;
};

static struct virtio_blk *blk_of(struct virtio_device *v)
{
	return container_of(v, struct virtio_blk, virtio);
}

static struct virtio_blk *blk_of_dev(struct device *dev)
{
	return container_of(dev, struct virtio_blk, virtio.dev);
}

static void drop(struct virtio_blk *blk, struct blk_request *req)
{
	TAILQ_REMOVE(&blk->requests, req, entry);
	blk->in_flight--;
	free(req);
}

/* The driver gets its answer: the last byte. */
static void answer(struct virtio_blk *blk, struct blk_request *req, uint8_t status)
{
	uint64_t bytes = element_in_bytes(&req->elem);

	blk->errors += status == VIRTIO_BLK_S_IOERR;
	element_write(&req->elem, bytes - STATUS_BYTES, &status, STATUS_BYTES);
	virtqueue_push(&blk->virtio.queues[QUEUE], &req->elem, (uint32_t)bytes);
	drop(blk, req);
}

static void tell_user(struct virtio_blk *blk, const struct block_request *io)
{
	static const char *const names[] = { [BLOCK_READ] = "reading",
					     [BLOCK_WRITE] = "writing",
					     [BLOCK_FLUSH] = "flushing",
					     [BLOCK_DISCARD] = "discarding",
					     [BLOCK_ZERO] = "writing zeroes" };

	const struct vm_observer *observer = &blk->virtio.dev.vm->observer;

	if (io->error && io->error != blk->last_error) {
		log_error(
			"disk '%s' ('%s'): %s %llu bytes at %llu: %s; the guest gets an I/O error",
			blk->virtio.id, blk->path, names[io->op], (unsigned long long)io->bytes,
			(unsigned long long)io->offset, strerror(io->error));
		if (observer->disk_failed)
			observer->disk_failed(observer->opaque, blk->virtio.id,
					      io->op == BLOCK_READ ? "read" : "write", io->error);
	}
	blk->last_error = io->error;
}

static bool begin(struct virtio_blk *blk, struct blk_request *req, enum block_op op,
		  uint64_t sector, uint64_t bytes)
{
	uint64_t sectors = bytes >> SECTOR_BITS;

	if (bytes & ((1u << SECTOR_BITS) - 1) || !range_within(sector, sectors, blk->sectors))
		return false;
	req->io.op = op;
	req->io.offset = sector << SECTOR_BITS;
	req->io.bytes = bytes;
	block_submit(blk->block, &req->io);
	return true;
}

static bool begin_transfer(struct virtio_blk *blk, struct blk_request *req, bool write,
			   uint64_t sector)
{
	uint64_t bytes = write ? element_out_bytes(&req->elem) - HEADER_BYTES
			       : element_in_bytes(&req->elem) - STATUS_BYTES;

	req->io.iov = req->iov;
	req->io.niov = element_slice(&req->elem, !write, write ? HEADER_BYTES : 0, bytes, req->iov);
	return bytes && begin(blk, req, write ? BLOCK_WRITE : BLOCK_READ, sector, bytes);
}

/* Discard, or write zeroes: one range. */
static uint8_t begin_range(struct virtio_blk *blk, struct blk_request *req, bool zero)
{
	uint8_t range[RANGE_BYTES];
	uint32_t sectors, flags;

	if (element_out_bytes(&req->elem) != HEADER_BYTES + RANGE_BYTES)
		return VIRTIO_BLK_S_UNSUPP;
	element_read(&req->elem, HEADER_BYTES, range, sizeof(range));
	sectors = get_le32(range + 8);
	flags = get_le32(range + 12);
	if (flags & ~(zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	req->io.may_unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	if (!sectors || sectors > RANGE_SECTORS_MAX ||
	    !begin(blk, req, zero ? BLOCK_ZERO : BLOCK_DISCARD, get_le64(range),
		   (uint64_t)sectors << SECTOR_BITS))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static void get_id(struct virtio_blk *blk, struct blk_request *req)
{
	char id[VIRTIO_BLK_ID_BYTES] = "";
	uint64_t room = element_in_bytes(&req->elem) - STATUS_BYTES;

	memcpy(id, blk->virtio.id, MIN_OF(strlen(blk->virtio.id), sizeof(id)));
	element_write(&req->elem, 0, id, MIN_OF(room, sizeof(id)));
}

/* Begins a request of the list, or answers it. */
static void start(struct virtio_blk *blk, struct blk_request *req)
{
	uint8_t header[HEADER_BYTES], status = VIRTIO_BLK_S_OK;
	uint64_t sector;
	uint32_t type;

	req->begun = true;
	req->io = (struct block_request){ .op = BLOCK_FLUSH };
	element_read(&req->elem, 0, header, sizeof(header));
	type = get_le32(header);
	sector = get_le64(header + 8);
	if (!block_take_running(blk->block, NULL)) {
		answer(blk, req, VIRTIO_BLK_S_IOERR); /* resume() has told the user why */
		return;
	}
	switch (type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		if ((type == VIRTIO_BLK_T_IN || !blk->read_only) &&
		    begin_transfer(blk, req, type == VIRTIO_BLK_T_OUT, sector))
			return;
		status = VIRTIO_BLK_S_IOERR;
		break;
	case VIRTIO_BLK_T_FLUSH:
		begin(blk, req, BLOCK_FLUSH, 0, 0);
		return;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		status = blk->read_only ? VIRTIO_BLK_S_UNSUPP
					: begin_range(blk, req, type == VIRTIO_BLK_T_WRITE_ZEROES);
		if (status == VIRTIO_BLK_S_OK)
			return;
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(blk, req);
		break;
	default:
		status = VIRTIO_BLK_S_UNSUPP;
	}
	answer(blk, req, status);
}

/* Is there a header to read and a byte to answer into? */
static bool has_ends(const struct virtqueue_element *elem)
{
	return element_out_bytes(elem) >= HEADER_BYTES && element_in_bytes(elem) >= STATUS_BYTES;
}

static bool has_room(struct virtio_device *v)
{
	struct virtio_blk *blk = blk_of(v);

	blk->held_back = blk->in_flight == VIRTIO_BLK_IN_FLIGHT_MAX;
	return !blk->held_back;
}

static void serve(struct virtio_device *v, struct virtqueue_element *elem)
{
	struct virtio_blk *blk = blk_of(v);
	struct blk_request *req;
	struct error *err = NULL;

	if (!has_ends(elem)) {
		error_set(&err, "chain %u has no room for a disk request", elem->head);
		virtio_break(v, err);
		return;
	}
	req = xcalloc(1, sizeof(*req));
	req->elem = *elem;
	TAILQ_INSERT_TAIL(&blk->requests, req, entry);
	blk->in_flight++;
	start(blk, req);
}

/* Answers what the host has done. What it has not done stays in the list. */
static void collect(struct virtio_blk *blk)
{
	struct block_request *io;

	while ((io = block_take_done(blk->block)) != NULL) {
		struct blk_request *req = container_of(io, struct blk_request, io);

		req->begun = io->error != ECANCELED;
		if (!req->begun)
			continue;
		tell_user(blk, io);
		answer(blk, req, io->error ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	}
	virtio_interrupt(&blk->virtio, QUEUE);
	if (blk->held_back && blk->in_flight < VIRTIO_BLK_IN_FLIGHT_MAX)
		virtio_kick_again(&blk->virtio, QUEUE);
}

/* The loop's thread. */
static void on_done(void *opaque)
{
	struct virtio_blk *blk = opaque;

	pthread_mutex_lock(&blk->virtio.lock);
	collect(blk);
	pthread_mutex_unlock(&blk->virtio.lock);
}

/* First what a pause has left in the list. This is the loop's thread: io_uring gives up what a thread has submitted that ends. */
static void blk_kicked(struct virtio_device *v, unsigned int queue)
{
	struct virtio_blk *blk = blk_of(v);
	struct blk_request *req, *next;

	if (blk->left_over)
		TAILQ_FOREACH_SAFE (req, &blk->requests, entry, next)
			if (!req->begun)
				start(blk, req);
	blk->left_over = false;
	virtio_serve(v, queue, &blk->elem, has_room, serve);
}

static void blk_forget(struct virtio_device *v)
{
	struct virtio_blk *blk = blk_of(v);

	block_drain(blk->block);
	while (block_take_done(blk->block))
		;
	while (!TAILQ_EMPTY(&blk->requests))
		drop(blk, TAILQ_FIRST(&blk->requests));
}

static const struct virtio_ops blk_ops = {
	.device_id = VIRTIO_ID_BLOCK,
	.nqueues = 1,
	.kicked = blk_kicked,
	.forget = blk_forget,
};

/* --- being a device --- */

static void write_config(struct virtio_blk *blk)
{
	uint8_t *c = blk->virtio.config;

	blk->virtio.config_bytes = offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4;
	put_le64(c + offsetof(struct virtio_blk_config, capacity), blk->sectors);
	put_le32(c + offsetof(struct virtio_blk_config, seg_max), VIRTQUEUE_SIZE_MAX - 2);
	put_le32(c + offsetof(struct virtio_blk_config, blk_size), 1u << SECTOR_BITS);
	put_le32(c + offsetof(struct virtio_blk_config, max_discard_sectors), RANGE_SECTORS_MAX);
	put_le32(c + offsetof(struct virtio_blk_config, max_discard_seg), 1);
	put_le32(c + offsetof(struct virtio_blk_config, discard_sector_alignment),
		 DISCARD_ALIGN_SECTORS);
	put_le32(c + offsetof(struct virtio_blk_config, max_write_zeroes_sectors),
		 RANGE_SECTORS_MAX);
	put_le32(c + offsetof(struct virtio_blk_config, max_write_zeroes_seg), 1);
	c[offsetof(struct virtio_blk_config, write_zeroes_may_unmap)] = 1;
}

static void blk_destroy(struct device *dev)
{
	struct virtio_blk *blk = blk_of_dev(dev);

	blk_forget(&blk->virtio);
	TAILQ_REMOVE(&blk->virtio.dev.vm->disks, &blk->bitmaps, entry);
	virtio_release(&blk->virtio);
	block_close(blk->block);
	disk_bitmaps_release(&blk->bitmaps);
	free(blk->path);
	free(blk);
}

static struct device *blk_create(struct vm *vm, const struct device_config *config,
				 struct error **errp)
{
	struct virtio_blk *blk = xcalloc(1, sizeof(*blk));
	struct block_options options = { .path = config->path,
					 .read_only = config->read_only,
					 .incoming = config->incoming,
					 .bitmaps = &blk->bitmaps,
					 .loop = vm->loop,
					 .done = on_done,
					 .opaque = blk };
	uint64_t features = UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX |
			    UINT64_C(1) << VIRTIO_BLK_F_BLK_SIZE |
			    UINT64_C(1) << VIRTIO_BLK_F_FLUSH;

	features |= config->read_only ? UINT64_C(1) << VIRTIO_BLK_F_RO
				      : UINT64_C(1) << VIRTIO_BLK_F_DISCARD |
						UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES;
	TAILQ_INIT(&blk->requests);
	blk->read_only = config->read_only;
	if (!config->path)
		error_set(errp, "disk '%s': no image is known", config->id);
	else
		blk->block = block_open(&options, errp);
	if (!blk->block) {
		free(blk);
		return NULL;
	}
	blk->path = xstrdup(config->path);
	blk->sectors = block_bytes(blk->block) >> SECTOR_BITS;
	if (!virtio_init(&blk->virtio, vm, config, &blk_ops, features, errp)) {
		block_close(blk->block);
		free(blk->path);
		free(blk);
		return NULL;
	}
	disk_bitmaps_init(&blk->bitmaps, blk->virtio.id, blk->sectors << SECTOR_BITS);
	TAILQ_INSERT_TAIL(&vm->disks, &blk->bitmaps, entry);
	write_config(blk);
	return &blk->virtio.dev;
}

static void *blk_state(struct device *dev)
{
	return blk_of_dev(dev);
}

static void blk_reset(struct device *dev)
{
	virtio_reset(&blk_of_dev(dev)->virtio);
}

static void blk_pause(struct device *dev)
{
	virtio_pause(&blk_of_dev(dev)->virtio);
}

static void blk_drain(struct device *dev)
{
	struct virtio_blk *blk = blk_of_dev(dev);

	/* Not under the lock: while the host's disk is at work, the loop's thread goes on. */
	block_drain(blk->block);
	pthread_mutex_lock(&blk->virtio.lock);
	collect(blk);
	block_leave_running(blk->block);
	pthread_mutex_unlock(&blk->virtio.lock);
}

static void blk_resume(struct device *dev)
{
	struct virtio_blk *blk = blk_of_dev(dev);
	struct error *err = NULL;

	pthread_mutex_lock(&blk->virtio.lock);
	blk->left_over = true;
	if (!block_take_running(blk->block, &err))
		log_error("disk '%s' ('%s'): %s; the guest gets I/O errors until it does not",
			  blk->virtio.id, blk->path, error_msg(err));
	error_free(err);
	pthread_mutex_unlock(&blk->virtio.lock);
	virtio_resume(&blk->virtio);
}

void virtio_blk_query(struct device *dev, struct virtio_blk_info *info)
{
	struct virtio_blk *blk = blk_of_dev(dev);

	pthread_mutex_lock(&blk->virtio.lock);
	*info = (struct virtio_blk_info){
		.id = blk->virtio.id,
		.path = blk->path,
		.bytes = blk->sectors << SECTOR_BITS,
		.read_only = blk->read_only,
		.locked = !blk->virtio.paused,
		.engine = block_engine_name(blk->block),
		.in_flight = blk->in_flight,
		.errors = blk->errors,
		.bitmaps = &blk->bitmaps,
		.block = blk->block,
	};
	pthread_mutex_unlock(&blk->virtio.lock);
}

/* --- state --- */

static const struct vmstate_field request_fields[] = {
	VMSTATE_STRUCT(elem, struct blk_request, virtqueue_element_vmstate,
		       struct virtqueue_element),
	VMSTATE_END,
};
static const struct vmstate_desc request_vmstate = {
	.name = "virtio-blk-request",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = request_fields,
};
static const struct vmstate_list request_list =
	VMSTATE_TAILQ_OF(struct blk_request, entry, request_vmstate, VIRTIO_BLK_IN_FLIGHT_MAX);

static bool blk_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct virtio_blk *blk = opaque;
	struct virtqueue *vq = &blk->virtio.queues[QUEUE];
	struct blk_request *req;
	unsigned int n = 0;

	(void)version_id;
	if (!blk->sectors || blk->sectors > block_bytes(blk->block) >> SECTOR_BITS) {
		error_set(errp,
			  "the guest's disk has %llu sectors of %d bytes, and the image '%s' here "
			  "has %llu",
			  (unsigned long long)blk->sectors, 1 << SECTOR_BITS, blk->path,
			  (unsigned long long)block_bytes(blk->block) >> SECTOR_BITS);
		return false;
	}
	TAILQ_FOREACH (req, &blk->requests, entry) {
		if (!vq->ready || !virtqueue_element_map(vq, &req->elem, errp) ||
		    !has_ends(&req->elem)) {
			if (errp && !*errp)
				error_set(errp, "a request that no driver can have made");
			error_prefix(errp, "requests[%u]: ", n);
			return false;
		}
		n++;
	}
	blk->in_flight = n;
	if (!disk_bitmaps_resize(&blk->bitmaps, blk->sectors << SECTOR_BITS, errp))
		return false;
	write_config(blk);
	return true;
}

static const struct vmstate_field blk_fields[] = {
	VMSTATE_STRUCT(virtio, struct virtio_blk, virtio_vmstate, struct virtio_device),
	VMSTATE_ONE(UINT64, sectors, struct virtio_blk),
	VMSTATE_QTAILQ(requests, struct virtio_blk, request_list, struct blk_request),
	VMSTATE_END,
};
static const struct vmstate_desc blk_vmstate = {
	.name = "virtio-blk",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = blk_fields,
	.post_load = blk_post_load,
};

const struct device_class virtio_blk_class = {
	.name = "virtio-blk",
	.compatible = "virtio,mmio",
	.kind = "block",
	.vmstate = &blk_vmstate,
	.create = blk_create,
	.state = blk_state,
	.reset = blk_reset,
	.pause = blk_pause,
	.drain = blk_drain,
	.resume = blk_resume,
	.destroy = blk_destroy,
};
