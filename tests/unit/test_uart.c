/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the serial port is a 16550A to its driver: the words of the PC16550D data sheet, section 8.
 *
 * How: the test is the driver (uart_support.h). Bytes come in by loopback. That an interrupt is raised is seen in IIR and at the
 * input of the PIC.
 */
#include "tests/unit/uart_support.h"

/* --- registers --- */

Test(uart, registers_at_reset_and_their_bits)
{
	static const struct {
		unsigned int reg;
		uint8_t mask;
	} writable[] = { { IER, 0x0f }, { LCR, 0x7f }, { MCR, 0x1f }, { SCR, 0xff } };
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	for (unsigned int again = 0; again < 2; again++) {
		EXPECT_REG(&m, IER, 0);
		EXPECT_REG(&m, IIR, NONE);
		EXPECT_REG(&m, LCR, 0);
		EXPECT_REG(&m, MCR, 0);
		EXPECT_REG(&m, LSR, 0x60);
		EXPECT_REG(&m, MSR, 0xb0);
		EXPECT_REG(&m, SCR, 0);
		EXPECT_REG(&m, RBR, 0);
		for (unsigned int value = 0; value < 256; value += 15) {
			wr(&m, LSR, (uint8_t)value);
			wr(&m, MSR, (uint8_t)value);
			EXPECT_REG(&m, LSR, 0x60);
			EXPECT_REG(&m, MSR, 0xb0);
			for (size_t i = 0; i < 4; i++) {
				wr(&m, writable[i].reg, (uint8_t)value & ~(i == 1 ? 0x80 : 0));
				EXPECT_REG(&m, writable[i].reg, value & writable[i].mask);
				wr(&m, writable[i].reg, 0);
			}
			rd(&m, MSR); /* the loopback has moved its lines */
			rd(&m, IIR);
		}
		wr(&m, SCR, 0x55);
		wr(&m, MCR, 0x13);
		wr(&m, IER, 0x0f);
		wr(&m, FCR, 0xc1);
		loop_in(&m, 17);
		wr(&m, LCR, 0x83);
		uart16550_class.reset(m.dev);
		cr_assert_not(line(&m));
	}
	machine_end(&m);
}

Test(uart, the_divisor_is_behind_dlab)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, IER, 0x05);
	wr(&m, LCR, 0x80);
	EXPECT_REG(&m, LCR, 0x80);
	cr_assert_eq(rd(&m, DLL) | rd(&m, DLM) << 8, 12, "9600 baud");
	wr(&m, DLL, 0x41);
	wr(&m, DLM, 0x02);
	EXPECT_REG(&m, DLL, 0x41);
	EXPECT_REG(&m, DLM, 0x02);
	wr(&m, LCR, 0x03);
	EXPECT_REG(&m, IER, 0x05);
	EXPECT_REG(&m, RBR, 0);
	cr_assert_eq(m.line.ntaken, 0, "a divisor is not sent");
	machine_end(&m);
}

/* --- receiving, by loopback --- */

Test(uart, fifo_trigger_levels_and_time_out)
{
	static const unsigned int levels[] = { 1, 4, 8, 14 };
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, MCR, 0x10);
	wr(&m, IER, 0x01);
	for (unsigned int i = 0; i < 4; i++) {
		wr(&m, FCR, (uint8_t)(i << 6 | 0x03));
		EXPECT_REG(&m, IIR, 0xc0 | NONE);
		loop_in(&m, levels[i] - 1);
		EXPECT_INTERRUPT(&m, levels[i] > 1 ? TIMEOUT : NONE);
		wr(&m, THR, 'x');
		EXPECT_INTERRUPT(&m, RX);
		EXPECT_INTERRUPT(&m, RX); /* looking changes nothing */
		EXPECT_REG(&m, RBR, levels[i] > 1 ? 0x30 : 'x');
		EXPECT_INTERRUPT(&m, levels[i] > 1 ? TIMEOUT : NONE);
		wr(&m, IER, 0);
		EXPECT_INTERRUPT(&m, NONE);
		wr(&m, IER, 1);
		wr(&m, FCR, 0x03); /* what is left goes */
		EXPECT_INTERRUPT(&m, NONE);
		EXPECT_REG(&m, LSR, 0x60);
	}
	machine_end(&m);
}

Test(uart, sixteen_bytes_with_fifo_one_without_and_overruns)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, MCR, 0x10);
	for (unsigned int fifo = 0; fifo < 2; fifo++) {
		unsigned int room = fifo ? 16 : 1;

		wr(&m, FCR, fifo ? 0xc1 : 0xc0); /* without bit 0 the others mean nothing */
		wr(&m, IER, 0x04);
		loop_in(&m, room);
		EXPECT_REG(&m, LSR, 0x61);
		EXPECT_INTERRUPT(&m, NONE);
		loop_in(&m, 1);
		EXPECT_INTERRUPT(&m, LINE);
		EXPECT_REG(&m, LSR, 0x63);
		EXPECT_INTERRUPT(&m, NONE); /* reading LSR is what it wanted */
		EXPECT_REG(&m, LSR, 0x61);
		for (unsigned int i = 0; i < room; i++)
			EXPECT_REG(&m, RBR, 0x30 + i);
		EXPECT_REG(&m, LSR, 0x60);
	}
	loop_in(&m, 5);
	wr(&m, FCR, 0); /* turning the FIFOs off empties them */
	EXPECT_REG(&m, LSR, 0x60);
	EXPECT_REG(&m, IIR, NONE);
	machine_end(&m);
}

