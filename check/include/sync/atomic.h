/* SPDX-License-Identifier: MIT */
/*
 * FIRST SEAM, part 1, as the model checker has it: same names as src/sync/atomic.h, but every access is a step that
 * the scheduler owns (seam.c). All steps are sequentially consistent; what weak memory does to the slot word, the area
 * sequence and the sleepers is the business of check/litmus.
 */
#pragma once

#include "base/types.h"

struct atomic64 {
	u64 v;
};

struct atomic32 {
	u32 v;
};

u64 seam_read64(const struct atomic64 *a);
bool seam_cas64(struct atomic64 *a, u64 *old, u64 new);
u64 seam_xchg64(struct atomic64 *a, u64 n); /* these return the old value */
u64 seam_add64(struct atomic64 *a, u64 n);
u64 seam_or64(struct atomic64 *a, u64 bits);
u64 seam_and64(struct atomic64 *a, u64 bits);
u32 seam_read32(const struct atomic32 *a);
bool seam_cas32(struct atomic32 *a, u32 *old, u32 new);
u32 seam_xchg32(struct atomic32 *a, u32 v);
u32 seam_add32(struct atomic32 *a, u32 n);
void seam_spin(void);

static inline u64 atomic64_read(const struct atomic64 *a)
{
	return seam_read64(a);
}

static inline u64 atomic64_load_acquire(const struct atomic64 *a)
{
	return seam_read64(a);
}

static inline void atomic64_set(struct atomic64 *a, u64 v)
{
	(void)seam_xchg64(a, v);
}

static inline void atomic64_store_release(struct atomic64 *a, u64 v)
{
	(void)seam_xchg64(a, v);
}

static inline bool atomic64_cas_relaxed(struct atomic64 *a, u64 *old, u64 new)
{
	return seam_cas64(a, old, new);
}

static inline bool atomic64_cas_acquire(struct atomic64 *a, u64 *old, u64 new)
{
	return seam_cas64(a, old, new);
}

static inline bool atomic64_cas_release(struct atomic64 *a, u64 *old, u64 new)
{
	return seam_cas64(a, old, new);
}

static inline bool atomic64_cas_acq_rel(struct atomic64 *a, u64 *old, u64 new)
{
	return seam_cas64(a, old, new);
}

static inline u64 atomic64_fetch_add(struct atomic64 *a, u64 n)
{
	return seam_add64(a, n);
}

static inline u64 atomic64_fetch_sub(struct atomic64 *a, u64 n)
{
	return seam_add64(a, -n);
}

static inline u64 atomic64_fetch_sub_release(struct atomic64 *a, u64 n)
{
	return seam_add64(a, -n);
}

static inline u64 atomic64_fetch_or(struct atomic64 *a, u64 bits)
{
	return seam_or64(a, bits);
}

static inline u64 atomic64_fetch_and(struct atomic64 *a, u64 bits)
{
	return seam_and64(a, bits);
}

static inline u32 atomic32_read(const struct atomic32 *a)
{
	return seam_read32(a);
}

static inline u32 atomic32_load_acquire(const struct atomic32 *a)
{
	return seam_read32(a);
}

static inline void atomic32_set(struct atomic32 *a, u32 v)
{
	(void)seam_xchg32(a, v);
}

static inline void atomic32_store_release(struct atomic32 *a, u32 v)
{
	(void)seam_xchg32(a, v);
}

static inline bool atomic32_cas_acquire(struct atomic32 *a, u32 *old, u32 new)
{
	return seam_cas32(a, old, new);
}

static inline u32 atomic32_xchg_acquire(struct atomic32 *a, u32 v)
{
	return seam_xchg32(a, v);
}

static inline u32 atomic32_xchg_release(struct atomic32 *a, u32 v)
{
	return seam_xchg32(a, v);
}

static inline u32 atomic32_add_return(struct atomic32 *a, u32 n)
{
	return seam_add32(a, n) + n;
}

static inline u32 atomic32_sub_return(struct atomic32 *a, u32 n)
{
	return seam_add32(a, -n) - n;
}

/* Nothing is ever out of order here. */
static inline void atomic_full_barrier(void)
{
}

static inline void atomic_pause(void)
{
	seam_spin();
}
