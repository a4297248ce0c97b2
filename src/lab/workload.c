// SPDX-License-Identifier: MIT
#include "lab/workload.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <x86intrin.h>

#include "lab/zipf.h"
#include "sync/atomic.h"
#include "sync/wait.h"

enum {
	WORDS = PAGE_SIZE / sizeof(u64),
	HEAD_WORDS = 2, /* what of a page is ours: its mark, and the count of writes */
	ZERO_EVERY = 10,
	STRIDE = 7,
	/* Log-linear buckets of time stamps: 16 per power of two. */
	BUCKET_BITS = 4,
	BUCKETS = 44 << BUCKET_BITS,
};

struct worker {
	pthread_t thread;
	u32 first, end; /* its share of the pages: nobody else writes to them */
	u64 random;
	u64 wrong;
	/* of the phase */
	u64 accesses, last_tsc, tsc_max;
	u64 buckets[BUCKETS];
} __attribute__((aligned(64)));

static u64 *memory;
static u32 nr_pages, nr_threads;
static u32 *writes; /* per page: of its owner */
static struct zipf *zipf;
static const u8 *source;
static u32 source_pages;
static struct worker *workers;
static struct atomic32 stop;

/* ---- times ---- */

static unsigned int bucket_of(u64 ticks)
{
	unsigned int shift;

	if (ticks < 1 << BUCKET_BITS)
		return (unsigned int)ticks;
	shift = 63 - BUCKET_BITS - (unsigned int)__builtin_clzll(ticks);
	if (shift >= (BUCKETS >> BUCKET_BITS) - 1)
		return BUCKETS - 1;
	return ((shift + 1) << BUCKET_BITS) + (unsigned int)((ticks >> shift) & ((1 << BUCKET_BITS) - 1));
}

/* The least ticks that bucket_of() puts into a bucket. */
static u64 bucket_start(unsigned int bucket)
{
	unsigned int shift = bucket >> BUCKET_BITS;
	u64 low = bucket & ((1 << BUCKET_BITS) - 1);

	return shift ? (low | 1 << BUCKET_BITS) << (shift - 1) : low;
}

/* Ends one access, and begins the next. Counters of two processors may differ: no time is negative. */
static void count_access(struct worker *w)
{
	u64 now = __rdtsc(), ticks = now > w->last_tsc ? now - w->last_tsc : 0;

	w->last_tsc = now;
	w->accesses++;
	w->buckets[bucket_of(ticks)]++;
	w->tsc_max = max_u64(w->tsc_max, ticks);
}

/* ---- the pages ---- */

static bool is_zero_page(u32 page)
{
	return page % ZERO_EVERY == 0;
}

static u64 mark(u32 page)
{
	return is_zero_page(page) ? 0 : page * 0x9e3779b97f4a7c15ull | 1;
}

static u64 *page_words(u32 page)
{
	return memory + (size_t)page * WORDS;
}

static const u8 *page_source(u32 page)
{
	return source + (size_t)(page % source_pages) * PAGE_SIZE;
}

