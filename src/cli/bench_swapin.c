// SPDX-License-Identifier: MIT
/*
 * weir bench swapin: the microbenchmark of the patch. Fill, page everything out, read one word of each page, in order
 * or not; the swap-in designs one after the other in each round, on the same pages, so that their ratio is of one run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/print.h"
#include "cli/bench.h"
#include "cli/spread.h"
#include "lab/target_kernel.h"
#include "lab/target_weir.h"
#include "sync/wait.h"

enum { ROUNDS_MAX = 99 };

/* Pages to the next one, at random: a prime, so all have their turn, and far in a region of any size. */
#define FAR 2654435761u
enum target { TARGET_WEIR, TARGET_KERNEL };

/*
 * Two threads that read the same run are a race that direct-unsafe loses: the background thread reads ahead only where
 * it is said.
 */
static const struct design {
	const char *name;
	enum swapin_policy policy;
	bool by_two;
} designs[] = {
	{ "direct-unsafe", SWAPIN_DIRECT_UNSAFE, false },
	{ "direct", SWAPIN_DIRECT, false },
	{ "cached", SWAPIN_CACHED, false },
	{ "direct-by-two", SWAPIN_DIRECT, true },
};
static const char *const target_names[] = { "weir", "kernel", NULL };

static struct {
	u64 size, rounds;
	const char *swap, *data;
	int target;
	bool random, keep, one_page, json;
} options = { .size = 1ul << 30, .rounds = 5, .swap = "zram" };

static const struct option_spec bench_options[] = {
	{ .name = "size",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.size,
	  .min = 1 << 20,
	  .help = "memory to swap in; default 1G, the patch had 10G" },
	{ .name = "rounds",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.rounds,
	  .min = 1,
	  .max = ROUNDS_MAX,
	  .help = "default 5; medians are printed" },
	{ .name = "swap", .kind = OPTION_STRING, .argument = "DEVICE", .value = &options.swap, .help = "default zram" },
	{ .name = "target",
	  .kind = OPTION_CHOICE,
	  .choices = target_names,
	  .value = &options.target,
	  .help = "weir, or the running kernel's own swap; default weir" },
	{ .name = "data",
	  .kind = OPTION_STRING,
	  .argument = "FILE",
	  .value = &options.data,
	  .help = "contents of the pages, again and again; default a text of few words" },
	{ .name = "random", .kind = OPTION_FLAG, .value = &options.random, .help = "read the pages in no order" },
	{ .name = "one-page",
	  .kind = OPTION_FLAG,
	  .value = &options.one_page,
	  .help = "one page a fault: no readahead, which only the ways past the swap cache have" },
	{ .name = "keep",
	  .kind = OPTION_FLAG,
	  .value = &options.keep,
	  .help = "read faults keep the slot (weir run does; the kernel of the patch freed it)" },
	{ .name = "json", .kind = OPTION_FLAG, .value = &options.json, .help = "one JSON object on stdout" },
	{ 0 },
};

/* Text of a small vocabulary: every page differs, and LZ4 makes about a third of it. */
static void fill_with_text(char *region, size_t bytes)
{
	static const char *const words[16] = { "swap",	 "entry ",  "page ",  "fault ", "slot", " count ",
					       "table ", "frame\n", "cache ", "pin ",	"a ",	"the ",
					       "of",	 " lock ",  "race ",  "0x" };
	u64 seed = 0x9e3779b97f4a7c15ull;
	size_t at = 0;

	while (at < bytes) {
		const char *word = words[seed >> 60];
		size_t len = strlen(word);

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		if (len > bytes - at)
			len = bytes - at;
		memcpy(region + at, word, len);
		at += len;
	}
}

/* The whole pages of the file, again and again. Not by read(): nothing is held for system calls here. */
static int fill_with_file(char *region, size_t bytes)
{
	int fd = open(options.data, O_RDONLY | O_CLOEXEC);
	size_t size = 0;
	void *data;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return cli_error(CLI_USAGE, "bench", "--data: %s: %m", options.data);
	if (S_ISREG(st.st_mode))
		size = (size_t)st.st_size / PAGE_SIZE * PAGE_SIZE;
	if (!size)
		return cli_error(CLI_USAGE, "bench", "--data: %s: must be a file of a page or more", options.data);
	data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (data == MAP_FAILED)
		return cli_error(CLI_USAGE, "bench", "--data: %s: %m", options.data);
	for (size_t at = 0; at < bytes; at += size)
		memcpy(region + at, data, min_u64(size, bytes - at));
	munmap(data, size);
	return CLI_OK;
}

static int fill(char *region, size_t bytes)
{
	if (options.data)
		return fill_with_file(region, bytes);
	fill_with_text(region, bytes);
	return CLI_OK;
}

