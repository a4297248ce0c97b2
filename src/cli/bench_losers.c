// SPDX-License-Identifier: MIT
/*
 * weir bench losers: threads touch a page that is out, at once; what those cost that do not read it, for each way to
 * relax.
 */
#include <errno.h>
#include <string.h>

#include "cli/bench.h"
#include "lab/losers.h"
#include "lab/target_kernel.h"
#include "lab/target_weir.h"
#include "weir.h"

enum { THREADS_MAX = 1024 };
enum target { TARGET_WEIR, TARGET_KERNEL };

static const char *const target_names[] = { "weir", "kernel", NULL };

static struct {
	const char *swap;
	u64 races, threads;
	int target;
	bool json;
} options = { .swap = "brd:read_delay=1ms", .races = 256, .threads = 8 };

static const struct option_spec losers_options[] = {
	{ .name = "threads",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.threads,
	  .min = 2,
	  .max = THREADS_MAX,
	  .help = "how many touch a page at once, with the one that reads it; default 8" },
	{ .name = "races",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.races,
	  .min = 1,
	  .help = "how often; default 256" },
	{ .name = "swap",
	  .kind = OPTION_STRING,
	  .argument = "DEVICE",
	  .value = &options.swap,
	  .help = "default brd:read_delay=1ms" },
	{ .name = "target",
	  .kind = OPTION_CHOICE,
	  .choices = target_names,
	  .value = &options.target,
	  .help = "weir, or the running kernel's own swap; default weir" },
	{ .name = "json", .kind = OPTION_FLAG, .value = &options.json, .help = "one JSON object on stdout" },
	{ 0 },
};

static u64 pin_waits(void)
{
	struct weir_stats stats;

	mm_stats_sum(&lab_stats, &stats);
	return stats.pin_waits;
}

static void print_row(const char *name, const struct losers_result *r)
{
	double races = (double)r->races, lost = (double)r->lost_faults / races;
	/* Noise may make it negative; then it is nothing. */
	double cpu = r->cpu_ns > r->alone_cpu_ns ? (double)(r->cpu_ns - r->alone_cpu_ns) / races : 0;

	if (options.json)
		printf(", \"%s\": {\"lost_faults\": %.2f, \"losers_cpu_ns\": %.0f, \"wall_ns\": %.0f, "
		       "\"alone_cpu_ns\": %.0f, \"alone_wall_ns\": %.0f}",
		       name, lost, cpu, (double)r->wall_ns / races, (double)r->alone_cpu_ns / races,
		       (double)r->alone_wall_ns / races);
	else
		printf("%-8s %12.1f %15.1f us %12.2f ms %12.2f ms\n", name, lost, cpu / 1e3,
		       (double)r->wall_ns / races / 1e6, (double)r->alone_wall_ns / races / 1e6);
	fflush(stdout);
}

static int say_failure(int ret)
{
	if (ret == -EIO)
		return cli_error(CLI_FAILED, "bench", "the contents changed: an addition to a page was lost");
	if (ret == -EBUSY)
		return cli_error(CLI_USAGE, "bench", "no page leaves: the swap is full, or too small for %d pages",
				 LOSERS_PAGES);
	return cli_error(CLI_USAGE, "bench", "cannot run: %s", strerror(-ret));
}

static int run_kernel(void)
{
	struct losers_options race = { .threads = (unsigned int)options.threads, .races = options.races };
	struct losers_result r;
	int ret = losers_run(&race, &kernel_race_target, &r);

	if (ret)
		return say_failure(ret);
	print_row("kernel", &r);
	return CLI_OK;
}

static int run_relax(enum swapin_relax relax)
{
	struct losers_options race = { .threads = (unsigned int)options.threads,
				       .races = options.races,
				       .lost_faults = pin_waits };
	struct lab_config cfg = {
		.swap = options.swap,
		.region_bytes = LOSERS_PAGES * PAGE_SIZE,
		.policy = SWAPIN_DIRECT,
		.relax = relax,
		.no_readahead = true,
	};
	struct losers_result r;
	char err[160] = "";
	int ret = lab_open(&cfg, err, sizeof(err));

	if (ret)
		return cli_error(CLI_USAGE, "bench", "%s", err[0] ? err : strerror(-ret));
	ret = losers_run(&race, &lab_race_target, &r);
	/* With -EAGAIN threads are left, which wait for ever: the window has to stay. */
	if (ret != -EAGAIN)
		lab_close();
	if (ret)
		return say_failure(ret);
	print_row(swapin_relaxes[relax].name, &r);
	return CLI_OK;
}

static int losers_main(int argc, char **argv)
{
	bool kernel = options.target == TARGET_KERNEL;
	int ret = CLI_OK;

	(void)argc;
	(void)argv;
	if (kernel && !kernel_swap_is_active())
		return cli_error(CLI_USAGE, "bench", "%s", kernel_swap_hint);
	if (options.json)
		printf("{\"threads\": %llu, \"races\": %llu", (unsigned long long)options.threads,
		       (unsigned long long)options.races);
	else
		printf("A race: %llu threads touch a page that is out, at once; means of %llu.\n"
		       "%-8s %12s %18s %15s %15s\n",
		       (unsigned long long)options.threads, (unsigned long long)options.races, "relax", "lost faults",
		       "losers' CPU", "until all", "alone");
	if (kernel)
		ret = run_kernel();
	for (int relax = 0; !kernel && ret == CLI_OK && relax < NR_SWAPIN_RELAXES; relax++)
		ret = run_relax((enum swapin_relax)relax);
	if (options.json)
		printf("}\n");
	return cli_finish(ret, "bench");
}

const struct verb bench_losers = {
	.name = "bench losers",
	.help = "What it costs to lose a race for a page",
	.synopsis = "[OPTIONS]",
	.details = "Threads touch a page that is out, at once: what those cost that do not read it, for each way to\n"
		   "relax: faults that brought nothing, their CPU time, the time until all have it.\n",
	.options = losers_options,
	.usage_status = CLI_USAGE,
	.function = losers_main,
};
