/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a disk image is read and written as asked, by io_uring and by threads alike; every request
 * comes back once, whatever happens to the image; and never do two machines write to one image.
 *
 * How: images in a scratch directory. Random requests that do not overlap in flight are compared with
 * a plain copy in memory. Locks are tried between several disks of this process, for which they hold
 * as they do between processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "devices/backend/block.h"
#include "devices/backend/block_parts.h"
#include "tests/unit/support.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

SUITE(block);

#define SEED 0x5eed0430
#define IMAGE_BYTES (1u << 20)
#define LANES 16 /* parts of the image, each with one request in flight at most */
#define LANE_BYTES (IMAGE_BYTES / LANES)

struct image {
	char dir[64], path[80];
	uint8_t *shadow;
};

static void image_make(struct image *im, size_t bytes)
{
	struct prng p = { SEED };
	int fd;

	scratch_make(im->dir);
	snprintf(im->path, sizeof(im->path), "%s/disk", im->dir);
	im->shadow = malloc(bytes);
	prng_fill(&p, im->shadow, bytes);
	fd = open(im->path, O_CREAT | O_WRONLY, 0600);
	cr_assert_eq(write(fd, im->shadow, bytes), (ssize_t)bytes);
	close(fd);
}

static void image_end(struct image *im)
{
	free(im->shadow);
	scratch_remove(im->dir);
}

static struct block *open_it(const struct image *im, enum block_engine engine, bool ro,
			     bool incoming, struct error **errp)
{
	struct block_options o = {
		.path = im->path, .engine = engine, .read_only = ro, .incoming = incoming
	};

	return block_open(&o, errp);
}

/* The engines that this host has. */
static bool has_engine(const struct image *im, enum block_engine engine)
{
	struct error *err = NULL;
	struct block *b = open_it(im, engine, false, false, &err);

	if (b)
		cr_assert_str_eq(block_engine_name(b),
				 engine == BLOCK_THREADS ? "threads" : "io_uring");
	error_free(err);
	block_close(b);
	return b != NULL;
}

/* Waits for one; what io_uring has done shows in its ring, what threads have done in the list. */
static struct block_request *wait_done(struct block *b)
{
	struct block_request *req;

	while (!(req = block_take_done(b)))
		sched_yield();
	return req;
}

static int do_one(struct block *b, enum block_op op, uint64_t offset, void *data, uint64_t bytes)
{
	struct iovec iov = { data, bytes };
	struct block_request req = {
		.op = op, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1
	};

	block_submit(b, &req);
	cr_assert_eq(wait_done(b), &req);
	return req.error;
}

struct lane {
	struct block_request req;
	struct iovec iov[4];
	uint8_t *data;
	bool in_flight;
};

/* A request somewhere in the lane. The shadow is changed at once: nothing else is in flight here. */
static void start_lane(struct block *b, struct prng *p, struct image *im, struct lane *l,
		       unsigned int n)
{
	uint64_t offset = prng_below(p, LANE_BYTES / 512) * 512;
	uint64_t bytes = (prng_below(p, (LANE_BYTES - offset) / 512) + 1) * 512, left = bytes;
	uint8_t *shadow = im->shadow + n * LANE_BYTES + offset, *at = l->data;

	l->req = (struct block_request){ .op = (enum block_op)prng_below(p, 5),
					 .offset = n * LANE_BYTES + offset,
					 .bytes = bytes,
					 .iov = l->iov,
					 .may_unmap = prng_below(p, 2) };
	if (l->req.op == BLOCK_WRITE) {
		prng_fill(p, l->data, bytes);
		memcpy(shadow, l->data, bytes);
	} else if (l->req.op == BLOCK_ZERO || l->req.op == BLOCK_DISCARD) {
		memset(shadow, 0, bytes); /* a hole reads as zeroes */
	}
	for (unsigned int i = 0; i < 4 && left; i++) {
		uint64_t take = i == 3 ? left : prng_below(p, left) + 1;

		l->iov[l->req.niov++] = (struct iovec){ at, take };
		at += take;
		left -= take;
	}
	l->in_flight = true;
	block_submit(b, &l->req);
}

