/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: frames go both ways whole and in order, none is delivered while the device stands still, and
 * at a destination the guest announces itself once it is there, and not before.
 *
 * How: the driver of virtio_support.h, with an event loop; in place of the tap (devices/backend/tap.c)
 * a pair of datagram sockets, which keep frames apart as a tap does.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>

#include "devices/backend/tap.h"
#include "devices/virtio/net.h"
#include "tests/unit/virtio_support.h"
#include "vmm/base/bytes.h"

SUITE(virtio_net);

#define RX 0
#define TX 1
#define SEED 0x5eed0460
#define HEADER TAP_HEADER_BYTES
#define BUFFERS 0x80000u /* of RX, one page each */

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc };

/* The network's end of what was opened last. */
static int network = -1;

bool tap_name_ok(const char *name)
{
	return *name;
}

int tap_open(const char *name, struct error **errp)
{
	int fd[2];

	(void)name;
	(void)errp;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	network = fd[0];
	return fd[1];
}

static int add_net(struct virtio_machine *m, bool incoming)
{
	struct device_config config = { .path = "tap0", .mac = mac, .incoming = incoming };
	struct error *err = NULL;

	expect_ok(add_virtio(m, &virtio_net_class, &config, &err), err);
	return network;
}

#define NET(m, incoming)                  \
	struct virtio_machine m = { 0 };  \
	VIRTIO_MACHINE_OR_SKIP(&m, true); \
	int m##_net = add_net(&m, incoming)

static void end(struct virtio_machine *m, int net)
{
	virtio_machine_end(m);
	close(net);
}

static void give_buffer(struct virtio_machine *m, uint16_t i, uint32_t len)
{
	put_desc(m, RX, i, BUFFERS + i * 0x1000, len, VRING_DESC_F_WRITE);
	offer(m, RX, i);
	kick(m, RX);
}

static void from_network(int net, const void *frame, size_t len)
{
	while (send(net, frame, len, 0) < 0) {
		cr_assert_eq(errno, EAGAIN);
		sched_yield();
	}
}

/* The next frame that the guest has sent; its length. */
static size_t to_network(int net, uint8_t *frame, size_t room)
{
	struct pollfd pfd = { net, POLLIN, 0 };
	ssize_t n;

	cr_assert_eq(poll(&pfd, 1, -1), 1);
	n = recv(net, frame, room, 0);
	cr_assert_gt(n, 0);
	return (size_t)n;
}

Test(virtio_net, the_driver_sees_its_address)
{
	NET(m, false);
	uint64_t config = VIRTIO_BASE + VIRTIO_MMIO_CONFIG;

	cr_assert_eq(reg(&m, VIRTIO_MMIO_DEVICE_ID), 1);
	cr_assert(offered_features(&m) >> VIRTIO_NET_F_MAC & 1);
	for (unsigned int i = 0; i < 6; i++)
		cr_assert_eq(bus_read(&m.vm.mmio, config + i, 1), mac[i]);
	end(&m, m_net);
}

Test(virtio_net, frames_go_out_and_come_in)
{
	static uint8_t frame[2048], got[2048];
	struct prng p = { SEED };

	NET(m, false);
	start_driver(&m, 0, 2, 8);
	for (unsigned int round = 0; round < 500; round++) {
		size_t len = HEADER + prng_below(&p, 1500) + 14, cut = prng_below(&p, len - 1) + 1;
		struct vring_used_elem used;

		prng_fill(&p, frame, len);
		memcpy(data_at(&m, DRIVER_DATA), frame, cut);
		memcpy(data_at(&m, DRIVER_DATA + 0x2000), frame + cut, len - cut);
		put_desc(&m, TX, 0, DRIVER_DATA, (uint32_t)cut, VRING_DESC_F_NEXT);
		put_desc(&m, TX, 1, DRIVER_DATA + 0x2000, (uint32_t)(len - cut), 0);
		offer(&m, TX, 0);
		kick(&m, TX);
		cr_assert_eq(to_network(m_net, got, sizeof(got)), len);
		cr_assert_eq(memcmp(frame, got, len), 0, "round %u", round);
		next_used(&m, TX);
		prng_fill(&p, frame, len);
		if (prng_below(&p, 2)) {
			from_network(m_net, frame, len);
			give_buffer(&m, 0, 2048);
		} else {
			give_buffer(&m, 0, 2048);
			from_network(m_net, frame, len);
		}
		used = next_used(&m, RX);
		cr_assert_eq(used.len, len);
		put_le16(frame + 10, 1); /* num_buffers */
		cr_assert_eq(memcmp(data_at(&m, BUFFERS), frame, len), 0, "round %u", round);
	}
	end(&m, m_net);
}

