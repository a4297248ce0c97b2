/* SPDX-License-Identifier: MIT */
/*
 * A program that uses more memory than it has, in one way after the other. It does not know what it runs on:
 * `weir bench workload` runs it under weir and under the kernel's own swap.
 *
 * The working set is filled with the contents of a file; one page in ten is zero and stays so. The first two words of
 * the others are a number of the page's own and a count of the writes to it, which every access verifies; all of every
 * page is verified at the end. No huge pages.
 *
 * Every access is timed by the processor's time stamp counter, read once an access, so the time of an access includes
 * the choice of the page.
 */
#pragma once

#include "base/types.h"

enum workload_phase {
	PHASE_FILL,
	PHASE_SEQ_READ,
	PHASE_SEQ_WRITE,
	PHASE_RAND_READ,
	PHASE_RAND_WRITE,
	PHASE_ZIPF_READ,
	PHASE_ZIPF_WRITE,
	PHASE_STRIDED,
	PHASE_CHASE,
	NR_PHASES,
};

enum { WORKLOAD_THREADS_MAX = 1024, WORKLOAD_SLOW_NS = 1000 };

extern const char *const workload_phase_names[NR_PHASES + 1]; /* NULL-ended */

struct workload {
	u64 bytes;
	u64 threads;
	u64 timed_ns; /* how long the phases without an end of their own go on */
	unsigned int phases; /* bit per phase; PHASE_FILL always runs */
	int data_fd; /* a file of at least a page */
};

struct workload_result {
	u64 accesses, wall_ns;
	u64 cpu_ns; /* of all threads of the process, also those that it does not know */
	u64 slow; /* accesses of WORKLOAD_SLOW_NS or more, and below their times, to 3 % */
	u64 p50_ns, p99_ns, p999_ns, max_ns;
};

/* us per access, of all threads together. */
double workload_us(u64 ns, u64 accesses);

/*
 * Runs the phases, tells each when it is over, and counts what was found wrong. 0; -EINVAL, -ENOMEM, or -errno of the
 * file or the threads. Once in a process.
 */
int must_check workload_run(const struct workload *workload,
			    void (*tell)(enum workload_phase phase, const struct workload_result *result),
			    u64 *nr_wrong);
