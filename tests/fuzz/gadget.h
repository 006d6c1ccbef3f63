/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device of VMState's every kind, container and loop, for its fuzz target and that target's seeds. */
#ifndef FERRY_TESTS_GADGET_H
#define FERRY_TESTS_GADGET_H

#include "migration/stream/vmstate.h"
#include "vmm/base/queue.h"

#define GADGET_BITS 70

struct point {
	uint16_t x;
	int16_t y;
};

struct packet {
	uint8_t flag; /* 1 or 2: the byte that its loop travels with */
	uint8_t len;
	uint8_t *data;
	TAILQ_ENTRY(packet) queue;
	LIST_ENTRY(packet) list;
	SLIST_ENTRY(packet) slist;
};

struct gadget {
	bool on;
	uint8_t a8;
	uint16_t a16;
	uint32_t a32;
	uint64_t a64;
	int8_t s8;
	int16_t s16;
	int32_t s32;
	int64_t s64, timer;
	uint8_t same8;
	uint16_t same16;
	uint32_t same32;
	uint64_t same64;
	uint16_t fixed[3];
	uint8_t grid[2][3];
	uint32_t nvar;
	uint32_t var[5];
	uint16_t nalloc;
	uint16_t *alloc;
	uint8_t raw[6];
	uint8_t nbytes;
	uint8_t bytes[7];
	uint32_t nblob;
	uint8_t *blob;
	uint64_t bits[(GADGET_BITS + 63) / 64];
	uint8_t nmap;
	uint64_t *map;
	struct point one, two[2], *behind;
	uint16_t npoints;
	struct point *points;
	struct point *maybe[3];
	uint32_t *numbers[2];
	TAILQ_HEAD(, packet) queue;
	LIST_HEAD(, packet) list;
	SLIST_HEAD(, packet) slist;
	TAILQ_HEAD(, packet) flags;
	uint32_t nring;
	struct point ring[4];
	uint32_t sum; /* travels negated */
	uint32_t late;
	uint8_t mode;
	uint32_t extra, more;
};

extern const struct vmstate_desc gadget_vmstate;

/* Something in every part, so that a load replaces something. */
void gadget_make(struct gadget *g);
void gadget_end(struct gadget *g);
/* What no load may get past. */
void gadget_expect_bounds(const struct gadget *g);

#endif
