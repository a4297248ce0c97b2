// SPDX-License-Identifier: MIT
/*
 * A slot's data is handed from one pin holder to the next: swap-out writes the slot and ends its pin (slot_clear,
 * slot_publish, slot_writeback_end: release), swap-in pins it (slot_prepare, slot_cache_lock: acquire) and reads.
 *
 * Never: the pin is taken and the data is old. With both orders relaxed (-DRELAXED) it can be, though not on x86-64.
 */
#include "litmus.h"

#ifdef RELAXED
#define CLEAR memory_order_relaxed
#define PREPARE memory_order_relaxed
#else
#define CLEAR memory_order_release
#define PREPARE memory_order_acquire
#endif

enum { COUNT = 1, HAS_CACHE = 1 << 17 };

static _Atomic uint64_t slot;
static atomic_int data; /* relaxed: what a plain access would be, without being a data race */
static int pinned, read_data;

void litmus_reset(void)
{
	atomic_store(&slot, COUNT | HAS_CACHE);
	atomic_store(&data, 0);
	pinned = read_data = 0;
}

void *litmus_thread_0(void *arg)
{
	uint64_t old = atomic_load_explicit(&slot, memory_order_relaxed);

	atomic_store_explicit(&data, 1, memory_order_relaxed);
	while (!atomic_compare_exchange_strong_explicit(&slot, &old, old & ~(uint64_t)HAS_CACHE, CLEAR,
							memory_order_relaxed))
		;
	return arg;
}

void *litmus_thread_1(void *arg)
{
	uint64_t old = COUNT;

	pinned = atomic_compare_exchange_strong_explicit(&slot, &old, COUNT | HAS_CACHE, PREPARE, memory_order_relaxed);
	if (pinned)
		read_data = atomic_load_explicit(&data, memory_order_relaxed);
	return arg;
}

bool litmus_allowed(void)
{
	return !pinned || read_data == 1;
}
