/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: whatever users do to a disk's bitmaps while writes are in flight, no bit is clear where the disk has changed since its
 * bitmap was made or cleared; and where writes are aligned and nothing is in flight, no bit is set beside it.
 *
 * How: a naive disk of grains, in which the test knows what has changed. A write takes time: it begins, and its data land when it
 * ends, somewhere among other operations. Seeds and steps are in the messages.
 */
#include "tests/unit/support.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/disk_bitmap.h"

SUITE(disk_bitmap);

#define SEED UINT64_C(0x5eed0510)
#define SECTOR 512u
#define SECTORS 2000u
#define DISK (SECTORS * SECTOR)
#define NAMES 5
#define FLIGHTS 4

static const struct disk_bitmap *get(const struct disk_bitmaps *d, const char *name)
{
	const struct disk_bitmap *bm;

	TAILQ_FOREACH (bm, &d->list, entry)
		if (strcmp(bm->name, name) == 0)
			break;
	return bm;
}

static void add(struct disk_bitmaps *d, const char *name, uint64_t granularity)
{
	struct error *err = NULL;

	expect_ok(disk_bitmap_add(d, name, granularity, true, &err), err);
}

static void write_at(struct disk_bitmaps *d, uint64_t offset, uint64_t bytes)
{
	disk_bitmaps_end_write(d, offset, bytes, disk_bitmaps_begin_write(d, offset, bytes));
}

static uint64_t dirty_in(struct disk_bitmaps *d, const char *name)
{
	struct disk_bitmap_info info;
	unsigned int i = 0;

	do
		cr_assert(disk_bitmap_query(d, i++, &info), "no bitmap '%s'", name);
	while (strcmp(info.name, name) != 0);
	return info.dirty_bytes;
}

/* --- the naive disk --- */

struct model {
	struct disk_bitmaps d;
	struct prng p;
	uint64_t step, align;
	struct naive {
		bool exists, enabled;
		uint64_t granularity;
		bool must[SECTORS]; /* has changed: its grain must be dirty */
		bool may[SECTORS];  /* some write that began or ended in its time covers it */
	} naive[NAMES];
	struct flight {
		bool on;
		uint64_t first, n, era; /* sectors */
	} flights[FLIGHTS];
};

static const char *const names[NAMES] = { "a", "b", "c", "d", "e" };

static void begin_flight(struct model *m, struct flight *f)
{
	uint64_t units = SECTORS / m->align;
	uint64_t first = prng_below(&m->p, units), n = prng_below(&m->p, 30) + 1;

	f->on = true;
	f->first = first * m->align;
	f->n = MIN_OF(n, units - first) * m->align;
	f->era = disk_bitmaps_begin_write(&m->d, f->first * SECTOR, f->n * SECTOR);
	for (unsigned int i = 0; i < NAMES; i++)
		for (uint64_t s = f->first; m->naive[i].enabled && s < f->first + f->n; s++)
			m->naive[i].may[s] = true;
}

/* The data land, then the writer says so. */
static void end_flight(struct model *m, struct flight *f)
{
	for (unsigned int i = 0; i < NAMES; i++)
		for (uint64_t s = f->first; m->naive[i].enabled && s < f->first + f->n; s++)
			m->naive[i].must[s] = m->naive[i].may[s] = true;
	disk_bitmaps_end_write(&m->d, f->first * SECTOR, f->n * SECTOR, f->era);
	f->on = false;
}

static void change_one(struct model *m, unsigned int i)
{
	struct naive *n = &m->naive[i];
	struct error *err = NULL;
	bool on = prng_below(&m->p, 3) > 0;

	if (!n->exists) {
		*n = (struct naive){ .exists = true, .enabled = on };
		n->granularity = UINT64_C(512) << prng_below(&m->p, 12);
		expect_ok(disk_bitmap_add(&m->d, names[i], n->granularity, on, &err), err);
		return;
	}
	switch (prng_below(&m->p, 4)) {
	case 0:
		*n = (struct naive){ 0 };
		expect_ok(disk_bitmap_remove(&m->d, names[i], &err), err);
		break;
	case 1:
		memset(n->must, 0, sizeof(n->must));
		memset(n->may, 0, sizeof(n->may));
		expect_ok(disk_bitmap_clear(&m->d, names[i], &err), err);
		break;
	default:
		n->enabled = on;
		expect_ok(disk_bitmap_enable(&m->d, names[i], on, &err), err);
	}
}

