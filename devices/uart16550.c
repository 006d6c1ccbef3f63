/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices/uart16550.h"

#include <pthread.h>
#include <string.h>

#include "devices/backend/chardev.h"
#include "migration/stream/vmstate.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/vm.h"

#define FIFO_BYTES 16
#define CHUNK_BYTES 240
/* From here on the transmitter is busy; a driver that does not look may add some before the list's end is reached. */
#define BACKLOG_BUSY (64u << 10)
#define BACKLOG_MAX (128u << 10)
/* A chunk is begun only when the last one is full, so this many hold the whole backlog. */
#define CHUNKS_MAX (BACKLOG_MAX / CHUNK_BYTES + 2)

enum { RBR_THR_DLL, IER_DLM, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RX 0x01
#define IER_THRE 0x02
#define IER_LINE 0x04
#define IER_MODEM 0x08
#define IIR_NONE 0x01
#define IIR_MODEM 0x00
#define IIR_THRE 0x02
#define IIR_RX 0x04
#define IIR_LINE 0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFOS 0xc0
#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02
#define FCR_CLEAR_TX 0x04
#define LCR_DLAB 0x80
#define MCR_LOOP 0x10
#define LSR_DATA 0x01
#define LSR_OVERRUN 0x02
#define LSR_ERRORS 0x1e
#define LSR_THRE 0x20
#define LSR_TEMT 0x40
#define MSR_DELTAS 0x0f
#define MSR_CTS_DSR_DCD 0xb0 /* a cable with somebody at the other end */

/* Output that the backend has not taken yet: bytes start..len-1 of data. */
struct uart_chunk {
	uint32_t start, len;
	uint8_t data[CHUNK_BYTES];
	TAILQ_ENTRY(uart_chunk) entry;
};
TAILQ_HEAD(uart_chunks, uart_chunk);

struct uart16550 {
	struct device dev;
	/* set at creation */
	unsigned int irq;
	struct chardev *backend;
	pthread_mutex_t lock;
	/* lock */
	bool paused; /* the backend's callbacks do nothing */
	uint8_t ier, lcr, mcr, msr, scr, fcr, lsr_errors;
	uint8_t dll, dlm;
	bool thre_pending; /* the transmitter-empty interrupt waits to be seen */
	bool was_busy;	   /* THRE was clear when last looked at */
	bool irq_level;	   /* as the interrupt controller was last told */
	uint32_t rx_count;
	uint8_t rx[FIFO_BYTES]; /* oldest first */
	struct uart_chunks tx;
	uint32_t tx_bytes; /* in tx */
	uint64_t dropped;  /* bytes that nobody was there to read */
};

static uint32_t trigger_level(const struct uart16550 *u)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

static uint32_t rx_capacity(const struct uart16550 *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static bool tx_busy(const struct uart16550 *u)
{
	return u->tx_bytes >= BACKLOG_BUSY;
}

/* Is the transmitter busy? Not for a reader that is not there. */
static bool holds_back(struct uart16550 *u)
{
	return tx_busy(u) && chardev_connected(u->backend);
}

/* The interrupt with the highest priority, as the low bits of IIR. */
static uint8_t interrupt_id(const struct uart16550 *u)
{
	if (u->ier & IER_LINE && u->lsr_errors)
		return IIR_LINE;
	if (u->ier & IER_RX && u->rx_count >= trigger_level(u))
		return IIR_RX;
	/* Bytes below the trigger level: nothing more comes soon, so the time-out is immediate. */
	if (u->ier & IER_RX && u->rx_count)
		return IIR_TIMEOUT;
	if (u->ier & IER_THRE && u->thre_pending)
		return IIR_THRE;
	if (u->ier & IER_MODEM && u->msr & MSR_DELTAS)
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_irq(struct uart16550 *u)
{
	bool level = interrupt_id(u) != IIR_NONE;

	if (level != u->irq_level)
		vm_irq_line(u->dev.vm, u->irq, level);
	u->irq_level = level;
}

static void drop_chunk(struct uart16550 *u, struct uart_chunk *chunk)
{
	u->tx_bytes -= chunk->len - chunk->start;
	TAILQ_REMOVE(&u->tx, chunk, entry);
	free(chunk);
}

static void drop_all_tx(struct uart16550 *u)
{
	while (!TAILQ_EMPTY(&u->tx))
		drop_chunk(u, TAILQ_FIRST(&u->tx));
}

/* Offer the backlog to the backend. */
static void flush_tx(struct uart16550 *u)
{
	struct uart_chunk *chunk;

	while ((chunk = TAILQ_FIRST(&u->tx)) != NULL) {
		size_t left = chunk->len - chunk->start;
		size_t done = chardev_write(u->backend, chunk->data + chunk->start, left);

		if (done < left) {
			chunk->start += (uint32_t)done;
			u->tx_bytes -= (uint32_t)done;
			break;
		}
		drop_chunk(u, chunk);
	}
	if (u->was_busy && !holds_back(u)) {
		u->was_busy = false;
		u->thre_pending = true;
	}
}

static void keep(struct uart16550 *u, uint8_t byte)
{
	struct uart_chunk *last = TAILQ_LAST(&u->tx, uart_chunks);

	if (u->tx_bytes >= BACKLOG_MAX || (tx_busy(u) && !chardev_connected(u->backend))) {
		u->dropped += TAILQ_FIRST(&u->tx)->len - TAILQ_FIRST(&u->tx)->start;
		drop_chunk(u, TAILQ_FIRST(&u->tx));
		last = TAILQ_LAST(&u->tx, uart_chunks);
	}
	if (!last || last->len == CHUNK_BYTES) {
		last = xcalloc(1, sizeof(*last));
		TAILQ_INSERT_TAIL(&u->tx, last, entry);
	}
	last->data[last->len++] = byte;
	u->tx_bytes++;
}

/* Of an overrun the data sheet says, of LSR bit 1: without FIFOs the next character destroys the one that was not read; with
 * them it is not transferred to the FIFO. */
static void push_rx(struct uart16550 *u, uint8_t byte)
{
	if (u->rx_count == rx_capacity(u)) {
		u->lsr_errors |= LSR_OVERRUN;
		if (!(u->fcr & FCR_ENABLE))
			u->rx[0] = byte;
		return;
	}
	u->rx[u->rx_count++] = byte;
}

static void transmit(struct uart16550 *u, uint8_t byte)
{
	if (u->mcr & MCR_LOOP) {
		push_rx(u, byte);
		u->thre_pending = true;
		return;
	}
	if (!TAILQ_EMPTY(&u->tx) || chardev_write(u->backend, &byte, 1) == 0)
		keep(u, byte);
	if (holds_back(u))
		u->was_busy = true;
	else
		u->thre_pending = true;
}

static uint8_t pop_rx(struct uart16550 *u)
{
	uint8_t byte = u->rx[0];

	if (!u->rx_count)
		return 0;
	memmove(u->rx, u->rx + 1, --u->rx_count);
	chardev_room_again(u->backend);
	return byte;
}

/* In loopback the modem's outputs are its inputs. */
static void set_modem_lines(struct uart16550 *u)
{
	uint8_t lines = MSR_CTS_DSR_DCD;
	uint8_t changed;

	if (u->mcr & MCR_LOOP)
		lines = (uint8_t)((u->mcr & 0x0c) << 4 | (u->mcr & 0x02) << 3 |
				  (u->mcr & 0x01) << 5);
	changed = (u->msr ^ lines) & 0xf0;
	/* RI reports only its trailing edge. */
	u->msr = lines | (u->msr & MSR_DELTAS) | (changed & 0xb0) >> 4 |
		 (changed & ~lines & 0x40) >> 4;
}

static uint8_t read_lsr(struct uart16550 *u)
{
	uint8_t lsr = u->lsr_errors | (u->rx_count ? LSR_DATA : 0);

	u->lsr_errors = 0;
	if (holds_back(u))
		u->was_busy = true;
	else
		lsr |= LSR_THRE | (u->tx_bytes ? 0 : LSR_TEMT);
	return lsr;
}

static uint8_t read_reg(struct uart16550 *u, uint64_t reg)
{
	uint8_t value;

	switch (reg) {
	case RBR_THR_DLL:
		return u->lcr & LCR_DLAB ? u->dll : pop_rx(u);
	case IER_DLM:
		return u->lcr & LCR_DLAB ? u->dlm : u->ier;
	case IIR_FCR:
		value = interrupt_id(u);
		if (value == IIR_THRE)
			u->thre_pending = false;
		return value | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
	case LCR:
		return u->lcr;
	case MCR:
		return u->mcr;
	case LSR:
		return read_lsr(u);
	case MSR:
		value = u->msr;
		u->msr &= (uint8_t)~MSR_DELTAS;
		return value;
	default:
		return u->scr;
	}
}

static void write_fcr(struct uart16550 *u, uint8_t value)
{
	/* Turning the FIFOs on or off empties them. */
	if ((value ^ u->fcr) & FCR_ENABLE || (value & FCR_ENABLE && value & FCR_CLEAR_RX)) {
		u->rx_count = 0;
		chardev_room_again(u->backend);
	}
	/* What has been written is on the line already, and stays; a transmitter that waits for the line goes on waiting. Without
	 * bit 0 the other bits "will not be programmed". */
	if (value & FCR_ENABLE && value & FCR_CLEAR_TX && !holds_back(u))
		u->thre_pending = true;
	u->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

static void write_reg(struct uart16550 *u, uint64_t reg, uint8_t value)
{
	switch (reg) {
	case RBR_THR_DLL:
		if (u->lcr & LCR_DLAB) {
			u->dll = value;
		} else {
			u->thre_pending = false;
			transmit(u, value);
		}
		break;
	case IER_DLM:
		if (u->lcr & LCR_DLAB) {
			u->dlm = value;
			break;
		}
		/* Enabling the interrupt of an empty transmitter raises it. */
		if (value & ~u->ier & IER_THRE && !holds_back(u))
			u->thre_pending = true;
		u->ier = value & 0x0f;
		break;
	case IIR_FCR:
		write_fcr(u, value);
		break;
	case LCR:
		u->lcr = value;
		break;
	case MCR:
		u->mcr = value & 0x1f;
		set_modem_lines(u);
		chardev_room_again(u->backend); /* loopback may have ended */
		break;
	case SCR:
		u->scr = value;
		break;
	}
}

static uint64_t uart_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct uart16550 *u = opaque;
	uint8_t value;

	(void)size; /* the chip has eight data lines */
	pthread_mutex_lock(&u->lock);
	value = read_reg(u, offset);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
	return value;
}

static void uart_write(void *opaque, uint64_t offset, uint64_t value, unsigned int size)
{
	struct uart16550 *u = opaque;

	(void)size;
	pthread_mutex_lock(&u->lock);
	write_reg(u, offset, (uint8_t)value);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static const struct bus_ops uart_ops = { uart_read, uart_write };

static size_t uart_room(void *opaque)
{
	struct uart16550 *u = opaque;
	size_t room;

	pthread_mutex_lock(&u->lock);
	room = u->paused || u->mcr & MCR_LOOP ? 0 : rx_capacity(u) - u->rx_count;
	pthread_mutex_unlock(&u->lock);
	return room;
}

static void uart_receive(void *opaque, const uint8_t *data, size_t len)
{
	struct uart16550 *u = opaque;

	pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i < len; i++)
		push_rx(u, data[i]);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static void uart_can_send(void *opaque)
{
	struct uart16550 *u = opaque;

	pthread_mutex_lock(&u->lock);
	if (!u->paused) {
		flush_tx(u);
		update_irq(u);
	}
	pthread_mutex_unlock(&u->lock);
}

static const struct chardev_client uart_client = { uart_room, uart_receive, uart_can_send };

static void uart_reset(struct device *dev)
{
	struct uart16550 *u = container_of(dev, struct uart16550, dev);

	pthread_mutex_lock(&u->lock);
	u->ier = u->lcr = u->scr = u->fcr = u->lsr_errors = 0;
	u->mcr = 0;
	u->msr = MSR_CTS_DSR_DCD;
	u->dll = 12; /* 9600 baud */
	u->dlm = 0;
	u->thre_pending = false;
	u->was_busy = tx_busy(u);
	u->rx_count = 0;
	/* tx stays: it has left the chip */
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
	chardev_room_again(u->backend);
}

static void uart_pause(struct device *dev)
{
	struct uart16550 *u = container_of(dev, struct uart16550, dev);

	pthread_mutex_lock(&u->lock);
	u->paused = true;
	pthread_mutex_unlock(&u->lock);
}

static void uart_drain(struct device *dev)
{
	struct uart16550 *u = container_of(dev, struct uart16550, dev);

	pthread_mutex_lock(&u->lock);
	flush_tx(u);
	pthread_mutex_unlock(&u->lock);
}

static void uart_resume(struct device *dev)
{
	struct uart16550 *u = container_of(dev, struct uart16550, dev);

	pthread_mutex_lock(&u->lock);
	u->paused = false;
	flush_tx(u);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
	chardev_room_again(u->backend);
}

static void uart_destroy(struct device *dev)
{
	struct uart16550 *u = container_of(dev, struct uart16550, dev);

	chardev_attach(u->backend, NULL, NULL);
	drop_all_tx(u);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static struct device *uart_create(struct vm *vm, const struct device_config *config,
				  struct error **errp)
{
	struct uart16550 *u = xcalloc(1, sizeof(*u));
	struct bus_region region = { config->base, 8, "uart16550", &uart_ops, u };

	u->dev.vm = vm;
	u->irq = config->irq;
	u->backend = config->backend;
	TAILQ_INIT(&u->tx);
	pthread_mutex_init(&u->lock, NULL);
	if (!bus_add(&vm->pio, &region, errp)) {
		pthread_mutex_destroy(&u->lock);
		free(u);
		return NULL;
	}
	uart_reset(&u->dev);
	chardev_attach(u->backend, &uart_client, u);
	return &u->dev;
}

static bool chunk_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct uart_chunk *chunk = opaque;

	(void)version_id;
	if (chunk->start < chunk->len)
		return true;
	error_set(errp, "start %u is not below len %u", chunk->start, chunk->len);
	return false;
}

static const struct vmstate_field chunk_fields[] = {
	VMSTATE_ONE(UINT32, start, struct uart_chunk),
	VMSTATE_ONE(UINT32, len, struct uart_chunk),
	VMSTATE_VBUFFER(data, struct uart_chunk, len),
	VMSTATE_END,
};
static const struct vmstate_desc chunk_vmstate = {
	.name = "uart16550-chunk",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = chunk_fields,
	.post_load = chunk_post_load,
};
static const struct vmstate_list tx_list =
	VMSTATE_TAILQ_OF(struct uart_chunk, entry, chunk_vmstate, CHUNKS_MAX);

static bool uart_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct uart16550 *u = opaque;
	struct uart_chunk *chunk;

	(void)version_id;
	if (u->rx_count > rx_capacity(u)) {
		error_set(errp, "rx_count %u exceeds %u", u->rx_count, rx_capacity(u));
		return false;
	}
	u->tx_bytes = 0;
	TAILQ_FOREACH (chunk, &u->tx, entry)
		u->tx_bytes += chunk->len - chunk->start;
	u->irq_level = interrupt_id(u) != IIR_NONE;
	vm_irq_line(u->dev.vm, u->irq, u->irq_level);
	return true;
}

static const struct vmstate_field uart_fields[] = {
	VMSTATE_ONE(UINT8, ier, struct uart16550),
	VMSTATE_ONE(UINT8, lcr, struct uart16550),
	VMSTATE_ONE(UINT8, mcr, struct uart16550),
	VMSTATE_ONE(UINT8, msr, struct uart16550),
	VMSTATE_ONE(UINT8, scr, struct uart16550),
	VMSTATE_ONE(UINT8, fcr, struct uart16550),
	VMSTATE_ONE(UINT8, lsr_errors, struct uart16550),
	VMSTATE_ONE(UINT8, dll, struct uart16550),
	VMSTATE_ONE(UINT8, dlm, struct uart16550),
	VMSTATE_ONE(BOOL, thre_pending, struct uart16550),
	VMSTATE_ONE(BOOL, was_busy, struct uart16550),
	VMSTATE_ONE(UINT32, rx_count, struct uart16550),
	VMSTATE_VARRAY(UINT8, rx, struct uart16550, rx_count),
	VMSTATE_QTAILQ(tx, struct uart16550, tx_list, struct uart_chunk),
	VMSTATE_END,
};
static const struct vmstate_desc uart_vmstate = {
	.name = "uart16550",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = uart_fields,
	.post_load = uart_post_load,
};

static void *uart_state(struct device *dev)
{
	return container_of(dev, struct uart16550, dev);
}

const struct device_class uart16550_class = {
	.name = "uart16550",
	.compatible = "ns16550a",
	.vmstate = &uart_vmstate,
	.create = uart_create,
	.state = uart_state,
	.reset = uart_reset,
	.pause = uart_pause,
	.drain = uart_drain,
	.resume = uart_resume,
	.destroy = uart_destroy,
};
