// SPDX-License-Identifier: MIT
/*
 * A program that uses more memory than it has, in one way after the other: what `weir bench workload` runs under weir
 * and under the kernel's own swap. Plain C and libc: it knows nothing of either.
 *
 *   workload MIB THREADS SECONDS [FILE]
 *
 * The working set is filled with the contents of FILE (one page in ten is zero) and each page's first two words with
 * its number and a count of the writes to it, which is verified at every access and for all pages at the end. One
 * line a phase: name, accesses, microseconds per access (of all threads together).
 */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, THREADS_MAX = 64, ZIPF_TABLE = 1 << 16, STRIDE = 7 };

struct worker {
	pthread_t thread;
	unsigned int number;
	uint64_t random;
	uint64_t accesses;
	bool wrong;
};

static uint64_t *memory, nr_pages;
static uint32_t *writes, *zipf;
static const unsigned char *source;
static size_t source_bytes;
static unsigned int nr_threads;
static double seconds;
static atomic_bool stop;
static struct worker workers[THREADS_MAX];

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dull >> 16;
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* ---- the pages ---- */

static uint64_t mark(uint64_t page)
{
	return page * 0x9e3779b97f4a7c15ull | 1;
}

static void fill_page(uint64_t page)
{
	uint64_t *p = memory + page * WORDS;

	if (page % 10)
		memcpy(p, source + page * PAGE % (source_bytes / PAGE * PAGE), PAGE);
	else
		p[3] = 0; /* a touch */
	p[0] = mark(page);
	p[1] = 0;
}

static void read_page(struct worker *w, uint64_t page)
{
	const volatile uint64_t *p = memory + page * WORDS; /* tidy: volatile: each access is a load */

	w->accesses++;
	if (p[0] != mark(page))
		w->wrong = true;
}

/* Each thread writes only to pages of its own, so the counts need no lock. */
static void write_page(struct worker *w, uint64_t page)
{
	volatile uint64_t *p; /* tidy: volatile: likewise */

	page = page - page % nr_threads + w->number;
	if (page >= nr_pages)
		return;
	p = memory + page * WORDS;
	w->accesses++;
	if (p[0] != mark(page) || p[1] != writes[page])
		w->wrong = true;
	p[1] = ++writes[page];
}

/* ---- the phases ---- */

static uint64_t share_start(const struct worker *w)
{
	return nr_pages * w->number / nr_threads;
}

static uint64_t share_end(const struct worker *w)
{
	return nr_pages * (w->number + 1) / nr_threads;
}

static void phase_fill(struct worker *w)
{
	for (uint64_t i = share_start(w); i < share_end(w); i++, w->accesses++)
		fill_page(i);
}

static void phase_seq_read(struct worker *w)
{
	for (uint64_t i = share_start(w); i < share_end(w); i++)
		read_page(w, i);
}

static void phase_seq_write(struct worker *w)
{
	for (uint64_t i = share_start(w); i < share_end(w); i += nr_threads)
		for (unsigned int k = 0; k < nr_threads; k++)
			write_page(w, i + k);
}

static void phase_strided(struct worker *w)
{
	for (uint64_t first = 0; first < STRIDE; first++)
		for (uint64_t i = share_start(w) + first; i < share_end(w); i += STRIDE)
			read_page(w, i);
}

static void phase_rand_read(struct worker *w)
{
	while (!stop)
		read_page(w, next_random(&w->random) % nr_pages);
}

static void phase_rand_write(struct worker *w)
{
	while (!stop)
		write_page(w, next_random(&w->random) % nr_pages);
}

/* Rank from a table of quantiles, then scattered over the pages. */
static uint64_t zipf_page(struct worker *w)
{
	uint64_t r = next_random(&w->random);
	uint64_t lo = zipf[r % ZIPF_TABLE], hi = zipf[r % ZIPF_TABLE + 1];
	uint64_t rank = lo + (hi > lo ? next_random(&w->random) % (hi - lo) : 0);

	return rank * 2654435761u % nr_pages;
}

static void phase_zipf_read(struct worker *w)
{
	while (!stop)
		read_page(w, zipf_page(w));
}

