/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a guest is let in only where the host has every feature that the guest has seen, and a
 * refusal names one.
 *
 * How: tables made by hand, with one thing missing each; and, where there is /dev/kvm, this host
 * against itself.
 */
#include "tests/unit/kvm_support.h"
#include "vmm/kvm/cpuid.h"

SUITE(cpuid);

#define ENTRIES 8

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid2 *t, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = &t->entries[t->nent++];

	cr_assert_leq(t->nent, ENTRIES);
	*e = (struct kvm_cpuid_entry2){ .function = function, .index = index };
	if (function == 7 || function == 0xd)
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	return e;
}

static void set_vendor(struct kvm_cpuid_entry2 *e, const char *text)
{
	memcpy(&e->ebx, text, 4);
	memcpy(&e->edx, text + 4, 4);
	memcpy(&e->ecx, text + 8, 4);
}

/* A CPU with sse3, avx and xsave; avx2 and erms; the XCR0 bits for them; and nothing else. */
static struct kvm_cpuid2 *make(void)
{
	struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + ENTRIES * sizeof(t->entries[0]));

	set_vendor(add(t, 0, 0), "GenuineFerry");
	add(t, 1, 0)->ecx = 1u << 0 | 1u << 28 | 1u << 26;
	add(t, 7, 0)->ebx = 1u << 5 | 1u << 9;
	add(t, 7, 1)->eax = 1u << 4;
	add(t, 0xd, 0)->eax = 7;
	add(t, 0xd, 1)->eax = 1;
	add(t, 0x80000001, 0)->edx = 1u << 29;
	return t;
}

static struct kvm_cpuid_entry2 *entry(struct kvm_cpuid2 *t, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < t->nent; i++)
		if (t->entries[i].function == function && t->entries[i].index == index)
			return &t->entries[i];
	cr_assert_fail("no such entry");
	return NULL;
}

static void expect_refused(struct kvm_cpuid2 *guest, struct kvm_cpuid2 *host, const char *a,
			   const char *b)
{
	struct error *err = NULL;

	cr_assert_not(cpuid_check(guest, host, &err));
	cr_assert_not_null(err);
	cr_assert_not_null(strstr(err->msg, a), "'%s' has no '%s'", err->msg, a);
	expect_error(err, b);
	free(guest);
	free(host);
}

Test(cpuid, a_host_takes_its_own_guest_and_a_lesser_one)
{
	struct kvm_cpuid2 *guest = make(), *host = make();
	struct error *err = NULL;

	expect_ok(cpuid_check(guest, host, &err), err);
	entry(host, 1, 0)->ecx = UINT32_MAX; /* more than the guest knows of */
	entry(host, 7, 0)->edx = UINT32_MAX;
	expect_ok(cpuid_check(guest, host, &err), err);
	free(guest);
	free(host);
}

Test(cpuid, another_vendor_is_refused)
{
	struct kvm_cpuid2 *guest = make(), *host = make();

	set_vendor(entry(host, 0, 0), "AuthenticAMD");
	expect_refused(guest, host, "GenuineFerry", "AuthenticAMD");
}

/* Each of the three registers counts. */
Test(cpuid, a_vendor_that_differs_in_one_place_is_refused)
{
	static const char *const vendors[] = { "XenuineFerry", "GenuXneFerry", "GenuineFerrX" };

	for (unsigned int i = 0; i < 3; i++) {
		struct kvm_cpuid2 *guest = make(), *host = make();

		set_vendor(entry(host, 0, 0), vendors[i]);
		expect_refused(guest, host, "GenuineFerry", vendors[i]);
	}
}

Test(cpuid, tables_without_a_vendor_are_refused)
{
	struct kvm_cpuid2 *empty = calloc(1, sizeof(*empty));

	expect_refused(empty, make(), "vendor", "GenuineFerry");
	empty = calloc(1, sizeof(*empty));
	expect_refused(make(), empty, "vendor", "GenuineFerry");
}

