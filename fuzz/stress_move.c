// SPDX-License-Identifier: MIT
/*
 * Does the core's word for a page ever differ from the kernel's? Threads write and verify pages all over a region while
 * others page it out by UFFDIO_MOVE, with all that makes MOVE refuse, or answer wrongly, going on beside: compaction
 * (as root), page tables being aged, the program's threads on the same pages.
 *
 *   stress_move [TRANSITIONS [THREADS [SECONDS]]]
 *
 * A transition is a page that came in or left. At the end every word is compared, and every page's state with the
 * kernel's page map. Exit 1: something was lost or vanished.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault/signal.h"
#include "lab/zipf.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "sync/wait.h"
#include "weir.h"

enum { PAGES_PER_THREAD = 8192, THREADS_MAX = 64, RUN = 64 };

static struct mm mm;
static struct mm_stats stats;
static u64 *region;
static u32 nr_pages, nr_threads;
static vpn_t region_vpn;
static struct atomic32 stop;
static struct atomic64 nr_wrong;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void on_sigbus(int sig, siginfo_t *info, void *uc)
{
	if (fault_signal(&mm, info, uc, NULL) == SIGNAL_NOT_OURS)
		signal(sig, SIG_DFL);
}

static u64 *word_of(u32 page)
{
	return region + (size_t)page * (PAGE_SIZE / sizeof(u64));
}

struct worker {
	pthread_t thread;
	u32 number;
	u64 *count; /* what each of its pages must hold */
};

/* Its pages are every nr_threads-th, so that all threads work in all runs. */
static u32 page_of(const struct worker *w, u32 i)
{
	return i * nr_threads + w->number;
}

static u64 expected(u32 page, u64 count)
{
	return ((u64)page + 1) << 32 | count;
}

static void verify(const struct worker *w, u32 i)
{
	u32 page = page_of(w, i);
	u64 found = *word_of(page);

	if (found == expected(page, w->count[i]))
		return;
	if (atomic64_fetch_add(&nr_wrong, 1) < 10)
		fprintf(stderr, "page %u: %llx, not %llx\n", page, (unsigned long long)found,
			(unsigned long long)expected(page, w->count[i]));
	w->count[i] = (u32)found;
}

/* Runs through neighbours, or jumps; reads three pages and writes one. */
static void *work(void *arg)
{
	struct worker *w = arg;
	u64 seed = w->number + 1;

	while (!atomic32_read(&stop)) {
		u32 i = (u32)(random_next(&seed) % PAGES_PER_THREAD), n = (u32)(random_next(&seed) % RUN);

		for (; n > 0 && i < PAGES_PER_THREAD; n--, i++) {
			verify(w, i);
			if (n % 4 == 0)
				*word_of(page_of(w, i)) = expected(page_of(w, i), ++w->count[i]);
		}
	}
	return NULL;
}

static void block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static void *evict(void *arg)
{
	u64 seed = (uintptr_t)arg;

	block_signals();
	while (!atomic32_read(&stop)) {
		u32 first = (u32)(random_next(&seed) % (nr_pages / RUN)) * RUN;

		mm_pageout(&mm, (vpn_t){ region_vpn.val + first }, RUN);
	}
	return NULL;
}

/* Writes a 1 again and again to a file of /proc, where the user may. */
static void *disturb(void *arg)
{
	const char *path = *(const char **)arg;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	block_signals();
	if (fd < 0) {
		printf("# not disturbed by %s: no right to write it\n", path);
		return NULL;
	}
	while (!atomic32_read(&stop)) {
		if (write(fd, "1", 1) < 0)
			break;
		usleep(10000);
	}
	close(fd);
	return NULL;
}

/* Memory in small pieces, so that compaction has something to do. */
static void *fragment(void *arg)
{
	size_t bytes = (size_t)512 << 20;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u64 seed = 7;

	(void)arg;
	block_signals();
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_NOHUGEPAGE);
	while (!atomic32_read(&stop)) {
		size_t at = random_next(&seed) % (bytes >> PAGE_SHIFT) << PAGE_SHIFT;

		p[at] = 1;
		if (at % 3 == 0)
			madvise(p + at, PAGE_SIZE, MADV_DONTNEED);
	}
	munmap(p, bytes);
	return NULL;
}

static u64 transitions(void)
{
	struct weir_stats s;

	mm_stats_sum(&stats, &s);
	return s.pages_in + s.pages_out + s.pages_out_clean;
}

