# SPDX-License-Identifier: GPL-2.0-or-later
#
# ferry. `make` builds build/ferry and the guest payloads; `make check` runs all tests; `make asan` does both under the address and
# undefined-behaviour sanitizers, in build/asan; `make bench` measures; `make install` installs (DESTDIR, PREFIX).
# Lists are explicit: a file that is not named here is not part of ferry. One static library a layer; a test links its
# module's layer and those below, so that a call upwards does not link.

B ?= build
# V=1 shows the commands.
Q := $(if $(V),,@)
silent := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(V)$(silent),@:,@printf '  %-7s %s\n' $(1) $@)
PREFIX ?= /usr/local
VERSION := 0.2.0

CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wvla
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DFERRY_VERSION='"$(VERSION)"' -I. -MMD -MP -pthread \
	$(WARN) $(CFLAGS) $(SMALL_CFLAGS) $(SANITIZE)
# A small file: functions that nobody calls are left out, relocations are packed, and there are no tables for unwinding a stack, which C does
# not do (a debugger has its own). What runs once, not in any loop of a guest's or a migration's, is compiled for size.
ifeq ($(FUZZ)$(SAN),)
SMALL_CFLAGS := -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables
SMALL_LDFLAGS := -Wl,--gc-sections -Wl,-z,pack-relative-relocs
RUN_ONCE := vmm/app vmm/boot
endif
ifdef FUZZ
SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
ifdef SAN
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
# Small libraries that every start needs are linked in, so that starting costs no search for them.
LIBS := -Wl,-Bstatic -lfdt -ljansson -luring -Wl,-Bdynamic -pthread

# --- layers, from the bottom ---

BASE_SRC := vmm/base/bitmap.c vmm/base/disk_bitmap.c vmm/base/error.c vmm/base/hbitmap.c vmm/base/hbitmap_whole.c \
	vmm/base/log.c vmm/base/units.c
KVM_SRC := vmm/kvm/bus.c vmm/kvm/cpuid.c vmm/kvm/dirty_log.c vmm/kvm/irqchip.c vmm/kvm/kvm.c \
	vmm/kvm/loop.c vmm/kvm/memory.c vmm/kvm/reset.c vmm/kvm/runstate.c vmm/kvm/vcpu.c \
	vmm/kvm/vcpu_state.c vmm/kvm/vcpu_tsc.c vmm/kvm/vm.c \
	migration/stream/channel.c migration/stream/section.c migration/stream/stream.c \
	migration/stream/transport.c migration/stream/vmstate.c migration/stream/vmstate_load.c \
	migration/stream/vmstate_describe.c migration/stream/vmstate_list.c \
	migration/stream/vmstate_save.c migration/stream/vmstate_undo.c
DEVICES_SRC := devices/acpi_pm.c devices/debug_exit.c devices/registry.c devices/reset_port.c \
	devices/uart16550.c devices/backend/backup.c devices/backend/backup_target.c devices/backend/block.c devices/backend/block_threads.c \
	devices/backend/block_uring.c devices/backend/chardev.c devices/backend/qcow2.c devices/backend/tap.c \
	devices/virtio/blk.c devices/virtio/console.c devices/virtio/mmio.c devices/virtio/net.c devices/virtio/queue.c \
	devices/virtio/rng.c \
	vmm/boot/acpi.c vmm/boot/aml.c vmm/boot/bzimage.c vmm/boot/devicetree.c \
	vmm/boot/elf_image.c vmm/boot/entry.c vmm/boot/layout.c vmm/boot/loader.c \
	vmm/boot/multiboot.c vmm/boot/pvh.c
MIGRATION_SRC := migration/analyze.c migration/analyze_bitmaps.c migration/analyze_configuration.c migration/analyze_describe.c \
	migration/analyze_fields.c migration/analyze_ram.c \
	migration/configuration.c migration/convergence.c migration/migration.c \
	migration/params.c migration/return_path.c migration/source.c migration/source_ram.c migration/target.c \
	migration/bitmaps/load.c migration/bitmaps/save.c migration/source_bitmaps.c \
	migration/ram/cache.c migration/ram/dirty.c migration/ram/load.c migration/ram/save.c \
	migration/ram/xbzrle.c migration/ram/zero.c
APP_SRC := vmm/app/analyze.c vmm/app/analyze_json.c vmm/app/analyze_text.c vmm/app/backup.c vmm/app/backup_commands.c vmm/app/bitmap_commands.c \
	vmm/app/commands.c vmm/app/control.c vmm/app/device_options.c vmm/app/json_frame.c vmm/app/machine.c vmm/app/migrate.c \
	vmm/app/options.c vmm/app/progress.c vmm/app/qmp_client.c vmm/app/query_devices.c vmm/app/run.c vmm/app/signals.c
