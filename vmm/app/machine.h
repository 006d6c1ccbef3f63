/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine: built from a device tree by one function, whether it starts afresh or is to be loaded.
 */
#ifndef FERRY_APP_MACHINE_H
#define FERRY_APP_MACHINE_H

#include "devices/backend/chardev.h"
#include "migration/configuration.h"
#include "migration/migration.h"
#include "migration/stream/section.h"
#include "vmm/boot/devicetree.h"
#include "vmm/kvm/irqchip.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vm.h"

struct machine {
	struct vm vm;
	void *fdt; /* owned */
	size_t fdt_bytes;
	struct machine_plan plan; /* points into fdt */
	struct section_table sections;
	struct irqchip_states irqchip;
	struct vcpu_state *vcpu_states[VM_MAX_VCPUS]; /* owned */
	const struct dirty_log_ops *dirty_log;
};

/* The host's side of a device, by the device's id. */
struct machine_part {
	const char *id;
	const char *path; /* of an image, a tap's name; NULL: the tree's hint */
	void *backend;	  /* borrowed; NULL: none */
};

/* The host's side, which is not part of the machine's description. */
struct machine_host {
	struct chardev *serial;		  /* behind the first serial port; borrowed */
	const char *dirty_log;		  /* a row's name, or NULL */
	const struct machine_part *parts; /* those that the user has named */
	unsigned int nparts;
};

/* machine->vm is initialised. fdt is taken over. cfg: what comes by migration, NULL for a fresh machine. On failure the machine
 * is half built and only fit for machine_release(). */
bool machine_build(struct machine *machine, void *fdt, size_t fdt_bytes,
		   const struct machine_host *host, const struct configuration *cfg,
		   struct error **errp);
/* Read a file into a boot image's block, which has the size that `size` says. */
bool machine_load_image(struct machine *machine, const char *block, const char *path,
			struct error **errp);
/* Put the boot images into RAM and the first vCPU at their entry. vCPUs and devices are in their reset state. */
bool machine_boot(struct machine *machine, struct error **errp);
/* Back to power-on, and boot again. The vCPUs are parked. */
bool machine_reset(struct machine *machine, struct error **errp);
/* The loop's thread. */
void machine_terminal_resized(struct machine *machine);
void machine_release(struct machine *machine);
/* All that a machine may write into a stream, without any state: what `ferry describe-state` prints. */
json_t *machine_describe_state(void);
void machine_for_migration(struct machine *machine, struct migration_machine *out);

#define BLOCK_KERNEL "boot.kernel"
#define BLOCK_INITRD "boot.initrd"

#endif
