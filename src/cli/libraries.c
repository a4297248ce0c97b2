// SPDX-License-Identifier: MIT
#include "cli/libraries.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

#define SHIM_NAME "libweir-preload.so"
#define CHECKER_NAME "weir-check"

/* From the directory of the installed executable to that of the installed libraries; set by the build. */
#ifndef WEIR_BINDIR_TO_LIBDIR
#define WEIR_BINDIR_TO_LIBDIR "../lib"
#endif
#ifndef WEIR_BINDIR_TO_LIBEXECDIR
#define WEIR_BINDIR_TO_LIBEXECDIR "../libexec"
#endif

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#else
#error "the machine is not supported"
#endif

const char *const allocator_names[] = { "jemalloc", "mimalloc", "none", NULL };

static const char *const shim_directories[2] = { "../preload", WEIR_BINDIR_TO_LIBDIR };
static const char *const checker_directories[2] = { "../../check", WEIR_BINDIR_TO_LIBEXECDIR };

static const char *const engine_directories[2] = { "../engine", WEIR_BINDIR_TO_LIBEXECDIR };

static const char *const library_directories[] = {
	"/usr/lib/" MULTIARCH, "/lib/" MULTIARCH, "/usr/lib64", "/lib64", "/usr/local/lib", "/usr/lib", "/lib",
};

static const char *const jemalloc_names[] = { "libjemalloc.so.2", NULL };
static const char *const mimalloc_names[] = { "libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so.2.0", NULL };

/* Directory of the running executable, without a slash at the end. */
static int executable_directory(char dir[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", dir, PATH_MAX - 1);
	char *slash;

	if (n < 0)
		return -errno;
	dir[n] = '\0';
	slash = strrchr(dir, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

/* `name` in one of two directories relative to the executable's: that of the build tree, that of the installation. */
static int find_beside(const char *const directories[2], const char *name, int mode, char path[PATH_MAX])
{
	char dir[PATH_MAX], candidate[2 * PATH_MAX];

	path[0] = '\0';
	if (executable_directory(dir) < 0)
		return -ENOENT;
	for (size_t i = 0; i < 2; i++) {
		snprintf(candidate, sizeof(candidate), "%s/%s/%s", dir, directories[i], name);
		if (access(candidate, mode) == 0 && realpath(candidate, path))
			return 0;
	}
	path[0] = '\0';
	return -ENOENT;
}

int library_find_shim(char path[PATH_MAX])
{
	return find_beside(shim_directories, SHIM_NAME, R_OK, path);
}

int library_find_checker(char path[PATH_MAX])
{
	return find_beside(checker_directories, CHECKER_NAME, X_OK, path);
}

int library_find_engine(const char *name, char path[PATH_MAX])
{
	return find_beside(engine_directories, name, X_OK, path);
}

int library_find_allocator(enum allocator allocator, char path[PATH_MAX])
{
	const char *const *names = allocator == ALLOCATOR_JEMALLOC ? jemalloc_names : mimalloc_names;

	must(allocator != ALLOCATOR_NONE);
	for (; *names; names++) {
		for (size_t i = 0; i < ARRAY_SIZE(library_directories); i++) {
			snprintf(path, PATH_MAX, "%s/%s", library_directories[i], *names);
			if (access(path, R_OK) == 0)
				return 0;
		}
	}
	path[0] = '\0';
	return -ENOENT;
}

const char *library_package(enum allocator allocator)
{
	return allocator == ALLOCATOR_JEMALLOC ? "libjemalloc2" : "libmimalloc2.0";
}
