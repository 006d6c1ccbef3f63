/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An outgoing migration, as a list of named phases.
 *
 *	connect      open the channel
 *	handshake    header, CONFIGURATION; the destination builds the machine, or says why not
 *	memory       dirty logging on, block list
 *	bitmaps      dirty bitmaps of disks, where asked for
 *	precopy      passes, while the guest runs: bits that have changed, pages
 *	stop         park vCPUs, drain devices                        the blackout begins
 *	wait         pre-switchover, where the user asked for it
 *	save         device state, last sync, last pages, last bits, EOF
 *	loaded       the destination says that everything is loaded
 *	hand-over    the source gives up its right to run the guest   <- the point of no return
 *	confirm      the destination says that it has taken over
 *
 * A phase that fails before the hand-over has all phases undone, last first; undo takes what is half done. The guest then goes on
 * here. The hand-over fails only where its command certainly did not reach the destination, so that is undone, too. After it the
 * guest never runs here by itself again: a confirmation that does not come leaves it stopped, in doubt.
 */
#include "migration/source.h"

#include <assert.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"

/* Building the machine on the destination, and its answer to a ping. */
#define HANDSHAKE_TIMEOUT_MS 30000
/* With the guest stopped, for each answer; then the guest goes on here. */
#define SWITCH_TIMEOUT_MS 30000
#define LAST_WORD_TIMEOUT_MS 1000
/* How often to look whether the destination is still there while a user is waited for. */
/* The first ping's answer waits for the machine to be built; the second one's tells how far away the destination is. */
#define PING_HANDSHAKE 1
#define PING_DISTANCE 2
#define DEVICE_SECTION_FIRST 1 /* section ids; 0 is RAM */

/* --- hearing the peer --- */

/* What a REASON, an early SHUT or one NOTICE too many means; anything else is not expected. Always false. */
static bool peer_gave_up(struct message *msg, struct error **errp)
{
	if (msg->type == RETURN_REASON)
		error_set(errp, "the destination: %s", message_text(msg));
	else if (msg->type == RETURN_SHUT)
		error_set(errp, "the destination failed and did not say why");
	else if (msg->type == RETURN_NOTICE)
		error_set(errp, "the destination sent more than %u bytes of notices",
			  MIGRATION_NOTICES_BYTES_MAX);
	else
		error_set(errp, "the destination sent message 0x%x, which was not expected",
			  msg->type);
	return false;
}

/* Is it a notice? It is kept for whoever asks. A peer that does not stop is not believed. */
static bool take_notice(struct source *src, struct message *msg)
{
	return msg->type == RETURN_NOTICE &&
	       migration_add_notice(src->m, message_text(msg), MESSAGE_HEAD_BYTES + msg->len);
}

/* Wait for one message of that type. */
static bool expect_message(struct source *src, uint16_t type, uint16_t len, uint64_t timeout_ms,
			   struct message *msg, struct error **errp)
{
	channel_set_read_timeout(src->ch, timeout_ms);
	do {
		message_get(src->in, msg);
		if (!stream_in_take_error(src->in, errp)) {
			error_prefix(errp, "the destination's answer: ");
			return false;
		}
	} while (take_notice(src, msg));
	if (msg->type != type)
		return peer_gave_up(msg, errp);
	if (msg->len != len) {
		error_set(errp, "the destination's message 0x%x has %u bytes, expected %u", type,
			  msg->len, len);
		return false;
	}
	return true;
}

bool source_check(struct source *src, struct error **errp)
{
	struct message msg;

	if (migration_cancelled(src->m)) {
		error_set(errp, "cancelled");
		return false;
	}
	do {
		if (!src->in || !stream_in_ready(src->in))
			return true;
		channel_set_read_timeout(src->ch, LAST_WORD_TIMEOUT_MS);
		message_get(src->in, &msg);
	} while (stream_in_ok(src->in) && take_notice(src, &msg));
	/* Nothing else is due from the destination now: it has given up, or its connection is gone. */
	if (stream_in_take_error(src->in, errp))
		return peer_gave_up(&msg, errp);
	error_prefix(errp, "the destination hung up: ");
	return false;
}

