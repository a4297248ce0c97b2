/* SPDX-License-Identifier: MIT */
/*
 * What `weir run --stats` says at the end, as a block of text or as one line of JSON.
 */
#pragma once

#include <stdio.h>
#include <sys/resource.h>

#include "base/types.h"
#include "swap/filter.h"
#include "weir.h"

struct run_outcome {
	const char *command;
	int status; /* of wait4(2) */
	u64 wall_ns;
	struct rusage usage;
	bool reported; /* the shim has run in the command and written its counters */
	struct weir_stats stats;
	const struct lower_counts *lower; /* of zram's lower device; NULL: not known */
	const struct swap_times *times; /* of the device's calls: stats=on; NULL or all 0 without */
	/* The limits are shared by all processes of the run: how many there were, at once, and turned away, and bytes.
	 */
	bool shared;
	u64 processes, processes_peak, processes_refused, granted_peak;
};

void summary_print(const struct run_outcome *outcome, bool json, FILE *out);
