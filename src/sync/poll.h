/* SPDX-License-Identifier: MIT */
/*
 * To wait by looking again and again, where a sleep would take long to end: an idle processor must be woken, which
 * takes a virtual one as long as a fast disk takes a quarter of a read.
 *
 * Only with time that nobody else wants. Every few microseconds the processor is offered to others; who gets it back
 * late has seen that they want it, and nobody polls for a while. Nor if what is awaited takes its time, not only once.
 * Context: any thread, also signal handlers. All words are hints, written by all who poll: they order nothing.
 */
#pragma once

#include "sync/atomic.h"

struct sync_poll {
	struct atomic32 polling; /* threads */
	struct atomic32 long_waits; /* in a row */
	struct atomic64 rests_until_ns;
	u32 max; /* threads */
};

/* What one thread keeps of one wait. */
struct sync_poll_wait {
	u64 begun_ns, offered_ns;
	bool gave_up;
};

/* As many threads as leave a processor to others, but one at least. Also in a child, after fork. */
void sync_poll_init(struct sync_poll *poll, u32 nr_cpus);

/* False: sleep. */
bool must_check sync_poll_pays(const struct sync_poll *poll);

/* Look at what is awaited, and again while sync_poll_again() is true; if it is not, sleep. */
void sync_poll_begin(struct sync_poll *poll, struct sync_poll_wait *wait);
bool must_check sync_poll_again(struct sync_poll *poll, struct sync_poll_wait *wait);
void sync_poll_end(struct sync_poll *poll, const struct sync_poll_wait *wait);
