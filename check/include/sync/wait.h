/* SPDX-License-Identifier: MIT */
/* FIRST SEAM, part 2, as the model checker has it: sleeping is a state of the scheduler's threads (seam.c). */
#pragma once

#include "sync/atomic.h"

void sync_wait64(struct atomic64 *word, u32 seen_low);
void sync_wake64(struct atomic64 *word);

void sync_wait32(struct atomic32 *word, u32 seen);
/* Time passes only when nobody can run: then the first of these sleepers wakes up. */
void sync_wait32_timeout(struct atomic32 *word, u32 seen, u64 timeout_ns);
void sync_wake32_one(struct atomic32 *word);
void sync_wake32_all(struct atomic32 *word);

void sync_yield(void);
static inline void sync_spin_point(void)
{
	seam_spin();
}

u64 sync_clock_ns(void);
u32 sync_thread_id(void);

static inline u32 sync_owner_id(void)
{
	return sync_thread_id();
}
