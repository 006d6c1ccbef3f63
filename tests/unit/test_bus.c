/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an access reaches the one region that holds all of it, with the offset inside; everything
 * else reads as ones and is dropped. Regions cannot overlap, in whichever order they come.
 *
 * How: regions that write down their accesses; every way two regions can meet; random regions
 * against an array of owners.
 */
#include "tests/unit/support.h"
#include "vmm/kvm/bus.h"

SUITE(bus);

#define SEED 0x5eed0020

struct probe {
	uint64_t offset, value;
	unsigned int size, reads, writes;
};

static uint64_t probe_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct probe *p = opaque;

	p->offset = offset;
	p->size = size;
	p->reads++;
	return 0x1234;
}

static void probe_write(void *opaque, uint64_t offset, uint64_t value, unsigned int size)
{
	struct probe *p = opaque;

	p->offset = offset;
	p->value = value;
	p->size = size;
	p->writes++;
}

static const struct bus_ops probe_ops = { probe_read, probe_write };

static bool add(struct bus *bus, uint64_t start, uint64_t length, struct probe *p,
		struct error **errp)
{
	struct bus_region region = { start, length, "probe", &probe_ops, p };

	return bus_add(bus, &region, errp);
}

static void expect_nothing(struct bus *bus, uint64_t address, unsigned int size)
{
	uint64_t ones = ~UINT64_C(0) >> (64 - 8 * size);

	cr_assert_eq(bus_read(bus, address, size) & ones, ones, "0x%" PRIx64, address);
	bus_write(bus, address, 1, size);
}

Test(bus, an_access_reaches_its_region)
{
	struct bus bus = { .name = "pio" };
	struct probe low = { 0 }, high = { 0 };

	cr_assert(add(&bus, 0x100, 8, &high, NULL)); /* added in the wrong order */
	cr_assert(add(&bus, 0x60, 5, &low, NULL));
	cr_assert_eq(bus.regions[0].start, 0x60);
	cr_assert_eq(bus_read(&bus, 0x60, 1), 0x1234);
	cr_assert(low.offset == 0 && low.size == 1 && low.reads == 1);
	bus_write(&bus, 0x64, 0xab, 1);
	cr_assert(low.offset == 4 && low.value == 0xab && low.writes == 1);
	bus_write(&bus, 0x104, 0x11223344, 4); /* up to the last byte */
	cr_assert(high.offset == 4 && high.size == 4 && high.value == 0x11223344);
	cr_assert_eq(bus_read(&bus, 0x100, 8), 0x1234);
	cr_assert(high.offset == 0 && high.size == 8);
	cr_assert(low.reads == 1 && low.writes == 1 && high.reads == 1 && high.writes == 1);
}

Test(bus, an_access_beside_or_across_an_edge_reaches_nobody)
{
	struct bus bus = { .name = "pio" };
	struct probe a = { 0 }, b = { 0 };

	expect_nothing(&bus, 0, 1); /* an empty bus */
	expect_nothing(&bus, UINT64_MAX, 8);
	cr_assert(add(&bus, 0x10, 4, &a, NULL));
	cr_assert(add(&bus, 0x14, 4, &b, NULL)); /* the neighbour */
	expect_nothing(&bus, 0x0f, 1);
	expect_nothing(&bus, 0x0f, 2);
	expect_nothing(&bus, 0x13, 2); /* half in each */
	expect_nothing(&bus, 0x12, 4);
	expect_nothing(&bus, 0x10, 8); /* larger than the region */
	expect_nothing(&bus, 0x16, 4);
	expect_nothing(&bus, 0x18, 1);
	expect_nothing(&bus, UINT64_MAX, 1);
	expect_nothing(&bus, UINT64_MAX - 3, 8); /* its end would wrap */
	cr_assert_eq(a.reads + a.writes + b.reads + b.writes, 0);
}

Test(bus, overlaps_are_refused)
{
	static const struct {
		uint64_t start, length;
		bool ok;
	} rows[] = {
		{ 0x100, 0x10, false },	  { 0x104, 4, false },	       { 0x0f0, 0x11, false },
		{ 0x10f, 0x10, false },	  { 0x0f0, 0x100, false },     { 0x0f0, 0x10, true },
		{ 0x110, 0x10, true },	  { 0x0ff, 1, true },	       { 0x100, 0, false },
		{ UINT64_MAX, 2, false }, { UINT64_MAX - 8, 8, true }, { 0, 1, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bus bus = { .name = "pio" };
		struct error *err = NULL;
		struct probe p = { 0 };

		cr_assert(add(&bus, 0x100, 0x10, &p, NULL));
		cr_assert_eq(add(&bus, rows[i].start, rows[i].length, &p, &err), rows[i].ok,
			     "row %zu", i);
		cr_assert_eq(bus.nregions, rows[i].ok ? 2 : 1);
		if (!rows[i].ok)
			expect_error(err, "pio: ");
		cr_assert_eq(bus_read(&bus, 0x10f, 1), 0x1234);
	}
}

Test(bus, a_full_bus_refuses_the_next)
{
	struct bus bus = { .name = "mmio" };
	struct error *err = NULL;
	struct probe p = { 0 };

	for (unsigned int i = 0; i < BUS_MAX_REGIONS; i++)
		expect_ok(add(&bus, (BUS_MAX_REGIONS - i) * 16, 16, &p, &err), err);
	cr_assert_not(add(&bus, 0, 1, &p, &err));
	expect_error(err, "mmio: ");
	for (unsigned int i = 1; i < BUS_MAX_REGIONS; i++)
		cr_assert_lt(bus.regions[i - 1].start, bus.regions[i].start);
}

#define SPACE 200u

Test(bus, random_regions_match_an_array_of_owners)
{
	struct prng rng = { SEED };

	for (unsigned int round = 0; round < 100; round++) {
		struct bus bus = { .name = "random" };
		struct probe probes[BUS_MAX_REGIONS] = { 0 };
		unsigned int owner[SPACE + 8] = { 0 }, n = 0; /* 0: nobody; k: probes[k - 1] */
		uint64_t first[BUS_MAX_REGIONS];

		for (unsigned int tries = 0; tries < 40; tries++) {
			uint64_t start = prng_below(&rng, SPACE), length = 1 + prng_below(&rng, 12);
			bool free = start + length <= SPACE;

			if (!free)
				continue;
			for (uint64_t a = start; a < start + length; a++)
				free = free && !owner[a];
			cr_assert_eq(add(&bus, start, length, &probes[n], NULL), free,
				     "seed %#x round %u", SEED, round);
			if (!free)
				continue;
			first[n++] = start;
			for (uint64_t a = start; a < start + length; a++)
				owner[a] = n;
		}
		for (unsigned int i = 0; i < 300; i++) {
			uint64_t address = prng_below(&rng, SPACE);
			unsigned int size = 1u << prng_below(&rng, 4), who = owner[address];
			struct probe before = who ? probes[who - 1] : (struct probe){ 0 };
			bool hit = who != 0;

			for (uint64_t a = address; a < address + size; a++)
				hit = hit && owner[a] == who;
			if (!hit) {
				expect_nothing(&bus, address, size);
				continue;
			}
			cr_assert_eq(bus_read(&bus, address, size), 0x1234);
			cr_assert_eq(probes[who - 1].reads, before.reads + 1);
			cr_assert_eq(probes[who - 1].offset, address - first[who - 1],
				     "seed %#x round %u", SEED, round);
		}
	}
}
