/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/bus.h"

#include <stddef.h>
#include <string.h>

#include "vmm/base/bytes.h"

/* Index of the first region that ends above address. */
static unsigned int lower_bound(const struct bus *bus, uint64_t address)
{
	unsigned int lo = 0, hi = bus->nregions;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		const struct bus_region *r = &bus->regions[mid];

		if (address >= r->start && address - r->start >= r->length)
			lo = mid + 1;
		else if (address < r->start)
			hi = mid;
		else
			return mid;
	}
	return lo;
}

bool bus_add(struct bus *bus, const struct bus_region *region, struct error **errp)
{
	unsigned int at = lower_bound(bus, region->start);
	uint64_t end;

	if (!region->length || !add_fits(region->start, region->length, &end)) {
		error_set(errp, "%s: region %s at 0x%llx has the length 0x%llx", bus->name,
			  region->name, (unsigned long long)region->start,
			  (unsigned long long)region->length);
		return false;
	}
	if (bus->nregions == BUS_MAX_REGIONS) {
		error_set(errp, "%s: more than %d regions", bus->name, BUS_MAX_REGIONS);
		return false;
	}
	if (at < bus->nregions && bus->regions[at].start < end) {
		error_set(errp, "%s: %s at 0x%llx overlaps %s", bus->name, region->name,
			  (unsigned long long)region->start, bus->regions[at].name);
		return false;
	}
	memmove(&bus->regions[at + 1], &bus->regions[at],
		(bus->nregions - at) * sizeof(*bus->regions));
	bus->regions[at] = *region;
	bus->nregions++;
	return true;
}

/* The region that holds all of the access, or NULL. */
static const struct bus_region *find(const struct bus *bus, uint64_t address, unsigned int size)
{
	unsigned int at = lower_bound(bus, address);
	const struct bus_region *r = &bus->regions[at];

	if (at < bus->nregions && address >= r->start &&
	    range_within(address - r->start, size, r->length))
		return r;
	return NULL;
}

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned int size)
{
	const struct bus_region *r = find(bus, address, size);

	return r ? r->ops->read(r->opaque, address - r->start, size) : ~UINT64_C(0);
}

void bus_write(struct bus *bus, uint64_t address, uint64_t value, unsigned int size)
{
	const struct bus_region *r = find(bus, address, size);

	if (r)
		r->ops->write(r->opaque, address - r->start, value, size);
}
