/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is a page all zero? A few sampled words end most scans at once; the rest is read as wide as the CPU can. Pure. */
#ifndef FERRY_RAM_ZERO_H
#define FERRY_RAM_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* len is a multiple of 64 and page is aligned to 8. The page may change meanwhile: the answer is then about some mix. */
bool page_is_zero(const void *page, size_t len);

#endif
