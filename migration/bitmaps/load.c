/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/bitmaps/load.h"

#include <jansson.h>

#include "migration/bitmaps/format.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

/* Of all disks, those that have failed included. */
#define INCOMING_MAX 4096
/* A chunk's bits; ours have 1 KiB. */
#define BUF_MAX (UINT64_C(10) << 20)

struct bitmap_incoming {
	struct bitmap_load *load; /* that it is one of */
	char node[STREAM_NAME_MAX + 1], name[STREAM_NAME_MAX + 1];
	bool failed, enabled, complete;
	struct disk_bitmaps *disk; /* of a sound one, as the next two */
	HBitmap *bits;		   /* owned */
	uint64_t covered; /* bytes from the disk's beginning that have come without a gap */
	TAILQ_ENTRY(bitmap_incoming) entry;
};

void bitmap_load_init(struct bitmap_load *load, struct disk_bitmaps_list *disks)
{
	*load = (struct bitmap_load){ .disks = disks };
	TAILQ_INIT(&load->list);
}

void bitmap_load_release(struct bitmap_load *load)
{
	struct bitmap_incoming *inc;

	while ((inc = TAILQ_FIRST(&load->list))) {
		TAILQ_REMOVE(&load->list, inc, entry);
		hbitmap_free(inc->bits);
		free(inc);
	}
}

/* To whom it may concern, here and at the source. */
static void say(struct bitmap_incoming *inc, const char *what, const char *why)
{
	scoped_free char *text =
		xasprintf("dirty bitmap '%s' of disk '%s' %s: %s", inc->name, inc->node, what, why);

	log_warn("%s", text);
	if (inc->load->tell)
		inc->load->tell(inc->load->opaque, text);
}

/* The bitmap goes no further; err tells why and is freed. Only the first reason counts. */
static void fail(struct bitmap_incoming *inc, struct error *err)
{
	if (!inc->failed)
		say(inc, "does not come along", error_msg(err));
	error_free(err);
	inc->failed = true;
	hbitmap_free(inc->bits);
	inc->bits = NULL;
}

#define FAIL(inc, ...)                         \
	do {                                   \
		struct error *why_ = NULL;     \
		error_set(&why_, __VA_ARGS__); \
		fail(inc, why_);               \
	} while (0)

static struct bitmap_incoming *find(struct bitmap_load *load)
{
	struct bitmap_incoming *inc = load->last;

	if (inc)
		return inc;
	TAILQ_FOREACH (inc, &load->list, entry)
		if (strcmp(inc->node, load->node) == 0 && strcmp(inc->name, load->name) == 0)
			break;
	load->last = inc;
	return inc;
}

/* A new one of the present names; NULL: there are too many. */
static struct bitmap_incoming *add(struct bitmap_load *load, struct stream_in *in)
{
	struct bitmap_incoming *inc;

	if (load->n == INCOMING_MAX) {
		stream_in_fail(in, "dirty-bitmap: more than %d bitmaps", INCOMING_MAX);
		return NULL;
	}
	inc = xcalloc(1, sizeof(*inc));
	inc->load = load;
	strcpy(inc->node, load->node);
	strcpy(inc->name, load->name);
	TAILQ_INSERT_TAIL(&load->list, inc, entry);
	load->n++;
	load->last = inc;
	return inc;
}

/* The one that a chunk is about, if it is still of interest. */
static struct bitmap_incoming *find_sound(struct bitmap_load *load, struct stream_in *in)
{
	struct bitmap_incoming *inc = find(load);

	if (!inc) {
		inc = add(load, in);
		if (inc)
			FAIL(inc, "it was not started");
	}
	return inc && !inc->failed ? inc : NULL;
}

/* --- chunks --- */

/* A name that could not be shown could not be removed either. */
static bool is_text(const char *name)
{
	json_t *json = json_string(name);
	bool ok = json != NULL;

	json_decref(json);
	return ok;
}

