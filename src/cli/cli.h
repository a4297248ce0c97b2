/* SPDX-License-Identifier: MIT */
/*
 * What the verbs of the command line share: the verb table's entry, exit statuses, error lines.
 *
 * Every error is one line on stderr, "weir: VERB: what is wrong; what to do".
 */
#pragma once

#include <stdio.h>

#include "base/types.h"
#include "cli/options.h"

enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1, /* probe: weir run cannot work here; any verb: output could not be written */
	CLI_USAGE = 2,
	/* `weir run` keeps away from the statuses of the command it runs, as env(1) and timeout(1) do. */
	CLI_RUN_FAILED = 125, /* weir itself: usage, or the machine does not allow it */
	CLI_RUN_CANNOT = 126, /* the command was found, but cannot be run or managed */
	CLI_RUN_NOT_FOUND = 127,
};

struct verb {
	const char *name;
	const char *help; /* one line for `weir help` */
	const char *synopsis; /* what follows the name in the usage line */
	const char *details; /* printed under the options by --help */
	const struct option_spec *options;
	int usage_status; /* exit status when the options are wrong */
	bool takes_command; /* words may follow the options */
	bool parses_itself; /* the function gets all words after the verb, options too */
	/* argv holds what follows the options, NULL-ended. Returns the exit status. */
	int (*function)(int argc, char **argv);
};

extern const struct verb verb_run;
extern const struct verb verb_swapon;
extern const struct verb verb_swapoff;
extern const struct verb verb_probe;
extern const struct verb verb_race;
extern const struct verb verb_bench;
extern const struct verb verb_check;

/* argv[0] stands for the verb, and all of its words follow. Returns the exit status. */
int cli_run_verb(const struct verb *verb, int argc, char **argv);
int cli_print_verb_help(const struct verb *verb);

/* Prints the line and returns `status`. verb may be NULL. Control characters are printed as '?'. */
int cli_error(int status, const char *verb, const char *fmt, ...) printf_like(3, 4);

/* Flushes stdout; a full disk or closed pipe there turns CLI_OK into CLI_FAILED. */
int cli_finish(int status, const char *verb);