static void merge_two(struct model *m, unsigned int to, unsigned int from)
{
	struct disk_bitmap_ref target = { &m->d, names[to] }, source = { &m->d, names[from] };
	struct naive *t = &m->naive[to], *f = &m->naive[from];
	struct error *err = NULL;
	bool ok = disk_bitmap_merge(&target, &source, 1, &err);

	cr_assert_eq(ok, t->exists && f->exists, "step %lu", m->step);
	error_free(err);
	if (!ok)
		return;
	for (uint64_t s = 0; s < SECTORS; s++) {
		uint64_t grain = f->granularity / SECTOR, first = s / grain * grain;

		t->must[s] |= f->must[s];
		/* The source's whole grain is dirty, or may be. */
		for (uint64_t k = first; k < first + grain && k < SECTORS; k++)
			t->may[s] |= f->may[k];
	}
}

static void compare(struct model *m)
{
	for (unsigned int i = 0; i < NAMES; i++) {
		const struct naive *n = &m->naive[i];
		const struct disk_bitmap *bm = get(&m->d, names[i]);
		uint64_t grain = n->granularity / SECTOR;

		cr_assert_eq(bm != NULL, n->exists);
		for (uint64_t first = 0; bm && first < SECTORS; first += grain) {
			bool must = false, may = false;

			for (uint64_t s = first; s < first + grain && s < SECTORS; s++) {
				must |= n->must[s];
				may |= n->may[s];
			}
			cr_assert(hbitmap_get(bm->bits, first * SECTOR) ? may : !must,
				  "seed 0x%lx step %lu: bitmap %s, sector %lu is %s", SEED, m->step,
				  names[i], first, must ? "lost" : "set for nothing");
		}
	}
}

static void run_model(uint64_t align, uint64_t steps)
{
	struct model *m = xcalloc(1, sizeof(*m));

	m->p.state = SEED + align;
	m->align = align;
	disk_bitmaps_init(&m->d, "disk0", DISK);
	for (m->step = 0; m->step < steps; m->step++) {
		struct flight *f = &m->flights[prng_below(&m->p, FLIGHTS)];
		unsigned int i = (unsigned int)prng_below(&m->p, NAMES);

		if (prng_below(&m->p, 10) < 6 && !f->on)
			begin_flight(m, f);
		else if (f->on)
			end_flight(m, f);
		else if (prng_below(&m->p, 4))
			change_one(m, i);
		else
			merge_two(m, i, (unsigned int)prng_below(&m->p, NAMES));
		compare(m);
	}
	disk_bitmaps_release(&m->d);
	free(m);
}

Test(disk_bitmap, never_clear_where_the_disk_has_changed)
{
	run_model(1, 3000);
	run_model(8, 3000);
}

/* Nothing in flight, all aligned: the bits are the truth itself. */
Test(disk_bitmap, exact_where_writes_are_aligned)
{
	static bool written[DISK / 4096 + 1];
	struct prng p = { SEED };
	struct disk_bitmaps d;
	uint64_t grains = DISK / 4096, count = 0;

	disk_bitmaps_init(&d, "disk0", DISK);
	add(&d, "x", 4096);
	for (unsigned int round = 0; round < 100; round++) {
		uint64_t first = prng_below(&p, grains), n = prng_below(&p, 4);

		n = MIN_OF(n, grains - first);
		if (n)
			write_at(&d, first * 4096, n * 4096);
		for (uint64_t g = first; g < first + n; g++) {
			count += !written[g];
			written[g] = true;
		}
		cr_assert_eq(dirty_in(&d, "x"), count * 4096, "round %u", round);
		for (uint64_t g = 0; g < grains; g++)
			cr_assert_eq(hbitmap_get(get(&d, "x")->bits, g * 4096), written[g]);
	}
	disk_bitmaps_release(&d);
}

