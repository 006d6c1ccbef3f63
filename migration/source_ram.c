/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Precopy: guest memory is sent in passes while the guest runs. A pass sends every page that was dirty when it began; a sync of
 * the dirty log at its end tells what the next one has to send, or that the rest is small enough to stop the guest for.
 */
#include <assert.h>

#include "migration/source.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

#define RAM_SECTION_ID 0
#define CHECK_BYTES (512u << 10) /* without a cap */
#define CAP_SLICES 200		 /* looks a second, with a cap */
#define CAP_BURST_NS (20 * NS_PER_MS)
#define PAGE_RECORD_BYTES (RAM_PAGE_SIZE + 8)
/* On a link slower than this, encoding a page costs less than sending it. */
#define XBZRLE_PAYS_BELOW (UINT64_C(256) << 20)
/* Stop, reading and loading state, start; learnt better by the round trip that is added. */
#define FIXED_NS (2 * NS_PER_MS)
/* Where the rest does not fit, a pass of a few pages tells nothing new: no more than this many a second. */
#define PASS_MIN_NS (10 * NS_PER_MS)
#define COST_SAMPLE_MIN 16

/* Of itself only for a link: tools that read a stream's file know pages, most of them no differences. */
static bool may_use_xbzrle(const struct source *src)
{
	return src->caps.xbzrle == CAPABILITY_ON ||
	       (src->caps.xbzrle == CAPABILITY_AUTO && channel_is_duplex(src->ch));
}

bool source_start_ram(struct source *src, struct error **errp)
{
	struct migration_machine *machine = &src->m->machine;

	if (!ram_dirty_start(&src->dirty, &src->vm->memory, machine->dirty_log, errp))
		return false;
	src->save = (struct ram_save){ .out = src->out, .pass = 1 };
	if (may_use_xbzrle(src)) {
		src->save.cache = page_cache_new(src->params.xbzrle_cache_size, errp);
		if (!src->save.cache)
			return false;
	}
	section_put_header(src->out, SECTION_START, RAM_SECTION_ID, "ram", 0, RAM_SECTION_VERSION);
	ram_save_setup(&src->save, &src->vm->memory);
	section_put_footer(src->out, RAM_SECTION_ID);
	stream_flush(src->out);
	return source_stream_ok(src, errp);
}

static void begin_part(struct source *src, uint8_t type)
{
	put_u8(src->out, type);
	put_u32(src->out, RAM_SECTION_ID);
	src->in_ram = true;
}

static void end_part(struct source *src)
{
	ram_save_eos(&src->save);
	section_put_footer(src->out, RAM_SECTION_ID);
	stream_flush(src->out);
	src->in_ram = false;
}

void source_stop_ram(struct source *src)
{
	/* What has been gathered refers to the cache. */
	if (src->in_ram)
		end_part(src);
	ram_dirty_stop(&src->dirty);
	page_cache_free(src->save.cache);
	src->save.cache = NULL;
}

void source_publish_stats(struct source *src)
{
	struct migration_stats *st = &src->m->stats;

	pthread_mutex_lock(&src->m->lock);
	st->ram = src->save.counters;
	st->transferred_bytes = stream_out_position(src->out);
	st->ram_remaining_bytes = ram_dirty_remaining(&src->dirty) * RAM_PAGE_SIZE;
	st->bandwidth = src->bandwidth;
	st->xbzrle = src->save.cache != NULL;
	st->cache_size_bytes =
		src->save.cache ? page_cache_slots(src->save.cache) * RAM_PAGE_SIZE : 0;
	pthread_mutex_unlock(&src->m->lock);
}

/* Bytes a second while sending. A cap is a link of that speed. */
static void measure_bandwidth(struct source *src)
{
	src->bandwidth = bandwidth_meter_read(&src->meter, stream_out_position(src->out),
					      stream_send_ns(src->out));
	if (src->rate && (!src->bandwidth || src->bandwidth > src->rate))
		src->bandwidth = src->rate;
}

