/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a migration stream without loading it: what is in it, and where.
 *
 * A walk goes through the frame from the first byte to the last and tells a visitor what it finds. It needs no machine: pages are
 * counted and dropped, as are bits of dirty bitmaps, XBZRLE payloads are decoded into a scratch page, and device state is taken apart by the VMDESCRIPTION
 * at the stream's end, which a reader therefore looks for first, from the end of the file (stream format, section 7).
 *
 *	header | CONFIGURATION | [COMMAND]  START ram  PART ram ...  END ram  FULL ... | EOF | [COMMAND] | VMDESCRIPTION
 *	                         begin  block page field ...  end      for each of them
 *
 * Without a description (the file is cut, or never had one) the walk goes as far as the frame tells lengths: CONFIGURATION as
 * ferry writes it, all of "ram" and "dirty-bitmap", commands. It ends at the first section whose length only a description tells.
 *
 * The stream is a stranger's, its JSON included: lengths are checked before they are used, the description's size, depth and
 * number of fields are bounded, nothing is kept but what struct analyze_result holds. Not checked, as that takes a bitmap of
 * memory that the stream sizes: whether a delta's page has come before.
 *
 * An error begins with "offset 0x...: ", where in the stream the damage is. One thread.
 */
#ifndef FERRY_MIGRATION_ANALYZE_H
#define FERRY_MIGRATION_ANALYZE_H

#include <jansson.h>

#include "migration/stream/stream.h"

#define ANALYZE_BLOCKS_MAX 256
#define ANALYZE_BITMAPS_MAX 1024
#define ANALYZE_LONG_NAME_MAX 255
/* Of a field's bytes a visitor is given so many at most. */
#define ANALYZE_DATA_MAX (1u << 20)

/* What a field's bytes mean. BYTES: nothing that the format defines. */
enum analyze_kind {
	ANALYZE_BOOL,
	ANALYZE_UINT,
	ANALYZE_INT,
	ANALYZE_BYTES,
	ANALYZE_NULL,
};

/* One field of a description: a value, or an array of values of one size. */
struct analyze_field {
	const char *path; /* "value", "segs[2].base", "(cpu/tsc_khz).env.tsc_khz" */
	const char *type; /* the description's word for it */
	enum analyze_kind kind;
	bool is_array;
	uint64_t offset;
	uint64_t size;	/* of one element; 1 to 8 for integers */
	uint64_t count; /* of elements */
	const uint8_t *data;
	size_t have; /* bytes in data, whole elements: all of them, or ANALYZE_DATA_MAX at most */
};

/* Element i of a BOOL, UINT or INT field; i elements must be in data. */
uint64_t analyze_uint(const struct analyze_field *field, size_t i);
int64_t analyze_int(const struct analyze_field *field, size_t i);

struct analyze_pages {
	uint64_t normal, zero, xbzrle;
	uint64_t xbzrle_bytes; /* of the encodings */
	uint64_t bytes;	       /* of the records, on the wire */
};

struct analyze_block {
	char name[STREAM_NAME_MAX + 1];
	uint64_t offset; /* of its entry in the block list */
	uint64_t size_bytes;
	uint64_t page_size; /* 0: the target's */
	struct analyze_pages pages;
};

struct analyze_page {
	uint64_t offset;  /* of the record */
	uint64_t bytes;	  /* of the record */
	uint16_t flag;	  /* RAM_FLAG_PAGE, _ZERO or _XBZRLE */
	uint64_t address; /* in the block */
	const struct analyze_block *block;
};

/* A dirty bitmap of a disk, as far as its chunks have been read. */
struct analyze_bitmap {
	char node[ANALYZE_LONG_NAME_MAX + 1], name[ANALYZE_LONG_NAME_MAX + 1];
	uint32_t granularity; /* bytes */
	bool enabled, persistent, complete;
	uint64_t covered; /* bytes of the disk, from its beginning, that chunks have come for */
	uint64_t chunks, zeroes; /* with bits, and of zeroes */
	uint64_t bytes;		 /* of all its chunks, on the wire */
};

