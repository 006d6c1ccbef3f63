/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fuzz/gadget.h"

#include "tests/fuzz/fuzz.h"
#include "vmm/base/cleanup.h"

static bool in_mode_one(const void *opaque, uint32_t version_id)
{
	(void)version_id;
	return ((const struct gadget *)opaque)->mode == 1;
}

/* --- points, packets --- */

static bool point_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	const struct point *p = opaque;

	(void)version_id;
	if (p->x != 0xdead)
		return true;
	error_set(errp, "x is dead");
	return false;
}

static const struct vmstate_field point_fields[] = {
	VMSTATE_ONE(UINT16, x, struct point),
	VMSTATE_ONE(INT16, y, struct point),
	VMSTATE_END,
};
static const struct vmstate_desc point_vmstate = {
	.name = "point",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = point_fields,
	.post_load = point_post_load,
};

static const struct vmstate_field packet_fields[] = {
	VMSTATE_ONE(UINT8, len, struct packet),
	VMSTATE_ALLOC_BUFFER(data, struct packet, len, 20),
	VMSTATE_END,
};
static const struct vmstate_desc packet_vmstate = { .name = "packet",
						    .version_id = 1,
						    .minimum_version_id = 1,
						    .fields = packet_fields };

static bool lengths_rise(void *const *elements, uint32_t n, struct error **errp)
{
	for (uint32_t i = 1; i < n; i++) {
		if (((struct packet *)elements[i])->len < ((struct packet *)elements[i - 1])->len) {
			error_set(errp, "packet %u is shorter than the one before", i);
			return false;
		}
	}
	return true;
}

static const struct vmstate_list_loop loop_42 = { .more = 42 };
static const struct vmstate_list_loop loop_flag = { .flag_offset = offsetof(struct packet, flag),
						    .flag_max = 2 };

static const struct vmstate_list queue_of =
	VMSTATE_TAILQ_OF(struct packet, queue, packet_vmstate, 6);
static const struct vmstate_list list_of = VMSTATE_LIST_OF(
	struct packet, list, packet_vmstate, 5, .loop = &vmstate_loop_count, .check = lengths_rise);
static const struct vmstate_list slist_of =
	VMSTATE_SLIST_OF(struct packet, slist, packet_vmstate, 5, .loop = &vmstate_loop_map);
static const struct vmstate_list flags_of =
	VMSTATE_TAILQ_OF(struct packet, queue, packet_vmstate, 5, .loop = &loop_flag);
static const struct vmstate_list ring_of =
	VMSTATE_ARRAY_OF(struct gadget, ring, nring, struct point, point_vmstate, .loop = &loop_42);

/* --- computed for the wire --- */

struct negated {
	struct gadget *parent;
	uint32_t value;
};

static bool negated_pre_save(void *opaque, struct error **errp)
{
	struct negated *n = opaque;

	(void)errp;
	n->value = ~n->parent->sum;
	return true;
}

static bool negated_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct negated *n = opaque;

	(void)version_id;
	if (n->value == 13) {
		error_set(errp, "13 brings bad luck");
		return false;
	}
	n->parent->sum = ~n->value;
	return true;
}

static const struct vmstate_field negated_fields[] = {
	VMSTATE_ONE(UINT32, value, struct negated),
	VMSTATE_END,
};
static const struct vmstate_desc negated_vmstate = {
	.name = "negated",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = negated_fields,
	.pre_save = negated_pre_save,
	.post_load = negated_post_load,
};

/* --- subsections, one in the other --- */

static bool needs_extra(const void *opaque)
{
	return ((const struct gadget *)opaque)->extra != 0;
}

static bool needs_more(const void *opaque)
{
	return ((const struct gadget *)opaque)->more != 0;
}

