/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a backup is the disk at one point in time, whatever is written meanwhile; a chain of them gives back each point; and one that does not
 * complete leaves nothing behind and loses nothing of its bitmap.
 *
 * How: an image of random bytes with a copy in memory, in which every write is made as well. The copy at the point in time is what the backup must
 * restore to (tests/restore.h). The limit of speed holds the copying back, so that it is known what comes when.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "devices/backend/backup.h"
#include "tests/restore.h"
#include "tests/unit/support.h"
#include "vmm/base/cleanup.h"

SUITE(backup);

#define SEED 0x5eed0501
#define IMAGE_BYTES ((5u << 20) + 3 * 512) /* the last cluster is cut */
#define CRAWL 1				   /* a piece, and then none for hours */

struct disk {
	char dir[64], path[80];
	struct prng prng;
	uint8_t *shadow; /* what the guest has written */
	struct block *block;
	struct disk_bitmaps bitmaps;
};

static void disk_make(struct disk *d, enum block_engine engine)
{
	struct block_options o = { .engine = engine, .bitmaps = &d->bitmaps };
	struct error *err = NULL;
	int fd;

	*d = (struct disk){ .prng = { SEED }, .shadow = malloc(IMAGE_BYTES) };
	scratch_make(d->dir);
	snprintf(d->path, sizeof(d->path), "%s/disk", d->dir);
	prng_fill(&d->prng, d->shadow, IMAGE_BYTES);
	fd = open(d->path, O_CREAT | O_WRONLY, 0600);
	cr_assert_eq(write(fd, d->shadow, IMAGE_BYTES), IMAGE_BYTES);
	close(fd);
	disk_bitmaps_init(&d->bitmaps, "d", IMAGE_BYTES);
	o.path = d->path;
	d->block = block_open(&o, &err);
	expect_ok(d->block, err);
}

static void disk_end(struct disk *d)
{
	block_close(d->block);
	disk_bitmaps_release(&d->bitmaps);
	free(d->shadow);
	scratch_remove(d->dir);
}

static void wait_for(struct disk *d, struct block_request *req)
{
	struct block_request *done;

	while (!(done = block_take_done(d->block)))
		sched_yield();
	cr_assert_eq(done, req);
}

/* A write, a discard or a writing of zeroes somewhere, done when this returns. */
static void change(struct disk *d, uint64_t most)
{
	struct prng *p = &d->prng;
	uint64_t offset = prng_below(p, IMAGE_BYTES / 512) * 512;
	uint64_t bytes = MIN_OF((prng_below(p, most / 512) + 1) * 512, IMAGE_BYTES - offset);
	scoped_free uint8_t *data = calloc(1, bytes);
	struct iovec iov = { data, bytes };
	struct block_request req = { .op = BLOCK_WRITE + prng_below(p, 5) % 3,
				     .offset = offset,
				     .bytes = bytes,
				     .iov = &iov,
				     .niov = 1 };

	if (req.op == BLOCK_FLUSH)
		req.op = BLOCK_ZERO;
	if (req.op == BLOCK_WRITE)
		prng_fill(p, data, bytes);
	memcpy(d->shadow + offset, data, bytes);
	block_submit(d->block, &req);
	wait_for(d, &req);
	cr_assert_eq(req.error, 0);
}

static struct backup *begin(struct disk *d, const char *name, struct backup_options o,
			    struct error **errp)
{
	char path[PATH_MAX + 128];

	snprintf(path, sizeof(path), "%s%s%s", *name ? d->dir : "", *name ? "/" : "", name);
	o.block = d->block;
	o.disk = &d->bitmaps;
	o.target.path = path;
	return backup_start(&o, errp);
}

static struct backup *begin_ok(struct disk *d, const char *name, struct backup_options o)
{
	struct error *err = NULL;
	struct backup *b = begin(d, name, o, &err);

	expect_ok(b, err);
	return b;
}

