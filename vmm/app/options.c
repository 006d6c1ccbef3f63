/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/app/options.h"

#include <getopt.h>
#include <string.h>

#include "devices/backend/chardev.h"
#include "migration/stream/transport.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/clock.h"
#include "vmm/base/units.h"
#include "vmm/boot/devicetree.h"
#include "vmm/kvm/memory.h"
#include "vmm/kvm/vm.h"

static const char main_help[] =
	"ferry boots a guest on KVM, and moves it to another process while it runs.\n"
	"\n"
	"usage: ferry run --kernel IMAGE [OPTION...]       start a guest\n"
	"       ferry run --incoming URI [OPTION...]       receive one\n"
	"       ferry migrate --control unix:PATH URI      move one\n"
	"       ferry backup --control unix:PATH ...       copy a running guest's disk\n"
	"       ferry describe-state                       what a stream may hold, as JSON\n"
	"       ferry analyze FILE [OPTION...]             show what a migration stream holds\n"
	"       ferry --help | --version | COMMAND --help\n"
	"\n"
	"A URI is unix:PATH, tcp:HOST:PORT, fd:N or file:PATH.\n";

static const char run_help[] =
	"usage: ferry run --kernel IMAGE | --incoming URI [OPTION...]\n"
	"\n"
	"  --kernel IMAGE      a Linux bzImage, an ELF image with a PVH entry, or Multiboot 1\n"
	"  --initrd FILE       the kernel's initrd, or its first module\n"
	"  --cmdline STR       the kernel's command line\n"
	"  --memory SIZE       256M by default; K, M, G, T\n"
	"  --cpus N            1 to 64; 1 by default\n"
	"  --serial WHERE      stdio (default), null, pty, file:PATH, unix:PATH or\n"
	"                      unix:PATH,server; on a terminal Ctrl-A X leaves\n"
	"  --disk FILE[,ro][,id=NAME]\n"
	"                      a virtio disk with a raw image; with --incoming, where the image "
	"of\n"
	"                      the disk NAME is now\n"
	"  --console WHERE[,id=NAME]\n"
	"                      a virtio console; WHERE as for --serial, which stays the first one\n"
	"  --net tap:NAME[,mac=MAC][,id=NAME]\n"
	"                      a virtio network card on a tap; with --incoming, its tap here\n"
	"  --rng               a virtio source of randomness\n"
	"  --acpi on|off       off: the device tree alone tells the guest of its machine\n"
	"  --control unix:PATH listen for QMP clients\n"
	"  --incoming URI      wait for a migration on unix:PATH, tcp:HOST:PORT or fd:N, or start\n"
	"                      from file:PATH; 'defer': QMP migrate-incoming names the URI. The\n"
	"                      machine comes with the stream: no option has to match the source's\n"
	"  --paused            do not start the guest's CPUs; QMP cont does\n"
	"  --on-reset WHAT     when the guest resets itself: exit (default) or reset\n"
	"  --dump-dtb FILE     write the machine's device tree and exit\n"
	"  --dirty-log WAY     auto (default), manual-protect or plain\n"
	"  --verbose           say more on standard error\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage; (v << 1) | 1 after the guest wrote the byte "
	"v\n"
	"to the debug exit port 0xf4.\n";

static const char migrate_help[] =
	"usage: ferry migrate --control unix:PATH URI [OPTION...]\n"
	"\n"
	"Moves the guest behind the control socket to the ferry that waits at URI (unix:PATH,\n"
	"tcp:HOST:PORT, fd:N), or into file:PATH. Shows progress; Ctrl-C cancels, and the guest "
	"runs\n"
	"on where it is.\n"
	"\n"
	"  --bandwidth SIZE    bytes a second at most; 0: no limit (default)\n"
	"  --downtime TIME     the guest may be silent for so long; 300ms by default\n"
	"  --xbzrle on|off     send changed pages as differences; by default where it pays\n"
	"  --cache SIZE        for XBZRLE; 256M by default\n"
	"  --bitmaps on|off    dirty bitmaps of disks travel, too; off by default\n"
	"\n"
	"Exit status: 0 the guest has moved, 1 it has not, 2 wrong usage.\n";

