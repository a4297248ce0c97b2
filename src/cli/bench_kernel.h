/* SPDX-License-Identifier: MIT */
/*
 * The kernel's side of `weir bench workload`: a memory cgroup (v1 or v2), a zram device of its own as swap of the
 * highest priority, zswap off. Everything is put back at the end, however that comes (cli/undo.h).
 */
#pragma once

#include <sys/types.h>

#include "base/types.h"

struct kernel_usage {
	u64 resident_peak; /* bytes charged to the cgroup */
	u64 stored_peak; /* bytes of zram's store */
	u64 cpu_ns; /* of the cgroup; 0: not known */
	u64 oom_kills; /* processes that the kernel has ended for want of memory in the cgroup */
	u64 kswapd_ns; /* of all kswapd threads of the machine, meanwhile */
};

/* 0, or -1 with a line in `why` that says what is missing. */
int must_check kernel_side_open(const char *algo, u64 working_set, char *why, size_t size);

/* An empty device and cgroup for the next run. 0, or -1 with a line in `why`. */
int must_check kernel_side_begin(u64 limit, char *why, size_t size);

/* In the child: moves it to the cgroup. 0 or -errno. */
int must_check kernel_side_enter(void);

/* After the child's end. */
void kernel_side_measure(struct kernel_usage *usage);

/* Puts everything back. 0, or -EIO: not all of it, as was said. */
int must_check kernel_side_close(void);
