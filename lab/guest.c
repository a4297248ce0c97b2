// SPDX-License-Identifier: MIT
/*
 * What the guest's weir has instead of weir's own swap, so that src/cli/main.c, cmd_race.c and two of the benches link
 * as they are with nothing but libc: the target is the kernel, and everything else is refused.
 */
#include <errno.h>

#include "cli/bench.h"
#include "lab/target_weir.h"
#include "weir.h"

struct mm lab_mm;
struct mm_stats lab_stats;
const struct race_target lab_race_target;

int lab_open(const struct lab_config *cfg, char *err, size_t err_size)
{
	(void)cfg;
	snprintf(err, err_size, "only --target kernel here");
	return -EINVAL;
}

void lab_close(void)
{
}

void mm_stats_sum(const struct mm_stats *stats, struct weir_stats *out)
{
	(void)stats;
	*out = (struct weir_stats){ 0 };
}

static int refuse(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return cli_error(CLI_USAGE, NULL, "this is the lab's weir: it has race and bench only");
}

const struct verb verb_run = { .name = "run", .help = "not here", .parses_itself = true, .function = refuse };
const struct verb verb_swapon = { .name = "swapon", .help = "not here", .parses_itself = true, .function = refuse };
const struct verb verb_swapoff = { .name = "swapoff", .help = "not here", .parses_itself = true, .function = refuse };
const struct verb verb_probe = { .name = "probe", .help = "not here", .parses_itself = true, .function = refuse };
const struct verb verb_check = { .name = "check", .help = "not here", .parses_itself = true, .function = refuse };

const struct verb bench_workload = { .name = "bench workload", .parses_itself = true, .function = refuse };
const struct verb bench_phases = { .name = "bench phases", .parses_itself = true, .function = refuse };
const struct verb bench_hitrate = { .name = "bench hitrate", .parses_itself = true, .function = refuse };
const struct verb bench_device = { .name = "bench device", .parses_itself = true, .function = refuse };
const struct verb bench_scale = { .name = "bench scale", .parses_itself = true, .function = refuse };