static bool is_welcome(struct bitmap_load *load, struct bitmap_incoming *inc, uint32_t granularity,
		       uint8_t flags, struct error **errp)
{
	inc->disk = disk_bitmaps_find(load->disks, inc->node, errp);
	if (!inc->disk)
		return false;
	if (!is_text(inc->name)) {
		error_set(errp, "its name is not UTF-8");
		return false;
	}
	if (flags & ~(BITMAP_ENABLED | BITMAP_PERSISTENT)) {
		error_set(errp, "flags 0x%02x are not known", flags);
		return false;
	}
	return disk_bitmap_check(inc->disk, inc->name, granularity, errp);
}

static void prepare(struct bitmap_load *load, struct bitmap_incoming *inc, uint32_t granularity,
		    uint8_t flags)
{
	struct error *err = NULL;

	if (!is_welcome(load, inc, granularity, flags, &err)) {
		fail(inc, err);
		return;
	}
	inc->bits = hbitmap_alloc(inc->disk->bytes, __builtin_ctz(granularity));
	if (!inc->bits) {
		FAIL(inc, "out of memory");
		return;
	}
	inc->enabled = flags & BITMAP_ENABLED;
	if (flags & BITMAP_PERSISTENT)
		say(inc, "is no longer persistent", "a raw image has no place for it");
}

static void load_start(struct bitmap_load *load, struct stream_in *in)
{
	uint32_t granularity = get_u32(in);
	uint8_t flags = get_u8(in);
	struct bitmap_incoming *inc;

	if (!stream_in_ok(in))
		return;
	if (find(load)) {
		FAIL(find(load), "it is started twice");
		return;
	}
	inc = add(load, in);
	if (inc)
		prepare(load, inc, granularity, flags);
}

/* Where a chunk lies in the bitmap, in bytes. */
struct range {
	uint64_t start, count;
	bool fresh; /* nothing of it has come before */
};

/* Or the bitmap's failure. The source's disk may be smaller than the image here, so that its last chunk ends where none of ours may;
 * there is nothing behind it. */
static bool place(struct bitmap_incoming *inc, uint64_t sector, uint32_t sectors, struct range *r)
{
	uint64_t align = hbitmap_serialization_align(inc->bits);
	uint64_t size = hbitmap_size(inc->bits), end;

	if (inc->complete || !sectors || sector >= size / BITMAP_SECTOR ||
	    sectors > size / BITMAP_SECTOR - sector) {
		FAIL(inc, "%u sectors at %llu: expected some of %llu, before it is complete",
		     sectors, (unsigned long long)sector, (unsigned long long)size / BITMAP_SECTOR);
		return false;
	}
	r->start = sector * BITMAP_SECTOR;
	end = r->start + (uint64_t)sectors * BITMAP_SECTOR;
	if (r->start > inc->covered) {
		FAIL(inc, "there is a gap between the bytes %llu and %llu",
		     (unsigned long long)inc->covered, (unsigned long long)r->start);
		return false;
	}
	if (r->start % align || (end % align && end < inc->covered)) {
		FAIL(inc, "%u sectors at %llu: expected multiples of %llu", sectors,
		     (unsigned long long)sector, (unsigned long long)align / BITMAP_SECTOR);
		return false;
	}
	r->fresh = r->start == inc->covered;
	r->count = MIN_OF((end - r->start + align - 1) / align * align, size - r->start);
	inc->covered = MAX_OF(inc->covered, end);
	return true;
}

static void load_buffer(struct bitmap_incoming *inc, struct stream_in *in, const struct range *r,
			uint64_t len)
{
	uint64_t want = hbitmap_serialization_size(inc->bits, r->start, r->count);
	scoped_free uint8_t *buf = NULL;

	want = (want + BITMAP_BUF_ALIGN - 1) / BITMAP_BUF_ALIGN * BITMAP_BUF_ALIGN;
	if (len == want)
		buf = malloc(len);
	if (!buf) {
		FAIL(inc, "%llu bytes for the bits of %llu bytes at %llu: expected %llu",
		     (unsigned long long)len, (unsigned long long)r->count,
		     (unsigned long long)r->start, (unsigned long long)want);
		skip_bytes(in, len);
		return;
	}
	get_bytes(in, buf, len);
	if (stream_in_ok(in))
		hbitmap_assign_part(inc->bits, buf, r->start, r->count);
}

