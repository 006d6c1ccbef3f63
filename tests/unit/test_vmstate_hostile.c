/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no stream, however broken, makes the loader crash, leak or accept what it cannot have
 * understood.
 *
 * How: a device with a field of every sort is saved. The stream is cut at every byte (each cut must
 * fail), every bit of it is turned over once, and noise of many kinds is loaded. A load that
 * succeeds nevertheless has understood all it took: what it made is saved again and must give the
 * bytes that were taken. Run under the sanitizers this finds overruns and leaks.
 */
#include "tests/unit/vmstate_support.h"
#include "vmm/base/queue.h"

SUITE(vmstate_hostile);

#define SEED 0x5eed0005

struct point {
	int16_t x;
	bool lit;
};

struct packet {
	uint8_t flag;
	uint32_t len;
	uint8_t *data; /* owned */
	TAILQ_ENTRY(packet) entry;
};
TAILQ_HEAD(packets, packet);

struct device {
	bool on;
	uint16_t model; /* equal */
	uint32_t nwords;
	uint64_t *words; /* owned */
	uint32_t nraw;
	uint8_t raw[6];
	uint32_t ntrail;
	struct point *trail; /* owned */
	struct point *slots[3];
	struct point slot;
	struct packets plain, flagged;
	int64_t timer;
	bool has_sub; /* set by the subsection's load */
	uint32_t sub;
};

static const struct vmstate_field point_fields[] = {
	VMSTATE_ONE(INT16, x, struct point),
	VMSTATE_ONE(BOOL, lit, struct point),
	VMSTATE_END,
};
static const struct vmstate_desc point_desc = { .name = "point", .fields = point_fields };

static void packet_free(void *element)
{
	struct packet *packet = element;

	free(packet->data);
	free(packet);
}

static const struct vmstate_field packet_fields[] = {
	VMSTATE_ONE(UINT32, len, struct packet),
	VMSTATE_ALLOC_BUFFER(data, struct packet, len, 8),
	VMSTATE_END,
};
static const struct vmstate_desc packet_desc = { .name = "packet", .fields = packet_fields };
static const struct vmstate_list_loop flag_loop = { .flag_offset = offsetof(struct packet, flag),
						    .flag_max = 2 };
#define PACKET_LIST(loop_)                                                       \
	VMSTATE_TAILQ_OF(struct packet, entry, packet_desc, 5, .loop = &(loop_), \
			 .free = packet_free)
static const struct vmstate_list plain_list = PACKET_LIST(vmstate_loop_one);
static const struct vmstate_list flagged_list = PACKET_LIST(flag_loop);

static const struct vmstate_field device_fields[] = {
	VMSTATE_ONE(BOOL, on, struct device),
	VMSTATE_ONE(UINT16_EQUAL, model, struct device),
	VMSTATE_ONE(UINT32, nwords, struct device),
	VMSTATE_ALLOC_ARRAY(UINT64, words, struct device, nwords, 4),
	VMSTATE_ONE(UINT32, nraw, struct device),
	VMSTATE_VBUFFER(raw, struct device, nraw),
	VMSTATE_ONE(UINT32, ntrail, struct device),
	VMSTATE_STRUCT_ALLOC(trail, struct device, ntrail, 3, point_desc, struct point),
	VMSTATE_STRUCT_POINTERS(slots, struct device, point_desc, struct point),
	VMSTATE_QTAILQ(plain, struct device, plain_list, struct packet),
	VMSTATE_QTAILQ(flagged, struct device, flagged_list, struct packet),
	VMSTATE_ONE(TIMER, timer, struct device),
	VMSTATE_END,
};

static bool sub_needed(const void *opaque)
{
	return ((const struct device *)opaque)->has_sub;
}

static bool sub_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct device *device = opaque;

	(void)version_id;
	if (device->has_sub) {
		error_set(errp, "twice");
		return false;
	}
	device->has_sub = true;
	return true;
}

static const struct vmstate_field sub_fields[] = {
	VMSTATE_ONE(UINT32, sub, struct device),
	VMSTATE_END,
};
static const struct vmstate_desc sub_desc = { .name = "device/sub",
					      .needed = sub_needed,
					      .post_load = sub_post_load,
					      .fields = sub_fields };
static const struct vmstate_desc device_desc = {
	.name = "device",
	.fields = device_fields,
	.subsections = (const struct vmstate_desc *const[]){ &sub_desc, NULL },
};

static void device_build(struct device *device)
{
	*device = (struct device){ .model = 0x1234 };
	device->slots[1] = &device->slot;
	TAILQ_INIT(&device->plain);
	TAILQ_INIT(&device->flagged);
}

static void device_release(struct device *device)
{
	struct packets *lists[] = { &device->plain, &device->flagged };
	struct packet *packet;

	for (unsigned int i = 0; i < 2; i++) {
		while ((packet = TAILQ_FIRST(lists[i]))) {
			TAILQ_REMOVE(lists[i], packet, entry);
			packet_free(packet);
		}
	}
	free(device->words);
	free(device->trail);
}

static void add_packet(struct packets *list, struct prng *rng)
{
	struct packet *packet = calloc(1, sizeof(*packet));

	packet->flag = (uint8_t)(1 + prng_below(rng, 2));
	packet->len = (uint32_t)prng_below(rng, 9);
	packet->data = calloc(packet->len + 1, 1);
	prng_fill(rng, packet->data, packet->len);
	TAILQ_INSERT_TAIL(list, packet, entry);
}

/* A state whose every part has something in it. */
static struct saved save_example(struct prng *rng)
{
	struct device device;
	struct saved saved;

