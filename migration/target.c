/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/target.h"

#include "migration/bitmaps/format.h"
#include "migration/bitmaps/load.h"
#include "migration/ram/load.h"
#include "migration/return_path.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

/* A peer that says nothing must not keep the listener from the next one. */
#define HEADER_TIMEOUT_MS 10000
/* After the switch, for the description that nobody needs here. */
#define TRAILER_TIMEOUT_MS 10000

#define NOTICES_MAX 32

/* Sections that come in parts: a START, PARTs, an END. */
enum iterable { ITERABLE_RAM, ITERABLE_BITMAPS, ITERABLES };

/* One stream, from its first byte to its end. */
struct incoming {
	struct target *target;
	struct channel *ch;
	struct stream_in *in;
	struct stream_out *out; /* the return path; NULL: none */
	bool return_path;	/* opened by the source */
	struct configuration cfg;
	struct section_table *sections;
	struct ram_load ram;
	bool ram_ready;
	struct bitmap_load bitmaps;
	unsigned int notices; /* sent */
	struct part {
		bool started, ended;
		uint32_t section_id; /* that a START has given it */
	} parts[ITERABLES];
	bool loaded[SECTION_TABLE_MAX];
};

static bool stream_ok(struct incoming *inc, struct error **errp)
{
	return stream_in_take_error(inc->in, errp);
}

/* Tell the person at the source, who cannot read the log here. The migration goes on, so it must not be so much that it does not fit
 * into the connection while the source reads nothing. */
static void put_notice(void *opaque, const char *text)
{
	struct incoming *inc = opaque;

	if (!inc->return_path || !(inc->cfg.offers_heard & OFFER_NOTICE) ||
	    inc->notices >= NOTICES_MAX)
		return;
	if (++inc->notices == NOTICES_MAX)
		text = "and more, which the destination's log has";
	message_put_text(inc->out, RETURN_NOTICE, text);
	stream_flush(inc->out);
}

/* --- sections --- */

static void load_ram(struct incoming *inc)
{
	ram_load_section(&inc->ram, inc->in);
}

static void load_bitmaps(struct incoming *inc)
{
	bitmap_load_section(&inc->bitmaps, inc->in);
}

static const struct {
	const char *name;
	uint32_t version;
	void (*load)(struct incoming *inc);
	bool required;
} iterables[ITERABLES] = {
	[ITERABLE_RAM] = { "ram", RAM_SECTION_VERSION, load_ram, true },
	[ITERABLE_BITMAPS] = { BITMAP_SECTION_NAME, BITMAP_SECTION_VERSION, load_bitmaps, false },
};

static bool load_part(struct incoming *inc, unsigned int i, struct error **errp)
{
	iterables[i].load(inc);
	section_get_footer(inc->in, inc->parts[i].section_id);
	return stream_ok(inc, errp);
}

static bool is_taken(const struct incoming *inc, uint32_t section_id)
{
	for (unsigned int i = 0; i < ITERABLES; i++)
		if (inc->parts[i].started && inc->parts[i].section_id == section_id)
			return true;
	return false;
}

static bool start_part(struct incoming *inc, unsigned int i, uint32_t section_id, uint32_t version,
		       struct error **errp)
{
	struct part *part = &inc->parts[i];

	if (version != iterables[i].version || part->started) {
		error_set(errp, "%s: version %u%s, expected version %u once", iterables[i].name,
			  version, part->started ? " a second time" : "", iterables[i].version);
		return false;
	}
	if (is_taken(inc, section_id)) {
		error_set(errp, "%s: section %u is open already", iterables[i].name, section_id);
		return false;
	}
	*part = (struct part){ .started = true, .section_id = section_id };
	return load_part(inc, i, errp);
}

