/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/machine.h"

#include <errno.h>
#include <fcntl.h>

#include "devices/registry.h"
#include "devices/virtio/console.h"
#include "vmm/base/cleanup.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/loader.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/reset.h"

static const struct vmstate_field run_fields[] = {
	VMSTATE_ONE(BOOL, run_after_migration, struct vm),
	VMSTATE_END,
};
static const struct vmstate_desc run_vmstate = { .name = "runstate",
						 .version_id = 1,
						 .minimum_version_id = 1,
						 .fields = run_fields };

static bool add_memory(struct machine *m, struct error **errp)
{
	static const char *const names[MACHINE_MAX_MEMORY_RANGES] = { "ram.low", "ram.high" };
	struct memory *mem = &m->vm.memory;

	for (unsigned int i = 0; i < m->plan.nmemory; i++)
		if (!memory_add_ram(mem, names[i], m->plan.memory[i].start, m->plan.memory[i].size,
				    errp))
			return false;
	if (!memory_add_hidden(mem, BLOCK_KERNEL, m->plan.kernel_bytes, errp))
		return false;
	return !m->plan.initrd_bytes ||
	       memory_add_hidden(mem, BLOCK_INITRD, m->plan.initrd_bytes, errp);
}

static bool add_vcpus(struct machine *m, struct error **errp)
{
	struct vm *vm = &m->vm;

	vm->nvcpus_total = m->plan.ncpus;
	for (unsigned int i = 0; i < m->plan.ncpus; i++) {
		struct vcpu *vcpu = vcpu_create(vm, i, errp);

		if (!vcpu)
			return false;
		m->vcpu_states[i] = vcpu_state_new(vcpu, errp);
		if (!m->vcpu_states[i])
			return false;
	}
	return true;
}

/* What the user has said of the host's side of this device, if anything. */
static void find_host_part(const struct machine_host *host, struct device_config *config)
{
	for (unsigned int i = 0; config->id && i < host->nparts; i++) {
		const struct machine_part *part = &host->parts[i];

		if (strcmp(part->id, config->id) != 0)
			continue;
		config->path = part->path ? part->path : config->path;
		config->backend = part->backend;
	}
}

/* A part that belongs to no device is a mistake, most likely in its id. */
static bool check_host_parts(const struct machine *m, const struct machine_host *host,
			     struct error **errp)
{
	for (unsigned int i = 0; i < host->nparts; i++) {
		bool found = false;

		for (unsigned int k = 0; k < m->plan.ndevices; k++)
			found |= m->plan.devices[k].id &&
				 strcmp(m->plan.devices[k].id, host->parts[i].id) == 0;
		if (!found) {
			error_set(errp, "the machine has no device '%s'", host->parts[i].id);
			return false;
		}
	}
	return true;
}

static bool add_device(struct machine *m, const struct machine_device *d,
		       const struct machine_host *host, bool incoming, struct error **errp)
{
	const struct device_class *cls = device_class_find(d->compatible, d->kind);
	struct device_config config = {
		.incoming = incoming,
		.base = d->base,
		.length = d->length,
		.irq = d->irq,
		.level = d->level,
		.id = d->id,
		.path = d->path_hint,
		.read_only = d->read_only,
		.mac = d->mac,
	};
	struct device *other, *dev;

	if (!cls) {
		error_set(errp, "device '%s': '%s' is not known to this build", d->name,
			  d->kind ? d->kind : d->compatible);
		return false;
	}
	find_host_part(host, &config);
	TAILQ_FOREACH (other, &m->vm.devices, entry)
		config.instance += other->cls == cls;
	if (strcmp(d->compatible, "ns16550a") == 0) {
		if (config.instance > 0) {
			error_set(errp, "device '%s': one serial port is all there is", d->name);
			return false;
		}
		config.backend = host->serial;
	}
	dev = cls->create(&m->vm, &config, errp);
	if (!dev)
		return false;
	dev->cls = cls;
	dev->instance = config.instance;
	TAILQ_INSERT_TAIL(&m->vm.devices, dev, entry);
	return true;
}

