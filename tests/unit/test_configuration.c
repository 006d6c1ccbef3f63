/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what a source says of its machine arrives as it was said; counts and names from a stranger
 * are checked before anything is made of them; a host takes its own guests and says which part of
 * another's it lacks.
 *
 * How: structs filled by hand go through a memory channel; the bytes are cut, flipped and forged.
 * What asks KVM is skipped where there is none. (The bytes themselves: test_golden.c.)
 */
#include "migration/configuration.h"
#include "migration/stream/protocol.h"
#include "tests/unit/kvm_support.h"
#include "vmm/base/bytes.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vcpu_state.h"

#define SEED 0x5eed0107

/* A configuration of these counts, filled with noise. */
static struct configuration make(struct prng *rng, uint32_t fdt, uint32_t ncpuid, uint32_t nmsrs)
{
	struct configuration cfg = { .name_bytes = 7,
				     .name = (uint8_t *)strdup("ferry-1"),
				     .offers = prng_next(rng),
				     .fdt_bytes = fdt,
				     .fdt = malloc(fdt + 1),
				     .ncpuid = ncpuid,
				     .cpuid = calloc(ncpuid + 1, sizeof(*cfg.cpuid)),
				     .nmsrs = nmsrs,
				     .msrs = calloc(nmsrs + 1, sizeof(*cfg.msrs)),
				     .tsc_khz = (uint32_t)prng_next(rng) };

	prng_fill(rng, cfg.fdt, fdt);
	prng_fill(rng, cfg.cpuid, ncpuid * sizeof(*cfg.cpuid));
	prng_fill(rng, cfg.msrs, nmsrs * sizeof(*cfg.msrs));
	return cfg;
}

/* The bytes of cfg, which is released; without the type byte. To be freed. */
static uint8_t *bytes_of_configuration(struct configuration *cfg, size_t *len)
{
	struct channel *ch = channel_memory();
	struct stream_out *out = stream_out_new(ch);
	struct error *err = NULL;
	const uint8_t *have;
	uint8_t *copy;

	expect_ok(configuration_save(cfg, out, NULL, &err), err);
	cr_assert(stream_flush(out));
	have = channel_memory_data(ch, len);
	cr_assert_eq(have[0], SECTION_CONFIGURATION);
	copy = malloc(--*len);
	memcpy(copy, have + 1, *len);
	stream_out_free(out);
	channel_free(ch);
	configuration_release(cfg);
	return copy;
}

static bool load(struct configuration *cfg, const uint8_t *data, size_t len, struct error **errp)
{
	struct channel *ch = channel_memory();
	struct stream_in *in = stream_in_new(ch);
	struct iovec iov = { (void *)data, len };
	bool ok;

	cr_assert(!len || channel_writev(ch, &iov, 1, NULL));
	ok = configuration_load(cfg, in, errp);
	cr_assert_eq(ok, !*errp);
	cr_assert(ok || strncmp((*errp)->msg, "configuration", 13) == 0, "%s", error_msg(*errp));
	stream_in_free(in);
	channel_free(ch);
	return ok;
}

static void expect_same(const struct configuration *a, const struct configuration *b)
{
	cr_assert_str_eq((const char *)a->name, (const char *)b->name);
	cr_assert(a->name_bytes == b->name_bytes && a->offers == b->offers);
	cr_assert(a->fdt_bytes == b->fdt_bytes && !memcmp(a->fdt, b->fdt, a->fdt_bytes));
	cr_assert(a->ncpuid == b->ncpuid &&
		  !memcmp(a->cpuid, b->cpuid, a->ncpuid * sizeof(*a->cpuid)));
	cr_assert(a->nmsrs == b->nmsrs && !memcmp(a->msrs, b->msrs, a->nmsrs * sizeof(*a->msrs)));
	cr_assert_eq(a->tsc_khz, b->tsc_khz);
}

Test(configuration, it_arrives_as_it_was_sent)
{
	/* fdt, cpuid, msrs: nothing, something, and the most that there may be */
	static const uint32_t counts[][3] = { { 0, 0, 0 },
					      { 1, 1, 1 },
					      { 900, 40, 80 },
					      { 65536, CPUID_MAX_ENTRIES, VCPU_MSRS_MAX } };

	for (size_t i = 0; i < 8; i++) {
		const uint32_t *c = counts[i / 2];
		struct prng rng = { SEED + i }, again = { SEED + i };
		struct configuration cfg = make(&rng, c[0], c[1], c[2]);
		struct configuration want = make(&again, c[0], c[1], c[2]), got;
		struct error *err = NULL;
		uint8_t *data;
		size_t len;

		if (i % 2) /* no offers: the subsection is left out */
			cfg.offers = want.offers = 0;
		data = bytes_of_configuration(&cfg, &len);
		expect_ok(load(&got, data, len, &err), err);
		expect_same(&got, &want);
		cr_assert(got.has_devicetree && got.has_cpu);
		configuration_release(&got);
		configuration_release(&want);
		cr_assert_null(got.name, "released, and empty");
		free(data);
	}
}

