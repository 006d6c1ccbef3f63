/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm/cpuid.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/base/cleanup.h"
#include "vmm/kvm/vcpu.h"

enum cpuid_reg { EAX, EBX, ECX, EDX };

/* Registers in which every bit is a promise to the guest. */
static const struct feature_word {
	uint32_t function, index;
	enum cpuid_reg reg;
	uint32_t ignore; /* bits that say nothing about the host */
} feature_words[] = {
	{ 0x1, 0, ECX, 1u << 27 | 1u << 31 }, /* OSXSAVE follows CR4; "hypervisor" is ours */
	{ 0x1, 0, EDX, 0 },
	{ 0x7, 0, EBX, 0 },
	{ 0x7, 0, ECX, 1u << 4 }, /* OSPKE follows CR4 */
	{ 0x7, 0, EDX, 0 },
	{ 0x7, 1, EAX, 0 },
	{ 0xd, 0, EAX, 0 }, /* XCR0 */
	{ 0xd, 0, EDX, 0 },
	{ 0xd, 1, EAX, 0 },
	{ 0x40000001, 0, EAX, 0 },
	{ 0x80000001, 0, ECX, 0 },
	{ 0x80000001, 0, EDX, 0 },
	{ 0x80000007, 0, EDX, 0 },
	{ 0x80000008, 0, EBX, 0 },
};

/* Names for the bits that people meet; others are named by their place. */
static const struct {
	uint32_t function, index;
	enum cpuid_reg reg;
	unsigned int bit;
	const char *name;
} feature_names[] = {
	{ 0x1, 0, ECX, 0, "sse3" },
	{ 0x1, 0, ECX, 1, "pclmulqdq" },
	{ 0x1, 0, ECX, 9, "ssse3" },
	{ 0x1, 0, ECX, 12, "fma" },
	{ 0x1, 0, ECX, 13, "cx16" },
	{ 0x1, 0, ECX, 17, "pcid" },
	{ 0x1, 0, ECX, 19, "sse4.1" },
	{ 0x1, 0, ECX, 20, "sse4.2" },
	{ 0x1, 0, ECX, 21, "x2apic" },
	{ 0x1, 0, ECX, 22, "movbe" },
	{ 0x1, 0, ECX, 23, "popcnt" },
	{ 0x1, 0, ECX, 24, "tsc-deadline" },
	{ 0x1, 0, ECX, 25, "aes" },
	{ 0x1, 0, ECX, 26, "xsave" },
	{ 0x1, 0, ECX, 28, "avx" },
	{ 0x1, 0, ECX, 29, "f16c" },
	{ 0x1, 0, ECX, 30, "rdrand" },
	{ 0x7, 0, EBX, 0, "fsgsbase" },
	{ 0x7, 0, EBX, 3, "bmi1" },
	{ 0x7, 0, EBX, 5, "avx2" },
	{ 0x7, 0, EBX, 7, "smep" },
	{ 0x7, 0, EBX, 8, "bmi2" },
	{ 0x7, 0, EBX, 9, "erms" },
	{ 0x7, 0, EBX, 10, "invpcid" },
	{ 0x7, 0, EBX, 16, "avx512f" },
	{ 0x7, 0, EBX, 17, "avx512dq" },
	{ 0x7, 0, EBX, 18, "rdseed" },
	{ 0x7, 0, EBX, 20, "smap" },
	{ 0x7, 0, EBX, 23, "clflushopt" },
	{ 0x7, 0, EBX, 29, "sha-ni" },
	{ 0x7, 0, EBX, 30, "avx512bw" },
	{ 0x7, 0, EBX, 31, "avx512vl" },
	{ 0x7, 0, ECX, 2, "umip" },
	{ 0x7, 0, ECX, 3, "pku" },
	{ 0x7, 0, ECX, 16, "la57" },
	{ 0x7, 0, EDX, 24, "amx-tile" },
	{ 0x80000001, 0, EDX, 26, "pdpe1gb" },
	{ 0x80000001, 0, EDX, 27, "rdtscp" },
	{ 0x80000001, 0, EDX, 29, "lm" },
};

static uint32_t reg_of(const struct kvm_cpuid_entry2 *e, enum cpuid_reg reg)
{
	const uint32_t regs[] = { e->eax, e->ebx, e->ecx, e->edx };

	return regs[reg];
}

static struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *table, uint32_t function,
				     uint32_t index)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == function &&
		    (e->index == index || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			return (struct kvm_cpuid_entry2 *)e;
	}
	return NULL;
}

struct kvm_cpuid2 *cpuid_supported(struct kvm *kvm, struct error **errp)
{
	struct kvm_cpuid2 *table =
		xcalloc(1, sizeof(*table) + CPUID_MAX_ENTRIES * sizeof(table->entries[0]));

	table->nent = CPUID_MAX_ENTRIES;
	if (ioctl(kvm->dev_fd, KVM_GET_SUPPORTED_CPUID, table) == 0)
		return table;
	error_set_errno(errp, errno, "KVM_GET_SUPPORTED_CPUID");
	free(table);
	return NULL;
}