static const char backup_help[] =
	"usage: ferry backup --control unix:PATH --disk ID --target FILE [OPTION...]\n"
	"\n"
	"Copies what the disk ID of the guest behind the control socket holds at this moment into "
	"a new\n"
	"FILE, while the guest goes on and writes. Shows progress; Ctrl-C cancels. FILE has its "
	"name only\n"
	"when it is whole.\n"
	"\n"
	"  --bitmap NAME       only what this dirty bitmap of the disk holds, which then starts "
	"anew with\n"
	"                      this moment; if the backup fails, it has again what it held\n"
	"  --full              with --bitmap: everything. The bitmap starts anew as well, and is "
	"made if\n"
	"                      there is none: the beginning of a chain\n"
	"  --format raw|qcow2  qcow2 for a part of a disk, which raw cannot hold; else raw by "
	"default\n"
	"  --backing FILE      the backup before this one, which holds the rest; a path is seen "
	"from\n"
	"                      where the new FILE is\n"
	"  --backing-format raw|qcow2\n"
	"                      what it is; needed only where its first bytes leave that in doubt\n"
	"  --partial           if a full, raw backup fails or is cancelled, keep what is copied: "
	"the same\n"
	"                      command goes on with it, as of the moment when it is given again\n"
	"  --speed SIZE        bytes a second at most; what the guest is about to overwrite is "
	"copied at\n"
	"                      once all the same\n"
	"\n"
	"Exit status: 0 FILE is there, 1 it is not, 2 wrong usage.\n";

static const char describe_state_help[] = "usage: ferry describe-state\n"
					  "\n"
					  "Prints every section of device state that this build "
					  "writes and loads, as JSON: versions,\n"
					  "fields with their types and sizes on the wire, "
					  "subsections. Two builds whose descriptions\n"
					  "agree can load each other's streams.\n";

static const char analyze_help[] =
	"usage: ferry analyze FILE [OPTION...]\n"
	"\n"
	"Shows what is in FILE, a migration stream as `ferry migrate ... file:FILE` or QEMU writes "
	"it:\n"
	"its sections with their offsets, what RAM took, and the fields of each device.\n"
	"\n"
	"  --json              one JSON document instead of text\n"
	"  --ram               each page's record as well\n"
	"  --section NAME      only sections of that name; NAME/1 or NAME[1]: only that instance\n"
	"\n"
	"Exit status: 0 the stream is whole, 1 it is damaged (at which offset is said), 2 wrong "
	"usage.\n";

void options_print_help(FILE *to)
{
	fputs(main_help, to);
}

void options_print_describe_state_help(FILE *to)
{
	fputs(describe_state_help, to);
}

/* "unix:PATH" -> PATH */
static bool unix_path(const char *text, const char *what, const char **path, struct error **errp)
{
	if (strncmp(text, "unix:", 5) == 0 && text[5]) {
		*path = text + 5;
		return true;
	}
	error_set(errp, "%s: '%s': expected unix:PATH", what, text);
	return false;
}

static bool one_of(const char *text, const char *what, const char *yes, const char *no, bool *value,
		   struct error **errp)
{
	if (strcmp(text, yes) != 0 && strcmp(text, no) != 0) {
		error_set(errp, "%s: '%s': expected %s or %s", what, text, no, yes);
		return false;
	}
	*value = strcmp(text, yes) == 0;
	return true;
}

enum {
	OPT_KERNEL = 256,
	OPT_INITRD,
	OPT_CMDLINE,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_SERIAL,
	OPT_RNG,
	OPT_DISK,
	OPT_CONSOLE,
	OPT_NET,
	OPT_CONTROL,
	OPT_INCOMING,
	OPT_PAUSED,
	OPT_ON_RESET,
	OPT_ACPI,
	OPT_DUMP_DTB,
	OPT_DIRTY_LOG,
	OPT_VERBOSE,
	OPT_HELP,
	OPT_BANDWIDTH,
	OPT_DOWNTIME,
	OPT_XBZRLE,
	OPT_CACHE,
	OPT_BITMAPS,
	OPT_JSON,
	OPT_RAM,
	OPT_SECTION,
	OPT_TARGET,
	OPT_BITMAP,
	OPT_FULL,
	OPT_FORMAT,
	OPT_BACKING,
	OPT_BACKING_FORMAT,
	OPT_PARTIAL,
	OPT_SPEED,
};

