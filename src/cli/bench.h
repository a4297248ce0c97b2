/* SPDX-License-Identifier: MIT */
/* The benches: verbs under `weir bench`. */
#pragma once

#include "cli/cli.h"

extern const struct verb bench_swapin;
extern const struct verb bench_losers;
extern const struct verb bench_workload;
extern const struct verb bench_phases;
extern const struct verb bench_hitrate;
extern const struct verb bench_device;
extern const struct verb bench_scale;
