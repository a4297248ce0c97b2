// SPDX-License-Identifier: MIT
/*
 * The verb table and its dispatch.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "weir.h"

static const struct verb *const verbs[] = {
	&verb_run, &verb_swapon, &verb_swapoff, &verb_probe, &verb_race, &verb_bench, &verb_check,
};

int cli_error(int status, const char *verb, const char *fmt, ...)
{
	char line[PATH_MAX + 512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *c = line; *c; c++) {
		if (iscntrl((unsigned char)*c))
			*c = '?';
	}
	fflush(stdout);
	if (verb)
		fprintf(stderr, "weir: %s: %s\n", verb, line);
	else
		fprintf(stderr, "weir: %s\n", line);
	return status;
}

int cli_finish(int status, const char *verb)
{
	bool failed = ferror(stdout) != 0;

	if (fflush(stdout) == 0 && !failed)
		return status;
	cli_error(0, verb, "cannot write the output: %s", strerror(errno));
	return status == CLI_OK ? CLI_FAILED : status;
}

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	}
	return NULL;
}

int cli_print_verb_help(const struct verb *verb)
{
	printf("usage: weir %s %s\n\n%s.\n\n", verb->name, verb->synopsis, verb->help);
	if (verb->options)
		options_print(verb->options, stdout);
	if (verb->details)
		printf("\n%s", verb->details);
	return cli_finish(CLI_OK, verb->name);
}

static void print_help(FILE *out)
{
	fputs("usage: weir VERB [OPTIONS]\n\n"
	      "Swap in user space: runs programs in less memory than they ask for.\n\n",
	      out);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(out, "  %-8s %s\n", verbs[i]->name, verbs[i]->help);
	fprintf(out, "  %-8s %s\n", "help", "Show this text, or that of a verb: weir help VERB");
	fputs("\n`weir VERB --help` lists a verb's options, `weir --version` shows the version.\n", out);
}

static int unknown_verb(const char *name)
{
	return cli_error(CLI_USAGE, NULL, "unknown verb '%s'; `weir help` lists the verbs", name);
}

static int run_help(int argc, char **argv)
{
	const struct verb *verb;

	if (argc < 2) {
		print_help(stdout);
		return cli_finish(CLI_OK, NULL);
	}
	verb = verb_find(argv[1]);
	if (!verb)
		return unknown_verb(argv[1]);
	return cli_print_verb_help(verb);
}

int cli_run_verb(const struct verb *verb, int argc, char **argv)
{
	struct options_parsed parsed;

	if (verb->parses_itself)
		return verb->function(argc, argv);
	if (options_parse(verb->options, argc, argv, &parsed) < 0)
		return cli_error(verb->usage_status, verb->name, "%s", parsed.error);
	if (parsed.help)
		return cli_print_verb_help(verb);
	if (!verb->takes_command && parsed.first < argc)
		return cli_error(verb->usage_status, verb->name,
				 "unexpected word '%s'; `weir %s --help` shows the usage", argv[parsed.first],
				 verb->name);
	return verb->function(argc - parsed.first, argv + parsed.first);
}

int main(int argc, char **argv)
{
	const struct verb *verb;

	if (argc < 2) {
		print_help(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("weir %s\n", WEIR_VERSION);
		return cli_finish(CLI_OK, NULL);
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return run_help(argc - 1, argv + 1);
	verb = verb_find(argv[1]);
	if (!verb)
		return unknown_verb(argv[1]);
	return cli_run_verb(verb, argc - 1, argv + 1);
}
