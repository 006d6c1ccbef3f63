/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/backend/backup_target.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/stat.h>

#include "devices/backend/qcow2.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

struct backup_target {
	char *path;
	char *temp_path;
	bool remains; /* it has its name, or is kept: not to be removed */
	bool resumed; /* holds other bytes where it is written */
	int fd;
	uint64_t bytes;
	char *backing;		    /* NULL: none */
	struct qcow2_writer *qcow2; /* NULL: raw */
};

static bool failed(struct backup_target *t, int error, struct error **errp)
{
	error_set_errno(errp, error, "cannot write '%s'", t->path);
	return false;
}

/* With what it has behind it until it is whole, the name must fit, too. */
static bool has_room(const char *path, struct error **errp)
{
	const size_t behind = strlen("." BACKUP_PARTIAL "XXXXXX");
	scoped_free char *copy = xstrdup(path), *copy2 = xstrdup(path);
	long most = pathconf(dirname(copy), _PC_NAME_MAX); /* -1: no folder, or no limit */
	size_t len = strlen(basename(copy2));

	if (most > 0 && len + behind > (size_t)most)
		error_set(errp,
			  "'%s': its name has %zu bytes, expected at most %zu: until it is whole "
			  "'." BACKUP_PARTIAL "XXXXXX' is behind it",
			  path, len, (size_t)most - behind);
	else if (strlen(path) + behind >= PATH_MAX)
		error_set(errp,
			  "'%s': it has %zu bytes, expected at most %zu: until it is whole "
			  "'." BACKUP_PARTIAL "XXXXXX' is behind it",
			  path, strlen(path), PATH_MAX - 1 - behind);
	else
		return true;
	return false;
}

static bool is_new(const char *path, struct error **errp)
{
	struct stat st;

	if (*path && !has_room(path, errp))
		return false;
	if (!*path)
		error_set(errp, "the target has no name: expected that of a new file");
	else if (lstat(path, &st) == 0)
		error_set(errp, "'%s' is there already: expected the name of a new file", path);
	else if (errno != ENOENT)
		error_set_errno(errp, errno, "'%s'", path);
	else
		return true;
	return false;
}

/* A reader takes what stands before a colon for a protocol, unless a slash comes first. */
static char *name_of_backing(const char *name)
{
	return xasprintf("%s%s", name[strcspn(name, ":/")] == ':' ? "./" : "", name);
}

/* What a raw backup begins with, its guest has written: one that looks like a qcow2 image could have any file of the host below it. */
static bool find_format(const struct backup_target_options *o, int fd, const char **format,
			struct error **errp)
{
	uint8_t magic[4] = { 0 };
	struct stat st;
	bool is_qcow2;

	if (fstat(fd, &st) < 0 || pread(fd, magic, sizeof(magic), 0) < 0) {
		error_set_errno(errp, errno, "cannot read it");
		return false;
	}
	is_qcow2 = get_be32(magic) == QCOW2_MAGIC;
	*format = is_qcow2 ? "qcow2" : "raw";
	if (o->backing_format) {
		*format = o->backing_format;
		if (is_qcow2 || strcmp(*format, "qcow2") != 0)
			return true;
		error_set(errp, "expected a qcow2 image, as 'backing-format' says");
		return false;
	}
	if (is_qcow2 && (uint64_t)st.st_size == o->bytes) {
		error_set(errp,
			  "it begins like a qcow2 image and has the disk's size, as a raw one "
			  "may of which the guest wrote the beginning: expected "
			  "'backing-format' to say which it is");
		return false;
	}
	return true;
}

/* Its name counts from the folder of the file that names it. */
static bool probe_backing(const struct backup_target_options *o, const char **format,
			  struct error **errp)
{
	scoped_free char *copy = xstrdup(o->path);
	scoped_free char *path = o->backing[0] == '/'
					 ? xstrdup(o->backing)
					 : xasprintf("%s/%s", dirname(copy), o->backing);
	scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool ok = false;

	if (fd < 0 || fstat(fd, &st) < 0)
		error_set_errno(errp, errno, "cannot open it");
	else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		error_set(errp, "expected a file or a block device");
	else
		ok = find_format(o, fd, format, errp);
	if (!ok)
		error_prefix(errp, "the file below, '%s': ", path);
	return ok;
}

static bool set_backing(struct backup_target *t, const struct backup_target_options *o,
			struct qcow2_backing *backing, struct error **errp)
{
	if (!o->backing)
		return true;
	backing->name = t->backing = name_of_backing(o->backing);
	if (strlen(t->backing) <= QCOW2_BACKING_MAX)
		return probe_backing(o, &backing->format, errp);
	error_set(errp, "the file below: its name has %zu bytes, expected at most %d",
		  strlen(o->backing), QCOW2_BACKING_MAX);
	return false;
}

