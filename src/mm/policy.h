/* SPDX-License-Identifier: MIT */
/*
 * Ways to swap in, and ways for the loser of a race to wait: small choices inside one do_swap_page (fault.c). Only
 * those marked safe may be used outside of the lab (`weir race`, `weir check`, `weir bench`); mm_create() refuses the
 * others unless cfg->lab is set.
 */
#pragma once

#include "base/types.h"

enum swapin_policy {
	SWAPIN_DIRECT,
	SWAPIN_CACHED,
	SWAPIN_DIRECT_UNSAFE,
	SWAPIN_DIRECT_COUNT,
	SWAPIN_DIRECT_RETRY,
	NR_SWAPIN_POLICIES,
};

enum swapin_relax {
	RELAX_SLOT,
	RELAX_NONE,
	RELAX_YIELD,
	RELAX_TICK,
	RELAX_QUEUE,
	NR_SWAPIN_RELAXES,
};

struct swapin_choice {
	const char *name;
	const char *help; /* one line */
	bool safe;
};

extern const struct swapin_choice swapin_policies[NR_SWAPIN_POLICIES];
extern const struct swapin_choice swapin_relaxes[NR_SWAPIN_RELAXES];

/* The choice of that name, or -ENOENT. */
int must_check swapin_choice_find(const struct swapin_choice *choices, int nr, const char *name);
