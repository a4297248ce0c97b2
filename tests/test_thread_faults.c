// SPDX-License-Identifier: MIT
/*
 * Faults served by handler threads: what the program sees, and what the kernel sees in the program's place. With MOVE
 * and with COPY.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/gate.h"
#include "fault/thread.h"
#include "mm/pte.h"
#include "swap/zram.h"
#include "mm_rig.h"

enum {
	LIMIT_PAGES = 4096, /* 16 MiB */
	REGION_PAGES = 3 * LIMIT_PAGES,
	WINDOW_PAGES = 1 << 20,
	THREADS = 4,
};


static struct fault_threads threads;
static enum vm_method method;
static void (*on_out_of_memory)(const char *why);

static int on_adopt(struct mm *m)
{
	return fault_threads_start(&threads, m, on_out_of_memory);
}

static void setup(void)
{
	struct mm_config cfg = {
		.memory_pages = LIMIT_PAGES,
		.nr_pages = WINDOW_PAGES,
		.nr_cpus = 2,
		.method = method,
		.faults = VM_FAULTS_THREAD,
		.stats = &stats,
		.on_adopt = on_adopt,
	};

	rig_create(&cfg, "zram");
	expect_eq(mm_adopt(&mm), 0);
}

static void teardown(void)
{
	fault_threads_stop(&threads);
	mm_destroy(&mm);
}

/* Compresses to about a seventh; every page differs. */
static void fill(u64 *m, u32 pages, u64 seed)
{
	for (u64 w = 0; w < pages * WORDS; w++)
		m[w] = w % 16 ? seed : (seed + w) * 0x9e3779b97f4a7c15ull;
}

static bool verify(const u64 *m, u32 pages, u64 seed)
{
	for (u64 w = 0; w < pages * WORDS; w++) {
		if (m[w] != (w % 16 ? seed : (seed + w) * 0x9e3779b97f4a7c15ull))
			return false;
	}
	return true;
}

static bool all_absent(const u64 *m, u32 pages)
{
	for (u32 i = 0; i < pages; i++) {
		if (pte_is_present(pte_read(&mm, vpn_of(m + i * WORDS))))
			return false;
	}
	return true;
}

/* A handler may still be at a message whose thread was woken by another's: it locks that page, or brings it back. */
static void page_out(u64 *m, u32 pages)
{
	for (int tries = 0; tries < 1000 && !all_absent(m, pages); tries++) {
		mm_pageout(&mm, vpn_of(m), pages);
		usleep(100);
	}
	expect(all_absent(m, pages));
}

static void test_fill_and_verify_over_the_limit(void)
{
	u64 *m;

	setup();
	m = map_pages(REGION_PAGES);
	fill(m, REGION_PAGES, 3);
	for (int pass = 0; pass < 2; pass++)
		expect(verify(m, REGION_PAGES, 3));
	fill(m, REGION_PAGES / 2, 4);
	expect(verify(m, REGION_PAGES / 2, 4));
	teardown();
}

static void *thread_main(void *arg)
{
	for (u64 round = 0; round < 3; round++) {
		fill(arg, REGION_PAGES / THREADS, round);
		expect(verify(arg, REGION_PAGES / THREADS, round));
	}
	return NULL;
}

static void test_threads_fault_at_once(void)
{
	pthread_t t[THREADS];
	u64 *m;

	setup();
	m = map_pages(REGION_PAGES);
	for (int i = 0; i < THREADS; i++)
		expect(!pthread_create(&t[i], NULL, thread_main, m + (size_t)i * REGION_PAGES / THREADS * WORDS));
	for (int i = 0; i < THREADS; i++)
		expect(!pthread_join(t[i], NULL));
	teardown();
}

static void *sum_main(void *arg)
{
	const u64 *m = arg;
	u64 sum = 0;

	for (u32 i = 0; i < 64; i++)
		sum += m[i * WORDS + 1];
	return (void *)(uintptr_t)sum;
}