/* START and FULL carry a name. */
static bool load_named(struct incoming *inc, uint8_t type, struct error **errp)
{
	uint32_t section_id = get_u32(inc->in);
	char name[STREAM_NAME_MAX + 1];
	const struct section *section;
	uint32_t instance, version;

	get_name(inc->in, name);
	instance = get_u32(inc->in);
	version = get_u32(inc->in);
	if (!stream_ok(inc, errp))
		return false;
	for (unsigned int i = 0; i < ITERABLES; i++)
		if (type == SECTION_START && strcmp(name, iterables[i].name) == 0 && instance == 0)
			return start_part(inc, i, section_id, version, errp);
	section = type == SECTION_FULL ? section_find(inc->sections, name, instance) : NULL;
	if (!section) {
		error_set(errp, "section '%s' instance %u is not part of this machine", name,
			  instance);
		return false;
	}
	inc->loaded[section - inc->sections->items] = true;
	return section_load(inc->in, section, section_id, version, errp);
}

/* PART and END carry the id that a START has introduced. */
static bool load_more(struct incoming *inc, uint8_t type, struct error **errp)
{
	uint32_t section_id = get_u32(inc->in);

	if (!stream_ok(inc, errp))
		return false;
	for (unsigned int i = 0; i < ITERABLES; i++) {
		struct part *part = &inc->parts[i];

		if (!part->started || part->ended || part->section_id != section_id)
			continue;
		part->ended = type == SECTION_END;
		return load_part(inc, i, errp);
	}
	error_set(errp, "a part of section %u, which is not open", section_id);
	return false;
}

static bool all_loaded(struct incoming *inc, struct error **errp)
{
	for (unsigned int i = 0; i < ITERABLES; i++) {
		const struct part *part = &inc->parts[i];

		if (part->ended || !(part->started || iterables[i].required))
			continue;
		error_set(errp, "the stream ends without the end of section '%s'",
			  iterables[i].name);
		return false;
	}
	for (unsigned int i = 0; i < inc->sections->n; i++) {
		if (!inc->loaded[i]) {
			error_set(errp, "the stream lacks section '%s' instance %u",
				  inc->sections->items[i].idstr,
				  inc->sections->items[i].instance_id);
			return false;
		}
	}
	return true;
}

/* --- commands --- */

static void open_return_path(struct incoming *inc)
{
	if (!channel_is_duplex(inc->ch) || inc->return_path)
		return;
	inc->return_path = true;
	if (inc->cfg.offers)
		message_put_u64(inc->out, RETURN_OFFERS, OFFERS_KNOWN);
	stream_flush(inc->out);
}

/* A command while the stream is being loaded. */
static bool load_command(struct incoming *inc, struct error **errp)
{
	struct message msg;

	message_get(inc->in, &msg);
	if (!stream_ok(inc, errp))
		return false;
	switch (msg.type) {
	case COMMAND_OPEN_RETURN_PATH:
		open_return_path(inc);
		return true;
	case COMMAND_PING:
		if (msg.len != 4) {
			error_set(errp, "PING has %u bytes, expected 4", msg.len);
			return false;
		}
		if (inc->return_path) {
			message_put(inc->out, RETURN_PONG, msg.data, msg.len);
			stream_flush(inc->out);
		}
		return true;
	case COMMAND_ABORT:
		error_set(errp, "the source keeps the guest: %s", message_text(&msg));
		return false;
	default:
		error_set(errp, "command 0x%x is not understood here", msg.type);
		return false;
	}
}

static bool load_machine_state(struct incoming *inc, struct error **errp)
{
	for (;;) {
		uint8_t type = get_u8(inc->in);

		if (!stream_ok(inc, errp))
			return false;
		switch (type) {
		case SECTION_START:
		case SECTION_FULL:
			if (!load_named(inc, type, errp))
				return false;
			break;
		case SECTION_PART:
		case SECTION_END:
			if (!load_more(inc, type, errp))
				return false;
			break;
		case SECTION_COMMAND:
			if (!load_command(inc, errp))
				return false;
			break;
		case SECTION_EOF:
			if (!all_loaded(inc, errp))
				return false;
			bitmap_load_finish(&inc->bitmaps);
			return true;
		default:
			error_set(errp, "at byte %llu: section type 0x%02x is not understood",
				  (unsigned long long)stream_in_position(inc->in) - 1, type);
			return false;
		}
	}
}

