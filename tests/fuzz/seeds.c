/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes the seed corpora, from ferry's own writers where there is one: seeds DIR. `make seeds` runs it; what it writes is kept. */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <libfdt.h>
#include <linux/virtio_mmio.h>
#include <sys/stat.h>

#include "migration/bitmaps/format.h"
#include "migration/bitmaps/save.h"
#include "migration/configuration.h"
#include "migration/ram/save.h"
#include "migration/ram/xbzrle.h"
#include "migration/return_path.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/gadget.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/devicetree.h"

static const char *root;

static void seed(const char *target, const char *name, const void *data, size_t size)
{
	scoped_free char *dir = xasprintf("%s/%s", root, target);
	scoped_free char *path = xasprintf("%s/%s", dir, name);
	FILE *f;

	MUST(mkdir(root, 0777) == 0 || errno == EEXIST);
	MUST(mkdir(dir, 0777) == 0 || errno == EEXIST);
	f = fopen(path, "w");
	MUST(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

static void seed_writer(const char *target, const char *name, struct writer *w)
{
	size_t len;
	const uint8_t *bytes = writer_bytes(w, &len);

	seed(target, name, bytes, len);
	writer_close(w);
}

/* --- configuration, devicetree --- */

static struct configuration make_configuration(uint64_t memory_bytes, unsigned int ncpus)
{
	struct machine_options options = { .memory_bytes = memory_bytes,
					   .ncpus = ncpus,
					   .cmdline = "rate=8",
					   .kernel_bytes = 8192 };
	struct configuration cfg = { .offers = OFFERS_KNOWN, .ncpuid = 2, .nmsrs = 2 };
	size_t size;

	cfg.name = (uint8_t *)xstrdup(MACHINE_NAME);
	cfg.name_bytes = sizeof(MACHINE_NAME) - 1;
	cfg.fdt = devicetree_build(&options, &size, NULL);
	MUST(cfg.fdt);
	cfg.fdt_bytes = (uint32_t)size;
	cfg.cpuid = xcalloc(2, sizeof(*cfg.cpuid));
	cfg.cpuid[0] = (struct configuration_cpuid){ .ebx = FUZZ_VENDOR,
						     .ecx = FUZZ_VENDOR,
						     .edx = FUZZ_VENDOR };
	cfg.cpuid[1] = (struct configuration_cpuid){ .function = 1, .edx = 0x178bfbff };
	cfg.msrs = xcalloc(2, sizeof(*cfg.msrs));
	cfg.msrs[0] = 0x10;
	cfg.msrs[1] = 0x174;
	return cfg;
}

/* With devices, as this build describes their interrupts and as older ones did. */
static void virtio_trees(void)
{
	const struct machine_options options = {
		.memory_bytes = 2 << 20,
		.ncpus = 1,
		.cmdline = "",
		.kernel_bytes = 8192,
		.virtio = { { .kind = "block", .id = "disk0", .path = "/i", .read_only = true },
			    { .kind = "net", .id = "n", .has_mac = true, .mac = { 2 } } },
		.nvirtio = 2,
	};
	size_t size;
	uint8_t *fdt = devicetree_build(&options, &size, NULL);

	MUST(fdt);
	seed("devicetree", "virtio", fdt, size);
	for (unsigned int i = 0; i < options.nvirtio; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/virtio_mmio@%x", 0xd0000000 + i * 0x1000);
		MUST(fdt_setprop_u32(fdt, fdt_path_offset(fdt, path), "interrupts", 5 + i) == 0);
	}
	seed("devicetree", "old-interrupts", fdt, fdt_totalsize(fdt));
	free(fdt);
}

static void configurations(void)
{
	struct configuration small = make_configuration(2 << 20, 1);
	struct configuration large = make_configuration(UINT64_C(6) << 30, 3);
	struct writer w;

	seed("devicetree", "small", small.fdt, small.fdt_bytes);
	seed("devicetree", "large", large.fdt, large.fdt_bytes);
	virtio_trees();
	writer_open(&w);
	MUST(vmstate_save(w.out, &configuration_vmstate, &small, NULL, NULL));
	seed_writer("configuration", "small", &w);
	writer_open(&w);
	put_u32(w.out, 4); /* a machine of other people's, without subsections */
	put_bytes(w.out, "q35x", 4);
	seed_writer("configuration", "foreign", &w);
	configuration_release(&small);
	configuration_release(&large);
}

/* --- ram, stream --- */

/* A page, zeroes, a delta; all pages of both blocks in the first part. */
static void put_ram(struct stream_out *out, struct memory *mem, bool with_sections)
{
	struct ram_save save = { .out = out, .pass = 1, .fill_cache = true };
	struct ram_dirty_block blocks[2] = { { .block = &mem->blocks[0] },
					     { .block = &mem->blocks[1] } };

	blocks[1].first_page = ram_block_pages(blocks[0].block);
	save.cache = page_cache_new(16 * GUEST_PAGE_SIZE, NULL);
	MUST(save.cache);
	memory_clear(mem);
	blocks[0].block->host[5] = 1;
	if (with_sections)
		section_put_header(out, SECTION_START, 0, "ram", 0, RAM_SECTION_VERSION);
	ram_save_setup(&save, mem);
	if (with_sections) {
		section_put_footer(out, 0);
		put_u8(out, SECTION_PART);
		put_u32(out, 0);
	}
	for (unsigned int i = 0; i < 2; i++)
		for (uint64_t page = 0; page < ram_block_pages(blocks[i].block); page++)
			ram_save_page(&save, &blocks[i], page);
	ram_save_eos(&save);
	if (with_sections) {
		section_put_footer(out, 0);
		put_u8(out, SECTION_END);
		put_u32(out, 0);
	}
	save.pass = 2;
	save.use_xbzrle = true;
	blocks[0].block->host[9] = 2;
	ram_save_page(&save, &blocks[0], 0);
	ram_save_eos(&save);
	if (with_sections)
		section_put_footer(out, 0);
	MUST(stream_flush(out));
	page_cache_free(save.cache);
}

static void rams(void)
{
	static const struct block_spec specs[] = { { "ram", 0, 6 * GUEST_PAGE_SIZE, true },
						   { "boot", 0, 2 * GUEST_PAGE_SIZE, false } };
	static struct memory mem;
	struct ram_save save = { 0 };
	struct writer w;

	memory_make(&mem, specs, 2);
	writer_open(&w);
	put_ram(w.out, &mem, false);
	seed_writer("ram", "two-parts", &w);

	/* Small, so that it is changed where it matters: the list, a page of zeroes, a delta to it. */
	writer_open(&w);
	save.out = w.out;
	ram_save_setup(&save, &mem);
	put_u64(w.out, RAM_FLAG_ZERO);
	put_name(w.out, "ram");
	put_u8(w.out, 0);
	put_u64(w.out, RAM_FLAG_XBZRLE | RAM_FLAG_CONTINUE);
	put_u8(w.out, RAM_XBZRLE_ENCODING);
	put_u16(w.out, 3);
	put_bytes(w.out, "\5\1\252", 3);
	put_u64(w.out, RAM_FLAG_EOS);
	seed_writer("ram", "small", &w);
}

static void put_part(struct stream_out *out, uint8_t type)
{
	put_u8(out, type);
	put_u32(out, 1);
}

/* Two disks, three bitmaps, a chunk that changes after it was sent. As sections, or their data alone. */
static void put_bitmaps(struct stream_out *out, bool sections)
{
	struct disk_bitmaps_list list = TAILQ_HEAD_INITIALIZER(list);
	struct disk_bitmaps d[2];
	struct bitmap_save save;

	disk_bitmaps_init(&d[0], "d0", 1 << 20);
	disk_bitmaps_init(&d[1], "d1", (100 << 20) + 512);
	TAILQ_INSERT_TAIL(&list, &d[0], entry);
	TAILQ_INSERT_TAIL(&list, &d[1], entry);
	MUST(disk_bitmap_add(&d[0], "a", 65536, true, NULL));
	MUST(disk_bitmap_add(&d[0], "b", 512, false, NULL));
	MUST(disk_bitmap_add(&d[1], "b", 4096, true, NULL));
	disk_bitmaps_mark(&d[0], 4 << 16, 512);
	if (sections)
		section_put_header(out, SECTION_START, 1, BITMAP_SECTION_NAME, 0,
				   BITMAP_SECTION_VERSION);
	MUST(bitmap_save_begin(&save, out, &list, NULL));
	bitmap_save_setup(&save);
	if (sections) {
		section_put_footer(out, 1);
		put_part(out, SECTION_PART);
	}
	while (bitmap_save_some(&save))
		;
	bitmap_save_eos(&save);
	if (sections) {
		section_put_footer(out, 1);
		put_part(out, SECTION_END);
	}
	disk_bitmaps_mark(&d[1], 90 << 20, 512);
	bitmap_save_rest(&save);
	bitmap_save_end(&save);
	if (sections)
		section_put_footer(out, 1);
	disk_bitmaps_release(&d[0]);
	disk_bitmaps_release(&d[1]);
}

enum last_word { HAND_OVER, ABORT, SILENCE };

/* with_bitmaps: of disks that the destination does not have, of which it tells. */
static void stream(const char *name, bool duplex, bool with_bitmaps, enum last_word last)
{
	static const uint8_t one[4] = { 0, 0, 0, 1 };
	static struct fuzz_machine m;
	struct configuration cfg = make_configuration(2 << 20, 1);
	struct writer w;

	machine_make(&m);
	writer_open(&w);
	put_u8(w.out, duplex);
	put_u32(w.out, STREAM_MAGIC);
	put_u32(w.out, STREAM_VERSION);
	MUST(configuration_save(&cfg, w.out, NULL, NULL));
	if (duplex) {
		command_put(w.out, COMMAND_OPEN_RETURN_PATH, NULL, 0);
		command_put(w.out, COMMAND_PING, one, sizeof(one));
	}
	put_ram(w.out, &m.vm.memory, true);
	if (with_bitmaps)
		put_bitmaps(w.out, true);
	for (unsigned int i = 0; i < m.sections.n; i++)
		MUST(section_save(w.out, &m.sections.items[i], i + 1, NULL, NULL));
	put_u8(w.out, SECTION_EOF);
	if (last != SILENCE)
		command_put(w.out, last == ABORT ? COMMAND_ABORT : COMMAND_HAND_OVER, "why",
			    last == ABORT ? 3 : 0);
	seed_writer("stream", name, &w);
	machine_end(&m);
	configuration_release(&cfg);
}

/* --- sections --- */

static void sections(void)
{
	static const uint8_t use[] = { 0xc0, 'x',  'y',	 0x03, 0x83, 0x01, 0x0f, 0x00, 0x41, 0x80,
				       0x04, 0x40, 0x42, 0x45, 0xc1, 0x08, 0x06, 0x14, 0xfe };
	static struct fuzz_machine m;

	machine_make(&m);
	m.line.room = 0; /* so that output waits in the port */
	for (unsigned int i = 0; i < 300; i++)
		bus_write(&m.vm.pio, 0x3f8, i & 0xff, 1);
	bus_write(&m.vm.pio, 0x3fa, 1, 1); /* FIFOs, and by loopback some input in them */
	bus_write(&m.vm.pio, 0x3fc, 0x10, 1);
	for (unsigned int i = 0; i < 5; i++)
		bus_write(&m.vm.pio, 0x3f8, 'a' + i, 1);
	bus_write(&m.vm.pio, 0x3fc, 0, 1);
	for (unsigned int i = 0; i < m.sections.n; i++) {
		const struct section *s = &m.sections.items[i];
		scoped_free char *name = xasprintf("%s-%u", s->idstr, s->instance_id);
		struct writer all, w;
		const uint8_t *bytes;
		size_t len, header = 1 + 4 + 1 + strlen(s->idstr) + 4 + 4;

		writer_open(&all);
		MUST(section_save(all.out, s, 7, NULL, NULL));
		bytes = writer_bytes(&all, &len);
		writer_open(&w);
		put_u8(w.out, (uint8_t)i);
		put_bytes(w.out, bytes + header, len - header);
		put_bytes(w.out, use, sizeof(use));
		seed_writer("sections", name, &w);
		writer_close(&all);
	}
	machine_end(&m);
}

/* --- virtio --- */

static void put_register(struct stream_out *out, uint32_t reg, uint16_t value)
{
	put_u8(out, 0);
	put_u8(out, (uint8_t)(reg / 4));
	put_u16(out, value);
}

/* 16 bytes of guest memory: little-endian, as a descriptor is. */
static void put_poke(struct stream_out *out, uint16_t at, uint64_t low, uint64_t high)
{
	uint8_t bytes[16];

	put_le64(bytes, low);
	put_le64(bytes + 8, high);
	put_u8(out, 4);
	put_u16(out, at);
	put_bytes(out, bytes, sizeof(bytes));
}

/* A driver that brings the device up and has it serve one chain of three descriptors. */
static void put_driver(struct stream_out *out)
{
	static const uint16_t setup[][2] = {
		{ VIRTIO_MMIO_STATUS, 1 },
		{ VIRTIO_MMIO_STATUS, 3 },
		{ VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1 },
		{ VIRTIO_MMIO_DRIVER_FEATURES, 1 }, /* VIRTIO_F_VERSION_1 */
		{ VIRTIO_MMIO_STATUS, 11 },
		{ VIRTIO_MMIO_QUEUE_SEL, 0 },
		{ VIRTIO_MMIO_QUEUE_NUM, 4 },
		{ VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000 },
		{ VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000 },
		{ VIRTIO_MMIO_QUEUE_USED_LOW, 0x3000 },
		{ VIRTIO_MMIO_QUEUE_READY, 1 },
		{ VIRTIO_MMIO_STATUS, 15 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(setup); i++)
		put_register(out, setup[i][0], setup[i][1]);
	/* A read of sector 2: header, data, status. Of the randomness device all that is written to is one buffer. */
	put_poke(out, 0x1000, 0x4000, 16 | UINT64_C(1) << 32 | UINT64_C(1) << 48);
	put_poke(out, 0x1010, 0x5000, 512 | UINT64_C(3) << 32 | UINT64_C(2) << 48);
	put_poke(out, 0x1020, 0x6000, 1 | UINT64_C(2) << 32);
	put_poke(out, 0x4000, 0, 2);
	put_poke(out, 0x2000, UINT64_C(1) << 16, 0);
	put_register(out, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

static void virtios(void)
{
	static struct fuzz_machine m;

	for (unsigned int which = 0; which < FUZZ_VIRTIO_DEVICES; which++) {
		static const char *const names[] = { "random", "disk", "console" };
		scoped_free char *with_state = xasprintf("%s-state", names[which]);
		const struct section *section;
		struct writer w;

		writer_open(&w);
		put_u8(w.out, (uint8_t)which);
		put_driver(w.out);
		seed_writer("virtio", names[which], &w);

		machine_make(&m);
		machine_add_virtio(&m);
		section = &m.sections.items[m.sections.n - FUZZ_VIRTIO_DEVICES + which];
		writer_open(&w);
		put_u8(w.out, (uint8_t)(which | 0x80));
		MUST(vmstate_save(w.out, section->desc, section->opaque, NULL, NULL));
		section_put_footer(w.out, 7);
		put_driver(w.out);
		seed_writer("virtio", with_state, &w);
		devices_pause(&m.vm);
		machine_end(&m);
	}
}

/* --- vmstate --- */

static void vmstates(void)
{
	struct gadget g;
	struct writer w;

	for (unsigned int i = 0; i < 2; i++) {
		gadget_make(&g);
		g.mode = (uint8_t)i;
		g.extra *= i;
		writer_open(&w);
		put_u16(w.out, 0x0205); /* version 3 */
		MUST(vmstate_save(w.out, &gadget_vmstate, &g, NULL, NULL));
		seed_writer("vmstate", i ? "all" : "fields", &w);
		gadget_end(&g);
	}
}

/* --- analyze --- */

/* A file with every kind of record and of field. */
static void file_with_description(void)
{
	static const struct block_spec specs[] = { { "ram", 0, 6 * GUEST_PAGE_SIZE, true },
						   { "boot", 0, 2 * GUEST_PAGE_SIZE, false } };
	static struct memory mem;
	json_t *root = json_pack("{s:i,s:{},s:[]}", "page_size", RAM_PAGE_SIZE, "configuration",
				 "devices");
	struct configuration cfg = { .name_bytes = 3, .name = (uint8_t *)"toy", .offers = 3 };
	struct section section = { .idstr = "gadget", .desc = &gadget_vmstate };
	scoped_free char *text = NULL;
	struct gadget g;
	struct writer w;

	gadget_make(&g);
	section.opaque = &g;
	memory_make(&mem, specs, 2);
	writer_open(&w);
	put_u32(w.out, STREAM_MAGIC);
	put_u32(w.out, STREAM_VERSION);
	MUST(configuration_save(&cfg, w.out, json_object_get(root, "configuration"), NULL));
	command_put(w.out, COMMAND_PING, "\0\0\0\1", 4);
	put_ram(w.out, &mem, true);
	MUST(section_save(w.out, &section, 1, json_object_get(root, "devices"), NULL));
	put_u8(w.out, SECTION_EOF);
	text = json_dumps(root, JSON_COMPACT);
	MUST(text);
	put_u8(w.out, SECTION_VMDESCRIPTION);
	put_u32(w.out, (uint32_t)strlen(text));
	put_bytes(w.out, text, strlen(text));
	seed_writer("analyze", "file", &w);
	gadget_end(&g);
	json_decref(root);
}

/* --- images --- */

static void elf_image(const char *name, bool is64, uint8_t head)
{
	static const uint32_t note[] = { 4, 4, 18, 0x006e6558, 0x100000 }; /* "Xen" */
	Elf64_Ehdr h64 = { .e_machine = EM_X86_64,
			   .e_phoff = sizeof(h64),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 2 };
	Elf32_Ehdr h32 = { .e_machine = EM_386,
			   .e_phoff = sizeof(h32),
			   .e_phentsize = sizeof(Elf32_Phdr),
			   .e_phnum = 2 };
	uint32_t at =
		is64 ? sizeof(h64) + 2 * sizeof(Elf64_Phdr) : sizeof(h32) + 2 * sizeof(Elf32_Phdr);
	Elf64_Phdr p64[2] = { { .p_type = PT_NOTE, .p_offset = at, .p_filesz = 20, .p_align = 4 },
			      { .p_type = PT_LOAD,
				.p_offset = at + 20,
				.p_paddr = 0x100000,
				.p_filesz = 16,
				.p_memsz = 64 } };
	Elf32_Phdr p32[2] = { { .p_type = PT_NOTE, .p_offset = at, .p_filesz = 20, .p_align = 4 },
			      { .p_type = PT_LOAD,
				.p_offset = at + 20,
				.p_paddr = 0x100000,
				.p_filesz = 16,
				.p_memsz = 64 } };
	struct writer w;

	memcpy(h64.e_ident, "\177ELF\2\1\1", 7);
	memcpy(h32.e_ident, "\177ELF\1\1\1", 7);
	writer_open(&w);
	put_u8(w.out, head);
	put_u8(w.out, 2);
	put_bytes(w.out, is64 ? (void *)&h64 : (void *)&h32, is64 ? sizeof(h64) : sizeof(h32));
	put_bytes(w.out, is64 ? (void *)p64 : (void *)p32, is64 ? sizeof(p64) : sizeof(p32));
	put_bytes(w.out, note, sizeof(note));
	put_bytes(w.out, "0123456789abcdef", 16);
	seed_writer("images", name, &w);
}

static void other_images(void)
{
	static uint8_t bz[2048];
	static const uint32_t multiboot[] = { 0x1badb002, 0x10003,  -(0x1badb002 + 0x10003),
					      0x100000,	  0x100000, 0x100040,
					      0x100080,	  0x100020 };
	struct setup_header *hdr = (struct setup_header *)(bz + 2 + 0x1f1);
	struct writer w;

	*hdr = (struct setup_header){
		.setup_sects = 1,
		.syssize = 48,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* over the header: its second byte is the header's length */
		.header = 0x53726448,
		.version = 0x20f,
		.xloadflags = XLF_KERNEL_64,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x100000,
		.cmdline_size = 255,
		.pref_address = 0x100000,
		.init_size = 0x4000
	};
	bz[0] = 1;
	bz[1] = 2;
	seed("images", "bzimage", bz, 2 + 1024 + 768);
	writer_open(&w);
	put_u16(w.out, 0x0102);
	put_bytes(w.out, multiboot, sizeof(multiboot));
	put_bytes(w.out, bz, 64);
	seed_writer("images", "multiboot", &w);
}

/* --- texts --- */

static void texts(void)
{
	static const char *const words[] = {
		"unix:/tmp/a.sock", "tcp:[::1]:4444", "tcp:host:1", "fd:3", "file:/a", "256M",
		"1.5GiB",	    "300ms",	      "2s"
	};
	static const char commands[] =
		"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}\n"
		"{\"execute\":\"query-status\",\"id\":1}\r\n{\"execute\":\"query-commands\"}"
		"{\"execute\":\"query-version\"}{\"execute\":\"query-kvm\"}"
		"{\"execute\":\"query-cpus-fast\"}{\"execute\":\"query-migrate\",\"id\":{\"a\":[]}}"
		"{\"execute\":\"stop\"}{\"execute\":\"cont\",\"arguments\":{\"claim-guest\":true}}"
		"{\"execute\":\"system_reset\"}{\"execute\":\"migrate_cancel\"}"
		"{\"execute\":\"migrate-continue\",\"arguments\":{\"state\":\"pre-switchover\"}}"
		"{\"execute\":\"quit\"}\n";
	static const char settings[] =
		"{\"execute\":\"qmp_capabilities\"}"
		"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
		"[{\"capability\":\"xbzrle\",\"state\":true},{\"capability\":\"events\",\"state\":"
		"false}]}}{\"execute\":\"query-migrate-capabilities\"}"
		"{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":1000000,"
		"\"downtime-limit\":300,\"xbzrle-cache-size\":1048576}}"
		"{\"execute\":\"query-migrate-parameters\"}"
		"{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"unix:/b\",\"detach\":true,"
		"\"blk\":false}}{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:3\"}"
		"}";

	seed("qmp", "commands", commands, sizeof(commands) - 1);
	seed("qmp", "settings", settings, sizeof(settings) - 1);
	seed("qmp", "errors",
	     "{\"execute\":7}[1,2]{\"execute\":\"x\"} nonsense\n{\"a\":\"\\ud83d\"}\n", 57);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		scoped_free char *name = xasprintf("text-%zu", i);

		seed("messages", name, words[i], strlen(words[i]));
	}
}

static void messages(void)
{
	struct writer w;

	writer_open(&w);
	message_put_u64(w.out, RETURN_OFFERS, OFFERS_KNOWN);
	message_put_u32(w.out, RETURN_PONG, 1);
	message_put_text(w.out, RETURN_NOTICE, "no such disk");
	message_put_text(w.out, RETURN_REASON, "no such device");
	message_put_u32(w.out, RETURN_SHUT, 1);
	seed_writer("messages", "answers", &w);
}

/* --- xbzrle, hbitmap --- */

static void deltas(void)
{
	uint8_t old[64] = { 0 }, new[64] = { 0 }, delta[64];
	struct writer w;
	int n;

	new[3] = new[4] = 1;
	new[40] = 2;
	n = xbzrle_encode_buffer(old, new, sizeof(old), delta, sizeof(delta));
	seed("xbzrle", "delta", delta, (size_t)n);
	writer_open(&w);
	put_u16(w.out, 64);
	put_bytes(w.out, old, sizeof(old));
	put_bytes(w.out, new, sizeof(new));
	seed_writer("xbzrle", "pages", &w);
	/* load parts, set, reset, truncate, merge, save: granularity 2, 2000 items, a meta bitmap */
	seed("hbitmap", "calls",
	     "\2\7\320\1\0\1\1\252\125\252\125\252\125\252\125\0\3\0\5\0\11\4\0\6\0\1\5\4\0\6\0\7\0"
	     "\3\7\0\7\1\0\1\0\2\1\0\0",
	     45);
}

/* --- bitmaps --- */

static void bitmaps(void)
{
	struct writer w;

	writer_open(&w);
	put_bitmaps(w.out, false);
	seed_writer("bitmaps", "three", &w);
	writer_open(&w);
	put_u32(w.out, STREAM_MAGIC);
	put_u32(w.out, STREAM_VERSION);
	put_bytes(w.out, "\7\0\0\0\1m", 6); /* CONFIGURATION */
	put_bitmaps(w.out, true);
	put_u8(w.out, SECTION_EOF);
	seed_writer("analyze", "bitmaps", &w);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: seeds DIR\n");
		return 2;
	}
	root = argv[1];
	configurations();
	rams();
	bitmaps();
	stream("handed-over", true, false, HAND_OVER);
	stream("notices", true, true, HAND_OVER);
	stream("aborted", true, false, ABORT);
	stream("cut-off", true, false, SILENCE);
	stream("file", false, false, SILENCE);
	sections();
	virtios();
	vmstates();
	file_with_description();
	elf_image("elf64", true, 0);
	elf_image("elf32-initrd", false, 1);
	other_images();
	texts();
	messages();
	deltas();
	return 0;
}
