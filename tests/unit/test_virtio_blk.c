/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the disk does what section 5.2 says, however the driver cuts its requests into segments; each
 * request is answered once, also if the device travels, is reset or loses its image in the middle.
 *
 * How: the driver of virtio_support.h; the image behind the device is the test's own, in place of
 * devices/backend/block.c, so that a request is done, fails, or stays undone when the test says so.
 */
#include <errno.h>
#include <linux/virtio_blk.h>

#include "devices/backend/block.h"
#include "devices/virtio/blk.h"
#include "tests/unit/virtio_support.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"

SUITE(virtio_blk);

#define SEED 0x5eed0440
#define SECTORS 256
#define HEADERS 0x80000u /* of requests, 64 bytes each: header, range, status */
#define SLOTS 128

/* --- the image: what block.h promises, and no more --- */

struct block {
	struct block_options o;
	uint8_t *data; /* of the test; two devices may share it */
	struct block_requests held, finished;
	unsigned int nheld, drain_does, calls;
	bool running, may_run;
	int fails; /* with which errno */
};

/* What the next block_open() gives. */
struct image {
	uint8_t data[SECTORS * 512];
	uint64_t bytes;
	struct block *last;
};
static struct image *image;

struct block *block_open(const struct block_options *o, struct error **errp)
{
	struct block *b = calloc(1, sizeof(*b));

	(void)errp;
	b->o = *o;
	b->data = image->data;
	b->may_run = true;
	b->running = !o->incoming;
	TAILQ_INIT(&b->held);
	TAILQ_INIT(&b->finished);
	image->last = b;
	return b;
}

void block_close(struct block *b)
{
	cr_assert(TAILQ_EMPTY(&b->held), "closed with requests in flight");
	free(b);
}

uint64_t block_bytes(const struct block *b)
{
	(void)b;
	return image->bytes;
}

const char *block_engine_name(const struct block *b)
{
	(void)b;
	return "test";
}

void block_submit(struct block *b, struct block_request *req)
{
	cr_assert(b->running, "a request without the lock");
	cr_assert_leq(req->offset + req->bytes, sizeof(image->data));
	TAILQ_INSERT_TAIL(&b->held, req, entry);
	b->nheld++;
}

static void perform(struct block *b, struct block_request *req)
{
	uint64_t at = req->offset, sum = 0;

	b->calls++;
	for (unsigned int i = 0; i < req->niov; i++) {
		if (req->op == BLOCK_WRITE)
			memcpy(b->data + at, req->iov[i].iov_base, req->iov[i].iov_len);
		else if (req->op == BLOCK_READ)
			memcpy(req->iov[i].iov_base, b->data + at, req->iov[i].iov_len);
		at += req->iov[i].iov_len;
		sum += req->iov[i].iov_len;
	}
	if (req->op <= BLOCK_WRITE)
		cr_assert_eq(sum, req->bytes);
	if (req->op == BLOCK_ZERO || req->op == BLOCK_DISCARD)
		memset(b->data + req->offset, 0, req->bytes);
}

static void come_back(struct block *b, struct block_request *req, int error)
{
	TAILQ_REMOVE(&b->held, req, entry);
	b->nheld--;
	if (!error)
		perform(b, req);
	req->error = error;
	TAILQ_INSERT_TAIL(&b->finished, req, entry);
}

struct block_request *block_take_done(struct block *b)
{
	struct block_request *req = TAILQ_FIRST(&b->finished);

	if (req)
		TAILQ_REMOVE(&b->finished, req, entry);
	return req;
}

static void *query(void *dev)
{
	struct virtio_blk_info info;

	virtio_blk_query(dev, &info);
	return NULL;
}

/* Who asks while the device is drained gets an answer: the host's disk may take long. NULL: nobody asks. */
static struct device *asked;

void block_drain(struct block *b)
{
	pthread_t thread;

	if (asked) {
		cr_assert_eq(pthread_create(&thread, NULL, query, asked), 0);
		pthread_join(thread, NULL);
	}
	while (b->nheld)
		come_back(b, TAILQ_FIRST(&b->held),
			  b->drain_does && b->drain_does-- ? b->fails : ECANCELED);
}

