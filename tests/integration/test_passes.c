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

TestSuite(passes, .init = world_begin, .fini = world_end, .timeout = 150);

#define CAP (40 << 20)
#define PASSES 4

enum pattern { SPARSE, PAGES, RANDOM, ZERO };
static const char *const pattern_names[] = { "sparse", "pages", "random", "zero" };

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
	if (pattern == ZERO)
		check(normal < 4096, "a guest of zeroes sent %lld whole pages", (long long)normal);
	if (!xbzrle) {
		check(!cache || json_number(cache, NULL, "pages") == 0,
		      "differences without xbzrle");
		return;
	}
	check(cache, "no xbzrle-cache");
	if (pattern == SPARSE || pattern == PAGES)
		check(json_number(cache, NULL, "pages") > 0, "no page was sent as a difference");
	if (pattern == SPARSE)
		check(json_number(cache, NULL, "bytes") < json_number(cache, NULL, "pages") * 1024,
		      "sparse changes took %lld bytes for %lld pages",
		      (long long)json_number(cache, NULL, "bytes"),
		      (long long)json_number(cache, NULL, "pages"));
	if (pattern == RANDOM)
		check(json_number(cache, NULL, "overflow") > 0, "noise does not shrink");
}

/* Every page has been looked at since: the lap in progress may have begun before. */
static void await_two_laps(struct beats *b)
{
	unsigned int n = beats_messages(b, "lap ");

	WAIT_FOR(beats_messages(b, "lap ") >= n + 2);
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
	const struct plan with = { PASSES, CAP, 0, XBZRLE_ON },
			  without = { PASSES, CAP, 0, XBZRLE_OFF };
	struct beats *b = new_beats();
	struct side_options home = { .payload = "work",
				     .memory_mib = 24,
				     .cmdline = text_format("footprint=8M rate=2 pattern=%s",
							    pattern_names[pattern]),
				     .beats = b,
				     .more = (const char *[]){ "--dirty-log", log, NULL } };
	const struct side_options away = { .beats = b, .more = home.more };
	struct hop hop;

	if (strcmp(log, "manual-protect") == 0 && !has_manual_protect())
		cr_skip_test("this host's KVM has no manual protection of the dirty log");
	hop.to = side_start("home", &home);
	await_message(b, "working");
	hop = move_in_passes(hop.to, "with", &away, &with);
	check_counters(query_migrate(hop.from), pattern, true);
	hop = move_in_passes(hop.to, "without", &away, &without);
	check_counters(query_migrate(hop.from), pattern, false);
	await_two_laps(b);
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
	const struct plan plan = { PASSES, CAP, 0, XBZRLE_AS_IS };
	struct beats *b = new_beats();
	struct hop hop = move_in_passes(start_work("home", b, ""), "away",
					&(struct side_options){ .beats = b }, &plan);
	json_t *q = query_migrate(hop.from);

	cr_assert(json_number(q, "xbzrle-cache", "pages") > 0);
	cr_assert(json_number(q, "xbzrle-cache", "cache-size") > 0);
	await_beats(b, 50);
}

/* A cache of a few pages only is of no use, and does no harm. */
Test(passes, tiny_cache)
{
	const struct plan plan = { PASSES, CAP, 64 << 10, XBZRLE_ON };
	struct beats *b = new_beats();
	struct hop hop = move_in_passes(start_work("home", b, ""), "away",
					&(struct side_options){ .beats = b }, &plan);

	cr_assert(json_number(query_migrate(hop.from), "xbzrle-cache", "cache-miss") > 0);
	await_two_laps(b);
}

/*
 * A limit into which next to nothing fits: passes go on, but each costs the guest time, so they must not follow upon each
 * other as fast as they can. The guest's own milliseconds are the clock.
 */
Test(passes, limit_that_nothing_fits_into)
{
	struct beats *b = new_beats();
	struct side *source = start_work("source", b, "rate=1");
	struct side *target = start_target("target", b);
	json_int_t passes;
	uint64_t beats;

	set_parameter(source, "downtime-limit", 0);
	begin_migration(source, side_uri(target));
	WAIT_FOR(source->qmp->pass >= 2 || is_over(source));
	passes = source->qmp->pass;
	beats = b->count;
	WAIT_FOR(b->count >= beats + 200 || is_over(source));
	passes = source->qmp->pass - passes;
	beats = b->count - beats;
	check((uint64_t)passes <= beats + 10, "%lld passes in %llu ms", (long long)passes,
	      (unsigned long long)beats);
	set_parameter(source, "downtime-limit", DOWNTIME_DEFAULT);
	await_migration(source, "completed");
	await_migration(target, "completed");
	await_beats(b, 50);
}