/* The three ways in which a bitmap begins anew while a write is on its way. */
Test(disk_bitmap, a_write_on_its_way_is_seen_by_who_begins_anew)
{
	struct error *err = NULL;
	struct disk_bitmaps d;
	uint64_t era;

	disk_bitmaps_init(&d, "disk0", DISK);
	era = disk_bitmaps_begin_write(&d, 0, 4096);
	add(&d, "added", 4096);
	disk_bitmaps_end_write(&d, 0, 4096, era);
	cr_assert_eq(dirty_in(&d, "added"), 4096);

	era = disk_bitmaps_begin_write(&d, 8192, 4096);
	expect_ok(disk_bitmap_clear(&d, "added", &err), err);
	cr_assert_eq(dirty_in(&d, "added"), 0);
	disk_bitmaps_end_write(&d, 8192, 4096, era);
	cr_assert_eq(dirty_in(&d, "added"), 4096);

	expect_ok(disk_bitmap_enable(&d, "added", false, &err), err);
	era = disk_bitmaps_begin_write(&d, 16384, 4096);
	cr_assert_eq(dirty_in(&d, "added"), 4096, "it is disabled");
	expect_ok(disk_bitmap_enable(&d, "added", true, &err), err);
	disk_bitmaps_end_write(&d, 16384, 4096, era);
	cr_assert_eq(dirty_in(&d, "added"), 8192);
	disk_bitmaps_release(&d);
}

Test(disk_bitmap, a_write_marks_before_it_starts)
{
	struct disk_bitmaps d;
	uint64_t era;

	disk_bitmaps_init(&d, "disk0", DISK);
	add(&d, "x", 65536);
	era = disk_bitmaps_begin_write(&d, 65535, 2);
	cr_assert_eq(dirty_in(&d, "x"), 2 * 65536);
	disk_bitmaps_end_write(&d, 65535, 2, era);
	/* Beyond the end, of which there is none to be marked. */
	write_at(&d, DISK - 1, 100);
	write_at(&d, DISK, 100);
	write_at(&d, UINT64_MAX, 100);
	cr_assert_eq(dirty_in(&d, "x"), 3 * 65536);
	disk_bitmaps_release(&d);
}

Test(disk_bitmap, what_is_refused)
{
	static const uint64_t bad[] = { 0, 1, 256, 513, 65537, UINT64_C(1) << 32, UINT64_MAX };
	struct disk_bitmaps d;
	struct error *err = NULL;
	char name[DISK_BITMAP_NAME_MAX + 2];

	disk_bitmaps_init(&d, "disk7", DISK);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert_not(disk_bitmap_add(&d, "x", bad[i], true, &err));
		expect_error(err, "disk 'disk7': dirty bitmap 'x': granularity");
	}
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_assert_not(disk_bitmap_add(&d, name, 4096, true, &err));
	expect_error(err, "this one has 128");
	cr_assert_not(disk_bitmap_add(&d, "", 4096, true, &err));
	expect_error(err, "this one has 0");
	add(&d, name + 1, 512);
	add(&d, "x", UINT64_C(1) << 31);
	cr_assert_not(disk_bitmap_add(&d, "x", 4096, true, &err));
	expect_error(err, "disk 'disk7' has a dirty bitmap 'x' already");
	cr_assert_not(disk_bitmap_remove(&d, "y", &err));
	expect_error(err, "disk 'disk7' has no dirty bitmap 'y'");
	cr_assert_not(disk_bitmap_clear(&d, "y", &err));
	expect_error(err, "disk 'disk7' has no dirty bitmap 'y'");
	cr_assert_not(disk_bitmap_enable(&d, "y", true, &err));
	expect_error(err, "disk 'disk7' has no dirty bitmap 'y'");
	for (unsigned int i = 2; i < DISK_BITMAPS_MAX; i++) {
		snprintf(name, sizeof(name), "%u", i);
		add(&d, name, 65536);
	}
	cr_assert_not(disk_bitmap_add(&d, "one more", 4096, true, &err));
	expect_error(err, "there is no room for 'one more'");
	disk_bitmaps_release(&d);
}

