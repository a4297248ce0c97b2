// SPDX-License-Identifier: MIT
/*
 * weir race: the reproducer of the patch, on weir's own swap with any of the swap-in designs, or on the kernel's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/print.h"
#include "cli/cli.h"
#include "cli/record.h"
#include "lab/race.h"
#include "lab/target_kernel.h"
#include "lab/target_weir.h"
#include "weir.h"

enum { RACE_NO_LOSS = 0, RACE_LOSS = 1 };
enum target { TARGET_WEIR, TARGET_KERNEL };

static const char *const target_names[] = { "weir", "kernel", NULL };

static struct {
	u64 size, threads, rounds, time_ns;
	const char *swap, *policy, *relax;
	int target;
	bool all, json, keep_going;
} options = {
	.size = 32 << 20,
	.threads = 16,
	.time_ns = 30000000000,
	.policy = "direct",
	.relax = "slot",
};

static const struct option_spec race_options[] = {
	{ .name = "target",
	  .kind = OPTION_CHOICE,
	  .choices = target_names,
	  .value = &options.target,
	  .help = "whose swap is tried; default weir" },
	{ .name = "policy",
	  .kind = OPTION_STRING,
	  .argument = "NAME",
	  .value = &options.policy,
	  .help = "how a page comes back; default direct (listed below)" },
	{ .name = "relax",
	  .kind = OPTION_STRING,
	  .argument = "NAME",
	  .value = &options.relax,
	  .help = "how the loser of a race waits; default slot (listed below)" },
	{ .name = "all", .kind = OPTION_FLAG, .value = &options.all, .help = "try every policy, print a table" },
	{ .name = "size",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.size,
	  .min = 64 << 10,
	  .help = "the region; default 32M" },
	{ .name = "swap",
	  .kind = OPTION_STRING,
	  .argument = "DEVICE",
	  .value = &options.swap,
	  .help = "default brd:size=SIZE,read_delay=1ms" },
	{ .name = "threads",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.threads,
	  .min = 1,
	  .max = RACE_THREADS_MAX,
	  .help = "workers, half of them from each end; default 16" },
	{ .name = "rounds",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.rounds,
	  .help = "stop after that many; default 0: when the time is up" },
	{ .name = "seconds",
	  .kind = OPTION_DURATION,
	  .argument = "TIME",
	  .value = &options.time_ns,
	  .help = "stop after that long; default 30, 0 for no bound" },
	{ .name = "keep-going",
	  .kind = OPTION_FLAG,
	  .value = &options.keep_going,
	  .help = "go on after a loss, to count them" },
	{ .name = "json", .kind = OPTION_FLAG, .value = &options.json, .help = "one JSON object a run on stdout" },
	{ 0 },
};

static void show_progress(const struct race_options *o, u64 rounds, u64 lost, u64 elapsed_ns)
{
	(void)o;
	fprintf(stderr, "\r%5.1f s, %llu rounds, %llu pages lost ", (double)elapsed_ns / 1e9,
		(unsigned long long)rounds, (unsigned long long)lost);
	fflush(stderr);
}

static int error(int status, const char *what, int err)
{
	return cli_error(status, "race", "%s: %s", what, strerror(-err));
}

/* ---- one run ---- */

struct run {
	const char *target, *policy, *relax, *swap;
	struct race_result result;
	u64 pages_in, pages_out; /* kernel: those of the whole system */
	u64 pin_waits; /* weir only */
};

static int run_kernel(struct run *run, const struct race_options *o)
{
	struct kernel_swap_counts before, after;
	int ret;

	if (!kernel_swap_is_active())
		return cli_error(CLI_USAGE, "race", "%s", kernel_swap_hint);
	before = kernel_swap_counts();
	ret = race_run(o, &kernel_race_target, &run->result);
	after = kernel_swap_counts();
	run->pages_in = after.in - before.in;
	run->pages_out = after.out - before.out;
	return -ret;
}