/* One load, which the compiler must not leave out. */
static u64 load(const u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void fill_page(struct worker *w, u32 page)
{
	u64 *words = page_words(page);

	if (!is_zero_page(page)) {
		memcpy(words, page_source(page), PAGE_SIZE);
		words[1] = 0;
	}
	__atomic_store_n(&words[0], mark(page), __ATOMIC_RELAXED);
	count_access(w);
}

static void read_page(struct worker *w, u32 page)
{
	if (load(page_words(page)) != mark(page))
		w->wrong++;
	count_access(w);
}

/* A page of the worker's own, no zero page. */
static void write_page(struct worker *w, u32 page)
{
	u64 *words = page_words(page);

	if (load(&words[0]) != mark(page) || load(&words[1]) != writes[page])
		w->wrong++;
	__atomic_store_n(&words[1], ++writes[page], __ATOMIC_RELAXED);
	count_access(w);
}

/* Any page to one that the worker may write to: a share has two pages or more. */
static u32 own_page(const struct worker *w, u32 page)
{
	page = w->first + page % (w->end - w->first);
	if (!is_zero_page(page))
		return page;
	return page + 1 < w->end ? page + 1 : page - 1;
}

static bool page_is_right(u32 page)
{
	static const u8 zeroes[PAGE_SIZE];
	const u64 *words = page_words(page);
	const u8 *rest = is_zero_page(page) ? zeroes : page_source(page);
	const size_t head = HEAD_WORDS * sizeof(u64);

	return words[0] == mark(page) && words[1] == writes[page] &&
	       !memcmp(words + HEAD_WORDS, rest + head, PAGE_SIZE - head);
}

/* ---- the phases ---- */

static bool is_stopped(void)
{
	return atomic32_read(&stop); /* one access more does no harm */
}

static void phase_fill(struct worker *w)
{
	for (u32 page = w->first; page < w->end; page++)
		fill_page(w, page);
}

static void phase_seq_read(struct worker *w)
{
	for (u32 page = w->first; page < w->end; page++)
		read_page(w, page);
}

static void phase_seq_write(struct worker *w)
{
	for (u32 page = w->first; page < w->end; page++) {
		if (!is_zero_page(page))
			write_page(w, page);
	}
}

static void phase_rand_read(struct worker *w)
{
	while (!is_stopped())
		read_page(w, (u32)(random_next(&w->random) % nr_pages));
}

static void phase_rand_write(struct worker *w)
{
	while (!is_stopped())
		write_page(w, own_page(w, (u32)(random_next(&w->random) % nr_pages)));
}

static void phase_zipf_read(struct worker *w)
{
	while (!is_stopped())
		read_page(w, zipf_page(zipf, &w->random));
}

static void phase_zipf_write(struct worker *w)
{
	while (!is_stopped())
		write_page(w, own_page(w, zipf_page(zipf, &w->random)));
}

static void phase_strided(struct worker *w)
{
	for (u32 first = 0; first < STRIDE; first++) {
		for (u32 page = w->first + first; page < w->end; page += STRIDE)
			read_page(w, page);
	}
}

/* Dependent loads: where to go next takes what the page says. */
static void phase_chase(struct worker *w)
{
	u32 page = w->first;

	while (!is_stopped()) {
		u64 word = load(page_words(page));

		if (word != mark(page))
			w->wrong++;
		w->random ^= word;
		page = (u32)(random_next(&w->random) % nr_pages);
		count_access(w);
	}
}

const char *const workload_phase_names[NR_PHASES + 1] = {
	"fill", "seq-read", "seq-write", "rand-read", "rand-write", "zipf-read", "zipf-write", "strided", "chase", NULL,
};

static const struct {
	void (*run)(struct worker *w);
	bool timed; /* goes on until it is stopped, else once through all pages */
} phases[NR_PHASES] = {
	[PHASE_FILL] = { phase_fill, false },
	[PHASE_SEQ_READ] = { phase_seq_read, false },
	[PHASE_SEQ_WRITE] = { phase_seq_write, false },
	[PHASE_RAND_READ] = { phase_rand_read, true },
	[PHASE_RAND_WRITE] = { phase_rand_write, true },
	[PHASE_ZIPF_READ] = { phase_zipf_read, true },
	[PHASE_ZIPF_WRITE] = { phase_zipf_write, true },
	[PHASE_STRIDED] = { phase_strided, false },
	[PHASE_CHASE] = { phase_chase, true },
};

static enum workload_phase phase;

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	w->last_tsc = __rdtsc();
	phases[phase].run(w);
	return NULL;
}

/* ---- results ---- */

static u64 timeval_to_ns(struct timeval tv)
{
	return (u64)tv.tv_sec * 1000000000 + (u64)tv.tv_usec * 1000;
}

static u64 process_cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return timeval_to_ns(usage.ru_utime) + timeval_to_ns(usage.ru_stime);
}

double workload_us(u64 ns, u64 accesses)
{
	return accesses ? (double)ns / 1e3 / (double)accesses : 0;
}

/* The time below which `permille` of a thousand slow accesses lie: the middle of its bucket. */
static u64 percentile(const u64 *buckets, unsigned int first, u64 slow, u64 permille, double ns_per_tick)
{
	u64 rank = (slow * permille + 999) / 1000, seen = 0;

	for (unsigned int b = first; b < BUCKETS; b++) {
		seen += buckets[b];
		if (seen && seen >= rank)
			return (u64)((double)(bucket_start(b) + bucket_start(b + 1)) / 2 * ns_per_tick);
	}
	return 0;
}

