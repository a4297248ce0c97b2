/* SPDX-License-Identifier: MIT */
/*
 * FIRST SEAM, part 2: sleeping on a word, and time.
 *
 * A 64-bit word is slept on by its low half, where the core keeps the state bits. As with futex(2): the sleep begins
 * only if the low half still equals `seen`, any wake after that ends it, and it may end for no reason; the caller
 * looks again.
 * Context: any thread, also signal handlers; no lock held except where sync/lock.h itself waits.
 */
#pragma once

#include "sync/atomic.h"

void sync_wait64(struct atomic64 *word, u32 seen_low);
void sync_wake64(struct atomic64 *word);

void sync_wait32(struct atomic32 *word, u32 seen);
/* As sync_wait32, and returns after timeout_ns at the latest. */
void sync_wait32_timeout(struct atomic32 *word, u32 seen, u64 timeout_ns);
void sync_wake32_one(struct atomic32 *word);
void sync_wake32_all(struct atomic32 *word);

/* Gives the processor away once. sync_spin_point: does nothing but tell the checker that a loop goes round here. */
void sync_yield(void);
static inline void sync_spin_point(void)
{
	atomic_pause();
}

/* Monotonic time in nanoseconds. */
u64 sync_clock_ns(void);

/* The calling thread's id, never 0. A system call. */
u32 sync_thread_id(void);

/* Names the owner of a pin, never 0: the page of the stack that it runs on, which costs nothing. */
static inline u32 sync_owner_id(void)
{
	return (u32)((uintptr_t)__builtin_frame_address(0) >> PAGE_SHIFT) | 1;
}
