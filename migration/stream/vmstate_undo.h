/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a load overwrites, so that a load that fails can put it back.
 *
 * Notes are taken before each change, in order: bytes of a field, a pointer to allocated elements, the elements of a list.
 * At the end either all of the old is freed (commit) or, last note first, the new is freed and the old put back (rollback).
 *
 *	.len     4 bytes "00 00 00 02"
 *	.data    pointer 0x55d0..., to 2 bytes
 *	.queue   list of elements 0x55d1..., 0x55d2...
 *	.flag    value 7 is not a bool:   queue, data, len are put back
 *
 * Memory that the load itself has allocated needs no notes: whoever frees it frees it whole. There undo is NULL, and what is
 * replaced is freed at once.
 */
#ifndef FERRY_STREAM_VMSTATE_UNDO_H
#define FERRY_STREAM_VMSTATE_UNDO_H

#include "migration/stream/vmstate_walk.h"

struct vmstate_undo_note;

/* Initialise with zeroes. */
struct vmstate_undo {
	struct vmstate_undo_note *notes;
	size_t nnotes, notes_room;
	uint8_t *bytes; /* old contents, one after the other */
	size_t nbytes, bytes_room;
};

/* [p, p + size) is about to be overwritten. */
void vmstate_undo_bytes(struct vmstate_undo *undo, void *p, size_t size);
/* Put `fresh`, n elements, in place of the allocated array that `field` of opaque is. */
void vmstate_undo_replace(struct vmstate_undo *undo, const struct vmstate_field *field,
			  void *opaque, void *fresh, uint32_t n);
/* Let the list hold the n elements, which are the list's from now on. */
void vmstate_undo_attach(struct vmstate_undo *undo, const struct vmstate_list *list, void *head,
			 void **elements, uint32_t n);

void vmstate_undo_commit(struct vmstate_undo *undo);
void vmstate_undo_rollback(struct vmstate_undo *undo);

#endif
