/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a backup of a large disk begins at once, and is right wherever on it the guest writes.
 *
 * How: images in memory that are holes but for some clusters. The limit of speed holds the copying back at the first of them, which is
 * at the beginning, so that writes find the rest as it is at the start.
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "devices/backend/backup.h"
#include "tests/unit/support.h"
#include "vmm/base/log.h"

SUITE(backup_large);

#define GIB (UINT64_C(1) << 30)
#define CRAWL 1 /* a piece, and then none for hours */

struct large {
	char dir[64], target[80];
	int fd;
	struct block *block;
	struct disk_bitmaps bitmaps;
};

static void large_make(struct large *l, uint64_t bytes)
{
	struct block_options o = { .engine = BLOCK_THREADS, .bitmaps = &l->bitmaps };
	struct error *err = NULL;
	char path[64];

	*l = (struct large){ .fd = memfd_create("disk", MFD_CLOEXEC) };
	cr_assert(l->fd >= 0 && ftruncate(l->fd, (off_t)bytes) == 0);
	scratch_make(l->dir);
	snprintf(l->target, sizeof(l->target), "%s/full", l->dir);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", l->fd);
	disk_bitmaps_init(&l->bitmaps, "d", bytes);
	o.path = path;
	l->block = block_open(&o, &err);
	expect_ok(l->block, err);
}

static void large_end(struct large *l)
{
	block_close(l->block);
	disk_bitmaps_release(&l->bitmaps);
	close(l->fd);
	scratch_remove(l->dir);
}

static struct backup *begin(struct large *l, enum backup_format format)
{
	struct backup_options o = { .block = l->block,
				    .disk = &l->bitmaps,
				    .target = { .path = l->target, .format = format },
				    .speed = CRAWL };
	struct error *err = NULL;
	struct backup *b = backup_start(&o, &err);

	expect_ok(b, err);
	return b;
}

static void expect_end(struct backup *b, enum backup_end end)
{
	struct backup_status s;

	backup_wait(b);
	backup_query(b, &s);
	cr_assert_eq(s.end, end, "%d: %s", s.end, s.error);
	backup_free(b);
}

static uint64_t pages_touched(void)
{
	struct rusage usage;

	cr_assert_eq(getrusage(RUSAGE_THREAD, &usage), 0);
	return (uint64_t)usage.ru_minflt;
}

/* Whoever begins it has other things to do than to fill 128 MiB of bits. Counted in pages of memory, which any
 * machine has alike; the sanitizer touches an eighth of what is allocated. */
Test(backup_large, begins_at_once)
{
	const uint64_t bytes = 65536 * GIB, all = bytes / BACKUP_CLUSTER / 8 / 4096;
	struct backup_status s;
	struct backup *b;
	struct large l;
	uint64_t pages;

	large_make(&l, bytes);
	pages = pages_touched();
	b = begin(&l, BACKUP_QCOW2);
	cr_assert_lt(pages_touched() - pages, all / 4);
	backup_query(b, &s);
	cr_assert_eq(s.total, bytes);
	backup_cancel(b);
	expect_end(b, BACKUP_CANCELLED);
	large_end(&l);
}

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int lines;
} told = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

static void on_line(enum log_level level, const char *line)
{
	if (level != LOG_WARN)
		return;
	cr_assert_str_eq(line, "disk 'd': waiting for its backup to end");
	pthread_mutex_lock(&told.lock);
	told.lines++;
	pthread_cond_signal(&told.cond);
	pthread_mutex_unlock(&told.lock);
}

/* The thread of the backup, which hangs until it is told that somebody waits. */
static void hang(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&told.lock);
	while (!told.lines)
		pthread_cond_wait(&told.cond, &told.lock);
	pthread_mutex_unlock(&told.lock);
}

Test(backup_large, a_long_wait_is_told_once, .timeout = 60)
{
	struct backup_options o = { .ended = hang };
	struct error *err = NULL;
	struct backup *b;
	struct large l;

	large_make(&l, GIB);
	log_set_sink(on_line, LOG_WARN);
	o.block = l.block;
	o.disk = &l.bitmaps;
	o.target.path = l.target;
	b = backup_start(&o, &err);
	expect_ok(b, err);
	expect_end(b, BACKUP_COMPLETED);
	cr_assert_eq(told.lines, 1);
	large_end(&l);
}

/* Offsets of single clusters of data: at the beginnings and ends of the areas in which bits are set, and within. */
static const uint64_t places[] = {
	0,	     GIB - BACKUP_CLUSTER,     GIB,
	3 * GIB / 2, 3 * GIB - BACKUP_CLUSTER, 3 * GIB + 5 * BACKUP_CLUSTER,
};
#define PLACES (sizeof(places) / sizeof(places[0]))

static void fill(uint8_t cluster[static BACKUP_CLUSTER], size_t place)
{
	memset(cluster, (int)place + 1, BACKUP_CLUSTER);
}

static void write_zeroes(struct large *l, uint64_t offset, uint64_t bytes)
{
	struct block_request req = { .op = BLOCK_ZERO, .offset = offset, .bytes = bytes };
	struct block_request *done;

	block_submit(l->block, &req);
	while (!(done = block_take_done(l->block)))
		sched_yield();
	cr_assert(done == &req && req.error == 0);
}

Test(backup_large, far_writes)
{
	static uint8_t want[BACKUP_CLUSTER], got[BACKUP_CLUSTER];
	struct backup *b;
	struct large l;
	int fd;

	large_make(&l, 3 * GIB + 7 * BACKUP_CLUSTER);
	for (size_t i = 0; i < PLACES; i++) {
		fill(want, i);
		cr_assert_eq(pwrite(l.fd, want, sizeof(want), (off_t)places[i]), sizeof(want));
	}
	b = begin(&l, BACKUP_RAW);
	for (size_t i = PLACES; i-- > 0;)
		write_zeroes(&l, places[i] + 4096, 512);
	write_zeroes(&l, GIB - 2 * BACKUP_CLUSTER, 4 * BACKUP_CLUSTER); /* in two areas */
	backup_set_speed(b, 0);
	expect_end(b, BACKUP_COMPLETED);
	fd = open(l.target, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(lseek(fd, 0, SEEK_END), 3 * GIB + 7 * BACKUP_CLUSTER);
	for (size_t i = 0; i < PLACES; i++) {
		fill(want, i);
		cr_assert_eq(pread(fd, got, sizeof(got), (off_t)places[i]), sizeof(got));
		cr_assert_eq(memcmp(got, want, sizeof(want)), 0, "place %zu", i);
		cr_assert_eq(pread(l.fd, got, sizeof(got), (off_t)places[i]), sizeof(got));
		cr_assert_neq(memcmp(got, want, sizeof(want)), 0, "nothing was written");
	}
	close(fd);
	large_end(&l);
}
