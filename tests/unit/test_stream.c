/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the typed stream writes the documented bytes in the order they were put, however they were
 * put and however many there are; reads them back; and stops at the first error for good.
 *
 * How: golden bytes; random mixtures of small items, bytes and referred pages compared with a flat
 * shadow buffer; small hand-made inputs; a pipe that hands over bytes in odd portions, and one that
 * is closed.
 */
#include <signal.h>

#include "migration/stream/stream.h"
#include "tests/unit/support.h"

SUITE(stream);

#define SEED 0x5eed0003

struct input {
	struct channel *ch;
	struct stream_in *in;
};

static struct input input_of(const char *hex)
{
	struct input i = { .ch = channel_memory() };
	uint8_t bytes[1024];
	struct iovec iov = { bytes, bytes_of(hex, bytes, sizeof(bytes)) };

	if (iov.iov_len)
		cr_assert(channel_writev(i.ch, &iov, 1, NULL));
	i.in = stream_in_new(i.ch);
	return i;
}

static void input_end(struct input *i)
{
	stream_in_free(i->in);
	channel_free(i->ch);
}

static void expect_in_error(struct stream_in *in, const char *text)
{
	struct error *err = NULL;

	cr_assert_not(stream_in_ok(in));
	cr_assert_not(stream_in_take_error(in, &err));
	expect_error(err, text);
}

Test(stream, integers_are_big_endian)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct stream_in *in;
	const uint8_t *data;
	char name[STREAM_NAME_MAX + 1];
	size_t len;

	put_u8(out, 0xa1);
	put_u16(out, 0xb1b2);
	put_u32(out, 0xc1c2c3c4);
	put_u64(out, 0xd1d2d3d4d5d6d7d8);
	put_name(out, "ram");
	put_name(out, "");
	put_bytes(out, "xyz", 3);
	put_bytes(out, NULL, 0);
	put_ref(out, "pq", 2);
	cr_assert_eq(stream_out_position(out), 25);
	cr_assert(stream_flush(out));
	data = channel_memory_data(ch, &len);
	expect_hex(data, len,
		   "a1 b1 b2 c1 c2 c3 c4 d1 d2 d3 d4 d5 d6 d7 d8 03 72 61 6d 00 78 79 7a 70 71",
		   "stream");
	in = stream_in_new(ch);
	cr_assert_eq(get_u8(in), 0xa1);
	cr_assert_eq(get_u16(in), 0xb1b2);
	cr_assert_eq(get_u32(in), 0xc1c2c3c4);
	cr_assert_eq(get_u64(in), 0xd1d2d3d4d5d6d7d8);
	cr_assert_eq(stream_in_position(in), 15);
	get_name(in, name);
	cr_assert_str_eq(name, "ram");
	get_name(in, name);
	cr_assert_str_eq(name, "");
	skip_bytes(in, 2);
	cr_assert_eq(stream_in_buffered(in), 3);
	cr_assert_eq(get_u8(in), 'z');
	cr_assert_not(stream_in_at_end(in));
	get_bytes(in, name, 2);
	cr_assert_eq(memcmp(name, "pq", 2), 0);
	cr_assert(stream_in_at_end(in));
	cr_assert(stream_in_ok(in), "the end in the right place is no error");
	cr_assert_eq(stream_in_position(in), 25);
	stream_in_free(in);
	stream_out_free(out);
	channel_free(ch);
}

Test(stream, without_a_channel_puts_are_counted)
{
	struct stream_out *out = stream_out_new(NULL);
	static uint8_t page[4096];

	for (unsigned int i = 0; i < 1000; i++) {
		put_u64(out, i);
		put_ref(out, page, sizeof(page));
	}
	cr_assert(stream_flush(out));
	cr_assert_eq(stream_out_position(out), 1000 * (8 + 4096));
	cr_assert(stream_out_ok(out));
	stream_out_free(out);
}

/* --- order and amount --- */

