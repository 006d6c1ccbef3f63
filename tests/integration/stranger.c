/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/integration/stranger.h"

#include "tests/integration/qmp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TAIL (10 << 20)

struct file {
	const char *path;
	unsigned char *data;
	size_t len, at;
	char name[128];
	struct stranger *s;
};

static const unsigned char *take(struct file *f, size_t n)
{
	check(n <= f->len - f->at, "%s: %zu bytes at 0x%zx, the file has %zu", f->path, n, f->at,
	      f->len);
	f->at += n;
	return f->data + f->at - n;
}

static uint64_t number(struct file *f, unsigned int bytes)
{
	const unsigned char *p = take(f, bytes);
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | *p++;
	return value;
}

/* Valid until the next one. */
static const char *name(struct file *f)
{
	size_t len = number(f, 1);

	/* The length is read as a signed byte. */
	check(len < sizeof(f->name), "%s: a name of %zu bytes before 0x%zx", f->path, len, f->at);
	memcpy(f->name, take(f, len), len);
	f->name[len] = '\0';
	return f->name;
}

static void find_description(struct file *f)
{
	size_t base = f->len > TAIL ? f->len - TAIL : 0, nul = f->len, brace;
	json_error_t error;

	while (nul > base && f->data[nul - 1])
		nul--;
	for (brace = nul; brace < f->len && f->data[brace] != '{'; brace++)
		;
	check(brace < f->len && brace >= 5 && f->data[brace - 5] == 0x06,
	      "%s: no description is found from the end", f->path);
	f->at = brace - 4;
	f->s->description =
		keep_json(json_loadb((const char *)f->data + brace, number(f, 4), 0, &error));
	check(f->s->description, "%s: description: %s", f->path, error.text);
}

static void put_value(struct file *f, const char *path, size_t size)
{
	const unsigned char *p = take(f, size);
	char *hex = malloc(2 * size + 1);

	hex[0] = '\0';
	for (size_t i = 0; i < size; i++)
		snprintf(hex + 2 * i, 3, "%02x", p[i]);
	json_object_set_new(f->s->values, path, json_string(hex));
	free(hex);
}

#define PATH 512
/* path: where the values belong; what follows is added to it, and taken away again. */
static void read_fields(struct file *f, json_t *desc, char path[PATH]);

__attribute__((format(printf, 2, 3))) static void add(char path[PATH], const char *format, ...)
{
	size_t len = strlen(path);
	va_list ap;

	va_start(ap, format);
	check(vsnprintf(path + len, PATH - len, format, ap) < (int)(PATH - len), "%s: long", path);
	va_end(ap);
}

static void read_field(struct file *f, json_t *field, char path[PATH])
{
	const char *type = json_text(field, "type");

	if (strcmp(type, "struct") == 0) {
		json_t *nested = json_object_get(field, "struct");

		check(json_object_get(nested, "fields"), "%s: a struct without fields", path);
		add(path, ".");
		read_fields(f, nested, path);
		return;
	}
	check(json_is_integer(json_object_get(field, "size")), "%s: no size", path);
	if (strcmp(type, "nullptr") == 0)
		check(f->data[f->at] == '0', "%s: no NULL at 0x%zx", path, f->at);
	put_value(f, path, (size_t)json_number(field, NULL, "size"));
}

static void read_subsections(struct file *f, json_t *desc, char path[PATH])
{
	size_t i, whole = strlen(path);
	json_t *sub;

	json_array_foreach(json_object_get(desc, "subsections"), i, sub)
	{
		check(number(f, 1) == 0x05, "%s: no subsection before 0x%zx", path, f->at);
		check(strcmp(name(f), json_text(sub, "vmsd_name")) == 0, "%s: subsection %s", path,
		      f->name);
		number(f, 4);
		add(path, "(%s)", f->name);
		read_fields(f, sub, path);
		path[whole] = '\0';
	}
}

static void read_fields(struct file *f, json_t *desc, char path[PATH])
{
	size_t i, whole = strlen(path);
	json_t *field;

	json_array_foreach(json_object_get(desc, "fields"), i, field)
	{
		json_t *len = json_object_get(field, "array_len");
		json_t *index = json_object_get(field, "index");
		json_int_t first = json_integer_value(index);

		for (json_int_t k = 0; k < (len ? json_integer_value(len) : 1); k++) {
			add(path, "%s", json_text(field, "name"));
			if (len || index)
				add(path, "[%d]", (int)(first + k));
			read_field(f, field, path);
			path[whole] = '\0';
		}
	}
	read_subsections(f, desc, path);
}