static const struct option run_options[] = {
	{ "kernel", required_argument, NULL, OPT_KERNEL },
	{ "initrd", required_argument, NULL, OPT_INITRD },
	{ "cmdline", required_argument, NULL, OPT_CMDLINE },
	{ "memory", required_argument, NULL, OPT_MEMORY },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "serial", required_argument, NULL, OPT_SERIAL },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "net", required_argument, NULL, OPT_NET },
	{ "rng", no_argument, NULL, OPT_RNG },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "incoming", required_argument, NULL, OPT_INCOMING },
	{ "paused", no_argument, NULL, OPT_PAUSED },
	{ "on-reset", required_argument, NULL, OPT_ON_RESET },
	{ "acpi", required_argument, NULL, OPT_ACPI },
	{ "dump-dtb", required_argument, NULL, OPT_DUMP_DTB },
	{ "dirty-log", required_argument, NULL, OPT_DIRTY_LOG },
	{ "verbose", no_argument, NULL, OPT_VERBOSE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

static const struct option migrate_options[] = {
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "bandwidth", required_argument, NULL, OPT_BANDWIDTH },
	{ "downtime", required_argument, NULL, OPT_DOWNTIME },
	{ "xbzrle", required_argument, NULL, OPT_XBZRLE },
	{ "cache", required_argument, NULL, OPT_CACHE },
	{ "bitmaps", required_argument, NULL, OPT_BITMAPS },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

static const struct option backup_options[] = {
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "target", required_argument, NULL, OPT_TARGET },
	{ "bitmap", required_argument, NULL, OPT_BITMAP },
	{ "full", no_argument, NULL, OPT_FULL },
	{ "format", required_argument, NULL, OPT_FORMAT },
	{ "backing", required_argument, NULL, OPT_BACKING },
	{ "backing-format", required_argument, NULL, OPT_BACKING_FORMAT },
	{ "partial", no_argument, NULL, OPT_PARTIAL },
	{ "speed", required_argument, NULL, OPT_SPEED },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

static const struct option analyze_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "ram", no_argument, NULL, OPT_RAM },
	{ "section", required_argument, NULL, OPT_SECTION },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

/* getopt prints nothing itself: its complaint as an error. */
static void wrong_option(int argc, char **argv, const struct option *table, int got,
			 struct error **errp)
{
	const char *arg = optind > 0 && optind <= argc ? argv[optind - 1] : "?";

	(void)table;
	error_set(errp, got == ':' ? "%s: needs a value" : "%s: not an option", arg);
}

static bool parse_memory(const char *text, uint64_t *bytes, struct error **errp)
{
	if (!parse_size(text, "--memory", bytes, errp))
		return false;
	if (*bytes >= MACHINE_MEMORY_MIN && *bytes <= MACHINE_MEMORY_MAX &&
	    *bytes % GUEST_PAGE_SIZE == 0)
		return true;
	error_set(errp, "--memory: '%s': expected 2M to 32T, in pages of 4K", text);
	return false;
}

static bool check_uri(const char *uri, struct error **errp)
{
	struct address *addr = address_parse(uri, errp);

	address_free(addr);
	return addr != NULL;
}