bool block_take_running(struct block *b, struct error **errp)
{
	b->running |= b->may_run;
	if (!b->running)
		error_set(errp, "another machine writes to it");
	return b->running;
}

void block_leave_running(struct block *b)
{
	cr_assert_eq(b->nheld, 0);
	b->running = false;
}

/* The host does n requests that it holds, from the first or the last on, and the device hears of it. */
static void host_does(struct block *b, unsigned int n, bool from_end)
{
	cr_assert_leq(n, b->nheld);
	while (n--)
		come_back(b,
			  from_end ? TAILQ_LAST(&b->held, block_requests) : TAILQ_FIRST(&b->held),
			  b->fails);
	b->o.done(b->o.opaque);
}

/* --- machine and driver --- */

#define DISK(m, ro)                        \
	struct virtio_machine m = { 0 };   \
	VIRTIO_MACHINE_OR_SKIP(&m, false); \
	struct block *m##_block __attribute__((unused)) = add_disk(&m, ro, false)

static struct block *add_disk(struct virtio_machine *m, bool ro, bool incoming)
{
	struct device_config config = {
		.path = "/the/image", .read_only = ro, .incoming = incoming, .id = "disk7"
	};
	struct error *err = NULL;

	if (!image) {
		image = calloc(1, sizeof(*image));
		image->bytes = sizeof(image->data);
	}
	expect_ok(add_virtio(m, &virtio_blk_class, &config, &err), err);
	return image->last;
}

static void end(struct virtio_machine *m)
{
	virtio_machine_end(m);
	free(image);
	image = NULL;
}

/* Request number i has its header and status here. */
static uint64_t header_at(unsigned int i)
{
	return HEADERS + i * 64;
}

static uint8_t *status_of(struct virtio_machine *m, unsigned int i)
{
	return data_at(m, header_at(i) + 48);
}

static void put_header(struct virtio_machine *m, unsigned int i, uint32_t type, uint64_t sector)
{
	uint8_t *h = data_at(m, header_at(i));

	put_le32(h, type);
	put_le32(h + 4, 0);
	put_le64(h + 8, sector);
	*status_of(m, i) = 0xee;
}

/* Header, data, status: three descriptors from 3 * i on. */
static void offer_plain(struct virtio_machine *m, unsigned int i, uint32_t type, uint64_t sector,
			uint64_t gpa, uint32_t len)
{
	uint16_t d = (uint16_t)(i * 3);
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;

	put_header(m, i, type, sector);
	put_desc(m, 0, d, header_at(i), 16, VRING_DESC_F_NEXT);
	put_desc(m, 0, (uint16_t)(d + 1), gpa, len,
		 VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0));
	put_desc(m, 0, (uint16_t)(d + 2), header_at(i) + 48, 1, VRING_DESC_F_WRITE);
	offer(m, 0, d);
}

/* The next answer is to request i, with that status. */
static void expect_answer(struct virtio_machine *m, unsigned int i, uint8_t status)
{
	cr_assert(has_used(m, 0), "request %u is not answered", i);
	cr_assert_eq(next_used(m, 0).id, i * 3);
	cr_assert_eq(*status_of(m, i), status, "request %u: status %u, expected %u", i,
		     *status_of(m, i), status);
}

/* One that the device answers by itself, or that the host does at once. */
static void one(struct virtio_machine *m, uint32_t type, uint64_t sector, uint64_t gpa,
		uint32_t len, uint8_t status)
{
	struct block *b = image->last;

	offer_plain(m, 0, type, sector, gpa, len);
	kick(m, 0);
	if (b->nheld)
		host_does(b, b->nheld, false);
	expect_answer(m, 0, status);
}

static void put_range(struct virtio_machine *m, uint64_t sector, uint32_t n, uint32_t flags)
{
	put_le64(data_at(m, DRIVER_DATA), sector);
	put_le32(data_at(m, DRIVER_DATA + 8), n);
	put_le32(data_at(m, DRIVER_DATA + 12), flags);
}

