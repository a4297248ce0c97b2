/* SPDX-License-Identifier: MIT */
/*
 * Random pages of which some are far more popular than others: rank k (from 0) has a probability in proportion to
 * (k + 1)^-exponent, and the ranks are scattered over the pages, so that popular pages are not neighbours.
 *
 * Ranks come from a table of quantiles, with equal chances between two of them: exact where one rank takes several
 * steps.
 */
#pragma once

#include "base/types.h"

enum { ZIPF_STEPS = 1 << 16 };

struct zipf {
	u32 nr_pages;
	u32 quantile[ZIPF_STEPS + 1]; /* ranks with so many steps of probability below them */
};

void zipf_init(struct zipf *zipf, u32 nr_pages, double exponent);

u32 zipf_page(const struct zipf *zipf, u64 *random);

/* xorshift64*; the state must not be 0. 48 good bits. */
static inline u64 random_next(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dull >> 16;
}
