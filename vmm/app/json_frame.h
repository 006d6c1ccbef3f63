/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a JSON text ends in a stream of them, found as its bytes come and each byte looked at once.
 *
 * A text that begins with '{' or '[' ends at the bracket that closes it (RFC 8259, section 2); any other ends with its line. It may be
 * cut anywhere, inside a string, an escape or a UTF-8 sequence, too. Whether what stands between is JSON is for a parser to say.
 */
#ifndef FERRY_VMM_APP_JSON_FRAME_H
#define FERRY_VMM_APP_JSON_FRAME_H

#include <stdbool.h>
#include <stddef.h>

/* All zero is the start. */
struct json_frame {
	size_t seen; /* bytes of this text that have been looked at */
	size_t open; /* brackets */
	bool line;   /* neither object nor array */
	bool string;
	bool escape;
};

enum json_frame_state {
	JSON_FRAME_PARTIAL, /* the rest is still to come */
	JSON_FRAME_WHOLE,   /* frame->seen bytes are a text */
	JSON_FRAME_BROKEN, /* a string over the end of its line: no bracket behind it can be trusted; seen bytes are of no use */
};

/*
 * Look on in a buffer that begins where the text does, without space before it; it holds what earlier calls were given, and more. Clear the
 * frame before the next text.
 */
enum json_frame_state json_frame_scan(struct json_frame *frame, const char *data, size_t len);

#endif
