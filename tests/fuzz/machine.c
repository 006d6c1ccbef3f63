/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/chardev.h"
#include "devices/registry.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/vcpu.h"

/* --- the serial line's other end, in place of devices/backend/chardev.c: it takes as much as the input says --- */

void chardev_attach(struct chardev *cd, const struct chardev_client *client, void *opaque)
{
	struct fuzz_line *line = (struct fuzz_line *)cd;

	line->client = client;
	line->opaque = opaque;
}

size_t chardev_write(struct chardev *cd, const uint8_t *data, size_t len)
{
	struct fuzz_line *line = (struct fuzz_line *)cd;
	size_t n = line->connected ? MIN_OF(len, line->room) : 0;

	for (size_t i = 0; i < n; i++)
		(void)*(const volatile uint8_t *)&data[i];
	line->room -= n;
	return n;
}

bool chardev_connected(struct chardev *cd)
{
	return ((struct fuzz_line *)cd)->connected;
}

void chardev_size(struct chardev *cd, uint16_t *cols, uint16_t *rows)
{
	(void)cd;
	*cols = 80;
	*rows = 25;
}

void chardev_room_again(struct chardev *cd)
{
	(void)cd;
}

static void no_request(void *opaque)
{
	(void)opaque;
}

/* --- sections as machine_build() lists them --- */

static const struct vmstate_field run_fields[] = {
	VMSTATE_ONE(BOOL, run_after_migration, struct vm),
	VMSTATE_END,
};
static const struct vmstate_desc run_vmstate = { .name = "runstate",
						 .version_id = 1,
						 .minimum_version_id = 1,
						 .fields = run_fields };

static void add_device(struct fuzz_machine *m, const struct device_class *cls,
		       const struct device_config *config)
{
	struct device *dev = cls->create(&m->vm, config, NULL);

	MUST(dev);
	dev->cls = cls;
	TAILQ_INSERT_TAIL(&m->vm.devices, dev, entry);
	if (cls->vmstate)
		section_table_add(&m->sections, cls->name, 0, cls->vmstate, cls->state(dev));
}

static void add_isa_device(struct fuzz_machine *m, const char *compatible, uint64_t base)
{
	struct device_config config = { .base = base, .length = 8, .irq = 4, .backend = &m->line };

	add_device(m, device_class_find(compatible, NULL), &config);
}

void machine_add_virtio(struct fuzz_machine *m)
{
	static char image[32];
	struct device_config config = { .base = FUZZ_VIRTIO_BASE,
					.length = FUZZ_VIRTIO_BYTES,
					.irq = 5,
					.id = "fuzz",
					.path = image,
					.incoming = true };
	int fd;

	if (!*image) {
		fd = memfd_create("disk", MFD_CLOEXEC);
		MUST(fd >= 0 && ftruncate(fd, 64 << 10) == 0);
		snprintf(image, sizeof(image), "/proc/self/fd/%d", fd);
	}
	add_device(m, device_class_find("virtio,mmio", "rng"), &config);
	config.base += FUZZ_VIRTIO_BYTES;
	config.level = true;
	add_device(m, device_class_find("virtio,mmio", "block"), &config);
	config.base += FUZZ_VIRTIO_BYTES;
	config.level = false;
	config.backend = &m->line;
	add_device(m, device_class_find("virtio,mmio", "console"), &config);
}

static void add_vcpu(struct fuzz_machine *m)
{
	m->vcpu = xcalloc(1, sizeof(*m->vcpu));
	m->vcpu->vm = &m->vm;
	m->vcpu->fd = -1;
	m->vcpu_state = vcpu_state_new(m->vcpu, NULL);
	MUST(m->vcpu_state);
	section_table_add(&m->sections, "cpu", 0, &vcpu_vmstate, m->vcpu_state);
}

/* Made once: its pages cost more than the rest of an input. */
static struct memory *shared_memory(void)
{
	static const struct block_spec specs[] = {
		{ "ram.low", 0, 8 * GUEST_PAGE_SIZE, true },
		{ "boot.kernel", 0, 2 * GUEST_PAGE_SIZE, false },
	};
	static struct memory memory;

	if (!memory.nblocks)
		memory_make(&memory, specs, 2);
	return &memory;
}

void machine_make(struct fuzz_machine *m)
{
	memory_clear(shared_memory());
	machine_make_beside(m);
}

void machine_make_beside(struct fuzz_machine *m)
{
	struct vm_observer nobody = { .request_made = no_request };
	struct section_table *t = &m->sections;

	*m = (struct fuzz_machine){ .line.connected = true };
	vm_init(&m->vm, NULL, &nobody, RUNSTATE_INMIGRATE);
	m->vm.memory = *shared_memory();
	irqchip_states_init(&m->irqchip, &m->vm);
	section_table_add(t, "kvmclock", 0, &clock_vmstate, &m->irqchip.clock);
	section_table_add(t, "i8259", 0, &pic_vmstate, &m->irqchip.pic[0]);
	section_table_add(t, "i8259", 1, &pic_vmstate, &m->irqchip.pic[1]);
	section_table_add(t, "ioapic", 0, &ioapic_vmstate, &m->irqchip.ioapic);
	section_table_add(t, "i8254", 0, &pit_vmstate, &m->irqchip.pit);
	add_vcpu(m);
	add_isa_device(m, "ns16550a", 0x3f8);
	add_isa_device(m, "ferry,pch-reset", 0xcf9);
	add_isa_device(m, "ferry,i8042-reset", 0x60);
	section_table_add(t, "runstate", 0, &run_vmstate, &m->vm);
	add_isa_device(m, "ferry,acpi-pm", 0x600);
}

void machine_end(struct fuzz_machine *m)
{
	vcpu_state_free(m->vcpu_state);
	free(m->vcpu);
	m->vm.memory.nblocks = 0;
	vm_release(&m->vm);
}
