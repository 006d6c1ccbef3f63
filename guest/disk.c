/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * disk.c - writes and reads a virtio disk without a break, and checks what comes back.
 *
 * The driver for the first virtio-mmio device (virtio 1.2, sections 4.2 and 5.2): one queue, polled.
 * SLOTS requests are in flight at a time, each for another block of 4 KiB. A block's content tells its
 * number and how often it was written, so that a write that was lost, or done again after a later one,
 * is seen when it is read. Every answer must be to a request that is in flight.
 *
 *	blocks=N	default 64; of 4 KiB, from the disk's beginning
 *	flush=N		each so many requests one is a flush; default 16
 *	used=1		the disk is not new, as after a reset: what a block holds is known once it was written
 *	run=MS		then all blocks are read and checked once more; 0 (default): when a byte
 *			comes on COM1
 *
 * A lap is LAP answers. Damage is FERRY_GUEST_SAYS_DAMAGED with the block in place of the page.
 */
#include "lib.h"

#define DEVICE			0xd0000000ul
#define MAGIC			0x74726976
#define ID_BLOCK		2
#define REG_MAGIC		0x000
#define REG_VERSION		0x004
#define REG_DEVICE_ID		0x008
#define REG_DRIVER_FEATURES	0x020
#define REG_DRIVER_FEATURES_SEL	0x024
#define REG_QUEUE_SEL		0x030
#define REG_QUEUE_NUM		0x038
#define REG_QUEUE_READY		0x044
#define REG_QUEUE_NOTIFY	0x050
#define REG_STATUS		0x070
#define REG_QUEUE_DESC		0x080
#define REG_QUEUE_DRIVER	0x090
#define REG_QUEUE_DEVICE	0x0a0
#define REG_CAPACITY		0x100
#define STATUS_FEATURES_OK	0x0b	/* with acknowledge and driver */
#define STATUS_DRIVER_OK	0x0f
#define FEATURES_HIGH		1	/* VERSION_1 */
#define FEATURES_LOW		0x200	/* FLUSH */

#define DESC_NEXT		1
#define DESC_WRITE		2
#define QUEUE_SIZE		32	/* three descriptors a slot */
#define SLOTS			8
#define TYPE_IN			0
#define TYPE_OUT		1
#define TYPE_FLUSH		4
#define BLOCK_BYTES		4096u
#define BLOCKS_MAX		1024u
#define LAP			1024u

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct used_elem {
	uint32_t id, len;
};

struct slot {
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;
	volatile uint8_t status;
	bool in_flight;
	uint32_t block;
	uint64_t *data;
};

struct disk {
	struct desc *desc;
	volatile uint16_t *avail;	/* flags, idx, ring */
	volatile uint16_t *used;	/* flags, idx, then used_elem */
	uint16_t avail_idx, used_idx;
	uint32_t kicked;
	struct slot *slots;
	uint32_t *written;		/* of each block: how often */
	bool *busy;			/* a request for it is in flight */
	uint64_t blocks, used_before, answers, random;
};

const char payload_banner[] = "disk";

static uint32_t reg(unsigned int offset)
{
	return *(volatile uint32_t *)(DEVICE + offset);
}

static void set_reg(unsigned int offset, uint32_t value)
{
	*(volatile uint32_t *)(DEVICE + offset) = value;
}

static void set_address(unsigned int offset, const volatile void *p)
{
	set_reg(offset, (uint32_t)(uint64_t)p);
	set_reg(offset + 4, (uint32_t)((uint64_t)p >> 32));
}

static _Noreturn void damaged(uint32_t block, const char *what)
{
	say(FERRY_GUEST_SAYS_DAMAGED "%u: %s", block, what);
	leave(FERRY_GUEST_EXIT_DAMAGED);
}

