/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HBitmap against an array of bools: the input is a program of the calls that take parts of a serialized bitmap, and of those
 * that change what came. After each the two must agree, in every question that can be asked.
 */
#include "tests/fuzz/fuzz.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/hbitmap.h"

#define BITS_MAX 640u
#define STEPS_MAX 24

struct model {
	HBitmap *hb;
	unsigned int granularity;
	uint64_t size, bits;
	bool set[BITS_MAX];
};

static uint64_t bits_of(const struct model *m, uint64_t size)
{
	return (size + (UINT64_C(1) << m->granularity) - 1) >> m->granularity;
}

static void compare(const struct model *m)
{
	int64_t next_set = -1, next_clear = -1;
	uint64_t count = 0;
	HBitmapIter iter;

	MUST(hbitmap_size(m->hb) == m->size);
	for (uint64_t bit = m->bits; bit-- > 0;) {
		int64_t item = (int64_t)(bit << m->granularity);

		*(m->set[bit] ? &next_set : &next_clear) = item;
		count += m->set[bit];
		MUST(hbitmap_get(m->hb, (uint64_t)item) == m->set[bit]);
		MUST(hbitmap_next_dirty(m->hb, item, INT64_MAX) == next_set);
		MUST(hbitmap_next_zero(m->hb, item, INT64_MAX) == next_clear);
	}
	hbitmap_iter_init(&iter, m->hb, 0);
	for (uint64_t bit = 0; bit < m->bits; bit++)
		if (m->set[bit])
			MUST(hbitmap_iter_next(&iter) == (int64_t)(bit << m->granularity));
	MUST(hbitmap_iter_next(&iter) == -1);
	MUST(hbitmap_count(m->hb) == count << m->granularity);
	MUST(hbitmap_empty(m->hb) == !count);
}

/* A part, aligned as parts are: in words of 64 bits. */
static void choose_part(const struct model *m, struct input *in, uint64_t *start, uint64_t *count)
{
	uint64_t words = (m->bits + 63) / 64, first = take_u8(in) % words;
	uint64_t n = 1 + take_u8(in) % (words - first);

	*start = first * hbitmap_serialization_align(m->hb);
	*count = first + n == words ? m->size - *start : n * hbitmap_serialization_align(m->hb);
}

static void load_part(struct model *m, struct input *in, uint8_t op)
{
	uint64_t start, count, bytes, bit;
	scoped_free uint8_t *buf = NULL;

	choose_part(m, in, &start, &count);
	bytes = hbitmap_serialization_size(m->hb, start, count);
	buf = xcalloc(1, bytes);
	bit = start >> m->granularity;
	MUST(bytes == (MIN_OF(bits_of(m, count), m->bits - bit) + 63) / 64 * 8);
	for (uint64_t i = 0; i < bytes; i++)
		buf[i] = op == 0 ? take_u8(in) : op == 1 ? 0xff : 0;
	for (uint64_t i = 0; i < bytes * 8 && bit + i < m->bits; i++)
		m->set[bit + i] = buf[i / 8] >> (i % 8) & 1;
	if (op == 0)
		hbitmap_deserialize_part(m->hb, buf, start, count, false);
	else if (op == 1)
		hbitmap_deserialize_ones(m->hb, start, count, false);
	else
		hbitmap_deserialize_zeroes(m->hb, start, count, false);
	/* More may come before the end of it all is said. */
	if (take_u8(in) & 1)
		load_part(m, in, take_u8(in) % 3);
	hbitmap_deserialize_finish(m->hb);
}

static void assign_part(struct model *m, struct input *in)
{
	uint64_t start, count, bytes, bit;
	scoped_free uint8_t *buf = NULL;

	choose_part(m, in, &start, &count);
	bytes = hbitmap_serialization_size(m->hb, start, count);
	buf = xcalloc(1, bytes);
	bit = start >> m->granularity;
	for (uint64_t i = 0; i < bytes; i++)
		buf[i] = take_u8(in);
	for (uint64_t i = 0; i < bytes * 8 && bit + i < m->bits; i++)
		m->set[bit + i] = buf[i / 8] >> (i % 8) & 1;
	hbitmap_assign_part(m->hb, buf, start, count);
}

static void save_part(struct model *m, struct input *in)
{
	uint64_t start, count, bytes, bit;
	scoped_free uint8_t *buf = NULL;

	choose_part(m, in, &start, &count);
	bytes = hbitmap_serialization_size(m->hb, start, count);
	buf = xcalloc(1, bytes);
	hbitmap_serialize_part(m->hb, buf, start, count);
	bit = start >> m->granularity;
	for (uint64_t i = 0; i < bytes * 8; i++)
		MUST((buf[i / 8] >> (i % 8) & 1) == (bit + i < m->bits && m->set[bit + i]));
}

static void change_range(struct model *m, struct input *in, bool value)
{
	uint64_t first = take_u16(in) % m->bits, last = first + take_u16(in) % (m->bits - first);
	uint64_t start = first << m->granularity;
	uint64_t end = MIN_OF((last + 1) << m->granularity, m->size);

	for (uint64_t bit = first; bit <= last; bit++)
		m->set[bit] = value;
	if (value)
		hbitmap_set(m->hb, start, end - start);
	else
		hbitmap_reset(m->hb, start, end - start);
}

static void truncate_to(struct model *m, struct input *in)
{
	uint64_t size = 1 + take_u16(in) % (BITS_MAX << m->granularity), bits = bits_of(m, size);

	MUST(hbitmap_truncate(m->hb, size));
	for (uint64_t bit = bits; bit < m->bits; bit++)
		m->set[bit] = false;
	m->size = size;
	m->bits = bits;
}

/* With another of one bit an item. */
static void merge(struct model *m, struct input *in)
{
	HBitmap *fine = hbitmap_alloc(m->size, 0);
	uint64_t item = take_u16(in) % m->size, n = 1 + take_u16(in) % (m->size - item);

	hbitmap_set(fine, item, n);
	hbitmap_merge(m->hb, fine, m->hb);
	for (uint64_t bit = item >> m->granularity; bit <= (item + n - 1) >> m->granularity; bit++)
		m->set[bit] = true;
	hbitmap_free(fine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct model m;
	struct input in = { data, size };
	unsigned int steps = 0;

	m = (struct model){ .granularity = take_u8(&in) % 5 };
	m.size = 1 + take_u16(&in) % (BITS_MAX << m.granularity);
	m.bits = bits_of(&m, m.size);
	m.hb = hbitmap_alloc(m.size, (int)m.granularity);
	MUST(m.hb);
	if (take_u8(&in) & 1)
		MUST(hbitmap_create_meta(m.hb, 8));
	while (in.left && steps++ < STEPS_MAX) {
		uint8_t byte = take_u8(&in), op = byte % 8;

		if (op < 3)
			load_part(&m, &in, op);
		else if (op < 5)
			change_range(&m, &in, op == 3);
		else if (op == 5)
			truncate_to(&m, &in);
		else if (op == 6)
			merge(&m, &in);
		else if (byte >= 128)
			assign_part(&m, &in);
		else
			save_part(&m, &in);
		compare(&m);
	}
	hbitmap_free(m.hb);
	return 0;
}
