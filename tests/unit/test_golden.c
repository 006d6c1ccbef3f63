/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a change of the stream's format is noticed. Every byte below was written by hand from
 * stream-format.md, not taken from what ferry wrote.
 *
 * How: a whole small stream (header, CONFIGURATION, commands, "ram" in three parts with each kind
 * of record, a device with a linked list, EOF) is saved and compared chunk by chunk, then the same
 * bytes are loaded. The records of "ram" that need a special past follow one by one. A page is
 * written "(xx)": 4096 bytes xx; or "(xx yy)": a first byte xx, the rest yy.
 */
#include "migration/configuration.h"
#include "migration/ram/load.h"
#include "migration/ram/save.h"
#include "migration/return_path.h"
#include "migration/stream/protocol.h"
#include "migration/stream/section.h"
#include "tests/unit/support.h"
#include "vmm/base/queue.h"

#define PAGE UINT64_C(4096)

struct chunk {
	const char *what, *hex;
};

/* --- the machine --- */

static uint8_t fdt[5] = { 0xd0, 0x0d, 0xfe, 0xed, 0x00 };
static struct configuration_cpuid leaves[2] = {
	{ 0x0, 0, 0, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69 },
	{ 0x4, 2, 1, 0x11223344, 0x55667788, 0x99aabbcc, 0xddeeff00 },
};
static uint32_t msrs[3] = { 0x10, 0x174, 0xc0000080 };

static const struct configuration configuration = {
	.name_bytes = 7,
	.name = (uint8_t *)"ferry-1",
	.offers = OFFER_HAND_OVER | OFFER_REASON,
	.fdt_bytes = sizeof(fdt),
	.fdt = fdt,
	.ncpuid = 2,
	.cpuid = leaves,
	.nmsrs = 3,
	.msrs = msrs,
	.tsc_khz = 2400000,
};

/* A device whose state is two numbers and a queue. */
struct packet {
	uint16_t number;
	uint32_t len;
	uint8_t data[4];
	TAILQ_ENTRY(packet) entry;
};
struct nic {
	uint8_t mode;
	bool on;
	TAILQ_HEAD(, packet) queue;
};

static const struct vmstate_field packet_fields[] = {
	VMSTATE_ONE(UINT16, number, struct packet),
	VMSTATE_ONE(UINT32, len, struct packet),
	VMSTATE_VBUFFER(data, struct packet, len),
	VMSTATE_END,
};
static const struct vmstate_desc packet_desc = { .name = "packet", .fields = packet_fields };
static const struct vmstate_list queue_list =
	VMSTATE_TAILQ_OF(struct packet, entry, packet_desc, 8);
static const struct vmstate_field nic_fields[] = {
	VMSTATE_ONE(UINT8, mode, struct nic),
	VMSTATE_ONE(BOOL, on, struct nic),
	VMSTATE_QTAILQ(queue, struct nic, queue_list, struct packet),
	VMSTATE_END,
};
static const struct vmstate_desc nic_desc = { .name = "nic",
					      .version_id = 3,
					      .minimum_version_id = 3,
					      .fields = nic_fields };

static void add_packet(struct nic *nic, uint16_t number, uint32_t len)
{
	struct packet *packet = calloc(1, sizeof(*packet));

	packet->number = number;
	packet->len = len;
	memset(packet->data, 0xe0 + (int)len, len);
	TAILQ_INSERT_TAIL(&nic->queue, packet, entry);
}

static void nic_end(struct nic *nic)
{
	struct packet *packet;

	while ((packet = TAILQ_FIRST(&nic->queue))) {
		TAILQ_REMOVE(&nic->queue, packet, entry);
		free(packet);
	}
}

/* Hidden blocks: no KVM is needed. */
static void memory_build(struct memory *mem, uint64_t ram_pages, uint64_t boot_pages)
{
	struct error *err = NULL;

	memory_init(mem, NULL);
	expect_ok(memory_add_hidden(mem, "ram", ram_pages * PAGE, &err), err);
	expect_ok(memory_add_hidden(mem, "boot", boot_pages * PAGE, &err), err);
}

