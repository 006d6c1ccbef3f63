/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors a person can act on.
 *
 * A function that can fail returns bool (or a pointer, or a count) and takes `struct error **errp` last.
 * On failure exactly one error has been stored through errp and the outputs are untouched; on success errp is
 * untouched. errp may be NULL where the caller does not want to know why. The caller that supplied errp owns the
 * error and ends it with error_free(). Not thread safe: an error belongs to one thread at a time.
 */
#ifndef FERRY_BASE_ERROR_H
#define FERRY_BASE_ERROR_H

#include <stdbool.h>

/* What a QMP client is told beside the words; nothing but "generic" and these three has a meaning to a program. */
enum error_class {
	ERROR_GENERIC,
	ERROR_COMMAND_NOT_FOUND,
	ERROR_DEVICE_NOT_FOUND,
	ERROR_DEVICE_NOT_ACTIVE,
};

struct error {
	enum error_class cls;
	/* Owned; one line without a final full stop. It may quote what a stranger has sent: control characters, and what is not
	 * UTF-8, have become '?', so that the text can be shown on a terminal and put into JSON as it is. */
	char *msg;
};

#define FERRY_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Store a new error. *errp must be NULL before: a second error would hide the first, which is a bug of ours. */
void error_set(struct error **errp, const char *fmt, ...) FERRY_PRINTF(2, 3);
void error_set_class(struct error **errp, enum error_class cls, const char *fmt, ...)
	FERRY_PRINTF(3, 4);
/* As error_set, with ": " and the text of errnum behind it. */
void error_set_errno(struct error **errp, int errnum, const char *fmt, ...) FERRY_PRINTF(3, 4);
/* Put text in front of the error that *errp holds (a path, a peer); nothing happens where there is none. */
void error_prefix(struct error **errp, const char *fmt, ...) FERRY_PRINTF(2, 3);
/* Give err to *errp, or free it where errp is NULL. A NULL err is allowed and does nothing. */
void error_propagate(struct error **errp, struct error *err);
struct error *error_copy(const struct error *err);
void error_free(struct error *err);
const char *error_msg(const struct error *err);

static inline void error_cleanup(struct error **err)
{
	error_free(*err);
}
/* A local error that is freed when it goes out of scope. */
#define scoped_error __attribute__((cleanup(error_cleanup))) struct error *

#endif