static void load_bits(struct bitmap_load *load, struct stream_in *in, bool zeroes)
{
	uint64_t sector = get_u64(in), len;
	uint32_t sectors = get_u32(in);
	struct bitmap_incoming *inc;
	struct range r;

	len = zeroes ? 0 : get_u64(in);
	if (len > BUF_MAX)
		stream_in_fail(in, "dirty-bitmap: %llu bytes of bits, at most %llu are allowed",
			       (unsigned long long)len, (unsigned long long)BUF_MAX);
	if (!stream_in_ok(in))
		return;
	inc = find_sound(load, in);
	if (!inc || !place(inc, sector, sectors, &r))
		skip_bytes(in, len);
	else if (!zeroes)
		load_buffer(inc, in, &r, len);
	else if (!r.fresh) /* a new bitmap is zero: its memory is left alone */
		hbitmap_reset(inc->bits, r.start, r.count);
}

static void load_complete(struct bitmap_load *load, struct stream_in *in)
{
	struct bitmap_incoming *inc = find_sound(load, in);

	if (inc)
		inc->complete = true;
}

static void load_names(struct bitmap_load *load, struct stream_in *in, uint8_t flags)
{
	if (flags & BITMAP_HAS_NODE)
		get_name(in, load->node);
	if (flags & BITMAP_HAS_NAME)
		get_name(in, load->name);
	if (flags & (BITMAP_HAS_NODE | BITMAP_HAS_NAME))
		load->last = NULL;
	if (!*load->node || !*load->name)
		stream_in_fail(in, "dirty-bitmap: a chunk without a name");
}

void bitmap_load_section(struct bitmap_load *load, struct stream_in *in)
{
	while (stream_in_ok(in)) {
		uint8_t flags = get_u8(in);

		if (!stream_in_ok(in) || flags == BITMAP_EOS)
			return;
		load_names(load, in, flags);
		if (!stream_in_ok(in))
			return;
		switch (flags & ~(BITMAP_HAS_NODE | BITMAP_HAS_NAME)) {
		case BITMAP_START:
			load_start(load, in);
			break;
		case BITMAP_BITS:
		case BITMAP_BITS | BITMAP_ZEROES:
			load_bits(load, in, flags & BITMAP_ZEROES);
			break;
		case BITMAP_COMPLETE:
			load_complete(load, in);
			break;
		default:
			stream_in_fail(in, "dirty-bitmap: flags 0x%02x are not understood", flags);
		}
	}
}

/* --- the end --- */

static void give(struct bitmap_incoming *inc)
{
	struct error *err = NULL;

	if (!inc->complete) {
		FAIL(inc, "the stream does not complete it");
		return;
	}
	if (inc->covered < inc->disk->bytes) {
		FAIL(inc, "it ends at byte %llu, and the disk has %llu",
		     (unsigned long long)inc->covered, (unsigned long long)inc->disk->bytes);
		return;
	}
	/* The disk has been loaded since and may have become smaller than its image. */
	if (!hbitmap_truncate(inc->bits, inc->disk->bytes))
		error_set(&err, "out of memory");
	else if (disk_bitmap_adopt(inc->disk, inc->name, inc->bits, inc->enabled, &err))
		inc->bits = NULL;
	if (err)
		fail(inc, err);
}

unsigned int bitmap_load_finish(struct bitmap_load *load)
{
	struct bitmap_incoming *inc;
	unsigned int failed = 0;

	TAILQ_FOREACH (inc, &load->list, entry) {
		if (!inc->failed)
			give(inc);
		failed += inc->failed;
	}
	return failed;
}
