// SPDX-License-Identifier: MIT
/*
 * weir bench hitrate: how good the choice of the pages that leave is (mm/lru.h). Zipf traces of several skews, plain,
 * with a scan mixed in, and with other pages becoming the popular ones, and loops over less and more than fits, go
 * over the core's own window in this process, with a fixed limit; then the very same trace over exact LRU and FIFO of
 * as many pages.
 */
#include <stdlib.h>
#include <string.h>

#include "base/print.h"
#include "cli/bench.h"
#include "lab/target_weir.h"
#include "lab/zipf.h"
#include "weir.h"

enum {
	SHARE = 4,
	SCAN_EVERY = 640, /* accesses, of which SCAN_RUN go through all pages in order */
	SCAN_RUN = 64,
	MOVE_EVERY = 32, /* accesses per page of memory, after which others are popular: so many pages further on */
	MOVE_PAGES = 7919,
	SAMPLE_EVERY = 100,
};

enum mix { ZIPF, ZIPF_AND_SCAN, ZIPF_MOVING, LOOP };

static const struct kind {
	enum mix mix;
	double size; /* exponent; of a loop, how many times the memory it goes over */
} kinds[] = {
	{ ZIPF, 0.8 },		 { ZIPF_AND_SCAN, 0.8 }, { ZIPF_MOVING, 0.8 }, { ZIPF, 0.99 },
	{ ZIPF_AND_SCAN, 0.99 }, { ZIPF_MOVING, 0.99 },	 { ZIPF, 1.2 },	       { ZIPF_AND_SCAN, 1.2 },
	{ ZIPF_MOVING, 1.2 },	 { LOOP, 0.75 },	 { LOOP, 1.5 },	       { LOOP, 2.5 },
};

static const char *const mix_names[] = { "zipf", "zipf and scan", "zipf, moving", "loop" };
static const double goal = 0.9;

static struct {
	u64 size, resident, accesses, writes;
	bool one_page, json;
} options = { .size = 128 << 20, .accesses = 1000000, .writes = 20 };

static const struct option_spec hitrate_options[] = {
	{ .name = "size",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.size,
	  .min = 16 << 20,
	  .help = "of the pages that are accessed; default 128M" },
	{ .name = "resident",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .value = &options.resident,
	  .min = (u64)MM_LIMIT_PAGES_MIN << PAGE_SHIFT,
	  .help = "memory for them; default a quarter" },
	{ .name = "accesses",
	  .kind = OPTION_COUNT,
	  .argument = "N",
	  .value = &options.accesses,
	  .min = 1000,
	  .max = UINT32_MAX,
	  .help = "counted ones, after half as many; default 1000000" },
	{ .name = "writes",
	  .kind = OPTION_COUNT,
	  .argument = "PERCENT",
	  .value = &options.writes,
	  .max = 100,
	  .help = "of the accesses; default 20" },
	{ .name = "one-page", .kind = OPTION_FLAG, .value = &options.one_page, .help = "no readahead" },
	{ .name = "json", .kind = OPTION_FLAG, .value = &options.json, .help = "one JSON object on stdout" },
	{ 0 },
};

/* What came of one trace. */
struct rates {
	struct kind kind;
	double weir, lru, fifo; /* shares of hits */
	double used; /* of the memory that it may have, by weir */
};

/* ---- the trace ---- */

struct trace {
	const struct zipf *zipf; /* of a loop: unused */
	enum mix mix;
	u32 nr_pages, loop_pages;
	u64 random, at;
	u32 cursor; /* of the scan */
};

static u32 trace_next(struct trace *trace)
{
	u64 at = trace->at++, moved = 0;

	if (trace->mix == LOOP)
		return (u32)(at % trace->loop_pages);
	if (trace->mix == ZIPF_AND_SCAN && at % SCAN_EVERY >= SCAN_EVERY - SCAN_RUN)
		return trace->cursor = (trace->cursor + 1) % trace->nr_pages;
	if (trace->mix == ZIPF_MOVING)
		moved = at / (MOVE_EVERY * (options.resident >> PAGE_SHIFT)) * MOVE_PAGES;
	return (u32)((zipf_page(trace->zipf, &trace->random) + moved) % trace->nr_pages);
}

/* ---- what it is compared with: a cache of `room` pages, all of which leave at one end of a list ---- */

struct cache {
	u32 *next, *previous; /* of each page; the last entry is the list's ends */
	bool *in;
	u32 nr_pages, nr, room;
	bool lru; /* a hit makes a page the newest again */
};

static void cache_unlink(struct cache *cache, u32 page)
{
	cache->next[cache->previous[page]] = cache->next[page];
	cache->previous[cache->next[page]] = cache->previous[page];
}

static void cache_push(struct cache *cache, u32 page)
{
	u32 ends = cache->nr_pages, newest = cache->next[ends];

	cache->next[page] = newest;
	cache->previous[page] = ends;
	cache->previous[newest] = page;
	cache->next[ends] = page;
}