enum analyze_chunk_kind {
	ANALYZE_CHUNK_START,
	ANALYZE_CHUNK_BITS,
	ANALYZE_CHUNK_ZEROES,
	ANALYZE_CHUNK_COMPLETE,
};

/* A chunk of "dirty-bitmap". */
struct analyze_chunk {
	uint64_t offset, bytes; /* of the chunk */
	enum analyze_chunk_kind kind;
	const struct analyze_bitmap *bitmap;
	/* BITS, ZEROES */
	uint64_t start, length; /* bytes of the disk */
	uint64_t bits, dirty;	/* how many there are, and are set */
};

/* A piece of the frame; `type` is an enum section_type. */
struct analyze_section {
	uint8_t type;
	uint64_t offset; /* of the type byte */
	uint64_t size;	 /* with the footer; known in end() */
	bool complete;	 /* in end(): false where the stream is damaged inside */
	/* START, PART, END, FULL; a PART has its START's name. CONFIGURATION: the name is "configuration". */
	bool is_named;
	uint32_t section_id, instance_id, version_id;
	char name[STREAM_NAME_MAX + 1];
	/* START, PART and END of "ram", in end() */
	bool is_ram;
	struct analyze_pages pages;
	/* those of "dirty-bitmap", in end(): chunks with bits, and of zeroes */
	bool is_bitmaps;
	uint64_t chunks, zeroes;
	/* COMMAND */
	uint16_t command, data_len;
	const uint8_t *data;
	/* CONFIGURATION, in end() */
	char machine[STREAM_NAME_MAX + 1];
	bool has_offers;
	uint64_t offers;
};

/* Each may be NULL. What they are given is theirs only during the call. */
struct analyze_visitor {
	void *opaque;
	void (*begin)(void *opaque, const struct analyze_section *section);
	void (*block)(void *opaque, const struct analyze_block *block);
	void (*page)(void *opaque, const struct analyze_page *page);
	void (*chunk)(void *opaque, const struct analyze_chunk *chunk);
	void (*field)(void *opaque, const struct analyze_field *field);
	/* For each begin(), also where the stream breaks off inside. */
	void (*end)(void *opaque, const struct analyze_section *section);
};

struct analyze_result {
	uint64_t bytes;	       /* that were read */
	uint64_t error_offset; /* where it failed */
	uint32_t page_size;    /* the target's */
	uint64_t ram_parts;    /* PART sections of "ram" */
	unsigned int nblocks;
	struct analyze_block blocks[ANALYZE_BLOCKS_MAX];
	unsigned int nbitmaps;
	struct analyze_bitmap bitmaps[ANALYZE_BITMAPS_MAX];
};

/* The VMDESCRIPTION, where one was found. */
struct analyze_description {
	bool found;
	uint64_t offset; /* of its type byte */
	json_t *json;	 /* owned; NULL: none, or none that can be used */
	json_t *devices; /* owned; those of json, by "instance name" */
	char *why;	 /* owned; where json is NULL: words that follow "the VMDESCRIPTION " */
};

/* Look for the description in the last `len` bytes of a stream, the first of which is at offset `base`. Whatever they are, *d is
 * to be released. */
void analyze_find_description(const uint8_t *tail, size_t len, uint64_t base,
			      struct analyze_description *d);
void analyze_description_release(struct analyze_description *d);
/* So many bytes at a file's end are enough to look in. */
#define ANALYZE_TAIL_MAX (10u << 20)

/* Walk the stream. False where it is damaged; *result is filled in either way, as far as it was read. */
bool analyze_stream(struct stream_in *in, const struct analyze_description *d,
		    const struct analyze_visitor *visitor, struct analyze_result *result,
		    struct error **errp);
/* Both, of a stream in memory. */
bool analyze_memory(const void *data, size_t len, const struct analyze_visitor *visitor,
		    struct analyze_result *result, struct error **errp);
/* Both, of a file, which is read piece by piece; of a pipe there is no end to look at first. Errors begin with the path. */
bool analyze_file(const char *path, const struct analyze_visitor *visitor,
		  struct analyze_result *result, struct error **errp);

#endif
