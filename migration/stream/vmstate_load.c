/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loading walker. Every count and flag comes from a stranger: it is compared with its bound before it is used. */
#include <assert.h>
#include <inttypes.h>

#include "migration/stream/protocol.h"
#include "migration/stream/vmstate_undo.h"
#include "vmm/base/cleanup.h"

/* One load. */
struct loader {
	struct stream_in *in;
	struct vmstate_undo *undo; /* NULL: into memory that this load has allocated */
};

static bool load_desc(struct loader *ld, const struct vmstate_desc *desc, void *opaque,
		      uint32_t version_id, struct error **errp);

/* The stream's own error, as the error of the place that met it. */
static bool stream_failed(struct stream_in *in, struct error **errp)
{
	if (stream_in_take_error(in, errp))
		return false;
	error_prefix(errp, ": ");
	return true;
}

/* What a stream that has ended gives is no value: that is reported as such, not as a mismatch. */
static bool check_equal(struct stream_in *in, uint64_t have, uint64_t want, struct error **errp)
{
	if (have == want || !stream_in_ok(in))
		return true;
	error_set(errp, ": the stream has %" PRIu64 ", this machine has %" PRIu64, have, want);
	return false;
}

static uint64_t get_scalar(struct stream_in *in, unsigned int width)
{
	switch (width) {
	case 1:
		return get_u8(in);
	case 2:
		return get_u16(in);
	case 4:
		return get_u32(in);
	default:
		return get_u64(in);
	}
}

static bool load_scalar(struct loader *ld, enum vmstate_kind kind, void *p, struct error **errp)
{
	unsigned int width = vmstate_scalar_width(kind);
	uint64_t value = get_scalar(ld->in, width);

	if (vmstate_kind_is_equal(kind))
		return check_equal(ld->in, value, vmstate_scalar_get(p, width), errp);
	if (kind == VMSTATE_KIND_BOOL && value > 1) {
		error_set(errp, ": value %" PRIu64 " is not a bool (0 or 1)", value);
		return false;
	}
	vmstate_undo_bytes(ld->undo, p, width);
	vmstate_scalar_set(p, width, value);
	return true;
}

static bool load_bitmap(struct loader *ld, uint64_t *words, uint32_t bits, struct error **errp)
{
	vmstate_undo_bytes(ld->undo, words, BITMAP_WORDS(bits) * sizeof(*words));
	for (size_t i = 0; i < BITMAP_WORDS(bits); i++)
		words[i] = get_u64(ld->in);
	if (bits % 64 && words[bits / 64] >> bits % 64) {
		error_set(errp,
			  ": bits beyond the bitmap's %u are set (last word 0x%016" PRIx64 ")",
			  bits, words[bits / 64]);
		return false;
	}
	return true;
}

/* --- lists --- */

/* The elements that have been read, and not yet been put in place. */
struct gathered {
	void **elements;
	uint32_t n, room;
};

static bool check_mark(const struct vmstate_list_loop *loop, uint8_t mark, struct error **errp)
{
	if (loop->more ? mark == loop->more : mark <= loop->flag_max)
		return true;
	error_set(errp, ": loop byte %u, expected 0 or %s%u", mark, loop->more ? "" : "at most ",
		  loop->more ? loop->more : loop->flag_max);
	return false;
}

/* mark is the loop's byte before the element, if the loop has one. */
static bool load_list_element(struct loader *ld, const struct vmstate_list *list, uint8_t mark,
			      struct gathered *g, struct error **errp)
{
	struct loader fresh = { .in = ld->in };
	uint8_t *e;

	if (g->n >= list->max_elements) {
		error_set(errp, ": more than %u elements", list->max_elements);
		return false;
	}
	e = list->alloc ? list->alloc(list->element_size) : calloc(1, list->element_size);
	if (!e) {
		error_set(errp, ": out of memory");
		return false;
	}
	if (g->n == g->room) {
		g->room = g->room ? g->room * 2 : 16;
		g->elements = xrealloc(g->elements, g->room * sizeof(*g->elements));
	}
	g->elements[g->n++] = e;
	if (!vmstate_loop_of(list)->no_marks && !vmstate_loop_of(list)->more)
		e[vmstate_loop_of(list)->flag_offset] = mark;
	if (load_desc(&fresh, list->element, e, list->element->version_id, errp))
		return true;
	error_prefix(errp, "[%u]", g->n - 1);
	return false;
}

/* Elements with a mark before each, up to the mark 0. */
static bool gather_marked(struct loader *ld, const struct vmstate_list *list, struct gathered *g,
			  struct error **errp)
{
	uint8_t mark;

	while ((mark = get_u8(ld->in)) != 0)
		if (!check_mark(vmstate_loop_of(list), mark, errp) ||
		    !load_list_element(ld, list, mark, g, errp))
			return false;
	return !stream_failed(ld->in, errp);
}

static bool gather(struct loader *ld, const struct vmstate_list *list, struct gathered *g,
		   struct error **errp)
{
	uint32_t n;