/* In the order of loading: interrupt controllers, then the CPUs that hold what they have delivered, then who raises lines. */
struct fixed_section {
	const char *idstr;
	uint32_t instance_id;
	const struct vmstate_desc *desc;
	size_t state; /* offset in struct machine */
};

static const struct fixed_section first_sections[] = {
	{ "kvmclock", 0, &clock_vmstate, offsetof(struct machine, irqchip.clock) },
	{ "i8259", 0, &pic_vmstate, offsetof(struct machine, irqchip.pic[0]) },
	{ "i8259", 1, &pic_vmstate, offsetof(struct machine, irqchip.pic[1]) },
	{ "ioapic", 0, &ioapic_vmstate, offsetof(struct machine, irqchip.ioapic) },
	{ "i8254", 0, &pit_vmstate, offsetof(struct machine, irqchip.pit) },
};
#define CPU_SECTION "cpu"
static const struct fixed_section last_sections[] = {
	{ "runstate", 0, &run_vmstate, offsetof(struct machine, vm) },
};

static void list_fixed(struct machine *m, const struct fixed_section *s, size_t n)
{
	for (; n > 0; n--, s++)
		section_table_add(&m->sections, s->idstr, s->instance_id, s->desc,
				  (char *)m + s->state);
}

static void list_sections(struct machine *m)
{
	struct device *dev;

	irqchip_states_init(&m->irqchip, &m->vm);
	list_fixed(m, first_sections, ARRAY_SIZE(first_sections));
	for (unsigned int i = 0; i < m->vm.nvcpus; i++)
		section_table_add(&m->sections, CPU_SECTION, i, &vcpu_vmstate, m->vcpu_states[i]);
	TAILQ_FOREACH (dev, &m->vm.devices, entry)
		if (dev->cls->vmstate)
			section_table_add(&m->sections, dev->cls->name, dev->instance,
					  dev->cls->vmstate, dev->cls->state(dev));
	list_fixed(m, last_sections, ARRAY_SIZE(last_sections));
}

/* One entry of the description. Whatever says "device" is only there if the machine's tree has such a node. */
static void describe(json_t *sections, const char *idstr, const char *compatible,
		     const struct vmstate_desc *desc)
{
	json_t *json = json_object();

	json_object_set_new(json, "section", json_string(idstr));
	if (compatible)
		json_object_set_new(json, "device", json_string(compatible));
	json_object_set_new(json, "state", vmstate_describe(desc));
	json_array_append_new(sections, json);
}

static void describe_fixed(json_t *sections, const struct fixed_section *s, size_t n)
{
	for (; n > 0; n--, s++)
		if (s->instance_id == 0)
			describe(sections, s->idstr, NULL, s->desc);
}

json_t *machine_describe_state(void)
{
	json_t *root = json_object(), *sections = json_array();
	const struct device_class *const *classes;
	unsigned int n;

	describe_fixed(sections, first_sections, ARRAY_SIZE(first_sections));
	describe(sections, CPU_SECTION, NULL, &vcpu_vmstate);
	classes = device_classes(&n);
	for (unsigned int i = 0; i < n; i++)
		if (classes[i]->vmstate)
			describe(sections, classes[i]->name, classes[i]->compatible,
				 classes[i]->vmstate);
	describe_fixed(sections, last_sections, ARRAY_SIZE(last_sections));
	json_object_set_new(root, "ferry", json_string(FERRY_VERSION));
	json_object_set_new(root, "machine", json_string(MACHINE_NAME));
	json_object_set_new(root, "configuration", vmstate_describe(&configuration_vmstate));
	json_object_set_new(root, "sections", sections);
	return root;
}

static bool open_kvm(struct machine *m, const struct machine_host *host,
		     const struct configuration *cfg, struct error **errp)
{
	if (!kvm_open(&m->vm.kvm, errp))
		return false;
	m->dirty_log = dirty_log_select(&m->vm.kvm, host->dirty_log, errp);
	if (!m->dirty_log || (cfg && !configuration_check_host(cfg, &m->vm.kvm, errp)))
		return false;
	m->vm.cpuid = cfg ? configuration_cpuid_table(cfg) : cpuid_default(&m->vm.kvm, errp);
	return m->vm.cpuid != NULL;
}