static bool check_dirty_log(const char *name, struct error **errp)
{
	static const char *const names[] = { "auto", "manual-protect", "plain" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	error_set(errp, "--dirty-log: '%s': expected auto, manual-protect or plain", name);
	return false;
}

static bool take_run_option(int opt, struct run_options *o, struct error **errp)
{
	uint64_t n;

	switch (opt) {
	case OPT_KERNEL:
		o->kernel = optarg;
		return true;
	case OPT_INITRD:
		o->initrd = optarg;
		return true;
	case OPT_CMDLINE:
		o->cmdline = optarg;
		return true;
	case OPT_MEMORY:
		return parse_memory(optarg, &o->memory_bytes, errp);
	case OPT_CPUS:
		if (!parse_number(optarg, "--cpus", 1, VM_MAX_VCPUS, &n, errp))
			return false;
		o->ncpus = (unsigned int)n;
		return true;
	case OPT_SERIAL:
		o->serial = optarg;
		return chardev_check_spec(optarg, errp);
	case OPT_DISK:
		return device_options_add(&o->devices, "disk", optarg, errp);
	case OPT_CONSOLE:
		return device_options_add(&o->devices, "console", optarg, errp);
	case OPT_NET:
		return device_options_add(&o->devices, "net", optarg, errp);
	case OPT_RNG:
		return device_options_add(&o->devices, "rng", NULL, errp);
	case OPT_CONTROL:
		return unix_path(optarg, "--control", &o->control, errp);
	case OPT_INCOMING:
		o->incoming = optarg;
		return strcmp(optarg, "defer") == 0 || check_uri(optarg, errp);
	case OPT_PAUSED:
		o->paused = true;
		return true;
	case OPT_ON_RESET:
		return one_of(optarg, "--on-reset", "reset", "exit", &o->reset_on_reset, errp);
	case OPT_ACPI:
		return one_of(optarg, "--acpi", "off", "on", &o->no_acpi, errp);
	case OPT_DUMP_DTB:
		o->dump_dtb = optarg;
		return true;
	case OPT_DIRTY_LOG:
		o->dirty_log = optarg;
		return check_dirty_log(optarg, errp);
	default:
		o->verbose = true;
		return true;
	}
}

/* One device has the terminal. */
static bool check_stdio(const struct run_options *o, struct error **errp)
{
	unsigned int users = strcmp(o->serial, "stdio") == 0;

	for (unsigned int i = 0; i < o->devices.n; i++) {
		const char *console = device_option_console(&o->devices.list[i]);

		users += console && strcmp(console, "stdio") == 0;
	}
	if (users <= 1)
		return true;
	error_set(errp, "stdio can be one device's only: --serial null, for instance, gives it to "
			"a --console");
	return false;
}

static bool check_run(const struct run_options *o, struct error **errp)
{
	if (!o->kernel && !o->incoming)
		error_set(errp, "--kernel IMAGE or --incoming URI is needed");
	else if (o->kernel && o->incoming)
		error_set(errp, "--kernel and --incoming exclude each other: the kernel comes with "
				"the stream");
	else if (o->incoming && (o->initrd || o->dump_dtb))
		error_set(errp, "--incoming: the machine comes with the stream; --initrd and "
				"--dump-dtb do not apply");
	else if (o->incoming && strcmp(o->incoming, "defer") == 0 && !o->control)
		error_set(errp, "--incoming defer needs --control, on which the URI will come");
	else
		return check_stdio(o, errp);
	return false;
}

enum options_result options_parse_run(int argc, char **argv, struct run_options *o,
				      struct error **errp)
{
	int opt;

	*o = (struct run_options){
		.cmdline = "", .memory_bytes = UINT64_C(256) << 20, .ncpus = 1, .serial = "stdio"
	};
	optind = 0; /* start anew, whoever called getopt before */
	while ((opt = getopt_long(argc, argv, "+:h", run_options, NULL)) != -1) {
		if (opt == OPT_HELP || opt == 'h') {
			fputs(run_help, stdout);
			return OPTIONS_DONE;
		}
		if (opt == ':' || opt == '?') {
			wrong_option(argc, argv, run_options, opt, errp);
			return OPTIONS_WRONG;
		}
		if (!take_run_option(opt, o, errp))
			return OPTIONS_WRONG;
	}
	if (optind < argc) {
		error_set(errp, "'%s': unexpected", argv[optind]);
		return OPTIONS_WRONG;
	}
	return check_run(o, errp) ? OPTIONS_OK : OPTIONS_WRONG;
}

void options_release_run(struct run_options *o)
{
	device_options_release(&o->devices);
}

static bool take_migrate_option(int opt, struct migrate_options *o, struct error **errp)
{
	uint64_t ns;

	switch (opt) {
	case OPT_CONTROL:
		return unix_path(optarg, "--control", &o->control, errp);
	case OPT_BANDWIDTH:
		o->has_bandwidth = true;
		return parse_size(optarg, "--bandwidth", &o->bandwidth, errp);
	case OPT_DOWNTIME:
		if (!parse_duration(optarg, "--downtime", &ns, errp))
			return false;
		o->has_downtime = true;
		o->downtime_ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
		return true;
	case OPT_XBZRLE:
		o->has_xbzrle = true;
		return one_of(optarg, "--xbzrle", "on", "off", &o->xbzrle, errp);
	case OPT_BITMAPS:
		o->has_bitmaps = true;
		return one_of(optarg, "--bitmaps", "on", "off", &o->bitmaps, errp);
	default:
		o->has_cache = true;
		return parse_size(optarg, "--cache", &o->cache_bytes, errp);
	}
}

enum options_result options_parse_migrate(int argc, char **argv, struct migrate_options *o,
					  struct error **errp)
{
	int opt;

	*o = (struct migrate_options){ 0 };
	optind = 0;
	while ((opt = getopt_long(argc, argv, ":h", migrate_options, NULL)) != -1) {
		if (opt == OPT_HELP || opt == 'h') {
			fputs(migrate_help, stdout);
			return OPTIONS_DONE;
		}
		if (opt == ':' || opt == '?') {
			wrong_option(argc, argv, migrate_options, opt, errp);
			return OPTIONS_WRONG;
		}
		if (!take_migrate_option(opt, o, errp))
			return OPTIONS_WRONG;
	}
	if (optind + 1 == argc)
		o->uri = argv[optind];
	if (o->uri && o->control)
		return check_uri(o->uri, errp) ? OPTIONS_OK : OPTIONS_WRONG;
	if (optind + 1 < argc)
		error_set(errp, "'%s': unexpected", argv[optind + 1]);
	else
		error_set(errp, !o->control ? "--control unix:PATH is needed"
					    : "a URI is needed: where the guest is to go");
	return OPTIONS_WRONG;
}

static bool take_backup_option(int opt, struct backup_cli_options *o, struct error **errp)
{
	switch (opt) {
	case OPT_CONTROL:
		return unix_path(optarg, "--control", &o->control, errp);
	case OPT_DISK:
		o->disk = optarg;
		return true;
	case OPT_TARGET:
		o->target = optarg;
		return true;
	case OPT_BITMAP:
		o->bitmap = optarg;
		return true;
	case OPT_FULL:
		o->full = true;
		return true;
	case OPT_PARTIAL:
		o->partial = true;
		return true;
	case OPT_FORMAT:
		o->format = optarg;
		return one_of(optarg, "--format", "raw", "qcow2", &(bool){ false }, errp);
	case OPT_BACKING:
		o->backing = optarg;
		return true;
	case OPT_BACKING_FORMAT:
		o->backing_format = optarg;
		return one_of(optarg, "--backing-format", "raw", "qcow2", &(bool){ false }, errp);
	default:
		return parse_size(optarg, "--speed", &o->speed, errp);
	}
}

static bool check_backup(const struct backup_cli_options *o, struct error **errp)
{
	const char *needed = !o->control  ? "--control unix:PATH"
			     : !o->disk	  ? "--disk ID"
			     : !o->target ? "--target FILE"
					  : NULL;
	bool part = (o->bitmap && !o->full) || o->backing;

	if (needed)
		error_set(errp, "%s is needed", needed);
	else if (part && o->format && strcmp(o->format, "raw") == 0)
		error_set(errp, "--format: 'raw' cannot hold a part of a disk: expected qcow2");
	else if (o->backing_format && !o->backing)
		error_set(errp, "--backing-format: --backing FILE is needed");
	else if (o->partial && (part || (o->format && strcmp(o->format, "qcow2") == 0)))
		error_set(errp, "--partial: is for full backups in format raw");
	else
		return true;
	return false;
}

enum options_result options_parse_backup(int argc, char **argv, struct backup_cli_options *o,
					 struct error **errp)
{
	int opt;

	*o = (struct backup_cli_options){ 0 };
	optind = 0;
	while ((opt = getopt_long(argc, argv, "+:h", backup_options, NULL)) != -1) {
		if (opt == OPT_HELP || opt == 'h') {
			fputs(backup_help, stdout);
			return OPTIONS_DONE;
		}
		if (opt == ':' || opt == '?') {
			wrong_option(argc, argv, backup_options, opt, errp);
			return OPTIONS_WRONG;
		}
		if (!take_backup_option(opt, o, errp))
			return OPTIONS_WRONG;
	}
	if (optind < argc) {
		error_set(errp, "'%s': unexpected", argv[optind]);
		return OPTIONS_WRONG;
	}
	return check_backup(o, errp) ? OPTIONS_OK : OPTIONS_WRONG;
}

enum options_result options_parse_analyze(int argc, char **argv, struct analyze_options *o,
					  struct error **errp)
{
	int opt;

	*o = (struct analyze_options){ 0 };
	optind = 0;
	while ((opt = getopt_long(argc, argv, ":h", analyze_options, NULL)) != -1) {
		if (opt == OPT_HELP || opt == 'h') {
			fputs(analyze_help, stdout);
			return OPTIONS_DONE;
		}
		if (opt == ':' || opt == '?') {
			wrong_option(argc, argv, analyze_options, opt, errp);
			return OPTIONS_WRONG;
		}
		o->json |= opt == OPT_JSON;
		o->ram |= opt == OPT_RAM;
		if (opt == OPT_SECTION)
			o->section = optarg;
	}
	if (optind + 1 == argc) {
		o->file = argv[optind];
		return OPTIONS_OK;
	}
	if (optind < argc)
		error_set(errp, "'%s': unexpected", argv[optind + 1]);
	else
		error_set(errp, "a FILE is needed: the stream to look at");
	return OPTIONS_WRONG;
}