#define NAME "00 00 00 01 78 "
#define CPU "05 11 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 63 70 75 00 00 00 01 "
#define OFFERS "05 14 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 6f 66 66 65 72 73 00 00 00 01 "
#define TREE                                                                                      \
	"05 18 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 64 65 76 69 63 65 74 72 65 65 00 00 00 " \
	"01 "

/* Each stream ends right behind the lie: who believes it would complain of the end instead. */
Test(configuration, lies_are_refused_before_more_is_read)
{
	static const struct {
		const char *hex, *error;
	} bad[] = {
		{ "00 00 00 80", "configuration.name: 128 elements, at most 127" },
		{ "ff ff ff ff", "configuration.name: 4294967295 elements" },
		{ NAME TREE "00 01 00 01", "(configuration/devicetree).fdt: 65537 elements" },
		{ NAME TREE "ff ff ff ff", "(configuration/devicetree).fdt: 4294967295 elements" },
		{ NAME CPU "00 00 01 01", "(configuration/cpu).cpuid: 257 elements, at most 256" },
		{ NAME CPU "ff ff ff ff", "(configuration/cpu).cpuid: 4294967295 elements" },
		{ NAME CPU "00 00 00 00 ff ff ff ff", "(configuration/cpu).msrs: 4294967295 el" },
		{ NAME CPU "00 00 00 00 00 00 00 00 00", ".tsc_khz: " },
		{ NAME CPU "00 00 00 01 00 00 00 01", ".cpuid[0].index: " },
		{ NAME "05 11 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 63 70 75 00 00 00 02",
		  "(configuration/cpu): version 2 is too new" },
		{ NAME "05 13 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 64 69 73 6b 73 00 00 00 01",
		  "subsection 'configuration/disks' is not known" },
		{ NAME "05 0e 63 6f 6e 66 69 67 75 72 61 74 69 6f 6e 2f 00 00 00 01",
		  "subsection 'configuration/' is not known" },
		{ "00 00 00 02 78", ".name: " },
		{ "", ".name_bytes: " },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct configuration cfg;
		struct error *err = NULL;
		uint8_t data[128];
		size_t len = bytes_of(bad[i].hex, data, sizeof(data));

		cr_assert_not(load(&cfg, data, len, &err), "'%s' was loaded", bad[i].hex);
		expect_error(err, bad[i].error);
		configuration_release(&cfg);
	}
}

Test(configuration, what_is_left_out_is_told)
{
	struct configuration cfg;
	struct error *err = NULL;
	uint8_t data[128];

	expect_ok(load(&cfg, data, bytes_of(NAME, data, sizeof(data)), &err), err);
	cr_assert_str_eq((const char *)cfg.name, "x");
	cr_assert(!cfg.has_devicetree && !cfg.has_cpu && cfg.offers == 0);
	configuration_release(&cfg);
	expect_ok(load(&cfg, data, bytes_of(NAME TREE "00 00 00 01 aa", data, 128), &err), err);
	cr_assert(cfg.has_devicetree && !cfg.has_cpu && cfg.fdt[0] == 0xaa);
	configuration_release(&cfg);
	/* Said twice, the last word counts, and the first one is not leaked. */
	expect_ok(load(&cfg, data,
		       bytes_of(NAME TREE "00 00 00 01 aa" TREE "00 00 00 02 bb cc", data, 128),
		       &err),
		  err);
	cr_assert(cfg.fdt_bytes == 2 && cfg.fdt[0] == 0xbb);
	configuration_release(&cfg);
}

/* Nothing of a configuration that fails is kept but what its sender offers: it may want to hear why. */
Test(configuration, the_offers_are_heard_though_the_rest_fails)
{
	struct configuration cfg;
	struct error *err = NULL;
	uint8_t data[128];
	size_t len = bytes_of(NAME OFFERS "00 00 00 00 00 00 00 03" TREE "00 01 00 01", data,
			      sizeof(data));

	cr_assert_not(load(&cfg, data, len, &err));
	expect_error(err, "(configuration/devicetree).fdt");
	cr_assert_eq(cfg.offers_heard, 3);
	cr_assert(!cfg.name && cfg.offers == 0);
	configuration_release(&cfg);
}

