/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/backend/backup.h"

#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

#include "devices/backend/block_parts.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

#define PIECE_BYTES (UINT64_C(1) << 20) /* that are read at once */
#define AREA_BITS 30			/* log2 of the bytes that become known to `todo` at once */
#define HOLE_BYTES (UINT64_C(1) << 30)	/* that are passed over at once */
#define PIECES_A_SECOND 10 /* at least, under a limit of speed, down to a cluster each */

struct backup {
	/* set at creation */
	struct block *block;
	struct disk_bitmaps *disk;
	char *bitmap;  /* NULL: none */
	char *partial; /* the bitmap of what the target lacks; NULL: it is not kept */
	struct backup_target *target;
	void (*ended)(void *opaque);
	void *opaque;
	pthread_t thread;
	bool has_thread;
	/* the thread's */
	uint8_t *buffer;
	HBitmap *frozen; /* what the bitmap held; NULL without one */
	HBitmap *lacked; /* what the partial one held */
	/* block->lock */
	pthread_cond_t wake;
	HBitmap *todo;	    /* not copied yet, beside the untouched */
	HBitmap *untouched; /* areas of which todo does not know yet: all of them is to be copied */
	struct block_requests held;
	uint64_t total, copied, speed;
	uint64_t not_before; /* ns; when the next piece may be copied for which nobody waits */
	bool cancelled, given_up;
	enum backup_end end;
	bool kept;
	struct error *error;
};

struct piece {
	uint64_t offset, bytes;
	bool waited_for; /* by a held write */
	uint64_t max;	 /* bytes that may be read; of one that nobody waits for */
	uint64_t began;	 /* ns */
	bool hole;
};

/* --- writes that come meanwhile --- */

static bool has_any(const HBitmap *bits, const struct block_request *req)
{
	return hbitmap_next_dirty(bits, (int64_t)req->offset, (int64_t)req->bytes) >= 0;
}

static bool is_to_be_copied(const struct backup *j, const struct block_request *req)
{
	return req->bytes && req->offset < j->disk->bytes &&
	       (has_any(j->todo, req) || has_any(j->untouched, req));
}

bool backup_hold_locked(struct backup *j, struct block_request *req)
{
	if (!is_to_be_copied(j, req))
		return false;
	TAILQ_INSERT_TAIL(&j->held, req, entry);
	pthread_cond_signal(&j->wake);
	return true;
}

void backup_give_back_locked(struct backup *j)
{
	struct block_request *req;

	while ((req = TAILQ_FIRST(&j->held)) != NULL) {
		TAILQ_REMOVE(&j->held, req, entry);
		block_finish_locked(j->block, req, ECANCELED);
	}
}

/* Those that need not wait (any more) begin. */
static void release_locked(struct backup *j, bool all)
{
	struct block_request *req, *next;

	TAILQ_FOREACH_SAFE (req, &j->held, entry, next) {
		if (!all && is_to_be_copied(j, req))
			continue;
		TAILQ_REMOVE(&j->held, req, entry);
		block_begin_in_threads_locked(j->block, req);
	}
}

/* --- what is copied next --- */

/* The bits of a whole disk are not set at once: for a large one that takes long, while its guest and the main loop wait. */
static void touch_area(struct backup *j, uint64_t at)
{
	uint64_t area = UINT64_C(1) << AREA_BITS, start = align_down(at, area);
	uint64_t bytes = MIN_OF(area, j->disk->bytes - start);

	hbitmap_reset(j->untouched, start, bytes);
	hbitmap_set(j->todo, start, bytes);
}

static bool first_piece(struct backup *j, uint64_t from, uint64_t to, uint64_t max, struct piece *p)
{
	int64_t untouched = hbitmap_next_dirty(j->untouched, (int64_t)from, (int64_t)(to - from));
	int64_t start, count;

	while (!hbitmap_next_dirty_area(j->todo, (int64_t)from,
					untouched < 0 ? (int64_t)to : untouched, (int64_t)max,
					&start, &count)) {
		if (untouched < 0)
			return false;
		touch_area(j, (uint64_t)untouched);
		from = (uint64_t)untouched;
		untouched = -1;
	}
	*p = (struct piece){ .offset = (uint64_t)start, .bytes = (uint64_t)count };
	return true;
}

