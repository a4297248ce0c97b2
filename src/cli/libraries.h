/* SPDX-License-Identifier: MIT */
/*
 * The shared libraries that `weir run` puts into LD_PRELOAD: where they lie, and what to install when they do not.
 */
#pragma once

#include <limits.h>

#include "base/types.h"

enum allocator {
	ALLOCATOR_JEMALLOC,
	ALLOCATOR_MIMALLOC,
	ALLOCATOR_NONE, /* the command's own malloc; glibc's takes nothing from the window */
};

extern const char *const allocator_names[]; /* by enum allocator, NULL-ended */

/* The shim in the build tree or in the library directory that belongs to this executable. 0 or -ENOENT. */
int library_find_shim(char path[PATH_MAX]);

/* The model checker's own executable: it has the core's functions too, over other seams. As library_find_shim. */
int library_find_checker(char path[PATH_MAX]);

/* An engine's executable (src/engine). As library_find_shim. */
int library_find_engine(const char *name, char path[PATH_MAX]);

/* In the standard library directories. 0 or -ENOENT. */
int library_find_allocator(enum allocator allocator, char path[PATH_MAX]);

const char *library_package(enum allocator allocator);
