/* SPDX-License-Identifier: MIT */
/* What `weir bench workload` has measured, and the ways to show it. */
#pragma once

#include <stdio.h>

#include "base/types.h"
#include "cli/spread.h"
#include "lab/workload.h"

enum bench_row {
	ROW_KERNEL,
	ROW_MEMORY, /* weir run --memory, with as much as the kernel had in all */
	ROW_RESIDENT, /* weir run --resident, the cgroup's limit */
	NR_ROWS,
};

enum { ROUNDS_MAX = 99, COUNTS_MAX = 8 };

extern const char *const bench_row_names[NR_ROWS];

struct bench_run {
	struct workload_result phase[NR_PHASES];
	u64 limit; /* bytes: of the cgroup, or as given to weir run */
	u64 resident_peak, stored_peak, total_peak; /* bytes */
	u64 wall_ns, cpu_ns, kswapd_ns;
	u64 oom_kills; /* times that the kernel ended it, before it ran to its end */
};

struct bench_results {
	u64 size, rounds, timed_ns;
	u64 threads[COUNTS_MAX];
	unsigned int nr_counts;
	unsigned int phases; /* bit per phase */
	bool has_row[NR_ROWS];
	const char *algo, *command;
	char data[320]; /* what the pages contain */
	char missing[256]; /* why there is no kernel; empty: there is one, or it was not asked for */
	struct bench_run *runs; /* see results_run() */
};

/* A figure of one run and phase. */
typedef double (*figure_fn)(const struct bench_run *run, enum workload_phase phase);

struct bench_run *results_run(const struct bench_results *results, u64 round, unsigned int count, enum bench_row row);
bool results_has_phase(const struct bench_results *results, enum workload_phase phase);

struct spread results_spread(const struct bench_results *results, unsigned int count, enum bench_row row,
			     enum workload_phase phase, figure_fn figure);

/* How many times as long the kernel takes for an access, of pairs of the same round. */
struct spread results_ratio(const struct bench_results *results, unsigned int count, enum bench_row row,
			    enum workload_phase phase);

/* The ratio that is aimed at. */
extern const double bench_goals[NR_PHASES];

void results_print_text(const struct bench_results *results, FILE *out);
void results_print_json(const struct bench_results *results, FILE *out);

/* An SVG of the ratios. */
void results_print_chart(const struct bench_results *results, FILE *out);
