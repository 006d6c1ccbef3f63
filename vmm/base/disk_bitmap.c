/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/base/disk_bitmap.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/cleanup.h"

void disk_bitmaps_init(struct disk_bitmaps *d, const char *node, uint64_t bytes)
{
	assert(bytes > 0 && bytes <= INT64_MAX);
	*d = (struct disk_bitmaps){ .node = node, .bytes = bytes };
	TAILQ_INIT(&d->list);
	pthread_mutex_init(&d->lock, NULL);
}

static void drop_locked(struct disk_bitmaps *d, struct disk_bitmap *bm)
{
	TAILQ_REMOVE(&d->list, bm, entry);
	d->n--;
	hbitmap_free(bm->bits);
	free(bm);
}

void disk_bitmaps_release(struct disk_bitmaps *d)
{
	while (!TAILQ_EMPTY(&d->list))
		drop_locked(d, TAILQ_FIRST(&d->list));
	pthread_mutex_destroy(&d->lock);
}

struct disk_bitmaps *disk_bitmaps_find(struct disk_bitmaps_list *disks, const char *node,
				       struct error **errp)
{
	struct disk_bitmaps *d;

	TAILQ_FOREACH (d, disks, entry)
		if (strcmp(d->node, node) == 0)
			return d;
	error_set(errp, "the machine has no disk '%s'", node);
	return NULL;
}

/* --- writing --- */

void disk_bitmaps_mark(struct disk_bitmaps *d, uint64_t offset, uint64_t bytes)
{
	struct disk_bitmap *bm;

	if (offset >= d->bytes)
		return;
	bytes = MIN_OF(bytes, d->bytes - offset);
	pthread_mutex_lock(&d->lock);
	TAILQ_FOREACH (bm, &d->list, entry)
		if (bm->enabled)
			hbitmap_set(bm->bits, offset, bytes);
	pthread_mutex_unlock(&d->lock);
}

/* Some bitmap records what it did not. First the number: see disk_bitmaps_begin_write(). */
static void begin_era_locked(struct disk_bitmaps *d)
{
	struct disk_bitmap *bm;
	unsigned int recording = 0;

	TAILQ_FOREACH (bm, &d->list, entry)
		recording += bm->enabled;
	__atomic_store_n(&d->recording, recording, __ATOMIC_RELEASE);
	__atomic_store_n(&d->era, d->era + 1, __ATOMIC_RELEASE);
}

/* --- users --- */

static struct disk_bitmap *look_up_locked(struct disk_bitmaps *d, const char *name)
{
	struct disk_bitmap *bm;

	TAILQ_FOREACH (bm, &d->list, entry)
		if (strcmp(bm->name, name) == 0)
			break;
	return bm;
}

/* One that a user may change. */
static struct disk_bitmap *take_locked(struct disk_bitmaps *d, const char *name,
				       struct error **errp)
{
	struct disk_bitmap *bm = look_up_locked(d, name);

	if (!bm)
		error_set(errp, "disk '%s' has no dirty bitmap '%s'", d->node, name);
	else if (bm->user)
		error_set(errp, "disk '%s': dirty bitmap '%s' is busy: %s uses it", d->node, name,
			  bm->user);
	return bm && !bm->user ? bm : NULL;
}

static bool check_shape(const struct disk_bitmaps *d, const char *name, uint64_t granularity,
			struct error **errp)
{
	if (!*name || strlen(name) > DISK_BITMAP_NAME_MAX) {
		error_set(errp,
			  "disk '%s': dirty bitmap '%s': a name has 1 to %d bytes, this one has "
			  "%zu",
			  d->node, name, DISK_BITMAP_NAME_MAX, strlen(name));
		return false;
	}
	if (granularity < DISK_BITMAP_GRANULARITY_MIN ||
	    granularity > DISK_BITMAP_GRANULARITY_MAX || granularity & (granularity - 1)) {
		error_set(errp,
			  "disk '%s': dirty bitmap '%s': granularity %llu: expected a power of two "
			  "from %u to %u",
			  d->node, name, (unsigned long long)granularity,
			  DISK_BITMAP_GRANULARITY_MIN, DISK_BITMAP_GRANULARITY_MAX);
		return false;
	}
	return true;
}