static void phase_zipf_write(struct worker *w)
{
	while (!stop)
		write_page(w, zipf_page(w));
}

/* Dependent loads: where to go next is in the page itself. */
static void phase_chase(struct worker *w)
{
	uint64_t page = share_start(w);

	while (!stop) {
		const volatile uint64_t *p = memory + page * WORDS; /* tidy: volatile: likewise */

		w->accesses++;
		if (p[0] != mark(page))
			w->wrong = true;
		page = (p[0] * 0x2545f4914f6cdd1dull >> 20) * (w->accesses | 1) % nr_pages;
	}
}

static const struct phase {
	const char *name;
	void (*run)(struct worker *w);
	bool timed; /* for `seconds`, else once through */
} phases[] = {
	{ "fill", phase_fill, false },
	{ "seq-read", phase_seq_read, false },
	{ "seq-write", phase_seq_write, false },
	{ "rand-read", phase_rand_read, true },
	{ "rand-write", phase_rand_write, true },
	{ "zipf-read", phase_zipf_read, true },
	{ "zipf-write", phase_zipf_write, true },
	{ "strided", phase_strided, false },
	{ "chase", phase_chase, true },
};

static const struct phase *phase;

static void *worker_main(void *arg)
{
	phase->run(arg);
	return NULL;
}

static void run_phase(const struct phase *p)
{
	double start = now(), took;
	uint64_t accesses = 0;

	phase = p;
	stop = false;
	for (unsigned int i = 0; i < nr_threads; i++) {
		workers[i].accesses = 0;
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]))
			die("pthread_create");
	}
	if (p->timed) {
		usleep((useconds_t)(seconds * 1e6));
		stop = true;
	}
	for (unsigned int i = 0; i < nr_threads; i++) {
		pthread_join(workers[i].thread, NULL);
		accesses += workers[i].accesses;
	}
	took = now() - start;
	printf("%-10s %10llu %8.3f\n", p->name, (unsigned long long)accesses, took * 1e6 / (double)accesses);
	fflush(stdout);
}

/* ---- preparations ---- */

static void *allocate(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* Ranks at ZIPF_TABLE equal steps of the distribution function, exponent 1. */
static void prepare_zipf(void)
{
	double sum = 0, total = log((double)nr_pages) + 0.5772;
	uint64_t rank = 0;

	zipf = malloc((ZIPF_TABLE + 1) * sizeof(*zipf));
	for (uint64_t i = 0; i <= ZIPF_TABLE; i++) {
		while (rank < nr_pages - 1 && sum < total * (double)i / ZIPF_TABLE)
			sum += 1.0 / (double)++rank;
		zipf[i] = (uint32_t)rank;
	}
}

static void map_source(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || st.st_size < PAGE)
		die(path);
	source_bytes = (size_t)st.st_size;
	source = mmap(NULL, source_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (source == MAP_FAILED)
		die(path);
}

static bool all_pages_right(void)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		if (memory[i * WORDS] != mark(i) || memory[i * WORDS + 1] != writes[i])
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	bool right = true;

	if (argc < 4) {
		fprintf(stderr, "usage: workload MIB THREADS SECONDS [FILE]\n");
		return 2;
	}
	nr_pages = strtoull(argv[1], NULL, 10) << 8;
	nr_threads = (unsigned int)atoi(argv[2]);
	seconds = atof(argv[3]);
	if (!nr_pages || nr_threads < 1 || nr_threads > THREADS_MAX || seconds <= 0)
		return 2;
	map_source(argc > 4 ? argv[4] : "/proc/self/exe");
	writes = calloc(nr_pages, sizeof(*writes));
	prepare_zipf();
	for (unsigned int i = 0; i < nr_threads; i++)
		workers[i] = (struct worker){ .number = i, .random = 0x9e3779b97f4a7c15ull * (i + 1) };
	memory = allocate(nr_pages * PAGE);
	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		run_phase(&phases[i]);
	right = all_pages_right();
	for (unsigned int i = 0; i < nr_threads; i++)
		right = right && !workers[i].wrong;
	printf("verify     %s\n", right ? "ok" : "WRONG");
	return right ? 0 : 1;
}
