// SPDX-License-Identifier: MIT
/*
 * weir bench device: what a swap device can do by itself. Batches of 64 neighbours are written and read in order, as
 * swap-out and readahead make them, and single pages at random by some threads, as faults do; plainly and with its
 * filters. Where the device is a file and fio is there, fio does the same on the same file. All of it takes turns in
 * each round, so that ratios are of one time.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/print.h"
#include "cli/bench.h"
#include "cli/spread.h"
#include "swap/swap_device.h"
#include "sync/wait.h"

enum { ROUNDS_MAX = 99, THREADS_MAX = 64, BATCH = SWAP_BATCH_MAX, WORDS = PAGE_SIZE / sizeof(u64) };
enum pattern { PATTERN_WRITE, PATTERN_READ, PATTERN_RANDOM, NR_PATTERNS };
enum variant { PLAIN, CHECKSUM, CRYPT, BOTH, FIO, NR_VARIANTS };

static const char *const pattern_names[] = { "write", "read", "random" };
static const char *const variant_names[] = { "plain", "checksum", "crypt", "crypt and checksum", "fio" };
static const char *const variant_options[] = { ",crypt=off,checksum=off", ",crypt=off,checksum=on",
					       ",crypt=on,checksum=off", ",crypt=on,checksum=on" };
static const double fio_goal = 1.3, filters_goal_ns = 1500;

static struct {
	const char *swap;
	u64 size, rounds, threads, reads;
	bool json, no_fio;
} options = { .swap = "file:.", .size = 256 << 20, .rounds = 5, .threads = 8, .reads = 4000 };

static const struct option_spec device_options[] = {
	{ .name = "swap",
	  .kind = OPTION_STRING,
	  .argument = "DEVICE",
	  .value = &options.swap,
	  .help = "zram, brd or file:DIRECTORY, which gets a file for the time; default file:." },
	{ .name = "size",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.size,
	  .min = 1 << 20,
	  .max = (u64)1 << 36,
	  .help = "what is written and read; default 256M" },
	{ .name = "threads",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.threads,
	  .min = 1,
	  .max = THREADS_MAX,
	  .help = "of the random reads; default 8" },
	{ .name = "reads",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.reads,
	  .min = 1,
	  .max = 1 << 24,
	  .help = "random ones by each thread; default 4000" },
	{ .name = "rounds",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.rounds,
	  .min = 1,
	  .max = ROUNDS_MAX,
	  .help = "default 5; medians are printed" },
	{ .name = "no-fio", .kind = OPTION_FLAG, .value = &options.no_fio, .help = "the device alone" },
	{ .name = "json", .kind = OPTION_FLAG, .value = &options.json, .help = "one JSON object on stdout" },
	{ 0 },
};

static struct {
	struct swap_device *dev;
	u32 nr_pages;
	char spec[512], file[400]; /* file: of ours; "": the device needs none */
	bool has_fio;
	struct cost {
		double ns; /* a page, wall */
		double cpu_ns; /* a page, of the process; not known of fio */
	} cost[ROUNDS_MAX][NR_VARIANTS][NR_PATTERNS];
} bench;

static int fail(const char *what)
{
	return cli_error(CLI_FAILED, "bench", "%s", what);
}

/* ---- the device ---- */

static _Alignas(PAGE_SIZE) u64 pages[BATCH][WORDS];

/* Half of it is easily compressed. */
static void page_make(u64 *page, u32 number)
{
	for (u32 i = 0; i < WORDS; i++)
		page[i] = i % 2 ? number : (number + 1) * 0x9e3779b97f4a7c15ull * (i + 1);
}

static bool page_is_good(const u64 *page, u32 number)
{
	return page[1] == number && page[WORDS - 2] == (number + 1) * 0x9e3779b97f4a7c15ull * (WORDS - 1);
}

static u64 cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* Over all pages in order; the time is of the transfers alone. 0 or the exit status. */
static int run_batches(bool write, struct cost *cost)
{
	struct swap_io io[BATCH];
	u64 spent = 0, cpu = 0;

	for (u32 first = 0; first < bench.nr_pages; first += BATCH) {
		u64 begun;

		for (u32 i = 0; i < BATCH; i++) {
			io[i] = (struct swap_io){ .slot = first + i, .page = pages[i] };
			if (write)
				page_make(pages[i], first + i);
		}
		begun = sync_clock_ns();
		cpu -= cpu_ns();
		if (write)
			swap_device_write_pages(bench.dev, io, BATCH);
		else
			swap_device_read_pages(bench.dev, io, BATCH);
		cpu += cpu_ns();
		spent += sync_clock_ns() - begun;
		for (u32 i = 0; i < BATCH; i++) {
			if (io[i].err || (!write && !page_is_good(pages[i], first + i)))
				return fail(write ? "a page could not be written" : "a page is not what was written");
		}
	}
	*cost = (struct cost){ (double)spent / bench.nr_pages, (double)cpu / bench.nr_pages };
	return 0;
}

