// SPDX-License-Identifier: MIT
/*
 * weir check: hands over to the checker's executable, which is the same core built over simulated seams and so cannot
 * live in this one.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/libraries.h"

static int check_verb(int argc, char **argv)
{
	char path[PATH_MAX];

	(void)argc;
	if (library_find_checker(path))
		return cli_error(CLI_USAGE, "check",
				 "weir-check was not found beside this executable; install weir as a whole");
	execv(path, argv);
	return cli_error(CLI_USAGE, "check", "%s cannot be executed: %s", path, strerror(errno));
}

const struct verb verb_check = {
	.name = "check",
	.help = "explore the core under the model checker",
	.synopsis = "[--all] [--list] [OPTIONS]",
	.details = "`weir check --help` is answered by the checker itself.\n",
	.usage_status = CLI_USAGE,
	.parses_itself = true,
	.function = check_verb,
};
