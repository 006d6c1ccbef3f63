/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/bitmaps/save.h"

#include "migration/bitmaps/format.h"
#include "vmm/base/cleanup.h"

/* Of a chunk with bits, without names: flags, first sector, sectors, length. */
#define CHUNK_HEAD_BYTES (1 + 8 + 4 + 8)

/* The first held one behind save->bitmap, or where that is NULL from save->disk on. */
static void next_bitmap(struct bitmap_save *save)
{
	struct disk_bitmaps *disk = save->disk;
	struct disk_bitmap *bm = save->bitmap;

	for (; disk; disk = TAILQ_NEXT(disk, entry), bm = NULL) {
		pthread_mutex_lock(&disk->lock);
		bm = bm ? TAILQ_NEXT(bm, entry) : TAILQ_FIRST(&disk->list);
		while (bm && !bm->meta)
			bm = TAILQ_NEXT(bm, entry);
		pthread_mutex_unlock(&disk->lock);
		if (bm)
			break;
	}
	save->disk = disk;
	save->bitmap = bm;
	save->offset = 0;
}

void bitmap_save_rewind(struct bitmap_save *save)
{
	save->disk = TAILQ_FIRST(save->disks);
	save->bitmap = NULL;
	next_bitmap(save);
}

bool bitmap_save_begin(struct bitmap_save *save, struct stream_out *out,
		       struct disk_bitmaps_list *disks, struct error **errp)
{
	struct disk_bitmaps *disk;

	*save = (struct bitmap_save){ .out = out, .disks = disks };
	TAILQ_FOREACH (disk, disks, entry) {
		if (!disk_bitmaps_hold(disk, bitmap_chunk_bits, errp)) {
			bitmap_save_end(save);
			return false;
		}
	}
	return true;
}

bool bitmap_save_has_any(struct bitmap_save *save)
{
	bitmap_save_rewind(save);
	return save->bitmap != NULL;
}

void bitmap_save_close(struct bitmap_save *save)
{
	struct disk_bitmaps *disk;

	TAILQ_FOREACH (disk, save->disks, entry)
		disk_bitmaps_close(disk);
}

void bitmap_save_end(struct bitmap_save *save)
{
	struct disk_bitmaps *disk;

	if (save->disks)
		TAILQ_FOREACH (disk, save->disks, entry)
			disk_bitmaps_let_go(disk);
	save->disks = NULL;
}

/* The flags, and the names that are not those of the chunk before. */
static void put_head(struct bitmap_save *save, uint8_t flags)
{
	if (save->last_disk != save->disk)
		flags |= BITMAP_HAS_NODE;
	if (save->last != save->bitmap)
		flags |= BITMAP_HAS_NAME;
	put_u8(save->out, flags);
	if (flags & BITMAP_HAS_NODE)
		put_name(save->out, save->disk->node);
	if (flags & BITMAP_HAS_NAME)
		put_name(save->out, save->bitmap->name);
	save->last_disk = save->disk;
	save->last = save->bitmap;
}

static void put_start(struct bitmap_save *save)
{
	if (save->bitmap->announced)
		return;
	put_head(save, BITMAP_START);
	put_u32(save->out, UINT32_C(1) << hbitmap_granularity(save->bitmap->bits));
	put_u8(save->out, save->bitmap->enabled ? BITMAP_ENABLED : 0);
	save->bitmap->announced = true;
}

void bitmap_save_setup(struct bitmap_save *save)
{
	for (bitmap_save_rewind(save); save->bitmap; next_bitmap(save))
		put_start(save);
	bitmap_save_eos(save);
	bitmap_save_rewind(save);
}

void bitmap_save_eos(struct bitmap_save *save)
{
	put_u8(save->out, BITMAP_EOS);
}

/* Bytes of the disk that a chunk covers; its last one covers less. */
static uint64_t chunk_bytes(const struct disk_bitmap *bm)
{
	uint64_t granularity = UINT64_C(1) << hbitmap_granularity(bm->bits);

	return granularity * (uint64_t)bitmap_chunk_bits(granularity);
}

