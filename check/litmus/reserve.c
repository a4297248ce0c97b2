// SPDX-License-Identifier: MIT
/*
 * Room that is charged becomes reserve, and nobody charges it again: budget_to_reserve() raises the reserve and then
 * lowers the count of what is used (release); budget_try_charge() compares with the reserve as it was, charges
 * (acquire), and looks at the reserve again.
 *
 * Never: what is used and the reserve are more than there is. With the count relaxed (-DRELAXED) they can be, though
 * not on x86-64.
 */
#include "litmus.h"

#ifdef RELAXED
#define GIVE memory_order_relaxed
#define TAKE memory_order_relaxed
#else
#define GIVE memory_order_release /* atomic64_fetch_sub_release */
#define TAKE memory_order_acquire
#endif

enum { MOST = 2 };

static _Atomic uint64_t used, reserve;

void litmus_reset(void)
{
	atomic_store(&used, 0);
	atomic_store(&reserve, 0);
}

/* As budget_try_charge(), once. */
static bool try_charge(uint64_t nr)
{
	uint64_t kept = atomic_load_explicit(&reserve, memory_order_relaxed);
	uint64_t old = atomic_load_explicit(&used, memory_order_relaxed);

	if (old + nr + kept > MOST ||
	    !atomic_compare_exchange_strong_explicit(&used, &old, old + nr, TAKE, memory_order_relaxed))
		return false;
	if (atomic_load_explicit(&reserve, memory_order_relaxed) <= kept)
		return true;
	atomic_fetch_sub_explicit(&used, nr, memory_order_relaxed);
	return false;
}

void *litmus_thread_0(void *arg)
{
	if (try_charge(1)) {
		atomic_fetch_add_explicit(&reserve, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&used, 1, GIVE);
	}
	return arg;
}

void *litmus_thread_1(void *arg)
{
	(void)try_charge(2);
	return arg;
}

bool litmus_allowed(void)
{
	return atomic_load(&used) + atomic_load(&reserve) <= MOST;
}
