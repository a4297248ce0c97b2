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

/* Blocks all signals, returns the mask to give back: around everything that takes the core's locks. */
u64 shim_block_signals(void);
void shim_restore_signals(u64 mask);

#define SHIM_EXPORT __attribute__((visibility("default")))
