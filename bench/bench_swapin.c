// SPDX-License-Identifier: MIT
/*
 * What a swap-in costs, against its floor, with faults by signal and (where the user may) by thread. Everything is
 * paged out to zram (LZ4), then one word of each page is read, one page a fault. The floor is the same work done bare:
 * SIGBUS, LZ4_decompress_safe, UFFDIO_COPY, with no page table, slot, budget or lock. By one thread and by twice as
 * many up to the number of processors; interleaved in one run; medians with min and max.
 *
 *   bench_swapin [MIB [ROUNDS [FILE]]]
 */
#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/os.h"
#include "fault/signal.h"
#include "fault/thread.h"
#include "mm/mm.h"
#include "sync/wait.h"
#include "vm/uffd_abi.h"

enum { ROUNDS_MAX = 101, THREADS_MAX = 64 };

static u32 nr_pages;
static u8 *data; /* nr_pages of real file contents */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- the floor ---- */

static struct {
	u8 *region;
	u8 *store;
	u32 *offset;
	u16 *length;
	int uffd;
} bare;

static void bare_fault(uintptr_t addr)
{
	u32 i = (u32)((addr - (uintptr_t)bare.region) >> PAGE_SHIFT);
	_Alignas(64) char page[PAGE_SIZE];
	struct uffdio_copy copy = {
		.dst = addr & PAGE_MASK,
		.src = (u64)(uintptr_t)page,
		.len = PAGE_SIZE,
		.mode = UFFDIO_COPY_MODE_DONTWAKE,
	};

	if (LZ4_decompress_safe((char *)bare.store + bare.offset[i], page, bare.length[i], PAGE_SIZE) != (int)PAGE_SIZE)
		abort();
	if (ioctl(bare.uffd, UFFDIO_COPY, &copy))
		abort();
}

