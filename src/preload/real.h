/* SPDX-License-Identifier: MIT */
/*
 * What the exported wrappers have in common: their visibility, and the function of the same name behind them.
 */
#pragma once

#include <dlfcn.h>

#include "sync/atomic.h"

#define EXPORT __attribute__((visibility("default")))

/*
 * The next definition of `name`, looked up once. The word is only ever set to that one value: two threads that both
 * see it empty look it up twice. dlsym() may take libc's locks, so whoever can be called from a handler has it looked
 * up at start.
 */
static inline uintptr_t real_function(struct atomic64 *cache, const char *name)
{
	uintptr_t fn = atomic64_read(cache);

	if (unlikely(!fn)) {
		fn = (uintptr_t)dlsym(RTLD_NEXT, name);
		atomic64_set(cache, fn);
	}
	return fn;
}