static void start_device(struct guest *guest, struct disk *d)
{
	map_device(guest, DEVICE);
	if (reg(REG_MAGIC) != MAGIC || reg(REG_VERSION) != 2 || reg(REG_DEVICE_ID) != ID_BLOCK ||
	    reg(REG_CAPACITY) < d->blocks * (BLOCK_BYTES / 512)) {
		say("no disk of %lu blocks", d->blocks);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	d->desc = alloc_pages(guest, QUEUE_SIZE * sizeof(*d->desc));
	d->avail = alloc_pages(guest, PAGE_BYTES);
	d->used = alloc_pages(guest, PAGE_BYTES);
	d->slots = alloc_pages(guest, SLOTS * sizeof(*d->slots));
	d->written = alloc_pages(guest, BLOCKS_MAX * sizeof(*d->written));
	d->busy = alloc_pages(guest, BLOCKS_MAX * sizeof(*d->busy));
	for (unsigned int i = 0; i < SLOTS; i++)
		d->slots[i].data = alloc_pages(guest, BLOCK_BYTES);
	set_reg(REG_STATUS, 0);
	set_reg(REG_DRIVER_FEATURES_SEL, 0);
	set_reg(REG_DRIVER_FEATURES, FEATURES_LOW);
	set_reg(REG_DRIVER_FEATURES_SEL, 1);
	set_reg(REG_DRIVER_FEATURES, FEATURES_HIGH);
	set_reg(REG_STATUS, STATUS_FEATURES_OK);
	set_reg(REG_QUEUE_SEL, 0);
	set_reg(REG_QUEUE_NUM, QUEUE_SIZE);
	set_address(REG_QUEUE_DESC, d->desc);
	set_address(REG_QUEUE_DRIVER, d->avail);
	set_address(REG_QUEUE_DEVICE, d->used);
	set_reg(REG_QUEUE_READY, 1);
	set_reg(REG_STATUS, STATUS_DRIVER_OK);
	if (reg(REG_STATUS) != STATUS_DRIVER_OK) {
		say("the disk does not start: status 0x%x", reg(REG_STATUS));
		leave(FERRY_GUEST_EXIT_STALLED);
	}
}

/* Word k of a block; block, count and place all show. A block that was never written is all zero. */
static uint64_t word_of(uint32_t block, uint32_t count, uint32_t k)
{
	return count ? ((uint64_t)block << 40 | (uint64_t)count << 12 | k) * 0x9e3779b97f4a7c15ul : 0;
}

static void put_desc(struct disk *d, unsigned int i, const volatile void *p, uint32_t len,
		     uint16_t flags)
{
	d->desc[i] = (struct desc){ (uint64_t)p, len, flags, (uint16_t)(i + 1) };
}

static void submit(struct disk *d, unsigned int n, uint32_t type, uint32_t block)
{
	struct slot *s = &d->slots[n];
	unsigned int i = n * 3;

	s->block = block;
	s->header.type = type;
	s->header.sector = type == TYPE_FLUSH ? 0 : (uint64_t)block * (BLOCK_BYTES / 512);
	s->status = 0xee;
	s->in_flight = true;
	if (type != TYPE_FLUSH)
		d->busy[block] = true;
	if (type == TYPE_OUT) {
		d->written[block]++;
		for (uint32_t k = 0; k < BLOCK_BYTES / 8; k++)
			s->data[k] = word_of(block, d->written[block], k);
	} else {
		memset(s->data, 0xa5, BLOCK_BYTES);
	}
	put_desc(d, i, &s->header, 16, DESC_NEXT);
	if (type == TYPE_FLUSH)
		d->desc[i].next = (uint16_t)(i + 2);
	put_desc(d, i + 1, s->data, BLOCK_BYTES, DESC_NEXT | (type == TYPE_IN ? DESC_WRITE : 0));
	put_desc(d, i + 2, &s->status, 1, DESC_WRITE);
	d->avail[2 + d->avail_idx % QUEUE_SIZE] = (uint16_t)i;
	__asm__ volatile("" : : : "memory");	/* stores of x86 stay in order */
	d->avail[1] = ++d->avail_idx;
	set_reg(REG_QUEUE_NOTIFY, 0);
}

static void take_answer(struct disk *d)
{
	const struct used_elem *e = (const struct used_elem *)(d->used + 2);
	uint32_t id = e[d->used_idx++ % QUEUE_SIZE].id;
	struct slot *s = &d->slots[id / 3 % SLOTS];

	if (id % 3 || id / 3 >= SLOTS || !s->in_flight)
		damaged(s->block, "an answer to nothing");
	if (s->status)
		damaged(s->block, s->status == 0xee ? "no status" : "an I/O error");
	if (s->header.type == TYPE_IN && (d->written[s->block] || !d->used_before))
		for (uint32_t k = 0; k < BLOCK_BYTES / 8; k++)
			if (s->data[k] != word_of(s->block, d->written[s->block], k))
				damaged(s->block, "is not what was written last");
	if (s->header.type != TYPE_FLUSH)
		d->busy[s->block] = false;
	s->in_flight = false;
	if (++d->answers % LAP == 0)
		say(FERRY_GUEST_SAYS_LAP "%lu", d->answers / LAP);
}

static uint32_t free_block(struct disk *d)
{
	uint64_t block;

	do {
		d->random = d->random * 6364136223846793005ul + 1442695040888963407ul;
		block = (d->random >> 33) % d->blocks;
	} while (d->busy[block]);
	return (uint32_t)block;
}

static void drain(struct disk *d)
{
	while (d->used_idx != d->avail_idx) {
		if (d->used[1] != d->used_idx)
			take_answer(d);
		cpu_relax();
	}
}

static void check_all(struct disk *d)
{
	drain(d);
	for (uint32_t block = 0; block < d->blocks; block++) {
		submit(d, 0, TYPE_IN, block);
		drain(d);
	}
}

void payload_main(struct guest *guest)
{
	static struct disk disk;
	uint64_t flush = 16, run_ms = 0, start, beats = 0, requests = 0;
	struct disk *d = &disk;
	struct beat beat;
	const struct option options[] = {
		{ "blocks", &d->blocks, NULL },
		{ "flush", &flush, NULL },
		{ "used", &d->used_before, NULL },
		{ "run", &run_ms, NULL },
	};

	d->blocks = 64;
	parse_options(guest, options, ARRAY_SIZE(options));
	if (d->blocks < 2 * SLOTS || d->blocks > BLOCKS_MAX) {
		say("bad value: blocks=%lu", d->blocks);
		leave(FERRY_GUEST_EXIT_BAD_OPTION);
	}
	calibrate_tsc(guest);
	start_device(guest, d);
	say(FERRY_GUEST_SAYS_WORKING);
	beat_init(&beat, guest, 1);
	start = rdtsc();
	while (!run_ms || rdtsc() - start < run_ms * guest->tsc_per_ms) {
		beat_poll(&beat, rdtsc());
		if (!run_ms && beat.number != beats && has_input())
			break;
		beats = beat.number;
		while (d->used[1] != d->used_idx)
			take_answer(d);
		for (unsigned int i = 0; i < SLOTS; i++) {
			uint32_t type = ++requests & 1 ? TYPE_OUT : TYPE_IN;

			if (d->slots[i].in_flight)
				continue;
			if (flush && requests % flush == 0)
				submit(d, i, TYPE_FLUSH, 0);
			else
				submit(d, i, type, free_block(d));
		}
	}
	check_all(d);
	say(FERRY_GUEST_SAYS_OK "%lu answers", d->answers);
	leave(FERRY_GUEST_EXIT_OK);
}
