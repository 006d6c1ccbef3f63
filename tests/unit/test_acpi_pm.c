/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: ACPI's registers read and take what the specification says, by bytes and by words; only the sleep type that means
 * "off", with the bit that means "now", powers off; and they travel.
 *
 * How: a device in a VM without KVM; the test is the guest, by the port I/O bus.
 */
#include "devices/acpi_pm.h"
#include "tests/unit/support.h"
#include "tests/unit/vmstate_support.h"
#include "vmm/kvm/vm.h"

SUITE(acpi_pm);

#define BASE 0x600
#define STATUS (BASE + 0)
#define ENABLE (BASE + 2)
#define CONTROL (BASE + 4)
#define SCI_EN 1u
#define OFF (5u << 10)
#define SLP_EN (1u << 13)

static unsigned int requests;

static void request_made(void *opaque)
{
	(void)opaque;
	requests++;
}

static void state_changed(void *opaque, enum runstate from, enum runstate to)
{
	(void)opaque;
	(void)from;
	(void)to;
}

static struct device *build(struct vm *vm)
{
	static const struct vm_observer observer = { .state_changed = state_changed,
						     .request_made = request_made };
	const struct device_config config = { .base = BASE, .length = 8, .irq = 9 };
	struct error *err = NULL;
	struct device *dev;

	vm_init(vm, NULL, &observer, RUNSTATE_RUNNING);
	dev = acpi_pm_class.create(vm, &config, &err);
	expect_ok(dev, err);
	dev->cls = &acpi_pm_class;
	TAILQ_INSERT_TAIL(&vm->devices, dev, entry);
	return dev;
}

static uint64_t in(struct vm *vm, uint64_t port, unsigned int size)
{
	return bus_read(&vm->pio, port, size);
}

static void out(struct vm *vm, uint64_t port, uint64_t value, unsigned int size)
{
	bus_write(&vm->pio, port, value, size);
}

Test(acpi_pm, registers)
{
	struct vm vm;

	build(&vm);
	cr_assert(in(&vm, STATUS, 2) == 0 && in(&vm, ENABLE, 2) == 0);
	cr_assert_eq(in(&vm, CONTROL, 2), SCI_EN, "always in ACPI mode");
	out(&vm, ENABLE, 0x1234, 2);
	cr_assert_eq(in(&vm, STATUS, 4), 0x12340000);
	out(&vm, ENABLE + 1, 0x56, 1);
	cr_assert(in(&vm, ENABLE, 2) == 0x5634 && in(&vm, ENABLE, 1) == 0x34);
	out(&vm, STATUS, 0xffff, 2);
	cr_assert_eq(in(&vm, STATUS, 2), 0, "there is nothing to clear");
	out(&vm, CONTROL, 0xdfff, 2); /* all but SLP_EN */
	cr_assert_eq(in(&vm, CONTROL, 2), (7u << 10) | 3);
	out(&vm, CONTROL, 0, 2);
	cr_assert_eq(in(&vm, CONTROL, 2), SCI_EN);
	cr_assert_eq(in(&vm, BASE + 6, 2), 0, "nothing there");
	out(&vm, BASE + 6, UINT16_MAX, 2);
	cr_assert_eq(requests, 0);
	vm_release(&vm);
}

Test(acpi_pm, only_the_type_that_means_off_powers_off)
{
	for (unsigned int type = 0; type < 8; type++) {
		struct vm vm;

		requests = 0;
		build(&vm);
		out(&vm, CONTROL, type << 10, 2);
		cr_assert_eq(requests, 0, "not yet");
		out(&vm, CONTROL, type << 10 | SLP_EN, 2);
		cr_assert_eq(requests, type == 5, "type %u", type);
		cr_assert_eq(in(&vm, CONTROL, 2) & SLP_EN, 0, "write only");
		vm_release(&vm);
	}
}

Test(acpi_pm, power_off_is_a_shutdown_with_status_0)
{
	struct vm vm;
	char *text;
	unsigned int vcpu;
	int code = -1;

	build(&vm);
	out(&vm, CONTROL + 1, (OFF | SLP_EN) >> 8, 1); /* by the byte that matters */
	cr_assert_eq(requests, 1);
	cr_assert_eq(vm_take_request(&vm, &code, &text, &vcpu), VM_REQUEST_SHUTDOWN);
	cr_assert_eq(code, 0);
	vm_request_done(&vm);
	vm_release(&vm);
}

Test(acpi_pm, state)
{
	struct vm vm;
	struct device *dev = build(&vm);
	struct saved saved;

	out(&vm, ENABLE, 0x0321, 2);
	out(&vm, CONTROL, OFF | 2, 2);
	expect_saved(acpi_pm_class.vmstate, acpi_pm_class.state(dev), "03 21 14 02");
	saved = save_ok(acpi_pm_class.vmstate, acpi_pm_class.state(dev));
	acpi_pm_class.reset(dev);
	cr_assert(in(&vm, ENABLE, 2) == 0 && in(&vm, CONTROL, 2) == SCI_EN);
	load_ok(acpi_pm_class.vmstate, acpi_pm_class.state(dev), 1, &saved);
	cr_assert(in(&vm, ENABLE, 2) == 0x0321 && in(&vm, CONTROL, 2) == (OFF | 3));
	free(saved.data);
	load_hex_fails(acpi_pm_class.vmstate, acpi_pm_class.state(dev), 1, "00 00 20 00", "",
		       "bits that are not kept");
	cr_assert_eq(requests, 0);
	vm_release(&vm);
}
