/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static log_sink_fn sink;
static enum log_level sink_level;

void log_set_sink(log_sink_fn new_sink, enum log_level max_level)
{
	sink = new_sink;
	sink_level = max_level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;
	char *line;

	if (!sink || level > sink_level)
		return;
	va_start(ap, fmt);
	if (vasprintf(&line, fmt, ap) >= 0) {
		sink(level, line);
		free(line);
	}
	va_end(ap);
}
