/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "migration/configuration.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "migration/stream/protocol.h"
#include "vmm/base/cleanup.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vcpu_state.h"

#define FDT_MAX (64u << 10)
/* A guest's clock tolerates a frequency that is off by 250 ppm, as NTP does. */
#define TSC_TOLERANCE_PPM 250

static const struct vmstate_field cpuid_fields[] = {
	VMSTATE_ONE(UINT32, function, struct configuration_cpuid),
	VMSTATE_ONE(UINT32, index, struct configuration_cpuid),
	VMSTATE_ONE(UINT32, flags, struct configuration_cpuid),
	VMSTATE_ONE(UINT32, eax, struct configuration_cpuid),
	VMSTATE_ONE(UINT32, ebx, struct configuration_cpuid),
	VMSTATE_ONE(UINT32, ecx, struct configuration_cpuid),
	VMSTATE_ONE(UINT32, edx, struct configuration_cpuid),
	VMSTATE_END,
};
static const struct vmstate_desc cpuid_vmstate = { .name = "cpuid-leaf",
						   .version_id = 1,
						   .minimum_version_id = 1,
						   .fields = cpuid_fields };

static bool has_offers(const void *opaque)
{
	return ((const struct configuration *)opaque)->offers != 0;
}

static bool offers_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	struct configuration *cfg = opaque;

	(void)version_id;
	(void)errp;
	cfg->offers_heard = cfg->offers;
	return true;
}

static const struct vmstate_field offers_fields[] = {
	VMSTATE_ONE(UINT64, offers, struct configuration),
	VMSTATE_END,
};
static const struct vmstate_desc offers_vmstate = {
	.name = "configuration/offers",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = offers_fields,
	.needed = has_offers,
	.post_load = offers_post_load,
};

static bool devicetree_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	(void)version_id;
	(void)errp;
	((struct configuration *)opaque)->has_devicetree = true;
	return true;
}

static const struct vmstate_field devicetree_fields[] = {
	VMSTATE_ONE(UINT32, fdt_bytes, struct configuration),
	VMSTATE_ALLOC_BUFFER(fdt, struct configuration, fdt_bytes, FDT_MAX),
	VMSTATE_END,
};
static const struct vmstate_desc devicetree_vmstate = {
	.name = "configuration/devicetree",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = devicetree_fields,
	.post_load = devicetree_post_load,
};

static bool cpu_post_load(void *opaque, uint32_t version_id, struct error **errp)
{
	(void)version_id;
	(void)errp;
	((struct configuration *)opaque)->has_cpu = true;
	return true;
}

static const struct vmstate_field cpu_fields[] = {
	VMSTATE_ONE(UINT32, ncpuid, struct configuration),
	VMSTATE_STRUCT_ALLOC(cpuid, struct configuration, ncpuid, CPUID_MAX_ENTRIES, cpuid_vmstate,
			     struct configuration_cpuid),
	VMSTATE_ONE(UINT32, nmsrs, struct configuration),
	VMSTATE_ALLOC_ARRAY(UINT32, msrs, struct configuration, nmsrs, VCPU_MSRS_MAX),
	VMSTATE_ONE(UINT32, tsc_khz, struct configuration),
	VMSTATE_END,
};
static const struct vmstate_desc cpu_vmstate = {
	.name = "configuration/cpu",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = cpu_fields,
	.post_load = cpu_post_load,
};

static const struct vmstate_field configuration_fields[] = {
	VMSTATE_ONE(UINT32, name_bytes, struct configuration),
	VMSTATE_ALLOC_BUFFER(name, struct configuration, name_bytes, STREAM_NAME_MAX),
	VMSTATE_END,
};
const struct vmstate_desc configuration_vmstate = {
	.name = "configuration",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = configuration_fields,
	.subsections = (const struct vmstate_desc *const[]){ &offers_vmstate, &devicetree_vmstate,
							     &cpu_vmstate, NULL },
};

