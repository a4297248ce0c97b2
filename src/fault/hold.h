/* SPDX-License-Identifier: MIT */
/* Ranges kept resident for system calls: the loop around mm_hold_page() that may fault pages in. */
#pragma once

#include "mm/mm.h"

/*
 * 0; -EFAULT (not all of it mapped with these rights), -ENOMEM (too much held, or no page could be freed), -EIO. On
 * error nothing is held. Context: any thread, signals as they are (blocked here where a lock is taken), no lock held.
 */
int must_check hold_range(struct mm *mm, uintptr_t addr, size_t bytes, bool write);
void release_range(struct mm *mm, uintptr_t addr, size_t bytes);
