// SPDX-License-Identifier: MIT
/*
 * weir bench workload: a working set W of real file contents in a quarter of its size, under weir and under the
 * kernel's own zram, with equal memory. In each round and for each number of threads
 *
 *   the kernel has a cgroup of W/4, and what its zram takes on top;
 *   weir has --memory of exactly that sum, and in another row --resident W/4, the kernel's own split.
 *
 * Without the kernel weir has --resident W/4 first, and then --memory of what it took.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/parse.h"
#include "base/print.h"
#include "cli/bench.h"
#include "cli/bench_data.h"
#include "cli/bench_kernel.h"
#include "cli/bench_phases.h"
#include "cli/bench_results.h"
#include "sync/wait.h"

enum { SHARE = 4, ARGS_MAX = 32, TRIES_MAX = 5, DATA_BYTES_MAX = 1 << 30 };

static const char *const algo_names[] = { "lz4", "zstd", NULL };
/* Of weir: the kernel's zstd has this level unless it is told another. */
static const char *const algo_devices[] = { "zram:algo=lz4", "zram:algo=zstd,level=3" };

static struct {
	u64 size, rounds, timed_ns;
	const char *threads, *targets, *data, *phases, *chart;
	int algo;
	bool json;
} options = { .size = 1ul << 30, .rounds = 3, .timed_ns = 2000000000, .threads = "1,2,n", .targets = "weir,kernel" };

static const struct option_spec workload_options[] = {
	{ .name = "size",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.size,
	  .min = 32 << 20,
	  .help = "working set, of which a quarter fits; default 1G" },
	{ .name = "threads",
	  .kind = OPTION_STRING,
	  .argument = "N,...",
	  .value = &options.threads,
	  .help = "numbers of threads, n for all processors; default 1,2,n" },
	{ .name = "rounds",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.rounds,
	  .min = 1,
	  .max = ROUNDS_MAX,
	  .help = "default 3; medians are printed" },
	{ .name = "targets",
	  .kind = OPTION_STRING,
	  .argument = "NAME,...",
	  .value = &options.targets,
	  .help = "weir, kernel or both; default both" },
	{ .name = "algo",
	  .kind = OPTION_CHOICE,
	  .choices = algo_names,
	  .value = &options.algo,
	  .help = "of both; default lz4" },
	{ .name = "data",
	  .kind = OPTION_STRING,
	  .argument = "FILE",
	  .value = &options.data,
	  .help = "contents of the pages; default the largest libraries below /usr/lib" },
	{ .name = "phases",
	  .kind = OPTION_STRING,
	  .argument = "NAME,...",
	  .value = &options.phases,
	  .help = "default all; the fill is always there" },
	{ .name = "seconds",
	  .kind = OPTION_DURATION,
	  .argument = "TIME",
	  .value = &options.timed_ns,
	  .help = "how long each of the random phases goes on; default 2" },
	{ .name = "json", .kind = OPTION_FLAG, .value = &options.json, .help = "one JSON object on stdout" },
	{ .name = "chart",
	  .kind = OPTION_STRING,
	  .argument = "FILE",
	  .value = &options.chart,
	  .help = "write the ratios as an SVG" },
	{ 0 },
};

static struct bench_results results;
static int data_fd;
static char self[PATH_MAX];

/* ---- being stopped ---- */

static const int stop_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static volatile sig_atomic_t stopped_by; /* tidy: volatile: of signal handlers */
static volatile sig_atomic_t child; /* tidy: volatile: set with the signals blocked */

/* The child ends, so its output does, and that is what this process waits for. */
static void on_stop(int sig)
{
	int saved = errno;

	stopped_by = sig;
	if (child)
		kill((pid_t)child, SIGTERM);
	errno = saved;
}

static void catch_stops(void)
{
	struct sigaction action = { .sa_handler = on_stop, .sa_flags = SA_RESTART }, old;

	for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++) {
		if (sigaction(stop_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(stop_signals[i], &action, NULL);
	}
}

static void block_stops(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++)
		sigaddset(&set, stop_signals[i]);
	sigprocmask(SIG_BLOCK, &set, old);
}

