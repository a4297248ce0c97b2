/* SPDX-License-Identifier: MIT */
/*
 * FIRST SEAM, part 1: shared words. All shared state is reached through these names and nothing else, so that the
 * model checker (check/include/sync/atomic.h, same names) owns every interleaving point.
 *
 * The word types are structs: a plain load or store of shared memory does not compile.
 *
 *   read          relaxed load: the value is a hint, and the caller says why a stale one is harmless
 *   load_acquire  meets a *_release by another thread: what it wrote before is visible here
 *   cas_*         compare and swap, strong; on failure *old is refreshed with a relaxed load
 */
#pragma once

#include "base/types.h"

struct atomic64 {
	u64 v;
};

struct atomic32 {
	u32 v;
};

static inline u64 atomic64_read(const struct atomic64 *a)
{
	return __atomic_load_n(&a->v, __ATOMIC_RELAXED);
}

static inline u64 atomic64_load_acquire(const struct atomic64 *a)
{
	return __atomic_load_n(&a->v, __ATOMIC_ACQUIRE);
}

static inline void atomic64_set(struct atomic64 *a, u64 v)
{
	__atomic_store_n(&a->v, v, __ATOMIC_RELAXED);
}

static inline void atomic64_store_release(struct atomic64 *a, u64 v)
{
	__atomic_store_n(&a->v, v, __ATOMIC_RELEASE);
}

static inline bool atomic64_cas_relaxed(struct atomic64 *a, u64 *old, u64 new)
{
	return __atomic_compare_exchange_n(&a->v, old, new, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static inline bool atomic64_cas_acquire(struct atomic64 *a, u64 *old, u64 new)
{
	return __atomic_compare_exchange_n(&a->v, old, new, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline bool atomic64_cas_release(struct atomic64 *a, u64 *old, u64 new)
{
	return __atomic_compare_exchange_n(&a->v, old, new, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

static inline bool atomic64_cas_acq_rel(struct atomic64 *a, u64 *old, u64 new)
{
	return __atomic_compare_exchange_n(&a->v, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static inline u64 atomic64_fetch_add(struct atomic64 *a, u64 n)
{
	return __atomic_fetch_add(&a->v, n, __ATOMIC_RELAXED);
}

static inline u64 atomic64_fetch_sub(struct atomic64 *a, u64 n)
{
	return __atomic_fetch_sub(&a->v, n, __ATOMIC_RELAXED);
}

static inline u64 atomic64_fetch_sub_release(struct atomic64 *a, u64 n)
{
	return __atomic_fetch_sub(&a->v, n, __ATOMIC_RELEASE);
}

static inline u64 atomic64_fetch_or(struct atomic64 *a, u64 bits)
{
	return __atomic_fetch_or(&a->v, bits, __ATOMIC_ACQ_REL);
}

static inline u64 atomic64_fetch_and(struct atomic64 *a, u64 bits)
{
	return __atomic_fetch_and(&a->v, bits, __ATOMIC_ACQ_REL);
}

static inline u32 atomic32_read(const struct atomic32 *a)
{
	return __atomic_load_n(&a->v, __ATOMIC_RELAXED);
}

static inline u32 atomic32_load_acquire(const struct atomic32 *a)
{
	return __atomic_load_n(&a->v, __ATOMIC_ACQUIRE);
}

static inline void atomic32_set(struct atomic32 *a, u32 v)
{
	__atomic_store_n(&a->v, v, __ATOMIC_RELAXED);
}

static inline void atomic32_store_release(struct atomic32 *a, u32 v)
{
	__atomic_store_n(&a->v, v, __ATOMIC_RELEASE);
}

static inline bool atomic32_cas_acquire(struct atomic32 *a, u32 *old, u32 new)
{
	return __atomic_compare_exchange_n(&a->v, old, new, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline u32 atomic32_xchg_acquire(struct atomic32 *a, u32 v)
{
	return __atomic_exchange_n(&a->v, v, __ATOMIC_ACQUIRE);
}

static inline u32 atomic32_xchg_release(struct atomic32 *a, u32 v)
{
	return __atomic_exchange_n(&a->v, v, __ATOMIC_RELEASE);
}

/* Release on the way in and acquire on the way out: the counter is a hand-over point. */
static inline u32 atomic32_add_return(struct atomic32 *a, u32 n)
{
	return __atomic_add_fetch(&a->v, n, __ATOMIC_ACQ_REL);
}

static inline u32 atomic32_sub_return(struct atomic32 *a, u32 n)
{
	return __atomic_sub_fetch(&a->v, n, __ATOMIC_ACQ_REL);
}

/*
 * Orders the caller's earlier stores before its later loads; every use names both. A locked read-modify-write of the
 * stack is the full barrier of x86-64, and unlike a fence one that the thread sanitizer accepts.
 */
static inline void atomic_full_barrier(void)
{
	u32 any = 0;

	__atomic_fetch_add(&any, 1, __ATOMIC_SEQ_CST);
	__asm__ volatile("" ::"r"(&any) : "memory");
}

/* A short wait for another thread that is in the middle of some instructions. */
static inline void atomic_pause(void)
{
	__builtin_ia32_pause();
}