static void setup(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct mm_config cfg = {
		.resident_pages = 2 * nr_pages + 2 * MM_LIMIT_PAGES_MIN,
		.nr_pages = 2 * nr_pages + 4096,
		.nr_cpus = (u32)sysconf(_SC_NPROCESSORS_ONLN),
		.method = VM_METHOD_MOVE,
		.stats = &stats,
	};
	struct swap_device_config dev_cfg;
	struct swap_device *dev;
	char err[160];

	sigfillset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
	if (mm_create(&mm, &cfg) || swap_device_parse("brd", &dev_cfg, err, sizeof(err)))
		fail("mm_create");
	dev_cfg.size = (u64)nr_pages << (PAGE_SHIFT + 1);
	if (swap_device_open(&dev_cfg, &dev) || mm_swapon(&mm, dev) || mm_adopt(&mm) ||
	    mm_map(&mm, nr_pages, 1, VM_READ | VM_WRITE, &region_vpn))
		fail("swapon");
	region = (u64 *)vm_address(&mm.vm, region_vpn);
}

/* Pages whose PTE and whose entry in the kernel's page map differ, now that nobody runs. */
static u32 disagreements(void)
{
	u32 differ = 0;

	for (u32 i = 0; i < nr_pages; i++) {
		vpn_t vpn = { region_vpn.val + i };
		u8 present;

		if (vm_resident(&mm.vm, vpn, 1, &present))
			fail("pagemap");
		differ += pte_is_present(pte_read(&mm, vpn)) != (present != 0);
	}
	return differ;
}

static int report(struct worker *w, u64 seconds)
{
	struct weir_stats s;
	u32 differ;

	for (u32 t = 0; t < nr_threads; t++) {
		for (u32 i = 0; i < PAGES_PER_THREAD; i++)
			verify(&w[t], i);
	}
	block_signals();
	differ = disagreements();
	mm_assert_valid(&mm);
	mm_stats_sum(&stats, &s);
	printf("transitions %llu threads %u seconds %llu unreported %llu vanished %llu differ %u wrong %llu\n",
	       (unsigned long long)transitions(), nr_threads, (unsigned long long)seconds,
	       (unsigned long long)s.moves_unreported, (unsigned long long)s.pages_vanished, differ,
	       (unsigned long long)atomic64_read(&nr_wrong));
	return atomic64_read(&nr_wrong) || s.pages_vanished || differ;
}

int main(int argc, char **argv)
{
	u64 wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000000, started = sync_clock_ns(), limit;
	static const char *disturbed[] = { "/proc/sys/vm/compact_memory", "/proc/self/clear_refs" };
	pthread_t evictors[THREADS_MAX], beside[3];
	struct worker w[THREADS_MAX];

	nr_threads = argc > 2 ? (u32)atoi(argv[2]) : 2;
	limit = argc > 3 ? strtoull(argv[3], NULL, 10) : 3600;
	if (!wanted || nr_threads < 1 || nr_threads > THREADS_MAX) {
		fprintf(stderr, "usage: stress_move [TRANSITIONS [THREADS (1 to %d) [SECONDS]]]\n", THREADS_MAX);
		return 2;
	}
	if (vm_can_register(VM_FAULTS_SIGNAL, VM_METHOD_MOVE)) {
		printf("skipped: this kernel has no UFFDIO_MOVE\n");
		return 77;
	}
	nr_pages = nr_threads * PAGES_PER_THREAD;
	setup();
	for (u32 t = 0; t < nr_threads; t++) {
		w[t] = (struct worker){ .number = t, .count = calloc(PAGES_PER_THREAD, sizeof(u64)) };
		for (u32 i = 0; i < PAGES_PER_THREAD; i++)
			*word_of(page_of(&w[t], i)) = expected(page_of(&w[t], i), 0);
	}
	for (u32 t = 0; t < nr_threads; t++) {
		if (pthread_create(&w[t].thread, NULL, work, &w[t]) ||
		    pthread_create(&evictors[t], NULL, evict, (void *)(uintptr_t)(t + 100)))
			fail("pthread_create");
	}
	if (pthread_create(&beside[0], NULL, disturb, &disturbed[0]) ||
	    pthread_create(&beside[1], NULL, disturb, &disturbed[1]) ||
	    pthread_create(&beside[2], NULL, fragment, NULL))
		fail("pthread_create");
	while (transitions() < wanted && sync_clock_ns() - started < limit * 1000000000ull)
		usleep(100000);
	atomic32_set(&stop, 1);
	for (u32 t = 0; t < nr_threads; t++) {
		pthread_join(w[t].thread, NULL);
		pthread_join(evictors[t], NULL);
	}
	for (u32 t = 0; t < ARRAY_SIZE(beside); t++)
		pthread_join(beside[t], NULL);
	return report(w, (sync_clock_ns() - started) / 1000000000ull);
}
