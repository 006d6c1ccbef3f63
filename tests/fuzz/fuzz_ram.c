/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data of START, PART and END of "ram", one after the other, into blocks between pages that may not be touched. A page that
 * never came is still zero, the number of records is not more than the input can hold, and what came can be saved and loaded
 * into a second memory that is then the same.
 */
#include "migration/ram/load.h"
#include "migration/ram/save.h"
#include "migration/stream/protocol.h"
#include "tests/fuzz/fuzz.h"

#define PAGE GUEST_PAGE_SIZE

static const struct block_spec specs[] = { { "ram", 0, 6 * PAGE, true },
					   { "boot", 0, 2 * PAGE, false } };

static bool is_zero(const uint8_t *page)
{
	for (size_t i = 0; i < PAGE; i++)
		if (page[i])
			return false;
	return true;
}

static void expect_untouched(const struct ram_load *load)
{
	for (unsigned int i = 0; i < load->mem->nblocks; i++)
		for (uint64_t page = 0; page < ram_block_pages(&load->mem->blocks[i]); page++)
			MUST(bitmap_test(&load->received[i], page) ||
			     is_zero(load->mem->blocks[i].host + page * PAGE));
}

static void load_parts(struct memory *mem, const uint8_t *data, size_t size, bool must_succeed)
{
	struct error *err = NULL;
	struct ram_load load;
	struct reader r;
	bool ok;

	memory_clear(mem);
	MUST(ram_load_init(&load, mem, NULL));
	reader_open(&r, data, size);
	while (!stream_in_at_end(r.in))
		ram_load_section(&load, r.in);
	ok = stream_in_take_error(r.in, &err);
	MUST(ok || !must_succeed);
	MUST(load.pages <= size / 9); /* be64 and one byte at the least */
	expect_outcome(ok, err);
	expect_untouched(&load);
	reader_close(&r);
	ram_load_release(&load);
}

static void carry_over(struct memory *from, struct memory *to)
{
	struct ram_dirty_block dirty[2] = { { .block = &from->blocks[0] },
					    { .block = &from->blocks[1], .first_page = 6 } };
	struct ram_save save = { .pass = 1 };
	struct writer w;
	const uint8_t *bytes;
	size_t len;

	writer_open(&w);
	save.out = w.out;
	ram_save_setup(&save, from);
	for (unsigned int i = 0; i < 2; i++)
		for (uint64_t page = 0; page < ram_block_pages(dirty[i].block); page++)
			ram_save_page(&save, &dirty[i], page);
	ram_save_eos(&save);
	bytes = writer_bytes(&w, &len);
	load_parts(to, bytes, len, true);
	writer_close(&w);
	for (unsigned int i = 0; i < 2; i++)
		MUST(!memcmp(from->blocks[i].host, to->blocks[i].host, specs[i].bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct memory mem, other;

	if (!mem.nblocks) {
		memory_make(&mem, specs, 2);
		memory_make(&other, specs, 2);
	}
	load_parts(&mem, data, size, false);
	if (size % 4 == 0)
		carry_over(&mem, &other);
	return 0;
}