/* Waits for the end. */
static void expect_end(struct backup *b, enum backup_end end, const char *words)
{
	struct backup_status s;

	backup_wait(b);
	backup_query(b, &s);
	cr_assert_eq(s.end, end, "%d: %s", s.end, s.error);
	cr_assert(words ? s.error && strstr(s.error, words) : !s.error, "%s", s.error);
	if (end == BACKUP_COMPLETED)
		cr_assert_eq(s.copied, s.total);
	backup_free(b);
}

static void expect_restored(struct disk *d, const char *name, const uint8_t *want)
{
	scoped_free uint8_t *got = malloc(IMAGE_BYTES);

	restore_chain(d->dir, name, got, IMAGE_BYTES);
	for (uint64_t at = 0; at < IMAGE_BYTES; at += 512)
		cr_assert_eq(memcmp(got + at, want + at, 512), 0,
			     "seed 0x%x: %s differs at %" PRIu64, SEED, name, at);
}

static uint8_t *copy_of(const struct disk *d)
{
	uint8_t *copy = malloc(IMAGE_BYTES);

	memcpy(copy, d->shadow, IMAGE_BYTES);
	return copy;
}

static uint64_t dirty_bytes(struct disk *d)
{
	struct disk_bitmap_info info;

	cr_assert(disk_bitmap_query(&d->bitmaps, 0, &info));
	cr_assert_not(info.busy);
	return info.dirty_bytes;
}

/* Crawling: nearly all that is written must be copied first. Then at full speed, with writes racing. */
static void full_while_written(enum block_engine engine, enum backup_format format)
{
	for (unsigned int crawl = 0; crawl < 2; crawl++) {
		struct backup_options o = { .target.format = format, .speed = crawl ? CRAWL : 0 };
		struct disk d;
		struct backup *b;
		scoped_free uint8_t *then = NULL;

		disk_make(&d, engine);
		for (unsigned int i = 0; i < 50; i++)
			change(&d, 256 << 10);
		then = copy_of(&d);
		b = begin_ok(&d, "full", o);
		for (unsigned int i = 0; i < 100; i++)
			change(&d, 128 << 10);
		backup_set_speed(b, 0);
		expect_end(b, BACKUP_COMPLETED, NULL);
		expect_restored(&d, "full", then);
		disk_end(&d);
	}
}

Test(backup, raw_by_threads)
{
	full_while_written(BLOCK_THREADS, BACKUP_RAW);
}

Test(backup, raw_by_any_engine)
{
	full_while_written(BLOCK_AUTO, BACKUP_RAW);
}

Test(backup, qcow2_by_threads)
{
	full_while_written(BLOCK_THREADS, BACKUP_QCOW2);
}

Test(backup, qcow2_by_any_engine)
{
	full_while_written(BLOCK_AUTO, BACKUP_QCOW2);
}

/* Each increment on the one before; bitmaps finer, as fine, and coarser than a cluster. */
Test(backup, a_chain_gives_back_each_point)
{
	static const uint64_t granularities[] = { 512, 65536, 1 << 20 };

	for (size_t g = 0; g < 3; g++) {
		uint8_t *then[6];
		char name[6][16];
		struct disk d;

		disk_make(&d, BLOCK_AUTO);
		cr_assert(disk_bitmap_add(&d.bitmaps, "b", granularities[g], true, NULL));
		for (unsigned int i = 0; i < 6; i++) {
			struct backup_options o = { .bitmap = "b",
						    .incremental = i > 0,
						    .speed = i % 2 ? CRAWL : 0 };
			struct backup *b;

			snprintf(name[i], sizeof(name[i]), "backup%u", i);
			o.target.format = i ? BACKUP_QCOW2 : BACKUP_RAW;
			o.target.backing = i ? name[i - 1] : NULL;
			then[i] = copy_of(&d);
			b = begin_ok(&d, name[i], o);
			for (unsigned int k = 0; k < 10; k++)
				change(&d, 200 << 10);
			backup_set_speed(b, 0);
			expect_end(b, BACKUP_COMPLETED, NULL);
			for (unsigned int k = 0; k < 3; k++)
				change(&d, 200 << 10);
		}
		for (unsigned int i = 0; i < 6; i++) {
			expect_restored(&d, name[i], then[i]);
			free(then[i]);
		}
		disk_end(&d);
	}
}