/* ---- one child ---- */

struct arguments {
	char *arg[ARGS_MAX];
	int nr;
	char text[12][PATH_MAX + 32];
	int nr_texts;
};

static void add_argument(struct arguments *args, const char *text)
{
	args->arg[args->nr++] = (char *)text;
	args->arg[args->nr] = NULL;
}

static void printf_like(2, 3) add_format(struct arguments *args, const char *fmt, ...)
{
	char *text = args->text[args->nr_texts++];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(args->text[0]), fmt, ap);
	va_end(ap);
	add_argument(args, text);
}

static void add_arguments(struct arguments *args, enum bench_row row, unsigned int count, u64 limit)
{
	add_argument(args, self);
	if (row != ROW_KERNEL) {
		add_argument(args, "run");
		add_argument(args, row == ROW_MEMORY ? "--memory" : "--resident");
		add_format(args, "%llu", (unsigned long long)limit);
		add_argument(args, "--swap");
		add_argument(args, algo_devices[options.algo]);
		add_argument(args, "--allocator=none");
		add_argument(args, "--stats=json");
		add_argument(args, "--");
		add_argument(args, self);
	}
	add_argument(args, "bench");
	add_argument(args, "phases");
	add_format(args, "--size=%llu", (unsigned long long)results.size);
	add_format(args, "--threads=%llu", (unsigned long long)results.threads[count]);
	add_format(args, "--seconds=%lluns", (unsigned long long)results.timed_ns);
	add_format(args, "--data=/proc/self/fd/%d", data_fd);
	if (options.phases)
		add_format(args, "--phases=%s", options.phases);
}