static void read_block_list(struct file *f, uint64_t total)
{
	while (total) {
		const char *block = name(f);
		uint64_t length = number(f, 8);

		check(length && length <= total, "block %s of %llu bytes", block,
		      (unsigned long long)length);
		total -= length;
		json_object_set_new(f->s->blocks, block, json_integer((json_int_t)length));
	}
}

static void read_ram(struct file *f, uint64_t page_size)
{
	for (;;) {
		uint64_t head = number(f, 8), flags = head & (page_size - 1);
		uint64_t kind = flags & ~(uint64_t)0x20;

		if ((kind == 0x02 || kind == 0x08) && !(flags & 0x20))
			name(f);
		switch (kind) {
		case 0x04:
			read_block_list(f, head & ~(page_size - 1));
			break;
		case 0x02:
			check(number(f, 1) == 0, "a zero page is filled");
			f->s->zero++;
			break;
		case 0x08:
			take(f, page_size);
			f->s->normal++;
			break;
		case 0x10:
			return;
		default:
			check(false, "0x%zx: a RAM record with flags 0x%llx", f->at - 8,
			      (unsigned long long)flags);
		}
	}
}

static json_t *find_device(struct file *f, const char *idstr, uint64_t instance)
{
	json_t *device;
	size_t i;

	json_array_foreach(json_object_get(f->s->description, "devices"), i, device)
	{
		check(json_object_get(device, "fields"), "a device without fields");
		if (strcmp(json_text(device, "name"), idstr) == 0 &&
		    (uint64_t)json_number(device, NULL, "instance_id") == instance)
			return device;
	}
	check(false, "section %s[%llu] is not described", idstr, (unsigned long long)instance);
	return NULL;
}

/* START and FULL. The id of "ram" is kept. */
static uint64_t read_section(struct file *f, uint64_t page_size)
{
	uint64_t id = number(f, 4);
	char path[PATH] = "";
	uint64_t instance;

	add(path, "%s", name(f));
	instance = number(f, 4);
	number(f, 4);
	if (strcmp(path, "ram") == 0) {
		read_ram(f, page_size);
	} else {
		json_t *device = find_device(f, path, instance);

		add(path, "[%d].", (int)instance);
		read_fields(f, device, path);
	}
	f->s->sections++;
	return id;
}

/* Older writers do not describe it. */
static void read_configuration(struct file *f)
{
	json_t *desc = json_object_get(f->s->description, "configuration");
	char path[PATH] = "configuration.";

	if (desc)
		read_fields(f, desc, path);
	else
		put_value(f, "configuration.name", number(f, 4));
}

static void read_frame(struct file *f)
{
	uint64_t page_size = (uint64_t)json_number(f->s->description, NULL, "page_size");
	uint64_t id = 0, type;

	f->at = 0;
	check(number(f, 4) == 0x5145564d && number(f, 4) == 3, "%s: no such stream", f->path);
	while ((type = number(f, 1)) != 0x00) {
		switch (type) {
		case 0x07:
			read_configuration(f);
			break;
		case 0x01:
		case 0x04:
			id = read_section(f, page_size);
			break;
		case 0x02:
		case 0x03:
			id = number(f, 4);
			read_ram(f, page_size);
			break;
		case 0x7e:
			check(number(f, 4) == id, "the footer before 0x%zx", f->at);
			break;
		default:
			check(false, "0x%zx: section type 0x%llx", f->at - 1,
			      (unsigned long long)type);
		}
	}
}

static void free_data(void *opaque)
{
	free(opaque);
}

struct stranger stranger_read(const char *path)
{
	struct stranger s = { .values = keep_json(json_object()),
			      .blocks = keep_json(json_object()) };
	struct file f = { .path = path, .s = &s };
	FILE *file = fopen(path, "r");
	struct stat st;

	check(file && fstat(fileno(file), &st) == 0, "%s cannot be read", path);
	f.len = (size_t)st.st_size;
	f.data = malloc(f.len + 1);
	world_add(&(struct world_item){ .end = free_data, .opaque = f.data });
	check(fread(f.data, 1, f.len, file) == f.len, "%s: read", path);
	fclose(file);
	find_description(&f);
	read_frame(&f);
	return s;
}
