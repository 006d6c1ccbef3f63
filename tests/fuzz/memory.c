/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/mman.h>

#include "tests/fuzz/fuzz.h"

void reader_open(struct reader *r, const void *data, size_t size)
{
	struct iovec iov = { (void *)data, size };

	r->ch = channel_memory();
	MUST(channel_writev(r->ch, &iov, 1, NULL));
	r->in = stream_in_new(r->ch);
}

void reader_close(struct reader *r)
{
	stream_in_free(r->in);
	channel_free(r->ch);
}

void writer_open(struct writer *w)
{
	w->ch = channel_memory();
	w->out = stream_out_new(w->ch);
}

const uint8_t *writer_bytes(struct writer *w, size_t *len)
{
	MUST(stream_flush(w->out));
	return channel_memory_data(w->ch, len);
}

void writer_close(struct writer *w)
{
	stream_out_free(w->out);
	channel_free(w->ch);
}

void memory_make(struct memory *mem, const struct block_spec *specs, unsigned int n)
{
	memory_init(mem, NULL);
	for (unsigned int i = 0; i < n; i++) {
		struct ram_block *block = &mem->blocks[mem->nblocks++];
		uint8_t *area = mmap(NULL, specs[i].bytes + 2 * GUEST_PAGE_SIZE, PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		MUST(area != MAP_FAILED);
		strcpy(block->name, specs[i].name);
		block->host = area + GUEST_PAGE_SIZE;
		block->size_bytes = block->used_bytes = specs[i].bytes;
		block->gpa = specs[i].gpa;
		block->slot = specs[i].visible ? i : RAM_BLOCK_NO_SLOT;
		MUST(mprotect(block->host, block->size_bytes, PROT_READ | PROT_WRITE) == 0);
	}
}

void memory_clear(struct memory *mem)
{
	for (unsigned int i = 0; i < mem->nblocks; i++)
		memset(mem->blocks[i].host, 0, mem->blocks[i].size_bytes);
}