static void finish_lane(struct image *im, struct block_request *req, unsigned int round)
{
	struct lane *l = container_of(req, struct lane, req);

	cr_assert(l->in_flight, "round %u: a request came back twice", round);
	l->in_flight = false;
	cr_assert_eq(req->error, 0, "round %u: %s", round, strerror(req->error));
	if (req->op == BLOCK_READ)
		cr_assert_eq(memcmp(l->data, im->shadow + req->offset, req->bytes), 0,
			     "seed 0x%x round %u: read of %" PRIu64 " at %" PRIu64, SEED, round,
			     req->bytes, req->offset);
}

static void expect_image(const struct image *im)
{
	uint8_t *have = malloc(IMAGE_BYTES);
	int fd = open(im->path, O_RDONLY);

	cr_assert_eq(read(fd, have, IMAGE_BYTES), IMAGE_BYTES);
	cr_assert_eq(memcmp(have, im->shadow, IMAGE_BYTES), 0);
	close(fd);
	free(have);
}

static void random_requests(enum block_engine engine)
{
	static struct lane lanes[LANES];
	struct error *err = NULL;
	struct prng p = { SEED };
	struct image im;
	struct block *b;

	image_make(&im, IMAGE_BYTES);
	if (!has_engine(&im, engine)) {
		image_end(&im);
		cr_skip_test("this host does not let us have io_uring");
	}
	b = open_it(&im, engine, false, false, &err);
	cr_assert_eq(block_bytes(b), IMAGE_BYTES);
	for (unsigned int i = 0; i < LANES; i++)
		lanes[i].data = malloc(LANE_BYTES);
	for (unsigned int round = 0; round < 3000; round++) {
		unsigned int n = (unsigned int)prng_below(&p, LANES);

		while (lanes[n].in_flight)
			finish_lane(&im, wait_done(b), round);
		start_lane(b, &p, &im, &lanes[n], n);
	}
	block_drain(b);
	for (unsigned int n = 0; n < LANES;) {
		struct block_request *req;

		if (!lanes[n].in_flight) {
			n++;
			continue;
		}
		req = wait_done(b);
		if (req->error == ECANCELED)
			block_submit(b, req); /* not done: do it now */
		else
			finish_lane(&im, req, 3000);
	}
	cr_assert_null(block_take_done(b));
	for (unsigned int i = 0; i < LANES; i++)
		free(lanes[i].data);
	block_close(b);
	expect_image(&im);
	image_end(&im);
}

Test(block, random_requests_by_threads)
{
	random_requests(BLOCK_THREADS);
}

Test(block, random_requests_by_io_uring)
{
	random_requests(BLOCK_URING);
}

/* More than the threads can have begun: some are done, the rest is cancelled, all come back. */
Test(block, draining_gives_everything_back)
{
	static const enum block_engine engines[] = { BLOCK_THREADS, BLOCK_URING };
	static uint8_t data[64][4096];
	static struct block_request reqs[64];
	static struct iovec iov[64];
	struct image im;

	image_make(&im, IMAGE_BYTES);
	for (size_t e = 0; e < 2; e++) {
		struct error *err = NULL;
		struct block *b = open_it(&im, engines[e], false, false, &err);

		error_free(err);
		for (unsigned int round = 0; b && round < 200; round++) {
			unsigned int back = 0;

			for (unsigned int i = 0; i < 64; i++) {
				iov[i] = (struct iovec){ data[i], 4096 };
				reqs[i] = (struct block_request){ .op = BLOCK_WRITE,
								  .offset = i * 4096,
								  .bytes = 4096,
								  .iov = &iov[i],
								  .niov = 1 };
				memset(data[i], (int)(i + round), 4096);
				block_submit(b, &reqs[i]);
			}
			block_drain(b);
			for (struct block_request *r; (r = block_take_done(b)) != NULL; back++) {
				uint8_t have[4096];

				cr_assert(r->error == 0 || r->error == ECANCELED);
				if (r->error)
					continue;
				cr_assert_eq(pread(b->fd, have, 4096, (off_t)r->offset), 4096);
				cr_assert_eq(memcmp(have, r->iov->iov_base, 4096), 0);
			}
			cr_assert_eq(back, 64);
			cr_assert_null(block_take_done(b));
		}
		block_close(b);
	}
	image_end(&im);
}