static void bare_setup(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	u32 used = 0;

	bare.region =
		mmap(NULL, (size_t)nr_pages << PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bare.store = malloc((size_t)nr_pages * LZ4_COMPRESSBOUND(PAGE_SIZE));
	bare.offset = calloc(nr_pages, sizeof(*bare.offset));
	bare.length = calloc(nr_pages, sizeof(*bare.length));
	bare.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (bare.uffd < 0 || ioctl(bare.uffd, UFFDIO_API, &api))
		fail("userfaultfd");
	madvise(bare.region, (size_t)nr_pages << PAGE_SHIFT, MADV_NOHUGEPAGE);
	reg.range.start = (u64)(uintptr_t)bare.region;
	reg.range.len = (u64)nr_pages << PAGE_SHIFT;
	if (ioctl(bare.uffd, UFFDIO_REGISTER, &reg))
		fail("UFFDIO_REGISTER");
	for (u32 i = 0; i < nr_pages; i++) {
		int len = LZ4_compress_default((char *)data + i * PAGE_SIZE, (char *)bare.store + used, PAGE_SIZE,
					       LZ4_COMPRESSBOUND(PAGE_SIZE));

		bare.offset[i] = used;
		bare.length[i] = (u16)len;
		used += (u32)len;
	}
}

/* ---- weir ---- */

struct target {
	struct mm mm;
	struct mm_stats stats;
	u8 *region;
};

static struct target by_signal, by_thread;
static struct fault_threads fault_threads;

static int start_threads(struct mm *mm)
{
	return fault_threads_start(&fault_threads, mm, NULL);
}

static void weir_setup(struct target *t, enum vm_faults faults)
{
	struct mm_config cfg = {
		.faults = faults,
		.on_adopt = faults == VM_FAULTS_THREAD ? start_threads : NULL,
		.resident_pages = 2 * (u64)nr_pages + MM_LIMIT_PAGES_MIN,
		.nr_pages = 1 << 22,
		.nr_cpus = os_nr_cpus(),
		.no_readahead = true,
		.stats = &t->stats,
	};
	struct swap_device_config dev_cfg;
	struct swap_device *dev;
	char err[160];
	vpn_t start;

	if (mm_create(&t->mm, &cfg) || swap_device_parse("zram", &dev_cfg, err, sizeof(err)))
		fail("mm_create");
	dev_cfg.size = 2 * (u64)nr_pages << PAGE_SHIFT;
	if (swap_device_open(&dev_cfg, &dev) || mm_swapon(&t->mm, dev) || mm_adopt(&t->mm))
		fail("swapon");
	if (mm_map(&t->mm, nr_pages, 1, VM_READ | VM_WRITE, &start))
		fail("mm_map");
	t->region = (u8 *)vm_address(&t->mm.vm, start);
	memcpy(t->region, data, (size_t)nr_pages << PAGE_SHIFT);
}

static void on_sigbus(int sig, siginfo_t *info, void *uc)
{
	uintptr_t addr = (uintptr_t)info->si_addr;

	if (addr - (uintptr_t)bare.region < (uintptr_t)nr_pages << PAGE_SHIFT)
		bare_fault(addr);
	else if (fault_signal(&by_signal.mm, info, uc, NULL) == SIGNAL_NOT_OURS)
		signal(sig, SIG_DFL);
}

/* ---- measuring ---- */

struct walker {
	pthread_t thread;
	const u8 *base;
	u32 first, nr;
	u64 sum;
};

/* The first word of each page, in order. */
static void *walk(void *arg)
{
	struct walker *w = arg;

	for (u32 i = w->first; i < w->first + w->nr; i++)
		w->sum += *(const u64 *)(const void *)(w->base + (size_t)i * PAGE_SIZE);
	return NULL;
}

/* us per page, wall, all threads together. */
static double measure(const u8 *base, u32 threads, u64 *sum)
{
	struct walker w[THREADS_MAX];
	u32 share = nr_pages / threads;
	u64 started = sync_clock_ns();

	for (u32 t = 0; t < threads; t++) {
		w[t] = (struct walker){ .base = base, .first = t * share, .nr = share };
		if (pthread_create(&w[t].thread, NULL, walk, &w[t]))
			fail("pthread_create");
	}
	*sum = 0;
	for (u32 t = 0; t < threads; t++) {
		pthread_join(w[t].thread, NULL);
		*sum += w[t].sum;
	}
	return (double)(sync_clock_ns() - started) / 1000.0 / (share * threads);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double report(const char *name, u32 threads, double *us, u32 rounds)
{
	qsort(us, rounds, sizeof(*us), compare);
	printf("%-6s %u thread%s  %6.2f us per page  (%.2f to %.2f)\n", name, threads, threads > 1 ? "s" : " ",
	       us[rounds / 2], us[0], us[rounds - 1]);
	return us[rounds / 2];
}

static double measure_weir(struct target *t, u32 threads, u64 *sum)
{
	mm_pageout(&t->mm, vm_vpn(&t->mm.vm, (uintptr_t)t->region), nr_pages);
	return measure(t->region, threads, sum);
}

static void bench(u32 threads, u32 rounds)
{
	double weir_us[ROUNDS_MAX], thread_us[ROUNDS_MAX], bare_us[ROUNDS_MAX], w, b;

	for (u32 r = 0; r < rounds; r++) {
		u64 weir_sum, thread_sum, bare_sum;

		madvise(bare.region, (size_t)nr_pages << PAGE_SHIFT, MADV_DONTNEED);
		weir_us[r] = measure_weir(&by_signal, threads, &weir_sum);
		bare_us[r] = measure(bare.region, threads, &bare_sum);
		thread_sum = bare_sum;
		if (by_thread.region)
			thread_us[r] = measure_weir(&by_thread, threads, &thread_sum);
		if (weir_sum != bare_sum || thread_sum != bare_sum) {
			fprintf(stderr, "contents differ\n");
			exit(1);
		}
	}
	w = report("weir", threads, weir_us, rounds);
	if (by_thread.region)
		report("thread", threads, thread_us, rounds);
	b = report("bare", threads, bare_us, rounds);
	printf("ratio  %u thread%s  %6.2f  (target: at most 1.5)\n", threads, threads > 1 ? "s" : " ", w / b);
}

/* The file's pages, again and again until there are enough. */
static void load(const char *path)
{
	size_t want = (size_t)nr_pages << PAGE_SHIFT, got = 0;
	int fd = open(path, O_RDONLY);

	data = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || data == MAP_FAILED)
		fail(path);
	while (got < want) {
		ssize_t n = read(fd, data + got, want - got);

		if (n < 0 || (n == 0 && got == 0))
			fail(path);
		got += (size_t)n;
		if (n == 0 && lseek(fd, 0, SEEK_SET) < 0)
			fail(path);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	u32 rounds = argc > 2 ? (u32)atoi(argv[2]) : 9, most = (u32)min_u64(os_nr_cpus(), THREADS_MAX);

	nr_pages = (argc > 1 ? (u32)atoi(argv[1]) : 128) * 256;
	if (!nr_pages || nr_pages > 1 << 20 || !rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_swapin [MIB (1 to 4096) [ROUNDS (1 to %d) [FILE]]]\n", ROUNDS_MAX);
		return 2;
	}
	load(argc > 3 ? argv[3] : "/proc/self/exe");
	sigfillset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
	bare_setup();
	weir_setup(&by_signal, VM_FAULTS_SIGNAL);
	if (vm_can_register(VM_FAULTS_THREAD, VM_METHOD_AUTO))
		printf("no faults by thread for this user\n");
	else
		weir_setup(&by_thread, VM_FAULTS_THREAD);
	for (u32 threads = 1; threads <= most; threads *= 2)
		bench(threads, rounds);
	mm_destroy(&by_signal.mm);
	if (by_thread.region) {
		fault_threads_stop(&fault_threads);
		mm_destroy(&by_thread.mm);
	}
	return 0;
}