/* --- the stream --- */

static const struct chunk whole_stream[] = {
	{ "file header: \"QEVM\", version 3", "51 45 56 4d 00 00 00 03" },
	{ "CONFIGURATION: 7 bytes, \"ferry-1\"", "07 00 00 00 07 66 65 72 72 79 2d 31" },
	{ "subsection \"configuration/offers\", version 1: be64 3",
	  "05 14 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 6f 66 66 65 72 73 00 00 00 01 "
	  "00 00 00 00 00 00 00 03" },
	{ "subsection \"configuration/devicetree\", version 1: 5 bytes",
	  "05 18 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 64 65 76 69 63 65 74 72 65 65 "
	  "00 00 00 01 00 00 00 05 d0 0d fe ed 00" },
	{ "subsection \"configuration/cpu\", version 1: 2 leaves",
	  "05 11 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 63 70 75 00 00 00 01 00 00 00 02" },
	{ "leaf 0", "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 0d 75 6e 65 47 6c 65 74 6e "
		    "49 65 6e 69" },
	{ "leaf 4.2", "00 00 00 04 00 00 00 02 00 00 00 01 11 22 33 44 55 66 77 88 99 aa bb cc "
		      "dd ee ff 00" },
	{ "3 MSRs, the TSC's frequency",
	  "00 00 00 03 00 00 00 10 00 00 01 74 c0 00 00 80 00 24 9f 00" },
	{ "COMMAND OPEN_RETURN_PATH", "08 00 01 00 00" },
	{ "COMMAND PING(1)", "08 00 02 00 04 00 00 00 01" },
	{ "START 0, \"ram\", instance 0, version 4",
	  "01 00 00 00 00 03 72 61 6d 00 00 00 00 00 00 00 04" },
	{ "list: 24 KiB, \"ram\" 16 KiB, \"boot\" 8 KiB, EOS",
	  "00 00 00 00 00 00 60 04 03 72 61 6d 00 00 00 00 00 00 40 00 "
	  "04 62 6f 6f 74 00 00 00 00 00 00 20 00 00 00 00 00 00 00 00 10" },
	{ "footer", "7e 00 00 00 00" },
	{ "PART 0", "02 00 00 00 00" },
	{ "PAGE ram 0x0", "00 00 00 00 00 00 00 08 03 72 61 6d (a1)" },
	{ "ZERO | CONTINUE 0x1000", "00 00 00 00 00 00 10 22 00" },
	{ "PAGE | CONTINUE 0x3000", "00 00 00 00 00 00 30 28 (a3)" },
	{ "ZERO boot 0x0", "00 00 00 00 00 00 00 02 04 62 6f 6f 74 00" },
	{ "PAGE | CONTINUE 0x1000", "00 00 00 00 00 00 10 28 (b1)" },
	{ "EOS, footer", "00 00 00 00 00 00 00 10 7e 00 00 00 00" },
	{ "END 0", "03 00 00 00 00" },
	{ "XBZRLE ram 0x0: 0 equal, 1 new, 4094 equal, 1 new",
	  "00 00 00 00 00 00 00 40 03 72 61 6d 01 00 07 00 01 11 fe 1f 01 22" },
	{ "XBZRLE | CONTINUE 0x3000: 300 equal, 2 new",
	  "00 00 00 00 00 00 30 60 01 00 05 ac 02 02 33 44" },
	{ "EOS, footer", "00 00 00 00 00 00 00 10 7e 00 00 00 00" },
	{ "FULL 5, \"nic\", instance 2, version 3",
	  "04 00 00 00 05 03 6e 69 63 00 00 00 02 00 00 00 03" },
	{ "mode, on", "42 01" },
	{ "a packet of 2 bytes", "01 00 07 00 00 00 02 e2 e2" },
	{ "an empty packet", "01 ff ff 00 00 00 00" },
	{ "a packet of 4 bytes, the last", "01 00 09 00 00 00 04 e4 e4 e4 e4 00" },
	{ "footer, EOF", "7e 00 00 00 05 00" },
};