static u64 read_all(const char *region, size_t bytes, u64 *sum)
{
	size_t pages = bytes / PAGE_SIZE, step = options.random ? FAR % pages : 1, page = 0;
	u64 started = sync_clock_ns();

	for (size_t i = 0; i < pages; i++, page = (page + step) % pages)
		*sum += __atomic_load_n((const u64 *)(const void *)(region + page * PAGE_SIZE), __ATOMIC_RELAXED);
	return sync_clock_ns() - started;
}

struct series {
	const char *name;
	double ns[ROUNDS_MAX];
};

static void print_series(struct series *s, int nr, size_t pages)
{
	double base = 0;

	if (options.json)
		printf("{\"pages\": %zu, \"rounds\": %llu", pages, (unsigned long long)options.rounds);
	for (int i = 0; i < nr; i++) {
		struct spread ns = spread_of(s[i].ns, options.rounds);

		base = i ? base : ns.median;
		if (options.json)
			printf(", \"%s\": {\"median_ns\": %.0f, \"min_ns\": %.0f, \"max_ns\": %.0f, \"ratio\": %.4f}",
			       s[i].name, ns.median, ns.min, ns.max, ns.median / base);
		else
			printf("%-14s %10.0f us  %6.2f us per page  (%.2f to %.2f)  ratio %.3f\n", s[i].name,
			       ns.median / 1e3, ns.median / 1e3 / (double)pages, ns.min / 1e3 / (double)pages,
			       ns.max / 1e3 / (double)pages, ns.median / base);
	}
	if (options.json)
		printf("}\n");
}

static int bench(const struct race_target *target, struct series *s, int nr)
{
	char *region = target->map(target->ctx, options.size);
	u64 filled = 0;
	int ret;

	if (!region)
		return cli_error(CLI_USAGE, "bench", "no memory for a region of that size");
	ret = fill(region, options.size);
	if (ret)
		return ret;
	(void)read_all(region, options.size, &filled);
	/* Round 0 is not counted: it warms up. */
	for (u64 round = 0; round <= options.rounds; round++) {
		for (int i = 0; i < nr; i++) {
			u64 ns, sum = 0;

			lab_mm.policy = designs[i].policy;
			lab_mm.reads_behind = designs[i].by_two;
			target->pageout(target->ctx, region, options.size);
			ns = read_all(region, options.size, &sum);
			if (sum != filled)
				return cli_error(CLI_FAILED, "bench",
						 "%s, round %llu: the contents changed: the words add up to %llx, "
						 "not %llx",
						 s[i].name, (unsigned long long)round, (unsigned long long)sum,
						 (unsigned long long)filled);
			if (round > 0)
				s[i].ns[round - 1] = (double)ns;
		}
	}
	target->unmap(target->ctx, region, options.size);
	print_series(s, nr, options.size >> PAGE_SHIFT);
	return CLI_OK;
}

static int bench_weir(void)
{
	struct lab_config cfg = {
		.swap = options.swap,
		.region_bytes = options.size,
		.policy = SWAPIN_DIRECT_UNSAFE,
		.no_keep = !options.keep,
		.no_readahead = options.one_page,
	};
	static struct series s[ARRAY_SIZE(designs)];
	char err[160] = "";
	int ret = lab_open(&cfg, err, sizeof(err)), nr = ARRAY_SIZE(designs);

	if (ret)
		return cli_error(CLI_USAGE, "bench", "%s", err[0] ? err : strerror(-ret));
	if (os_nr_cpus() < 2)
		nr--; /* no processor for it */
	for (int i = 0; i < nr; i++)
		s[i].name = designs[i].name;
	ret = bench(&lab_race_target, s, nr);
	lab_close();
	return ret;
}

static int swapin_main(int argc, char **argv)
{
	static struct series kernel = { .name = "kernel" };

	(void)argc;
	(void)argv;
	if (options.target == TARGET_KERNEL && !kernel_swap_is_active())
		return cli_error(CLI_USAGE, "bench", "%s", kernel_swap_hint);
	return cli_finish(options.target == TARGET_KERNEL ? bench(&kernel_race_target, &kernel, 1) : bench_weir(),
			  "bench");
}

const struct verb bench_swapin = {
	.name = "bench swapin",
	.help = "Swap everything in again, by each of the designs: the microbenchmark of the patch",
	.synopsis = "[OPTIONS]",
	.details = "Everything is paged out, then one word of each page is read, in order or with --random.\n"
		   "Designs alternate within each round; medians with min and max, ratios to the first.\n",
	.options = bench_options,
	.usage_status = CLI_USAGE,
	.function = swapin_main,
};
