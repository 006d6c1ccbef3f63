/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a backup goes: a new file, which has its name only when it is whole and on disk.
 *
 *	raw	the disk's bytes at their places; zeroes are holes
 *	qcow2	version 3 (QEMU, docs/interop/qcow2.txt): holds what it was given, and the name of a file below it that holds the rest
 *
 * Until then it is NAME.partial-XXXXXX. A file that is not finished leaves nothing behind, unless it is kept to be gone on with.
 *
 * One thread.
 */
#ifndef FERRY_BACKEND_BACKUP_TARGET_H
#define FERRY_BACKEND_BACKUP_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"

#define BACKUP_CLUSTER_BITS 16
#define BACKUP_CLUSTER (UINT64_C(1) << BACKUP_CLUSTER_BITS)

enum backup_format { BACKUP_RAW, BACKUP_QCOW2 };

struct backup_target_options {
	const char *path; /* there must be no such file */
	enum backup_format format;
	uint64_t bytes; /* of the disk, not 0 */
	bool whole;	/* all that is not zero will be given; else qcow2 */
	/* The file below, which must be there, raw or qcow2; as a link says it, seen from where path is. NULL: none. qcow2 only. */
	const char *backing;
	/* "raw" or "qcow2"; NULL: as it begins, if its guest cannot have made that up. */
	const char *backing_format;
	/* Go on with the file path.resume, a raw one that was kept, which has other bytes where it is written. NULL: begin one. */
	const char *resume;
};

#define BACKUP_PARTIAL \
	"partial-" /* what the name of a file that is not finished has behind the dot, and six letters */

struct backup_target;

struct backup_target *backup_target_open(const struct backup_target_options *options,
					 struct error **errp);
/* Whole clusters, each once; only the disk's last may be cut by its end. */
bool backup_target_write(struct backup_target *t, uint64_t offset, const void *data, uint64_t bytes,
			 struct error **errp);
/* They are zero, whatever the file below says. */
bool backup_target_zero(struct backup_target *t, uint64_t offset, uint64_t bytes,
			struct error **errp);
/* "partial-XXXXXX" */
const char *backup_target_partial(const struct backup_target *t);
/* May it be gone on with, if it is raw and of that size? */
bool backup_target_can_resume(const char *path, const char *partial, uint64_t bytes);
/* Raw, not finished. keep: what was written is on disk, and stays there under its present name; true then. Else it will be removed. */
bool backup_target_keep(struct backup_target *t, bool keep);
/* On disk, and under its name. */
bool backup_target_finish(struct backup_target *t, struct error **errp);
/* NULL is allowed. */
void backup_target_free(struct backup_target *t);

#endif
