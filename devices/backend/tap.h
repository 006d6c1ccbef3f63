/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tap: the host's end of a guest's network. Frames are read and written with a virtio_net_hdr of 12 bytes before them, as the
 * guest has them, so the host's kernel finishes checksums and cuts large packets for the guest.
 *
 * Source: Linux Documentation/networking/tuntap.rst.
 */
#ifndef FERRY_BACKEND_TAP_H
#define FERRY_BACKEND_TAP_H

#include <stdbool.h>

#include "vmm/base/error.h"

#define TAP_NAME_MAX 15
#define TAP_HEADER_BYTES 12

/* Can it be an interface's name? */
bool tap_name_ok(const char *name);
/* A non-blocking descriptor; -1 on failure. An interface that is not there is made, if that is allowed, and goes with the process. */
int tap_open(const char *name, struct error **errp);

#endif
