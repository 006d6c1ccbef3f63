/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/backend/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "devices/backend/block_parts.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

#define SECTOR 512

/* Bytes of the image that are locked; what is in them does not matter. */
enum lock_byte { LOCK_WRITERS = 300, LOCK_READERS, LOCK_RUNNING };

static bool set_lock(int fd, short type, enum lock_byte byte)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &fl) == 0;
}

static bool is_locked(int fd, enum lock_byte byte)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

static bool lock_failed(const char *path, struct error **errp)
{
	if (errno == EAGAIN || errno == EACCES)
		error_set(errp, "image '%s' is in use by another machine", path);
	else
		error_set_errno(errp, errno, "image '%s' cannot be locked", path);
	return false;
}

static bool in_use(const char *path, const char *how, struct error **errp)
{
	error_set(errp, "image '%s' is in use by another machine, which %s it", path, how);
	return false;
}

/* Two that start at the same moment both see the other's lock, so never do both go on. */
static bool claim(struct block *b, const struct block_options *o, struct error **errp)
{
	if (o->read_only) {
		if (!set_lock(b->fd, F_RDLCK, LOCK_READERS))
			return lock_failed(o->path, errp);
		return !is_locked(b->fd, LOCK_WRITERS) || in_use(o->path, "writes", errp);
	}
	if (!set_lock(b->fd, o->incoming ? F_RDLCK : F_WRLCK, LOCK_WRITERS))
		return lock_failed(o->path, errp);
	if (is_locked(b->fd, LOCK_READERS))
		return in_use(o->path, "reads", errp);
	if (o->incoming)
		return true;
	if (!block_take_running(b, errp)) {
		error_prefix(errp, "image '%s': ", o->path);
		return false;
	}
	return set_lock(b->fd, F_RDLCK, LOCK_WRITERS) || lock_failed(o->path, errp);
}

bool block_take_running(struct block *b, struct error **errp)
{
	if (b->read_only || b->running)
		return true;
	b->running = set_lock(b->fd, F_WRLCK, LOCK_RUNNING);
	if (!b->running && (errno == EAGAIN || errno == EACCES))
		error_set(errp, "another machine writes to it");
	else if (!b->running)
		error_set_errno(errp, errno, "it cannot be locked");
	return b->running;
}

/* Does a machine on another host see the same file, by a cache of its own? Then what was written must be out of ours. */
static bool is_on_network(int fd)
{
	static const uint32_t magics[] = {
		0x6969,	    /* NFS */
		0x517b,	    /* SMB */
		0xff534d42, /* CIFS */
		0xfe534d42, /* SMB2 */
		0x65735546, /* FUSE */
		0x00c36400, /* Ceph */
		0x01021997, /* 9P */
		0x7461636f, /* OCFS2 */
		0x01161970, /* GFS2 */
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if ((uint32_t)fs.f_type == magics[i])
			return true;
	return false;
}

void block_leave_running(struct block *b)
{
	if (b->running && is_on_network(b->fd))
		fdatasync(b->fd); /* an error comes again with the guest's next flush */
	if (b->running)
		set_lock(b->fd, F_UNLCK, LOCK_RUNNING);
	b->running = false;
}

static bool open_image(struct block *b, const struct block_options *o, struct error **errp)
{
	struct stat st;

	b->fd = open(o->path, (o->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (b->fd < 0 || fstat(b->fd, &st) < 0) {
		error_set_errno(errp, errno, "cannot open '%s'", o->path);
		return false;
	}
	b->is_file = S_ISREG(st.st_mode);
	b->bytes = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(b->fd, BLKGETSIZE64, &b->bytes) < 0)
		b->bytes = 0;
	if (!b->is_file && !S_ISBLK(st.st_mode)) {
		error_set(errp, "'%s': expected a file or a block device", o->path);
		return false;
	}
	if (b->bytes && b->bytes % SECTOR == 0)
		return true;
	error_set(errp, "image '%s' has %llu bytes: expected whole sectors of %d", o->path,
		  (unsigned long long)b->bytes, SECTOR);
	return false;
}

static void on_event(void *opaque, uint32_t events)
{
	struct block *b = opaque;
	uint64_t count;

	(void)events;
	if (read(b->event_fd, &count, sizeof(count)) == sizeof(count))
		b->done(b->opaque);
}

static bool start_engine(struct block *b, const struct block_options *o, struct error **errp)
{
	struct error *why = NULL;

	b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->event_fd >= 0 && o->loop)
		b->handle = loop_add(o->loop, b->event_fd, EPOLLIN, on_event, b);
	if (b->event_fd < 0 || (o->loop && !b->handle)) {
		error_set(errp, "image '%s': no eventfd can be had", o->path);
		return false;
	}
	if (o->engine == BLOCK_THREADS)
		return true;
	b->uring = uring_new(b->event_fd, &why);
	if (b->uring || o->engine == BLOCK_AUTO) {
		if (why)
			log_debug("image '%s': threads, for %s", o->path, error_msg(why));
		error_free(why);
		return true;
	}
	error_propagate(errp, why);
	return false;
}

struct block *block_open(const struct block_options *o, struct error **errp)
{
	struct block *b = xcalloc(1, sizeof(*b));

	b->fd = b->event_fd = -1;
	b->path = xstrdup(o->path);
	b->read_only = o->read_only;
	b->bitmaps = o->bitmaps;
	b->done = o->done;
	b->opaque = o->opaque;
	TAILQ_INIT(&b->finished);
	TAILQ_INIT(&b->waiting);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->idle, NULL);
	if (open_image(b, o, errp) && claim(b, o, errp) && start_engine(b, o, errp))
		return b;
	block_close(b);
	return NULL;
}