bool source_stream_ok(struct source *src, struct error **errp)
{
	struct message msg;

	if (stream_out_ok(src->out))
		return true;
	/* Why it hung up may lie in the socket, unread. */
	if (src->in && !migration_cancelled(src->m)) {
		channel_set_read_timeout(src->ch, LAST_WORD_TIMEOUT_MS);
		do
			message_get(src->in, &msg);
		while (stream_in_ok(src->in) && take_notice(src, &msg));
		if (stream_in_ok(src->in) && msg.type == RETURN_REASON)
			return peer_gave_up(&msg, errp);
	}
	stream_out_take_error(src->out, errp);
	return false;
}

/* --- phases --- */

static bool connect_run(struct source *src, struct error **errp)
{
	src->ch = channel_connect(src->m->address, src->m->cancel_fd, errp);
	if (!src->ch)
		return false;
	pthread_mutex_lock(&src->m->lock);
	src->m->channel = src->ch;
	if (src->m->cancel) /* came before there was a channel to cancel */
		channel_cancel(src->ch);
	pthread_mutex_unlock(&src->m->lock);
	src->out = stream_out_new(src->ch);
	if (src->caps.return_path && channel_is_duplex(src->ch))
		src->in = stream_in_new(src->ch);
	return true;
}

static void disconnect(struct source *src)
{
	pthread_mutex_lock(&src->m->lock);
	src->m->channel = NULL;
	pthread_mutex_unlock(&src->m->lock);
	stream_out_free(src->out);
	stream_in_free(src->in);
	channel_free(src->ch);
	src->out = NULL;
	src->in = NULL;
	src->ch = NULL;
}

/* The destination must not be left wondering, above all not one that waits for the hand-over. Where the stream is not at the end
 * of a record any more, the end of the connection has to tell it. */
static void hang_up(struct source *src)
{
	if (src->handshaken && stream_out_ok(src->out)) {
		command_put(src->out, COMMAND_ABORT, src->why,
			    (uint16_t)MIN_OF(strlen(src->why), COMMAND_DATA_MAX));
		stream_flush(src->out);
		channel_finish(src->ch, NULL);
	}
	disconnect(src);
}

static void put_ping(struct source *src, uint32_t value)
{
	uint8_t data[4];

	put_be32(data, value);
	command_put(src->out, COMMAND_PING, data, sizeof(data));
}

static bool expect_pong(struct source *src, uint32_t value, struct error **errp)
{
	struct message msg;

	if (!expect_message(src, RETURN_PONG, 4, HANDSHAKE_TIMEOUT_MS, &msg, errp))
		return false;
	if (get_be32(msg.data) == value)
		return true;
	error_set(errp, "the destination answered ping %u, expected %u", get_be32(msg.data), value);
	return false;
}

static bool measure_distance(struct source *src, struct error **errp)
{
	uint64_t start = clock_now_ns();

	put_ping(src, PING_DISTANCE);
	stream_flush(src->out);
	if (!source_stream_ok(src, errp) || !expect_pong(src, PING_DISTANCE, errp))
		return false;
	src->rtt_ns = clock_now_ns() - start;
	return true;
}

static bool handshake_answers(struct source *src, struct error **errp)
{
	struct message msg;
	uint64_t offers;

	if (!expect_message(src, RETURN_OFFERS, 8, HANDSHAKE_TIMEOUT_MS, &msg, errp))
		return false;
	offers = get_be64(msg.data);
	if (!(offers & OFFER_HAND_OVER)) {
		error_set(errp,
			  "the destination does not offer the hand-over (offers 0x%llx), "
			  "without which two guests could run",
			  (unsigned long long)offers);
		return false;
	}
	if (!expect_pong(src, PING_HANDSHAKE, errp))
		return false;
	src->handshaken = true;
	return measure_distance(src, errp);
}