static _Noreturn void child_main(struct arguments *args, enum bench_row row, int out, int err, const sigset_t *mask)
{
	int ret = row == ROW_KERNEL ? kernel_side_enter() : 0;

	/* weir run hands a SIGTERM on. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	for (size_t i = 0; i < ARRAY_SIZE(stop_signals); i++)
		signal(stop_signals[i], SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (!ret)
		execv(args->arg[0], args->arg);
	cli_error(0, "bench", "%s: %s", ret ? "the cgroup cannot be entered" : self, strerror(ret ? -ret : errno));
	_exit(127);
}

/* Its lines, until it ends, and what they say. */
static unsigned int read_phases(FILE *in, struct bench_run *run)
{
	enum workload_phase phase;
	struct workload_result result;
	unsigned int seen = 0;
	char line[256];

	while (fgets(line, sizeof(line), in)) {
		if (!phase_line_parse(line, &phase, &result))
			continue;
		run->phase[phase] = result;
		seen |= 1u << phase;
		fprintf(stderr, " %s %.2f", workload_phase_names[phase], workload_us(result.wall_ns, result.accesses));
	}
	fputc('\n', stderr);
	return seen;
}

static u64 json_number(const char *json, const char *key)
{
	const char *at = strstr(json, key);

	return at ? strtoull(at + strlen(key) + strlen("\": "), NULL, 10) : 0;
}

/* What the child said on stderr: the summary of weir run is for us, all else for the user. */
static void read_messages(int fd, struct bench_run *run, enum bench_row row)
{
	FILE *f = lseek(fd, 0, SEEK_SET) == 0 ? fdopen(dup(fd), "r") : NULL;
	char line[8192];

	while (f && fgets(line, sizeof(line), f)) {
		if (row == ROW_KERNEL || line[0] != '{') {
			fputs(line, stderr);
			continue;
		}
		run->resident_peak = json_number(line, "\"resident_peak_bytes");
		run->stored_peak = json_number(line, "\"stored_peak_bytes");
		run->total_peak = json_number(line, "\"total_peak_bytes");
	}
	if (f)
		fclose(f);
}

/* How a child came to its end. */
struct outcome {
	int status; /* of wait4(2) */
	unsigned int seen; /* bit per phase that it told of */
};

static int judge(const struct outcome *outcome)
{
	int status = outcome->status;

	if (WIFSIGNALED(status))
		return cli_error(CLI_FAILED, "bench", "the workload was ended by signal %d (%s)", WTERMSIG(status),
				 strsignal(WTERMSIG(status)));
	if (status)
		return cli_error(CLI_FAILED, "bench", "the workload ended with status %d", WEXITSTATUS(status));
	if (outcome->seen != results.phases)
		return cli_error(CLI_FAILED, "bench", "the workload has not told of all its phases");
	return CLI_OK;
}

static u64 usage_ns(const struct rusage *usage)
{
	return (u64)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000000 +
	       (u64)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000;
}

static int wait_for_child(pid_t pid, struct bench_run *run, int *status)
{
	struct rusage usage;
	sigset_t mask;
	siginfo_t info;

	/* A zombie keeps its number, so a late signal finds nobody else. */
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	block_stops(&mask);
	child = 0;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (wait4(pid, status, 0, &usage) < 0)
		return cli_error(CLI_FAILED, "bench", "wait: %s", strerror(errno));
	run->cpu_ns = usage_ns(&usage);
	return stopped_by ? CLI_FAILED : CLI_OK;
}

/* Starts it and reads all that it says. CLI_OK: it has ended, somehow. */
static int run_child(struct arguments *args, enum bench_row row, struct bench_run *run, struct outcome *outcome)
{
	int err = memfd_create("weir-bench-err", MFD_CLOEXEC), out[2], ret;
	sigset_t mask;
	pid_t pid;
	FILE *in;

	if (err < 0 || pipe2(out, O_CLOEXEC))
		return cli_error(CLI_FAILED, "bench", "no pipe: %s", strerror(errno));
	fflush(NULL);
	block_stops(&mask);
	run->wall_ns = sync_clock_ns();
	pid = stopped_by ? -1 : fork();
	if (pid == 0)
		child_main(args, row, out[1], err, &mask);
	child = pid > 0 ? pid : 0;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	close(out[1]);
	in = fdopen(out[0], "r");
	if (pid > 0 && in)
		outcome->seen = read_phases(in, run);
	ret = pid < 0 ? CLI_FAILED : wait_for_child(pid, run, &outcome->status);
	run->wall_ns = sync_clock_ns() - run->wall_ns;
	if (in)
		fclose(in);
	if (pid > 0)
		read_messages(err, run, row);
	close(err);
	return ret;
}

/* ---- one run ---- */

static u64 quarter(void)
{
	return ALIGN_DOWN(results.size / SHARE, PAGE_SIZE);
}

/*
 * In a small cgroup, or with many threads, the kernel may find every page in use and end the workload, with swap to
 * spare. That is a result as well, and counted.
 */
static int run_kernel(struct arguments *args, struct bench_run *run)
{
	struct kernel_usage usage = { 0 };
	struct outcome outcome;
	char why[256];
	int ret;

	do {
		if (kernel_side_begin(run->limit, why, sizeof(why))) {
			fputc('\n', stderr);
			return cli_error(CLI_FAILED, "bench", "%s", why);
		}
		outcome = (struct outcome){ 0 };
		ret = run_child(args, ROW_KERNEL, run, &outcome);
		kernel_side_measure(&usage);
		if (ret || !outcome.status || !usage.oom_kills)
			break;
		run->oom_kills++;
		fprintf(stderr, "  ended by the kernel for want of memory, try %llu of %d\n",
			(unsigned long long)run->oom_kills, TRIES_MAX);
	} while (run->oom_kills < TRIES_MAX);
	run->resident_peak = usage.resident_peak;
	run->stored_peak = usage.stored_peak;
	run->total_peak = usage.resident_peak + usage.stored_peak;
	run->kswapd_ns = usage.kswapd_ns;
	if (usage.cpu_ns)
		run->cpu_ns = usage.cpu_ns;
	return ret ? ret : judge(&outcome);
}

static int run_weir(struct arguments *args, enum bench_row row, struct bench_run *run)
{
	struct outcome outcome = { 0 };
	int ret = run_child(args, row, run, &outcome);

	return ret ? ret : judge(&outcome);
}

static int run_row(u64 round, unsigned int count, enum bench_row row)
{
	enum bench_row model = results.has_row[ROW_KERNEL] ? ROW_KERNEL : ROW_RESIDENT;
	struct bench_run *run = results_run(&results, round, count, row);
	static struct arguments args;
	char size[24];

	run->limit = quarter();
	if (row == ROW_MEMORY)
		run->limit =
			ALIGN_DOWN(run->limit + results_run(&results, round, count, model)->stored_peak, PAGE_SIZE);
	args.nr = args.nr_texts = 0;
	add_arguments(&args, row, count, run->limit);
	fprintf(stderr, "round %llu of %llu, %llu thread%s, %s %s:", (unsigned long long)round + 1,
		(unsigned long long)results.rounds, (unsigned long long)results.threads[count],
		results.threads[count] == 1 ? "" : "s", bench_row_names[row],
		print_size(size, sizeof(size), run->limit));
	return row == ROW_KERNEL ? run_kernel(&args, run) : run_weir(&args, row, run);
}

static int run_all(void)
{
	/* Each weir row after the one that its limit is taken from. */
	static const enum bench_row order[] = { ROW_KERNEL, ROW_RESIDENT, ROW_MEMORY };

	for (u64 round = 0; round < results.rounds; round++) {
		for (unsigned int count = 0; count < results.nr_counts; count++) {
			for (size_t i = 0; i < NR_ROWS; i++) {
				int ret = results.has_row[order[i]] ? run_row(round, count, order[i]) : 0;

				if (ret || stopped_by)
					return CLI_FAILED;
			}
		}
	}
	return CLI_OK;
}

/* ---- options ---- */

static bool has_count(u64 threads)
{
	for (unsigned int i = 0; i < results.nr_counts; i++) {
		if (results.threads[i] == threads)
			return true;
	}
	return false;
}

static int parse_threads(void)
{
	char list[128];

	if ((size_t)snprintf(list, sizeof(list), "%s", options.threads) >= sizeof(list))
		return cli_error(CLI_USAGE, "bench", "--threads: the list is too long");
	for (char *save, *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		s64 threads = os_nr_cpus();

		if (strcmp(word, "n") != 0 && parse_int(word, 1, WORKLOAD_THREADS_MAX, &threads))
			return cli_error(CLI_USAGE, "bench",
					 "--threads: '%s' is neither a number from 1 to %d nor n, for all processors",
					 word, WORKLOAD_THREADS_MAX);
		if (has_count((u64)threads))
			continue;
		if (results.nr_counts == COUNTS_MAX)
			return cli_error(CLI_USAGE, "bench", "--threads: at most %d numbers", COUNTS_MAX);
		results.threads[results.nr_counts++] = (u64)threads;
	}
	return results.nr_counts ? 0 : cli_error(CLI_USAGE, "bench", "--threads: no number is given");
}

static int parse_targets(void)
{
	char list[64];

	snprintf(list, sizeof(list), "%s", options.targets);
	for (char *save, *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (!strcmp(word, "kernel"))
			results.has_row[ROW_KERNEL] = true;
		else if (!strcmp(word, "weir"))
			results.has_row[ROW_MEMORY] = results.has_row[ROW_RESIDENT] = true;
		else
			return cli_error(CLI_USAGE, "bench",
					 "--targets: unknown target '%s'; give weir, kernel or both", word);
	}
	if (!results.has_row[ROW_KERNEL] && !results.has_row[ROW_MEMORY])
		return cli_error(CLI_USAGE, "bench", "--targets: give weir, kernel or both");
	return 0;
}

static u64 memory_available(void)
{
	char text[4096], *at;

	if (os_read_file("/proc/meminfo", text, sizeof(text)) < 0 || !(at = strstr(text, "MemAvailable:")))
		return UINT64_MAX;
	return strtoull(at + strlen("MemAvailable:"), NULL, 10) << 10;
}

/* Data that does not compress, and its copy: on a machine without so much other programs would be swapped out too. */
static int check_memory(void)
{
	u64 need = results.size + results.size / SHARE + min_u64(results.size, DATA_BYTES_MAX);
	char text[2][24];

	if (memory_available() >= need)
		return 0;
	return cli_error(CLI_USAGE, "bench", "--size: up to %s of memory may be needed, %s is available; give less",
			 print_size(text[0], sizeof(text[0]), need),
			 print_size(text[1], sizeof(text[1]), memory_available()));
}

static int open_targets(void)
{
	if (!results.has_row[ROW_KERNEL] ||
	    !kernel_side_open(algo_names[options.algo], results.size, results.missing, sizeof(results.missing)))
		return 0;
	if (!results.has_row[ROW_MEMORY])
		return cli_error(CLI_USAGE, "bench", "%s", results.missing);
	results.has_row[ROW_KERNEL] = false;
	cli_error(0, "bench", "weir alone, as %s", results.missing);
	return 0;
}

/* Before anything is measured. */
static int open_chart(FILE **chart)
{
	if (!options.chart)
		return 0;
	if (!results.has_row[ROW_KERNEL] || !results.has_row[ROW_MEMORY])
		return cli_error(0, "bench", "there will be no chart, as there is nothing to compare with");
	*chart = fopen(options.chart, "we");
	return *chart ? 0 : cli_error(CLI_USAGE, "bench", "--chart: %s: %s", options.chart, strerror(errno));
}

static int print_results(FILE *chart)
{
	if (options.json)
		results_print_json(&results, stdout);
	else
		results_print_text(&results, stdout);
	if (!chart)
		return CLI_OK;
	results_print_chart(&results, chart);
	if (ferror(chart) || fflush(chart))
		return cli_error(CLI_FAILED, "bench", "--chart: %s: %s", options.chart, strerror(errno));
	return CLI_OK;
}

static void end_by_signal(int sig)
{
	signal(sig, SIG_DFL);
	raise(sig);
}

/* As it was given, for the results. */
static const char *command_line(void)
{
	static char line[1024];
	long n = os_read_file("/proc/self/cmdline", line, sizeof(line));

	for (long i = 0; i + 1 < n; i++)
		line[i] = line[i] ? line[i] : ' ';
	return line;
}

static int prepare(void)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	results.size = ALIGN_DOWN(options.size, PAGE_SIZE);
	results.rounds = options.rounds;
	results.timed_ns = options.timed_ns;
	results.command = command_line();
	results.algo = algo_names[options.algo];
	if (n < 0)
		return cli_error(CLI_USAGE, "bench", "/proc/self/exe: %s", strerror(errno));
	if (parse_threads() || parse_targets() || phases_parse(options.phases, &results.phases) || check_memory())
		return CLI_USAGE;
	results.runs = calloc(results.rounds * results.nr_counts * NR_ROWS, sizeof(*results.runs));
	if (!results.runs)
		return cli_error(CLI_USAGE, "bench", "no memory for the results");
	data_fd = bench_data_open(options.data, min_u64(results.size, DATA_BYTES_MAX), results.data,
				  sizeof(results.data));
	return data_fd < 0 ? CLI_USAGE : 0;
}

static int workload_main(int argc, char **argv)
{
	FILE *chart = NULL;
	int ret;

	(void)argc;
	(void)argv;
	ret = prepare();
	if (ret)
		return ret;
	catch_stops();
	ret = open_targets();
	if (ret)
		return ret;
	ret = open_chart(&chart);
	if (!ret)
		ret = run_all();
	if (results.has_row[ROW_KERNEL] && kernel_side_close())
		ret = CLI_FAILED;
	if (stopped_by)
		end_by_signal((int)stopped_by);
	if (!ret)
		ret = print_results(chart);
	return cli_finish(ret, "bench");
}

const struct verb bench_workload = {
	.name = "bench workload",
	.help = "A working set four times as large as memory, under weir and under the kernel's own zram",
	.synopsis = "[OPTIONS]",
	.details = "Equal memory: the kernel has a cgroup of a quarter of the working set and what its zram takes on\n"
		   "top; weir has --memory of that sum, and in another row --resident of the quarter. The kernel's\n"
		   "side needs root, zram and a memory cgroup; all of it is put back, also after ^C.\n",
	.options = workload_options,
	.usage_status = CLI_USAGE,
	.function = workload_main,
};
