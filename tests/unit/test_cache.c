/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the page cache has the slots it says, gives a slot to one page at a time, keeps what was
 * used in this pass or the two before, and never lets one slot's bytes touch another's.
 *
 * How: the rules of cache.h one by one, then random use beside a model that keeps each slot's page,
 * last pass and a stamp of its bytes.
 */
#include "migration/ram/cache.h"
#include "tests/unit/support.h"

#define SEED 0x5eed0102
#define PAGE UINT64_C(4096)

static struct page_cache *cache_of(uint64_t bytes)
{
	struct error *err = NULL;
	struct page_cache *cache = page_cache_new(bytes, &err);

	expect_ok(cache, err);
	return cache;
}

Test(cache, sizes_are_rounded_down_to_a_power_of_two)
{
	static const struct {
		uint64_t bytes, slots;
	} sizes[] = {
		{ 0, 1 },
		{ 1, 1 },
		{ PAGE, 1 },
		{ 2 * PAGE - 1, 1 },
		{ 2 * PAGE, 2 },
		{ 3 * PAGE, 2 },
		{ 4 * PAGE - 1, 2 },
		{ 4 * PAGE, 4 },
		{ 100 * PAGE, 64 },
		{ UINT64_C(256) << 20, 65536 },
		{ (UINT64_C(256) << 20) - 1, 32768 },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct page_cache *cache = cache_of(sizes[i].bytes);

		cr_assert_eq(page_cache_slots(cache), sizes[i].slots, "%" PRIu64 " bytes",
			     sizes[i].bytes);
		page_cache_free(cache);
	}
	page_cache_free(NULL);
}

/* The sanitizer's allocator shall fail as malloc() does. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* No end to the search for a size would hang the test: hence the limit. */
Test(cache, a_size_beyond_all_memory_is_an_error, .timeout = 60)
{
	static const uint64_t sizes[] = { UINT64_C(1) << 62, UINT64_C(1) << 63, UINT64_MAX };

	for (size_t i = 0; i < 3; i++) {
		struct error *err = NULL;

		cr_assert_null(page_cache_new(sizes[i], &err));
		expect_error(err, "no memory for a page cache");
	}
}

Test(cache, the_headers_example)
{
	struct page_cache *cache = cache_of(4 * PAGE);
	struct cache_slot *slot = page_cache_claim(cache, 6, 1, false);

	cr_assert_not_null(slot);
	cr_assert_null(page_cache_lookup(cache, 10, 1), "another page's slot");
	cr_assert_null(page_cache_claim(cache, 10, 1, true), "used in this pass");
	cr_assert_null(page_cache_claim(cache, 10, 2, true), "used in the pass before");
	cr_assert_null(page_cache_claim(cache, 10, 3, true), "used two passes ago");
	cr_assert_null(page_cache_claim(cache, 10, 4, false), "old, but may not be evicted");
	cr_assert_eq(page_cache_lookup(cache, 6, 4), slot, "and a refusal has changed nothing");
	cr_assert_null(page_cache_claim(cache, 10, 6, true), "looking at it was a use");
	cr_assert_eq(page_cache_claim(cache, 10, 7, true), slot);
	cr_assert_null(page_cache_lookup(cache, 6, 7), "evicted");
	cr_assert_eq(page_cache_lookup(cache, 10, 7), slot);
	page_cache_free(cache);
}

Test(cache, page_0_is_a_page)
{
	struct page_cache *cache = cache_of(PAGE);
	struct cache_slot *slot;

	cr_assert_null(page_cache_lookup(cache, 0, 1), "nothing is cached yet");
	slot = page_cache_claim(cache, 0, 1, false);
	cr_assert_not_null(slot);
	cr_assert_eq(page_cache_lookup(cache, 0, 1), slot);
	cr_assert_null(page_cache_claim(cache, 1, 1, true));
	page_cache_free(cache);
}

