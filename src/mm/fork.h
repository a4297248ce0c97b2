/* SPDX-License-Identifier: MIT */
/*
 * fork: the child has a copy of everything, private to it: window, tables, store. What it lacks is the registration
 * (userfaultfd does not follow into a child's mappings), the write protection of clean pages that goes with it, and the
 * background thread.
 *
 * Context of all: nobody else is in the core (fault/gate.h), signals blocked. mm_fork_begin before the system call,
 * mm_forked and mm_fork_parent in the parent, also when the call failed, mm_fork_child in the child.
 */
#pragma once

#include "mm/types.h"

/* 0, or -errno of a device that cannot be shared with one more process: then nothing is to follow, not even the call.
 */
int must_check mm_fork_begin(struct mm *mm);

/*
 * In the parent, right after the call: what either side writes from here on is not the other's. `pid`: the child's,
 * 0: not known, negative: the call failed.
 */
void mm_forked(struct mm *mm, int pid);
void mm_fork_parent(struct mm *mm);

/*
 * 0, or -errno: then the window must not be touched any more, as absent pages would read as zero. `stats` is the
 * child's own block; it begins as a copy of the parent's.
 */
int must_check mm_fork_child(struct mm *mm, struct mm_stats *stats);