static bool has_place_locked(struct disk_bitmaps *d, const char *name, struct error **errp)
{
	if (look_up_locked(d, name)) {
		error_set(errp, "disk '%s' has a dirty bitmap '%s' already", d->node, name);
		return false;
	}
	if (d->closed) {
		error_set(errp,
			  "disk '%s': dirty bitmap '%s': the guest is about to leave, expected it "
			  "before the switch, or at the destination",
			  d->node, name);
		return false;
	}
	if (d->n == DISK_BITMAPS_MAX) {
		error_set(errp, "disk '%s' has %u dirty bitmaps, there is no room for '%s'",
			  d->node, d->n, name);
		return false;
	}
	return true;
}

/* It joins those that a migration sends, all of it to be sent. False: memory is out. */
static bool join_locked(struct disk_bitmaps *d, struct disk_bitmap *bm)
{
	bm->meta = hbitmap_create_meta(bm->bits,
				       d->chunk_bits(UINT64_C(1) << hbitmap_granularity(bm->bits)));
	if (!bm->meta)
		return false;
	hbitmap_set(bm->meta, 0, d->bytes);
	bm->user = "a migration";
	bm->announced = false;
	return true;
}

static bool insert_locked(struct disk_bitmaps *d, const char *name, HBitmap *bits, bool enabled,
			  struct error **errp)
{
	struct disk_bitmap *bm = xcalloc(1, sizeof(*bm));

	strcpy(bm->name, name);
	bm->enabled = enabled;
	bm->bits = bits;
	if (d->chunk_bits && !join_locked(d, bm)) {
		error_set(errp, "disk '%s': dirty bitmap '%s': out of memory", d->node, name);
		free(bm);
		return false;
	}
	TAILQ_INSERT_TAIL(&d->list, bm, entry);
	d->n++;
	begin_era_locked(d);
	return true;
}

bool disk_bitmap_adopt(struct disk_bitmaps *d, const char *name, HBitmap *bits, bool enabled,
		       struct error **errp)
{
	bool ok;

	assert(hbitmap_size(bits) == d->bytes);
	pthread_mutex_lock(&d->lock);
	ok = has_place_locked(d, name, errp) && insert_locked(d, name, bits, enabled, errp);
	pthread_mutex_unlock(&d->lock);
	return ok;
}

bool disk_bitmap_check(struct disk_bitmaps *d, const char *name, uint64_t granularity,
		       struct error **errp)
{
	bool ok;

	if (!check_shape(d, name, granularity, errp))
		return false;
	pthread_mutex_lock(&d->lock);
	ok = has_place_locked(d, name, errp);
	pthread_mutex_unlock(&d->lock);
	return ok;
}

bool disk_bitmap_add(struct disk_bitmaps *d, const char *name, uint64_t granularity, bool enabled,
		     struct error **errp)
{
	HBitmap *bits = NULL;
	bool ok = false;

	if (!check_shape(d, name, granularity, errp))
		return false;
	/* A disk that is just being loaded may get another size: until the bitmap is in its list it must not. */
	pthread_mutex_lock(&d->lock);
	if (has_place_locked(d, name, errp)) {
		bits = hbitmap_alloc(d->bytes, __builtin_ctzll(granularity));
		if (bits)
			ok = insert_locked(d, name, bits, enabled, errp);
		else
			error_set(errp, "disk '%s': dirty bitmap '%s': out of memory", d->node,
				  name);
	}
	pthread_mutex_unlock(&d->lock);
	if (!ok)
		hbitmap_free(bits);
	return ok;
}