struct backup_target *backup_target_open(const struct backup_target_options *o, struct error **errp)
{
	struct qcow2_backing backing = { 0 };
	struct backup_target *t;

	assert(o->bytes && (o->format == BACKUP_QCOW2 || (o->whole && !o->backing)));
	t = xcalloc(1, sizeof(*t));
	t->path = xstrdup(o->path);
	t->bytes = o->bytes;
	t->fd = -1;
	t->remains = true;
	if (!is_new(o->path, errp) || !set_backing(t, o, &backing, errp)) {
		backup_target_free(t);
		return NULL;
	}
	t->resumed = o->resume != NULL;
	t->temp_path = xasprintf("%s.%s", o->path, o->resume ? o->resume : BACKUP_PARTIAL "XXXXXX");
	t->fd = o->resume ? open(t->temp_path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
			  : mkostemp(t->temp_path, O_CLOEXEC);
	t->remains = t->fd < 0 || o->resume;
	if (t->fd < 0) {
		error_set_errno(errp, errno, o->resume ? "cannot open '%s'" : "cannot create '%s'",
				o->resume ? t->temp_path : o->path);
	} else if (o->format == BACKUP_RAW && ftruncate(t->fd, (off_t)o->bytes) < 0) {
		failed(t, errno, errp);
	} else {
		if (o->format == BACKUP_QCOW2)
			t->qcow2 = qcow2_writer_new(t->fd, o->bytes, o->whole, &backing);
		return t;
	}
	backup_target_free(t);
	return NULL;
}

static bool check_part(const struct backup_target *t, uint64_t offset, uint64_t bytes)
{
	return is_aligned(offset, BACKUP_CLUSTER) && range_within(offset, bytes, t->bytes) &&
	       (is_aligned(bytes, BACKUP_CLUSTER) || offset + bytes == t->bytes);
}

bool backup_target_write(struct backup_target *t, uint64_t offset, const void *data, uint64_t bytes,
			 struct error **errp)
{
	int error;

	assert(check_part(t, offset, bytes));
	error = t->qcow2 ? qcow2_write(t->qcow2, offset, data, bytes)
			 : write_at(t->fd, data, bytes, offset);
	return error ? failed(t, error, errp) : true;
}

static int punch(int fd, uint64_t offset, uint64_t bytes)
{
	scoped_free void *zeroes = NULL;
	int error = 0;

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)bytes) == 0)
		return 0;
	zeroes = xcalloc(1, BACKUP_CLUSTER);
	while (bytes && !error) {
		uint64_t part = MIN_OF(bytes, BACKUP_CLUSTER);

		error = write_at(fd, zeroes, part, offset);
		offset += part;
		bytes -= part;
	}
	return error;
}

bool backup_target_zero(struct backup_target *t, uint64_t offset, uint64_t bytes,
			struct error **errp)
{
	int error;

	assert(check_part(t, offset, bytes));
	if (t->qcow2)
		error = qcow2_zero(t->qcow2, offset, bytes);
	else
		error = t->resumed ? punch(t->fd, offset, bytes) : 0; /* it is a hole */
	return error ? failed(t, error, errp) : true;
}

/* Nothing that has come to stand there meanwhile is lost, where the file system knows how. */
static int rename_new(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return errno;
	return rename(from, to) < 0 ? errno : 0;
}

/* The name, too, is to be on disk. */
static int sync_folder(const char *path)
{
	scoped_free char *copy = xstrdup(path);
	scoped_fd fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? errno : 0;
}

bool backup_target_finish(struct backup_target *t, struct error **errp)
{
	int error = t->qcow2 ? qcow2_finish(t->qcow2) : 0;

	if (!error && fsync(t->fd) < 0)
		error = errno;
	if (!error)
		error = rename_new(t->temp_path, t->path);
	if (error)
		return failed(t, error, errp);
	error = sync_folder(t->path);
	if (error) {
		rename(t->path, t->temp_path); /* it is none, and has no name */
		return failed(t, error, errp);
	}
	t->remains = true;
	return true;
}

const char *backup_target_partial(const struct backup_target *t)
{
	return strrchr(t->temp_path, '.') + 1;
}

bool backup_target_can_resume(const char *path, const char *partial, uint64_t bytes)
{
	scoped_free char *temp = xasprintf("%s.%s", path, partial);
	struct stat st;

	return lstat(temp, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes;
}

bool backup_target_keep(struct backup_target *t, bool keep)
{
	assert(!t->qcow2);
	t->remains = keep && fsync(t->fd) == 0;
	return t->remains;
}

void backup_target_free(struct backup_target *t)
{
	if (!t)
		return;
	qcow2_writer_free(t->qcow2);
	if (t->fd >= 0)
		close(t->fd);
	if (!t->remains)
		unlink(t->temp_path);
	free(t->temp_path);
	free(t->backing);
	free(t->path);
	free(t);
}