#define CHUNKS (sizeof(whole_stream) / sizeof(whole_stream[0]))

/* The bytes of a chunk, with its page. */
static size_t chunk_bytes(const char *hex, uint8_t *dst, size_t room)
{
	size_t n = bytes_of(hex, dst, room);
	const char *page = strchr(hex, '(');
	unsigned int first, rest;

	if (!page)
		return n;
	cr_assert_leq(n + PAGE, room);
	if (sscanf(page, "(%2x %2x)", &first, &rest) < 2)
		rest = first;
	memset(dst + n, (int)rest, PAGE);
	dst[n] = (uint8_t)first;
	return n + PAGE;
}

static void save_ram(struct stream_out *out, struct memory *mem)
{
	struct error *err = NULL;
	struct ram_save save = { .out = out, .pass = 1, .fill_cache = true };
	struct ram_dirty_block ram = { .block = &mem->blocks[0] };
	struct ram_dirty_block boot = { .block = &mem->blocks[1], .first_page = 4 };

	save.cache = page_cache_new(8 * PAGE, &err);
	expect_ok(save.cache, err);
	section_put_header(out, SECTION_START, 0, "ram", 0, RAM_SECTION_VERSION);
	ram_save_setup(&save, mem);
	section_put_footer(out, 0);
	memset(ram.block->host, 0xa1, PAGE);
	memset(ram.block->host + 3 * PAGE, 0xa3, PAGE);
	memset(boot.block->host + PAGE, 0xb1, PAGE);
	put_u8(out, SECTION_PART);
	put_u32(out, 0);
	ram_save_page(&save, &ram, 0);
	ram_save_page(&save, &ram, 1);
	ram_save_page(&save, &ram, 3);
	ram_save_page(&save, &boot, 0);
	ram_save_page(&save, &boot, 1);
	ram_save_eos(&save);
	section_put_footer(out, 0);
	save.pass = 2;
	save.use_xbzrle = true;
	ram.block->host[0] = 0x11;
	ram.block->host[4095] = 0x22;
	ram.block->host[3 * PAGE + 300] = 0x33;
	ram.block->host[3 * PAGE + 301] = 0x44;
	put_u8(out, SECTION_END);
	put_u32(out, 0);
	ram_save_page(&save, &ram, 0);
	ram_save_page(&save, &boot, 1); /* unchanged */
	ram_save_page(&save, &ram, 3);
	ram_save_eos(&save);
	section_put_footer(out, 0);
	cr_assert(stream_flush(out)); /* what was referred to goes away */
	page_cache_free(save.cache);
}

static void save_whole_stream(struct stream_out *out)
{
	static const uint8_t one[4] = { 0, 0, 0, 1 };
	struct configuration cfg = configuration;
	struct nic nic = { .mode = 0x42, .on = true };
	struct section section = { "nic", 2, &nic_desc, &nic };
	struct error *err = NULL;
	struct memory mem;

	memory_build(&mem, 4, 2);
	TAILQ_INIT(&nic.queue);
	add_packet(&nic, 7, 2);
	add_packet(&nic, 0xffff, 0);
	add_packet(&nic, 9, 4);
	put_u32(out, STREAM_MAGIC);
	put_u32(out, STREAM_VERSION);
	expect_ok(configuration_save(&cfg, out, NULL, &err), err);
	command_put(out, COMMAND_OPEN_RETURN_PATH, NULL, 0);
	command_put(out, COMMAND_PING, one, sizeof(one));
	save_ram(out, &mem);
	expect_ok(section_save(out, &section, 5, NULL, &err), err);
	put_u8(out, SECTION_EOF);
	expect_ok(stream_flush(out), err);
	nic_end(&nic);
	memory_release(&mem);
}

