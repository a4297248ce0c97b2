// SPDX-License-Identifier: MIT
/*
 * A reclaimer that finds no run of frames (bit_get) reads the queue's number, then the bits, and sleeps if the number
 * is still the same; whoever gives a run back (bit_put) sets the bit, changes the number, and wakes.
 *
 * Never: asleep for ever while a run is free. Acquire and release are enough: the number is changed after the bit is
 * set, so who sees the new number sees the bit. Without the change (-DNO_BUMP) a wake-up is lost, on any machine.
 */
#include "litmus.h"

static _Atomic uint64_t bits;
static _Atomic uint32_t number;
static pthread_mutex_t queue = PTHREAD_MUTEX_INITIALIZER;
static bool asleep, woken;

void litmus_reset(void)
{
	atomic_store(&bits, 0);
	asleep = woken = false;
}

void *litmus_thread_0(void *arg)
{
	atomic_fetch_or_explicit(&bits, 1, memory_order_acq_rel);
#ifndef NO_BUMP
	atomic_fetch_add_explicit(&number, 1, memory_order_acq_rel);
#endif
	pthread_mutex_lock(&queue);
	woken = asleep;
	pthread_mutex_unlock(&queue);
	return arg;
}

void *litmus_thread_1(void *arg)
{
	uint32_t seen = atomic_load_explicit(&number, memory_order_acquire);

	if (atomic_load_explicit(&bits, memory_order_relaxed))
		return arg;
	pthread_mutex_lock(&queue);
	asleep = atomic_load_explicit(&number, memory_order_relaxed) == seen;
	pthread_mutex_unlock(&queue);
	return arg;
}

bool litmus_allowed(void)
{
	return !asleep || woken;
}
