// SPDX-License-Identifier: MIT
/*
 * weir bench scale: how the throughput of swap-in grows with the threads that fault. The workload's sequential and
 * random reads under `weir run`, of a working set four times its memory, by 1 to all processors' threads; the numbers
 * of threads take turns in each round.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/print.h"
#include "cli/bench.h"
#include "cli/bench_data.h"
#include "cli/bench_phases.h"
#include "cli/spread.h"
#include "swap/swap_device.h"

enum { SHARE = 4, SCALE_ROUNDS_MAX = 99, SCALE_COUNTS_MAX = 24, EVERY_COUNT_MAX = 8, DATA_BYTES_MAX = 1 << 30 };

static const enum workload_phase scale_phases[] = { PHASE_SEQ_READ, PHASE_RAND_READ };

enum { NR_SCALE_PHASES = ARRAY_SIZE(scale_phases) };

static struct {
	u64 size, rounds, timed_ns, threads;
	const char *swap, *data;
	bool json;
} options = { .size = 128 << 20, .rounds = 3, .timed_ns = 2000000000, .swap = "zram" };

static const struct option_spec scale_options[] = {
	{ .name = "size",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.size,
	  .min = 64 << 20,
	  .help = "working set, of which a quarter is resident; default 128M" },
	{ .name = "threads",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.threads,
	  .min = 1,
	  .max = WORKLOAD_THREADS_MAX,
	  .help = "from one up to so many; default all processors" },
	{ .name = "rounds",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.rounds,
	  .min = 1,
	  .max = SCALE_ROUNDS_MAX,
	  .help = "default 3; medians are printed" },
	{ .name = "seconds",
	  .kind = OPTION_DURATION,
	  .argument = "TIME",
	  .value = &options.timed_ns,
	  .help = "how long the random reads go on; default 2" },
	{ .name = "swap",
	  .kind = OPTION_STRING,
	  .argument = "DEVICE",
	  .value = &options.swap,
	  .help = "as of weir run; default zram" },
	{ .name = "data",
	  .kind = OPTION_STRING,
	  .argument = "FILE",
	  .value = &options.data,
	  .help = "contents of the pages; default the largest libraries below /usr/lib" },
	{ .name = "json", .kind = OPTION_FLAG, .value = &options.json, .help = "one JSON object on stdout" },
	{ 0 },
};

static u64 counts[SCALE_COUNTS_MAX];
static unsigned int nr_counts;
static double rates[NR_SCALE_PHASES][SCALE_COUNTS_MAX][SCALE_ROUNDS_MAX]; /* accesses a second */
static char self[PATH_MAX];

/* All up to eight, then doubling, and the last. */
static void choose_counts(u64 most)
{
	for (u64 n = 1; n < most && nr_counts < SCALE_COUNTS_MAX - 1; n = n < EVERY_COUNT_MAX ? n + 1 : 2 * n)
		counts[nr_counts++] = n;
	counts[nr_counts++] = most;
}

static _Noreturn void child_main(u64 threads, int data_fd, int out)
{
	char size[32], resident[32], text[32], seconds[32], data[48];

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(out, STDOUT_FILENO);
	snprintf(size, sizeof(size), "--size=%llu", (unsigned long long)options.size);
	snprintf(resident, sizeof(resident), "%llu", (unsigned long long)ALIGN_DOWN(options.size / SHARE, PAGE_SIZE));
	snprintf(text, sizeof(text), "--threads=%llu", (unsigned long long)threads);
	snprintf(seconds, sizeof(seconds), "--seconds=%lluns", (unsigned long long)options.timed_ns);
	snprintf(data, sizeof(data), "--data=/proc/self/fd/%d", data_fd);
	execl(self, self, "run", "--resident", resident, "--swap", options.swap, "--allocator=none", "--", self,
	      "bench", "phases", size, text, seconds, data, "--phases=seq-read,rand-read", NULL);
	cli_error(0, "bench", "%s: %s", self, strerror(errno));
	_exit(127);
}

static unsigned int read_lines(FILE *in, unsigned int count, u64 round)
{
	enum workload_phase phase;
	struct workload_result result;
	unsigned int seen = 0;
	char line[256];

	while (fgets(line, sizeof(line), in)) {
		if (!phase_line_parse(line, &phase, &result))
			continue;
		for (unsigned int p = 0; p < NR_SCALE_PHASES; p++) {
			if (phase != scale_phases[p] || !result.wall_ns)
				continue;
			rates[p][count][round] = (double)result.accesses * 1e9 / (double)result.wall_ns;
			seen++;
		}
	}
	return seen;
}

