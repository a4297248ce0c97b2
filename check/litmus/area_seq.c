// SPDX-License-Identifier: MIT
/*
 * A first touch against munmap (do_anonymous_page, area_write_end): the faulter locks its PTE and then looks at the
 * areas' sequence; the unmapper changes the sequence and then looks at the PTE. Store buffering: each writes one word
 * and reads the other, so both need a full barrier in between.
 *
 * Never: the faulter finds the sequence unchanged and goes on, and the unmapper finds the PTE untouched and skips it: a
 * page would be left behind. Without the barriers (-DNO_BARRIER) it happens, also on x86-64.
 */
#include "litmus.h"

#ifdef NO_BARRIER
#define barrier() atomic_signal_fence(memory_order_seq_cst)
#else
#define barrier() atomic_thread_fence(memory_order_seq_cst)
#endif

enum { LOCKED = 1 };

static _Atomic uint64_t pte;
static _Atomic uint32_t seq;
static bool unchanged, skipped;

void litmus_reset(void)
{
	atomic_store(&pte, 0);
	atomic_store(&seq, 0);
	unchanged = skipped = false;
}

/* The faulter. A store stands for the lock: a read-modify-write would be a barrier of its own on x86-64. */
void *litmus_thread_0(void *arg)
{
	atomic_store_explicit(&pte, LOCKED, memory_order_relaxed);
	barrier();
	unchanged = atomic_load_explicit(&seq, memory_order_relaxed) == 0;
	return arg;
}

/* The unmapper. */
void *litmus_thread_1(void *arg)
{
	atomic_store_explicit(&seq, 1, memory_order_relaxed);
	barrier();
	atomic_store_explicit(&seq, 2, memory_order_release);
	barrier();
	skipped = atomic_load_explicit(&pte, memory_order_relaxed) == 0;
	return arg;
}

bool litmus_allowed(void)
{
	return !(unchanged && skipped);
}