/* What an increment copies is what the bitmap held, and not more; the new one holds what came behind it. */
Test(backup, an_increment_is_small)
{
	struct backup_options o = { .bitmap = "b", .incremental = true };
	struct backup_status s;
	struct backup *b;
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	disk_bitmaps_mark(&d.bitmaps, 3 * 65536, 2 * 65536);
	disk_bitmaps_mark(&d.bitmaps, IMAGE_BYTES - 512, 512);
	o.target.format = BACKUP_QCOW2;
	b = begin_ok(&d, "part", o);
	backup_wait(b);
	backup_query(b, &s);
	cr_assert_eq(s.total, 2 * 65536 + IMAGE_BYTES % 65536);
	expect_end(b, BACKUP_COMPLETED, NULL);
	cr_assert_eq(dirty_bytes(&d), 0);
	change(&d, 512);
	cr_assert_eq(dirty_bytes(&d), 65536);
	disk_end(&d);
}

/* Zeroes over data of the backup below, and over what there is no backup of. */
Test(backup, zeroes_hide_what_is_below)
{
	struct backup_options full = { .bitmap = "b" }, o = { .bitmap = "b", .incremental = true };
	struct block_request req = { .op = BLOCK_DISCARD, .bytes = 1 << 20 };
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	expect_end(begin_ok(&d, "full", full), BACKUP_COMPLETED, NULL);
	block_submit(d.block, &req);
	wait_for(&d, &req);
	memset(d.shadow, 0, 1 << 20);
	o.target.format = BACKUP_QCOW2;
	o.target.backing = "full";
	expect_end(begin_ok(&d, "part", o), BACKUP_COMPLETED, NULL);
	expect_restored(&d, "part", d.shadow);
	disk_end(&d);
}

static void write_start(struct disk *d, const char *text)
{
	struct iovec iov = { d->shadow, 512 };
	struct block_request req = { .op = BLOCK_WRITE, .bytes = 512, .iov = &iov, .niov = 1 };

	memcpy(d->shadow, text, strlen(text));
	block_submit(d->block, &req);
	wait_for(d, &req);
}

/* What the header says of the file below. */
static void expect_below(struct disk *d, const char *name, const char *format, const char *below)
{
	char path[128], got[32] = "";
	uint64_t at;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(restore_number(fd, 104, 4), 0xe2792aca);
	cr_assert_eq(restore_number(fd, 108, 4), strlen(format));
	restore_bytes(fd, 112, (uint8_t *)got, strlen(format));
	cr_assert_str_eq(got, format);
	memset(got, 0, sizeof(got));
	at = restore_number(fd, 8, 8);
	cr_assert_eq(restore_number(fd, 16, 4), strlen(below));
	restore_bytes(fd, at, (uint8_t *)got, strlen(below));
	cr_assert_str_eq(got, below);
	close(fd);
}

/* A guest writes the header of an image at the beginning of its disk: nobody is to follow it. */
Test(backup, a_disk_that_begins_like_an_image)
{
	struct backup_options full = { .bitmap = "b" }, o = { .bitmap = "b", .incremental = true };
	struct error *err = NULL;
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	write_start(&d, "QFI\xfb");
	expect_end(begin_ok(&d, "full", full), BACKUP_COMPLETED, NULL);
	o.target.format = BACKUP_QCOW2;
	o.target.backing = "full";
	cr_assert_null(begin(&d, "part", o, &err));
	expect_error(err, "'backing-format' to say which");
	o.target.backing_format = "raw";
	expect_end(begin_ok(&d, "part", o), BACKUP_COMPLETED, NULL);
	expect_below(&d, "part", "raw", "full");
	o.target.backing = "part";
	o.target.backing_format = NULL;
	expect_end(begin_ok(&d, "next", o), BACKUP_COMPLETED, NULL);
	expect_below(&d, "next", "qcow2", "part");
	o.target.backing = "full";
	o.target.backing_format = "qcow2";
	expect_end(begin_ok(&d, "said", o), BACKUP_COMPLETED, NULL);
	write_start(&d, "xxxx");
	expect_end(begin_ok(&d, "second", full), BACKUP_COMPLETED, NULL);
	o.target.backing = "second";
	cr_assert_null(begin(&d, "x", o, &err));
	expect_error(err, "expected a qcow2 image");
	disk_end(&d);
}

