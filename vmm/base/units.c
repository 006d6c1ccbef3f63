/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"

/* A decimal number at the start of text; *rest is what follows it. No sign, no space. */
static bool leading_number(const char *text, uint64_t *value, const char **rest)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	*rest = end;
	return errno == 0;
}

bool parse_size(const char *text, const char *what, uint64_t *size_bytes, struct error **errp)
{
	static const char letters[] = "KMGT";
	const char *rest;
	const char *letter;
	uint64_t value;
	unsigned int shift = 0;

	if (!leading_number(text, &value, &rest))
		goto bad;
	letter = *rest ? strchr(letters, toupper((unsigned char)*rest)) : NULL;
	if (letter) {
		shift = 10 * (unsigned int)(letter - letters + 1);
		rest++;
		if (*rest == 'i')
			rest++;
	}
	if (*rest == 'B')
		rest++;
	if (*rest || (shift && value >> (64 - shift)))
		goto bad;
	*size_bytes = value << shift;
	return true;
bad:
	error_set(errp, "%s: '%s' is not a size: expected a number with an optional K, M, G or T",
		  what, text);
	return false;
}

bool parse_duration(const char *text, const char *what, uint64_t *duration_ns, struct error **errp)
{
	static const struct {
		const char *suffix;
		uint64_t ns;
	} units[] = {
		{ "", NS_PER_MS }, { "ms", NS_PER_MS }, { "us", NS_PER_US }, { "s", NS_PER_SEC }
	};
	const char *rest;
	uint64_t value;

	if (leading_number(text, &value, &rest)) {
		for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
			uint64_t ns;

			if (strcmp(rest, units[i].suffix) == 0 &&
			    mul_fits(value, units[i].ns, &ns)) {
				*duration_ns = ns;
				return true;
			}
		}
	}
	error_set(errp, "%s: '%s' is not a duration: expected a number with us, ms or s", what,
		  text);
	return false;
}

bool parse_number(const char *text, const char *what, uint64_t min, uint64_t max, uint64_t *value,
		  struct error **errp)
{
	const char *rest;
	uint64_t number;

	if (!leading_number(text, &number, &rest) || *rest || number < min || number > max) {
		error_set(errp, "%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, what, text,
			  min, max);
		return false;
	}
	*value = number;
	return true;
}

const char *format_size(uint64_t size_bytes, char buf[static UNITS_TEXT_MAX])
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)size_bytes;
	size_t i = 0;

	while (value >= 1024 && i + 1 < ARRAY_SIZE(names)) {
		value /= 1024;
		i++;
	}
	if (i == 0)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " B", size_bytes);
	else
		snprintf(buf, UNITS_TEXT_MAX, value < 10 ? "%.2f %s" : "%.1f %s", value, names[i]);
	return buf;
}

const char *format_duration(uint64_t duration_ns, char buf[static UNITS_TEXT_MAX])
{
	if (duration_ns < NS_PER_MS)
		snprintf(buf, UNITS_TEXT_MAX, "%" PRIu64 " us", duration_ns / NS_PER_US);
	else if (duration_ns < NS_PER_SEC)
		snprintf(buf, UNITS_TEXT_MAX, "%.1f ms", (double)duration_ns / NS_PER_MS);
	else
		snprintf(buf, UNITS_TEXT_MAX, "%.2f s", (double)duration_ns / NS_PER_SEC);
	return buf;
}
