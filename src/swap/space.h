/* SPDX-License-Identifier: MIT */
/*
 * The space of one backing store (a file, an image), shared by all processes of a run: page-sized *locations* in
 * *extents* of 512. A process takes whole extents and hands out their locations by itself; a forked child holds those
 * in which it inherits some. The last holder discards the extent.
 *
 * In shared memory there is a row per process, with a bit per extent that it holds. What is free is not stored: it is
 * what no row of a living process holds. Whoever takes an extent sets its own bit, then looks at all other rows, and
 * takes the step back if one has it: two at once may both fail, never both succeed. No lock, hence nothing to repair
 * when a process is killed at any instant. Its row goes, by compare-and-swap of the row's name, to whoever finds it
 * dead, who discards what nobody else holds, and frees the row; the heir may be killed as well, and has heirs.
 *
 * A row comes into being by a fork as follows: the parent reserves it and copies its own bits there before the call;
 * afterwards it is named after the child, by either of them. A copy can hide from somebody who looks at the rows one by
 * one (not yet in the child's, no longer in the parent's), so `moves` counts the copies, and he looks again.
 *
 * Nobody takes locations of an extent that others hold: which of them the others use is known to them alone. It is
 * looked up again when room is needed, as they may have gone.
 *
 * Shared words. A row's name: by compare-and-swap. A row's bits: by read-modify-write, by whom the row is named after
 * only. `moves`: up, by who copies. `nr_used`: up, before a row is taken. All with full barriers (space.c says which
 * meets which). What is private is guarded by `lock`; it is not taken across a system call other than futex.
 * Context: any thread, also signal handlers, unless it says otherwise.
 */
#pragma once

#include "base/types.h"
#include "sync/lock.h"

enum {
	SPACE_EXTENT_SHIFT = 9,
	SPACE_EXTENT = 1 << SPACE_EXTENT_SHIFT, /* locations */
	SPACE_ROWS_MAX = 4096, /* processes that hold something at the same time */
};

struct space_shared {
	u32 magic;
	u32 nr_locations, nr_extents, words; /* words: of a row */
	struct atomic32 nr_used; /* rows below it were ever used */
	struct atomic32 moves;
	struct atomic64 reaped_ns; /* when somebody last looked for the dead */
	struct atomic64 name[SPACE_ROWS_MAX]; /* process, time of reservation, kind; 0: free */
	struct atomic64 bits[]; /* rows, each a multiple of a page */
};

/* What the store does for its space. */
struct space_ops {
	/* The contents of these locations are needed no more. Only whole extents; may be NULL. */
	void (*discard)(void *ctx, u32 location, u32 nr);
	void *ctx;
};

struct space_extent; /* private to a process */

struct space {
	struct space_shared *shared;
	size_t shared_bytes;
	struct space_ops ops;
	u64 self; /* process_id(): the process whose memory this is */

	struct mutex lock; /* guards what follows */
	u32 row; /* SPACE_ROWS_MAX: none yet */
	bool forking; /* from space_fork_begin on; the forking thread may still take and give */
	u32 child_row; /* reserved for the child; SPACE_ROWS_MAX: it inherits nothing so far */
	u64 child_name;
	struct space_extent *extents;
	u32 current; /* extent that locations come from, nr_extents: none */
	u32 hand, fresh; /* where the next searches begin */
	u32 high_water; /* extents that were ever held are below */
};

/*
 * New shared memory for a space of `nr` locations. path NULL: memory that forked children share; otherwise what
 * space_create() has made, opened by path. 0 or -errno (-EINVAL: it is no such thing). Not from a signal handler.
 * Locations are numbered from 0.
 */
int must_check space_open(struct space *space, u32 nr, const char *path, const struct space_ops *ops);

/* Shared memory for space_open(), as a descriptor (closed on exec). */
int must_check space_create(u32 nr, int *fd);

/* Gives back all that the process holds. */
void space_close(struct space *space);

/* Looks up again who we are: after a fork that nobody has told of. Context: nothing was ever taken. */
void space_begin(struct space *space);

/* Takes up to `nr` locations, neighbours where possible, in ascending runs. Returns how many; 0: the space is full. */
u32 must_check space_take(struct space *space, u32 *locations, u32 nr);
void space_give(struct space *space, u32 location);

/* Is the location's extent held by this process alone? Then nobody else uses what it has there. */
bool space_is_ours(struct space *space, u32 location);

/*
 * The location's extent is held by this process, too, from now on, whoever else has it: when they give it back nobody
 * takes it any more. Context: the process takes no locations, and space_enter() has been called.
 */
void space_hold(struct space *space, u32 location);
/*
 * Does a living process but this one hold anything? Gives back what dead ones held. Context: space_enter() was called.
 */
bool space_is_shared(struct space *space);

/* Takes a row beforehand. 0 or -EAGAIN. */
int must_check space_enter(struct space *space);

/*
 * Around fork, with nobody else inside. space_fork_begin: 0 or -EAGAIN, then there must be no fork. space_fork_parent:
 * the child's pid; 0: not known; negative: there is none. space_fork_child: 0, or -ESTALE: the child began too late,
 * what it has inherited has been given to others.
 */
int must_check space_fork_begin(struct space *space);
void space_fork_parent(struct space *space, int pid);
int must_check space_fork_child(struct space *space);

/* Extents that some process holds. For tests and statistics. */
u32 space_nr_held(const struct space *space);
