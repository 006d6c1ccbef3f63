/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing a qcow2 image of version 3, from its beginning to its end. Source: QEMU, docs/interop/qcow2.txt.
 *
 *	header, backing file's name | L1 table | L2 tables and data as they come | refcount blocks, refcount table
 *
 * Clusters are of 64 KiB. Tables of the second level are in the file at once, so that memory does not grow with the disk (8 bytes for 512
 * MiB of it); the header comes last, so that what is not finished is no image.
 */
#ifndef FERRY_BACKEND_QCOW2_H
#define FERRY_BACKEND_QCOW2_H

#include <stdbool.h>
#include <stdint.h>

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_BACKING_MAX 1023 /* bytes of its name */

struct qcow2_backing {
	const char *name;   /* NULL: none */
	const char *format; /* "raw" or "qcow2" */
};

struct qcow2_writer;

/* fd, an empty file, is borrowed; so is what backing points to, until qcow2_finish(). whole: all that is not zero will be written; else what is
 * not written is the business of a file below, which may be named later. */
struct qcow2_writer *qcow2_writer_new(int fd, uint64_t bytes, bool whole,
				      const struct qcow2_backing *backing);
/* All return 0 or an errno. Whole clusters, each once, the disk's last may be cut. */
int qcow2_write(struct qcow2_writer *w, uint64_t offset, const void *data, uint64_t bytes);
int qcow2_zero(struct qcow2_writer *w, uint64_t offset, uint64_t bytes);
int qcow2_finish(struct qcow2_writer *w);
/* NULL is allowed. */
void qcow2_writer_free(struct qcow2_writer *w);

/* All of it. 0 or an errno. */
int write_at(int fd, const void *data, uint64_t bytes, uint64_t offset);

#endif