bool disk_bitmap_remove(struct disk_bitmaps *d, const char *name, struct error **errp)
{
	struct disk_bitmap *bm;

	pthread_mutex_lock(&d->lock);
	bm = take_locked(d, name, errp);
	if (bm) {
		drop_locked(d, bm);
		begin_era_locked(d);
	}
	pthread_mutex_unlock(&d->lock);
	return bm != NULL;
}

bool disk_bitmap_clear(struct disk_bitmaps *d, const char *name, struct error **errp)
{
	struct disk_bitmap *bm;

	pthread_mutex_lock(&d->lock);
	bm = take_locked(d, name, errp);
	if (bm) {
		hbitmap_reset_all(bm->bits);
		begin_era_locked(d);
	}
	pthread_mutex_unlock(&d->lock);
	return bm != NULL;
}

bool disk_bitmap_enable(struct disk_bitmaps *d, const char *name, bool on, struct error **errp)
{
	struct disk_bitmap *bm;

	pthread_mutex_lock(&d->lock);
	bm = take_locked(d, name, errp);
	if (bm) {
		bm->enabled = on;
		begin_era_locked(d);
	}
	pthread_mutex_unlock(&d->lock);
	return bm != NULL;
}

/* Of the disks that a merge is about, the one whose address comes next behind `d`, or the first; NULL: none. */
static struct disk_bitmaps *next_disk(const struct disk_bitmap_ref *target,
				      const struct disk_bitmap_ref *sources, unsigned int nsources,
				      const struct disk_bitmaps *d)
{
	struct disk_bitmaps *next = target->disk > d ? target->disk : NULL;

	for (unsigned int i = 0; i < nsources; i++)
		if (sources[i].disk > d && (!next || sources[i].disk < next))
			next = sources[i].disk;
	return next;
}

static bool check_source_locked(const struct disk_bitmap_ref *target,
				const struct disk_bitmap_ref *source, struct error **errp)
{
	struct disk_bitmaps *t = target->disk, *s = source->disk;

	if (s->bytes == t->bytes)
		return take_locked(s, source->name, errp) != NULL;
	error_set(errp,
		  "dirty bitmap '%s' of disk '%s' is of %llu bytes, '%s' of disk '%s' of "
		  "%llu: expected the same",
		  source->name, s->node, (unsigned long long)s->bytes, target->name, t->node,
		  (unsigned long long)t->bytes);
	return false;
}

static bool merge_locked(const struct disk_bitmap_ref *target,
			 const struct disk_bitmap_ref *sources, unsigned int nsources,
			 struct error **errp)
{
	struct disk_bitmap *to = take_locked(target->disk, target->name, errp);

	if (!to)
		return false;
	/* All are looked at before one is merged. */
	for (unsigned int i = 0; i < nsources; i++)
		if (!check_source_locked(target, &sources[i], errp))
			return false;
	for (unsigned int i = 0; i < nsources; i++)
		hbitmap_merge(to->bits, look_up_locked(sources[i].disk, sources[i].name)->bits,
			      to->bits);
	return true;
}

bool disk_bitmap_merge(const struct disk_bitmap_ref *target, const struct disk_bitmap_ref *sources,
		       unsigned int nsources, struct error **errp)
{
	struct disk_bitmaps *d = NULL;
	bool ok;

	/* All the disks' locks, in the order of their addresses: no migration begins or ends in between. */
	while ((d = next_disk(target, sources, nsources, d)))
		pthread_mutex_lock(&d->lock);
	ok = merge_locked(target, sources, nsources, errp);
	while ((d = next_disk(target, sources, nsources, d)))
		pthread_mutex_unlock(&d->lock);
	return ok;
}

/* --- backups --- */

