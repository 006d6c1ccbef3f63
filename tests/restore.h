/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Restoring a chain of backups, written from the format alone (QEMU, docs/interop/qcow2.txt), for comparing. Just enough of it for what ferry
 * writes; what it does not know fails the test.
 */
#ifndef FERRY_TESTS_RESTORE_H
#define FERRY_TESTS_RESTORE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static inline uint64_t restore_number(int fd, uint64_t offset, unsigned int bytes)
{
	uint64_t value = 0;
	uint8_t raw[8];

	cr_assert_eq(pread(fd, raw, bytes, (off_t)offset), bytes, "no number at %llu",
		     (unsigned long long)offset);
	for (unsigned int i = 0; i < bytes; i++)
		value = value << 8 | raw[i];
	return value;
}

/* Beyond the file's end there are zeroes. */
static inline void restore_bytes(int fd, uint64_t offset, uint8_t *to, uint64_t bytes)
{
	ssize_t n = pread(fd, to, bytes, (off_t)offset);

	cr_assert(n >= 0);
	memset(to + n, 0, bytes - (uint64_t)n);
}

/* The image `name` of a folder, and all those below it, into `bytes` bytes. */
static inline void restore_chain(const char *folder, const char *name, uint8_t *to, uint64_t bytes)
{
	char path[512], below[1024] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0, "no %s", path);
	if (restore_number(fd, 0, 4) != 0x514649fb) {
		cr_assert_eq(lseek(fd, 0, SEEK_END), (off_t)bytes);
		restore_bytes(fd, 0, to, bytes);
		close(fd);
		return;
	}
	cr_assert_eq(restore_number(fd, 4, 4), 3, "version");
	cr_assert_eq(restore_number(fd, 20, 4), 16, "cluster_bits");
	cr_assert_eq(restore_number(fd, 24, 8), bytes, "size");
	cr_assert_eq(restore_number(fd, 72, 8), 0, "incompatible features");
	restore_bytes(fd, restore_number(fd, 8, 8), (uint8_t *)below, restore_number(fd, 16, 4));
	if (*below)
		restore_chain(folder, below, to, bytes);
	else
		memset(to, 0, bytes);
	for (uint64_t at = 0; at < bytes; at += 65536) {
		uint64_t l1 = restore_number(fd, 40, 8) + at / (UINT64_C(8192) << 16) * 8;
		uint64_t l2 = restore_number(fd, l1, 8) & ~(UINT64_C(1) << 63), entry = 0;
		uint64_t part = bytes - at < 65536 ? bytes - at : 65536;

		if (l2)
			entry = restore_number(fd, l2 + at / 65536 % 8192 * 8, 8);
		if (entry == 1)
			memset(to + at, 0, part);
		else if (entry)
			restore_bytes(fd, entry & ~(UINT64_C(1) << 63), to + at, part);
	}
	close(fd);
}

#endif
