/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: however the bytes of a large stream arrive and in whichever portions they are taken or
 * looked at, they are the bytes that were sent.
 *
 * How: megabytes of noise through a pipe, whose portions are small, and from memory, where the
 * buffer is full to its end each time; takes and peeks of random sizes.
 */
#include <pthread.h>

#include "migration/stream/stream.h"
#include "tests/unit/support.h"

SUITE(stream_large);

#define SEED 0x5eed0008
#define TOTAL (3u << 20)

struct feed {
	struct channel *ch;
	const uint8_t *data;
	size_t len;
};

/* Writes in portions of every size up to 9000 bytes. */
static void *feeder(void *opaque)
{
	struct feed *feed = opaque;
	struct prng rng = { SEED };
	size_t at = 0;

	while (at < feed->len) {
		size_t n = 1 + prng_below(&rng, 9000);
		struct iovec iov = { (void *)(feed->data + at),
				     n < feed->len - at ? n : feed->len - at };
		size_t done = iov.iov_len;

		if (!channel_writev(feed->ch, &iov, 1, NULL))
			return NULL;
		at += done;
	}
	channel_free(feed->ch);
	return feed;
}

/* Takes all of it, looking ahead by up to what may be looked at. */
static void take_all(struct channel *ch, const uint8_t *data, size_t usual, size_t largest)
{
	struct stream_in *in = stream_in_new(ch);
	struct prng rng = { SEED + 1 };
	uint8_t *copy = malloc(TOTAL);
	size_t at = 0;

	while (at < TOTAL) {
		size_t n = prng_below(&rng, prng_below(&rng, 10) ? usual : largest);
		size_t ahead = prng_below(&rng, 257);
		const uint8_t *peeked;

		n = n < TOTAL - at ? n : TOTAL - at;
		peeked = peek_bytes(in, ahead);
		if (at + ahead <= TOTAL)
			cr_assert(peeked && !memcmp(peeked, data + at, ahead),
				  "seed %#x: %zu ahead at %zu", SEED, ahead, at);
		else
			cr_assert_null(peeked);
		cr_assert_null(peek_bytes(in, 257), "more than the header allows");
		cr_assert_eq(stream_in_position(in), at);
		get_bytes(in, copy + at, n);
		at += n;
	}
	cr_assert_eq(memcmp(copy, data, TOTAL), 0, "seed %#x", SEED);
	cr_assert(stream_in_at_end(in) && stream_in_ok(in));
	stream_in_free(in);
	free(copy);
}

static uint8_t *make_noise(void)
{
	struct prng rng = { SEED };
	uint8_t *data = malloc(TOTAL);

	prng_fill(&rng, data, TOTAL);
	return data;
}

Test(stream_large, portions_of_a_pipe_do_not_matter, .timeout = 60)
{
	uint8_t *data = make_noise();
	struct feed feed = { .data = data, .len = TOTAL };
	struct channel *ch;
	pthread_t thread;
	void *result;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	ch = channel_from_fd(fds[0], "reader", NULL);
	feed.ch = channel_from_fd(fds[1], "writer", NULL);
	pthread_create(&thread, NULL, feeder, &feed);
	take_all(ch, data, 6000, 700000);
	pthread_join(thread, &result);
	cr_assert_not_null(result);
	channel_free(ch);
	free(data);
}

/*
 * Once with reads larger than the buffer, once with only small ones, which meet its end again and
 * again.
 */
Test(stream_large, the_end_of_the_buffer_does_not_matter)
{
	uint8_t *data = make_noise();

	for (unsigned int i = 0; i < 2; i++) {
		struct channel *ch = channel_memory();
		struct iovec iov = { data, TOTAL };

		cr_assert(channel_writev(ch, &iov, 1, NULL));
		take_all(ch, data, i ? 6000 : 200, i ? 700000 : 200);
		channel_free(ch);
	}
	free(data);
}

Test(stream_large, skipping_is_taking)
{
	uint8_t *data = make_noise();
	struct channel *ch = channel_memory();
	struct iovec iov = { data, TOTAL };
	struct prng rng = { SEED + 2 };
	struct stream_in *in;
	size_t at = 0;

	cr_assert(channel_writev(ch, &iov, 1, NULL));
	in = stream_in_new(ch);
	for (;;) {
		size_t n = prng_below(&rng, 300000);

		if (at + n >= TOTAL)
			break;
		skip_bytes(in, n);
		cr_assert_eq(stream_in_position(in), at + n);
		cr_assert_eq(get_u8(in), data[at + n]);
		at += n + 1;
	}
	skip_bytes(in, TOTAL - at);
	cr_assert(stream_in_at_end(in) && stream_in_ok(in));
	stream_in_free(in);
	channel_free(ch);
	free(data);
}