/* A page that is not there until the test says so: who writes from it waits in the kernel, as for a slow disk. -1: none can be had. */
static int page_that_waits(void **page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK); /* else poll() fails */

	*page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(*page, MAP_FAILED);
	area.range = (struct uffdio_range){ (uintptr_t)*page, 4096 };
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &area) == 0)
		return fd;
	close(fd);
	return -1;
}

static void let_go(int fd, void *page)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)page, 4096 } };

	cr_assert_eq(ioctl(fd, UFFDIO_ZEROPAGE, &zero), 0);
}

static void wait_readable(int fd)
{
	struct pollfd pfd = { fd, POLLIN, 0 };

	cr_assert_eq(poll(&pfd, 1, -1), 1);
}

struct drainer {
	struct block *block;
	_Atomic int tid;
};

static void *drain(void *opaque)
{
	struct drainer *d = opaque;

	d->tid = gettid();
	block_drain(d->block);
	return NULL;
}

/* While one thread drains, and the disk takes its time, another may ask what is done. By threads, for io_uring would wait for the page when it is
 * submitted to. */
Test(block, draining_lets_others_ask)
{
	struct iovec iov = { .iov_len = 4096 };
	struct block_request req = { .op = BLOCK_WRITE, .bytes = 4096, .iov = &iov, .niov = 1 };
	int fd = page_that_waits(&iov.iov_base);
	struct drainer d = { 0 };
	pthread_t thread;
	struct image im;

	if (fd < 0)
		cr_skip_test("no userfaultfd: no write can be held up");
	image_make(&im, IMAGE_BYTES);
	d.block = open_it(&im, BLOCK_THREADS, false, false, NULL);
	block_submit(d.block, &req);
	wait_readable(fd); /* a thread is in the write */
	cr_assert_eq(pthread_create(&thread, NULL, drain, &d), 0);
	while (!d.tid || !thread_waits(d.tid))
		sched_yield();
	cr_assert_null(block_take_done(d.block));
	let_go(fd, iov.iov_base);
	pthread_join(thread, NULL);
	cr_assert_eq(block_take_done(d.block), &req);
	cr_assert_eq(req.error, 0);
	block_close(d.block);
	close(fd);
	munmap(iov.iov_base, 4096);
	image_end(&im);
}

static struct {
	int fd;
	void *page;
	unsigned int lines;
	bool named;
} hanging;

/* The disk hangs until this is said. */
static void on_line(enum log_level level, const char *line)
{
	if (level != LOG_WARN)
		return;
	hanging.named = strstr(line, "/disk': waiting for the host") != NULL;
	hanging.lines++;
	let_go(hanging.fd, hanging.page);
}

Test(block, a_long_drain_is_told_once, .timeout = 60)
{
	struct iovec iov = { .iov_len = 4096 };
	struct block_request req = { .op = BLOCK_WRITE, .bytes = 4096, .iov = &iov, .niov = 1 };
	struct block *b;
	struct image im;

	hanging.fd = page_that_waits(&hanging.page);
	if (hanging.fd < 0)
		cr_skip_test("no userfaultfd: no write can be held up");
	iov.iov_base = hanging.page;
	image_make(&im, IMAGE_BYTES);
	b = open_it(&im, BLOCK_THREADS, false, false, NULL);
	log_set_sink(on_line, LOG_WARN);
	block_submit(b, &req);
	wait_readable(hanging.fd);
	block_drain(b);
	cr_assert(hanging.lines == 1 && hanging.named);
	cr_assert(block_take_done(b) == &req && req.error == 0);
	block_drain(b);
	cr_assert_eq(hanging.lines, 1);
	block_close(b);
	close(hanging.fd);
	munmap(hanging.page, 4096);
	image_end(&im);
}

