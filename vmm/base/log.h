/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log: one sink for the process, chosen by the application. Without a sink nothing is printed, so library
 * layers stay silent in tests. The sink and its level are the only mutable state at file scope besides the signal
 * flag. log_* may be called from any thread; the sink is called with one line at a time, without its newline.
 */
#ifndef FERRY_BASE_LOG_H
#define FERRY_BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

typedef void (*log_sink_fn)(enum log_level level, const char *line);

/* Lines above max_level are dropped before they are formatted. Call before threads exist. */
void log_set_sink(log_sink_fn sink, enum log_level max_level);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
