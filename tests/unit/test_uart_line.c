/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the serial port loses nothing to a slow reader, never leaves a driver waiting for ever, and travels with all that it
 * holds.
 *
 * How: the test is the driver and the line's other end (uart_support.h), where it takes, leaves and types as it likes; then the
 * section's bytes are loaded into another port.
 */
#include "migration/stream/section.h"
#include "tests/unit/uart_support.h"

/* --- the line behind it --- */

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 251);
}

/* Write up to n bytes, as a driver does that looks at LSR; how many there was room for. */
static size_t drive(struct machine *m, size_t n)
{
	size_t i;

	for (i = 0; i < n && rd(m, LSR) & 0x20; i++)
		wr(m, THR, byte_at(m->nsent++));
	return i;
}

/* The reader has these bytes, in order, and no others. */
static void expect_taken(struct machine *m, size_t from, size_t to)
{
	cr_assert_eq(m->line.ntaken, to - from, "%zu bytes, expected %zu", m->line.ntaken,
		     to - from);
	for (size_t i = from; i < to; i++)
		cr_assert_eq(m->line.taken[i - from], byte_at(i), "byte %zu of %zu", i, to);
}

/* A driver with its interrupt on, in front of a line that is stuck. */
static void drive_until_stuck(struct machine *m)
{
	wr(m, IER, 0x02);
	EXPECT_INTERRUPT(m, THRE);
	drive(m, 1 << 20);
	cr_assert(m->nsent >= 65536 && m->nsent < 65536 + 100, "%zu bytes", m->nsent);
	EXPECT_REG(m, LSR, 0x00);
	EXPECT_INTERRUPT(m, NONE);
}

Test(uart_line, a_slow_reader_is_waited_for)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	drive_until_stuck(&m);
	expect_taken(&m, 0, 16);
	for (unsigned int i = 0; i < 1000;
	     i++) /* a driver that does not look is not punished yet */
		wr(&m, THR, byte_at(m.nsent++));
	EXPECT_INTERRUPT(&m, NONE);
	m.line.room = 5; /* room that nobody has told of yet: what is older goes first */
	wr(&m, THR, byte_at(m.nsent++));
	while (m.line.ntaken < 1000) {
		reader_takes(&m.line, 7);
		cr_assert_eq(rd(&m, LSR) & 0x60, m.nsent - m.line.ntaken < 65536 ? 0x20 : 0);
	}
	EXPECT_INTERRUPT(&m, NONE);
	reader_takes(&m.line, 1000);
	EXPECT_REG(&m, LSR, 0x20); /* room again, but not all is sent */
	EXPECT_INTERRUPT(&m, THRE);
	EXPECT_INTERRUPT(&m, NONE);
	reader_takes(&m.line, 1 << 18);
	EXPECT_REG(&m, LSR, 0x60);
	expect_taken(&m, 0, m.nsent);
	EXPECT_INTERRUPT(&m, NONE);
	drive(&m, 10);
	expect_taken(&m, 0, m.nsent);
	machine_end(&m);
}

/* The last 64 KiB or so are kept for who comes next. */
Test(uart_line, without_a_reader_the_oldest_output_goes)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	reader_leaves(&m.line);
	cr_assert_eq(drive(&m, 200000), 200000, "the driver has to wait for nobody");
	EXPECT_REG(&m, LSR, 0x20);
	for (unsigned int i = 0; i < 300; i++) { /* in each state of the list */
		wr(&m, IER, 0x02);
		EXPECT_INTERRUPT(&m, THRE); /* enabling raises it, as ever */
		EXPECT_INTERRUPT(&m, NONE);
		wr(&m, THR, byte_at(m.nsent++));
		EXPECT_INTERRUPT(&m, THRE);
		wr(&m, IER, 0x00);
	}
	reader_takes(&m.line, 1 << 20);
	cr_assert(m.line.ntaken > 65000 && m.line.ntaken <= 131072, "%zu", m.line.ntaken);
	expect_taken(&m, m.nsent - m.line.ntaken, m.nsent);
	machine_end(&m);
}

Test(uart_line, a_reader_that_leaves_is_waited_for_no_longer)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	drive_until_stuck(&m);
	reader_leaves(&m.line);
	EXPECT_INTERRUPT(&m, THRE);
	EXPECT_REG(&m, LSR, 0x20);
	machine_end(&m);
}

/* What the line holds is not in the FIFO, so clearing that makes no room: no interrupt, until there is some. */
Test(uart_line, clearing_the_transmitter_does_not_clear_the_line)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	drive_until_stuck(&m);
	wr(&m, FCR, 0x05);
	EXPECT_INTERRUPT(&m, NONE);
	EXPECT_REG(&m, LSR, 0x00);
	reader_takes(&m.line, 1 << 20);
	EXPECT_INTERRUPT(&m, THRE);
	expect_taken(&m, 0, m.nsent);
	machine_end(&m);
}