/* How much of a range is a hole of the image. Nobody writes there before it is copied. Where a file that has become shorter ends, there is no
 * hole: what was there is lost. */
static uint64_t hole_bytes(const struct block *b, uint64_t offset, uint64_t bytes)
{
	off_t data = b->is_file ? lseek(b->fd, (off_t)offset, SEEK_DATA) : (off_t)offset;
	bool to_end = data < 0 && errno == ENXIO;
	struct stat st;

	if ((data < 0 && !to_end) || fstat(b->fd, &st) < 0 ||
	    (b->is_file && !range_within(offset, bytes, (uint64_t)st.st_size)))
		return 0;
	return to_end ? bytes : MIN_OF(align_down((uint64_t)data - offset, BACKUP_CLUSTER), bytes);
}

/* Of a piece that begins in a hole: as much as the hole has. Of another: as much as may be read at once. */
static void fit_piece(const struct backup *j, struct piece *p)
{
	uint64_t hole = hole_bytes(j->block, p->offset, p->bytes);

	p->hole = hole > 0;
	p->bytes = p->hole ? hole : MIN_OF(p->bytes, p->max);
}

static uint64_t piece_bytes(const struct backup *j)
{
	uint64_t share = align_down(j->speed / PIECES_A_SECOND, BACKUP_CLUSTER);

	if (!j->speed)
		return PIECE_BYTES;
	return MAX_OF(MIN_OF(share, PIECE_BYTES), BACKUP_CLUSTER);
}

/* Waits until there may be one; false: the copying is over. */
static bool next_piece_locked(struct backup *j, struct piece *p)
{
	while (!j->cancelled) {
		struct block_request *req = TAILQ_FIRST(&j->held);
		uint64_t now = clock_now_ns();
		struct timespec until;

		/* Whoever is held waits for a piece: release_locked() has been there. */
		if (req && first_piece(j, align_down(req->offset, BACKUP_CLUSTER),
				       MIN_OF(align_up(req->offset + req->bytes, BACKUP_CLUSTER),
					      j->disk->bytes),
				       PIECE_BYTES, p)) {
			p->waited_for = true;
			return true;
		}
		if (!first_piece(j, 0, j->disk->bytes, HOLE_BYTES, p))
			return false;
		if (!j->speed || now >= j->not_before) {
			p->max = piece_bytes(j);
			p->began = now;
			return true;
		}
		until = clock_timespec(j->not_before);
		pthread_cond_timedwait(&j->wake, &j->block->lock, &until);
	}
	return false;
}

/* --- copying --- */

static bool is_zero(const uint8_t *data, uint64_t bytes)
{
	return !data[0] && memcmp(data, data + 1, bytes - 1) == 0;
}

static bool read_piece(struct backup *j, const struct piece *p, struct error **errp)
{
	struct iovec iov = { j->buffer, p->bytes };
	struct block_request req = {
		.op = BLOCK_READ, .offset = p->offset, .bytes = p->bytes, .iov = &iov, .niov = 1
	};
	int error = block_perform(j->block, &req);

	if (error)
		error_set_errno(errp, error, "reading %llu bytes at %llu",
				(unsigned long long)p->bytes, (unsigned long long)p->offset);
	return !error;
}

/* Clusters that are alike, zero or not, go out together. */
static bool write_piece(struct backup *j, const struct piece *p, struct error **errp)
{
	uint64_t done = 0;
	bool ok = true;

	while (ok && done < p->bytes) {
		uint64_t from = done;
		bool zero = false;

		for (; done < p->bytes; done += MIN_OF(BACKUP_CLUSTER, p->bytes - done)) {
			bool here =
				is_zero(j->buffer + done, MIN_OF(BACKUP_CLUSTER, p->bytes - done));

			if (done > from && here != zero)
				break;
			zero = here;
		}
		ok = zero ? backup_target_zero(j->target, p->offset + from, done - from, errp)
			  : backup_target_write(j->target, p->offset + from, j->buffer + from,
						done - from, errp);
	}
	return ok;
}

