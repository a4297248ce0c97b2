/* SPDX-License-Identifier: MIT */
/*
 * Runs a command as a child and stands in for it, for `weir run --stats`: signals meant for the command reach it, and
 * its way of ending becomes ours.
 */
#pragma once

#include <sys/resource.h>

#include "base/types.h"

struct supervised {
	int exec_error; /* errno: the command could not be executed, and nothing else is set */
	int status; /* of wait4(2) */
	u64 wall_ns;
	struct rusage usage;
};

/*
 * `prepare` runs in the child right before exec and returns 0 or -errno. SIGINT and SIGQUIT are left to the child, as
 * a shell does; other signals are forwarded. Returns 0 or -errno. Once in a process.
 */
int supervise_run(const char *path, char **argv, int (*prepare)(void *ctx), void *ctx, struct supervised *out);

/* Ends this process as the child has ended, without a core dump of its own. */
_Noreturn void supervise_end(int status);