/* A guest that reboots with a full line: its new driver enables the interrupt before it looks. */
Test(uart_line, after_a_reset_the_transmitter_tells_when_there_is_room)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	drive_until_stuck(&m);
	uart16550_class.reset(m.dev);
	wr(&m, IER, 0x02);
	EXPECT_INTERRUPT(&m, NONE);
	reader_takes(&m.line, 1 << 20);
	EXPECT_INTERRUPT(&m, THRE);
	expect_taken(&m, 0, m.nsent);
	machine_end(&m);
}

Test(uart_line, what_is_typed_comes_in)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	m.line.typed = "abc";
	for (const char *c = "abc"; *c; c++) { /* one at a time without the FIFO */
		deliver(&m.line);
		EXPECT_REG(&m, LSR, 0x61);
		EXPECT_REG(&m, RBR, (uint8_t)*c);
		EXPECT_REG(&m, LSR, 0x60);
	}
	m.line.typed = "0123456789abcdefghij";
	wr(&m, FCR, 0x01);
	deliver(&m.line);
	cr_assert_str_eq(m.line.typed, "ghij");
	wr(&m, FCR, 0x03); /* what it empties, others fill */
	deliver(&m.line);
	EXPECT_REG(&m, RBR, 'g');
	machine_end(&m);
}

/* What has made room must say so, or the line stays silent for ever. */
Test(uart_line, input_goes_on_after_loopback_and_reset)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, MCR, 0x10);
	m.line.typed = "xyz";
	deliver(&m.line);
	EXPECT_REG(&m, LSR, 0x60); /* the line is cut */
	wr(&m, MCR, 0x00);
	deliver(&m.line);
	EXPECT_REG(&m, LSR, 0x61);
	uart16550_class.reset(m.dev); /* it takes the x along */
	deliver(&m.line);
	EXPECT_REG(&m, LSR, 0x61);
	EXPECT_REG(&m, RBR, 'y');
	machine_end(&m);
}

/* --- migration --- */

static struct section section_of(struct machine *m)
{
	return (struct section){ "uart16550", 0, uart16550_class.vmstate,
				 uart16550_class.state(m->dev) };
}

/* The section's bytes, without header and footer. */
static size_t save(struct machine *m, uint8_t *data, size_t room)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct section section = section_of(m);
	struct error *err = NULL;
	const uint8_t *have;
	size_t len;

	expect_ok(vmstate_save(out, section.desc, section.opaque, NULL, &err), err);
	cr_assert(stream_flush(out));
	have = channel_memory_data(ch, &len);
	cr_assert_leq(len, room);
	memcpy(data, have, len);
	stream_out_free(out);
	channel_free(ch);
	return len;
}

static bool load(struct machine *m, const uint8_t *data, size_t len, struct error **errp)
{
	static uint8_t footer[5] = { 0x7e, 0, 0, 0, 7 };
	struct iovec iov[2] = { { (void *)data, len }, { footer, sizeof(footer) } };
	struct channel *ch = channel_memory();
	struct stream_in *in = stream_in_new(ch);
	struct section section = section_of(m);
	bool ok;

	cr_assert(channel_writev(ch, iov, 2, NULL));
	ok = section_load(in, &section, 7, 1, errp);
	stream_in_free(in);
	channel_free(ch);
	return ok;
}

Test(uart_line, the_registers_travel)
{
	static struct machine m, other;
	struct error *err = NULL;
	uint8_t data[64];
	size_t len;

	MACHINE_OR_SKIP(&m);
	MACHINE_OR_SKIP(&other);
	wr(&m, LCR, 0x80);
	wr(&m, DLL, 0x12);
	wr(&m, DLM, 0x34);
	wr(&m, LCR, 0x1b);
	wr(&m, FCR, 0x81);
	wr(&m, SCR, 0x56);
	wr(&m, MCR, 0x1d);
	wr(&m, IER, 0x07);
	loop_in(&m, 17);
	wr(&m, MCR, 0x0b);
	len = save(&m, data, sizeof(data));
	expect_hex(data, len,
		   "07 1b 0b b5 56 81 02 12 34 01 00 00 00 00 10 30 31 32 33 34 35 36 37 38 39 3a "
		   "3b 3c 3d 3e 3f 00",
		   "ier lcr mcr msr scr fcr errors dll dlm thre busy, 16 bytes, no backlog");
	expect_ok(load(&other, data, len, &err), err);
	EXPECT_INTERRUPT(&other, LINE);
	EXPECT_REG(&other, LSR, 0x63);
	EXPECT_INTERRUPT(&other, RX);
	for (unsigned int i = 0; i < 16; i++)
		EXPECT_REG(&other, RBR, 0x30 + i);
	EXPECT_INTERRUPT(&other, THRE);
	cr_assert(rd(&other, MCR) == 0x0b && rd(&other, LCR) == 0x1b && rd(&other, SCR) == 0x56);
	EXPECT_REG(&other, IIR, 0xc0 | NONE);
	wr(&other, LCR, 0x80);
	cr_assert_eq(rd(&other, DLL) | rd(&other, DLM) << 8, 0x3412);
	EXPECT_REG(&m, LSR, 0x63); /* saving has changed nothing */
	machine_end(&m);
	machine_end(&other);
}