static bool handshake_run(struct source *src, struct error **errp)
{
	struct migration_machine *machine = &src->m->machine;

	if (!configuration_gather(&src->cfg, src->vm, machine->name, machine->fdt,
				  machine->fdt_bytes, errp))
		return false;
	src->cfg.offers = src->in ? OFFERS_KNOWN : 0;
	put_u32(src->out, STREAM_MAGIC);
	put_u32(src->out, STREAM_VERSION);
	if (!configuration_save(&src->cfg, src->out, NULL, errp))
		return false;
	if (src->in) {
		command_put(src->out, COMMAND_OPEN_RETURN_PATH, NULL, 0);
		put_ping(src, PING_HANDSHAKE);
	}
	stream_flush(src->out);
	if (!source_stream_ok(src, errp) || (src->in && !handshake_answers(src, errp)))
		return false;
	pthread_mutex_lock(&src->m->lock);
	src->m->stats.setup_ns = clock_now_ns() - src->m->stats.start_ns;
	src->m->stats.ram_total_bytes = 0;
	for (unsigned int i = 0; i < src->vm->memory.nblocks; i++)
		src->m->stats.ram_total_bytes += src->vm->memory.blocks[i].size_bytes;
	pthread_mutex_unlock(&src->m->lock);
	return true;
}

static void handshake_undo(struct source *src)
{
	configuration_release(&src->cfg);
}

static bool memory_run(struct source *src, struct error **errp)
{
	if (!source_start_ram(src, errp))
		return false;
	migration_set_status(src->m, MIGRATION_ACTIVE);
	return true;
}

/* The guest has asked for a reset or for its end just when it was stopped: that comes first. */
static bool let_request_pass(struct source *src, struct error **errp)
{
	vm_set_state(src->vm, src->old_state);
	vm_renotify_request(src->vm);
	vm_wait_request_done(src->vm);
	if (vm_state(src->vm) == RUNSTATE_RUNNING)
		vm_unpark(src->vm);
	return source_check(src, errp);
}

static bool stop_run(struct source *src, struct error **errp)
{
	const unsigned int from =
		1u << RUNSTATE_RUNNING | 1u << RUNSTATE_PAUSED | 1u << RUNSTATE_PRELAUNCH;

	for (;;) {
		src->stop_ns = clock_now_ns();
		if (!vm_change_state(src->vm, from, RUNSTATE_FINISH_MIGRATE, &src->old_state, errp))
			return false;
		vm_park(src->vm);
		if (!vm_request_pending(src->vm))
			break;
		if (!let_request_pass(src, errp))
			return false;
	}
	src->stopped = true;
	src->vm->run_after_migration = src->old_state == RUNSTATE_RUNNING;
	devices_pause(src->vm);
	src->stopped_ns = clock_now_ns();
	return true;
}

static void stop_undo(struct source *src)
{
	if (!src->stopped)
		return;
	src->stopped = false;
	devices_resume(src->vm);
	vm_set_state(src->vm, src->old_state);
	if (src->old_state == RUNSTATE_RUNNING)
		vm_unpark(src->vm);
	vm_renotify_request(src->vm); /* one that a user made meanwhile */
}

/* Until the user says so, as long as the destination is there. */
static bool wait_for_user(struct source *src, struct error **errp)
{
	struct migration *m = src->m;
	bool proceed = false;

	migration_set_status(m, MIGRATION_PRE_SWITCHOVER);
	while (!proceed && source_check(src, errp)) {
		struct timespec until = clock_timespec(clock_now_ns() + PEER_CHECK_NS);

		pthread_mutex_lock(&m->lock);
		if (!m->proceed && !m->cancel)
			pthread_cond_timedwait(&m->cond, &m->lock, &until);
		proceed = m->proceed;
		pthread_mutex_unlock(&m->lock);
	}
	return proceed;
}

static bool wait_run(struct source *src, struct error **errp)
{
	struct migration *m = src->m;

	if (src->caps.pause_before_switchover && !wait_for_user(src, errp))
		return false;
	if (!source_check(src, errp))
		return false;
	migration_set_status(m, MIGRATION_DEVICE);
	src->ready_ns = clock_now_ns();
	return true;
}