Test(virtio_net, a_burst_waits_for_buffers_in_order)
{
	uint8_t frame[HEADER + 60] = { 0 };
	unsigned int seen = 0;

	NET(m, false);
	start_driver(&m, 0, 2, 4);
	for (unsigned int sent = 0; seen < 200;) {
		frame[HEADER] = (uint8_t)sent;
		if (sent < 200 && send(m_net, frame, sizeof(frame), 0) > 0) {
			sent++;
			continue;
		}
		give_buffer(&m, (uint16_t)(seen % 4), 2048);
		cr_assert_eq(next_used(&m, RX).len, sizeof(frame));
		cr_assert_eq(data_at(&m, BUFFERS + (seen % 4) * 0x1000)[HEADER], (uint8_t)seen);
		seen++;
	}
	end(&m, m_net);
}

Test(virtio_net, odd_frames_are_dropped_and_hurt_nobody)
{
	static uint8_t big[4096], got[256];

	NET(m, false);
	start_driver(&m, 0, 2, 8);
	for (unsigned int i = 0; i < 3; i++) { /* no header, half of one, a header alone */
		put_desc(&m, TX, 0, DRIVER_DATA, 1 + i * 5 + (i == 2), i ? 0 : VRING_DESC_F_WRITE);
		offer(&m, TX, 0);
		kick(&m, TX);
		next_used(&m, TX);
	}
	give_buffer(&m, 0, 100);
	from_network(m_net, big, sizeof(big)); /* does not fit */
	cr_assert_eq(next_used(&m, RX).len, 0);
	put_desc(&m, TX, 0, DRIVER_DATA, HEADER + 60, 0);
	offer(&m, TX, 0);
	kick(&m, TX);
	cr_assert_eq(to_network(m_net, got, sizeof(got)), HEADER + 60);
	end(&m, m_net);
}

static void expect_announcement(int net)
{
	uint8_t frame[256];

	cr_assert_eq(to_network(net, frame, sizeof(frame)), HEADER + 60);
	for (unsigned int i = 0; i < HEADER; i++)
		cr_assert_eq(frame[i], 0);
	for (unsigned int i = 0; i < 6; i++)
		cr_assert_eq(frame[HEADER + i], 0xff, "to all");
	cr_assert_eq(memcmp(frame + HEADER + 6, mac, 6), 0);
	cr_assert_eq(get_be16(frame + HEADER + 12), 0x8035);
	cr_assert_eq(get_be16(frame + HEADER + 20), 3);
	cr_assert_eq(memcmp(frame + HEADER + 22, mac, 6), 0);
	cr_assert_eq(memcmp(frame + HEADER + 32, mac, 6), 0);
}

Test(virtio_net, a_destination_drops_until_it_is_the_guest_and_then_says_so)
{
	uint8_t frame[HEADER + 60] = { 0 }, got[256];
	struct virtio_machine b = { 0 };
	struct saved saved;
	int b_net, unread;

	NET(a, false);
	VIRTIO_MACHINE_OR_SKIP(&b, true);
	b_net = add_net(&b, true);
	devices_pause(&b.vm);
	start_driver(&a, 0, 2, 8);
	give_buffer(&a, 0, 2048);
	/* The network tells both sides; the destination throws it away. */
	frame[HEADER] = 1;
	from_network(a_net, frame, sizeof(frame));
	from_network(b_net, frame, sizeof(frame));
	cr_assert_eq(next_used(&a, RX).len, sizeof(frame));
	do {
		sched_yield();
		cr_assert_eq(ioctl(b_net, TIOCOUTQ, &unread), 0);
	} while (unread);
	give_buffer(&a, 1, 2048);
	devices_pause(&a.vm);
	saved = save_device(&a);
	move_driver(&a, &b);
	load_ok(virtio_net_class.vmstate, virtio_net_class.state(b.dev), 1, &saved);
	cr_assert_eq(recv(b_net, got, sizeof(got), 0), -1, "silent so far");
	devices_resume(&b.vm);
	frame[HEADER] = 2;
	from_network(b_net, frame, sizeof(frame));
	cr_assert_eq(next_used(&b, RX).len, sizeof(frame));
	cr_assert_eq(data_at(&b, BUFFERS + 0x1000)[HEADER], 2);
	for (unsigned int i = 0; i < 5; i++)
		expect_announcement(b_net);
	/* As if it had failed: the source delivers what has come meanwhile, and announces nothing. */
	frame[HEADER] = 3;
	from_network(a_net, frame, sizeof(frame));
	devices_resume(&a.vm);
	cr_assert_eq(next_used(&a, RX).len, sizeof(frame));
	cr_assert_eq(data_at(&a, BUFFERS + 0x1000)[HEADER], 3);
	cr_assert_eq(recv(a_net, got, sizeof(got), 0), -1);
	free(saved.data);
	end(&a, a_net);
	end(&b, b_net);
}