/* The backlog arrives, and is sent once: what the source has sent and this make the whole. */
Test(uart_line, the_backlog_travels)
{
	static struct machine m, other;
	static uint8_t data[100000], again[100000];
	struct error *err = NULL;
	size_t len, first;

	MACHINE_OR_SKIP(&m);
	MACHINE_OR_SKIP(&other);
	drive_until_stuck(&m);
	reader_takes(&m.line, 500); /* a chunk is begun */
	devices_pause(&m.vm);
	first = m.line.ntaken;
	reader_takes(&m.line, 1000);
	cr_assert_eq(m.line.ntaken, first, "paused, and yet it sends");
	len = save(&m, data, sizeof(data));
	cr_assert(save(&m, again, sizeof(again)) == len && !memcmp(data, again, len));
	other.line.room = 50;
	devices_pause(&other.vm);
	expect_ok(load(&other, data, len, &err), err);
	devices_resume(&other.vm);
	EXPECT_REG(&other, LSR, 0x20);
	EXPECT_INTERRUPT(&other, THRE);
	cr_assert_eq(other.line.ntaken, 50, "as much as the line takes at once");
	other.nsent = m.nsent;
	drive(&other, 100);
	reader_takes(&other.line, 1 << 20);
	expect_taken(&other, first, m.nsent + 100);
	machine_end(&other);
	devices_resume(&m.vm); /* and a source that goes on has lost nothing */
	reader_takes(&m.line, 1 << 20);
	expect_taken(&m, 0, m.nsent);
	machine_end(&m);
}

/* The longest list that there can be: all of 128 KiB, and a first chunk with one byte left. */
Test(uart_line, a_full_backlog_travels)
{
	static struct machine m, other;
	static uint8_t data[200000];
	struct error *err = NULL;

	MACHINE_OR_SKIP(&m);
	MACHINE_OR_SKIP(&other);
	m.line.room = 0;
	while (m.nsent < 200000) /* a driver that never looks */
		wr(&m, THR, byte_at(m.nsent++));
	reader_takes(&m.line, 239);
	for (unsigned int i = 0; i < 239; i++)
		wr(&m, THR, byte_at(m.nsent++));
	expect_ok(load(&other, data, save(&m, data, sizeof(data)), &err), err);
	reader_takes(&other.line, 1 << 20);
	cr_assert(other.line.ntaken > 130000 && other.line.ntaken <= 131072, "%zu",
		  other.line.ntaken);
	expect_taken(&other, m.nsent - other.line.ntaken, m.nsent);
	machine_end(&other);
	machine_end(&m);
}

/* What is in the stream but not in a 16550A is refused, by name. */
Test(uart_line, hostile_state_is_refused)
{
	/* Behind the nine registers: thre_pending, was_busy, rx_count, rx, tx. */
	static const struct {
		const char *fcr, *rest, *error;
	} bad[] = {
		{ "01", "02", ".thre_pending: value 2 is not a bool" },
		{ "01", "00 ff", ".was_busy: value 255 is not a bool" },
		{ "01", "00 00 00 00 00 11 00", ".rx: 17 elements, at most 16" },
		{ "01", "00 00 ff ff ff ff 00", ".rx: 4294967295 elements, at most 16" },
		{ "00", "00 00 00 00 00 02 aa bb 00", ": rx_count 2 exceeds 1" },
		{ "01", "00 00 00 00 00 00 02", ".tx: loop byte 2" },
		{ "01", "00 00 00 00 00 00 01 00 00 00 05 00 00 00 05 61 62 63 64 65 00",
		  ".tx[0]: start 5 is not below len 5" },
		{ "01", "00 00 00 00 00 00 01 ff ff ff ff 00 00 00 01 61 00",
		  ".tx[0]: start 4294967295 is not below len 1" },
		{ "01", "00 00 00 00 00 00 01 00 00 00 00 00 00 00 00 00", ".tx[0]: start 0" },
		{ "01",
		  "00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 61 01 00 00 00 00 00 00 01 2c",
		  ".tx[1].data: 300 elements, at most 240" },
		{ "01", "00 00 00 00 00 00", ".tx: loop byte 126" },
	};
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error *err = NULL;
		uint8_t data[128] = { 0 };
		char want[128];
		size_t len;

		bytes_of(bad[i].fcr, data + 5, 1);
		len = 9 + bytes_of(bad[i].rest, data + 9, sizeof(data) - 9);
		cr_assert_not(load(&m, data, len, &err), "'%s' was loaded", bad[i].rest);
		snprintf(want, sizeof(want), "uart16550[0]%s", bad[i].error);
		expect_error(err, want);
	}
	uart16550_class.reset(m.dev); /* such a device is given up, but it can still be used */
	EXPECT_REG(&m, LSR, 0x60);
	machine_end(&m);
}