bool machine_build(struct machine *m, void *fdt, size_t fdt_bytes, const struct machine_host *host,
		   const struct configuration *cfg, struct error **errp)
{
	struct vm *vm = &m->vm;

	m->fdt = fdt;
	m->fdt_bytes = fdt_bytes;
	if (!devicetree_parse(fdt, fdt_bytes, &m->plan, errp) || !check_host_parts(m, host, errp) ||
	    !open_kvm(m, host, cfg, errp))
		return false;
	memory_init(&vm->memory, &vm->kvm);
	/* Memory slots before the irqchip; see irqchip.h. */
	if (!add_memory(m, errp) || !irqchip_create(vm, errp) || !add_vcpus(m, errp))
		return false;
	if (cfg && !configuration_apply_tsc(cfg, vm, errp))
		return false;
	for (unsigned int i = 0; i < m->plan.ndevices; i++)
		if (!add_device(m, &m->plan.devices[i], host, cfg != NULL, errp))
			return false;
	list_sections(m);
	for (unsigned int i = 0; i < vm->nvcpus; i++)
		if (!vcpu_start_thread(vm->vcpus[i], errp))
			return false;
	vm->built = true;
	return true;
}

bool machine_load_image(struct machine *m, const char *name, const char *path, struct error **errp)
{
	struct ram_block *block = memory_find_block(&m->vm.memory, name);
	scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t done = 0;

	if (fd < 0) {
		error_set_errno(errp, errno, "cannot open '%s'", path);
		return false;
	}
	while (done < block->used_bytes) {
		ssize_t n = read(fd, block->host + done, block->used_bytes - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n < 0)
				error_set_errno(errp, errno, "cannot read '%s'", path);
			else
				error_set(errp, "'%s' became shorter while it was read", path);
			return false;
		}
		done += (uint64_t)n;
	}
	return true;
}

bool machine_boot(struct machine *m, struct error **errp)
{
	struct ram_block *kernel = memory_find_block(&m->vm.memory, BLOCK_KERNEL);
	struct ram_block *initrd = memory_find_block(&m->vm.memory, BLOCK_INITRD);
	scoped_free void *guest_fdt = NULL;
	struct boot_images images = {
		.kernel = kernel->host,
		.kernel_bytes = kernel->used_bytes,
		.initrd = initrd ? initrd->host : NULL,
		.initrd_bytes = initrd ? initrd->used_bytes : 0,
		.cmdline = m->plan.cmdline,
	};

	if (!acpi_write(&m->vm.memory, &m->plan, &images.rsdp, errp))
		return false;
	guest_fdt = devicetree_for_guest(m->fdt, images.rsdp != 0, &images.fdt_bytes, errp);
	images.fdt = guest_fdt;
	return guest_fdt && boot(&m->vm.memory, &images, m->vm.vcpus[0], errp);
}

bool machine_reset(struct machine *m, struct error **errp)
{
	if (!kvm_state_reset(&m->vm, errp))
		return false;
	devices_reset(&m->vm);
	return machine_boot(m, errp);
}

void machine_terminal_resized(struct machine *m)
{
	struct device *dev;

	if (!__atomic_load_n(&m->vm.built, __ATOMIC_ACQUIRE))
		return;
	TAILQ_FOREACH (dev, &m->vm.devices, entry)
		if (dev->cls == &virtio_console_class)
			virtio_console_resized(dev);
}

void machine_release(struct machine *m)
{
	vm_release(&m->vm);
	for (unsigned int i = 0; i < VM_MAX_VCPUS; i++)
		vcpu_state_free(m->vcpu_states[i]);
	free(m->fdt);
}

void machine_for_migration(struct machine *m, struct migration_machine *out)
{
	*out = (struct migration_machine){
		.vm = &m->vm,
		.name = MACHINE_NAME,
		.fdt = m->fdt,
		.fdt_bytes = m->fdt_bytes,
		.sections = &m->sections,
		.dirty_log = m->dirty_log,
	};
}