#define NPAGES 64
#define PAGE 4096u

struct shadow {
	uint8_t *data;
	size_t len, room;
};

static void shadow_put(struct shadow *s, const void *data, size_t len)
{
	if (s->len + len > s->room) {
		s->room = (s->len + len) * 2;
		s->data = realloc(s->data, s->room);
	}
	memcpy(s->data + s->len, data, len);
	s->len += len;
}

/* One random put, into both. */
static void random_put(struct prng *rng, struct stream_out *out, struct shadow *shadow,
		       const uint8_t *pages)
{
	uint64_t value = prng_next(rng);
	uint8_t wire[8];
	uint64_t page = prng_below(rng, NPAGES);
	size_t from = prng_below(rng, PAGE), n;

	for (unsigned int i = 0; i < 8; i++)
		wire[i] = (uint8_t)(value >> (56 - 8 * i));
	switch (prng_below(rng, 8)) {
	case 0:
		put_u8(out, wire[7]);
		shadow_put(shadow, wire + 7, 1);
		break;
	case 1:
		put_u32(out, (uint32_t)value);
		shadow_put(shadow, wire + 4, 4);
		break;
	case 2: /* an odd part of a page */
		n = prng_below(rng, PAGE - from);
		put_ref(out, pages + page * PAGE + from, n);
		shadow_put(shadow, pages + page * PAGE + from, n);
		break;
	case 3: /* neighbours, which may become one entry of the iovec */
		n = 1 + prng_below(rng, NPAGES - page);
		for (size_t i = 0; i < n; i++)
			put_ref(out, pages + (page + i) * PAGE, PAGE);
		shadow_put(shadow, pages + page * PAGE, n * PAGE);
		break;
	case 4: /* more than the arena and than a batch now and then */
		n = prng_below(rng, prng_below(rng, 20) ? 5000 : NPAGES * PAGE);
		put_bytes(out, pages, n);
		shadow_put(shadow, pages, n);
		break;
	default: /* what a RAM section does */
		put_u64(out, value);
		put_ref(out, pages + page * PAGE, PAGE);
		shadow_put(shadow, wire, 8);
		shadow_put(shadow, pages + page * PAGE, PAGE);
	}
}

Test(stream, a_random_mixture_keeps_its_order)
{
	struct prng rng = { SEED };
	uint8_t *pages = malloc(NPAGES * PAGE);

	prng_fill(&rng, pages, NPAGES * PAGE);
	for (unsigned int round = 0; round < 6; round++) {
		struct channel *ch = channel_memory();
		struct stream_out *out = stream_out_new(ch);
		struct shadow shadow = { 0 };
		const uint8_t *data;
		size_t len;

		for (unsigned int i = 0; i < 700; i++) {
			random_put(&rng, out, &shadow, pages);
			cr_assert_eq(stream_out_position(out), shadow.len);
			if (prng_below(&rng, 200) == 0)
				cr_assert(stream_flush(out));
		}
		cr_assert(stream_flush(out));
		data = channel_memory_data(ch, &len);
		cr_assert_eq(len, shadow.len, "seed %#x round %u", SEED, round);
		cr_assert_eq(memcmp(data, shadow.data, len), 0, "seed %#x round %u", SEED, round);
		free(shadow.data);
		stream_out_free(out);
		channel_free(ch);
	}
	free(pages);
}

/* More entries than one writev may take, with and without something small between them. */
Test(stream, more_entries_than_an_iovec_holds)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	static const uint8_t bytes[4] = { 0x11, 0x22, 0x33, 0x44 };
	struct stream_in *in;

	for (uint32_t i = 0; i < 5000; i++) {
		put_u32(out, i);
		put_ref(out, bytes, 2);
	}
	for (uint32_t i = 0; i < 5000; i++)
		put_ref(out, bytes + (i % 2 ? 0 : 3), 1);
	cr_assert(stream_flush(out));
	in = stream_in_new(ch);
	for (uint32_t i = 0; i < 5000; i++) {
		cr_assert_eq(get_u32(in), i);
		cr_assert_eq(get_u16(in), 0x1122);
	}
	for (uint32_t i = 0; i < 5000; i++)
		cr_assert_eq(get_u8(in), i % 2 ? 0x11 : 0x44);
	cr_assert(stream_in_at_end(in) && stream_in_ok(in));
	stream_in_free(in);
	stream_out_free(out);
	channel_free(ch);
}

