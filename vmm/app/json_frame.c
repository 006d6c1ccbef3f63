/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/json_frame.h"

/* In a string a quote ends it, but for one behind a backslash. */
static void scan_string(struct json_frame *f, char byte)
{
	if (f->escape)
		f->escape = false;
	else if (byte == '\\')
		f->escape = true;
	else if (byte == '"')
		f->string = false;
}

enum json_frame_state json_frame_scan(struct json_frame *f, const char *data, size_t len)
{
	while (f->seen < len) {
		char byte = data[f->seen++];

		if (f->seen == 1 && byte != '{' && byte != '[')
			f->line = true;
		if (byte == '\n' && f->line)
			return JSON_FRAME_WHOLE;
		if (byte == '\n' && f->string)
			return JSON_FRAME_BROKEN;
		if (f->line)
			continue;
		if (f->string)
			scan_string(f, byte);
		else if (byte == '"')
			f->string = true;
		else if (byte == '{' || byte == '[')
			f->open++;
		else if ((byte == '}' || byte == ']') && --f->open == 0)
			return JSON_FRAME_WHOLE;
	}
	return JSON_FRAME_PARTIAL;
}