static int run_weir(struct run *run, const struct race_options *o)
{
	int policy = swapin_choice_find(swapin_policies, NR_SWAPIN_POLICIES, run->policy);
	int relax = swapin_choice_find(swapin_relaxes, NR_SWAPIN_RELAXES, run->relax);
	struct lab_config cfg = {
		.swap = run->swap,
		.region_bytes = o->region_bytes,
		.policy = (enum swapin_policy)policy,
		.relax = (enum swapin_relax)relax,
	};
	struct weir_stats stats;
	char err[160] = "";
	int ret = lab_open(&cfg, err, sizeof(err));

	if (ret == -EINVAL && err[0])
		return cli_error(CLI_USAGE, "race", "--swap: %s", err);
	if (ret)
		return error(CLI_USAGE, "cannot set up (see weir probe)", ret);
	ret = race_run(o, &lab_race_target, &run->result);
	mm_stats_sum(&lab_stats, &stats);
	run->pages_in = stats.pages_in;
	run->pages_out = stats.pages_out;
	run->pin_waits = stats.pin_waits;
	lab_close();
	return -ret;
}

static void fill_record(const struct run *run, struct record *record)
{
	const struct race_result *r = &run->result;

	record_text(record, "target", "target", run->target);
	if (options.target == TARGET_WEIR) {
		record_text(record, "policy", "policy", run->policy);
		record_text(record, "relax", "relax", run->relax);
		record_text(record, "swap", "swap", run->swap);
	}
	record_number(record, RECORD_COUNT, "threads", "threads", options.threads);
	record_number(record, RECORD_COUNT, "rounds", "rounds", r->rounds);
	record_number(record, RECORD_NS, "elapsed_ns", "time", r->elapsed_ns);
	record_number(record, RECORD_COUNT, "pages_lost", "pages lost", r->pages_lost);
	record_number(record, RECORD_COUNT, "counts_lost", "counts lost", r->counts_lost);
	record_number(record, RECORD_COUNT, "misloads", "misloads", r->misloads);
	record_number(record, RECORD_NS, "first_loss_ns", "first loss after", r->first_loss_ns)->quiet = true;
	record_number(record, RECORD_COUNT, "pages_in", "pages in", run->pages_in);
	record_number(record, RECORD_COUNT, "pages_out", "pages out", run->pages_out);
	if (options.target == TARGET_WEIR)
		record_number(record, RECORD_COUNT, "pin_waits", "waits for a pin", run->pin_waits);
}

static bool is_loss(const struct race_result *r)
{
	return r->pages_lost || r->misloads;
}

static void print_losses(const struct race_result *r)
{
	for (unsigned int i = 0; i < r->nr_losses; i++) {
		const struct race_loss *l = &r->losses[i];

		if (l->is_misload)
			printf("misload: round %llu, page %zu has another page's constant\n",
			       (unsigned long long)l->round, l->page);
		else
			printf("data loss: round %llu, page %zu: expected %llu, got %llu\n",
			       (unsigned long long)l->round, l->page, (unsigned long long)l->expected,
			       (unsigned long long)l->found);
	}
}

static void print_run(const struct run *run)
{
	static struct record record;

	record.nr_rows = 0;
	fill_record(run, &record);
	if (options.json) {
		printf("{");
		record_print_json(&record, stdout);
		printf("}\n");
		return;
	}
	print_losses(&run->result);
	record_print_text(&record, stdout);
	/* One line for scripts. */
	printf("race: %s %s/%s: %s, %llu rounds, %llu pages lost, %llu misloads\n", run->target, run->policy,
	       run->relax, is_loss(&run->result) ? "DATA LOST" : "nothing lost", (unsigned long long)run->result.rounds,
	       (unsigned long long)run->result.pages_lost, (unsigned long long)run->result.misloads);
}

