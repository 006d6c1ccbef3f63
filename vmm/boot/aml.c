/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/boot/aml.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/bytes.h"

#define OP_ZERO 0x00
#define OP_ONE 0x01
#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_EXTENDED 0x5b
#define OP_EXTENDED_DEVICE 0x82

#define TAG_IO 0x47
#define TAG_MEMORY32_FIXED 0x86
#define TAG_INTERRUPT 0x89
#define TAG_END 0x79

static void put(struct aml *aml, const void *data, size_t len)
{
	assert(range_within(aml->len, len, aml->room));
	memcpy(aml->data + aml->len, data, len);
	aml->len += len;
}

static void put_byte(struct aml *aml, uint8_t byte)
{
	put(aml, &byte, 1);
}

/* A length counts itself. Up to 63 it is one byte; else the first has the low four bits and how many bytes follow. */
static size_t encode_length(uint8_t to[static 4], size_t content)
{
	size_t bytes = content + 1 < 64 ? 1 : content + 2 < 1 << 12 ? 2 : 3;
	size_t value = content + bytes;

	assert(value < 1 << 20);
	if (bytes == 1) {
		to[0] = (uint8_t)value;
		return 1;
	}
	to[0] = (uint8_t)((bytes - 1) << 6 | (value & 0xf));
	for (size_t i = 1; i < bytes; i++)
		to[i] = (uint8_t)(value >> (4 + 8 * (i - 1)));
	return bytes;
}

void aml_end(struct aml *aml, size_t begin)
{
	uint8_t length[4];
	size_t content = aml->len - begin, n = encode_length(length, content);

	assert(range_within(aml->len, n, aml->room));
	memmove(aml->data + begin + n, aml->data + begin, content);
	memcpy(aml->data + begin, length, n);
	aml->len += n;
}

size_t aml_begin_scope(struct aml *aml, const char *path)
{
	size_t begin;

	put_byte(aml, OP_SCOPE);
	begin = aml->len;
	put(aml, path, strlen(path));
	return begin;
}

size_t aml_begin_device(struct aml *aml, const char *name)
{
	size_t begin;

	put_byte(aml, OP_EXTENDED);
	put_byte(aml, OP_EXTENDED_DEVICE);
	begin = aml->len;
	put(aml, name, 4);
	return begin;
}

size_t aml_begin_package(struct aml *aml, uint8_t elements)
{
	size_t begin;

	put_byte(aml, OP_PACKAGE);
	begin = aml->len;
	put_byte(aml, elements);
	return begin;
}

void aml_name(struct aml *aml, const char *name)
{
	put_byte(aml, OP_NAME);
	put(aml, name, 4);
}

void aml_integer(struct aml *aml, uint32_t value)
{
	uint8_t bytes[4];
	size_t n = value <= UINT8_MAX ? 1 : value <= UINT16_MAX ? 2 : 4;

	if (value <= 1) {
		put_byte(aml, value ? OP_ONE : OP_ZERO);
		return;
	}
	put_byte(aml, n == 1 ? OP_BYTE : n == 2 ? OP_WORD : OP_DWORD);
	put_le32(bytes, value);
	put(aml, bytes, n);
}

void aml_string(struct aml *aml, const char *text)
{
	put_byte(aml, OP_STRING);
	put(aml, text, strlen(text) + 1);
}

void aml_eisa_id(struct aml *aml, const char *id)
{
	uint32_t product = 0, value;

	assert(strlen(id) == 7);
	for (const char *digit = id + 3; *digit; digit++)
		product =
			product << 4 | (uint32_t)(*digit <= '9' ? *digit - '0' : *digit - 'A' + 10);
	/* Three letters of five bits and four digits, the highest first. */
	value = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
		(uint32_t)(id[2] - '@') << 16 | product;
	aml_integer(aml, __builtin_bswap32(value));
}

void aml_resources(struct aml *aml, const uint8_t *descriptors, size_t len)
{
	static const uint8_t end_tag[] = { TAG_END, 0 }; /* 0: no checksum */
	size_t begin;

	put_byte(aml, OP_BUFFER);
	begin = aml->len;
	aml_integer(aml, (uint32_t)(len + sizeof(end_tag)));
	put(aml, descriptors, len);
	put(aml, end_tag, sizeof(end_tag));
	aml_end(aml, begin);
}

size_t aml_io_ports(uint8_t *to, uint16_t base, uint8_t length)
{
	to[0] = TAG_IO;
	to[1] = 1; /* all 16 address lines are decoded */
	put_le16(to + 2, base);
	put_le16(to + 4, base);
	to[6] = 1;
	to[7] = length;
	return 8;
}

size_t aml_memory(uint8_t *to, uint32_t base, uint32_t length)
{
	to[0] = TAG_MEMORY32_FIXED;
	put_le16(to + 1, 9);
	to[3] = 1; /* writable */
	put_le32(to + 4, base);
	put_le32(to + 8, length);
	return 12;
}

size_t aml_interrupt(uint8_t *to, uint32_t gsi, bool level)
{
	to[0] = TAG_INTERRUPT;
	put_le16(to + 1, 6);
	to[3] = level ? 0x1 : 0x3; /* consumer; bit 1 edge; active high, exclusive */
	to[4] = 1;
	put_le32(to + 5, gsi);
	return 9;
}