/* A colon does not make a protocol of the name. */
Test(backup, a_file_below_with_a_colon)
{
	struct backup_options full = { .bitmap = "b" }, o = { .bitmap = "b", .incremental = true };
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	expect_end(begin_ok(&d, "at 12:00", full), BACKUP_COMPLETED, NULL);
	change(&d, 512);
	o.target.format = BACKUP_QCOW2;
	o.target.backing = "at 12:00";
	expect_end(begin_ok(&d, "part", o), BACKUP_COMPLETED, NULL);
	expect_below(&d, "part", "raw", "./at 12:00");
	expect_restored(&d, "part", d.shadow);
	disk_end(&d);
}

/* Its folder cannot be read, so not be brought to disk either: there is no file of that name, and what is kept is what it is said to be. */
Test(backup, a_name_that_does_not_reach_the_disk)
{
	struct backup_options o = { .partial = true };
	struct backup_status s;
	char path[160];
	struct backup *b;
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	cr_assert_eq(chmod(d.dir, 0300), 0);
	if (geteuid() == 0)
		cr_assert(chown(d.dir, 65534, 65534) == 0 && seteuid(65534) == 0);
	b = begin_ok(&d, "full", o);
	backup_wait(b);
	if (getuid() == 0)
		cr_assert(seteuid(0) == 0);
	cr_assert_eq(chmod(d.dir, 0700), 0);
	backup_query(b, &s);
	cr_assert(s.end == BACKUP_FAILED && strstr(s.error, "full': Permission denied"));
	cr_assert_eq(scratch_count(d.dir), 2);
	snprintf(path, sizeof(path), "%s/full.%s", d.dir, s.partial);
	cr_assert_eq(access(path, F_OK), 0, "%s", path);
	backup_free(b);
	expect_end(begin_ok(&d, "full", o), BACKUP_COMPLETED, NULL);
	expect_restored(&d, "full", d.shadow);
	cr_assert_eq(scratch_count(d.dir), 2);
	disk_end(&d);
}

Test(backup, holes_stay_holes)
{
	static const enum backup_format formats[] = { BACKUP_RAW, BACKUP_QCOW2 };
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	memset(d.shadow, 0, IMAGE_BYTES);
	cr_assert_eq(truncate(d.path, 0), 0);
	cr_assert_eq(truncate(d.path, IMAGE_BYTES), 0);
	for (unsigned int i = 0; i < 2; i++) {
		struct backup_options o = { .target.format = formats[i] };
		const char *name = i ? "qcow2" : "raw";
		char path[128];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", d.dir, name);
		expect_end(begin_ok(&d, name, o), BACKUP_COMPLETED, NULL);
		expect_restored(&d, name, d.shadow);
		cr_assert_eq(stat(path, &st), 0);
		cr_assert_leq(st.st_blocks * 512, 512 << 10);
	}
	disk_end(&d);
}