/* --- the switch --- */

/* The last word: true, the guest is ours. Else *in_doubt tells whether it may be. */
static bool await_hand_over(struct incoming *inc, bool *in_doubt, struct error **errp)
{
	struct message msg;

	*in_doubt = true;
	if (get_u8(inc->in) != SECTION_COMMAND && stream_in_ok(inc->in)) {
		error_set(errp, "expected the hand-over, got something else");
		return false;
	}
	message_get(inc->in, &msg);
	if (!stream_in_take_error(inc->in, errp)) {
		error_prefix(errp, "no last word from the source: ");
		return false;
	}
	if (msg.type == COMMAND_HAND_OVER)
		return true;
	*in_doubt = msg.type != COMMAND_ABORT;
	if (*in_doubt)
		error_set(errp, "expected the hand-over, got command 0x%x", msg.type);
	else
		error_set(errp, "the source keeps the guest: %s", message_text(&msg));
	return false;
}

static void read_trailer(struct incoming *inc)
{
	channel_set_read_timeout(inc->ch, TRAILER_TIMEOUT_MS);
	while (!stream_in_at_end(inc->in))
		skip_bytes(inc->in, stream_in_buffered(inc->in));
}

static enum target_end switch_over(struct incoming *inc, struct error **errp)
{
	bool in_doubt;

	if (inc->return_path) {
		message_put_u32(inc->out, RETURN_SHUT, 0);
		if (!stream_flush(inc->out)) {
			stream_out_take_error(inc->out, errp);
			return TARGET_FAILED; /* the source cannot have read it, so it keeps the guest */
		}
		if (!await_hand_over(inc, &in_doubt, errp))
			return in_doubt ? TARGET_IN_DOUBT : TARGET_FAILED;
	}
	inc->target->owner.take_over(inc->target->owner.opaque);
	if (inc->return_path) {
		message_put(inc->out, RETURN_TOOK_OVER, NULL, 0);
		stream_flush(inc->out);
	}
	read_trailer(inc);
	return TARGET_TOOK_OVER;
}

/* --- one connection --- */

/* Is it a migration stream at all? */
static bool load_header(struct incoming *inc, struct error **errp)
{
	uint32_t magic = get_u32(inc->in);
	uint32_t version = get_u32(inc->in);

	if (!stream_ok(inc, errp))
		return false;
	if (magic != STREAM_MAGIC) {
		error_set(errp, "not a migration stream: it begins with 0x%08x, expected 0x%08x",
			  magic, STREAM_MAGIC);
		return false;
	}
	if (version != STREAM_VERSION) {
		error_set(errp, "migration stream version %u, expected %u", version,
			  STREAM_VERSION);
		return false;
	}
	return true;
}

static bool load_configuration(struct incoming *inc, struct error **errp)
{
	uint8_t type = get_u8(inc->in);

	if (!stream_ok(inc, errp))
		return false;
	if (type != SECTION_CONFIGURATION) {
		error_set(errp, "section type 0x%02x where CONFIGURATION is due", type);
		return false;
	}
	if (!configuration_load(&inc->cfg, inc->in, errp))
		return false;
	if (!inc->cfg.has_devicetree || !inc->cfg.has_cpu) {
		error_set(errp,
			  "the stream of machine '%s' does not carry the machine's description",
			  (const char *)inc->cfg.name);
		return false;
	}
	return true;
}

static bool load_all(struct incoming *inc, struct error **errp)
{
	struct target_owner *owner = &inc->target->owner;

	if (!load_configuration(inc, errp))
		return false;
	channel_set_read_timeout(inc->ch, 0); /* a slow source is not a dead one */
	if (!owner->build(owner->opaque, &inc->cfg, &inc->sections, errp))
		return false;
	bitmap_load_init(&inc->bitmaps, &inc->target->vm->disks);
	inc->bitmaps.tell = put_notice;
	inc->bitmaps.opaque = inc;
	inc->ram_ready = ram_load_init(&inc->ram, &inc->target->vm->memory, errp);
	return inc->ram_ready && load_machine_state(inc, errp);
}

