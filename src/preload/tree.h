/* SPDX-License-Identifier: MIT */
/*
 * This process in the tree of a `weir run`, whose processes share one limit (tree/pool.h). Connects the pool and the
 * mm: what the mm asks for is taken from the pool, and what the pool asks for is given by a thread of ours, the
 * watcher.
 *
 * A process that is small and not managed has no watcher: it keeps the little that it has. One that is granted more
 * than that gets one, and if others ask, it adopts, so that memory can leave.
 *
 * A forked child begins with the least grant; what it inherits is for a tenth of a second not counted, so that fork and
 * exec disturb nobody. Then it is taken from the pool, and as far as that has it not, it is swapped out.
 */
#pragma once

#include "mm/mm.h"

/*
 * Joins the pool at `path` and fills in what mm_create is to know of it. Waits for room for some seconds. 0, -EAGAIN:
 * there is no room for another process; or -errno: the pool cannot be reached.
 */
int must_check tree_join(const char *path, struct mm_config *cfg);

/* Memory is about to be managed: from now on it can be given back. */
void tree_adopted(struct mm *mm);

/* Around fork, with the gate closed. tree_fork_child comes before anything in the child may want memory; as tree_join.
 */
void tree_fork_begin(void);
void tree_fork_parent(void);
int must_check tree_fork_child(struct mm *mm);
/* In the child, with the gate open again. */
void tree_fork_child_end(struct mm *mm);
