/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dirty bitmaps of disks go before the first page, all of them; before each further pass, and at the switch, what has changed. */
#include "migration/bitmaps/format.h"
#include "migration/source.h"

/* Behind those of all devices. */
#define BITMAP_SECTION_ID 0x10000

static void begin_part(struct source *src, uint8_t type)
{
	put_u8(src->out, type);
	put_u32(src->out, BITMAP_SECTION_ID);
	src->in_bitmaps = type == SECTION_PART;
}

static void end_part(struct source *src)
{
	section_put_footer(src->out, BITMAP_SECTION_ID);
	stream_flush(src->out);
	src->in_bitmaps = false;
}

/* START, once there is a bitmap: without any there is no section, and a destination need not know of it. */
static bool has_begun(struct source *src)
{
	if (src->has_bitmaps || !src->bitmaps.disks || !bitmap_save_has_any(&src->bitmaps))
		return src->has_bitmaps;
	src->has_bitmaps = true;
	section_put_header(src->out, SECTION_START, BITMAP_SECTION_ID, BITMAP_SECTION_NAME, 0,
			   BITMAP_SECTION_VERSION);
	bitmap_save_setup(&src->bitmaps);
	end_part(src);
	return true;
}

bool source_send_bitmaps(struct source *src, struct error **errp)
{
	if (!has_begun(src) || !source_bitmaps_left(src))
		return true;
	begin_part(src, SECTION_PART);
	bitmap_save_rewind(&src->bitmaps);
	while (bitmap_save_some(&src->bitmaps))
		if (stream_out_position(src->out) >= src->next_check &&
		    !source_pause_for_breath(src, errp))
			return false;
	bitmap_save_eos(&src->bitmaps);
	end_part(src);
	return source_stream_ok(src, errp);
}

uint64_t source_bitmaps_left(struct source *src)
{
	return src->bitmaps.disks ? bitmap_save_left(&src->bitmaps) : 0;
}

bool source_start_bitmaps(struct source *src, struct error **errp)
{
	if (src->caps.dirty_bitmaps != CAPABILITY_ON)
		return true;
	return bitmap_save_begin(&src->bitmaps, src->out, &src->vm->disks, errp) &&
	       source_send_bitmaps(src, errp);
}

bool source_last_bitmaps(struct source *src, struct error **errp)
{
	if (!src->bitmaps.disks)
		return true;
	bitmap_save_close(&src->bitmaps);
	if (!has_begun(src))
		return true;
	begin_part(src, SECTION_END);
	bitmap_save_rest(&src->bitmaps);
	end_part(src);
	return source_stream_ok(src, errp);
}

void source_stop_bitmaps(struct source *src)
{
	/* A last word to the destination begins at the end of a section. */
	if (src->in_bitmaps) {
		bitmap_save_eos(&src->bitmaps);
		end_part(src);
	}
	bitmap_save_end(&src->bitmaps);
}
