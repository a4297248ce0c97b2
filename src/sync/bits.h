/* SPDX-License-Identifier: MIT */
/*
 * Up to 64 equal things, a bit for each that is free. Taking one is an acquire that meets the release of giving it
 * back. Whoever finds none sleeps on `bumped`, which changes with each that comes free; several sets may share it.
 */
#pragma once

#include "base/assert.h"
#include "base/mutation.h"
#include "sync/atomic.h"
#include "sync/wait.h"

static inline void bits_init(struct atomic64 *bits, u32 nr)
{
	must(nr <= 64);
	atomic64_set(bits, nr ? ~(u64)0 >> (64 - nr) : 0);
}

static inline bool bits_tryget(struct atomic64 *bits, u32 *bit)
{
	u64 old = atomic64_read(bits);

	while (old) {
		if (atomic64_cas_acquire(bits, &old, old & (old - 1))) {
			*bit = (u32)__builtin_ctzll(old);
			return true;
		}
	}
	return false;
}

/* May sleep. Context: not where the holder of all of them could be what was interrupted. */
static inline u32 bits_get(struct atomic64 *bits, struct atomic32 *bumped)
{
	for (;;) {
		u32 seen = atomic32_load_acquire(bumped), bit;

		if (bits_tryget(bits, &bit))
			return bit;
		sync_wait32(bumped, seen);
	}
}

static inline void bits_put(struct atomic64 *bits, struct atomic32 *bumped, u32 bit)
{
	u64 old = atomic64_fetch_or(bits, (u64)1 << bit);

	must(!(old & (u64)1 << bit));
	if (!mutate(MUTATE_FRAME_NO_BUMP))
		atomic32_add_return(bumped, 1);
	/* Nobody sleeps while there is one. */
	if (old == 0)
		sync_wake32_all(bumped);
}