Test(virtio_blk, the_driver_sees_a_disk)
{
	for (int ro = 0; ro < 2; ro++) {
		DISK(m, ro);
		uint64_t features = offered_features(&m), base = VIRTIO_BASE + VIRTIO_MMIO_CONFIG;

		cr_assert_eq(reg(&m, VIRTIO_MMIO_DEVICE_ID), 2);
		cr_assert_eq(features >> VIRTIO_BLK_F_RO & 1, ro);
		cr_assert_eq(features >> VIRTIO_BLK_F_DISCARD & 1, !ro);
		cr_assert_eq(features >> VIRTIO_BLK_F_WRITE_ZEROES & 1, !ro);
		cr_assert_eq(features >> VIRTIO_BLK_F_FLUSH & 1, 1);
		cr_assert_eq(bus_read(&m.vm.mmio, base, 8), SECTORS);
		cr_assert_eq(bus_read(&m.vm.mmio, base + 4, 4), 0);
		cr_assert_eq(bus_read(&m.vm.mmio, base + 12, 4), VIRTQUEUE_SIZE_MAX - 2);
		cr_assert_eq(bus_read(&m.vm.mmio, base + 20, 4), 512);
		cr_assert_eq(bus_read(&m.vm.mmio, base + 56, 1), 1);
		cr_assert_eq(bus_read(&m.vm.mmio, base + 60, 4), 0, "behind the end");
		end(&m);
	}
}