/* A write that is held goes on; the file is gone; the bitmap holds what it held and what was written. */
Test(backup, cancelled)
{
	struct backup_options o = { .bitmap = "b", .incremental = true, .speed = CRAWL };
	struct backup *b;
	struct disk d;
	unsigned int files;

	disk_make(&d, BLOCK_AUTO);
	files = scratch_count(d.dir);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	disk_bitmaps_mark(&d.bitmaps, 0, 10 * 65536);
	o.target.format = BACKUP_QCOW2;
	b = begin_ok(&d, "part", o);
	disk_bitmaps_mark(&d.bitmaps, 20 * 65536, 1);
	cr_assert_gt(scratch_count(d.dir), files);
	backup_cancel(b);
	expect_end(b, BACKUP_CANCELLED, NULL);
	cr_assert_eq(scratch_count(d.dir), files);
	cr_assert_eq(dirty_bytes(&d), 11 * 65536);
	change(&d, 512);
	/* And again, wholly: nothing is lost. */
	o.speed = 0;
	b = begin_ok(&d, "part", o);
	expect_end(b, BACKUP_COMPLETED, NULL);
	disk_end(&d);
}

/* The target takes no more: the guest's writes go on, the image is right, the bitmap is as it was. */
Test(backup, a_target_that_is_full)
{
	struct backup_options o = { .bitmap = "b", .speed = CRAWL };
	struct rlimit old, small;
	struct backup *b;
	struct disk d;

	disk_make(&d, BLOCK_THREADS);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	o.target.format = BACKUP_QCOW2;
	b = begin_ok(&d, "full", o);
	small = (struct rlimit){ 1 << 20, old.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	backup_set_speed(b, 0);
	expect_end(b, BACKUP_FAILED, "full': File too large");
	setrlimit(RLIMIT_FSIZE, &old);
	cr_assert_eq(scratch_count(d.dir), 1);
	for (unsigned int i = 0; i < 20; i++)
		change(&d, 65536);
	o.speed = 0;
	expect_end(begin_ok(&d, "full", o), BACKUP_COMPLETED, NULL);
	expect_restored(&d, "full", d.shadow);
	disk_end(&d);
}

/* Writes that wait come back as not begun, and may begin anew. */
Test(backup, draining)
{
	struct backup_options o = { .speed = CRAWL };
	scoped_free uint8_t *data = calloc(1, 512), *then = NULL;
	struct block_request *req, *reqs = calloc(20, sizeof(*reqs));
	struct iovec iov = { data, 512 };
	struct block_requests back = TAILQ_HEAD_INITIALIZER(back);
	unsigned int n = 0;
	struct backup *b;
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	then = copy_of(&d);
	b = begin_ok(&d, "full", o);
	for (unsigned int i = 0; i < 20; i++) {
		reqs[i] = (struct block_request){ .op = BLOCK_WRITE,
						  .offset = i * 200 * 1024,
						  .bytes = 512,
						  .iov = &iov,
						  .niov = 1 };
		block_submit(d.block, &reqs[i]);
	}
	block_drain(d.block);
	while ((req = block_take_done(d.block))) {
		cr_assert(req->error == 0 || req->error == ECANCELED);
		memset(d.shadow + req->offset, 0, 512);
		n++;
		if (req->error)
			TAILQ_INSERT_TAIL(&back, req, entry);
	}
	cr_assert_eq(n, 20);
	while ((req = TAILQ_FIRST(&back))) {
		TAILQ_REMOVE(&back, req, entry);
		block_submit(d.block, req);
		wait_for(&d, req);
		cr_assert_eq(req->error, 0);
	}
	backup_set_speed(b, 0);
	expect_end(b, BACKUP_COMPLETED, NULL);
	expect_restored(&d, "full", then);
	free(reqs);
	disk_end(&d);
}

static unsigned int bitmaps(struct disk *d)
{
	struct disk_bitmap_info info;
	unsigned int n = 0;

	while (disk_bitmap_query(&d->bitmaps, n, &info))
		n++;
	return n;
}

/* Does not complete: the first time because the target takes no more than 3 MiB, the second because it is cancelled. */
static void leave_partial(struct disk *d, struct backup_options o, bool cancel)
{
	struct backup *b = begin_ok(d, "full", o);
	struct rlimit old, small;
	struct backup_status s;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = (struct rlimit){ 3 << 20, old.rlim_max };
	for (unsigned int k = 0; k < 5; k++)
		change(d, 4096);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	if (cancel)
		backup_cancel(b);
	else
		backup_set_speed(b, 0);
	backup_wait(b);
	setrlimit(RLIMIT_FSIZE, &old);
	backup_query(b, &s);
	cr_assert_eq(s.end, cancel ? BACKUP_CANCELLED : BACKUP_FAILED);
	cr_assert(s.partial);
	backup_free(b);
	cr_assert_eq(scratch_count(d->dir), 2);
	cr_assert_eq(bitmaps(d), 2);
}

/* It goes on where it was, as of a later moment; with what was written and zeroed since. */
Test(backup, what_is_kept_is_gone_on_with)
{
	struct backup_options o = { .bitmap = "b", .partial = true, .speed = CRAWL };
	struct backup_options next = { .bitmap = "b", .incremental = true };
	struct block_request zero = { .op = BLOCK_ZERO, .bytes = 256 << 10 };
	struct backup_status s;
	struct backup *b;
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	leave_partial(&d, o, false);
	leave_partial(&d, o, true);
	block_submit(d.block, &zero);
	wait_for(&d, &zero);
	memset(d.shadow, 0, zero.bytes);
	for (unsigned int k = 0; k < 3; k++)
		change(&d, 4096);
	o.speed = 0;
	b = begin_ok(&d, "full", o);
	backup_wait(b);
	backup_query(b, &s);
	cr_assert_lt(s.total, IMAGE_BYTES - (1 << 20));
	cr_assert_null(s.partial);
	expect_end(b, BACKUP_COMPLETED, NULL);
	expect_restored(&d, "full", d.shadow);
	cr_assert_eq(scratch_count(d.dir), 2);
	cr_assert_eq(bitmaps(&d), 1);
	/* It is the beginning of a chain like any other. */
	for (unsigned int k = 0; k < 5; k++)
		change(&d, 4096);
	next.target.format = BACKUP_QCOW2;
	next.target.backing = "full";
	expect_end(begin_ok(&d, "next", next), BACKUP_COMPLETED, NULL);
	expect_restored(&d, "next", d.shadow);
	disk_end(&d);
}

/* The file is gone, or of another size: it begins anew. One that is for another target is left alone. */
Test(backup, what_cannot_be_gone_on_with)
{
	struct backup_options o = { .partial = true, .speed = CRAWL };
	struct backup_status s;
	char path[160];
	struct backup *b;
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	for (unsigned int i = 0; i < 2; i++) {
		b = begin_ok(&d, "full", o);
		backup_cancel(b);
		backup_wait(b);
		backup_query(b, &s);
		snprintf(path, sizeof(path), "%s/full.%s", d.dir, s.partial);
		backup_free(b);
		cr_assert_eq(i ? unlink(path) : truncate(path, 512), 0);
	}
	b = begin_ok(&d, "other", o);
	backup_query(b, &s);
	cr_assert_eq(s.total, IMAGE_BYTES);
	backup_set_speed(b, 0);
	expect_end(b, BACKUP_COMPLETED, NULL);
	expect_restored(&d, "other", d.shadow);
	cr_assert_eq(bitmaps(&d), 2, "those that are kept");
	disk_end(&d);
}

Test(backup, an_image_that_has_become_shorter)
{
	struct backup_options o = { .speed = CRAWL };
	struct backup *b;
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	b = begin_ok(&d, "full", o);
	cr_assert_eq(truncate(d.path, 1 << 20), 0);
	backup_set_speed(b, 0);
	expect_end(b, BACKUP_FAILED, "reading");
	cr_assert_eq(scratch_count(d.dir), 1);
	disk_end(&d);
}

/* The longest name is one that fits with what is behind it until it is whole. */
Test(backup, long_names)
{
	char name[NAME_MAX + 1], deep[PATH_MAX];
	struct backup_options o = { 0 };
	struct error *err = NULL;
	struct disk d;
	long most;

	disk_make(&d, BLOCK_AUTO);
	most = pathconf(d.dir, _PC_NAME_MAX);
	cr_assert(most > 15 && most <= NAME_MAX);
	memset(name, 'n', sizeof(name));
	name[most - 14] = '\0';
	cr_assert_null(begin(&d, name, o, &err));
	cr_assert_not_null(strstr(error_msg(err), "expected at most"));
	expect_error(err, "'.partial-XXXXXX' is behind it");
	cr_assert_eq(scratch_count(d.dir), 1);
	name[most - 15] = '\0';
	expect_end(begin_ok(&d, name, o), BACKUP_COMPLETED, NULL);
	for (size_t i = 0; i < sizeof(deep); i += 2)
		memcpy(deep + i, "./", 2);
	deep[PATH_MAX - 1] = '\0';
	cr_assert_null(begin(&d, deep, o, &err));
	expect_error(err, "bytes, expected at most 4080");
	disk_end(&d);
}

Test(backup, refused)
{
	static const struct {
		const char *name, *bitmap, *backing, *words;
	} cases[] = {
		{ "disk", NULL, NULL, "disk' is there already" },
		{ "", NULL, NULL, "the target has no name" },
		{ "no/folder", NULL, NULL, "cannot create" },
		{ "x", "nothing", NULL, "no dirty bitmap 'nothing'" },
		{ "x", "b", "nothing", "nothing': cannot open it: No such file" },
		{ "x", "b", ".", "expected a file or a block device" },
		{ "x", "b", "fifo", "expected a file or a block device" },
	};
	struct backup_options o = { .speed = CRAWL };
	struct error *err = NULL;
	struct backup *b;
	char path[128];
	struct disk d;

	disk_make(&d, BLOCK_AUTO);
	cr_assert(disk_bitmap_add(&d.bitmaps, "b", 65536, true, NULL));
	disk_bitmaps_mark(&d.bitmaps, 0, 1);
	snprintf(path, sizeof(path), "%s/fifo", d.dir);
	cr_assert_eq(mkfifo(path, 0600), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		o.bitmap = cases[i].bitmap;
		o.incremental = o.bitmap != NULL;
		o.target.format = BACKUP_QCOW2;
		o.target.backing = cases[i].backing;
		cr_assert_null(begin(&d, cases[i].name, o, &err));
		expect_error(err, cases[i].words);
		cr_assert_eq(scratch_count(d.dir), 2);
		cr_assert_eq(dirty_bytes(&d), 65536);
	}
	/* A chain cannot begin with a bitmap that does not record; what it holds can be copied. */
	cr_assert(disk_bitmap_enable(&d.bitmaps, "b", false, NULL));
	o = (struct backup_options){ .bitmap = "b" };
	cr_assert_null(begin(&d, "x", o, &err));
	expect_error(err, "dirty bitmap 'b' is disabled");
	cr_assert_eq(scratch_count(d.dir), 2);
	cr_assert_eq(dirty_bytes(&d), 65536);
	o.incremental = true;
	o.target.format = BACKUP_QCOW2;
	expect_end(begin_ok(&d, "x", o), BACKUP_COMPLETED, NULL);
	cr_assert_eq(dirty_bytes(&d), 0);
	cr_assert(disk_bitmap_enable(&d.bitmaps, "b", true, NULL));
	/* One at a time; and its bitmap is its own. */
	o = (struct backup_options){ .speed = CRAWL, .bitmap = "b" };
	b = begin_ok(&d, "full", o);
	cr_assert_null(begin(&d, "second", o, &err));
	expect_error(err, "being backed up already");
	cr_assert_not(disk_bitmap_remove(&d.bitmaps, "b", &err));
	expect_error(err, "a backup uses it");
	backup_cancel(b);
	expect_end(b, BACKUP_CANCELLED, NULL);
	disk_end(&d);
}