/* The saver asks a claimed slot when its old bytes were last referred to: that must survive. */
Test(cache, a_slots_generation_outlives_its_page)
{
	struct page_cache *cache = cache_of(PAGE);
	struct cache_slot *slot = page_cache_claim(cache, 3, 1, false);

	slot->generation = 77;
	cr_assert_eq(page_cache_claim(cache, 4, 9, true), slot);
	cr_assert_eq(slot->generation, 77);
	page_cache_free(cache);
}

Test(cache, slots_do_not_share_bytes)
{
	struct page_cache *cache = cache_of(64 * PAGE);

	for (uint64_t page = 0; page < 64; page++) {
		struct cache_slot *slot = page_cache_claim(cache, page, 1, false);

		cr_assert_eq((uintptr_t)page_cache_data(cache, slot) % 8, 0, "aligned for words");
		memset(page_cache_data(cache, slot), (int)page + 1, PAGE);
	}
	for (uint64_t page = 0; page < 64; page++) {
		const uint8_t *data = page_cache_data(cache, page_cache_lookup(cache, page, 2));

		for (size_t i = 0; i < PAGE; i++)
			cr_assert_eq(data[i], page + 1, "page %" PRIu64 " byte %zu", page, i);
	}
	page_cache_free(cache);
}

#define SLOTS 16u

struct model_slot {
	uint64_t page; /* UINT64_MAX: free */
	uint32_t pass;
	uint64_t stamp;
};

static void stamp_put(struct page_cache *cache, struct cache_slot *slot, struct model_slot *model,
		      uint64_t stamp)
{
	uint8_t *data = page_cache_data(cache, slot);

	model->stamp = stamp;
	memcpy(data, &stamp, sizeof(stamp));
	memcpy(data + PAGE - sizeof(stamp), &stamp, sizeof(stamp));
}

static void expect_stamp(struct page_cache *cache, const struct cache_slot *slot, uint64_t stamp,
			 unsigned int i)
{
	const uint8_t *data = page_cache_data(cache, slot);

	cr_assert_arr_eq(data, (const uint8_t *)&stamp, sizeof(stamp), "seed %#x iteration %u",
			 SEED, i);
	cr_assert_arr_eq(data + PAGE - sizeof(stamp), (const uint8_t *)&stamp, sizeof(stamp));
}

Test(cache, random_use_beside_a_model)
{
	struct page_cache *cache = cache_of(SLOTS * PAGE);
	struct model_slot model[SLOTS];
	struct prng rng = { SEED };
	unsigned int evicted = 0, refused = 0;
	uint32_t pass = 1;

	for (unsigned int i = 0; i < SLOTS; i++)
		model[i] = (struct model_slot){ .page = UINT64_MAX };
	for (unsigned int i = 0; i < 50000; i++) {
		uint64_t page = prng_below(&rng, 64) + (prng_below(&rng, 2) << 40);
		struct model_slot *m = &model[page % SLOTS];
		bool may_evict = prng_below(&rng, 2);
		struct cache_slot *slot = page_cache_lookup(cache, page, pass);
		bool old;

		pass += prng_below(&rng, 40) == 0;
		cr_assert_eq(slot != NULL, m->page == page, "seed %#x iteration %u", SEED, i);
		if (slot) {
			expect_stamp(cache, slot, m->stamp, i);
			m->pass = slot->last_pass;
			continue;
		}
		old = m->page != UINT64_MAX && pass - m->pass > 2;
		slot = page_cache_claim(cache, page, pass, may_evict);
		cr_assert_eq(slot != NULL, m->page == UINT64_MAX || (may_evict && old),
			     "seed %#x iteration %u", SEED, i);
		refused += !slot;
		if (!slot)
			continue;
		evicted += old;
		*m = (struct model_slot){ .page = page, .pass = pass };
		stamp_put(cache, slot, m, prng_next(&rng));
	}
	cr_assert(evicted > 100 && refused > 100, "%u evicted, %u refused", evicted, refused);
	page_cache_free(cache);
}
