/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cleanup.h"

/* The length of the UTF-8 character that text begins with (RFC 3629, section 4), or 0 where it begins with none. */
static size_t utf8_length(const unsigned char *text)
{
	static const struct {
		unsigned char first, last; /* of the leading byte */
		unsigned char low,
			high; /* of the second: no overlong forms, no surrogates, nothing above U+10FFFF */
		size_t len;
	} forms[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	if (*text < 0x80)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (*text < forms[i].first || *text > forms[i].last)
			continue;
		if (text[1] < forms[i].low || text[1] > forms[i].high)
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if (text[k] < 0x80 || text[k] > 0xbf)
				return 0;
		return forms[i].len;
	}
	return 0;
}

/* Make a text that may quote a stranger fit for terminals and JSON. */
static void tidy(char *msg)
{
	unsigned char *at = (unsigned char *)msg;

	while (*at) {
		size_t len = utf8_length(at);
		/* U+0080 to U+009F are control characters, too. */
		bool control = *at < 0x20 || *at == 0x7f || (*at == 0xc2 && len && at[1] < 0xa0);

		if (!len || control)
			memset(at, '?', len ? len : 1);
		at += len ? len : 1;
	}
}

static void store(struct error **errp, enum error_class cls, int errnum, const char *fmt,
		  va_list ap)
{
	scoped_free char *text = NULL;
	struct error *err;

	if (!errp)
		return;
	assert(!*errp);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	err = xcalloc(1, sizeof(*err));
	err->cls = cls;
	if (!errnum)
		err->msg = xstrdup(text);
	else
		err->msg = xasprintf("%s: %s", text, strerror(errnum));
	tidy(err->msg);
	*errp = err;
}

void error_set(struct error **errp, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	store(errp, ERROR_GENERIC, 0, fmt, ap);
	va_end(ap);
}

void error_set_class(struct error **errp, enum error_class cls, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	store(errp, cls, 0, fmt, ap);
	va_end(ap);
}

void error_set_errno(struct error **errp, int errnum, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	store(errp, ERROR_GENERIC, errnum, fmt, ap);
	va_end(ap);
}

void error_prefix(struct error **errp, const char *fmt, ...)
{
	scoped_free char *text = NULL;
	char *old;
	va_list ap;

	if (!errp || !*errp)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	old = (*errp)->msg;
	(*errp)->msg = xasprintf("%s%s", text, old);
	tidy((*errp)->msg);
	free(old);
}

void error_propagate(struct error **errp, struct error *err)
{
	if (!err)
		return;
	if (!errp) {
		error_free(err);
		return;
	}
	assert(!*errp);
	*errp = err;
}

struct error *error_copy(const struct error *err)
{
	struct error *copy;

	if (!err)
		return NULL;
	copy = xcalloc(1, sizeof(*copy));
	copy->cls = err->cls;
	copy->msg = xstrdup(err->msg);
	return copy;
}

void error_free(struct error *err)
{
	if (!err)
		return;
	free(err->msg);
	free(err);
}

const char *error_msg(const struct error *err)
{
	return err ? err->msg : "no error";
}
