/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CONFIGURATION: what a destination must know, and check, before it accepts any memory.
 *
 *	07 | be32 length | machine name | subsections
 *	configuration/offers      what the source can do beyond the base format
 *	configuration/devicetree  the machine
 *	configuration/cpu         what its CPUs show, the MSRs they have, the TSC's frequency
 *
 * The offers come first: a destination that refuses one of the others must know whether it may say why.
 */
#ifndef FERRY_MIGRATION_CONFIGURATION_H
#define FERRY_MIGRATION_CONFIGURATION_H

#include "migration/stream/stream.h"
#include "migration/stream/vmstate.h"
#include "vmm/kvm/vm.h"

struct configuration_cpuid {
	uint32_t function, index, flags, eax, ebx, ecx, edx;
};

struct configuration {
	uint32_t name_bytes;
	uint8_t *name;	 /* of the machine; owned, with a NUL behind it */
	uint64_t offers; /* OFFER_* */
	/* ... as soon as they are read: stays where the rest cannot be loaded, for telling the peer why */
	uint64_t offers_heard;
	uint32_t fdt_bytes;
	uint8_t *fdt; /* owned */
	uint32_t ncpuid;
	struct configuration_cpuid *cpuid; /* owned */
	uint32_t nmsrs;
	uint32_t *msrs;	  /* indices; owned */
	uint32_t tsc_khz; /* 0: not known */
	/* which subsections a stream had; set by their post_load */
	bool has_devicetree, has_cpu;
};

extern const struct vmstate_desc configuration_vmstate;

/* Gather the vm's. fdt is copied. */
bool configuration_gather(struct configuration *cfg, struct vm *vm, const char *machine,
			  const void *fdt, size_t fdt_bytes, struct error **errp);
void configuration_release(struct configuration *cfg);
/* With the type byte; `json`, where not NULL, is an object that gets the description. */
bool configuration_save(struct configuration *cfg, struct stream_out *out, json_t *json,
			struct error **errp);
/* Behind the type byte. */
bool configuration_load(struct configuration *cfg, struct stream_in *in, struct error **errp);

/* Can this host run that guest? kvm is open. The error names what does not fit. */
bool configuration_check_host(const struct configuration *cfg, struct kvm *kvm,
			      struct error **errp);
/* The table in KVM's form, to be freed. */
struct kvm_cpuid2 *configuration_cpuid_table(const struct configuration *cfg);
/* Give the vm's vCPUs the guest's TSC frequency, or say that it cannot be had. */
bool configuration_apply_tsc(const struct configuration *cfg, struct vm *vm, struct error **errp);

#endif
