/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/backend/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/cleanup.h"

bool tap_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= TAP_NAME_MAX && !strpbrk(name, "/: \t%");
}

int tap_open(const char *name, struct error **errp)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header = TAP_HEADER_BYTES;
	scoped_fd fd = -1;

	if (!tap_name_ok(name)) {
		error_set(errp, "tap '%s': expected an interface's name of up to %d letters", name,
			  TAP_NAME_MAX);
		return -1;
	}
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		error_set_errno(errp, errno, "tap '%s': cannot open /dev/net/tun", name);
		return -1;
	}
	strcpy(ifr.ifr_name, name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		if (errno == EBUSY)
			error_set(errp, "tap '%s' is another process's", name);
		else
			error_set_errno(errp, errno, "tap '%s'", name);
		return -1;
	}
	/* What we read must not need the guest's help: no large packets, no open checksums. */
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 || ioctl(fd, TUNSETOFFLOAD, 0) < 0) {
		error_set_errno(errp, errno, "tap '%s': headers", name);
		return -1;
	}
	return take_fd(fd);
}
