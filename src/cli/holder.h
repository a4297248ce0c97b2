/* SPDX-License-Identifier: MIT */
/*
 * A process beside the run that keeps the descriptors of its pool and of its shared swap device open, under whose
 * /proc/<pid>/fd every program of the tree finds them. Not this one, which becomes the command, and not a child of it,
 * which the command would have to wait for: an orphan in a session of its own. It ends when the command and all
 * processes of the pool have.
 */
#pragma once

struct pool;

/* Its pid is in pool->holder, and these descriptors are its own as well, by the same numbers. 0 or -errno. */
int holder_start(struct pool *pool, const int *fds, int nr);