/* Several threads sleep on one page: each has a message of its own, and each is woken. */
static void test_one_page_for_many(void)
{
	u64 *m;

	setup();
	m = map_pages(64);
	fill(m, 64, 7);
	for (int round = 0; round < 20; round++) {
		pthread_t t[THREADS];
		void *sum;

		page_out(m, 64);
		for (int i = 0; i < THREADS; i++)
			expect(!pthread_create(&t[i], NULL, sum_main, m));
		for (int i = 0; i < THREADS; i++) {
			expect(!pthread_join(t[i], &sum));
			expect_eq((uintptr_t)sum, 64 * 7);
		}
	}
	teardown();
}

/* The kernel's own accesses, with nothing held: none fails with EFAULT. */
static void test_system_calls_fault_too(void)
{
	struct timespec *soon;
	struct iovec iov[2];
	int fds[2];
	u64 *m;

	setup();
	m = map_pages(16);
	fill(m, 16, 5);
	expect(!pipe(fds));
	page_out(m, 16);
	expect_eq(write(fds[1], m, 8 * PAGE_SIZE), 8 * PAGE_SIZE);
	page_out(m, 16);
	iov[0] = (struct iovec){ m + 8 * WORDS, 4 * PAGE_SIZE };
	iov[1] = (struct iovec){ m + 12 * WORDS, 4 * PAGE_SIZE };
	expect_eq(readv(fds[0], iov, 2), 8 * PAGE_SIZE);
	expect(verify(m, 8, 5));
	expect(!memcmp(m, m + 8 * WORDS, 8 * PAGE_SIZE));
	/* A clean page is write-protected: the kernel's write to it must make it dirty. */
	page_out(m, 16);
	expect_eq(m[0], 5 * 0x9e3779b97f4a7c15ull);
	expect_eq(write(fds[1], "new data", 8), 8);
	expect_eq(read(fds[0], m, 8), 8);
	page_out(m, 16);
	expect(!memcmp(m, "new data", 8));
	page_out(m, 16);
	expect_eq(syscall(SYS_futex, m + WORDS, FUTEX_WAIT_PRIVATE, 1, NULL), -1);
	expect_eq(errno, EAGAIN);
	soon = (struct timespec *)(void *)(m + 2 * WORDS);
	*soon = (struct timespec){ .tv_nsec = 1000 };
	page_out(m, 16);
	expect_eq(nanosleep(soon, soon), 0);
	close(fds[0]);
	close(fds[1]);
	teardown();
}

static sigjmp_buf escape;
static siginfo_t seen;

static void on_signal(int sig, siginfo_t *info, void *uc)
{
	(void)uc;
	seen = *info;
	siglongjmp(escape, sig);
}

static int signal_of_touch(u64 *p)
{
	int sig = sigsetjmp(escape, 1);

	if (!sig)
		(void)__atomic_load_n(p, __ATOMIC_RELAXED);
	return sig;
}

/* SIGBUS at that address each time, EFAULT in a system call, and nothing beside it. */
static void test_a_page_that_cannot_be_read_back(void)
{
	int fds[2];
	u64 *m, pte;

	setup();
	m = map_pages(4);
	fill(m, 4, 9);
	page_out(m, 4);
	pte = pte_read(&mm, vpn_of(m + WORDS));
	gate_close(&core_gate); /* orders what we write before what a handler reads */
	zram_corrupt_for_test(mm.swap[0].dev, swp_offset(pte_to_swp_entry(pte)));
	gate_open(&core_gate);
	for (int i = 0; i < 2; i++) {
		expect_eq(signal_of_touch(&m[WORDS + 3]), SIGBUS);
		expect(((uintptr_t)seen.si_addr & PAGE_MASK) == (uintptr_t)(m + WORDS));
		/* The second where the kernel knows no memory failures. */
		expect(seen.si_code == BUS_MCEERR_AR || seen.si_code == BUS_ADRERR);
	}
	expect(!pipe(fds));
	expect_eq(write(fds[1], m + WORDS, 8), -1);
	expect_eq(errno, EFAULT);
	close(fds[0]);
	close(fds[1]);
	expect(verify(m, 1, 9));
	expect_eq(m[2 * WORDS + 1], 9);
	/* Given up, it is a page like any other. */
	mm_drop(&mm, vpn_of(m + WORDS), 1);
	expect_eq(m[WORDS + 3], 0);
	m[WORDS + 3] = 1;
	expect_eq(m[WORDS + 3], 1);
	teardown();
}

