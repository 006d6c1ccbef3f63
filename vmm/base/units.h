/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers with units, as people write and read them. Parsing accepts the whole string or nothing. */
#ifndef FERRY_BASE_UNITS_H
#define FERRY_BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

/* "256M", "6G", "4096", "1T": bytes; K, M, G, T (or k, m, g, t) are powers of 1024, an iB or B may follow.
 * `what` names the option in the error. */
bool parse_size(const char *text, const char *what, uint64_t *size_bytes, struct error **errp);
/* "300ms", "2s", "500us"; a bare number is milliseconds. */
bool parse_duration(const char *text, const char *what, uint64_t *duration_ns, struct error **errp);
/* A plain decimal number in [min, max]. */
bool parse_number(const char *text, const char *what, uint64_t min, uint64_t max, uint64_t *value,
		  struct error **errp);

#define UNITS_TEXT_MAX 32
/* "1.50 GiB", "512 B" into buf; returns buf. */
const char *format_size(uint64_t size_bytes, char buf[static UNITS_TEXT_MAX]);
/* "1.23 s", "4.5 ms", "870 us" into buf; returns buf. */
const char *format_duration(uint64_t duration_ns, char buf[static UNITS_TEXT_MAX]);

#endif
