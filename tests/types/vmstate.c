/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a VMState macro given a member of another type does not compile.
 *
 * How: scripts/check-types compiles this file as it is, which must succeed, and then once with each CASE that is named below, which
 * must fail with the message beside it.
 */
#include <sys/queue.h>

#include "migration/stream/vmstate.h"

struct item {
	uint16_t v;
	TAILQ_ENTRY(item) entry;
};
struct other {
	uint16_t v;
	TAILQ_ENTRY(other) entry;
};
struct temporary {
	struct device *parent;
};
struct misplaced {
	int before;
	struct device *parent;
};

struct device {
	uint16_t u16;
	int32_t s32;
	uint16_t array[4];
	uint32_t grid[2][3];
	uint8_t bytes[8];
	uint8_t *pointer;
	uint8_t n8;
	int64_t n64;
	uint64_t bits[2];
	struct item one;
	TAILQ_HEAD(, item) queue;
	LIST_HEAD(, item) list;
};

extern const struct vmstate_desc desc;

const struct vmstate_list items = VMSTATE_TAILQ_OF(struct item, entry, desc, 4);

const struct vmstate_field fields[] = {
	VMSTATE_ONE(UINT16, u16, struct device),
	VMSTATE_ARRAY(UINT16, array, struct device),
	VMSTATE_ARRAY_2D(UINT32, grid, struct device),
	VMSTATE_ONE(UINT8, n8, struct device),
	VMSTATE_VARRAY(UINT16, array, struct device, n8),
	VMSTATE_BUFFER(bytes, struct device),
	VMSTATE_BUFFER_PART(bytes, struct device, 5, 3),
	VMSTATE_BITMAP(bits, struct device, 65),
	VMSTATE_STRUCT(one, struct device, desc, struct item),
	VMSTATE_QTAILQ(queue, struct device, items, struct item),
	VMSTATE_TEMPORARY("wire", struct device, desc, struct temporary),
#if CASE == 1 /* "member s32 is not of type" */
	VMSTATE_ONE(UINT32, s32, struct device),
#elif CASE == 2	 /* "member u16 is not of type" */
	VMSTATE_ONE(UINT32, u16, struct device),
#elif CASE == 3	 /* "member array is not of type" */
	VMSTATE_ARRAY(UINT32, array, struct device),
#elif CASE == 4	 /* "member grid is not of type" */
	VMSTATE_ARRAY(UINT32, grid, struct device),
#elif CASE == 5	 /* "member array is no array of bytes" */
	VMSTATE_BUFFER(array, struct device),
#elif CASE == 6	 /* "member pointer is a pointer, not an array" */
	VMSTATE_BUFFER(pointer, struct device),
#elif CASE == 7	 /* "the part is not inside bytes" */
	VMSTATE_BUFFER_PART(bytes, struct device, 6, 3),
#elif CASE == 8	 /* "counter n64 is not of type" */
	VMSTATE_VARRAY(UINT16, array, struct device, n64),
#elif CASE == 9	 /* "member bits is not of type" */
	VMSTATE_BITMAP(bits, struct device, 64),
#elif CASE == 10 /* "member one is not of type" */
	VMSTATE_STRUCT(one, struct device, desc, struct other),
#elif CASE == 11 /* "member queue.tqh_first is not of type" */
	VMSTATE_QTAILQ(queue, struct device, items, struct other),
#elif CASE == 12 /* "tqh_first" */
	VMSTATE_QTAILQ(list, struct device, items, struct item),
#elif CASE == 13 /* "parent is not the first" */
	VMSTATE_TEMPORARY("wire", struct device, desc, struct misplaced),
#elif CASE == 14 /* "member bytes is not of type" */
	VMSTATE_ALLOC_BUFFER(bytes, struct device, n8, 8),
#elif CASE == 15 /* "is not of type" */
	VMSTATE_STRUCT_PTR(one, struct device, desc, struct item),
#elif CASE == 16 /* "VMSTATE_CTYPE_UINT24" */
	VMSTATE_ONE(UINT24, s32, struct device),
#endif
	VMSTATE_END,
};