Test(block, an_image_that_shrinks_gives_errors_and_stays_short)
{
	static const enum block_engine engines[] = { BLOCK_THREADS, BLOCK_URING };
	static uint8_t data[8192];

	for (size_t e = 0; e < 2; e++) {
		struct error *err = NULL;
		struct image im;
		struct block *b;
		struct stat st;

		image_make(&im, IMAGE_BYTES);
		b = open_it(&im, engines[e], false, false, &err);
		error_free(err);
		if (b) {
			cr_assert_eq(truncate(im.path, 64 << 10), 0);
			for (int op = BLOCK_READ; op <= BLOCK_ZERO; op++) {
				bool whole = op == BLOCK_FLUSH;

				cr_assert_eq(do_one(b, op, 0, data, 8192), 0);
				cr_assert_eq(do_one(b, op, (64 << 10) - 4096, data, 8192),
					     whole ? 0 : EIO, "op %d", op);
				cr_assert_eq(do_one(b, op, 512 << 10, data, 8192), whole ? 0 : EIO);
			}
			cr_assert(stat(im.path, &st) == 0 && st.st_size == 64 << 10);
			/* One that is gone from the directory is there for us still. */
			cr_assert_eq(unlink(im.path), 0);
			cr_assert_eq(do_one(b, BLOCK_WRITE, 0, data, 8192), 0);
		}
		block_close(b);
		image_end(&im);
	}
}

/* A file size limit stands in for a full disk: a write ends in the middle, then fails. */
Test(block, a_write_that_fails_in_the_middle_says_why)
{
	static const enum block_engine engines[] = { BLOCK_THREADS, BLOCK_URING };
	static uint8_t data[8192];
	struct rlimit old, small;

	signal(SIGXFSZ, SIG_IGN);
	for (size_t e = 0; e < 2; e++) {
		struct error *err = NULL;
		struct image im;
		struct block *b;

		image_make(&im, IMAGE_BYTES);
		b = open_it(&im, engines[e], false, false, &err);
		error_free(err);
		getrlimit(RLIMIT_FSIZE, &old);
		small = (struct rlimit){ 512 << 10, old.rlim_max };
		cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
		if (b)
			cr_assert_eq(do_one(b, BLOCK_WRITE, (512 << 10) - 4096, data, 8192), EFBIG,
				     "%s", block_engine_name(b));
		setrlimit(RLIMIT_FSIZE, &old);
		block_close(b);
		image_end(&im);
	}
}

/* --- locks --- */

static void refused(const struct image *im, bool ro, bool incoming, const char *text)
{
	struct error *err = NULL;

	cr_assert_null(open_it(im, BLOCK_THREADS, ro, incoming, &err), "expected: %s", text);
	expect_error(err, text);
	cr_assert_null(err);
}

static struct block *granted(const struct image *im, bool ro, bool incoming)
{
	struct error *err = NULL;
	struct block *b = open_it(im, BLOCK_THREADS, ro, incoming, &err);

	expect_ok(b, err);
	return b;
}

static uint64_t dirty_bytes(struct disk_bitmaps *d)
{
	struct disk_bitmap_info info = { 0 };

	cr_assert(disk_bitmap_query(d, 0, &info));
	return info.dirty_bytes;
}

/* Before it starts, and again where the bitmap began anew meanwhile; also what is cancelled or fails. Reading marks nothing. */
Test(block, whatever_changes_the_image_marks_the_bitmaps)
{
	static const enum block_engine engines[] = { BLOCK_THREADS, BLOCK_URING };
	static uint8_t data[8192];
	struct iovec iov = { data, sizeof(data) };
	struct disk_bitmaps d;
	struct image im;

	image_make(&im, IMAGE_BYTES);
	disk_bitmaps_init(&d, "disk0", IMAGE_BYTES);
	cr_assert(disk_bitmap_add(&d, "x", 4096, true, NULL));
	for (size_t e = 0; e < 2; e++) {
		struct block_options o = { .path = im.path, .engine = engines[e], .bitmaps = &d };
		struct block *b = block_open(&o, NULL);

		for (int op = BLOCK_READ; b && op <= BLOCK_ZERO; op++) {
			struct block_request req = {
				.op = op, .offset = 12288, .bytes = 8192, .iov = &iov, .niov = 1
			};
			uint64_t want = op == BLOCK_READ || op == BLOCK_FLUSH ? 0 : 8192;

			cr_assert(disk_bitmap_clear(&d, "x", NULL));
			block_submit(b, &req);
			cr_assert_eq(dirty_bytes(&d), want, "op %d", op);
			cr_assert(disk_bitmap_clear(&d, "x", NULL));
			block_drain(b);
			cr_assert_eq(dirty_bytes(&d), 0);
			cr_assert_eq(wait_done(b), &req);
			cr_assert_eq(dirty_bytes(&d), want, "op %d, at its end", op);
		}
		block_close(b);
	}
	disk_bitmaps_release(&d);
	image_end(&im);
}