Test(golden, a_whole_stream_is_written)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	uint8_t want[2 * PAGE];
	const uint8_t *have;
	size_t len, at = 0;

	save_whole_stream(out);
	have = channel_memory_data(ch, &len);
	for (size_t i = 0; i < CHUNKS; i++) {
		size_t n = chunk_bytes(whole_stream[i].hex, want, sizeof(want));

		cr_assert_leq(at + n, len, "%s: the stream has ended", whole_stream[i].what);
		for (size_t k = 0; k < n; k++)
			cr_assert_eq(have[at + k], want[k],
				     "%s, byte %zu of it, %zu of all: 0x%02x, expected 0x%02x",
				     whole_stream[i].what, k, at + k, have[at + k], want[k]);
		at += n;
	}
	cr_assert_eq(at, len, "%zu bytes more than expected", len - at);
	stream_out_free(out);
	channel_free(ch);
}

/* --- and read --- */

static void load_ram(struct stream_in *in, struct memory *mem)
{
	struct error *err = NULL;
	struct ram_load load;

	expect_ok(ram_load_init(&load, mem, &err), err);
	skip_bytes(in, 17); /* the header, which is the engine's business */
	ram_load_section(&load, in);
	section_get_footer(in, 0);
	for (uint8_t type = SECTION_PART; type <= SECTION_END; type++) {
		cr_assert_eq(get_u8(in), type);
		cr_assert_eq(get_u32(in), 0);
		ram_load_section(&load, in);
		section_get_footer(in, 0);
		expect_ok(stream_in_take_error(in, &err), err);
	}
	cr_assert_eq(load.pages, 7);
	ram_load_release(&load);
}

static void load_nic(struct stream_in *in)
{
	struct nic nic = { 0 };
	struct section section = { "nic", 2, &nic_desc, &nic };
	struct error *err = NULL;
	struct packet *packet;
	unsigned int n = 0;

	TAILQ_INIT(&nic.queue);
	skip_bytes(in, 17);
	expect_ok(section_load(in, &section, 5, 3, &err), err);
	cr_assert(nic.mode == 0x42 && nic.on);
	TAILQ_FOREACH (packet, &nic.queue, entry) {
		cr_assert_eq(packet->number, n == 0 ? 7 : n == 1 ? 0xffff : 9);
		cr_assert_eq(packet->len, n == 0 ? 2 : n == 1 ? 0 : 4);
		cr_assert(!packet->len || packet->data[packet->len - 1] == 0xe0 + packet->len);
		n++;
	}
	cr_assert_eq(n, 3);
	nic_end(&nic);
}

static void expect_configuration(const struct configuration *cfg)
{
	cr_assert_str_eq((const char *)cfg->name, "ferry-1", "with a NUL behind it");
	cr_assert(cfg->name_bytes == 7 && cfg->offers == 3 && cfg->tsc_khz == 2400000);
	cr_assert(cfg->fdt_bytes == sizeof(fdt) && !memcmp(cfg->fdt, fdt, sizeof(fdt)));
	cr_assert(cfg->ncpuid == 2 && !memcmp(cfg->cpuid, leaves, sizeof(leaves)));
	cr_assert(cfg->nmsrs == 3 && !memcmp(cfg->msrs, msrs, sizeof(msrs)));
	cr_assert(cfg->has_devicetree && cfg->has_cpu);
}

