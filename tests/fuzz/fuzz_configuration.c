/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CONFIGURATION with its subsections, and what is asked of it before a machine is built. Saved again, it loads the same. */
#include "migration/configuration.h"
#include "migration/stream/protocol.h"
#include "tests/fuzz/fuzz.h"

static void expect_bounds(const struct configuration *cfg)
{
	MUST(cfg->name_bytes <= STREAM_NAME_MAX && cfg->name[cfg->name_bytes] == '\0');
	MUST(!cfg->has_devicetree || (cfg->fdt && cfg->fdt_bytes <= (64u << 10)));
	MUST(!cfg->has_cpu || (cfg->nmsrs <= VCPU_MSRS_MAX && cfg->ncpuid <= 256));
}

static void save(struct configuration *cfg, struct writer *w)
{
	struct error *err = NULL;
	bool ok;

	writer_open(w);
	ok = configuration_save(cfg, w->out, NULL, &err);
	MUST(ok);
	expect_outcome(ok, err);
}

/* save(load(save(cfg))) is save(cfg). */
static void expect_stable(struct configuration *cfg)
{
	struct configuration again;
	struct writer first, second;
	const uint8_t *a, *b;
	size_t na, nb;
	struct reader r;

	save(cfg, &first);
	a = writer_bytes(&first, &na);
	MUST(a[0] == SECTION_CONFIGURATION);
	reader_open(&r, a + 1, na - 1);
	MUST(configuration_load(&again, r.in, NULL));
	MUST(stream_in_at_end(r.in));
	reader_close(&r);
	save(&again, &second);
	b = writer_bytes(&second, &nb);
	MUST(na == nb && !memcmp(a, b, na));
	configuration_release(&again);
	writer_close(&first);
	writer_close(&second);
}

static void ask(const struct configuration *cfg)
{
	struct kvm kvm = { .dev_fd = -1, .vm_fd = -1 };
	struct error *err = NULL;
	struct kvm_cpuid2 *table = configuration_cpuid_table(cfg);
	bool ok = configuration_check_host(cfg, &kvm, &err);

	MUST(table->nent == cfg->ncpuid);
	expect_outcome(ok, err);
	free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct configuration cfg;
	struct error *err = NULL;
	struct reader r;
	bool ok;

	reader_open(&r, data, size);
	ok = configuration_load(&cfg, r.in, &err);
	expect_outcome(ok, err);
	if (ok) {
		expect_bounds(&cfg);
		ask(&cfg);
		expect_stable(&cfg);
	}
	configuration_release(&cfg);
	reader_close(&r);
	return 0;
}