/* NULL: all went well. */
static void *read_random(void *arg)
{
	_Alignas(PAGE_SIZE) u64 page[WORDS];
	u64 seed = (uintptr_t)arg + 1;

	for (u64 i = 0; i < options.reads; i++) {
		u32 slot;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		slot = (u32)(seed >> 33) % bench.nr_pages;
		if (bench.dev->ops->read(bench.dev, slot, page) || !page_is_good(page, slot))
			return bench.dev;
	}
	return NULL;
}

static int run_random(struct cost *cost)
{
	pthread_t threads[THREADS_MAX];
	u64 begun = sync_clock_ns(), cpu = cpu_ns(), started = 0;
	double nr;
	bool good = true;
	void *failed;

	while (started < options.threads && !pthread_create(&threads[started], NULL, read_random, (void *)started))
		started++;
	for (u64 i = 0; i < started; i++) {
		pthread_join(threads[i], &failed);
		good &= !failed;
	}
	nr = (double)(started * options.reads);
	*cost = (struct cost){ (double)(sync_clock_ns() - begun) / nr, (double)(cpu_ns() - cpu) / nr };
	return good && started == options.threads ? 0 : fail("a page could not be read, or a thread not be started");
}

static int run_device(enum variant variant, struct cost cost[NR_PATTERNS])
{
	struct swap_device_config cfg;
	char spec[600], err[256] = "";
	int ret;

	snprintf(spec, sizeof(spec), "%s%s%s", bench.spec, strchr(bench.spec, ':') ? "" : ":",
		 variant_options[variant] + !strchr(bench.spec, ':'));
	ret = swap_device_parse(spec, &cfg, err, sizeof(err));
	if (ret)
		return cli_error(CLI_USAGE, "bench", "--swap: %s", err);
	if (!bench.file[0])
		cfg.size = options.size;
	ret = swap_device_open(&cfg, &bench.dev);
	if (ret)
		return cli_error(CLI_FAILED, "bench", "%s cannot be opened: %s%s", spec, strerror(-ret),
				 ret == -ENOTCONN ? "; this device needs the engine of a run" : "");
	/* Memory of the device's own is touched before it counts. */
	ret = run_batches(true, &cost[PATTERN_WRITE]);
	for (u32 slot = 0; !ret && bench.dev->flags & SWAP_DISCARD && slot < bench.nr_pages; slot++)
		bench.dev->ops->discard(bench.dev, slot);
	if (!ret)
		ret = run_batches(true, &cost[PATTERN_WRITE]);
	if (!ret)
		ret = run_batches(false, &cost[PATTERN_READ]);
	if (!ret)
		ret = run_random(&cost[PATTERN_RANDOM]);
	bench.dev->ops->close(bench.dev);
	return ret;
}

/* ---- the file ---- */

/* Laid out before anything is measured, as a disk's blocks are; the device has a page more. */
static int make_file(void)
{
	u64 bytes = options.size + PAGE_SIZE;
	int fd = mkstemp(bench.file), ret = 0;

	if (fd < 0) {
		ret = cli_error(CLI_USAGE, "bench", "%s: %s; name a directory that can be written to", bench.file,
				strerror(errno));
		bench.file[0] = '\0';
		return ret;
	}
	memset(pages, 0, sizeof(pages));
	for (u64 at = 0; at < bytes && !ret; at += sizeof(pages)) {
		size_t len = min_u64(sizeof(pages), bytes - at);

		if (pwrite(fd, pages, len, (off_t)at) != (ssize_t)len)
			ret = cli_error(CLI_FAILED, "bench", "%s: %s", bench.file, errno ? strerror(errno) : "full");
	}
	if (!ret && fsync(fd))
		ret = cli_error(CLI_FAILED, "bench", "%s: %s", bench.file, strerror(errno));
	close(fd);
	return ret;
}