Test(stream, the_generation_tells_when_a_page_is_free)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	uint8_t page[PAGE], filler[PAGE] = { 0 };
	uint64_t generation = stream_generation(out);
	const uint8_t *data;
	unsigned int fillers = 0;
	size_t len;

	memset(page, 0xaa, sizeof(page));
	put_ref(out, page, sizeof(page));
	cr_assert_eq(stream_generation(out), generation);
	while (stream_generation(out) == generation && fillers < 100000) {
		put_u8(out, 0);
		put_ref(out, filler, sizeof(filler));
		fillers++;
	}
	cr_assert_lt(fillers, 1000, "a batch is never written by itself");
	memset(page, 0xbb, sizeof(page));
	cr_assert(stream_flush(out));
	data = channel_memory_data(ch, &len);
	cr_assert_eq(len, PAGE + fillers * (PAGE + 1));
	for (unsigned int i = 0; i < PAGE; i++)
		cr_assert_eq(data[i], 0xaa);
	stream_out_free(out);
	channel_free(ch);
}

/* --- reading --- */

Test(stream, peeking_takes_nothing_and_the_end_is_no_error)
{
	struct input i = input_of("05 06 07");
	static const uint8_t all[] = { 5, 6, 7 };

	cr_assert_eq(memcmp(peek_bytes(i.in, 3), all, 3), 0);
	cr_assert_null(peek_bytes(i.in, 4));
	cr_assert_null(peek_bytes(i.in, 257));
	cr_assert(stream_in_ok(i.in));
	cr_assert_eq(stream_in_position(i.in), 0);
	cr_assert_eq(get_u8(i.in), 5);
	cr_assert_eq(*peek_bytes(i.in, 1), 6);
	cr_assert_eq(get_u16(i.in), 0x0607);
	cr_assert_null(peek_bytes(i.in, 1));
	cr_assert(stream_in_ok(i.in));
	input_end(&i);
}

Test(stream, ready_needs_no_wait)
{
	struct channel *ch;
	struct stream_in *in;
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	ch = channel_from_fd(fds[0], "pipe", NULL);
	in = stream_in_new(ch);
	cr_assert_not(stream_in_ready(in));
	cr_assert_eq(write(fds[1], "ab", 2), 2);
	cr_assert(stream_in_ready(in));
	cr_assert_eq(get_u8(in), 'a');
	cr_assert(stream_in_ready(in), "a byte is buffered");
	cr_assert_eq(get_u8(in), 'b');
	cr_assert_not(stream_in_ready(in));
	close(fds[1]);
	cr_assert(stream_in_ready(in), "the end can be had");
	cr_assert(stream_in_at_end(in));
	stream_in_free(in);
	channel_free(ch);
}

/* --- errors --- */

Test(stream, truncated_input_gives_zeroes_and_one_error)
{
	struct input i = input_of("01 02 03");
	uint8_t bytes[4];

	cr_assert_eq(get_u8(i.in), 1);
	cr_expect_eq(get_u32(i.in), 0, "half a value is not a value");
	expect_in_error(i.in, "ends in the middle of a record");
	expect_in_error(i.in, "byte ");
	expect_in_error(i.in, "memory"); /* the channel's name */
	cr_assert_eq(get_u8(i.in), 0);
	cr_assert_eq(get_u64(i.in), 0);
	memset(bytes, 0xff, sizeof(bytes));
	get_bytes(i.in, bytes, sizeof(bytes));
	expect_hex(bytes, sizeof(bytes), "00 00 00 00", "after an error");
	stream_in_fail(i.in, "another one");
	expect_in_error(i.in, "ends in the middle");
	cr_assert(stream_in_at_end(i.in), "an error counts as the end");
	input_end(&i);
}

