/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/app/analyze.h"
#include "vmm/app/app.h"
#include "vmm/app/backup.h"
#include "vmm/app/migrate.h"
#include "vmm/app/options.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"

#define EXIT_WRONG_USAGE 2

static void print_line(enum log_level level, const char *line)
{
	(void)level;
	fprintf(stderr, "ferry: %s\n", line);
}

static int wrong_usage(const char *command, struct error *err)
{
	fprintf(stderr, "ferry: %s: %s\nTry 'ferry %s --help'.\n", command, error_msg(err),
		command);
	return EXIT_WRONG_USAGE;
}

static int main_run(int argc, char **argv)
{
	struct run_options opts;
	scoped_error err = NULL;

	int status = 0;

	switch (options_parse_run(argc, argv, &opts, &err)) {
	case OPTIONS_DONE:
		break;
	case OPTIONS_WRONG:
		status = wrong_usage("run", err);
		break;
	case OPTIONS_OK:
		log_set_sink(print_line, opts.verbose ? LOG_DEBUG : LOG_INFO);
		status = app_run(&opts);
		break;
	}
	options_release_run(&opts);
	return status;
}

static int main_migrate(int argc, char **argv)
{
	struct migrate_options opts;
	scoped_error err = NULL;

	switch (options_parse_migrate(argc, argv, &opts, &err)) {
	case OPTIONS_DONE:
		return 0;
	case OPTIONS_WRONG:
		return wrong_usage("migrate", err);
	case OPTIONS_OK:
		break;
	}
	return migrate_run(&opts);
}

static int main_backup(int argc, char **argv)
{
	struct backup_cli_options opts;
	scoped_error err = NULL;

	switch (options_parse_backup(argc, argv, &opts, &err)) {
	case OPTIONS_DONE:
		return 0;
	case OPTIONS_WRONG:
		return wrong_usage("backup", err);
	case OPTIONS_OK:
		break;
	}
	return backup_run(&opts);
}

/* No options: everything is printed. */
static int main_describe_state(int argc, char **argv)
{
	json_t *json;
	int failed;

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		options_print_describe_state_help(stdout);
		return 0;
	}
	if (argc > 1) {
		scoped_error err = NULL;

		error_set(&err, "'%s': unexpected", argv[1]);
		return wrong_usage("describe-state", err);
	}
	json = machine_describe_state();
	failed = json_dumpf(json, stdout, JSON_INDENT(2)) || putchar('\n') == EOF || fflush(stdout);
	json_decref(json);
	if (failed)
		fprintf(stderr, "ferry: describe-state: cannot write: %s\n", strerror(errno));
	return failed ? 1 : 0;
}

static int main_analyze(int argc, char **argv)
{
	struct analyze_options opts;
	scoped_error err = NULL;

	switch (options_parse_analyze(argc, argv, &opts, &err)) {
	case OPTIONS_DONE:
		return 0;
	case OPTIONS_WRONG:
		return wrong_usage("analyze", err);
	case OPTIONS_OK:
		break;
	}
	return analyze_run(&opts);
}

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} subcommands[] = {
	{ "run", main_run },	     { "migrate", main_migrate },
	{ "backup", main_backup },   { "describe-state", main_describe_state },
	{ "analyze", main_analyze },
};

int main(int argc, char **argv)
{
	log_set_sink(print_line, LOG_INFO);
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		options_print_help(stdout);
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("ferry %s\n", FERRY_VERSION);
		return 0;
	}
	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(subcommands); i++)
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return subcommands[i].main(argc - 1, argv + 1);
	if (argc > 1)
		fprintf(stderr, "ferry: '%s' is not a command\n", argv[1]);
	options_print_help(stderr);
	return EXIT_WRONG_USAGE;
}