static bool copy_piece(struct backup *j, struct piece *p, struct error **errp)
{
	if (!p->waited_for)
		fit_piece(j, p);
	if (p->hole)
		return backup_target_zero(j->target, p->offset, p->bytes, errp);
	return read_piece(j, p, errp) && write_piece(j, p, errp);
}

static void piece_is_copied_locked(struct backup *j, const struct piece *p)
{
	hbitmap_reset(j->todo, p->offset, p->bytes);
	j->copied += p->bytes;
	if (j->speed && !p->waited_for && !p->hole)
		j->not_before = MAX_OF(p->began, j->not_before) + p->bytes * NS_PER_SEC / j->speed;
	release_locked(j, false);
}

/* --- the thread --- */

/* Everything that is to be copied, or an error. In the end the disk is as it was without a backup. */
static void copy_all(struct backup *j, struct error **errp)
{
	struct block *b = j->block;
	struct piece p;
	bool ok = true;

	pthread_mutex_lock(&b->lock);
	while (ok && next_piece_locked(j, &p)) {
		pthread_mutex_unlock(&b->lock);
		ok = copy_piece(j, &p, errp);
		pthread_mutex_lock(&b->lock);
		if (ok)
			piece_is_copied_locked(j, &p);
	}
	b->backup = NULL;
	release_locked(j, true);
	pthread_mutex_unlock(&b->lock);
}

static bool is_set(struct backup *j, const bool *flag)
{
	bool set;

	pthread_mutex_lock(&j->block->lock);
	set = *flag;
	pthread_mutex_unlock(&j->block->lock);
	return set;
}

static void touch_all(struct backup *j)
{
	int64_t at;

	while ((at = hbitmap_next_dirty(j->untouched, 0, INT64_MAX)) >= 0)
		touch_area(j, (uint64_t)at);
}

/* True: the target is kept, with the bitmap of what it lacks. */
static bool give_bitmaps_back(struct backup *j, bool completed)
{
	bool keep =
		j->partial && !completed && backup_target_keep(j->target, !is_set(j, &j->given_up));

	if (j->bitmap)
		disk_bitmap_thaw(j->disk, j->bitmap, completed ? NULL : j->frozen);
	if (j->partial) {
		touch_all(j);
		disk_bitmap_thaw(j->disk, j->partial, j->todo);
	}
	if (j->partial && !keep)
		disk_bitmap_remove(j->disk, j->partial, NULL);
	return keep;
}

static void *run(void *opaque)
{
	struct backup *j = opaque;
	enum backup_end end = BACKUP_FAILED;
	struct error *err = NULL;
	bool kept;

	copy_all(j, &err);
	if (!err && is_set(j, &j->cancelled))
		end = BACKUP_CANCELLED;
	else if (!err && backup_target_finish(j->target, &err))
		end = BACKUP_COMPLETED;
	kept = give_bitmaps_back(j, end == BACKUP_COMPLETED);
	backup_target_free(take_ptr(j->target));
	hbitmap_free(take_ptr(j->todo)); /* a large one takes its time */
	hbitmap_free(take_ptr(j->frozen));
	hbitmap_free(take_ptr(j->lacked));
	pthread_mutex_lock(&j->block->lock);
	j->end = end;
	j->kept = kept;
	j->error = err;
	pthread_mutex_unlock(&j->block->lock);
	if (j->ended)
		j->ended(j->opaque);
	return NULL;
}

/* --- the owner's --- */

/* The last bit may reach beyond the end. */
static uint64_t bytes_in(const HBitmap *bits)
{
	uint64_t size = hbitmap_size(bits), count = hbitmap_count(bits);
	uint64_t beyond = align_up(size, BACKUP_CLUSTER) - size;

	return hbitmap_get(bits, size - 1) ? count - beyond : count;
}

