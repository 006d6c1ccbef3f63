/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing AML, the byte code in which ACPI names devices: the few terms that a list of devices needs.
 *
 * What has a length (a scope, a device, a package) is begun, filled, and ended; the end puts the length in where it began.
 * Source: ACPI 6.5, chapters 20 (AML) and 6.4 (resource descriptors).
 */
#ifndef FERRY_BOOT_AML_H
#define FERRY_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The caller gives room for all that it writes; running over is a bug of ours and asserted. */
struct aml {
	uint8_t *data;
	size_t len, room;
};

/* Each begins something and returns where, for aml_end(). A name is 4 letters, a path is as in ASL: "\\_SB_", "COM1". */
size_t aml_begin_scope(struct aml *aml, const char *path);
size_t aml_begin_device(struct aml *aml, const char *name);
size_t aml_begin_package(struct aml *aml, uint8_t elements);
void aml_end(struct aml *aml, size_t begin);

/* What follows is the object's value: one of the next four, or a package. */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, uint32_t value);
void aml_string(struct aml *aml, const char *text);
/* "PNP0501" as the integer that identifiers of this form are. */
void aml_eisa_id(struct aml *aml, const char *id);
/* A resource template: its descriptors, to which the end tag is added. */
void aml_resources(struct aml *aml, const uint8_t *descriptors, size_t len);

/* Resource descriptors; each returns how many bytes it has written, 16 at most. */
size_t aml_io_ports(uint8_t *to, uint16_t base, uint8_t length);
size_t aml_memory(uint8_t *to, uint32_t base, uint32_t length);
/* An interrupt of the I/O APIC: active high, not shared, level or edge triggered. */
size_t aml_interrupt(uint8_t *to, uint32_t gsi, bool level);

#endif
