/* SPDX-License-Identifier: MIT */
/*
 * The mmap family on the window: what the exported wrappers (mm.c) and the net (main.c, for calls made below libc) do
 * for addresses of ours. Results are the kernel's: an address or 0, or -errno.
 * Context: any thread; signals are blocked inside. Memory may be touched by mremap only, with signals as they are.
 */
#pragma once

#include "base/types.h"

/* The system calls of the family, by number, with the kernel's arguments. Falls through to the kernel for the rest. */
long mm_syscall(long nr, const long args[6]);