static bool freeze(struct backup *j, const char *name, HBitmap **held, struct error **errp)
{
	*held = name ? disk_bitmap_freeze(j->disk, name, errp) : NULL;
	return !name || *held;
}

/* What there is to copy is what *part holds after the freezing; NULL: everything.
 *
 * The point in time: the bitmap starts anew, and writes are held from now on. A write that marked the bitmap before and comes behind this is
 * held, too, and marks again when it is done, for the bitmap's era is another. */
static bool attach(struct backup *j, HBitmap **part, struct error **errp)
{
	struct block *b = j->block;
	bool ok;

	pthread_mutex_lock(&b->lock);
	ok = !b->backup;
	if (!ok)
		error_set(errp, "it is being backed up already");
	ok = ok && freeze(j, j->bitmap, &j->frozen, errp);
	if (ok && !freeze(j, j->partial, &j->lacked, errp)) {
		if (j->bitmap)
			disk_bitmap_thaw(j->disk, j->bitmap, j->frozen);
		ok = false;
	}
	if (ok) {
		if (part)
			hbitmap_merge(*part, *part, j->todo);
		else
			hbitmap_set(j->untouched, 0, j->disk->bytes);
		j->total = part ? bytes_in(j->todo) : j->disk->bytes;
		b->backup = j;
	}
	pthread_mutex_unlock(&b->lock);
	return ok;
}

static void detach(struct backup *j)
{
	pthread_mutex_lock(&j->block->lock);
	j->block->backup = NULL;
	release_locked(j, true);
	pthread_mutex_unlock(&j->block->lock);
	if (j->bitmap)
		disk_bitmap_thaw(j->disk, j->bitmap, j->frozen);
	if (j->partial)
		disk_bitmap_thaw(j->disk, j->partial, j->lacked);
}

/* The bitmap of what a kept file of this target lacks; NULL: there is none. */
static char *find_partial(const struct backup *j, const char *path)
{
	struct disk_bitmap_info info;

	for (unsigned int i = 0; disk_bitmap_query(j->disk, i, &info); i++)
		if (strncmp(info.name, BACKUP_PARTIAL, strlen(BACKUP_PARTIAL)) == 0 &&
		    !strchr(info.name, '/') && !info.busy && info.enabled &&
		    backup_target_can_resume(path, info.name, j->disk->bytes))
			return xstrdup(info.name);
	return NULL;
}

/* From now on it records, so that the file may be kept. */
static bool begin_partial(struct backup *j, struct error **errp)
{
	const char *name = backup_target_partial(j->target);

	if (!disk_bitmap_add(j->disk, name, BACKUP_CLUSTER, true, errp))
		return false;
	j->partial = xstrdup(name);
	return true;
}

static struct backup *backup_new(const struct backup_options *o)
{
	struct backup *j = xcalloc(1, sizeof(*j));
	pthread_condattr_t attr;

	assert(o->bitmap || !o->incremental);
	assert(!o->partial || (!o->incremental && o->target.format == BACKUP_RAW));
	j->block = o->block;
	j->disk = o->disk;
	j->bitmap = o->bitmap ? xstrdup(o->bitmap) : NULL;
	j->speed = o->speed;
	j->ended = o->ended;
	j->opaque = o->opaque;
	TAILQ_INIT(&j->held);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&j->wake, &attr);
	pthread_condattr_destroy(&attr);
	return j;
}

/* What is written from now on would be in neither this backup nor the next one. An incremental one may copy what a disabled bitmap holds. */
static bool check_recording(const struct backup *j, const struct backup_options *o,
			    struct error **errp)
{
	struct disk_bitmap_info info;

	for (unsigned int i = 0; o->bitmap && disk_bitmap_query(j->disk, i, &info); i++) {
		if (o->incremental || info.enabled || strcmp(info.name, o->bitmap) != 0)
			continue;
		error_set(errp,
			  "dirty bitmap '%s' is disabled and records nothing for the next backup: "
			  "expected one that is enabled",
			  o->bitmap);
		return false;
	}
	return true;
}