/* Of a chunk's bits on the wire, from those of its serialization. */
static uint64_t buffer_bytes(uint64_t serialized)
{
	return (serialized + BITMAP_BUF_ALIGN - 1) / BITMAP_BUF_ALIGN * BITMAP_BUF_ALIGN;
}

/* The chunk at save->offset, which is then the next one's. What changes from now on shows in the meta bitmap. */
static void put_chunk(struct bitmap_save *save)
{
	const struct disk_bitmap *bm = save->bitmap;
	uint64_t bytes = MIN_OF(chunk_bytes(bm), save->disk->bytes - save->offset), len;
	uint8_t buf[BITMAP_CHUNK_BITS / 8] = { 0 };
	bool zero;

	pthread_mutex_lock(&save->disk->lock);
	len = hbitmap_serialization_size(bm->bits, save->offset, bytes);
	zero = hbitmap_next_dirty(bm->bits, (int64_t)save->offset, (int64_t)bytes) < 0;
	if (!zero)
		hbitmap_serialize_part(bm->bits, buf, save->offset, bytes);
	hbitmap_reset(bm->meta, save->offset, bytes);
	pthread_mutex_unlock(&save->disk->lock);
	put_head(save, zero ? BITMAP_BITS | BITMAP_ZEROES : BITMAP_BITS);
	put_u64(save->out, save->offset / BITMAP_SECTOR);
	put_u32(save->out, (uint32_t)((bytes + BITMAP_SECTOR - 1) / BITMAP_SECTOR));
	if (!zero) {
		put_u64(save->out, buffer_bytes(len));
		put_bytes(save->out, buf, buffer_bytes(len));
	}
	save->offset += bytes;
}

/* Where the bitmap has changed, from save->offset on; -1: nowhere. */
static int64_t next_change(struct bitmap_save *save)
{
	int64_t at;

	pthread_mutex_lock(&save->disk->lock);
	at = hbitmap_next_dirty(save->bitmap->meta, (int64_t)save->offset, INT64_MAX);
	pthread_mutex_unlock(&save->disk->lock);
	return at;
}

bool bitmap_save_some(struct bitmap_save *save)
{
	for (; save->bitmap; next_bitmap(save)) {
		int64_t at = next_change(save);

		if (at < 0)
			continue;
		put_start(save); /* all of a new one is to be sent */
		save->offset = (uint64_t)at;
		put_chunk(save);
		return true;
	}
	return false;
}

/* Of one bitmap; the disk's lock. What has changed is not zero; what was never sent may be, and then takes less. */
static uint64_t left_locked(const struct disk_bitmaps *disk, const struct disk_bitmap *bm)
{
	uint64_t each = MIN_OF(chunk_bytes(bm), disk->bytes);
	uint64_t chunks = hbitmap_count(bm->meta) >> hbitmap_granularity(bm->meta);

	return chunks *
	       (CHUNK_HEAD_BYTES + buffer_bytes(hbitmap_serialization_size(bm->bits, 0, each)));
}

uint64_t bitmap_save_left(struct bitmap_save *save)
{
	struct disk_bitmaps *disk;
	struct disk_bitmap *bm;
	uint64_t left = 0;

	TAILQ_FOREACH (disk, save->disks, entry) {
		pthread_mutex_lock(&disk->lock);
		TAILQ_FOREACH (bm, &disk->list, entry)
			if (bm->meta)
				left += left_locked(disk, bm);
		pthread_mutex_unlock(&disk->lock);
	}
	return left;
}

void bitmap_save_rest(struct bitmap_save *save)
{
	bitmap_save_rewind(save);
	while (bitmap_save_some(save))
		;
	for (bitmap_save_rewind(save); save->bitmap; next_bitmap(save))
		put_head(save, BITMAP_COMPLETE);
	bitmap_save_eos(save);
}