static int run_one(unsigned int count, u64 round, int data_fd)
{
	unsigned int seen = 0;
	int out[2], status = 0;
	pid_t pid;
	FILE *in;

	if (pipe2(out, O_CLOEXEC))
		return cli_error(CLI_FAILED, "bench", "no pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		child_main(counts[count], data_fd, out[1]);
	close(out[1]);
	in = fdopen(out[0], "r");
	if (pid > 0 && in)
		seen = read_lines(in, count, round);
	if (in)
		fclose(in);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return cli_error(CLI_FAILED, "bench", "the workload cannot be started: %s", strerror(errno));
	if (status || seen != NR_SCALE_PHASES)
		return cli_error(CLI_FAILED, "bench", "the workload has failed with %llu threads",
				 (unsigned long long)counts[count]);
	return CLI_OK;
}

/* To those of one thread, of the same round. */
static double median_ratio(unsigned int phase, unsigned int count)
{
	double ratios[SCALE_ROUNDS_MAX];

	for (u64 r = 0; r < options.rounds; r++)
		ratios[r] = rates[phase][count][r] / rates[phase][0][r];
	return spread_of(ratios, options.rounds).median;
}

static void print_text(unsigned int phase, unsigned int count, double rate, double ratio)
{
	printf("%-10s %8llu %14.0f %8.2f %8.2f\n", workload_phase_names[scale_phases[phase]],
	       (unsigned long long)counts[count], rate, ratio, ratio / (double)counts[count]);
}

static void print_json(unsigned int phase, unsigned int count, double rate, double ratio)
{
	printf("%s{\"phase\": \"%s\", \"threads\": %llu, \"accesses_per_s\": %.0f, \"ratio\": %.3f}",
	       phase || count ? ", " : "", workload_phase_names[scale_phases[phase]], (unsigned long long)counts[count],
	       rate, ratio);
}

static void print_results(const char *what)
{
	double ratio[NR_SCALE_PHASES][SCALE_COUNTS_MAX];

	/* Ratios are of pairs, so they come before the rounds are sorted. */
	for (unsigned int p = 0; p < NR_SCALE_PHASES; p++) {
		for (unsigned int c = 0; c < nr_counts; c++)
			ratio[p][c] = median_ratio(p, c);
	}
	if (options.json)
		printf("{\"bench\": \"scale\", \"size_bytes\": %llu, \"rounds\": %llu, \"results\": [",
		       (unsigned long long)options.size, (unsigned long long)options.rounds);
	else
		printf("pages of %s, a quarter of them resident, %s\n%-10s %8s %14s %8s %8s\n", what, options.swap,
		       "phase", "threads", "accesses/s", "ratio", "each");
	for (unsigned int p = 0; p < NR_SCALE_PHASES; p++) {
		for (unsigned int c = 0; c < nr_counts; c++)
			(options.json ? print_json : print_text)(p, c, spread_of(rates[p][c], options.rounds).median,
								 ratio[p][c]);
	}
	if (options.json)
		puts("]}");
}

static int scale_main(int argc, char **argv)
{
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	struct swap_device_config cfg;
	char what[320], err[256];
	int data_fd;

	(void)argc;
	(void)argv;
	if (swap_device_parse(options.swap, &cfg, err, sizeof(err)))
		return cli_error(CLI_USAGE, "bench", "--swap: %s", err);
	if (len < 0)
		return cli_error(CLI_FAILED, "bench", "/proc/self/exe: %s", strerror(errno));
	choose_counts(options.threads ? options.threads : os_nr_cpus());
	data_fd = bench_data_open(options.data, options.size < DATA_BYTES_MAX ? options.size : DATA_BYTES_MAX, what,
				  sizeof(what));
	if (data_fd < 0)
		return CLI_FAILED;
	for (u64 round = 0; round < options.rounds; round++) {
		for (unsigned int count = 0; count < nr_counts; count++) {
			int ret = run_one(count, round, data_fd);

			if (ret)
				return ret;
		}
	}
	print_results(what);
	return cli_finish(CLI_OK, "bench");
}

const struct verb bench_scale = {
	.name = "bench scale",
	.help = "How the throughput of swap-in grows with the threads that fault",
	.synopsis = "[OPTIONS]",
	.details =
		"Accesses a second of all threads together, medians of the rounds; `ratio` to one thread, and that by\n"
		"thread: 1 where each is as fast as it is alone.\n",
	.options = scale_options,
	.usage_status = CLI_USAGE,
	.function = scale_main,
};
