/* SPDX-License-Identifier: MIT */
/* The shim's one managed window, and its beginning. */
#pragma once

#include "mm/mm.h"

/* Where the window lies: fixed, as the seccomp filter, inherited over execve, knows it by its address. */
#define SHIM_WINDOW ((uintptr_t)0x200000000000)
#define SHIM_WINDOW_BYTES ((u64)1 << 40)

/*
 * The window, or NULL where this process is not managed (no limit in the environment, or not possible). Sets
 * everything up at the first call, which the allocator makes before any constructor has run.
 */
struct mm *shim_mm(void);

/* Around every call of the core: signals are blocked, as it takes locks, and fork is kept out (fault/gate.h). */
struct shim_visit {
	u64 mask;
	u32 shard;
};

struct shim_visit shim_enter(void);
void shim_leave(struct shim_visit visit);

/* What mmap answers where the core refused a mapping: -ENOMEM. Says why, once, unless that is all there is to say. */
long shim_map_error(long err);

#define SHIM_EXPORT __attribute__((visibility("default")))