	device_build(&device);
	device.nwords = (uint32_t)(1 + prng_below(rng, 4));
	device.nraw = (uint32_t)(1 + prng_below(rng, 6));
	device.ntrail = (uint32_t)(1 + prng_below(rng, 3));
	device.words = calloc(device.nwords, sizeof(*device.words));
	device.trail = calloc(device.ntrail, sizeof(*device.trail));
	prng_fill(rng, device.raw, sizeof(device.raw));
	for (uint64_t n = 1 + prng_below(rng, 4); n > 0; n--) {
		add_packet(&device.plain, rng);
		add_packet(&device.flagged, rng);
	}
	device.has_sub = true;
	device.sub = (uint32_t)prng_next(rng);
	device.timer = 5;
	saved = save_ok(&device_desc, &device);
	device_release(&device);
	return saved;
}

/* Load anything into a fresh device. */
static bool try_load(const uint8_t *data, size_t len, const char *what, uint64_t which)
{
	struct device device;
	struct error *err = NULL;
	struct saved before, again;
	uint64_t used = 0;
	bool ok;

	device_build(&device);
	before = save_ok(&device_desc, &device);
	ok = load_from_bytes(&device_desc, &device, 0, data, len, &used, &err);
	cr_assert_eq(ok, !err, "%s %" PRIu64 ": result and error differ", what, which);
	if (ok) {
		cr_assert_leq(used, len);
		again = save_ok(&device_desc, &device);
		cr_assert(again.len == used && !memcmp(again.data, data, used),
			  "seed %#x %s %" PRIu64 ": saved again it is different", SEED, what,
			  which);
		free(again.data);
	} else {
		cr_assert(err->msg[0] == '.' || err->msg[0] == ':' || err->msg[0] == '(',
			  "'%s' does not begin with a path", err->msg);
		error_free(err);
		device.has_sub = false; /* a hook's doing, which is not undone */
		again = save_ok(&device_desc, &device);
		cr_assert(again.len == before.len && !memcmp(again.data, before.data, before.len),
			  "seed %#x %s %" PRIu64 ": the failed load changed the device", SEED, what,
			  which);
		free(again.data);
	}
	free(before.data);
	device_release(&device);
	return ok;
}

Test(vmstate_hostile, a_stream_cut_at_any_byte_is_refused)
{
	struct prng rng = { SEED };

	for (unsigned int i = 0; i < 4; i++) {
		struct saved saved = save_example(&rng);
		size_t whole = saved.len - (1 + 1 + strlen("device/sub") + 4 + 4);

		cr_assert(try_load(saved.data, saved.len, "whole", 0));
		for (size_t len = 0; len < saved.len; len++) {
			/*
			 * A cut inside the subsection's name cannot be told from what follows a
			 * section.
			 */
			bool may_end = len >= whole && len < whole + 2 + strlen("device/");

			cr_assert_eq(try_load(saved.data, len, "cut at", len), may_end,
				     "seed %#x iteration %u, cut at %zu of %zu", SEED, i, len,
				     saved.len);
		}
		free(saved.data);
	}
}

Test(vmstate_hostile, every_bit_turned_over)
{
	struct prng rng = { SEED };
	struct saved saved = save_example(&rng);
	unsigned int refused = 0;

	for (size_t bit = 0; bit < saved.len * 8; bit++) {
		saved.data[bit / 8] ^= 1 << bit % 8;
		refused += !try_load(saved.data, saved.len, "bit", bit);
		saved.data[bit / 8] ^= 1 << bit % 8;
	}
	cr_assert_gt(refused, 100, "only %u of %zu flips were seen", refused, saved.len * 8);
	free(saved.data);
}

Test(vmstate_hostile, bytes_changed_moved_and_lost)
{
	struct prng rng = { SEED + 1 };

	for (unsigned int i = 0; i < 1200; i++) {
		struct saved saved = save_example(&rng);
		size_t at = prng_below(&rng, saved.len), n;

		switch (prng_below(&rng, 4)) {
		case 0: /* some bytes are noise */
			for (n = 1 + prng_below(&rng, 4); n > 0; n--)
				saved.data[prng_below(&rng, saved.len)] = (uint8_t)prng_next(&rng);
			break;
		case 1: /* a byte is lost */
			memmove(saved.data + at, saved.data + at + 1, saved.len - at - 1);
			saved.len--;
			break;
		case 2: /* a run is all ones: large counts */
			memset(saved.data + at, 0xff, 1 + prng_below(&rng, saved.len - at));
			break;
		default: /* a part comes from elsewhere */
			n = 1 + prng_below(&rng, saved.len - at);
			memmove(saved.data + at, saved.data + prng_below(&rng, saved.len - n + 1),
				n);
		}
		try_load(saved.data, saved.len, "iteration", i);
		free(saved.data);
	}
}

/* Noise made of the bytes that mean something: markers, small counts, 0x05, 0x30. */
Test(vmstate_hostile, noise)
{
	static const uint8_t likely[] = { 0, 0, 0, 0,	 0,    0,    1,	   1,
					  2, 3, 5, 0x30, 0x30, 0x12, 0x34, 0xff };
	struct prng rng = { SEED + 2 };
	unsigned int loaded = 0;

	for (unsigned int i = 0; i < 2000; i++) {
		uint8_t noise[120] = { 0, 0x12, 0x34 };

		for (size_t k = 3; k < sizeof(noise); k++)
			noise[k] = likely[prng_below(&rng, sizeof(likely))];
		if (i %
		    2) /* counts of 0 and the NULL marker in place: the lists are what is fuzzed */
			memcpy(noise + 3, "\0\0\0\0\0\0\0\0\0\0\0\0\x30\0\0\0\x30", 17);
		loaded += try_load(noise, sizeof(noise), "noise", i);
	}
	cr_assert_gt(loaded, 0, "no noise got through: it is not of the right sort");
}
