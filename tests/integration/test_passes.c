/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a guest that goes on writing while it is moved arrives whole, whatever it writes and however that is found and sent.
 *
 * Approach: a downtime limit of 0, into which next to nothing fits, keeps the source in its passes until the fourth has begun; then the
 * limit is raised and it converges. Which pages were sent whole, zero, or as differences is read from the counters. The guest
 * compares each of its pages with what it has written, all the time, and says so where one differs; after a move it must have
 * gone round all of them at the destination.
 */
#include "tests/integration/moves.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/clock.h"

TestSuite(passes, .init = world_begin, .fini = world_end, .timeout = 600);

#define CAP (40 << 20)
#define PASSES 4

enum pattern { SPARSE, PAGES, RANDOM, ZERO };
static const char *const pattern_names[] = { "sparse", "pages", "random", "zero" };

#define PAGES_OF(bytes) ((bytes) / 4096)
#define FOOTPRINT (8 << 20)

static json_int_t cache_number(json_t *q, const char *member)
{
	return json_number(q, "xbzrle-cache", member);
}

static bool has_differences(json_t *q)
{
	return cache_number(q, "pages") > 0;
}

/* Noise does not shrink. */
static bool has_overflow(json_t *q)
{
	return cache_number(q, "overflow") > 0;
}

static bool has_misses(json_t *q)
{
	return cache_number(q, "cache-miss") > 0;
}

/* What nobody writes to goes out once: more than that are pages that the guest has made zero again. */
static bool has_new_zeroes(json_t *q)
{
	return json_number(q, "ram", "duplicate") >
	       PAGES_OF(json_number(q, "ram", "total") - FOOTPRINT);
}

/* What passes that are enough must have shown, with differences and without. When that is depends on the host. */
static bool (*const shown[][2])(json_t *q) = {
	[SPARSE] = { has_differences, NULL },
	[PAGES] = { has_differences, NULL },
	[RANDOM] = { has_overflow, NULL },
	[ZERO] = { has_new_zeroes, has_new_zeroes },
};

static void check_counters(json_t *q, enum pattern pattern, bool xbzrle)
{
	json_int_t total = json_number(q, "ram", "total");
	json_int_t normal = json_number(q, "ram", "normal");
	json_int_t zero = json_number(q, "ram", "duplicate");
	json_t *cache = json_object_get(q, "xbzrle-cache");

	check(json_number(q, "ram", "dirty-sync-count") >= PASSES, "passes");
	check(json_number(q, "ram", "remaining") == 0, "remaining");
	check(total >= 24 << 20, "total");
	/* The first pass alone has each page once. */
	check((normal + zero) * 4096 >= total, "%lld whole and %lld zero pages of %lld bytes",
	      (long long)normal, (long long)zero, (long long)total);
	check(json_number(q, "ram", "normal-bytes") == normal * 4096, "normal-bytes");
	check(json_number(q, "ram", "transferred") > json_number(q, "ram", "normal-bytes"),
	      "transferred");
	if (!xbzrle) {
		check(!cache || json_number(cache, NULL, "pages") == 0,
		      "differences without xbzrle");
		return;
	}
	check(cache, "no xbzrle-cache");
	if (pattern == SPARSE)
		check(json_number(cache, NULL, "bytes") < json_number(cache, NULL, "pages") * 1024,
		      "sparse changes took %lld bytes for %lld pages",
		      (long long)json_number(cache, NULL, "bytes"),
		      (long long)json_number(cache, NULL, "pages"));
}

static bool has_manual_protect(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	bool has = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0;

	close(kvm);
	return has;
}

/* One way with differences, and the other, of the same guest, without; what it then checks has taken both. */
static void passes(enum pattern pattern, const char *log)
{
	const struct plan with = { PASSES, CAP, 0, XBZRLE_ON, shown[pattern][0] },
			  without = { PASSES, CAP, 0, XBZRLE_OFF, shown[pattern][1] };
	struct beats *b = new_beats();
	struct side_options home = { .payload = "work",
				     .memory_mib = 24,
				     .cmdline = text_format("footprint=%u rate=2 pattern=%s",
							    FOOTPRINT, pattern_names[pattern]),
				     .beats = b,
				     .more = (const char *[]){ "--dirty-log", log, NULL } };
	const struct side_options away = { .beats = b, .more = home.more };
	struct hop hop;

	if (strcmp(log, "manual-protect") == 0 && !has_manual_protect())
		skip("this host's KVM has no manual protection of the dirty log");
	hop.to = side_start("home", &home);
	await_message(b, "working");
	hop = move_in_passes(hop.to, "with", &away, &with);
	check_counters(query_migrate(hop.from), pattern, true);
	hop = move_in_passes(hop.to, "without", &away, &without);
	check_counters(query_migrate(hop.from), pattern, false);
	await_laps(b, 2);
}

#define PASSES_TEST(name, pattern)                 \
	Test(passes, name##_plain)                 \
	{                                          \
		passes(pattern, "plain");          \
	}                                          \
	Test(passes, name##_manual)                \
	{                                          \
		passes(pattern, "manual-protect"); \
	}

PASSES_TEST(sparse, SPARSE)
PASSES_TEST(pages, PAGES)
PASSES_TEST(random, RANDOM)
PASSES_TEST(zero, ZERO)

/* Nobody asked for differences or against them: where the cap makes the link slow, they are used. */
Test(passes, xbzrle_where_it_pays)
{
	const struct plan plan = { PASSES, CAP, 0, XBZRLE_AS_IS, has_differences };
	struct beats *b = new_beats();
	struct hop hop = move_in_passes(start_work("home", b, ""), "away",
					&(struct side_options){ .beats = b }, &plan);

	cr_assert(cache_number(query_migrate(hop.from), "cache-size") > 0);
	await_beats(b, 50);
}

/* A cache of a few pages only is of no use, and does no harm. */
Test(passes, tiny_cache)
{
	const struct plan plan = { PASSES, CAP, 64 << 10, XBZRLE_ON, has_misses };
	struct beats *b = new_beats();

	move_in_passes(start_work("home", b, ""), "away", &(struct side_options){ .beats = b },
		       &plan);
	await_laps(b, 2);
}

/* Where nothing fits, a pass of a few pages costs the guest time and is of no use: there are no more than a hundred a second. */
Test(passes, limit_that_nothing_fits_into)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "rate=1");
	struct side *target = start_target("target", b);
	uint64_t start = clock_now_ns(), ms;
	json_int_t passes;

	set_parameter(source, "downtime-limit", 0);
	begin_migration(source, side_uri(target));
	await_pass(source, 30);
	passes = source->qmp->pass;
	ms = (clock_now_ns() - start) / NS_PER_MS;
	/* The second one is announced when the first one ends. */
	check((uint64_t)passes <= ms / 10 + 3, "%lld passes in %llu ms", (long long)passes,
	      (unsigned long long)ms);
	set_parameter(source, "downtime-limit", DOWNTIME_DEFAULT);
	await_migration(source, "completed");
	await_migration(target, "completed");
	await_beats(b, 50);
}
