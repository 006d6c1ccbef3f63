/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * compat.[ch] - could a ferry of one release and a ferry of another load each other's streams? Two outputs of
 * `ferry describe-state` are compared by what is on the wire: names of fields do not count, nor does anything in memory.
 *
 * What may change: the name of a field; a subsection that is only sent when needed(); a section of a device that only a machine
 * with that device has; a field that becomes unused bytes of the same number, or the other way round.
 */
#ifndef FERRY_TESTS_COMPAT_H
#define FERRY_TESTS_COMPAT_H

#include <jansson.h>

/* NULL: all is well. Else what is not, and where; for free(). */
char *compat_compare(const json_t *old, const json_t *now);

#endif
