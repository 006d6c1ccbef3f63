/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stranger.[ch] - a reading of a stream's file by the format alone, with none of ferry's code: what public analyzers of this format
 * do, and no more than they do.
 *
 * So it looks for the JSON behind the last NUL of the last 10 MiB, takes every length from there, unfolds arrays by array_len,
 * does not know XBZRLE nor any command, and does not skip what it does not know. Anything it would stumble over fails the test.
 */
#ifndef FERRY_TESTS_STRANGER_H
#define FERRY_TESTS_STRANGER_H

#include "tests/integration/world.h"

struct stranger {
	json_t *description; /* lives until the test ends */
	/* "uart16550[0].lcr" -> the bytes in hex; arrays as "name[3]", subsections as "device[0].(device/sub)field" */
	json_t *values;
	unsigned int sections;
	uint64_t normal, zero;
	json_t *blocks; /* name -> length */
};

struct stranger stranger_read(const char *path);

#endif
