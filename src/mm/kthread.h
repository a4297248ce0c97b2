/* SPDX-License-Identifier: MIT */
/*
 * A background thread of the core: it works while there is something to do, and sleeps until somebody wakes it.
 *
 * `asleep` says that it is about to sleep, or sleeps, and that nobody has woken it yet: whoever finds it set clears it
 * and wakes. The thread sets it before its last look at the work, with a full barrier between, so that either it sees
 * the work or whoever made the work sees it asleep.
 */
#pragma once

#include "mm/types.h"

/* 0 or -errno. */
int must_check kthread_start(struct kthread *k, void (*fn)(void *arg), void *arg);

/* Waits for its end. Also for one that does not run. Nobody starts it meanwhile. */
void kthread_stop(struct kthread *k);

/* Any thread, also signal handlers: a look and no more, unless it sleeps. */
void kthread_wake(struct kthread *k);

/*
 * By the thread, at the beginning of each turn: is it to end? *seen: of `wake`, the word it may then sleep on. It is
 * read before `stop`, which is set before it changes: a stop that is not seen here is one that nobody sleeps through.
 */
static inline bool kthread_should_stop(const struct kthread *k, const struct atomic32 *wake, u32 *seen)
{
	*seen = atomic32_load_acquire(wake);
	return atomic32_load_acquire(&k->stop) != 0;
}
