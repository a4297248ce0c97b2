/* SPDX-License-Identifier: MIT */
/*
 * A process beside the run that keeps the descriptor of its pool open, under whose /proc/<pid>/fd every program of the
 * tree finds it. Not this one, which becomes the command, and not a child of it, which the command would have to wait
 * for: an orphan in a session of its own. It ends when the command and all processes of the pool have.
 */
#pragma once

struct pool;

/* Its pid is in pool->holder, and `fd` is its descriptor as well. 0 or -errno. */
int holder_start(struct pool *pool, int fd);