/* All device sections into memory: what saving them writes to guest memory is still sent with the last pages. */
static bool gather_devices(struct source *src, struct error **errp)
{
	struct section_table *sections = src->m->machine.sections;
	struct stream_out *out;
	bool ok = true;

	src->device_state = channel_memory();
	out = stream_out_new(src->device_state);
	for (unsigned int i = 0; ok && i < sections->n; i++)
		ok = section_save(out, &sections->items[i], DEVICE_SECTION_FIRST + i, NULL, errp);
	stream_flush(out);
	stream_out_free(out);
	return ok;
}

static bool save_run(struct source *src, struct error **errp)
{
	const uint8_t *data;
	size_t len;

	if (!gather_devices(src, errp))
		return false;
	src->gathered_ns = clock_now_ns();
	if (!source_last_pages(src, errp) || !source_last_bitmaps(src, errp))
		return false;
	src->paged_ns = clock_now_ns();
	data = channel_memory_data(src->device_state, &len);
	put_bytes(src->out, data, len);
	put_u8(src->out, SECTION_EOF);
	stream_flush(src->out);
	src->written_ns = clock_now_ns();
	return source_stream_ok(src, errp);
}

static void save_undo(struct source *src)
{
	channel_free(src->device_state);
	src->device_state = NULL;
}

static bool loaded_run(struct source *src, struct error **errp)
{
	struct message msg;

	src->loaded_ns = src->written_ns;
	if (!src->in)
		return true;
	if (!expect_message(src, RETURN_SHUT, 4, SWITCH_TIMEOUT_MS, &msg, errp))
		return false;
	if (get_be32(msg.data) != 0)
		return peer_gave_up(&msg, errp);
	src->loaded_ns = clock_now_ns();
	return true;
}

/* The description that lets a stranger's tool read the stream. Saving a second time, into nothing, measures the sizes. */
static void put_vmdescription(struct source *src)
{
	struct section_table *sections = src->m->machine.sections;
	json_t *root = json_object(), *cfg = json_object(), *devices = json_array();
	struct stream_out *nowhere = stream_out_new(NULL);
	scoped_free char *text = NULL;
	uint8_t head[4];
	size_t len;

	configuration_save(&src->cfg, nowhere, cfg, NULL);
	for (unsigned int i = 0; i < sections->n; i++)
		section_save(nowhere, &sections->items[i], DEVICE_SECTION_FIRST + i, devices, NULL);
	stream_out_free(nowhere);
	json_object_set_new(root, "page_size", json_integer(RAM_PAGE_SIZE));
	json_object_set_new(root, "configuration", cfg);
	json_object_set_new(root, "devices", devices);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (!text)
		return;
	/* Readers look for the first '{' from the end of the file: the length must not look like one. */
	len = strlen(text);
	put_u8(src->out, SECTION_VMDESCRIPTION);
	for (uint32_t padded = (uint32_t)len;; padded++) {
		put_be32(head, padded);
		if (memchr(head, '{', sizeof(head)))
			continue;
		put_u32(src->out, padded);
		put_bytes(src->out, text, len);
		for (; padded > len; padded--)
			put_u8(src->out, ' ');
		break;
	}
	stream_flush(src->out);
}

static bool hand_over_run(struct source *src, struct error **errp)
{
	struct migration *m = src->m;
	bool cancelled;

	if (!src->in) {
		/* Nobody answers: the stream is complete, in its place, and that is the hand-over. */
		put_vmdescription(src);
		if (!source_stream_ok(src, errp))
			return false;
	}
	pthread_mutex_lock(&m->lock);
	cancelled = m->cancel;
	m->handed_over = !cancelled;
	pthread_mutex_unlock(&m->lock);
	if (cancelled) {
		error_set(errp, "cancelled");
		return false;
	}
	if (!src->in)
		return channel_finish(src->ch, errp);
	channel_set_write_timeout(src->ch, SWITCH_TIMEOUT_MS);
	command_put(src->out, COMMAND_HAND_OVER, NULL, 0);
	stream_flush(src->out);
	return stream_out_take_error(src->out, errp);
}

static void hand_over_undo(struct source *src)
{
	pthread_mutex_lock(&src->m->lock);
	src->m->handed_over = false;
	pthread_mutex_unlock(&src->m->lock);
}