MAIN_SRC := vmm/app/main.c

LAYERS := base kvm devices migration app
base_SRC := $(BASE_SRC)
kvm_SRC := $(KVM_SRC)
devices_SRC := $(DEVICES_SRC)
migration_SRC := $(MIGRATION_SRC)
app_SRC := $(APP_SRC)
lib = $(B)/libferry-$(1).a
# In link order: a layer before those it uses.
LIBS_0 = $(call lib,base)
LIBS_1 = $(call lib,kvm) $(LIBS_0)
LIBS_2 = $(call lib,devices) $(LIBS_1)
LIBS_3 = $(call lib,migration) $(LIBS_1)
LIBS_4 = $(call lib,app) $(call lib,migration) $(call lib,devices) $(LIBS_1)

# --- guest payloads: freestanding, built once, without sanitizers ---

G := build/guest
GUEST_CFLAGS := -std=gnu17 -m64 -march=x86-64 -O2 -ffreestanding -fno-pic -no-pie \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -mno-red-zone \
	-mgeneral-regs-only -Wall -Wextra -Werror
GUEST_LDFLAGS := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
	-T guest/guest.ld
GUESTS := hello work timer smp disk
GUEST_ELFS := $(GUESTS:%=$(G)/%.elf)

.PHONY: all tests check unit integration nested coverage asan bench fuzz fuzz-targets seeds install clean format layers guests
all: $(B)/ferry guests
guests: $(GUEST_ELFS)

$(B)/ferry: $(MAIN_SRC:%.c=$(B)/%.o) $(LIBS_4)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(SMALL_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

define layer_rule
$(call lib,$(1)): $$($(1)_SRC:%.c=$(B)/%.o)
	@rm -f $$@
	$$(call say,AR)
	$$(Q)$$(AR) rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call layer_rule,$(l))))

$(foreach d,$(RUN_ONCE),$(eval $(B)/$(d)/%.o: SMALL_CFLAGS += -Os))
$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(G)/%.o: guest/%.c guest/lib.h guest/ferry-guest.h Makefile
	@mkdir -p $(@D)
	$(call say,GUEST)
	$(Q)$(CC) $(GUEST_CFLAGS) -c -o $@ $<
$(G)/%.o: guest/%.S guest/lib.h guest/ferry-guest.h Makefile
	@mkdir -p $(@D)
	$(call say,GUEST)
	$(Q)$(CC) $(GUEST_CFLAGS) -c -o $@ $<
$(G)/%.elf: $(G)/boot.o $(G)/lib.o $(G)/%.o guest/guest.ld
	$(call say,LD)
	$(Q)$(CC) $(GUEST_LDFLAGS) -o $@ $(filter %.o,$^)
$(G)/smp.elf: $(G)/ap.o
.PRECIOUS: $(G)/%.o

# --- tests: each links its module's layer and those below ---

UNIT_0 := bitmap bytes disk_bitmap error hbitmap hbitmap_limits hbitmap_memory hbitmap_parts \
	units
UNIT_1 := bus channel channel_failures clocks cpuid dirty_log loop memory runstate section stream stream_large \
	transport \
	vmstate vmstate_containers vmstate_describe vmstate_hostile vmstate_json vmstate_kinds vmstate_list \
	vmstate_loops vmstate_random vmstate_section
UNIT_2 := acpi acpi_pm backup backup_large block bzimage chardev devicetree devicetree_guest devicetree_virtio loader multiboot \
	pvh uart uart_line \
	virtio_blk virtio_console virtio_irq virtio_mmio virtio_net virtio_queue
UNIT_3 := analyze analyze_bitmaps analyze_hostile cache configuration convergence dirty_bitmap golden params ram ram_dirty xbzrle zero
UNIT_4 := json_frame machine signals
INTEGRATION := analyze backup bitmaps boot cancel cli damage disk doubt ends failures images machines passes pingpong qmp \
	serial state uri
INTEGRATION_PARTS := beats compat image moves proxy qmp side stranger world
unit = $(1:%=$(B)/tests/unit/test_%)
integration = $(1:%=$(B)/tests/integration/test_%)
UNIT_TESTS := $(call unit,$(UNIT_0) $(UNIT_1) $(UNIT_2) $(UNIT_3) $(UNIT_4))
INTEGRATION_TESTS := $(call integration,$(INTEGRATION))
TESTS := $(UNIT_TESTS) $(INTEGRATION_TESTS)
# They have a kernel that only a stock KVM runs.
LINUX_TESTS := $(call integration,linux)
# What is passed on a stock KVM in an emulated machine, besides tests/nested/run: all unit tests that use KVM, and as many of the others
# as there is time for there.
NESTED_TESTS := $(call unit,chardev clocks configuration cpuid dirty_log memory ram_dirty uart uart_line virtio_irq virtio_mmio \
		virtio_queue) \
	$(LINUX_TESTS) $(call integration,boot cli images machines passes uri)

