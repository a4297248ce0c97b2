// SPDX-License-Identifier: MIT
#include "mm/policy.h"

#include <errno.h>
#include <string.h>

const struct swapin_choice swapin_policies[NR_SWAPIN_POLICIES] = {
	[SWAPIN_DIRECT] = { "direct", "skip the swap cache with the slot pinned (the patch)", true },
	[SWAPIN_CACHED] = { "cached", "never skip the swap cache", true },
	[SWAPIN_DIRECT_UNSAFE] = { "direct-unsafe", "skip the swap cache without a pin (before the patch)", false },
	[SWAPIN_DIRECT_COUNT] = { "direct-count", "raise the swap count while reading (rejected)", false },
	[SWAPIN_DIRECT_RETRY] = { "direct-retry", "try again in place for a lost pin (suggested)", false },
};

const struct swapin_choice swapin_relaxes[NR_SWAPIN_RELAXES] = {
	[RELAX_SLOT] = { "slot", "sleep on that slot until it is let go", true },
	[RELAX_NONE] = { "none", "fault again at once", false },
	[RELAX_YIELD] = { "yield", "give the processor away once (the patch's schedule())", false },
	[RELAX_TICK] = { "tick", "sleep for one tick (as merged)", false },
	[RELAX_QUEUE] = { "queue", "sleep on one queue for all slots, at most a tick (6.12)", false },
};

int swapin_choice_find(const struct swapin_choice *choices, int nr, const char *name)
{
	for (int i = 0; i < nr; i++) {
		if (!strcmp(choices[i].name, name))
			return i;
	}
	return -ENOENT;
}