static void test_unmapped_is_sigsegv(void)
{
	u64 *m;

	setup();
	m = map_pages(4);
	fill(m, 4, 1);
	expect_eq(mm_unmap(&mm, vpn_of(m + WORDS), 1), 0);
	expect_eq(signal_of_touch(&m[WORDS + 1]), SIGSEGV);
	expect(seen.si_addr == &m[WORDS + 1]);
	expect_eq(m[2 * WORDS + 1], 1);
	teardown();
}

/* Pages that a child shares leave all the same, and keep their contents. */
static void test_pages_shared_by_fork_leave(void)
{
	int fds[2], status;
	char end;
	pid_t pid;
	u64 *m;

	setup();
	m = map_pages(256);
	fill(m, 256, 6);
	expect(!pipe(fds));
	pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		close(fds[1]);
		_exit(read(fds[0], &end, 1) == 0 ? 0 : 1);
	}
	page_out(m, 256);
	expect(verify(m, 256, 6));
	close(fds[1]);
	close(fds[0]);
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	teardown();
}

static void test_pages_without_write_right_leave(void)
{
	u64 *m;

	setup();
	m = map_pages(64);
	fill(m, 64, 8);
	expect_eq(mm_protect(&mm, vpn_of(m), 64, VM_READ), 0);
	page_out(m, 64);
	expect(verify(m, 64, 8));
	expect_eq(signal_of_touch(&m[WORDS]), 0);
	expect_eq(mm_protect(&mm, vpn_of(m), 64, VM_READ | VM_WRITE), 0);
	fill(m, 64, 9);
	expect(verify(m, 64, 9));
	teardown();
}

/* ---- io_uring, by hand ---- */

struct ring {
	int fd;
	struct io_uring_params p;
	u8 *sq, *cq;
	struct io_uring_sqe *sqes;
};