static const struct vmstate_field more_fields[] = {
	VMSTATE_ONE(UINT32, more, struct gadget),
	VMSTATE_END,
};
static const struct vmstate_desc more_vmstate = {
	.name = "gadget/extra/more",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = more_fields,
	.needed = needs_more,
};
static const struct vmstate_field extra_fields[] = {
	VMSTATE_ONE(UINT32, extra, struct gadget),
	VMSTATE_END,
};
static const struct vmstate_desc extra_vmstate = {
	.name = "gadget/extra",
	.version_id = 2,
	.minimum_version_id = 1,
	.fields = extra_fields,
	.subsections = (const struct vmstate_desc *const[]){ &more_vmstate, NULL },
	.needed = needs_extra,
};

static const struct vmstate_field gadget_fields[] = {
	VMSTATE_ONE(BOOL, on, struct gadget),
	VMSTATE_ONE(UINT8, a8, struct gadget),
	VMSTATE_ONE(UINT16, a16, struct gadget),
	VMSTATE_ONE(UINT32, a32, struct gadget),
	VMSTATE_ONE(UINT64, a64, struct gadget),
	VMSTATE_ONE(INT8, s8, struct gadget),
	VMSTATE_ONE(INT16, s16, struct gadget),
	VMSTATE_ONE(INT32, s32, struct gadget),
	VMSTATE_ONE(INT64, s64, struct gadget),
	VMSTATE_ONE(TIMER, timer, struct gadget),
	VMSTATE_ONE(UINT8_EQUAL, same8, struct gadget),
	VMSTATE_ONE(UINT16_EQUAL, same16, struct gadget),
	VMSTATE_ONE(UINT32_EQUAL, same32, struct gadget),
	VMSTATE_ONE(UINT64_EQUAL, same64, struct gadget),
	VMSTATE_ARRAY(UINT16, fixed, struct gadget),
	VMSTATE_ARRAY_2D(UINT8, grid, struct gadget),
	VMSTATE_ONE(UINT32, nvar, struct gadget),
	VMSTATE_VARRAY(UINT32, var, struct gadget, nvar),
	VMSTATE_ONE(UINT16, nalloc, struct gadget),
	VMSTATE_ALLOC_ARRAY(UINT16, alloc, struct gadget, nalloc, 9),
	VMSTATE_BUFFER_PART(raw, struct gadget, 1, 4),
	VMSTATE_ONE(UINT8, nbytes, struct gadget),
	VMSTATE_VBUFFER(bytes, struct gadget, nbytes),
	VMSTATE_ONE(UINT32, nblob, struct gadget),
	VMSTATE_ALLOC_BUFFER(blob, struct gadget, nblob, 40),
	VMSTATE_BITMAP(bits, struct gadget, GADGET_BITS),
	VMSTATE_ONE(UINT8, nmap, struct gadget),
	VMSTATE_ALLOC_BITMAP(map, struct gadget, nmap, 130),
	VMSTATE_UNUSED(3),
	VMSTATE_STRUCT(one, struct gadget, point_vmstate, struct point),
	VMSTATE_STRUCT_ARRAY(two, struct gadget, point_vmstate, struct point),
	VMSTATE_STRUCT_PTR(behind, struct gadget, point_vmstate, struct point),
	VMSTATE_ONE(UINT16, npoints, struct gadget),
	VMSTATE_STRUCT_ALLOC(points, struct gadget, npoints, 6, point_vmstate, struct point),
	VMSTATE_STRUCT_POINTERS(maybe, struct gadget, point_vmstate, struct point),
	VMSTATE_POINTER_ARRAY(UINT32, numbers, struct gadget),
	VMSTATE_QTAILQ(queue, struct gadget, queue_of, struct packet),
	VMSTATE_QLIST(list, struct gadget, list_of, struct packet),
	VMSTATE_QSLIST(slist, struct gadget, slist_of, struct packet),
	VMSTATE_QTAILQ(flags, struct gadget, flags_of, struct packet),
	VMSTATE_LIST_ARRAY(ring, struct gadget, ring_of, struct point),
	VMSTATE_TEMPORARY("sum", struct gadget, negated_vmstate, struct negated),
	VMSTATE_ONE(UINT32, late, struct gadget, .version_id = 2),
	VMSTATE_ONE(UINT8, mode, struct gadget, .version_id = 3),
	VMSTATE_ONE(UINT16, a16, struct gadget, .exists = in_mode_one),
	VMSTATE_END,
};

