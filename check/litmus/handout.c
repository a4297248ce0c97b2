// SPDX-License-Identifier: MIT
/*
 * A slot changes hands through two words: swap_finish() empties the slot's word (slot_release) and then gives the bit
 * back (map_give: release); map_take() takes the bit (acquire) and slot_alloc() finds the word empty.
 *
 * Never: the bit is taken and the word is not empty: swap_alloc_from() stops the program then. With the bit relaxed
 * (-DRELAXED) it can be, though not on x86-64.
 */
#include "litmus.h"

#ifdef RELAXED
#define GIVE memory_order_relaxed
#define TAKE memory_order_relaxed
#else
#define GIVE memory_order_acq_rel /* atomic64_fetch_and */
#define TAKE memory_order_acquire
#endif

enum { COUNT = 1, HAS_CACHE = 1 << 17 };

static _Atomic uint64_t slot, bits;
static int taken, was_empty;

void litmus_reset(void)
{
	atomic_store(&slot, HAS_CACHE);
	atomic_store(&bits, 1);
	taken = was_empty = 0;
}

void *litmus_thread_0(void *arg)
{
	uint64_t old = HAS_CACHE;

	atomic_compare_exchange_strong_explicit(&slot, &old, 0, memory_order_release, memory_order_relaxed);
	atomic_fetch_and_explicit(&bits, ~(uint64_t)1, GIVE);
	return arg;
}

void *litmus_thread_1(void *arg)
{
	uint64_t free = 0, empty = 0;

	taken = atomic_compare_exchange_strong_explicit(&bits, &free, 1, TAKE, memory_order_relaxed);
	if (taken)
		was_empty = atomic_compare_exchange_strong_explicit(&slot, &empty, COUNT | HAS_CACHE,
								    memory_order_acquire, memory_order_relaxed);
	return arg;
}

bool litmus_allowed(void)
{
	return !taken || was_empty;
}