bool configuration_gather(struct configuration *cfg, struct vm *vm, const char *machine,
			  const void *fdt, size_t fdt_bytes, struct error **errp)
{
	*cfg = (struct configuration){ 0 };
	cfg->msrs = kvm_msr_list(&vm->kvm, &cfg->nmsrs, errp);
	if (!cfg->msrs)
		return false;
	cfg->name_bytes = (uint32_t)strlen(machine);
	cfg->name = (uint8_t *)xstrdup(machine);
	cfg->fdt_bytes = (uint32_t)fdt_bytes;
	cfg->fdt = xcalloc(1, fdt_bytes);
	memcpy(cfg->fdt, fdt, fdt_bytes);
	cfg->ncpuid = vm->cpuid->nent;
	cfg->cpuid = xcalloc(cfg->ncpuid, sizeof(*cfg->cpuid));
	for (uint32_t i = 0; i < cfg->ncpuid; i++) {
		const struct kvm_cpuid_entry2 *e = &vm->cpuid->entries[i];

		cfg->cpuid[i] =
			(struct configuration_cpuid){ e->function, e->index, e->flags, e->eax,
						      e->ebx,	   e->ecx,   e->edx };
	}
	cfg->tsc_khz = vm->tsc_khz;
	return true;
}

void configuration_release(struct configuration *cfg)
{
	free(cfg->name);
	free(cfg->fdt);
	free(cfg->cpuid);
	free(cfg->msrs);
	*cfg = (struct configuration){ 0 };
}

bool configuration_save(struct configuration *cfg, struct stream_out *out, json_t *json,
			struct error **errp)
{
	put_u8(out, SECTION_CONFIGURATION);
	if (vmstate_save(out, &configuration_vmstate, cfg, json, errp))
		return true;
	error_prefix(errp, "configuration");
	return false;
}

bool configuration_load(struct configuration *cfg, struct stream_in *in, struct error **errp)
{
	*cfg = (struct configuration){ 0 };
	if (vmstate_load(in, &configuration_vmstate, cfg, configuration_vmstate.version_id, errp))
		return true;
	error_prefix(errp, "configuration");
	return false;
}

struct kvm_cpuid2 *configuration_cpuid_table(const struct configuration *cfg)
{
	struct kvm_cpuid2 *table =
		xcalloc(1, sizeof(*table) + cfg->ncpuid * sizeof(table->entries[0]));

	table->nent = cfg->ncpuid;
	for (uint32_t i = 0; i < cfg->ncpuid; i++) {
		const struct configuration_cpuid *c = &cfg->cpuid[i];

		table->entries[i] = (struct kvm_cpuid_entry2){
			.function = c->function,
			.index = c->index,
			.flags = c->flags,
			.eax = c->eax,
			.ebx = c->ebx,
			.ecx = c->ecx,
			.edx = c->edx,
		};
	}
	return table;
}

static bool check_msrs(const struct configuration *cfg, struct kvm *kvm, struct error **errp)
{
	uint32_t n;
	scoped_free uint32_t *have = kvm_msr_list(kvm, &n, errp);

	if (!have)
		return false;
	for (uint32_t i = 0; i < cfg->nmsrs; i++) {
		uint32_t k = 0;

		while (k < n && have[k] != cfg->msrs[i])
			k++;
		if (k == n) {
			error_set(errp, "the guest's CPU has MSR 0x%x, which this host's KVM lacks",
				  cfg->msrs[i]);
			return false;
		}
	}
	return true;
}

bool configuration_check_host(const struct configuration *cfg, struct kvm *kvm, struct error **errp)
{
	scoped_free struct kvm_cpuid2 *guest = configuration_cpuid_table(cfg);
	scoped_free struct kvm_cpuid2 *host = cpuid_supported(kvm, errp);

	return host && cpuid_check(guest, host, errp) && check_msrs(cfg, kvm, errp);
}

bool configuration_apply_tsc(const struct configuration *cfg, struct vm *vm, struct error **errp)
{
	uint64_t want = cfg->tsc_khz, have = vm->tsc_khz;
	uint64_t off = want > have ? want - have : have - want;

	if (!want || !have || off * 1000000 <= want * TSC_TOLERANCE_PPM)
		return true;
	for (unsigned int i = 0; i < vm->nvcpus; i++) {
		if (!vm->kvm.cap[CAP_TSC_CONTROL] ||
		    ioctl(vm->vcpus[i]->fd, KVM_SET_TSC_KHZ, want) < 0) {
			error_set(errp,
				  "the guest's TSC runs at %llu kHz, this host's at %llu kHz and "
				  "cannot be scaled",
				  (unsigned long long)want, (unsigned long long)have);
			return false;
		}
	}
	vm->tsc_khz = cfg->tsc_khz;
	return true;
}