static void sum_up(struct workload_result *result, double ns_per_tick)
{
	unsigned int first = bucket_of((u64)(WORKLOAD_SLOW_NS / ns_per_tick)) + 1;
	u64 buckets[BUCKETS] = { 0 }, tsc_max = 0;

	for (u32 i = 0; i < nr_threads; i++) {
		result->accesses += workers[i].accesses;
		tsc_max = max_u64(tsc_max, workers[i].tsc_max);
		for (unsigned int b = 0; b < BUCKETS; b++)
			buckets[b] += workers[i].buckets[b];
	}
	for (unsigned int b = first; b < BUCKETS; b++)
		result->slow += buckets[b];
	result->max_ns = (u64)((double)tsc_max * ns_per_tick);
	result->p50_ns = min_u64(percentile(buckets, first, result->slow, 500, ns_per_tick), result->max_ns);
	result->p99_ns = min_u64(percentile(buckets, first, result->slow, 990, ns_per_tick), result->max_ns);
	result->p999_ns = min_u64(percentile(buckets, first, result->slow, 999, ns_per_tick), result->max_ns);
}

static int run_phase(enum workload_phase p, u64 timed_ns, struct workload_result *result)
{
	struct timespec pause = { (time_t)(timed_ns / 1000000000), (long)(timed_ns % 1000000000) };
	u64 cpu_ns = process_cpu_ns(), start_ns = sync_clock_ns(), start_tsc = __rdtsc();
	u32 started = 0;
	int ret = 0;

	*result = (struct workload_result){ 0 };
	phase = p;
	atomic32_set(&stop, 0);
	for (; started < nr_threads && !ret; started += !ret) {
		struct worker *w = &workers[started];

		w->accesses = w->tsc_max = 0;
		memset(w->buckets, 0, sizeof(w->buckets));
		ret = -pthread_create(&w->thread, NULL, worker_main, w);
	}
	while (phases[p].timed && !ret && nanosleep(&pause, &pause) && errno == EINTR)
		;
	atomic32_set(&stop, 1);
	for (u32 i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	result->wall_ns = sync_clock_ns() - start_ns;
	sum_up(result, (double)result->wall_ns / (double)(__rdtsc() - start_tsc));
	result->cpu_ns = process_cpu_ns() - cpu_ns;
	return ret;
}

/* ---- preparations ---- */

/* What the workload keeps beside the working set comes by mmap too: under weir it is managed as under the kernel. */
static void *allocate(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static int map_source(int fd)
{
	struct stat st;
	void *map;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size < (off_t)PAGE_SIZE)
		return -EINVAL;
	source_pages = (u32)min_u64((u64)st.st_size >> PAGE_SHIFT, nr_pages);
	map = mmap(NULL, (size_t)source_pages * PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	source = map;
	return 0;
}

static int prepare(const struct workload *workload)
{
	u64 pages = workload->bytes >> PAGE_SHIFT;
	int ret;

	if (pages > UINT32_MAX / 2 || !workload->threads || workload->threads > WORKLOAD_THREADS_MAX ||
	    pages < 2 * workload->threads)
		return -EINVAL;
	nr_pages = (u32)pages;
	nr_threads = (u32)workload->threads;
	ret = map_source(workload->data_fd);
	if (ret)
		return ret;
	memory = allocate((size_t)nr_pages * PAGE_SIZE);
	writes = allocate(nr_pages * sizeof(*writes));
	zipf = allocate(sizeof(*zipf));
	workers = allocate(nr_threads * sizeof(*workers));
	if (!memory || !writes || !zipf || !workers)
		return -ENOMEM;
	zipf_init(zipf, nr_pages, 1);
	for (u32 i = 0; i < nr_threads; i++) {
		workers[i].first = (u32)(pages * i / nr_threads);
		workers[i].end = (u32)(pages * (i + 1) / nr_threads);
		workers[i].random = 0x9e3779b97f4a7c15ull * (i + 1);
	}
	return 0;
}

int workload_run(const struct workload *workload,
		 void (*tell)(enum workload_phase phase, const struct workload_result *result), u64 *nr_wrong)
{
	struct workload_result result;
	int ret = prepare(workload);

	for (unsigned int p = 0; p < NR_PHASES && !ret; p++) {
		if (p != PHASE_FILL && !(workload->phases & 1u << p))
			continue;
		ret = run_phase(p, workload->timed_ns, &result);
		if (!ret)
			tell(p, &result);
	}
	*nr_wrong = 0;
	for (u32 page = 0; page < nr_pages && !ret; page++)
		*nr_wrong += !page_is_right(page);
	for (u32 i = 0; i < nr_threads && !ret; i++)
		*nr_wrong += workers[i].wrong;
	return ret;
}
