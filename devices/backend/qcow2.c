/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/backend/qcow2.h"

#include <errno.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"

#define CLUSTER_BITS 16
#define CLUSTER (UINT64_C(1) << CLUSTER_BITS)
#define ENTRY 8 /* bytes, of an L1, L2 or refcount table */
#define L2_ENTRIES (CLUSTER / ENTRY)
#define L2_COVERS (L2_ENTRIES << CLUSTER_BITS)
#define COPIED (UINT64_C(1) << 63) /* the cluster is used once */
#define ZERO UINT64_C(1)	   /* in L2: it reads as zeroes */
#define REFCOUNT_ORDER 4	   /* 16 bits each */
#define REFCOUNTS (CLUSTER / 2)	   /* in a block */
#define HEADER_BYTES 104
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define L1_OFFSET CLUSTER

struct qcow2_writer {
	int fd;
	uint64_t bytes;
	struct qcow2_backing backing;
	bool mark_zeroes; /* what is not here may be something else below */
	uint64_t *l1;	  /* offsets of L2 tables, 0: none yet */
	uint64_t nl1;
	uint64_t end; /* of the file; a whole number of clusters */
};

int write_at(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
	while (bytes) {
		ssize_t n = pwrite(fd, data, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		data = (const uint8_t *)data + n;
		bytes -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

struct qcow2_writer *qcow2_writer_new(int fd, uint64_t bytes, bool whole,
				      const struct qcow2_backing *backing)
{
	struct qcow2_writer *w = xcalloc(1, sizeof(*w));

	w->fd = fd;
	w->bytes = bytes;
	w->backing = *backing;
	w->mark_zeroes = !whole || backing->name;
	w->nl1 = div_round_up(bytes, L2_COVERS);
	w->l1 = xcalloc(w->nl1, sizeof(*w->l1));
	w->end = L1_OFFSET + align_up(w->nl1 * ENTRY, CLUSTER);
	return w;
}

void qcow2_writer_free(struct qcow2_writer *w)
{
	if (w)
		free(w->l1);
	free(w);
}

/* The table of the second level for a place of the disk. A new one is a hole in the file, which reads as "not here". */
static uint64_t l2_for(struct qcow2_writer *w, uint64_t offset)
{
	uint64_t *l2 = &w->l1[offset / L2_COVERS];

	if (!*l2) {
		*l2 = w->end;
		w->end += CLUSTER;
	}
	return *l2;
}

/* Entries for `n` clusters that one table covers: `first`, and each more by `step`. */
static int put_entries(struct qcow2_writer *w, uint64_t offset, uint64_t n, uint64_t first,
		       uint64_t step)
{
	uint64_t at = l2_for(w, offset) + (offset % L2_COVERS >> CLUSTER_BITS) * ENTRY;
	scoped_free uint8_t *entries = xcalloc(n, ENTRY);

	for (uint64_t i = 0; i < n; i++)
		put_be64(entries + i * ENTRY, first + i * step);
	return write_at(w->fd, entries, n * ENTRY, at);
}

/* As much of a range as one table covers. */
static uint64_t within_table(uint64_t offset, uint64_t bytes)
{
	return MIN_OF(bytes, L2_COVERS - offset % L2_COVERS);
}

int qcow2_write(struct qcow2_writer *w, uint64_t offset, const void *data, uint64_t bytes)
{
	int error = 0;

	while (bytes && !error) {
		uint64_t part = within_table(offset, bytes), n = div_round_up(part, CLUSTER), at;

		l2_for(w, offset); /* in front of its data */
		at = w->end;
		w->end += n * CLUSTER;
		error = write_at(w->fd, data, part, at);
		if (!error)
			error = put_entries(w, offset, n, at | COPIED, CLUSTER);
		data = (const uint8_t *)data + part;
		offset += part;
		bytes -= part;
	}
	return error;
}

int qcow2_zero(struct qcow2_writer *w, uint64_t offset, uint64_t bytes)
{
	int error = 0;

	while (w->mark_zeroes && bytes && !error) {
		uint64_t part = within_table(offset, bytes);

		error = put_entries(w, offset, div_round_up(part, CLUSTER), ZERO, 0);
		offset += part;
		bytes -= part;
	}
	return error;
}

static int write_l1(struct qcow2_writer *w)
{
	scoped_free uint8_t *l1 = xcalloc(w->nl1, ENTRY);

	for (uint64_t i = 0; i < w->nl1; i++)
		put_be64(l1 + i * ENTRY, w->l1[i] ? w->l1[i] | COPIED : 0);
	return write_at(w->fd, l1, w->nl1 * ENTRY, L1_OFFSET);
}

struct refcounts {
	uint64_t clusters; /* of the file, with these */
	uint64_t blocks, table_offset, table_clusters;
};

/* The blocks count themselves and their table, too. */
static struct refcounts lay_out_refcounts(const struct qcow2_writer *w)
{
	uint64_t used = w->end >> CLUSTER_BITS;
	struct refcounts r = { 0 };

	do {
		r.blocks = div_round_up(used + r.blocks + r.table_clusters, REFCOUNTS);
		r.table_clusters = div_round_up(r.blocks * ENTRY, CLUSTER);
		r.clusters = used + r.blocks + r.table_clusters;
	} while (r.clusters > r.blocks * REFCOUNTS);
	r.table_offset = w->end + r.blocks * CLUSTER;
	return r;
}

/* Every cluster of the file is used once. */
static int write_refcounts(struct qcow2_writer *w, const struct refcounts *r)
{
	scoped_free uint8_t *block = xcalloc(1, CLUSTER);
	scoped_free uint8_t *table = xcalloc(r->table_clusters, CLUSTER);
	int error = 0;

	for (uint64_t i = 0; i < r->blocks && !error; i++) {
		uint64_t at = w->end + i * CLUSTER;
		uint64_t n = MIN_OF(REFCOUNTS, r->clusters - i * REFCOUNTS);

		memset(block, 0, CLUSTER);
		for (uint64_t k = 0; k < n; k++)
			put_be16(block + k * 2, 1);
		put_be64(table + i * ENTRY, at);
		error = write_at(w->fd, block, CLUSTER, at);
	}
	if (!error)
		error = write_at(w->fd, table, r->table_clusters * CLUSTER, r->table_offset);
	return error;
}

static int write_header(struct qcow2_writer *w, const struct refcounts *r)
{
	scoped_free uint8_t *h = xcalloc(1, CLUSTER);
	size_t at = HEADER_BYTES;

	put_be32(h, QCOW2_MAGIC);
	put_be32(h + 4, 3); /* version */
	put_be32(h + 20, CLUSTER_BITS);
	put_be64(h + 24, w->bytes);
	put_be32(h + 36, (uint32_t)w->nl1);
	put_be64(h + 40, L1_OFFSET);
	put_be64(h + 48, r->table_offset);
	put_be32(h + 56, (uint32_t)r->table_clusters);
	put_be32(h + 96, REFCOUNT_ORDER);
	put_be32(h + 100, HEADER_BYTES);
	if (w->backing.name) {
		size_t len = strlen(w->backing.format);

		put_be32(h + at, EXTENSION_BACKING_FORMAT);
		put_be32(h + at + 4, (uint32_t)len);
		memcpy(h + at + 8, w->backing.format, len);
		at += 8 + align_up(len, 8);
		at += 8; /* the end of the extensions: zeroes */
		put_be64(h + 8, at);
		put_be32(h + 16, (uint32_t)strlen(w->backing.name));
		memcpy(h + at, w->backing.name, strlen(w->backing.name));
	}
	return write_at(w->fd, h, CLUSTER, 0);
}

int qcow2_finish(struct qcow2_writer *w)
{
	struct refcounts r = lay_out_refcounts(w);
	int error = write_l1(w);

	if (!error)
		error = write_refcounts(w, &r);
	return error ? error : write_header(w, &r);
}
