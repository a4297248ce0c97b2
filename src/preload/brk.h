/* SPDX-License-Identifier: MIT */
/*
 * brk and sbrk of programs that have an allocator of their own: a heap in the window. libc's malloc does not pass here,
 * as it asks the kernel itself: its heap stays the kernel's, and both may be used side by side.
 */
#pragma once

#include "mm/mm.h"

/* As brk(2): 0 or -ENOMEM. Context: any thread; signals are blocked inside. */
long break_set(struct mm *mm, uintptr_t addr);

/* As sbrk(3): where the break was, or -ENOMEM. */
long break_move(struct mm *mm, intptr_t bytes);