/* A request as random segments: header, data and status may share them or be cut anywhere. */
static void offer_cut(struct virtio_machine *m, struct prng *p, bool write, uint64_t sector,
		      uint32_t bytes)
{
	uint64_t out = 16 + (write ? bytes : 0), in = 1 + (write ? 0 : bytes), done = 0;
	uint64_t out_at = DRIVER_DATA, in_at = DRIVER_DATA + 0x40000;
	uint16_t d = 0;

	put_le32(data_at(m, out_at), write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
	put_le64(data_at(m, out_at + 8), sector);
	while (done < out + in) {
		bool is_in = done >= out;
		uint64_t left = is_in ? out + in - done : out - done;
		uint64_t n = d > 60 ? left : prng_below(p, left) + 1;

		put_desc(m, 0, d++, is_in ? in_at + done - out : out_at + done, (uint32_t)n,
			 VRING_DESC_F_NEXT | (is_in ? VRING_DESC_F_WRITE : 0));
		done += n;
	}
	m->q[0].desc[d - 1].flags &= (uint16_t)~VRING_DESC_F_NEXT;
	offer(m, 0, 0);
}

Test(virtio_blk, requests_cut_anyhow_read_and_write)
{
	static uint8_t shadow[SECTORS * 512];
	struct prng p = { SEED };

	DISK(m, false);
	start_driver(&m, 0, 1, SLOTS);
	for (unsigned int round = 0; round < 2000; round++) {
		bool write = prng_below(&p, 2);
		uint64_t sector = prng_below(&p, SECTORS);
		uint32_t bytes = (uint32_t)(prng_below(&p, SECTORS - sector) + 1) * 512;
		uint8_t *data = data_at(&m, DRIVER_DATA + (write ? 16 : 0x40000));
		uint8_t *status = data_at(&m, DRIVER_DATA + 0x40000 + (write ? 0 : bytes));

		prng_fill(&p, data, bytes);
		*status = 0xee;
		if (write)
			memcpy(shadow + sector * 512, data, bytes);
		offer_cut(&m, &p, write, sector, bytes);
		kick(&m, 0);
		host_does(m_block, 1, false);
		cr_assert_eq(next_used(&m, 0).len, write ? 1 : bytes + 1);
		cr_assert_eq(*status, VIRTIO_BLK_S_OK);
		cr_assert_eq(memcmp(data, shadow + sector * 512, bytes), 0, "seed 0x%x round %u",
			     SEED, round);
	}
	cr_assert_eq(memcmp(shadow, image->data, sizeof(shadow)), 0);
	end(&m);
}

Test(virtio_blk, the_other_requests)
{
	static const char id[20] = "disk7";

	DISK(m, false);
	start_driver(&m, 0, 1, SLOTS);
	memset(image->data, 0x55, sizeof(image->data));
	one(&m, VIRTIO_BLK_T_FLUSH, 0, DRIVER_DATA, 0, VIRTIO_BLK_S_OK);
	cr_assert_eq(m_block->calls, 1);
	memset(data_at(&m, DRIVER_DATA), 0xaa, 64);
	one(&m, VIRTIO_BLK_T_GET_ID, 0, DRIVER_DATA, 20, VIRTIO_BLK_S_OK);
	cr_assert_eq(memcmp(data_at(&m, DRIVER_DATA), id, 20), 0);
	cr_assert_eq(*data_at(&m, DRIVER_DATA + 20), 0xaa);
	one(&m, VIRTIO_BLK_T_GET_ID, 0, DRIVER_DATA, 3, VIRTIO_BLK_S_OK);
	put_range(&m, 8, 16, 0);
	one(&m, VIRTIO_BLK_T_DISCARD, 0, DRIVER_DATA, 16, VIRTIO_BLK_S_OK);
	put_range(&m, 100, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	one(&m, VIRTIO_BLK_T_WRITE_ZEROES, 0, DRIVER_DATA, 16, VIRTIO_BLK_S_OK);
	for (unsigned int i = 0; i < sizeof(image->data); i++) {
		unsigned int s = i / 512;

		cr_assert_eq(image->data[i], (s >= 8 && s < 24) || s == 100 ? 0 : 0x55);
	}
	end(&m);
}

Test(virtio_blk, requests_that_cannot_be_are_answered_with_an_error)
{
	static const struct {
		uint32_t type, len;
		uint64_t sector;
		uint64_t range_sector;
		uint32_t range_n, range_flags;
		uint8_t status;
	} rows[] = {
		{ VIRTIO_BLK_T_IN, 512, SECTORS, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 1024, SECTORS - 1, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 512, UINT64_MAX, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 512, UINT64_MAX >> 9, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 511, 0, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 513, 0, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 0, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 512, SECTORS, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 15, 0, 0, 1, 0, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 32, 0, 0, 1, 0, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 16, 0, 0, 1, 1, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 16, 0, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 16, 0, SECTORS, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 16, 0, UINT64_MAX, 2, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 16, 0, 0, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 16, 0, 0, 1, 2, VIRTIO_BLK_S_UNSUPP },
		{ 2, 512, 0, 0, 0, 0, VIRTIO_BLK_S_UNSUPP },
		{ UINT32_MAX, 512, 0, 0, 0, 0, VIRTIO_BLK_S_UNSUPP },
	};

	DISK(m, false);
	start_driver(&m, 0, 1, SLOTS);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		put_range(&m, rows[i].range_sector, rows[i].range_n, rows[i].range_flags);
		one(&m, rows[i].type, rows[i].sector, DRIVER_DATA, rows[i].len, rows[i].status);
		cr_assert_eq(m_block->calls, 0, "row %zu reached the image", i);
	}
	end(&m);
}

Test(virtio_blk, a_read_only_disk_is_not_written)
{
	DISK(m, true);
	start_driver(&m, 0, 1, SLOTS);
	put_range(&m, 0, 1, 0);
	one(&m, VIRTIO_BLK_T_OUT, 0, DRIVER_DATA, 512, VIRTIO_BLK_S_IOERR);
	one(&m, VIRTIO_BLK_T_DISCARD, 0, DRIVER_DATA, 16, VIRTIO_BLK_S_UNSUPP);
	one(&m, VIRTIO_BLK_T_WRITE_ZEROES, 0, DRIVER_DATA, 16, VIRTIO_BLK_S_UNSUPP);
	cr_assert_eq(m_block->calls, 0);
	one(&m, VIRTIO_BLK_T_IN, 0, DRIVER_DATA, 512, VIRTIO_BLK_S_OK);
	one(&m, VIRTIO_BLK_T_FLUSH, 0, DRIVER_DATA, 0, VIRTIO_BLK_S_OK);
	end(&m);
}

Test(virtio_blk, a_chain_without_room_for_an_answer_stops_the_device)
{
	for (int row = 0; row < 2; row++) {
		DISK(m, false);
		start_driver(&m, 0, 1, SLOTS);
		offer_plain(&m, 0, VIRTIO_BLK_T_OUT, 0, DRIVER_DATA, 512);
		if (row == 0) /* no status */
			m.q[0].desc[1].flags = 0;
		else /* half a header */
			m.q[0].desc[0] = (struct vring_desc){ HEADERS, 8, VRING_DESC_F_NEXT, 2 };
		kick(&m, 0);
		cr_assert(reg(&m, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
		cr_assert_not(has_used(&m, 0));
		start_driver(&m, 0, 1, SLOTS);
		one(&m, VIRTIO_BLK_T_OUT, 0, DRIVER_DATA, 512, VIRTIO_BLK_S_OK);
		cr_assert_eq(m_block->calls, 1);
		end(&m);
	}
}

static unsigned int lines;
static char last_line[512];

static void keep_line(enum log_level level, const char *line)
{
	if (level == LOG_ERROR)
		lines++;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

Test(virtio_blk, an_error_of_the_image_is_an_io_error_and_one_message)
{
	DISK(m, false);
	log_set_sink(keep_line, LOG_INFO);
	start_driver(&m, 0, 1, SLOTS);
	m_block->fails = ENOSPC;
	for (unsigned int i = 0; i < 5; i++)
		one(&m, VIRTIO_BLK_T_OUT, 3, DRIVER_DATA, 512, VIRTIO_BLK_S_IOERR);
	cr_assert_eq(lines, 1);
	cr_assert(strstr(last_line, "disk7") && strstr(last_line, "/the/image") &&
			  strstr(last_line, "No space left") && strstr(last_line, "1536"),
		  "%s", last_line);
	m_block->fails = EIO;
	one(&m, VIRTIO_BLK_T_IN, 3, DRIVER_DATA, 512, VIRTIO_BLK_S_IOERR);
	cr_assert_eq(lines, 2);
	m_block->fails = 0;
	one(&m, VIRTIO_BLK_T_IN, 3, DRIVER_DATA, 512, VIRTIO_BLK_S_OK);
	m_block->fails = EIO;
	one(&m, VIRTIO_BLK_T_IN, 3, DRIVER_DATA, 512, VIRTIO_BLK_S_IOERR);
	cr_assert_eq(lines, 3, "it had worked in between");
	end(&m);
}

/* --- in flight --- */

/* Write request i: its sector i gets bytes of its own. */
static void offer_write(struct virtio_machine *m, unsigned int i)
{
	memset(data_at(m, DRIVER_DATA + i * 512), (int)(i + 1), 512);
	offer_plain(m, i, VIRTIO_BLK_T_OUT, i, DRIVER_DATA + i * 512, 512);
}

static void offer_read(struct virtio_machine *m, unsigned int i)
{
	memset(image->data + i * 512, (int)(i + 1), 512);
	memset(data_at(m, DRIVER_DATA + i * 512), 0, 512);
	offer_plain(m, i, VIRTIO_BLK_T_IN, i, DRIVER_DATA + i * 512, 512);
}

static void expect_data(struct virtio_machine *m, unsigned int i)
{
	const uint8_t *where[] = { image->data + i * 512, data_at(m, DRIVER_DATA + i * 512) };

	for (unsigned int w = 0; w < 2; w++)
		for (unsigned int k = 0; k < 512; k++)
			cr_assert_eq(where[w][k], i + 1, "request %u", i);
}

Test(virtio_blk, answers_come_in_any_order_and_the_interrupt_with_them)
{
	DISK(m, false);
	start_driver(&m, 0, 1, SLOTS);
	for (unsigned int i = 0; i < 4; i++)
		offer_write(&m, i);
	kick(&m, 0);
	cr_assert_eq(m_block->nheld, 4);
	cr_assert_not(interrupted(&m));
	host_does(m_block, 2, true);
	cr_assert(interrupted(&m));
	expect_answer(&m, 3, 0);
	expect_answer(&m, 2, 0);
	cr_assert_not(has_used(&m, 0));
	host_does(m_block, 2, false);
	expect_answer(&m, 0, 0);
	expect_answer(&m, 1, 0);
	end(&m);
}

/* Indirect, so that more requests fit into the ring than the device takes at once. */
Test(virtio_blk, what_is_too_much_waits_in_the_queue)
{
	unsigned int answered = 0;

	DISK(m, false);
	start_driver(&m, UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC, 1, SLOTS);
	for (unsigned int i = 0; i < 100; i++) {
		uint64_t table = DRIVER_DATA + 0x80000 + i * 64;

		put_header(&m, i, VIRTIO_BLK_T_FLUSH, 0);
		((struct vring_desc *)data_at(&m, table))[0] =
			(struct vring_desc){ header_at(i), 16, VRING_DESC_F_NEXT, 1 };
		((struct vring_desc *)data_at(&m, table))[1] =
			(struct vring_desc){ header_at(i) + 48, 1, VRING_DESC_F_WRITE, 0 };
		put_desc(&m, 0, (uint16_t)i, table, 32, VRING_DESC_F_INDIRECT);
		offer(&m, 0, (uint16_t)i);
	}
	kick(&m, 0);
	cr_assert_eq(m_block->nheld, VIRTIO_BLK_IN_FLIGHT_MAX);
	while (m_block->nheld) {
		host_does(m_block, 1, false);
		cr_assert_eq(next_used(&m, 0).id, answered++);
		cr_assert_leq(m_block->nheld, VIRTIO_BLK_IN_FLIGHT_MAX);
	}
	cr_assert_eq(answered, 100);
	end(&m);
}

Test(virtio_blk, a_reset_forgets_what_is_in_flight)
{
	DISK(m, false);
	for (int by_machine = 0; by_machine < 2; by_machine++) {
		start_driver(&m, 0, 1, SLOTS);
		for (unsigned int i = 0; i < 8; i++)
			offer_read(&m, i);
		kick(&m, 0);
		m_block->drain_does = 3; /* they have begun, and end before the reset does */
		if (by_machine)
			devices_reset(&m.vm);
		else
			set_reg(&m, VIRTIO_MMIO_STATUS, 0);
		cr_assert_eq(m_block->nheld, 0);
		cr_assert_eq(reg(&m, VIRTIO_MMIO_STATUS), 0);
		cr_assert_not(has_used(&m, 0));
		m_block->o.done(m_block->o.opaque);
		cr_assert_not(has_used(&m, 0));
		cr_assert_not(interrupted(&m));
	}
	start_driver(&m, 0, 1, SLOTS);
	offer_write(&m, 9);
	kick(&m, 0);
	host_does(m_block, 1, false);
	expect_answer(&m, 9, 0);
	end(&m);
}

/* --- travelling --- */

#define N 12

/* N requests in flight at a; `does` of them end while the device is drained. */
static void pause_in_the_middle(struct virtio_machine *a, struct block *b, unsigned int does)
{
	start_driver(a, 0, 1, SLOTS);
	for (unsigned int i = 0; i < N; i++) {
		if (i % 2)
			offer_read(a, i);
		else
			offer_write(a, i);
	}
	kick(a, 0);
	cr_assert_eq(b->nheld, N);
	b->drain_does = does;
	asked = a->dev;
	devices_pause(&a->vm);
	asked = NULL;
	cr_assert_not(b->running, "the image is somebody else's now");
}

/* All N are answered, each once, in the order of their making. */
static void expect_all(struct virtio_machine *m)
{
	for (unsigned int i = 0; i < N; i++) {
		expect_answer(m, i, 0);
		expect_data(m, i);
	}
	cr_assert_not(has_used(m, 0));
}

Test(virtio_blk, requests_in_flight_travel_and_are_done_once)
{
	for (unsigned int does = 0; does <= N; does += 3) {
		struct virtio_machine b = { 0 };
		struct block *b_block;
		struct saved saved;

		DISK(a, false);
		VIRTIO_MACHINE_OR_SKIP(&b, false);
		b_block = add_disk(&b, false, true);
		devices_pause(&b.vm);
		pause_in_the_middle(&a, a_block, does);
		saved = save_device(&a);
		move_driver(&a, &b);
		load_ok(virtio_blk_class.vmstate, virtio_blk_class.state(b.dev), 1, &saved);
		cr_assert_eq(b_block->nheld, 0, "nothing is done before the guest is here");
		cr_assert_not(interrupted(&b), "nor told");
		devices_resume(&b.vm);
		cr_assert_eq(interrupted(&b), does > 0);
		cr_assert_eq(b_block->nheld, N - does);
		host_does(b_block, N - does, false);
		expect_all(&b);
		cr_assert_eq(a_block->calls, does);
		cr_assert_eq(b_block->calls, N - does);
		/* It goes on working. */
		offer_write(&b, 20);
		kick(&b, 0);
		host_does(b_block, 1, false);
		expect_answer(&b, 20, 0);
		free(saved.data);
		virtio_machine_end(&a);
		end(&b);
	}
}

Test(virtio_blk, requests_in_flight_are_done_here_if_the_migration_fails)
{
	for (unsigned int does = 0; does <= N; does += 4) {
		struct saved saved;

		DISK(a, false);
		pause_in_the_middle(&a, a_block, does);
		saved = save_device(&a);
		offer_write(&a, 20); /* in the ring, not taken */
		devices_resume(&a.vm);
		cr_assert(a_block->running, "the lock is taken back");
		cr_assert_eq(a_block->nheld, N - does + 1);
		host_does(a_block, N - does, false);
		expect_all(&a);
		host_does(a_block, 1, false);
		expect_answer(&a, 20, 0);
		cr_assert_eq(a_block->calls, N + 1);
		free(saved.data);
		end(&a);
	}
}

Test(virtio_blk, an_image_that_somebody_else_writes_is_not_touched)
{
	DISK(m, false);
	log_set_sink(keep_line, LOG_INFO);
	pause_in_the_middle(&m, m_block, 0);
	m_block->may_run = false;
	devices_resume(&m.vm);
	for (unsigned int i = 0; i < N; i++)
		expect_answer(&m, i, VIRTIO_BLK_S_IOERR);
	one(&m, VIRTIO_BLK_T_IN, 0, DRIVER_DATA, 512, VIRTIO_BLK_S_IOERR);
	cr_assert_eq(lines, 1);
	cr_assert(strstr(last_line, "another machine writes to it"), "%s", last_line);
	m_block->may_run = true;
	one(&m, VIRTIO_BLK_T_IN, 0, DRIVER_DATA, 512, VIRTIO_BLK_S_OK);
	end(&m);
}

/* A state that no source has sent. Row by row: how it is damaged, and what is said of it. */
Test(virtio_blk, a_state_that_cannot_be_is_refused)
{
	static const char *const texts[] = { "257 sectors", "requests[0]: chain 0: a segment at",
					     "requests[0]: chain 200 of", "no driver can have made",
					     "no driver can have made" };

	for (size_t row = 0; row < ARRAY_SIZE(texts); row++) {
		struct virtio_machine b = { 0 };
		struct error *err = NULL;
		struct saved saved;
		uint8_t *elem;

		DISK(a, false);
		VIRTIO_MACHINE_OR_SKIP(&b, false);
		add_disk(&b, false, true);
		devices_pause(&b.vm);
		start_driver(&a, 0, 1, SLOTS);
		offer_write(&a, 0);
		kick(&a, 0);
		devices_pause(&a.vm);
		saved = save_device(&a);
		/* The list is at the end: 1, head, nout, nsegs, 3 addresses, 3 lengths, 0. */
		elem = saved.data + saved.len - 1 - 12 - 24 - 10;
		cr_assert(elem[-1] == 1 && get_be32(elem + 6) == 3);
		switch (row) {
		case 0:
			put_be64(elem - 9, SECTORS + 1);
			break;
		case 1:
			put_be64(elem + 10, VIRTIO_RAM);
			break;
		case 2:
			put_be16(elem, 200);
			break;
		case 3:
			put_be32(elem + 2, 3); /* all to be read: no room for a status */
			break;
		default:
			put_be32(elem + 2, 0); /* no header */
		}
		cr_assert_not(load_from_bytes(virtio_blk_class.vmstate,
					      virtio_blk_class.state(b.dev), 1, saved.data,
					      saved.len, NULL, &err),
			      "row %zu", row);
		expect_error(err, texts[row]);
		free(saved.data);
		virtio_machine_end(&a);
		end(&b);
	}
}
