/* SPDX-License-Identifier: MIT */
/*
 * Does something pay? Learnt from what came of it: up each time that it did, down each time that it did not, within
 * bounds at which nobody changes it. While it does not, one thing in SCORE_TRIES goes on being tried, and counts more.
 *
 * Relaxed, and updates may be lost: the score is a hint, and a line that all threads write only while it moves.
 * Context: any.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

enum {
	SCORE_MAX = 1024,
	SCORE_TRIES = 64,
	SCORE_WEIGHT = 16, /* of a try */
};

static inline bool score_pays(const struct atomic32 *score)
{
	return atomic32_read(score) >= SCORE_MAX / 2;
}

/* `number` should be different for things of which some are to be tried. */
static inline bool score_pays_or_tries(const struct atomic32 *score, u32 number)
{
	return score_pays(score) || number % SCORE_TRIES == 0;
}

static inline void score_up(struct atomic32 *score, u32 nr)
{
	u32 old = atomic32_read(score), weight = score_pays(score) ? 1 : SCORE_WEIGHT;

	if (old < SCORE_MAX)
		atomic32_set(score, (u32)min_u64(old + (u64)nr * weight, SCORE_MAX));
}

static inline void score_down(struct atomic32 *score, u32 nr)
{
	u32 old = atomic32_read(score), weight = score_pays(score) ? 1 : SCORE_WEIGHT;

	if (old > 0)
		atomic32_set(score, old - (u32)min_u64(old, (u64)nr * weight));
}
