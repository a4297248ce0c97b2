/* SPDX-License-Identifier: MIT */
/*
 * The limit that all processes of one `weir run` share: a page or more of shared memory with one record per process,
 * which says how many pages are granted to it.
 *
 * What is free is not stored: it is the limit less the sum of the grants. A process raises its own record first, then
 * sums all of them, and takes the step back if the sum is over the limit: of two that raise at once at least one sees
 * the other, so that never more than the limit is in use. No lock, hence nothing to repair when a process is killed or
 * stopped at any instant; its record is removed by whoever needs memory and finds it dead. A record is one word,
 * process and grant together, so that a remover who comes late cannot hit the next owner.
 *
 * Who is short says so in its record (`want`) and asks those above the fair level, who then give (src/preload/tree.c):
 * the level to which the grants of all who are short could rise together. What is free is left to the poorer of those
 * who are short.
 *
 * Shared words. `word`: raised and lowered by its process, released by anybody, all by compare-and-swap; the barriers
 * in raise_grant() make "raise mine" come before "read the others'". The others are requests and hints: relaxed, as a
 * lost one is made again.
 * Context of all: a process uses its member from one thread at a time (`lock` of preload/tree.c); no libc.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

enum {
	POOL_GRANT_BITS = 28,
	POOL_PAGES_MAX = (1 << POOL_GRANT_BITS) - 1,
	POOL_SLOTS_MAX = 4096,
};

struct pool_slot {
	struct atomic64 word; /* pid, low bits of its start time, granted pages; 0: free */
	struct atomic64 want_ns; /* when it last was short (CLOCK_MONOTONIC) */
	struct atomic32 want; /* by how many pages */
	struct atomic32 give; /* pages that others ask of it */
	struct atomic32 trim; /* not 0: they ask for what it does not use */
	struct atomic32 can_give; /* somebody there listens to such requests */
	struct atomic32 wake; /* bumped with each request; slept on across processes */
	struct atomic32
		inherited; /* pages that it has from a fork just now and that nobody counts yet: its own to write */
	u32 unused[6];
};

struct pool {
	u32 magic;
	u32 limit; /* pages */
	u32 least; /* the grant that each process keeps */
	u32 nr_cpus; /* of the machine as the creator saw it: all processes must come to the same `least` */
	u32 nr_slots;
	struct atomic32 holder; /* the process that keeps the memory's descriptor open */
	struct atomic32 nr_used; /* slots below it were ever used: raised before a slot is taken */
	struct atomic32 changed; /* bumped when pages come free; slept on across processes */
	struct atomic64 reaped_ns, trimmed_ns; /* when somebody last looked for the dead, and asked all to trim */
	/* For the summary. */
	struct atomic64 granted_peak; /* pages */
	struct atomic64 nr_joined, nr_refused, members_peak; /* processes */
	struct pool_slot slot[] __attribute__((aligned(64)));
};

/* This process's part in it. */
struct pool_member {
	struct pool *pool;
	struct pool_slot *slot;
	u64 id; /* `word` without the grant */
};

/* A new pool in memory whose descriptor (closed on exec) goes to *fd. 0 or -errno; -EINVAL: limit < 2 * least. */
int must_check pool_create(u32 limit, u32 least, u32 nr_cpus, struct pool **pool, int *fd);

/* Maps what another process has made, by path. 0, -errno of open and mmap, or -EINVAL: it is no such thing. */
int must_check pool_open(const char *path, struct pool **pool);

/*
 * Enters the calling process with `least` pages, or takes up the record that it has from before an execve. Waits up to
 * wait_ns for the others to give or to end. 0, or -EAGAIN: there is no room for another process.
 */
int must_check pool_join(struct pool_member *m, struct pool *pool, u64 wait_ns);

/* Pages granted to a member; false if its record is not there any more: it is a child of which nobody told the pool. */
u32 pool_granted(const struct pool_member *m);
bool pool_is_member(const struct pool_member *m);

/* Takes between `least` and `most` pages of what is free and nobody poorer waits for; 0: that much is not there. */
u32 must_check pool_take(struct pool_member *m, u32 least, u32 most);

/* Gives pages back that are not in use any more. */
void pool_give(struct pool_member *m, u32 nr);

/*
 * After pool_take has failed: notes that the member is short of `nr` pages, removes the dead now and then, and asks
 * others to give. True: it is below the fair level and somebody above it was asked, so waiting may help.
 */
bool pool_want(struct pool_member *m, u32 nr);
void pool_want_no_more(struct pool_member *m);

/* Sleeps until pages come free, or for ns. */
void pool_wait(struct pool *pool, u32 seen, u64 ns);

/* The member's watcher: what is asked of it, since the last call. */
struct pool_request {
	u32 give; /* pages, at the cost of swapping */
	bool trim;
};
struct pool_request pool_request_take(struct pool_member *m);
/* Sleeps until `wake` is not `seen` any more, or for ns. */
void pool_request_wait(struct pool_member *m, u32 seen, u64 ns);

/*
 * Removes the records of processes that have ended; `now`: even if somebody has looked just before. `self`, if not
 * NULL, must find its own record good: a process whose /proc is missing, or another's, cannot judge.
 */
void pool_reap(struct pool *pool, const struct pool_member *self, bool now);

struct pool_totals {
	u32 members, granted;
};
struct pool_totals pool_sum(const struct pool *pool);