Test(golden, a_whole_stream_is_read)
{
	struct channel *ch = channel_memory();
	struct stream_in *in = stream_in_new(ch);
	struct error *err = NULL;
	struct configuration cfg;
	uint8_t bytes[2 * PAGE];
	struct message msg;
	struct memory mem;

	memory_build(&mem, 4, 2);
	for (size_t i = 0; i < CHUNKS; i++) {
		struct iovec iov = { bytes,
				     chunk_bytes(whole_stream[i].hex, bytes, sizeof(bytes)) };

		cr_assert(channel_writev(ch, &iov, 1, NULL));
	}
	cr_assert(get_u32(in) == 0x5145564d && get_u32(in) == 3);
	cr_assert_eq(get_u8(in), SECTION_CONFIGURATION);
	expect_ok(configuration_load(&cfg, in, &err), err);
	expect_configuration(&cfg);
	configuration_release(&cfg);
	for (uint16_t type = COMMAND_OPEN_RETURN_PATH; type <= COMMAND_PING; type++) {
		cr_assert_eq(get_u8(in), SECTION_COMMAND);
		message_get(in, &msg);
		cr_assert(msg.type == type && msg.len == (type == COMMAND_PING ? 4 : 0));
	}
	load_ram(in, &mem);
	cr_assert(mem.blocks[0].host[0] == 0x11 && mem.blocks[0].host[1] == 0xa1 &&
		  mem.blocks[0].host[4095] == 0x22 && mem.blocks[0].host[4096] == 0);
	cr_assert(mem.blocks[0].host[3 * PAGE + 299] == 0xa3 &&
		  mem.blocks[0].host[3 * PAGE + 300] == 0x33 &&
		  mem.blocks[0].host[3 * PAGE + 302] == 0xa3);
	cr_assert(mem.blocks[1].host[0] == 0 && mem.blocks[1].host[2 * PAGE - 1] == 0xb1);
	load_nic(in);
	cr_assert_eq(get_u8(in), SECTION_EOF);
	cr_assert(stream_in_ok(in) && stream_in_at_end(in));
	stream_in_free(in);
	channel_free(ch);
	memory_release(&mem);
}

/* --- records of "ram" that need a past --- */

struct saver {
	struct memory mem;
	struct ram_dirty_block ram, boot;
	struct channel *ch;
	struct ram_save save;
};

static void saver_build(struct saver *s, uint64_t ram_pages)
{
	memory_build(&s->mem, ram_pages, 2);
	s->ram = (struct ram_dirty_block){ .block = &s->mem.blocks[0] };
	s->boot = (struct ram_dirty_block){ .block = &s->mem.blocks[1], .first_page = ram_pages };
	s->ch = channel_memory();
	s->save = (struct ram_save){ .pass = 2, .use_xbzrle = true };
	s->save.out = stream_out_new(s->ch);
	s->save.cache = page_cache_new(8 * PAGE, NULL);
}

static void saver_end(struct saver *s)
{
	stream_out_free(s->save.out);
	page_cache_free(s->save.cache);
	channel_free(s->ch);
	memory_release(&s->mem);
}

/* What was put since the last time is this. */
static void expect_put(struct saver *s, const char *hex)
{
	uint8_t want[2 * PAGE], have[2 * PAGE];
	size_t n = chunk_bytes(hex, want, sizeof(want)), len;

	cr_assert(stream_flush(s->save.out));
	channel_memory_data(s->ch, &len);
	cr_assert_eq(len, n, "'%s': %zu bytes, expected %zu", hex, len, n);
	for (size_t at = 0; at < len;)
		at += (size_t)channel_read(s->ch, have + at, len - at, NULL);
	for (size_t k = 0; k < n; k++)
		cr_assert_eq(have[k], want[k], "'%s': byte %zu is 0x%02x, expected 0x%02x", hex, k,
			     have[k], want[k]);
}