static int prepare(void)
{
	static const char prefix[] = "file:";
	const char *path = options.swap + strlen(prefix);
	size_t len = strncmp(options.swap, prefix, strlen(prefix)) ? 0 : strcspn(path, ",");
	int ret;

	options.size = options.size / (BATCH * PAGE_SIZE) * (BATCH * PAGE_SIZE);
	bench.nr_pages = (u32)(options.size >> PAGE_SHIFT);
	if (!len) {
		snprintf(bench.spec, sizeof(bench.spec), "%s", options.swap);
		return 0;
	}
	if (len + 32 > sizeof(bench.file) || strlen(options.swap) + 64 > sizeof(bench.spec))
		return cli_error(CLI_USAGE, "bench", "--swap: the path is too long");
	snprintf(bench.file, sizeof(bench.file), "%.*s/weir-bench.XXXXXX", (int)len, path);
	ret = make_file();
	if (!ret)
		snprintf(bench.spec, sizeof(bench.spec), "file:%s,force=on%s", bench.file, path + len);
	return ret;
}

/* ---- fio ---- */

/* The bandwidth's field of fio's terse output, version 3, from 1; in KiB a second. */
static double terse_field(char *line, int field)
{
	char *save, *text = strtok_r(line, ";", &save);

	while (text && --field > 0)
		text = strtok_r(NULL, ";", &save);
	return text ? strtod(text, NULL) : 0;
}