/* Tell the source why, if it can hear. */
static void tell_failure(struct incoming *inc, const struct error *err)
{
	if (!inc->return_path &&
	    !(inc->cfg.offers_heard & OFFER_REASON && channel_is_duplex(inc->ch)))
		return;
	channel_set_write_timeout(inc->ch, HEADER_TIMEOUT_MS);
	if (inc->cfg.offers_heard & OFFER_REASON)
		message_put_text(inc->out, RETURN_REASON, error_msg(err));
	message_put_u32(inc->out, RETURN_SHUT, 1);
	stream_flush(inc->out);
	channel_linger(inc->ch);
}

static void incoming_release(struct incoming *inc)
{
	if (inc->ram_ready)
		ram_load_release(&inc->ram);
	if (inc->bitmaps.disks)
		bitmap_load_release(&inc->bitmaps);
	configuration_release(&inc->cfg);
	stream_in_free(inc->in);
	stream_out_free(inc->out);
}

/* True: *end is final. False: that was no migration stream. */
static bool serve(struct target *target, struct channel *ch, enum target_end *end,
		  struct error **errp)
{
	struct incoming inc = { .target = target, .ch = ch };
	struct error *err = NULL;
	bool is_stream;

	inc.in = stream_in_new(ch);
	inc.out = stream_out_new(ch);
	channel_set_read_timeout(ch, HEADER_TIMEOUT_MS);
	is_stream = load_header(&inc, &err);
	if (is_stream && load_all(&inc, &err)) {
		*end = switch_over(&inc, &err);
	} else {
		*end = TARGET_FAILED;
		if (is_stream)
			tell_failure(&inc, err);
	}
	error_propagate(errp, err);
	incoming_release(&inc);
	return is_stream;
}

static void set_channel(struct target *target, struct channel *ch)
{
	pthread_mutex_lock(&target->lock);
	target->channel = ch;
	if (ch && target->cancelled)
		channel_cancel(ch);
	pthread_mutex_unlock(&target->lock);
}

static void *target_main(void *opaque)
{
	struct target *target = opaque;
	enum target_end end = TARGET_FAILED;
	struct error *err = NULL;

	for (;;) {
		struct channel *ch = listener_accept(target->listener, &err);
		bool final;

		if (!ch)
			break;
		set_channel(target, ch);
		final = serve(target, ch, &end, &err);
		set_channel(target, NULL);
		channel_free(ch);
		if (final || !listener_can_repeat(target->listener))
			break;
		log_warn("incoming connection on %s turned away: %s",
			 listener_uri(target->listener), error_msg(err));
		error_free(err);
		err = NULL;
	}
	target->owner.ended(target->owner.opaque, end, err);
	return NULL;
}

struct target *target_start(struct vm *vm, const char *uri, const struct target_owner *owner,
			    struct error **errp)
{
	struct address *addr = address_parse(uri, errp);
	struct target *target;
	int rc;

	if (!addr)
		return NULL;
	target = xcalloc(1, sizeof(*target));
	target->owner = *owner;
	target->vm = vm;
	pthread_mutex_init(&target->lock, NULL);
	target->listener = listener_open(addr, errp);
	address_free(addr);
	if (!target->listener) {
		target_stop(target);
		return NULL;
	}
	rc = thread_start(&target->thread, target_main, target);
	if (rc) {
		error_set_errno(errp, rc, "incoming migration: thread");
		target_stop(target);
		return NULL;
	}
	target->has_thread = true;
	return target;
}

const char *target_uri(const struct target *target)
{
	return listener_uri(target->listener);
}

void target_stop(struct target *target)
{
	if (!target)
		return;
	if (target->has_thread) {
		pthread_mutex_lock(&target->lock);
		target->cancelled = true;
		if (target->channel)
			channel_cancel(target->channel);
		pthread_mutex_unlock(&target->lock);
		listener_cancel(target->listener);
		pthread_join(target->thread, NULL);
	}
	listener_free(target->listener);
	pthread_mutex_destroy(&target->lock);
	free(target);
}