	if (!vmstate_loop_of(list)->count_first)
		return gather_marked(ld, list, g, errp);
	n = get_u32(ld->in);
	if (stream_failed(ld->in, errp))
		return false;
	if (n > list->max_elements) {
		error_set(errp, ": %u elements, at most %u are allowed", n, list->max_elements);
		return false;
	}
	if (vmstate_loop_of(list)->no_marks) {
		while (g->n < n)
			if (!load_list_element(ld, list, 0, g, errp))
				return false;
		return true;
	}
	if (!gather_marked(ld, list, g, errp))
		return false;
	if (g->n != n)
		error_set(errp, ": %u elements, but a count of %u in front", g->n, n);
	return g->n == n;
}

/* The elements are gathered apart and take the place of the old ones only when all of them are there. */
static bool load_list(struct loader *ld, const struct vmstate_list *list, void *head,
		      struct error **errp)
{
	struct gathered g = { 0 };
	bool ok = gather(ld, list, &g, errp);

	if (ok && list->check && !list->check(g.elements, g.n, errp)) {
		error_prefix(errp, ": ");
		ok = false;
	}
	if (ok)
		vmstate_undo_attach(ld->undo, list, head, g.elements, g.n);
	else
		while (g.n > 0)
			vmstate_list_free_element(list, g.elements[--g.n]);
	free(g.elements);
	return ok;
}

/* --- fields --- */

/* n: elements of a BUFFER (bytes, if they are counted) or a BITMAP (bits). */
static bool load_element(struct loader *ld, const struct vmstate_field *field, void *p, uint32_t n,
			 struct error **errp)
{
	bool ok = true;

	switch (field->kind) {
	case VMSTATE_KIND_BUFFER:
		vmstate_undo_bytes(ld->undo, p, (size_t)n * field->size);
		get_bytes(ld->in, p, (size_t)n * field->size);
		break;
	case VMSTATE_KIND_BITMAP:
		ok = load_bitmap(ld, p, n, errp);
		break;
	case VMSTATE_KIND_UNUSED:
		skip_bytes(ld->in, field->size);
		break;
	case VMSTATE_KIND_LIST:
		ok = load_list(ld, field->list, p, errp);
		break;
	case VMSTATE_KIND_STRUCT:
		ok = load_desc(ld, field->desc, p, vmstate_struct_version(field), errp);
		break;
	default:
		ok = load_scalar(ld, field->kind, p, errp);
	}
	return ok && !stream_failed(ld->in, errp);
}

static bool load_null(struct loader *ld, struct error **errp)
{
	uint8_t mark = get_u8(ld->in);

	if (stream_failed(ld->in, errp))
		return false;
	if (mark == VMSTATE_NULL_MARKER)
		return true;
	error_set(errp, ": byte 0x%02x, expected the NULL marker 0x%02x", mark,
		  VMSTATE_NULL_MARKER);
	return false;
}

static bool load_array(struct loader *ld, const struct vmstate_field *field, uint8_t *base,
		       uint32_t length, struct error **errp)
{
	bool one_piece = field->kind == VMSTATE_KIND_BUFFER || field->kind == VMSTATE_KIND_BITMAP;
	uint32_t n = one_piece ? 1 : length;

	for (uint32_t i = 0; i < n; i++) {
		uint8_t *p = i ? base + (size_t)i * field->size : base; /* NULL for no bytes */
		bool ok;

		if (field->flags & VMSTATE_POINTERS)
			p = ((uint8_t **)base)[i];
		if (!p && field->flags & VMSTATE_POINTERS)
			ok = load_null(ld, errp);
		else
			ok = load_element(ld, field, p, length, errp);
		if (!ok) {
			if (n > 1 || (field->flags & VMSTATE_COUNTED && !one_piece))
				error_prefix(errp, "[%u]", i);
			return false;
		}
	}
	return !stream_failed(ld->in, errp);
}

/* Elements in memory of their own, which takes the place of what was there once all of them are read. */
static bool load_allocated(struct loader *ld, const struct vmstate_field *field, void *opaque,
			   uint32_t n, struct error **errp)
{
	struct loader apart = { .in = ld->in };
	/* A NUL behind a buffer makes it a string; and nothing is not NULL. */
	uint8_t *fresh = calloc(vmstate_elements_size(field, n) + 1, 1);

	if (!fresh) {
		error_set(errp, ": out of memory for %u elements", n);
		return false;
	}
	if (load_array(&apart, field, fresh, n, errp)) {
		vmstate_undo_replace(ld->undo, field, opaque, fresh, n);
		return true;
	}
	for (uint32_t i = 0; i < n && field->kind == VMSTATE_KIND_STRUCT; i++)
		vmstate_release_element(field, fresh + (size_t)i * field->size);
	free(fresh);
	return false;
}

