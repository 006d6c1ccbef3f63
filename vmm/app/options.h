/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Command lines: what was asked for, checked, and the help texts. */
#ifndef FERRY_APP_OPTIONS_H
#define FERRY_APP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/app/device_options.h"
#include "vmm/base/error.h"

struct run_options {
	const char *kernel, *initrd, *cmdline;
	uint64_t memory_bytes;
	unsigned int ncpus;
	const char *serial;
	const char *control;  /* the path of unix:PATH; NULL: none */
	const char *incoming; /* a URI or "defer"; NULL: a fresh machine */
	const char *dump_dtb;
	const char *dirty_log;
	bool paused;
	bool reset_on_reset; /* --on-reset reset */
	bool no_acpi;	     /* --acpi off */
	bool verbose;
	struct device_options devices; /* owned; options_release_run() */
};

struct migrate_options {
	const char *control, *uri;
	bool has_bandwidth, has_downtime, has_xbzrle, has_cache, has_bitmaps;
	uint64_t bandwidth, downtime_ms, cache_bytes;
	bool xbzrle, bitmaps;
};

struct analyze_options {
	const char *file;
	const char *section; /* NULL: all */
	bool json, ram;
};

struct backup_cli_options {
	const char *control, *disk, *target;
	const char *bitmap, *format, *backing, *backing_format; /* NULL: not said */
	bool full, partial;
	uint64_t speed; /* 0: no limit */
};

enum options_result { OPTIONS_OK, OPTIONS_DONE, OPTIONS_WRONG };

/* argv[0] is the subcommand. DONE: help was printed, exit 0. WRONG: *errp says why, exit 2. */
enum options_result options_parse_run(int argc, char **argv, struct run_options *opts,
				      struct error **errp);
enum options_result options_parse_migrate(int argc, char **argv, struct migrate_options *opts,
					  struct error **errp);
/* Also after WRONG. */
void options_release_run(struct run_options *opts);
enum options_result options_parse_analyze(int argc, char **argv, struct analyze_options *opts,
					  struct error **errp);
enum options_result options_parse_backup(int argc, char **argv, struct backup_cli_options *opts,
					 struct error **errp);
void options_print_help(FILE *to);
void options_print_describe_state_help(FILE *to);

#endif