static void choose_encoding(struct source *src)
{
	bool slow = src->bandwidth && src->bandwidth < XBZRLE_PAYS_BELOW;
	bool wanted =
		src->caps.xbzrle == CAPABILITY_ON || (src->caps.xbzrle == CAPABILITY_AUTO && slow);

	src->save.use_xbzrle = wanted && src->save.pass > 1;
	src->save.fill_cache = wanted && src->save.pass == 1;
}

static void open_window(struct source *src)
{
	src->window_ns = clock_now_ns();
	src->window_position = stream_out_position(src->out);
}

static void next_check(struct source *src)
{
	uint64_t step = CHECK_BYTES;

	if (src->rate)
		step = MIN_OF(step, src->rate / CAP_SLICES);
	src->next_check = stream_out_position(src->out) + step;
}

/* When the cap allows what has been put; 0: now. Under the migration's lock. */
static uint64_t due_locked(struct source *src, uint64_t now)
{
	uint64_t sent = stream_out_position(src->out) - src->window_position;
	uint64_t due_ns;

	if (src->m->params.max_bandwidth != src->rate) {
		src->rate = src->m->params.max_bandwidth;
		open_window(src);
		return 0;
	}
	if (!src->rate)
		return 0;
	due_ns = src->window_ns + (uint64_t)((unsigned __int128)sent * NS_PER_SEC / src->rate);
	if (due_ns > now)
		return due_ns;
	if (now - due_ns > CAP_BURST_NS)
		open_window(src); /* what was not used is not saved up */
	return 0;
}

/* Wait until the cap allows what has been put, or the cap changes; as long as the destination is there, and nobody cancels. */
static bool keep_to_cap(struct source *src, struct error **errp)
{
	struct migration *m = src->m;
	uint64_t due_ns;

	do {
		uint64_t now = clock_now_ns();

		pthread_mutex_lock(&m->lock);
		due_ns = due_locked(src, now);
		if (due_ns && !m->cancel) {
			struct timespec until = clock_timespec(MIN_OF(due_ns, now + PEER_CHECK_NS));

			pthread_cond_timedwait(&m->cond, &m->lock, &until);
		}
		src->params = m->params;
		pthread_mutex_unlock(&m->lock);
		if (!source_check(src, errp))
			return false;
	} while (due_ns);
	return true;
}

bool source_pause_for_breath(struct source *src, struct error **errp)
{
	if (src->rate)
		stream_flush(src->out); /* what is due now goes out now */
	if (!source_stream_ok(src, errp) || !keep_to_cap(src, errp))
		return false;
	measure_bandwidth(src);
	choose_encoding(src);
	source_publish_stats(src);
	next_check(src);
	return true;
}

static bool send_dirty_pages(struct source *src, bool guest_stopped, struct error **errp)
{
	struct ram_dirty_block *block;
	struct error *err = NULL;
	uint64_t page;

	while (ram_dirty_take(&src->dirty, guest_stopped, &block, &page, &err)) {
		ram_save_page(&src->save, block, page);
		src->pass_pages++;
		if (guest_stopped || stream_out_position(src->out) < src->next_check)
			continue;
		if (!source_pause_for_breath(src, errp))
			return false;
	}
	error_propagate(errp, err);
	return !err;
}

static void begin_pass(struct source *src)
{
	src->pass_ns = clock_now_ns();
	src->pass_position = stream_out_position(src->out);
	bandwidth_meter_mark(&src->meter, src->pass_position, stream_send_ns(src->out));
	src->pass_pages = 0;
	choose_encoding(src);
	next_check(src);
}

static bool send_pass(struct source *src, struct error **errp)
{
	if (!source_send_bitmaps(src, errp))
		return false;
	begin_pass(src);
	begin_part(src, SECTION_PART);
	if (!send_dirty_pages(src, false, errp))
		return false;
	end_part(src);
	return source_pause_for_breath(src, errp);
}