/* Of a backup that does not start: a bitmap made for it goes, too. */
static void forget_partial(struct backup *j, bool is_new)
{
	if (j->partial && is_new)
		disk_bitmap_remove(j->disk, j->partial, NULL);
}

static bool start(struct backup *j, const struct backup_options *o, struct error **errp)
{
	struct backup_target_options target = o->target;
	HBitmap **part = o->incremental ? &j->frozen : NULL;
	int rc;

	if (!check_recording(j, o, errp))
		return false;
	target.bytes = j->disk->bytes;
	target.whole = !o->incremental;
	j->todo = hbitmap_alloc(j->disk->bytes, BACKUP_CLUSTER_BITS);
	j->untouched = hbitmap_alloc(j->disk->bytes, AREA_BITS);
	j->buffer = malloc(PIECE_BYTES);
	if (!j->todo || !j->untouched || !j->buffer) {
		error_set(errp, "out of memory");
		return false;
	}
	if (o->partial)
		target.resume = j->partial = find_partial(j, target.path);
	j->target = backup_target_open(&target, errp);
	if (!j->target)
		return false;
	if (j->partial)
		part = &j->lacked;
	if (o->partial && !j->partial && !begin_partial(j, errp))
		return false;
	if (!attach(j, part, errp)) {
		forget_partial(j, part != &j->lacked);
		return false;
	}
	rc = thread_start(&j->thread, run, j);
	if (rc) {
		error_set_errno(errp, rc, "thread");
		detach(j);
		forget_partial(j, part != &j->lacked);
	}
	j->has_thread = rc == 0;
	return j->has_thread;
}

struct backup *backup_start(const struct backup_options *o, struct error **errp)
{
	struct backup *j = backup_new(o);

	if (start(j, o, errp))
		return j;
	error_prefix(errp, "disk '%s': ", o->disk->node);
	backup_free(j);
	return NULL;
}

void backup_query(struct backup *j, struct backup_status *status)
{
	pthread_mutex_lock(&j->block->lock);
	*status = (struct backup_status){
		.disk = j->disk->node,
		.total = j->total,
		.copied = j->copied,
		.speed = j->speed,
		.end = j->end,
		.error = j->error ? error_msg(j->error) : NULL,
		.partial = j->kept ? j->partial : NULL,
	};
	pthread_mutex_unlock(&j->block->lock);
}

void backup_set_speed(struct backup *j, uint64_t speed)
{
	pthread_mutex_lock(&j->block->lock);
	j->speed = speed;
	j->not_before = 0;
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->block->lock);
}

void backup_cancel(struct backup *j)
{
	pthread_mutex_lock(&j->block->lock);
	j->cancelled = true;
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->block->lock);
}

void backup_give_up(struct backup *j)
{
	pthread_mutex_lock(&j->block->lock);
	j->given_up = true;
	pthread_mutex_unlock(&j->block->lock);
	backup_cancel(j);
}

void backup_wait(struct backup *j)
{
	struct timespec until = clock_timespec(clock_now_ns() + BLOCK_PATIENCE_NS);

	if (j->has_thread &&
	    pthread_clockjoin_np(j->thread, NULL, CLOCK_MONOTONIC, &until) == ETIMEDOUT) {
		log_warn("disk '%s': waiting for its backup to end", j->disk->node);
		pthread_join(j->thread, NULL);
	}
	j->has_thread = false;
}

void backup_free(struct backup *j)
{
	backup_wait(j);
	backup_target_free(j->target);
	error_free(j->error);
	pthread_cond_destroy(&j->wake);
	hbitmap_free(j->todo);
	hbitmap_free(j->untouched);
	hbitmap_free(j->frozen);
	hbitmap_free(j->lacked);
	free(j->buffer);
	free(j->bitmap);
	free(j->partial);
	free(j);
}