/* LSR bit 1: without FIFOs the new character destroys the one that was not read; with them it is not transferred. */
Test(uart, what_an_overrun_leaves)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, MCR, 0x10);
	for (const char *c = "abc"; *c; c++)
		wr(&m, THR, (uint8_t)*c);
	EXPECT_REG(&m, LSR, 0x63);
	EXPECT_REG(&m, RBR, 'c');
	EXPECT_REG(&m, LSR, 0x60);
	wr(&m, FCR, 0x01);
	for (const char *c = "0123456789abcdefXY"; *c; c++)
		wr(&m, THR, (uint8_t)*c);
	EXPECT_REG(&m, LSR, 0x63);
	for (const char *c = "0123456789abcdef"; *c; c++)
		EXPECT_REG(&m, RBR, (uint8_t)*c);
	EXPECT_REG(&m, LSR, 0x60);
	machine_end(&m);
}

/* --- interrupts --- */

Test(uart, the_transmitters_interrupt)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, THR, 'a');
	EXPECT_INTERRUPT(&m, NONE); /* not enabled */
	wr(&m, IER, 0x02);
	EXPECT_INTERRUPT(&m, THRE); /* enabling raises it, reading IIR clears it */
	EXPECT_INTERRUPT(&m, NONE);
	wr(&m, IER, 0x02);
	EXPECT_INTERRUPT(&m, NONE); /* it was enabled already */
	wr(&m, THR, 'b');
	EXPECT_INTERRUPT(&m, THRE);
	EXPECT_INTERRUPT(&m, NONE);
	wr(&m, IER, 0);
	wr(&m, IER, 0x02);
	EXPECT_INTERRUPT(&m, THRE);
	cr_assert(m.line.ntaken == 2 && !memcmp(m.line.taken, "ab", 2));
	machine_end(&m);
}

/* FCR bit 0 "must be a 1 when other FCR bits are written to or they will not be programmed". */
Test(uart, clearing_the_transmitter)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, IER, 0x02);
	EXPECT_INTERRUPT(&m, THRE);
	wr(&m, FCR, 0x04);
	EXPECT_INTERRUPT(&m, NONE);
	wr(&m, FCR, 0x05); /* a FIFO that is emptied is empty */
	EXPECT_INTERRUPT(&m, THRE);
	EXPECT_INTERRUPT(&m, NONE);
	machine_end(&m);
}

Test(uart, the_gravest_interrupt_is_told_first)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, MCR, 0x10);
	wr(&m, IER, 0x0f);
	loop_in(&m, 2); /* an overrun, a byte, an empty transmitter, and modem lines that moved */
	EXPECT_INTERRUPT(&m, LINE);
	rd(&m, LSR);
	EXPECT_INTERRUPT(&m, RX);
	EXPECT_INTERRUPT(&m, RX);
	rd(&m, RBR);
	EXPECT_INTERRUPT(&m, THRE); /* told about others, it has waited */
	EXPECT_INTERRUPT(&m, MODEM);
	EXPECT_INTERRUPT(&m, MODEM);
	EXPECT_REG(&m, MSR, 0x0b);
	EXPECT_INTERRUPT(&m, NONE);
	EXPECT_REG(&m, MSR, 0x00);
	machine_end(&m);
}

/* DTR, RTS, OUT1, OUT2 are DSR, CTS, RI, DCD; what changed is told once, RI only where it ends. */
Test(uart, modem_lines_in_loopback)
{
	static struct machine m;

	MACHINE_OR_SKIP(&m);
	wr(&m, MCR, 0x10);
	rd(&m, MSR);
	for (unsigned int i = 0; i < 256; i++) {
		unsigned int from = i >> 4, to = i & 15, lines, changed = from ^ to;

		wr(&m, MCR, (uint8_t)(0x10 | from));
		rd(&m, MSR);
		wr(&m, MCR, (uint8_t)(0x10 | to));
		lines = (to & 1) << 5 | (to & 2) << 3 | (to & 4) << 4 | (to & 8) << 4;
		lines |= (changed & 1) << 1 | (changed & 2) >> 1 | (changed & 8);
		lines |= from & ~to & 4;
		EXPECT_REG(&m, MSR, lines);
		EXPECT_REG(&m, MSR, lines & 0xf0);
	}
	machine_end(&m);
}