Test(stream, bytes_of_a_read_that_fails_are_zeroes)
{
	struct input i = input_of("01 02 03");
	uint8_t bytes[5];

	memset(bytes, 0xff, sizeof(bytes));
	get_bytes(i.in, bytes, sizeof(bytes));
	cr_assert_not(stream_in_ok(i.in));
	expect_hex(bytes, sizeof(bytes), "00 00 00 00 00", "a truncated read");
	input_end(&i);
}

Test(stream, an_error_says_where)
{
	struct input i = input_of("01 02 03 04");
	struct error *err = NULL;

	cr_assert(stream_in_take_error(i.in, &err));
	cr_assert_null(err);
	get_u16(i.in);
	stream_in_fail(i.in, "bad %d", 7);
	expect_in_error(i.in, "at byte 2: bad 7");
	cr_assert_eq(get_u8(i.in), 0, "what is buffered is not given after an error");
	cr_assert_eq(get_u16(i.in), 0);
	cr_assert(stream_in_at_end(i.in), "an error counts as the end, whatever is buffered");
	input_end(&i);
}

Test(stream, skipping_past_the_end_is_an_error)
{
	struct input i = input_of("01 02 03");

	skip_bytes(i.in, UINT64_MAX);
	expect_in_error(i.in, "ends in the middle");
	input_end(&i);
}

Test(stream, names_are_checked)
{
	char name[STREAM_NAME_MAX + 1], hex[3 * 200] = "7f ";
	struct input i;

	for (unsigned int k = 0; k < 127; k++)
		strcat(hex, "41 ");
	i = input_of(hex);
	get_name(i.in, name); /* the longest */
	cr_assert(stream_in_ok(i.in) && strlen(name) == 127);
	input_end(&i);
	hex[0] = '8';
	hex[1] = '0';
	strcat(hex, "41");
	i = input_of(hex);
	get_name(i.in, name);
	expect_in_error(i.in, "128");
	cr_assert_str_empty(name);
	input_end(&i);
	i = input_of("03 61 00 62");
	get_name(i.in, name);
	expect_in_error(i.in, "NUL");
	cr_assert_str_empty(name);
	input_end(&i);
	i = input_of("03 61 62");
	get_name(i.in, name);
	expect_in_error(i.in, "ends in the middle");
	cr_expect_str_empty(name, "a name that was cut off is no name");
	input_end(&i);
}

Test(stream, a_write_error_is_sticky)
{
	static uint8_t page[PAGE];
	struct stream_out *out;
	struct error *err = NULL;
	struct channel *ch;
	uint64_t position;
	int fds[2];

	signal(SIGPIPE, SIG_IGN); /* the channel's test is about the signal */
	cr_assert_eq(pipe(fds), 0);
	close(fds[0]);
	ch = channel_from_fd(fds[1], "broken pipe", NULL);
	out = stream_out_new(ch);
	cr_assert(stream_out_take_error(out, &err));
	put_u8(out, 1);
	cr_assert(stream_out_ok(out), "nothing was written yet");
	cr_assert_not(stream_flush(out));
	cr_assert_not(stream_out_ok(out));
	position = stream_out_position(out);
	for (unsigned int i = 0; i < 2000; i++) {
		put_u64(out, i);
		put_ref(out, page, sizeof(page));
	}
	cr_assert_eq(stream_out_position(out), position, "puts after an error do nothing");
	cr_assert_not(stream_flush(out));
	cr_assert_not(stream_out_take_error(out, &err));
	expect_error(err, "broken pipe: cannot write");
	cr_assert_not(stream_out_take_error(out, NULL));
	stream_out_free(out);
	channel_free(ch);
}
