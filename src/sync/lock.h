/* SPDX-License-Identifier: MIT */
/*
 * FIRST SEAM, part 3: a sleeping lock of four bytes, after Drepper's "Futexes Are Tricky" (mutex 3).
 *
 * Taken in signal handlers too: whoever takes one outside a handler must have signals blocked, or must never be
 * interrupted by a handler that can take it (sync/thread.h threads have all signals blocked).
 */
#pragma once

#include "base/assert.h"
#include "sync/wait.h"

struct mutex {
	struct atomic32 state; /* 0 free, 1 held, 2 held and somebody may sleep */
};

enum { MUTEX_SPINS = 40 };

static inline bool mutex_trylock(struct mutex *m)
{
	u32 old = 0;

	return atomic32_cas_acquire(&m->state, &old, 1);
}

static inline void mutex_lock(struct mutex *m)
{
	/* Critical sections are some tens of instructions: a short look before the system call. */
	for (int i = 0; i < MUTEX_SPINS; i++) {
		if (atomic32_read(&m->state) == 0 && mutex_trylock(m))
			return;
		atomic_pause();
	}
	while (atomic32_xchg_acquire(&m->state, 2) != 0)
		sync_wait32(&m->state, 2);
}

static inline void mutex_unlock(struct mutex *m)
{
	u32 old = atomic32_xchg_release(&m->state, 0);

	must(old != 0);
	if (old == 2)
		sync_wake32_one(&m->state);
}

static inline bool mutex_is_locked(const struct mutex *m)
{
	return atomic32_read(&m->state) != 0;
}