Test(cpuid, a_missing_feature_is_named)
{
	struct kvm_cpuid2 *guest = make(), *host = make();

	entry(host, 7, 0)->ebx &= ~(1u << 5);
	expect_refused(guest, host, "avx2", "CPUID 0x7.0 EBX bit 5");
	guest = make();
	host = make();
	entry(host, 1, 0)->ecx &= ~(1u << 28);
	expect_refused(guest, host, "avx", "CPUID 0x1.0 ECX bit 28");
	guest = make();
	host = make();
	entry(host, 0x80000001, 0)->edx = 0;
	expect_refused(guest, host, "lm", "CPUID 0x80000001.0 EDX bit 29");
}

Test(cpuid, a_missing_feature_without_a_name_is_named_by_its_place)
{
	struct kvm_cpuid2 *guest = make(), *host = make();

	entry(guest, 7, 1)->eax |= 1u << 30;
	expect_refused(guest, host, "a feature", "CPUID 0x7.1 EAX bit 30");
	guest = make();
	host = make();
	entry(guest, 0xd, 0)->eax |= 1u << 17; /* a part of XCR0 */
	expect_refused(guest, host, "CPUID 0xd.0 EAX bit 17", "host lacks");
	guest = make();
	host = make();
	entry(host, 0xd, 1)->eax = 0;
	expect_refused(guest, host, "CPUID 0xd.1 EAX bit 0", "host lacks");
}

Test(cpuid, more_than_one_is_hinted_at)
{
	struct kvm_cpuid2 *guest = make(), *host = make();

	entry(host, 7, 0)->ebx = 0;
	expect_refused(guest, host, "avx2", "among others");
}

/* A host without the leaf has none of its features. */
Test(cpuid, a_missing_leaf_is_missing_features)
{
	struct kvm_cpuid2 *guest = make(), *host = make();

	add(guest, 0x80000007, 0)->edx = 1u << 8;
	expect_refused(guest, host, "CPUID 0x80000007.0 EDX bit 8", "host lacks");
	guest = make();
	host = make();
	add(guest, 0x80000007, 0); /* with nothing in it: no harm */
	cr_assert(cpuid_check(guest, host, NULL));
	free(guest);
	free(host);
}

/*
 * OSXSAVE and OSPKE follow CR4, "hypervisor" is ours, and the TSC deadline timer is no matter of
 * this table.
 */
Test(cpuid, bits_that_say_nothing_about_the_host_are_not_compared)
{
	struct kvm_cpuid2 *guest = make(), *host = make();
	struct error *err = NULL;

	entry(guest, 1, 0)->ecx |= 1u << 27 | 1u << 31 | 1u << 24;
	entry(guest, 7, 0)->ecx |= 1u << 4;
	expect_ok(cpuid_check(guest, host, &err), err);
	free(guest);
	free(host);
}

Test(cpuid, this_host_takes_the_guests_it_makes)
{
	struct kvm_cpuid2 *guest, *host;
	struct error *err = NULL;
	struct kvm kvm;

	KVM_OR_SKIP(&kvm);
	guest = cpuid_default(&kvm, &err);
	expect_ok(guest, err);
	host = cpuid_supported(&kvm, &err);
	expect_ok(host, err);
	cr_assert(guest->nent > 0 && guest->nent <= CPUID_MAX_ENTRIES);
	expect_ok(cpuid_check(guest, host, &err), err);
	cr_assert(entry(guest, 1, 0)->ecx >> 31, "a guest can tell that it is one");
	cr_assert_not(entry(guest, 1, 0)->ecx >> 5 & 1, "VMX, whose state does not travel");
	cr_assert_not(entry(guest, 0x80000001, 0)->ecx >> 2 & 1, "SVM, likewise");
	entry(host, 1, 0)->edx = 0;
	cr_assert_not(cpuid_check(guest, host, NULL));
	free(guest);
	free(host);
	kvm_close(&kvm);
}
