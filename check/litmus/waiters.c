// SPDX-License-Identifier: MIT
/*
 * A loser announces itself in the slot's word (slot_wait: compare-and-swap of WAITERS) and sleeps if the word is still
 * what it set; the pin's owner clears pin and WAITERS in one read-modify-write (slot_clear) and wakes if WAITERS was
 * set. All relaxed but for the pin itself: a single word has a single order, and futex(2) compares and sleeps in one.
 *
 * Never: asleep for ever. It is enough to look before clearing (-DLOOK_FIRST) for that to happen, on any machine.
 */
#include "litmus.h"

enum { COUNT = 1, HAS_CACHE = 1 << 17, WAITERS = 1 << 20 };

static _Atomic uint64_t slot;
static pthread_mutex_t queue = PTHREAD_MUTEX_INITIALIZER; /* the kernel's lock of a futex's queue */
static bool asleep, woken;

void litmus_reset(void)
{
	atomic_store(&slot, COUNT | HAS_CACHE);
	asleep = woken = false;
}

static void wake(void)
{
	pthread_mutex_lock(&queue);
	woken = asleep;
	pthread_mutex_unlock(&queue);
}

/* The owner of the pin. */
void *litmus_thread_0(void *arg)
{
	uint64_t old = atomic_load_explicit(&slot, memory_order_relaxed);
#ifdef LOOK_FIRST
	bool wanted = old & WAITERS;

	atomic_fetch_and_explicit(&slot, ~(uint64_t)(HAS_CACHE | WAITERS), memory_order_release);
	if (wanted)
		wake();
#else
	while (!atomic_compare_exchange_strong_explicit(&slot, &old, old & ~(uint64_t)(HAS_CACHE | WAITERS),
							memory_order_release, memory_order_relaxed))
		;
	if (old & WAITERS)
		wake();
#endif
	return arg;
}

/* The loser. */
void *litmus_thread_1(void *arg)
{
	uint64_t seen = atomic_load_explicit(&slot, memory_order_relaxed);

	if (!(seen & HAS_CACHE))
		return arg;
	if (!atomic_compare_exchange_strong_explicit(&slot, &seen, seen | WAITERS, memory_order_relaxed,
						     memory_order_relaxed))
		return arg;
	pthread_mutex_lock(&queue);
	asleep = atomic_load_explicit(&slot, memory_order_relaxed) == (seen | WAITERS);
	pthread_mutex_unlock(&queue);
	return arg;
}

bool litmus_allowed(void)
{
	return !asleep || woken;
}
