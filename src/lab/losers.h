/* SPDX-License-Identifier: MIT */
/*
 * What the losers of a swap-in cost: several threads touch one page at once that is out; one of them reads it, and the
 * others come back to the fault until it is there. Such a touch by all of them is a race here.
 *
 * As race.c, this needs nothing but libc.
 */
#pragma once

#include "lab/race.h"

enum { LOSERS_PAGES = 64 };

struct losers_options {
	unsigned int threads; /* 2 to RACE_THREADS_MAX */
	uint64_t races; /* with all threads, and as many touches by one thread alone */
	/* Faults that found the page's slot pinned, so far; NULL: the kernel counts them as minor faults. */
	uint64_t (*lost_faults)(void);
};

struct losers_result {
	uint64_t races; /* those of a page that was out */
	uint64_t lost_faults; /* faults that brought nothing */
	uint64_t cpu_ns; /* of all threads from the touch until they had the page */
	uint64_t wall_ns; /* from the first touch until all had the page */
	uint64_t alone_cpu_ns, alone_wall_ns; /* the same with one thread, scaled to as many races */
};

/* 0, -EINVAL (options), -ENOMEM or -EAGAIN (region or threads), -EIO (an addition was lost), -EBUSY (no page leaves).
 */
int losers_run(const struct losers_options *options, const struct race_target *target, struct losers_result *result);