/* What fio prints goes to `line`. False: there is no fio, or it failed. */
static bool fio_run(char *const *argv, char *line, size_t size)
{
	size_t len = 0;
	ssize_t got;
	int out[2], status = -1;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		return false;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(out[1], STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(out[1]);
	while (pid > 0 && len < size - 1 && (got = read(out[0], line + len, size - 1 - len)) > 0)
		len += (size_t)got;
	close(out[0]);
	line[len] = '\0';
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int run_fio(struct cost cost[NR_PATTERNS])
{
	static const char *const rw[] = { "--rw=write", "--rw=read", "--rw=randread" };
	enum { TERSE_READ = 7, TERSE_WRITE = 48 };
	char filename[420], size[48], jobs[32], reads[40], line[4096];

	snprintf(filename, sizeof(filename), "--filename=%s", bench.file);
	snprintf(size, sizeof(size), "--size=%llu", (unsigned long long)options.size);
	snprintf(jobs, sizeof(jobs), "--numjobs=%llu", (unsigned long long)options.threads);
	snprintf(reads, sizeof(reads), "--number_ios=%llu", (unsigned long long)options.reads);
	for (int p = 0; p < NR_PATTERNS; p++) {
		char *argv[] = { (char *)"fio",
				 (char *)"--name=x",
				 (char *)"--direct=1",
				 (char *)"--ioengine=psync",
				 (char *)"--thread",
				 (char *)"--minimal",
				 (char *)"--group_reporting",
				 filename,
				 size,
				 (char *)(uintptr_t)rw[p],
				 (char *)(p == PATTERN_RANDOM ? "--bs=4k" : "--bs=256k"),
				 p == PATTERN_RANDOM ? jobs : NULL,
				 reads,
				 NULL };
		double kib = 0;

		if (fio_run(argv, line, sizeof(line)))
			kib = terse_field(line, p == PATTERN_WRITE ? TERSE_WRITE : TERSE_READ);
		if (kib <= 0)
			return cli_error(CLI_FAILED, "bench", "fio failed; say --no-fio");
		cost[p] = (struct cost){ .ns = 1e9 * (PAGE_SIZE / 1024) / kib };
	}
	return 0;
}

static bool find_fio(void)
{
	char *const argv[] = { (char *)"fio", (char *)"--version", NULL };
	char line[64];

	return bench.file[0] && !options.no_fio && fio_run(argv, line, sizeof(line));
}

/* ---- results ---- */

/* Of `variant`, its ratio to `base` in the same round, or the CPU time that it takes on top of that. */
enum figure { FIGURE_NS, FIGURE_RATIO, FIGURE_EXTRA };

static struct spread spread_figure(enum figure figure, enum variant variant, enum variant base, enum pattern pattern)
{
	double v[ROUNDS_MAX];

	for (u64 r = 0; r < options.rounds; r++) {
		const struct cost *c = &bench.cost[r][variant][pattern], *to = &bench.cost[r][base][pattern];

		v[r] = figure == FIGURE_NS ? c->ns : figure == FIGURE_RATIO ? c->ns / to->ns : c->cpu_ns - to->cpu_ns;
	}
	return spread_of(v, options.rounds);
}

static double mib_per_s(double ns)
{
	return ns > 0 ? 1e9 * PAGE_SIZE / (1 << 20) / ns : 0;
}

static bool is_there(enum variant variant)
{
	return variant != FIO || bench.has_fio;
}

static void print_text(void)
{
	char size[24];

	printf("%s, %s, %llu threads read at random, %llu rounds\n\n", options.swap,
	       print_size(size, sizeof(size), options.size), (unsigned long long)options.threads,
	       (unsigned long long)options.rounds);
	printf("%-20s %-8s %12s %34s\n", "", "", "MiB/s", "ns a page (min to max)");
	for (int v = 0; v < NR_VARIANTS; v++) {
		for (int p = 0; is_there(v) && p < NR_PATTERNS; p++) {
			struct spread s = spread_figure(FIGURE_NS, v, v, p);

			printf("%-20s %-8s %12.1f %10.0f (%.0f to %.0f)\n", variant_names[v], pattern_names[p],
			       mib_per_s(s.median), s.median, s.min, s.max);
		}
	}
	printf("\nCPU time on top of plain, ns a page; goal of crypt and checksum: %g\n", filters_goal_ns);
	for (int v = CHECKSUM; v <= BOTH; v++) {
		for (int p = 0; p < NR_PATTERNS; p++) {
			struct spread s = spread_figure(FIGURE_EXTRA, v, PLAIN, p);

			printf("%-20s %-8s %10.0f (%.0f to %.0f)\n", variant_names[v], pattern_names[p], s.median,
			       s.min, s.max);
		}
	}
	if (!bench.has_fio)
		return;
	printf("\ntime of the device / time of fio; goal: at most %g\n", fio_goal);
	for (int p = 0; p < NR_PATTERNS; p++) {
		struct spread s = spread_figure(FIGURE_RATIO, PLAIN, FIO, p);

		printf("%-20s %-8s %10.2f (%.2f to %.2f)%s\n", "plain", pattern_names[p], s.median, s.min, s.max,
		       s.median > fio_goal ? "  misses the goal" : "");
	}
}

static void print_spread(const char *before, enum figure figure, enum variant v, enum variant base, enum pattern p)
{
	struct spread s = spread_figure(figure, v, base, p);

	printf("%s{\"variant\": \"%s\", \"pattern\": \"%s\", \"median\": %.4f, \"min\": %.4f, \"max\": %.4f}", before,
	       variant_names[v], pattern_names[p], s.median, s.min, s.max);
}

static void print_json(void)
{
	printf("{\"device\": \"%s\", \"pages\": %u, \"threads\": %llu, \"rounds\": %llu, \"ns_per_page\": [",
	       bench.file[0] ? "file" : bench.spec, bench.nr_pages, (unsigned long long)options.threads,
	       (unsigned long long)options.rounds);
	for (int v = 0; v < NR_VARIANTS; v++) {
		for (int p = 0; is_there(v) && p < NR_PATTERNS; p++)
			print_spread(v || p ? ",\n " : "", FIGURE_NS, v, v, p);
	}
	printf("],\n\"filters_cpu_ns\": [");
	for (int v = CHECKSUM; v <= BOTH; v++) {
		for (int p = 0; p < NR_PATTERNS; p++)
			print_spread(v > CHECKSUM || p ? ",\n " : "", FIGURE_EXTRA, v, PLAIN, p);
	}
	printf("],\n\"to_fio\": [");
	for (int p = 0; bench.has_fio && p < NR_PATTERNS; p++)
		print_spread(p ? ",\n " : "", FIGURE_RATIO, PLAIN, FIO, p);
	printf("], \"goal_to_fio\": %g, \"goal_filters_ns\": %g}\n", fio_goal, filters_goal_ns);
}

/* Each round begins with another one. */
static int run_rounds(void)
{
	int ret = 0;

	for (u64 r = 0; r < options.rounds; r++) {
		for (u64 k = 0; k < NR_VARIANTS && !ret; k++) {
			enum variant v = (enum variant)((k + r) % NR_VARIANTS);

			if (v == FIO)
				ret = bench.has_fio ? run_fio(bench.cost[r][v]) : 0;
			else
				ret = run_device(v, bench.cost[r][v]);
		}
	}
	return ret;
}

static int device_main(int argc, char **argv)
{
	int ret = prepare();

	(void)argc;
	(void)argv;
	bench.has_fio = !ret && find_fio();
	if (!ret)
		ret = run_rounds();
	if (bench.file[0])
		unlink(bench.file);
	if (!ret && options.json)
		print_json();
	else if (!ret)
		print_text();
	return cli_finish(ret, "bench");
}

const struct verb bench_device = {
	.name = "bench device",
	.help = "How fast a swap device is by itself and with its filters, and fio on the same file",
	.synopsis = "[OPTIONS]",
	.details = "Batches of 64 pages are written and read in order, single pages read at random by threads; all of\n"
		   "it is verified. A file's fio has the same pattern, depth and O_DIRECT.\n",
	.options = device_options,
	.usage_status = CLI_USAGE,
	.function = device_main,
};