Test(block, one_writes_or_many_read)
{
	struct image im;
	struct block *a, *b;

	image_make(&im, 4096);
	a = granted(&im, false, false);
	refused(&im, false, false, "in use by another machine");
	refused(&im, true, false, "which writes it");
	block_close(a);
	a = granted(&im, true, false);
	b = granted(&im, true, false);
	refused(&im, false, false, "which reads it");
	refused(&im, false, true, "which reads it");
	block_close(a);
	refused(&im, false, false, "which reads it");
	block_close(b);
	a = granted(&im, false, false);
	block_close(a);
	image_end(&im);
}

Test(block, a_migration_hands_the_image_over_and_takes_it_back)
{
	struct error *err = NULL;
	struct image im;
	struct block *source, *target;

	image_make(&im, 4096);
	source = granted(&im, false, false);
	target = granted(&im, false, true);
	cr_assert_not(block_take_running(target, &err), "the source writes");
	expect_error(err, "another machine writes to it");
	/* Handed over. */
	block_leave_running(source);
	refused(&im, false, false, "in use by another machine"); /* a third in between */
	expect_ok(block_take_running(target, &err), err);
	expect_ok(block_take_running(target, &err), err);
	cr_assert_not(block_take_running(source, &err));
	expect_error(err, "another machine writes to it");
	/* And back, as if it had failed. */
	block_leave_running(target);
	expect_ok(block_take_running(source, &err), err);
	block_close(target);
	refused(&im, false, false, "in use by another machine");
	block_close(source);
	source = granted(&im, false, false);
	block_close(source);
	image_end(&im);
}

Test(block, what_is_no_image_is_refused)
{
	struct error *err = NULL;
	struct block_options o = { .path = "/dev/null" };
	struct image im;

	cr_assert_null(block_open(&o, &err));
	expect_error(err, "expected a file or a block device");
	o.path = "/nonexistent/image";
	cr_assert_null(block_open(&o, &err));
	expect_error(err, "cannot open '/nonexistent/image': No such file");
	image_make(&im, 513);
	refused(&im, false, false, "513 bytes: expected whole sectors of 512");
	cr_assert_eq(truncate(im.path, 0), 0);
	refused(&im, true, false, "0 bytes");
	image_end(&im);
}

/* One write, and many flushes that wait for one another. */
static void *submit_and_end(void *opaque)
{
	static struct block_request reqs[64];
	static uint8_t data[65536];
	static struct iovec iov = { data, sizeof(data) };

	for (unsigned int i = 0; i < 64; i++) {
		reqs[i] = i ? (struct block_request){ .op = BLOCK_FLUSH }
			    : (struct block_request){ .op = BLOCK_WRITE,
						      .bytes = sizeof(data),
						      .iov = &iov,
						      .niov = 1 };
		block_submit(opaque, &reqs[i]);
	}
	return NULL;
}

/* io_uring cancels what a thread has submitted when that thread ends; the caller must not see it. */
Test(block, a_thread_that_submits_may_end)
{
	static const enum block_engine engines[] = { BLOCK_THREADS, BLOCK_URING };

	for (size_t e = 0; e < 2; e++) {
		struct error *err = NULL;
		struct image im;
		struct block *b;

		image_make(&im, IMAGE_BYTES);
		b = open_it(&im, engines[e], false, false, &err);
		error_free(err);
		for (unsigned int round = 0; b && round < 20; round++) {
			pthread_t thread;

			cr_assert_eq(pthread_create(&thread, NULL, submit_and_end, b), 0);
			pthread_join(thread, NULL);
			for (unsigned int i = 0; i < 64; i++) {
				struct block_request *req = wait_done(b);

				cr_assert_eq(req->error, 0, "%s", strerror(req->error));
			}
		}
		block_close(b);
		image_end(&im);
	}
}
