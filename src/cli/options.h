/* SPDX-License-Identifier: MIT */
/*
 * Options as data: one table per verb serves parsing, --help and error texts.
 *
 * "--name VALUE" and "--name=VALUE" are both accepted. Options end at "--" or at the first word that does not begin
 * with '-', so that the command's own options stay its own. Of a repeated option the last one counts, but for lists.
 */
#pragma once

#include <stdio.h>

#include "base/types.h"

enum option_kind {
	OPTION_FLAG, /* bool */
	OPTION_SIZE, /* u64, bytes */
	OPTION_COUNT, /* u64, a plain number */
	OPTION_DURATION, /* u64, nanoseconds; "90" means seconds */
	OPTION_STRING, /* const char * */
	OPTION_LIST, /* struct option_list: one more each time */
	OPTION_CHOICE, /* int: index into choices */
};

enum { OPTION_LIST_MAX = 4 };

struct option_list {
	const char *item[OPTION_LIST_MAX];
	int nr;
};

struct option_spec {
	const char *name; /* without the dashes; NULL ends a table */
	enum option_kind kind;
	const char *argument; /* its name in help, e.g. "SIZE"; CHOICE lists its choices instead */
	const char *help;
	void *value; /* of the kind's type, set to the default beforehand */
	u64 min, max; /* SIZE, COUNT, DURATION: smallest and (unless 0) largest accepted */
	const char *const *choices; /* CHOICE: NULL-ended */
	const char *bare; /* CHOICE: what the option means without "=VALUE"; NULL where a value is required */
};

struct options_parsed {
	int first; /* index in argv of the first word after the options */
	bool help; /* --help or -h was seen; parsing stopped there */
	char error[256]; /* one line, if -EINVAL was returned */
};

/* argv[0] is the verb. 0 or -EINVAL. */
int must_check options_parse(const struct option_spec *options, int argc, char **argv, struct options_parsed *parsed);

void options_print(const struct option_spec *options, FILE *out);