/* Cut anywhere, flipped anywhere: loaded or refused, but never a crash, and nothing leaks. */
Test(configuration, damaged_streams_are_no_danger)
{
	struct prng rng = { SEED };
	struct configuration cfg = make(&rng, 20, 3, 5), got;
	unsigned int refused = 0;
	size_t len;
	uint8_t *data = bytes_of_configuration(&cfg, &len);

	for (size_t cut = 0; cut < len; cut++) {
		struct error *err = NULL;

		if (load(&got, data, cut, &err))
			cr_assert(!got.has_cpu, "cut at %zu of %zu, and yet complete", cut, len);
		error_free(err);
		configuration_release(&got);
	}
	for (size_t bit = 0; bit < len * 8; bit++) {
		struct error *err = NULL;

		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		refused += !load(&got, data, len, &err);
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		error_free(err);
		configuration_release(&got);
	}
	cr_assert_gt(refused, 300, "%u of %zu flips were refused", refused, len * 8);
	free(data);
}

Test(configuration, the_cpuid_table_in_kvms_form)
{
	struct prng rng = { SEED };
	struct configuration cfg = make(&rng, 1, 3, 1);
	struct kvm_cpuid2 *table = configuration_cpuid_table(&cfg);

	cr_assert_eq(table->nent, 3);
	for (uint32_t i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];
		const struct configuration_cpuid *c = &cfg.cpuid[i];

		cr_assert(e->function == c->function && e->index == c->index &&
			  e->flags == c->flags);
		cr_assert(e->eax == c->eax && e->ebx == c->ebx && e->ecx == c->ecx &&
			  e->edx == c->edx);
		cr_assert(e->padding[0] == 0 && e->padding[2] == 0);
	}
	free(table);
	configuration_release(&cfg);
}

/* 250 ppm are nothing; more has to be scaled, which this host cannot. */
Test(configuration, the_tscs_frequency)
{
	static const struct {
		uint32_t guest, host;
		bool ok;
	} tries[] = {
		{ 0, 2000000, true },	     { 2000000, 0, true },
		{ 2000000, 2000000, true },  { 2000000, 2000500, true },
		{ 2000000, 1999500, true },  { 2000000, 2000501, false },
		{ 2000000, 1999499, false }, { 4000000000, 4000900000, true },
		{ 4294967295, 1, false },    { 1, 4294967295, false },
	};
	struct vcpu vcpu = { .fd = -1 };
	static struct vm vm;

	vm.nvcpus = 1;
	vm.vcpus[0] = &vcpu;
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct configuration cfg = { .tsc_khz = tries[i].guest };
		struct error *err = NULL;

		vm.tsc_khz = tries[i].host;
		cr_assert_eq(configuration_apply_tsc(&cfg, &vm, &err), tries[i].ok, "%zu: %s", i,
			     error_msg(err));
		if (!tries[i].ok)
			expect_error(err, "cannot be scaled");
		cr_assert_eq(vm.tsc_khz, tries[i].host);
	}
}

/* --- with KVM --- */

Test(configuration, a_host_takes_its_own_guests)
{
	static const uint8_t fdt[] = { 1, 2, 3 };
	struct configuration cfg, got;
	struct error *err = NULL;
	static struct vm vm;
	uint8_t *data;
	size_t len;

	KVM_OR_SKIP(&vm.kvm);
	vm.cpuid = cpuid_default(&vm.kvm, &err);
	vm.tsc_khz = 12345;
	expect_ok(vm.cpuid, err);
	expect_ok(configuration_gather(&cfg, &vm, "ferry-1", fdt, sizeof(fdt), &err), err);
	cr_assert(cfg.name_bytes == 7 && !memcmp(cfg.name, "ferry-1", 7));
	cr_assert(cfg.fdt_bytes == 3 && cfg.fdt != fdt && !memcmp(cfg.fdt, fdt, 3));
	cr_assert(cfg.ncpuid == vm.cpuid->nent && cfg.nmsrs > 0 && cfg.tsc_khz == 12345);
	data = bytes_of_configuration(&cfg, &len);
	expect_ok(load(&got, data, len, &err), err);
	expect_ok(configuration_check_host(&got, &vm.kvm, &err), err);
	got.msrs[got.nmsrs - 1] = 0xdeadbeef;
	cr_assert_not(configuration_check_host(&got, &vm.kvm, &err));
	expect_error(err, "MSR 0xdeadbeef");
	for (uint32_t i = 0; i < got.ncpuid; i++)
		if (got.cpuid[i].function == 0)
			got.cpuid[i].ebx ^= 0x01010101;
	cr_assert_not(configuration_check_host(&got, &vm.kvm, &err));
	expect_error(err, "CPU vendor");
	configuration_release(&got);
	free(data);
	free(vm.cpuid);
	kvm_close(&vm.kvm);
}