Test(golden, a_page_and_its_later_selves)
{
	struct saver s;
	uint8_t *page;

	saver_build(&s, 4);
	page = s.ram.block->host + PAGE;
	memset(page, 0x11, PAGE);
	ram_save_page(&s.save, &s.ram, 1);
	expect_put(&s, "00 00 00 00 00 00 10 08 03 72 61 6d (11)");
	page[5] = 0xaa;
	ram_save_page(&s.save, &s.ram, 1);
	expect_put(&s, "00 00 00 00 00 00 10 60 01 00 03 05 01 aa");
	ram_save_page(&s.save, &s.ram, 1); /* unchanged: nothing at all */
	expect_put(&s, "");
	memset(page, 0, PAGE);
	ram_save_page(&s.save, &s.ram, 1);
	expect_put(&s, "00 00 00 00 00 00 10 22 00");
	page[7] = 0xdd; /* against the zeroes that were sent */
	ram_save_page(&s.save, &s.ram, 1);
	expect_put(&s, "00 00 00 00 00 00 10 60 01 00 03 07 01 dd");
	memset(page, 0x99, PAGE); /* no delta can be smaller */
	ram_save_page(&s.save, &s.ram, 1);
	expect_put(&s, "00 00 00 00 00 00 10 28 (99)");
	cr_assert(s.save.counters.xbzrle_pages == 2 && s.save.counters.xbzrle_bytes == 3 + 3);
	cr_assert(s.save.counters.xbzrle_unchanged == 1 && s.save.counters.xbzrle_misses == 1);
	cr_assert_eq(s.save.counters.xbzrle_overflows, 1);
	cr_assert(s.save.counters.normal_pages == 2 && s.save.counters.zero_pages == 1);
	cr_assert_eq(s.save.counters.page_bytes, 12 + PAGE + 14 + 9 + 14 + 8 + PAGE);
	saver_end(&s);
}

/* A page that sends nothing is not "the last block on the channel"; a new part has none. */
Test(golden, which_block_is_continued)
{
	struct saver s;

	saver_build(&s, 2);
	s.boot.block->host[0] = 1;
	ram_save_page(&s.save, &s.boot, 0);
	expect_put(&s, "00 00 00 00 00 00 00 08 04 62 6f 6f 74 (01 00)");
	ram_save_page(&s.save, &s.ram, 0);
	expect_put(&s, "00 00 00 00 00 00 00 02 03 72 61 6d 00");
	ram_save_page(&s.save, &s.boot, 0);
	expect_put(&s, "");
	ram_save_page(&s.save, &s.ram, 1);
	expect_put(&s, "00 00 00 00 00 00 10 22 00");
	ram_save_eos(&s.save);
	expect_put(&s, "00 00 00 00 00 00 00 10");
	ram_save_page(&s.save, &s.ram, 1);
	expect_put(&s, "00 00 00 00 00 00 10 02 03 72 61 6d 00");
	saver_end(&s);
}

/* "Or the whole page where the delta is no smaller": 3 equal bytes and 4093 new ones make 4096. */
Test(golden, a_delta_of_a_pages_size_is_not_sent)
{
	struct saver s;

	saver_build(&s, 1);
	s.ram.block->host[0] = 1;
	ram_save_page(&s.save, &s.ram, 0);
	expect_put(&s, "00 00 00 00 00 00 00 08 03 72 61 6d (01 00)");
	memset(s.ram.block->host + 3, 2, PAGE - 3);
	ram_save_page(&s.save, &s.ram, 0);
	stream_flush(s.save.out);
	cr_assert(s.save.counters.xbzrle_overflows == 1 && s.save.counters.normal_pages == 2);
	saver_end(&s);
}

/* Offsets and lengths need more than 32 bits. */
Test(golden, beyond_4_gib)
{
	struct saver s;

	saver_build(&s, UINT64_C(0x140001));
	ram_save_setup(&s.save, &s.mem);
	expect_put(&s, "00 00 00 01 40 00 30 04 03 72 61 6d 00 00 00 01 40 00 10 00 "
		       "04 62 6f 6f 74 00 00 00 00 00 00 20 00 00 00 00 00 00 00 00 10");
	ram_save_page(&s.save, &s.ram, UINT64_C(0x140000));
	expect_put(&s, "00 00 00 01 40 00 00 02 03 72 61 6d 00");
	saver_end(&s);
}