/* 0 or a status to end with. */
static int run_one(struct run *run)
{
	struct race_options o = {
		.region_bytes = options.size,
		.threads = (unsigned int)options.threads,
		.rounds_max = options.rounds,
		.time_max_ns = options.time_ns,
		.stop_at_loss = !options.keep_going,
		.progress = isatty(STDERR_FILENO) ? show_progress : NULL,
	};
	int ret = options.target == TARGET_KERNEL ? run_kernel(run, &o) : run_weir(run, &o);

	if (o.progress)
		fprintf(stderr, "\r%60s\r", "");
	if (ret > CLI_USAGE)
		return error(CLI_USAGE, "cannot run", -ret);
	return ret;
}

static int run_all(struct run *run)
{
	bool lost_safe = false;

	printf("%-14s %-7s %9s %11s %9s %11s %12s\n", "policy", "relax", "rounds", "pages lost", "misloads",
	       "first loss", "waits");
	for (int p = 0; p < NR_SWAPIN_POLICIES; p++) {
		char first[24] = "none";
		int ret;

		run->policy = swapin_policies[p].name;
		ret = run_one(run);
		if (ret)
			return ret;
		if (run->result.first_loss_ns)
			snprintf(first, sizeof(first), "%.2f s", (double)run->result.first_loss_ns / 1e9);
		printf("%-14s %-7s %9llu %11llu %9llu %11s %12llu\n", run->policy, run->relax,
		       (unsigned long long)run->result.rounds, (unsigned long long)run->result.pages_lost,
		       (unsigned long long)run->result.misloads, first, (unsigned long long)run->pin_waits);
		fflush(stdout);
		lost_safe |= is_loss(&run->result) && swapin_policies[p].safe;
	}
	return lost_safe ? RACE_LOSS : RACE_NO_LOSS;
}

static int race_main(int argc, char **argv)
{
	static char default_swap[64];
	static struct run run;

	if (argc > 0)
		return cli_error(CLI_USAGE, "race", "unexpected word '%s'; options begin with --", argv[0]);
	if (swapin_choice_find(swapin_policies, NR_SWAPIN_POLICIES, options.policy) < 0)
		return cli_error(CLI_USAGE, "race", "unknown policy '%s'; `weir race --help` lists them",
				 options.policy);
	if (swapin_choice_find(swapin_relaxes, NR_SWAPIN_RELAXES, options.relax) < 0)
		return cli_error(CLI_USAGE, "race", "unknown way to relax '%s'; `weir race --help` lists them",
				 options.relax);
	if (options.all && options.target == TARGET_KERNEL)
		return cli_error(CLI_USAGE, "race",
				 "--all tries weir's policies; the kernel has one: leave one of the two out");
	snprintf(default_swap, sizeof(default_swap), "brd:size=%llu,read_delay=1ms", (unsigned long long)options.size);
	run.target = target_names[options.target];
	/* What the kernel does is its own choice. */
	run.policy = options.target == TARGET_KERNEL ? "own" : options.policy;
	run.relax = options.target == TARGET_KERNEL ? "own" : options.relax;
	run.swap = options.swap ? options.swap : default_swap;
	if (options.all)
		return run_all(&run);
	{
		int ret = run_one(&run);

		if (ret)
			return ret;
	}
	print_run(&run);
	return cli_finish(is_loss(&run.result) ? RACE_LOSS : RACE_NO_LOSS, "race");
}

const struct verb verb_race = {
	.name = "race",
	.help = "try to lose data in the swap-in race",
	.synopsis = "[OPTIONS]",
	.details = "Workers add 1 to every page from both ends while one thread pages everything out.\n"
		   "Exit status: 0 nothing lost, 1 data lost, 2 usage or set-up.\n\n"
		   "policies:  direct         skip the swap cache with the slot pinned (the patch)\n"
		   "           cached         never skip the swap cache\n"
		   "           direct-unsafe  skip the swap cache without a pin (before the patch)\n"
		   "           direct-count   raise the swap count while reading (rejected)\n"
		   "           direct-retry   try again in place for a lost pin (suggested)\n"
		   "relax:     slot none yield tick queue\n",
	.options = race_options,
	.usage_status = CLI_USAGE,
	.function = race_main,
};