static bool confirm_run(struct source *src, struct error **errp)
{
	struct message msg;

	return !src->in || expect_message(src, RETURN_TOOK_OVER, 0, SWITCH_TIMEOUT_MS, &msg, errp);
}

static const struct phase {
	const char *name;
	bool (*run)(struct source *src, struct error **errp);
	void (*undo)(struct source *src); /* also of a phase that has failed half way */
	bool no_return;			  /* once it has run, nothing is undone */
} phases[] = {
	{ "connect", connect_run, hang_up, false },
	{ "handshake", handshake_run, handshake_undo, false },
	{ "memory", memory_run, source_stop_ram, false },
	{ "bitmaps", source_start_bitmaps, source_stop_bitmaps, false },
	{ "precopy", source_precopy, NULL, false },
	{ "stop", stop_run, stop_undo, false },
	{ "wait", wait_run, NULL, false },
	{ "save", save_run, save_undo, false },
	{ "loaded", loaded_run, NULL, false },
	{ "hand-over", hand_over_run, hand_over_undo, true },
	{ "confirm", confirm_run, NULL, false },
};

static void undo_from(struct source *src, size_t phase)
{
	for (size_t i = phase + 1; i-- > 0;)
		if (phases[i].undo)
			phases[i].undo(src);
}

static void keep_error(struct source *src, struct error *err)
{
	pthread_mutex_lock(&src->m->lock);
	src->m->error = err;
	pthread_mutex_unlock(&src->m->lock);
}

/* The guest is the destination's, or may be. What is left to do takes no blackout. */
static void end_behind_the_switch(struct source *src, struct error *err)
{
	struct migration_stats *st = &src->m->stats;
	uint64_t now = clock_now_ns();

	source_publish_stats(src);
	pthread_mutex_lock(&src->m->lock);
	st->downtime_ns = now - src->stop_ns;
	st->blackout = (struct blackout_times){
		.stop = src->stopped_ns - src->stop_ns,
		.wait = src->ready_ns - src->stopped_ns,
		.last_pages = src->paged_ns - src->gathered_ns,
		.devices = src->gathered_ns - src->ready_ns + src->written_ns - src->paged_ns,
		.load = src->loaded_ns - src->written_ns,
		.take_over = now - src->loaded_ns,
	};
	pthread_mutex_unlock(&src->m->lock);
	if (src->in && !err) {
		put_vmdescription(src);
		channel_finish(src->ch, NULL);
	}
	keep_error(src, err);
	vm_set_state(src->vm, err ? RUNSTATE_IN_DOUBT : RUNSTATE_POSTMIGRATE);
	migration_set_status(src->m, err ? MIGRATION_IN_DOUBT : MIGRATION_COMPLETED);
	save_undo(src);
	source_stop_bitmaps(src);
	source_stop_ram(src);
	handshake_undo(src);
	disconnect(src);
}

static void end_undone(struct source *src, size_t phase, struct error *err)
{
	bool cancelled = migration_cancelled(src->m);

	src->why = cancelled ? "the migration was cancelled" : error_msg(err);
	if (src->ch) { /* for a last word */
		channel_rearm(src->ch);
		channel_set_write_timeout(src->ch, LAST_WORD_TIMEOUT_MS);
	}
	undo_from(src, phase);
	if (cancelled) {
		error_free(err);
	} else {
		error_prefix(&err, "%s: ", phases[phase].name);
		keep_error(src, err);
	}
	migration_set_status(src->m, cancelled ? MIGRATION_CANCELLED : MIGRATION_FAILED);
}

void *migration_source_main(void *opaque)
{
	struct migration *m = opaque;
	struct source src = { .m = m, .vm = m->machine.vm };
	struct error *err = NULL;
	bool no_return = false;

	migration_get_settings(m, &src.params, &src.caps);
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		log_debug("migration: %s", phases[i].name);
		if (!phases[i].run(&src, &err)) {
			if (no_return)
				break;
			end_undone(&src, i, err);
			return NULL;
		}
		no_return |= phases[i].no_return;
	}
	end_behind_the_switch(&src, err);
	return NULL;
}