void block_close(struct block *b)
{
	if (!b)
		return;
	block_threads_stop(b);
	uring_free(b->uring);
	loop_remove(b->handle);
	if (b->event_fd >= 0)
		close(b->event_fd);
	if (b->fd >= 0)
		close(b->fd); /* and with it the locks */
	pthread_cond_destroy(&b->idle);
	pthread_cond_destroy(&b->work);
	pthread_mutex_destroy(&b->lock);
	free(b->path);
	free(b);
}

uint64_t block_bytes(const struct block *b)
{
	return b->bytes;
}

const char *block_engine_name(const struct block *b)
{
	return b->uring ? "io_uring" : "threads";
}

void block_finish_locked(struct block *b, struct block_request *req, int error)
{
	uint64_t one = 1;

	req->error = error;
	TAILQ_INSERT_TAIL(&b->finished, req, entry);
	if (write(b->event_fd, &one, sizeof(one)) < 0)
		return; /* it is full: the loop has been told */
}

/* A file that has become shorter must not be made long again by a write: what was behind its end is lost. */
static bool lies_inside(struct block *b, const struct block_request *req)
{
	struct stat st;

	return !b->is_file || req->op == BLOCK_FLUSH ||
	       (fstat(b->fd, &st) == 0 &&
		range_within(req->offset, req->bytes, (uint64_t)st.st_size));
}

static bool writes(const struct block_request *req)
{
	return req->op != BLOCK_READ && req->op != BLOCK_FLUSH;
}

static void begin_locked(struct block *b, struct block_request *req, bool may_use_uring)
{
	if (!lies_inside(b, req))
		block_finish_locked(b, req, EIO);
	else if (!may_use_uring || !b->uring || !uring_submit_locked(b, req))
		block_threads_submit_locked(b, req);
}

void block_begin_in_threads_locked(struct block *b, struct block_request *req)
{
	begin_locked(b, req, false);
}

void block_submit(struct block *b, struct block_request *req)
{
	if (b->bitmaps && writes(req))
		req->era = disk_bitmaps_begin_write(b->bitmaps, req->offset, req->bytes);
	pthread_mutex_lock(&b->lock);
	if (!b->backup || !writes(req) || !backup_hold_locked(b->backup, req))
		begin_locked(b, req, true);
	pthread_mutex_unlock(&b->lock);
}

struct block_request *block_take_done(struct block *b)
{
	struct block_request *req;

	pthread_mutex_lock(&b->lock);
	if (b->uring && !b->draining)
		uring_reap_locked(b);
	req = TAILQ_FIRST(&b->finished);
	if (req)
		TAILQ_REMOVE(&b->finished, req, entry);
	pthread_mutex_unlock(&b->lock);
	if (req && b->bitmaps && writes(req))
		disk_bitmaps_end_write(b->bitmaps, req->offset, req->bytes, req->era);
	return req;
}

void block_still_drains_locked(struct block *b)
{
	if (!b->patience || clock_now_ns() < b->patience)
		return;
	b->patience = 0;
	log_warn("image '%s': waiting for the host to do what it has begun", b->path);
}

void block_drain(struct block *b)
{
	pthread_mutex_lock(&b->lock);
	b->draining = true;
	b->patience = clock_now_ns() + BLOCK_PATIENCE_NS;
	if (b->backup)
		backup_give_back_locked(b->backup);
	if (b->uring)
		uring_drain_locked(b);
	block_threads_drain_locked(b);
	b->draining = false;
	pthread_mutex_unlock(&b->lock);
}
