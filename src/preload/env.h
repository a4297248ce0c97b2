/* SPDX-License-Identifier: MIT */
/*
 * What `weir run` tells the shim (and, by inheritance, the shims of programs that the command starts).
 */
#pragma once

#include "mm/stats.h"
#include "swap/filter.h"
#include "swap/lower.h"

#define WEIR_ENV_MEMORY "WEIR_MEMORY" /* bytes, decimal; absent: no such cap */
#define WEIR_ENV_RESIDENT "WEIR_RESIDENT" /* bytes, decimal; absent: no such cap */
/*
 * Path of the pool (tree/pool.h) that the caps belong to: "/proc/<holder>/fd/<n>", so that it is found by programs that
 * close all descriptors, and gone when all have ended. Absent: each process has the caps for itself.
 */
#define WEIR_ENV_TREE "WEIR_TREE"
/* Device specifications, one a line, e.g. "zram:algo=lz4"; the first is used first. */
#define WEIR_ENV_SWAP "WEIR_SWAP"
/* Path of the list of devices (tree/swaps.h), as WEIR_ENV_TREE; where it is not reached, WEIR_ENV_SWAP counts. */
#define WEIR_ENV_SWAPS "WEIR_SWAPS"
#define WEIR_ENV_WRITEBACK "WEIR_WRITEBACK" /* swap_writeback_parse(); absent: the defaults */
#define WEIR_ENV_FAULTS "WEIR_FAULTS" /* "thread": faults by message; else by signal */
/*
 * "<fd>:<pid>": a memfd that holds a struct run_counters, for `weir run --stats`. Only the process <pid> uses it. The
 * descriptor stays open, so that a program which that process executes finds it again.
 */
#define WEIR_ENV_STATS "WEIR_STATS"

struct run_counters {
	struct mm_stats stats;
	struct swap_times times; /* of a device with stats=on */
	struct lower_counts lower; /* of zram's lower device */
};

/* For tests and experiments. */
#define WEIR_ENV_VM "WEIR_VM" /* "move" or "copy": how pages leave (enum weir_vm) */
#define WEIR_ENV_ADOPT "WEIR_ADOPT" /* "now": manage memory from the first mapping on */
#define WEIR_ENV_STRESS "WEIR_STRESS" /* pages a second thrown out at random, 0: all it can (stress.h) */
#define WEIR_ENV_TRACE "WEIR_TRACE" /* a file that gets a line for each event of each process (trace.h) */