static bool cache_access(struct cache *cache, u32 page)
{
	if (cache->in[page]) {
		if (cache->lru) {
			cache_unlink(cache, page);
			cache_push(cache, page);
		}
		return true;
	}
	if (cache->nr == cache->room) {
		u32 oldest = cache->previous[cache->nr_pages];

		cache_unlink(cache, oldest);
		cache->in[oldest] = false;
		cache->nr--;
	}
	cache_push(cache, page);
	cache->in[page] = true;
	cache->nr++;
	return false;
}

/* The share of the counted accesses that hit; negative: no memory. */
static double simulate(struct trace trace, bool lru, u32 room)
{
	u32 nr_pages = trace.nr_pages;
	struct cache cache = { .nr_pages = nr_pages, .room = room, .lru = lru };
	u64 hits = 0, warm = options.accesses / 2;
	double rate = -1;

	cache.next = malloc((nr_pages + 1) * sizeof(u32));
	cache.previous = malloc((nr_pages + 1) * sizeof(u32));
	cache.in = calloc(nr_pages, sizeof(bool));
	if (cache.next && cache.previous && cache.in) {
		cache.next[nr_pages] = cache.previous[nr_pages] = nr_pages;
		/* The region was filled in order before. */
		for (u32 page = 0; page < nr_pages; page++)
			(void)cache_access(&cache, page);
		for (u64 i = 0; i < warm + options.accesses; i++)
			hits += cache_access(&cache, trace_next(&trace)) && i >= warm;
		rate = (double)hits / (double)options.accesses;
	}
	free(cache.next);
	free(cache.previous);
	free(cache.in);
	return rate;
}

/* ---- weir ---- */

/* Accesses that found no page: those that readahead has saved are none, but for a loop, where it saves nearly all. */
static u64 misses(enum mix mix)
{
	struct weir_stats stats;

	mm_stats_sum(&lab_stats, &stats);
	if (mix == LOOP)
		return stats.faults_zero + stats.pages_in;
	return stats.faults_zero + stats.faults_direct + stats.faults_cached;
}

/* False: another page's contents. */
static bool access_page(u64 *region, u32 page, bool write)
{
	u64 *word = region + (size_t)page * (PAGE_SIZE / sizeof(u64));
	bool right = __atomic_load_n(word, __ATOMIC_RELAXED) == page + 1ull;

	if (write)
		__atomic_store_n(word + 1, page, __ATOMIC_RELAXED);
	return right;
}

static int run_trace(struct trace trace, u64 *region, struct rates *rates)
{
	u64 before = 0, resident = 0, samples = 0, warm = options.accesses / 2, random = 1, wrong = 0;

	for (u32 page = 0; page < trace.nr_pages; page++)
		region[(size_t)page * (PAGE_SIZE / sizeof(u64))] = page + 1ull;
	for (u64 i = 0; i < warm + options.accesses; i++) {
		if (i == warm)
			before = misses(trace.mix);
		if (i >= warm && i % SAMPLE_EVERY == 0) {
			resident += atomic64_read(&lab_stats.resident);
			samples++;
		}
		wrong += !access_page(region, trace_next(&trace), random_next(&random) % 100 < options.writes);
	}
	rates->used = (double)resident / (double)samples / (double)(options.resident >> PAGE_SHIFT);
	rates->weir = 1 - (double)(misses(trace.mix) - before) / (double)options.accesses;
	if (wrong)
		return cli_error(CLI_FAILED, "bench", "%llu times the contents of a page were wrong",
				 (unsigned long long)wrong);
	return CLI_OK;
}

static int measure(struct trace trace, struct rates *rates)
{
	struct lab_config cfg = {
		.swap = "zram",
		.region_bytes = options.size,
		.limit_pages = options.resident >> PAGE_SHIFT,
		.policy = SWAPIN_DIRECT,
		.no_readahead = options.one_page,
	};
	char err[160] = "";
	int ret = lab_open(&cfg, err, sizeof(err));
	void *region;

	if (ret)
		return cli_error(CLI_USAGE, "bench", "%s", err[0] ? err : strerror(-ret));
	region = lab_race_target.map(NULL, options.size);
	if (!region)
		ret = cli_error(CLI_USAGE, "bench", "no memory for a region of that size");
	else
		ret = run_trace(trace, region, rates);
	lab_close();
	return ret;
}

/* ---- results ---- */

/* LRU never finds a page of a loop over more than fits. */
static bool has_ratio(const struct rates *r)
{
	return r->lru > 0;
}

static double ratio(const struct rates *r)
{
	return has_ratio(r) ? r->weir / r->lru : 0;
}

