/* SPDX-License-Identifier: MIT */
/* The bounded worlds that are explored: two or three threads, a few pages, one or two slots. */
#pragma once

#include "world.h"

struct scenario {
	const char *name;
	const char *help; /* one line */
	struct world_config world; /* reports_misuse is set by the policy */
	void (*setup)(void);
	struct {
		const char *name;
		void (*fn)(void *arg);
	} thread[THREADS_MAX];
	void (*at_rest)(void); /* besides world_check(); may be NULL */
	bool priority; /* the threads run by priority, the last being the highest, and come in at any moment */
	bool time_stands; /* no timeout must be needed */
	bool all_relaxes; /* of interest for how the losers wait */
};

extern const struct scenario scenarios[];

/* NULL: there is none of that name. */
const struct scenario *scenario_find(const char *name);
