/* SPDX-License-Identifier: MIT */
/*
 * Finds the command to run as a shell would, and tells beforehand whether the shim can be loaded into it.
 *
 * Both functions return 0, or the exit status to end with (CLI_RUN_CANNOT, CLI_RUN_NOT_FOUND) and one line in err.
 */
#pragma once

#include <limits.h>

#include "base/types.h"

struct command_error {
	char text[PATH_MAX + 256];
};

/* A name without '/' is looked up in PATH. `path` has room for PATH_MAX bytes. */
int must_check command_find(const char *name, char *path, struct command_error *err);

/* Follows scripts to their interpreters; the last one must be a dynamic program of this machine, without privileges. */
int must_check command_examine(const char *path, struct command_error *err);