static void print_rates(const struct rates *rates, size_t nr)
{
	char size[2][24];

	printf("%s of pages in %s, %llu accesses counted after %llu, %llu %% writes\n\n",
	       print_size(size[0], sizeof(size[0]), options.size),
	       print_size(size[1], sizeof(size[1]), options.resident), (unsigned long long)options.accesses,
	       (unsigned long long)options.accesses / 2, (unsigned long long)options.writes);
	printf("%-19s %10s %10s %10s %12s %12s\n", "trace", "weir", "LRU", "FIFO", "weir / LRU", "memory used");
	for (size_t i = 0; i < nr; i++) {
		const struct rates *r = &rates[i];

		char text[16] = "-";

		if (has_ratio(r))
			snprintf(text, sizeof(text), "%.3f", ratio(r));
		printf("%-14s %-4g %8.2f %% %8.2f %% %8.2f %% %12s %10.1f %%%s\n", mix_names[r->kind.mix], r->kind.size,
		       100 * r->weir, 100 * r->lru, 100 * r->fifo, text, 100 * r->used,
		       has_ratio(r) && ratio(r) < goal ? "  below the goal" : "");
	}
	printf("\nhit rates, and how much of its memory weir had in use; goal: weir / LRU at least %g\n", goal);
}

static void print_json(const struct rates *rates, size_t nr)
{
	printf("{\"pages\": %llu, \"resident_pages\": %llu, \"accesses\": %llu, \"goal\": %g, \"traces\": [",
	       (unsigned long long)options.size >> PAGE_SHIFT, (unsigned long long)options.resident >> PAGE_SHIFT,
	       (unsigned long long)options.accesses, goal);
	for (size_t i = 0; i < nr; i++)
		printf("%s{\"trace\": \"%s\", \"size\": %g, \"weir\": %.5f, \"lru\": %.5f, \"fifo\": %.5f, "
		       "\"ratio\": %.4f, \"memory_used\": %.4f}",
		       i ? ",\n " : "", mix_names[rates[i].kind.mix], rates[i].kind.size, rates[i].weir, rates[i].lru,
		       rates[i].fifo, ratio(&rates[i]), rates[i].used);
	printf("]}\n");
}

static struct trace trace_of(const struct kind *kind, struct zipf *zipf, u32 nr_pages)
{
	double pages = kind->size * (double)(options.resident >> PAGE_SHIFT);

	if (kind->mix != LOOP)
		zipf_init(zipf, nr_pages, kind->size);
	return (struct trace){
		.zipf = zipf,
		.mix = kind->mix,
		.nr_pages = nr_pages,
		.loop_pages = pages < nr_pages ? (u32)pages : nr_pages,
		.random = 88172645463325252ull,
	};
}

static int measure_all(struct rates *rates, struct zipf *zipf, u32 nr_pages)
{
	u32 room = (u32)(options.resident >> PAGE_SHIFT);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct trace trace = trace_of(&kinds[i], zipf, nr_pages);
		int ret;

		rates[i] = (struct rates){ .kind = kinds[i] };
		ret = measure(trace, &rates[i]);
		if (ret)
			return ret;
		rates[i].lru = simulate(trace, true, room);
		rates[i].fifo = simulate(trace, false, room);
		if (rates[i].lru < 0 || rates[i].fifo < 0)
			return cli_error(CLI_USAGE, "bench", "no memory for the simulation");
	}
	return CLI_OK;
}

static int hitrate_main(int argc, char **argv)
{
	struct rates rates[ARRAY_SIZE(kinds)];
	struct zipf *zipf = malloc(sizeof(*zipf));
	u32 nr_pages = (u32)min_u64(options.size >> PAGE_SHIFT, UINT32_MAX / 4);
	int ret;

	(void)argc;
	(void)argv;
	options.size = pages_to_bytes(nr_pages);
	if (!options.resident)
		options.resident = max_u64(options.size / SHARE, pages_to_bytes(MM_LIMIT_PAGES_MIN));
	if (!zipf || options.resident >= options.size) {
		free(zipf);
		return cli_error(CLI_USAGE, "bench", "--resident: must be less than --size, or nothing would leave");
	}
	ret = measure_all(rates, zipf, nr_pages);
	free(zipf);
	if (!ret && options.json)
		print_json(rates, ARRAY_SIZE(rates));
	else if (!ret)
		print_rates(rates, ARRAY_SIZE(rates));
	return cli_finish(ret, "bench");
}

const struct verb bench_hitrate = {
	.name = "bench hitrate",
	.help = "How many accesses find their page in memory, against exact LRU and FIFO on the same trace",
	.synopsis = "[OPTIONS]",
	.details =
		"Traces over the core's own window, in this process: zipf, plain, with a scan through all pages that\n"
		"makes up a tenth of the accesses, and with other pages popular from time to time; and loops over\n"
		"0.75, 1.5 and 2.5 times the memory. LRU and FIFO have as many pages as weir.\n",
	.options = hitrate_options,
	.usage_status = CLI_USAGE,
	.function = hitrate_main,
};