$(call unit,$(UNIT_0)): $(LIBS_0)
$(call unit,$(UNIT_1)): $(LIBS_1)
$(call unit,$(UNIT_2)): $(LIBS_2)
$(call unit,$(UNIT_3)): $(LIBS_3)
$(call unit,$(UNIT_4)): $(LIBS_4)
$(UNIT_TESTS): $(B)/tests/unit/%: $(B)/tests/unit/%.o
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS)

$(INTEGRATION_TESTS) $(LINUX_TESTS): $(B)/tests/integration/%: $(B)/tests/integration/%.o \
		$(INTEGRATION_PARTS:%=$(B)/tests/integration/%.o) $(LIBS_4)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS)

# The first process of a Linux guest: static, for there is nothing else in its file system.
$(B)/tests/nested/init: tests/nested/init.c Makefile
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) -O2 -static -o $@ $<

tests: all $(TESTS) $(LINUX_TESTS) $(B)/tests/fuzz/seeds
unit: tests
	./scripts/run-tests $(UNIT_TESTS)
integration: tests
	FERRY=$(B)/ferry FERRY_GUESTS=$(G) ./scripts/run-tests $(INTEGRATION_TESTS)
check: tests
	FERRY=$(B)/ferry FERRY_GUESTS=$(G) ./scripts/run-tests $(TESTS)
coverage:
	./scripts/coverage
nested: tests $(B)/tests/nested/init
	./scripts/nested-tests '*' $(NESTED_TESTS)
asan:
	$(MAKE) B=build/asan SAN=1 check

# --- fuzz targets: built with clang by scripts/fuzz, in build/fuzz; their seed corpora are written by tests/fuzz/seeds.c. Objects
# are linked before the libraries: what they define (the line's other end, KVM's ioctl) stands in for ferry's own. ---

FUZZ_TARGETS := analyze bitmaps configuration devicetree hbitmap images messages qmp ram sections stream virtio vmstate xbzrle
FUZZ_PROGRAMS := $(FUZZ_TARGETS:%=$(B)/tests/fuzz/fuzz_%)
fuzz_part = $(1:%=$(B)/tests/fuzz/%.o)
$(FUZZ_PROGRAMS): $(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(call fuzz_part,memory) $(LIBS_4)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
$(B)/tests/fuzz/fuzz_configuration $(B)/tests/fuzz/fuzz_images: $(call fuzz_part,kvm)
$(B)/tests/fuzz/fuzz_vmstate: $(call fuzz_part,gadget)
$(B)/tests/fuzz/fuzz_sections $(B)/tests/fuzz/fuzz_stream $(B)/tests/fuzz/fuzz_virtio: $(call fuzz_part,kvm machine)
$(B)/tests/fuzz/seeds: $(call fuzz_part,seeds memory kvm machine gadget) $(LIBS_4)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

fuzz-targets: $(FUZZ_PROGRAMS)
fuzz:
	./scripts/fuzz $(or $(SECONDS),60) $(TARGETS)
seeds: $(B)/tests/fuzz/seeds
	$(B)/tests/fuzz/seeds tests/fuzz/corpus

# --- bench: beside QEMU in the same run; micro: single functions ---

BENCH_PARTS := bench copy move moving process qmp serial starting table
$(B)/bench/bench: $(BENCH_PARTS:%=$(B)/bench/%.o)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/bench/bare: $(B)/bench/bare.o
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^
$(B)/bench/micro: $(B)/bench/micro.o $(B)/bench/bitmaps.o $(B)/bench/marking.o $(B)/bench/saving.o $(B)/bench/table.o $(LIBS_3)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

bench: all $(B)/bench/bench $(B)/bench/bare $(B)/bench/micro
	$(B)/bench/micro
	$(B)/bench/bench $(B)/ferry $(G)

install: all
	install -D -m 755 $(B)/ferry $(DESTDIR)$(PREFIX)/bin/ferry
	install -D -m 644 docs/ferry.1 $(DESTDIR)$(PREFIX)/share/man/man1/ferry.1

clean:
	rm -rf build

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

layers:
	./scripts/check-layers

-include $(shell find $(B) -name '*.d' 2>/dev/null)