/* A busy one may be looked at, and goes on recording. */
Test(disk_bitmap, busy)
{
	struct disk_bitmap_ref busy, idle;
	struct disk_bitmap_info info;
	struct error *err = NULL;
	struct disk_bitmaps d;

	disk_bitmaps_init(&d, "disk0", DISK);
	add(&d, "busy", 4096);
	add(&d, "idle", 4096);
	((struct disk_bitmap *)get(&d, "busy"))->user = "a migration";
	cr_assert_not(disk_bitmap_remove(&d, "busy", &err));
	expect_error(err, "'busy' is busy");
	cr_assert_not(disk_bitmap_clear(&d, "busy", &err));
	expect_error(err, "'busy' is busy");
	cr_assert_not(disk_bitmap_enable(&d, "busy", false, &err));
	expect_error(err, "'busy' is busy");
	busy = (struct disk_bitmap_ref){ &d, "busy" };
	idle = (struct disk_bitmap_ref){ &d, "idle" };
	cr_assert_not(disk_bitmap_merge(&busy, &idle, 1, &err));
	expect_error(err, "'busy' is busy");
	cr_assert_not(disk_bitmap_merge(&idle, &busy, 1, &err));
	expect_error(err, "'busy' is busy");
	write_at(&d, 0, 1);
	cr_assert(disk_bitmap_query(&d, 0, &info));
	cr_assert(info.busy && info.enabled && info.dirty_bytes == 4096 &&
		  info.granularity == 4096 && strcmp(info.name, "busy") == 0);
	cr_assert_not(disk_bitmap_query(&d, 2, &info));
	disk_bitmaps_release(&d);
}

Test(disk_bitmap, merge_is_all_or_nothing)
{
	struct disk_bitmaps a, b, other;
	struct error *err = NULL;

	disk_bitmaps_init(&a, "a", DISK);
	disk_bitmaps_init(&b, "b", DISK);
	disk_bitmaps_init(&other, "other", DISK + SECTOR);
	add(&a, "to", 4096);
	add(&a, "coarse", 65536);
	add(&b, "from", 512);
	add(&other, "from", 512);
	cr_assert(disk_bitmap_enable(&a, "to", false, NULL));
	write_at(&a, 131072, 1);
	write_at(&b, 0, 1);
	write_at(&other, 0, 1);
	struct disk_bitmap_ref to = { &a, "to" },
			       sources[] = { { &b, "from" }, { &a, "coarse" }, { &a, "none" } };

	cr_assert_not(disk_bitmap_merge(&to, sources, 3, &err));
	expect_error(err, "disk 'a' has no dirty bitmap 'none'");
	sources[2] = (struct disk_bitmap_ref){ &other, "from" };
	cr_assert_not(disk_bitmap_merge(&to, sources, 3, &err));
	expect_error(err, "of disk 'other' is of 1024512 bytes");
	cr_assert_eq(dirty_in(&a, "to"), 0);
	expect_ok(disk_bitmap_merge(&to, sources, 2, &err), err);
	cr_assert_eq(dirty_in(&a, "to"), 4096 + 65536);
	to.name = "gone";
	cr_assert_not(disk_bitmap_merge(&to, NULL, 0, &err));
	expect_error(err, "disk 'a' has no dirty bitmap 'gone'");
	disk_bitmaps_release(&a);
	disk_bitmaps_release(&b);
	disk_bitmaps_release(&other);
}

/* Two threads merge across two disks, each in the other direction, while a third writes: no one waits for ever, nothing is lost. */
static void *write_always(void *opaque)
{
	struct disk_bitmaps *d = opaque;

	for (unsigned int i = 0; i < 4000; i++)
		write_at(d, (uint64_t)(i % SECTORS) * SECTOR, SECTOR);
	return NULL;
}

static void *merge_always(void *opaque)
{
	struct disk_bitmaps **d = opaque;
	struct disk_bitmap_ref to = { d[0], "x" }, from = { d[1], "x" };

	for (unsigned int i = 0; i < 300; i++)
		cr_assert(disk_bitmap_merge(&to, &from, 1, NULL));
	return NULL;
}

Test(disk_bitmap, threads)
{
	struct disk_bitmaps a, b, *one[] = { &a, &b }, *two[] = { &b, &a };
	pthread_t t[3];

	disk_bitmaps_init(&a, "a", DISK);
	disk_bitmaps_init(&b, "b", DISK);
	add(&a, "x", 512);
	add(&b, "x", 512);
	pthread_create(&t[0], NULL, write_always, &a);
	pthread_create(&t[1], NULL, merge_always, one);
	pthread_create(&t[2], NULL, merge_always, two);
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	merge_always(two);
	cr_assert_eq(dirty_in(&a, "x"), DISK);
	cr_assert_eq(dirty_in(&b, "x"), DISK);
	disk_bitmaps_release(&a);
	disk_bitmaps_release(&b);
}
