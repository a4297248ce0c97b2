/* SPDX-License-Identifier: MIT */
/*
 * fork: the child has a copy of everything, private to it: window, tables, store. What it lacks is the registration
 * (userfaultfd does not follow into a child's mappings), the write protection of clean pages that goes with it, and the
 * background thread.
 *
 * Context of all: nobody else is in the core (fault/gate.h), signals blocked. mm_fork_begin before the system call,
 * mm_fork_parent in the parent, also when the call failed, mm_fork_child in the child.
 */
#pragma once

#include "mm/types.h"

void mm_fork_begin(struct mm *mm);
void mm_fork_parent(struct mm *mm);

/*
 * 0, or -errno: then the window must not be touched any more, as absent pages would read as zero. `stats` is the
 * child's own block; it begins as a copy of the parent's.
 */
int must_check mm_fork_child(struct mm *mm, struct mm_stats *stats);