static bool sync_log(struct source *src, struct error **errp)
{
	uint64_t before = src->sync_ns, pass;
	uint64_t fresh;

	if (!ram_dirty_sync(&src->dirty, &fresh, errp))
		return false;
	src->sync_ns = clock_now_ns();
	pthread_mutex_lock(&src->m->lock);
	pass = ++src->m->stats.passes;
	src->m->stats.dirty_pages_rate =
		(uint64_t)((double)fresh * NS_PER_SEC / (double)(src->sync_ns - before + 1));
	src->m->stats.throughput =
		(uint64_t)((double)(stream_out_position(src->out) - src->pass_position) *
			   NS_PER_SEC / (double)(src->sync_ns - src->pass_ns + 1));
	pthread_mutex_unlock(&src->m->lock);
	source_publish_stats(src);
	src->m->observer.pass_started(src->m->observer.opaque, pass);
	return true;
}

/* The rest, as it would go on the wire: pages that the encoder has been shrinking will go on shrinking. And the dirty bitmaps'. */
static uint64_t rest_bytes(struct source *src)
{
	uint64_t each = PAGE_RECORD_BYTES;

	if (src->cost_pages >= COST_SAMPLE_MIN)
		each = MIN_OF(each, src->cost_bytes / src->cost_pages + 1);
	return ram_dirty_remaining(&src->dirty) * each + source_bitmaps_left(src);
}

static void note_cost(struct source *src)
{
	if (src->save.pass == 1)
		return; /* sends what is not sent again */
	src->cost_bytes = src->cost_bytes / 2 + stream_out_position(src->out) - src->pass_position;
	src->cost_pages = src->cost_pages / 2 + src->pass_pages;
}

/* Let the pass that has just ended last for PASS_MIN_NS, unless someone cancels or changes a parameter. */
static void stretch_pass(struct source *src)
{
	struct timespec until = clock_timespec(src->pass_ns + PASS_MIN_NS);
	struct migration *m = src->m;

	if (src->fitting || clock_now_ns() >= src->pass_ns + PASS_MIN_NS)
		return;
	pthread_mutex_lock(&m->lock);
	if (!m->cancel)
		pthread_cond_timedwait(&m->cond, &m->lock, &until);
	pthread_mutex_unlock(&m->lock);
}

static bool time_to_switch(struct source *src)
{
	uint64_t limit_ns = src->params.downtime_limit * NS_PER_MS;
	struct convergence_input in = {
		.rest_bytes = rest_bytes(src),
		.previous_bytes = src->previous_rest,
		.bandwidth = src->bandwidth,
		.limit_ns = limit_ns,
		/* A single measurement, or a small limit, must not make the limit unreachable. */
		.fixed_ns = MIN_OF(FIXED_NS + 2 * src->rtt_ns, limit_ns / 2),
		.fitting = src->fitting,
	};
	struct convergence_output out = convergence_decide(&in);

	src->previous_rest = in.rest_bytes;
	out.fits &= limit_ns != 0;
	src->fitting = out.fits ? src->fitting + 1 : 0;
	pthread_mutex_lock(&src->m->lock);
	src->m->stats.expected_downtime_ns = out.estimate_ns;
	src->m->stats.fits = out.fits;
	pthread_mutex_unlock(&src->m->lock);
	/* A limit of 0 accepts no blackout at all: the passes go on until it is raised. Else no rest is as good as it gets. */
	return limit_ns && (out.switch_over || !in.rest_bytes);
}

bool source_precopy(struct source *src, struct error **errp)
{
	src->sync_ns = clock_now_ns();
	src->rate = src->params.max_bandwidth;
	open_window(src);
	begin_pass(src);
	measure_bandwidth(src);
	pthread_mutex_lock(&src->m->lock);
	src->m->stats.passes = 1;
	pthread_mutex_unlock(&src->m->lock);
	src->m->observer.pass_started(src->m->observer.opaque, 1);
	for (;;) {
		if (!send_pass(src, errp) || !sync_log(src, errp))
			return false;
		note_cost(src);
		src->save.pass++;
		if (time_to_switch(src))
			return true;
		stretch_pass(src);
	}
}

bool source_last_pages(struct source *src, struct error **errp)
{
	uint64_t fresh;

	if (!ram_dirty_sync(&src->dirty, &fresh, errp))
		return false;
	begin_pass(src);
	begin_part(src, SECTION_END);
	if (!send_dirty_pages(src, true, errp))
		return false;
	assert(ram_dirty_remaining(&src->dirty) == 0);
	end_part(src);
	return source_stream_ok(src, errp);
}