/* See VMSTATE_TEMPORARY. */
static bool load_temporary(struct loader *ld, const struct vmstate_field *field, void *opaque,
			   struct error **errp)
{
	scoped_free void **temporary = xcalloc(1, field->size);
	struct loader apart = { .in = ld->in };
	bool ok;

	temporary[0] = opaque;
	ok = load_array(&apart, field, (uint8_t *)temporary, 1, errp);
	vmstate_release(field->desc, temporary);
	return ok;
}

static bool load_field(struct loader *ld, const struct vmstate_field *field, void *opaque,
		       struct error **errp)
{
	uint8_t *base = (uint8_t *)opaque + field->offset;
	uint32_t n = field->count;

	if (field->flags & VMSTATE_TEMP)
		return load_temporary(ld, field, opaque, errp);
	if (field->flags & VMSTATE_COUNTED) {
		n = vmstate_field_counter(field, opaque);
		if (n > field->count) {
			error_set(errp, ": %u elements, at most %u are allowed", n, field->count);
			return false;
		}
	}
	if (field->flags & VMSTATE_ALLOC)
		return load_allocated(ld, field, opaque, n, errp);
	if (field->flags & VMSTATE_POINTER)
		base = *(uint8_t **)base;
	return load_array(ld, field, base, n, errp);
}

static bool load_fields(struct loader *ld, const struct vmstate_desc *desc, void *opaque,
			uint32_t version_id, struct error **errp)
{
	for (const struct vmstate_field *f = desc->fields; f && f->kind; f++) {
		if (vmstate_field_exists(f, opaque, version_id) &&
		    !load_field(ld, f, opaque, errp)) {
			error_prefix(errp, ".%s", f->name);
			return false;
		}
	}
	return true;
}

static const struct vmstate_desc *find_subsection(const struct vmstate_desc *desc, const char *name)
{
	for (size_t i = 0; desc->subsections && desc->subsections[i]; i++)
		if (strcmp(desc->subsections[i]->name, name) == 0)
			return desc->subsections[i];
	return NULL;
}

/* Is a subsection of desc next? The bytes are u8 0x05, u8 length, name, and the name begins with "desc/". */
static bool subsection_follows(struct stream_in *in, const struct vmstate_desc *desc)
{
	size_t len = strlen(desc->name);
	const uint8_t *p = peek_bytes(in, 1);

	if (!p || p[0] != SECTION_SUBSECTION)
		return false;
	p = peek_bytes(in, 2 + len + 1);
	return p && p[1] > len && memcmp(p + 2, desc->name, len) == 0 && p[2 + len] == '/';
}

static bool version_ok(const struct vmstate_desc *desc, uint32_t version_id, struct error **errp)
{
	if (version_id > desc->version_id)
		error_set(errp, ": version %u is too new, this build loads up to %u", version_id,
			  desc->version_id);
	else if (version_id < desc->minimum_version_id)
		error_set(errp, ": version %u is too old, this build loads from %u", version_id,
			  desc->minimum_version_id);
	else
		return true;
	return false;
}

static bool load_versioned(struct loader *ld, const struct vmstate_desc *desc, void *opaque,
			   uint32_t version_id, struct error **errp)
{
	return version_ok(desc, version_id, errp) && load_desc(ld, desc, opaque, version_id, errp);
}

static bool load_subsections(struct loader *ld, const struct vmstate_desc *desc, void *opaque,
			     struct error **errp)
{
	while (subsection_follows(ld->in, desc)) {
		const struct vmstate_desc *sub;
		char name[STREAM_NAME_MAX + 1];
		uint32_t version;

		get_u8(ld->in);
		get_name(ld->in, name);
		version = get_u32(ld->in);
		if (stream_failed(ld->in, errp))
			return false;
		sub = find_subsection(desc, name);
		if (!sub) {
			error_set(errp, ": subsection '%s' is not known to this build", name);
			return false;
		}
		if (!load_versioned(ld, sub, opaque, version, errp)) {
			error_prefix(errp, "(%s)", name);
			return false;
		}
	}
	return true;
}

static bool load_desc(struct loader *ld, const struct vmstate_desc *desc, void *opaque,
		      uint32_t version_id, struct error **errp)
{
	if (desc->pre_load && !desc->pre_load(opaque, errp)) {
		error_prefix(errp, ": ");
		return false;
	}
	if (!load_fields(ld, desc, opaque, version_id, errp) ||
	    (desc->subsections && !load_subsections(ld, desc, opaque, errp)))
		return false;
	if (desc->post_load && !desc->post_load(opaque, version_id, errp)) {
		error_prefix(errp, ": ");
		return false;
	}
	return true;
}

bool vmstate_load(struct stream_in *in, const struct vmstate_desc *desc, void *opaque,
		  uint32_t version_id, struct error **errp)
{
	struct vmstate_undo undo = { 0 };
	struct loader ld = { .in = in, .undo = &undo };

	if (load_versioned(&ld, desc, opaque, version_id, errp)) {
		vmstate_undo_commit(&undo);
		return true;
	}
	vmstate_undo_rollback(&undo);
	return false;
}
