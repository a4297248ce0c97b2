/* SPDX-License-Identifier: MIT */
/*
 * FIRST SEAM, part 3, as the model checker has it: a lock is one blocking step instead of a word and a futex. An unlock
 * belongs to the step before it: nobody can tell the difference.
 */
#pragma once

#include "base/assert.h"
#include "sync/wait.h"

struct mutex {
	struct atomic32 state; /* 0 free, else 1 + the thread that holds it */
};

bool mutex_trylock(struct mutex *m);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

/* For assertions only: no step. */
static inline bool mutex_is_locked(const struct mutex *m)
{
	return m->state.v != 0;
}