const struct vmstate_desc gadget_vmstate = {
	.name = "gadget",
	.version_id = 3,
	.minimum_version_id = 1,
	.fields = gadget_fields,
	.subsections = (const struct vmstate_desc *const[]){ &extra_vmstate, NULL },
};

static struct packet *packet(uint8_t flag, uint8_t len)
{
	struct packet *p = xcalloc(1, sizeof(*p));

	p->flag = flag;
	p->len = len;
	p->data = xcalloc(1, len + 1u);
	return p;
}

void gadget_make(struct gadget *g)
{
	struct packet *p;

	/* Padding as well: a failed load is compared byte for byte. */
	memset(g, 0, sizeof(*g));
	g->same8 = 8;
	g->same16 = 16;
	g->same32 = 32;
	g->same64 = 64;
	g->nvar = g->nalloc = g->nbytes = g->nblob = g->npoints = g->nring = 2;
	g->alloc = xcalloc(2, sizeof(*g->alloc));
	g->blob = xcalloc(1, 3);
	g->nmap = 65;
	g->map = xcalloc(2, sizeof(*g->map));
	g->behind = xcalloc(1, sizeof(*g->behind));
	g->points = xcalloc(2, sizeof(*g->points));
	g->maybe[1] = xcalloc(1, sizeof(*g->maybe[1]));
	g->numbers[0] = xcalloc(1, sizeof(uint32_t));
	TAILQ_INIT(&g->queue);
	LIST_INIT(&g->list);
	SLIST_INIT(&g->slist);
	TAILQ_INIT(&g->flags);
	for (uint8_t i = 0; i < 2; i++) {
		p = packet(0, i);
		TAILQ_INSERT_TAIL(&g->queue, p, queue);
		p = packet(1 + i, 3);
		TAILQ_INSERT_TAIL(&g->flags, p, queue);
	}
	p = packet(0, 4);
	LIST_INSERT_HEAD(&g->list, p, list);
	p = packet(0, 5);
	SLIST_INSERT_HEAD(&g->slist, p, slist);
	g->extra = 77;
	g->more = 78;
}

void gadget_end(struct gadget *g)
{
	vmstate_release(&gadget_vmstate, g);
	free(g->behind);
	free(g->maybe[1]);
	free(g->numbers[0]);
}

static unsigned int packets(const struct gadget *g)
{
	const struct packet *p;
	unsigned int n = 0, len = 0;

	TAILQ_FOREACH (p, &g->queue, queue)
		n++;
	MUST(n <= 6);
	n = 0;
	TAILQ_FOREACH (p, &g->flags, queue) {
		MUST(p->flag == 1 || p->flag == 2);
		n++;
	}
	MUST(n <= 5);
	n = 0;
	LIST_FOREACH(p, &g->list, list)
	{
		MUST(p->len >= len);
		len = p->len;
		n++;
	}
	MUST(n <= 5);
	n = 0;
	SLIST_FOREACH(p, &g->slist, slist)
	{
		MUST(p->len <= 20);
		n++;
	}
	return n;
}

void gadget_expect_bounds(const struct gadget *g)
{
	MUST(g->nvar <= 5 && g->nalloc <= 9 && g->nbytes <= 7 && g->nblob <= 40);
	MUST(g->npoints <= 6 && g->nmap <= 130 && g->nring <= 4);
	MUST(g->same8 == 8 && g->same16 == 16 && g->same32 == 32 && g->same64 == 64);
	MUST(!g->maybe[0] && g->maybe[1] && !g->maybe[2] && g->numbers[0] && !g->numbers[1]);
	MUST(!g->raw[0] && !g->raw[5]);
	MUST(!(g->bits[1] >> (GADGET_BITS - 64)));
	MUST(!(g->nmap % 64) || !(g->map[g->nmap / 64] >> g->nmap % 64));
	MUST(!g->nblob || g->blob[g->nblob] == '\0');
	MUST(*(const uint8_t *)&g->on <= 1);
	MUST(packets(g) <= 5);
}
