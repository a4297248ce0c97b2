// SPDX-License-Identifier: MIT
/*
 * weir bench phases: the workload by itself, in whatever memory it is given. What `weir bench workload` runs on both
 * sides, and whose lines it reads.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/bench_phases.h"
#include "lab/workload.h"

static struct {
	u64 size, threads, timed_ns;
	const char *data, *phases;
} options = { .size = 64 << 20, .threads = 1, .timed_ns = 2000000000, .data = "/proc/self/exe" };

static const struct option_spec phases_options[] = {
	{ .name = "size",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.size,
	  .min = 1 << 20,
	  .help = "working set; default 64M" },
	{ .name = "threads",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.threads,
	  .min = 1,
	  .max = WORKLOAD_THREADS_MAX,
	  .help = "default 1" },
	{ .name = "seconds",
	  .kind = OPTION_DURATION,
	  .argument = "TIME",
	  .value = &options.timed_ns,
	  .help = "how long each of the random phases goes on; default 2" },
	{ .name = "phases",
	  .kind = OPTION_STRING,
	  .argument = "NAME,...",
	  .value = &options.phases,
	  .help = "default all; the fill is always there" },
	{ .name = "data",
	  .kind = OPTION_STRING,
	  .argument = "FILE",
	  .value = &options.data,
	  .help = "contents of the pages; default this program" },
	{ 0 },
};

int phases_parse(const char *text, unsigned int *phases)
{
	char list[160];

	*phases = (1u << NR_PHASES) - 1;
	if (!text)
		return 0;
	*phases = 1u << PHASE_FILL;
	if ((size_t)snprintf(list, sizeof(list), "%s", text) >= sizeof(list))
		return cli_error(CLI_USAGE, "bench", "--phases: the list is too long");
	for (char *save, *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		unsigned int p = 0;

		while (p < NR_PHASES && strcmp(name, workload_phase_names[p]) != 0)
			p++;
		if (p == NR_PHASES)
			return cli_error(CLI_USAGE, "bench",
					 "--phases: unknown phase '%s'; `weir bench phases --help` lists them", name);
		*phases |= 1u << p;
	}
	return 0;
}

void phase_line_print(enum workload_phase phase, const struct workload_result *r, FILE *out)
{
	fprintf(out, "%-11s %9.3f %12llu %14llu %14llu %12llu %10llu %10llu %10llu %12llu\n",
		workload_phase_names[phase], workload_us(r->wall_ns, r->accesses), (unsigned long long)r->accesses,
		(unsigned long long)r->wall_ns, (unsigned long long)r->cpu_ns, (unsigned long long)r->slow,
		(unsigned long long)r->p50_ns, (unsigned long long)r->p99_ns, (unsigned long long)r->p999_ns,
		(unsigned long long)r->max_ns);
}

bool phase_line_parse(const char *line, enum workload_phase *phase, struct workload_result *r)
{
	unsigned long long n[8];
	unsigned int p = 0;
	char name[16];

	if (sscanf(line, "%15s %*f %llu %llu %llu %llu %llu %llu %llu %llu", name, &n[0], &n[1], &n[2], &n[3], &n[4],
		   &n[5], &n[6], &n[7]) != 9)
		return false;
	while (p < NR_PHASES && strcmp(name, workload_phase_names[p]) != 0)
		p++;
	*phase = p;
	*r = (struct workload_result){
		.accesses = n[0],
		.wall_ns = n[1],
		.cpu_ns = n[2],
		.slow = n[3],
		.p50_ns = n[4],
		.p99_ns = n[5],
		.p999_ns = n[6],
		.max_ns = n[7],
	};
	return p < NR_PHASES;
}

static void tell_phase(enum workload_phase phase, const struct workload_result *result)
{
	if (phase == PHASE_FILL)
		printf("%-11s %9s %12s %14s %14s %12s %10s %10s %10s %12s\n", "phase", "us", "accesses", "wall ns",
		       "cpu ns", "slow", "p50 ns", "p99 ns", "p99.9 ns", "max ns");
	phase_line_print(phase, result, stdout);
	fflush(stdout);
}

static int phases_main(int argc, char **argv)
{
	struct workload workload = {
		.bytes = options.size,
		.threads = options.threads,
		.timed_ns = options.timed_ns,
	};
	u64 nr_wrong;
	int ret;

	(void)argc;
	(void)argv;
	if (phases_parse(options.phases, &workload.phases))
		return CLI_USAGE;
	workload.data_fd = open(options.data, O_RDONLY | O_CLOEXEC);
	if (workload.data_fd < 0)
		return cli_error(CLI_USAGE, "bench", "--data: %s: %m", options.data);
	ret = workload_run(&workload, tell_phase, &nr_wrong);
	if (ret)
		return cli_error(CLI_USAGE, "bench", "the workload cannot run: %s", strerror(-ret));
	if (nr_wrong)
		return cli_error(CLI_FAILED, "bench", "%llu times the contents of a page were wrong",
				 (unsigned long long)nr_wrong);
	puts("verified");
	return cli_finish(CLI_OK, "bench");
}

const struct verb bench_phases = {
	.name = "bench phases",
	.help = "The workload of weir bench workload by itself, in whatever memory it is given",
	.synopsis = "[OPTIONS]",
	.details =
		"Phases: fill, seq-read, seq-write, rand-read, rand-write, zipf-read, zipf-write, strided, chase.\n"
		"A line each: us per access of all threads together, accesses, wall and CPU time, how many accesses\n"
		"took 1 us or more, and of those p50, p99, p99.9 and the longest.\n",
	.options = phases_options,
	.usage_status = CLI_USAGE,
	.function = phases_main,
};