static bool ring_open(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return false;
	r->sq = mmap(NULL, r->p.sq_off.array + 4 * sizeof(u32), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		     IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->p.cq_off.cqes + 8 * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED,
		     r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, 4 * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	expect(r->sq != MAP_FAILED && r->cq != MAP_FAILED && r->sqes != MAP_FAILED);
	return true;
}

/* One operation, waited for: its result. */
static int ring_run(struct ring *r, const struct io_uring_sqe *sqe)
{
	u32 *tail = (u32 *)(void *)(r->sq + r->p.sq_off.tail), *head = (u32 *)(void *)(r->cq + r->p.cq_off.head);
	u32 *array = (u32 *)(void *)(r->sq + r->p.sq_off.array);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(void *)(r->cq + r->p.cq_off.cqes);
	u32 at = *tail & (r->p.sq_entries - 1);
	int res;

	r->sqes[at] = *sqe;
	array[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	expect_eq(syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), 1);
	res = cqes[*head & (r->p.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

static void ring_close(struct ring *r)
{
	munmap(r->sq, r->p.sq_off.array + 4 * sizeof(u32));
	munmap(r->cq, r->p.cq_off.cqes + 8 * sizeof(struct io_uring_cqe));
	munmap(r->sqes, 4 * sizeof(*r->sqes));
	close(r->fd);
}

static void test_io_uring(void)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ };
	struct iovec fixed;
	struct ring r;
	int fds[2];
	u64 *m;

	if (!ring_open(&r)) {
		printf("# no io_uring here: left out\n");
		return;
	}
	setup();
	m = map_pages(4);
	fill(m, 4, 2);
	expect(!pipe(fds));
	page_out(m, 4);
	expect_eq(write(fds[1], "ringed", 6), 6);
	sqe.fd = fds[0];
	sqe.addr = (u64)(uintptr_t)m;
	sqe.len = 6;
	expect_eq(ring_run(&r, &sqe), 6);
	expect(!memcmp(m, "ringed", 6));
	/* A registered buffer is pinned: the kernel writes to that very page at any time, so it must not leave. */
	fixed = (struct iovec){ m + WORDS, PAGE_SIZE };
	if (method == VM_METHOD_MOVE) {
		expect_eq(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &fixed, 1), 0);
		mm_pageout(&mm, vpn_of(m), 4);
		expect(pte_is_present(pte_read(&mm, vpn_of(m + WORDS))));
		expect(all_absent(m, 1));
		expect_eq(write(fds[1], "pinned", 6), 6);
		sqe.opcode = IORING_OP_READ_FIXED;
		sqe.addr = (u64)(uintptr_t)(m + WORDS);
		expect_eq(ring_run(&r, &sqe), 6);
		expect(!memcmp(m + WORDS, "pinned", 6));
		/* Nor when the program may not write to it any more. */
		expect_eq(mm_protect(&mm, vpn_of(m), 4, VM_READ), 0);
		mm_pageout(&mm, vpn_of(m), 4);
		expect(pte_is_present(pte_read(&mm, vpn_of(m + WORDS))));
		expect_eq(write(fds[1], "banned", 6), 6);
		expect_eq(ring_run(&r, &sqe), 6);
		expect(!memcmp(m + WORDS, "banned", 6));
		expect_eq(syscall(SYS_io_uring_register, r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	}
	close(fds[0]);
	close(fds[1]);
	ring_close(&r);
	teardown();
}

static void say_and_go_on(const char *why)
{
	(void)!write(STDERR_FILENO, why, strlen(why));
}

/* In a process of its own, as it ends there. */
static void test_out_of_memory_is_told(void)
{
	char text[400];
	ssize_t len;
	int fds[2], status;
	pid_t pid;

	expect(!pipe(fds));
	pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		u64 seed = 1, *m;

		dup2(fds[1], STDERR_FILENO);
		on_out_of_memory = say_and_go_on;
		setup();
		m = map_pages(REGION_PAGES);
		for (u64 w = 0; w < REGION_PAGES * WORDS; w++)
			m[w] = test_random(&seed);
		_exit(3);
	}
	close(fds[1]);
	len = read(fds[0], text, sizeof(text) - 1);
	expect(len > 0);
	text[len] = '\0';
	expect(strstr(text, "out of memory: limit 16M"));
	expect(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(fds[0]);
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	if (vm_can_register(VM_FAULTS_THREAD, VM_METHOD_MOVE))
		test_skip("this user may not have a userfaultfd for the kernel's accesses, or the kernel is too old");
	expect(!sigaction(SIGBUS, &action, NULL) && !sigaction(SIGSEGV, &action, NULL));
	for (method = VM_METHOD_MOVE; method <= VM_METHOD_COPY; method++) {
		run_test(test_out_of_memory_is_told);
		run_test(test_fill_and_verify_over_the_limit);
		run_test(test_threads_fault_at_once);
		run_test(test_one_page_for_many);
		run_test(test_system_calls_fault_too);
		run_test(test_a_page_that_cannot_be_read_back);
		run_test(test_unmapped_is_sigsegv);
		run_test(test_pages_shared_by_fork_leave);
		run_test(test_pages_without_write_right_leave);
		run_test(test_io_uring);
	}
	return 0;
}
