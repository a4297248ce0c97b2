/* SPDX-License-Identifier: MIT */
/*
 * WEIR_TRACE, for tests: a file to which every managed process appends a line for what a test wants to know of all
 * processes of a tree, as --stats tells of the first one only:
 *
 *   adopted PID NAME
 *   efault PID NAME SYSCALL        a trapped call failed with EFAULT
 *   end PID NAME resident=PEAK total=PEAK in=PAGES out=PAGES        ended by exit() or _exit()
 *
 * The pages are the process's own: a forked child's are counted from the fork.
 */
#pragma once

#include "mm/stats.h"

/* `path` is copied; NULL or a long one: nothing is traced. Context: one thread, at start. */
void trace_init(const char *path);

/* Context: any, also signal handlers. */
void trace_adopted(void);
void trace_efault(long nr);
void trace_end(const struct mm_stats *stats);

/* In a forked child. Context: its only thread. */
void trace_forked(const struct mm_stats *stats);