HBitmap *disk_bitmap_freeze(struct disk_bitmaps *d, const char *name, struct error **errp)
{
	HBitmap *bits = NULL, *held = NULL;
	struct disk_bitmap *bm;

	pthread_mutex_lock(&d->lock);
	bm = take_locked(d, name, errp);
	if (bm)
		bits = hbitmap_alloc(d->bytes, hbitmap_granularity(bm->bits));
	if (bm && !bits)
		error_set(errp, "disk '%s': dirty bitmap '%s': out of memory", d->node, name);
	if (bits) {
		held = bm->bits;
		bm->bits = bits;
		bm->user = "a backup";
		begin_era_locked(d);
	}
	pthread_mutex_unlock(&d->lock);
	return held;
}

void disk_bitmap_thaw(struct disk_bitmaps *d, const char *name, const HBitmap *back)
{
	struct disk_bitmap *bm;

	pthread_mutex_lock(&d->lock);
	bm = look_up_locked(d, name); /* a busy one is not removed */
	assert(bm && bm->user);
	if (back)
		hbitmap_merge(back, bm->bits, bm->bits);
	bm->user = NULL;
	pthread_mutex_unlock(&d->lock);
}

/* --- migrations --- */

static void let_go_locked(struct disk_bitmaps *d)
{
	struct disk_bitmap *bm;

	d->chunk_bits = NULL;
	d->closed = false;
	TAILQ_FOREACH (bm, &d->list, entry) {
		if (!bm->meta)
			continue;
		hbitmap_free_meta(bm->bits);
		bm->meta = NULL;
		bm->user = NULL;
	}
}

bool disk_bitmaps_hold(struct disk_bitmaps *d, int (*chunk_bits)(uint64_t granularity),
		       struct error **errp)
{
	struct disk_bitmap *bm;

	pthread_mutex_lock(&d->lock);
	d->chunk_bits = chunk_bits;
	TAILQ_FOREACH (bm, &d->list, entry)
		if (!join_locked(d, bm))
			break;
	if (bm) {
		error_set(errp, "disk '%s': dirty bitmap '%s': out of memory", d->node, bm->name);
		let_go_locked(d);
	}
	pthread_mutex_unlock(&d->lock);
	return !bm;
}

void disk_bitmaps_close(struct disk_bitmaps *d)
{
	pthread_mutex_lock(&d->lock);
	d->closed = true;
	pthread_mutex_unlock(&d->lock);
}

void disk_bitmaps_let_go(struct disk_bitmaps *d)
{
	pthread_mutex_lock(&d->lock);
	let_go_locked(d);
	pthread_mutex_unlock(&d->lock);
}

bool disk_bitmaps_resize(struct disk_bitmaps *d, uint64_t bytes, struct error **errp)
{
	struct disk_bitmap *bm, *failed;

	assert(bytes > 0 && bytes <= INT64_MAX);
	pthread_mutex_lock(&d->lock);
	TAILQ_FOREACH (failed, &d->list, entry)
		if (!hbitmap_truncate(failed->bits, bytes))
			break;
	if (failed) {
		error_set(errp, "disk '%s': dirty bitmap '%s': out of memory", d->node,
			  failed->name);
		TAILQ_FOREACH (bm, &d->list, entry)
			if (hbitmap_size(bm->bits) != d->bytes)
				hbitmap_truncate(bm->bits, d->bytes);
	} else {
		d->bytes = bytes;
	}
	pthread_mutex_unlock(&d->lock);
	return !failed;
}

bool disk_bitmap_query(struct disk_bitmaps *d, unsigned int index, struct disk_bitmap_info *info)
{
	struct disk_bitmap *bm;

	pthread_mutex_lock(&d->lock);
	TAILQ_FOREACH (bm, &d->list, entry)
		if (index-- == 0)
			break;
	if (bm) {
		*info = (struct disk_bitmap_info){
			.dirty_bytes = hbitmap_count(bm->bits),
			.granularity = UINT32_C(1) << hbitmap_granularity(bm->bits),
			.enabled = bm->enabled,
			.busy = bm->user != NULL,
		};
		strcpy(info->name, bm->name);
	}
	pthread_mutex_unlock(&d->lock);
	return bm != NULL;
}