/* The state of a guest's own virtualization does not travel, so there is none. */
static void hide_virtualization(struct kvm_cpuid2 *table)
{
	struct kvm_cpuid_entry2 *e;

	e = find(table, 0x1, 0);
	if (e)
		e->ecx &= ~(1u << 5); /* VMX */
	e = find(table, 0x80000001, 0);
	if (e)
		e->ecx &= ~(1u << 2); /* SVM */
	e = find(table, 0x8000000a, 0);
	if (e)
		e->eax = e->ebx = e->ecx = e->edx = 0;
}

struct kvm_cpuid2 *cpuid_default(struct kvm *kvm, struct error **errp)
{
	struct kvm_cpuid2 *table = cpuid_supported(kvm, errp);
	struct kvm_cpuid_entry2 *e;

	if (!table)
		return NULL;
	hide_virtualization(table);
	e = find(table, 1, 0);
	if (e) {
		e->ecx |= 1u << 31; /* hypervisor */
		if (kvm->cap[CAP_TSC_DEADLINE])
			e->ecx |= 1u << 24;
	}
	return table;
}

static const char *feature_name(const struct feature_word *w, unsigned int bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++)
		if (feature_names[i].function == w->function &&
		    feature_names[i].index == w->index && feature_names[i].reg == w->reg &&
		    feature_names[i].bit == bit)
			return feature_names[i].name;
	return NULL;
}

static void missing_feature(const struct feature_word *w, uint32_t missing, struct error **errp)
{
	static const char *const regs[] = { "EAX", "EBX", "ECX", "EDX" };
	unsigned int bit = (unsigned int)__builtin_ctz(missing);
	const char *name = feature_name(w, bit);

	error_set(errp,
		  "the guest's CPU has %s%s(CPUID 0x%x.%u %s bit %u), which this host lacks%s",
		  name ? name : "a feature", " ", w->function, w->index, regs[w->reg], bit,
		  missing & (missing - 1) ? ", among others" : "");
}

static bool check_vendor(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *host,
			 struct error **errp)
{
	const struct kvm_cpuid_entry2 *g = find(guest, 0, 0), *h = find(host, 0, 0);

	if (g && h && g->ebx == h->ebx && g->ecx == h->ecx && g->edx == h->edx)
		return true;
	error_set(errp, "the guest's CPU vendor is '%.4s%.4s%.4s', this host's is '%.4s%.4s%.4s'",
		  g ? (const char *)&g->ebx : "", g ? (const char *)&g->edx : "",
		  g ? (const char *)&g->ecx : "", h ? (const char *)&h->ebx : "",
		  h ? (const char *)&h->edx : "", h ? (const char *)&h->ecx : "");
	return false;
}

bool cpuid_check(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *host, struct error **errp)
{
	if (!check_vendor(guest, host, errp))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(feature_words); i++) {
		const struct feature_word *w = &feature_words[i];
		const struct kvm_cpuid_entry2 *g = find(guest, w->function, w->index);
		const struct kvm_cpuid_entry2 *h = find(host, w->function, w->index);
		uint32_t missing = g ? reg_of(g, w->reg) & ~w->ignore : 0;

		/* The TSC deadline timer is not in the supported table, but a capability of its own. */
		if (w->function == 1 && w->reg == ECX)
			missing &= ~(1u << 24);
		if (h)
			missing &= ~reg_of(h, w->reg);
		if (missing) {
			missing_feature(w, missing, errp);
			return false;
		}
	}
	return true;
}

/* Bits of an APIC id that tell apart n CPUs in one package. */
static uint32_t apic_id_bits(unsigned int n)
{
	uint32_t bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

/* One package of nvcpus cores with one thread each. */
static void set_topology(struct kvm_cpuid_entry2 *e, unsigned int index, unsigned int nvcpus)
{
	uint32_t bits = apic_id_bits(nvcpus);

	switch (e->function) {
	case 0x1:
		e->ebx = (e->ebx & 0x0000ffff) | index << 24 | nvcpus << 16;
		e->edx = nvcpus > 1 ? e->edx | 1u << 28 : e->edx & ~(1u << 28);
		break;
	case 0x4:
		if (e->eax & 0x1f)
			e->eax = (e->eax & 0x3fff) | ((1u << bits) - 1) << 26;
		break;
	case 0xb:
	case 0x1f:
		e->edx = index;
		e->eax = e->index == 1 ? bits : 0;
		e->ebx = e->index == 0 ? 1 : e->index == 1 ? nvcpus : 0;
		e->ecx = e->index | (e->index == 0 ? 1u << 8 : e->index == 1 ? 2u << 8 : 0);
		break;
	case 0x80000008: /* AMD: cores in the package, bits of the id that tell them apart */
		e->ecx = (e->ecx & ~0xf0ffu) | bits << 12 | (nvcpus - 1);
		break;
	case 0x8000001e:
		e->eax = index;
		e->ebx = index & 0xff;
		e->ecx = 0;
		break;
	}
}

bool cpuid_apply(struct vcpu *vcpu, struct error **errp)
{
	const struct kvm_cpuid2 *table = vcpu->vm->cpuid;
	size_t size = sizeof(*table) + table->nent * sizeof(table->entries[0]);
	scoped_free struct kvm_cpuid2 *own = xcalloc(1, size);

	memcpy(own, table, size);
	for (uint32_t i = 0; i < own->nent; i++)
		set_topology(&own->entries[i], vcpu->index, vcpu->vm->nvcpus_total);
	return vcpu_ioctl(vcpu, KVM_SET_CPUID2, own, "KVM_SET_CPUID2", errp);
}
