// SPDX-License-Identifier: MIT
/* The public interface alone: what an embedding program sees, bad input included. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"
#include "weir.h"

#define MIB ((size_t)1 << 20)

static struct weir *open_weir(uint64_t memory)
{
	struct weir_options options = { .memory = memory, .window = 1024 * MIB };
	struct weir *w;

	expect_eq(weir_init(&options, &w), 0);
	expect_eq(weir_swapon(w, "zram"), 0);
	return w;
}

static void test_options_are_checked(void)
{
	struct weir_options none = { 0 }, small = { .memory = WEIR_MEMORY_MIN - 1 };
	struct weir_options small_resident = { .memory = 64 * MIB, .resident = 4096 };
	struct weir_options bad_vm = { .memory = 64 * MIB, .vm = 7 }, good = { .memory = 64 * MIB };
	struct weir_options bad_faults = { .memory = 64 * MIB, .faults = 7 };
	struct weir *w = NULL, *second;

	expect_eq(weir_init(&none, &w), -EINVAL);
	expect_eq(weir_init(&small, &w), -EINVAL);
	expect_eq(weir_init(&small_resident, &w), -EINVAL);
	expect_eq(weir_init(&bad_vm, &w), -EINVAL);
	expect_eq(weir_init(&bad_faults, &w), -EINVAL);
	expect(!w);
	expect_eq(weir_init(&good, &w), 0);
	expect_eq(weir_init(&good, &second), -EBUSY);
	weir_destroy(w);
	weir_destroy(NULL);
	expect_eq(weir_init(&good, &w), 0);
	weir_destroy(w);
}

static void test_devices_are_checked(void)
{
	struct weir *w = open_weir(64 * MIB);

	expect_eq(weir_swapon(w, "floppy"), -EINVAL);
	expect_eq(weir_swapon(w, "zram:algo=rot13"), -EINVAL);
	expect_eq(weir_swapoff(w, "brd"), -ENOENT);
	expect_eq(weir_swapoff(w, "zram"), 0);
	expect_eq(weir_swapon(w, "zram:algo=zstd,level=1"), 0);
	weir_destroy(w);
}

static void test_ranges_are_checked(void)
{
	struct weir *w = open_weir(64 * MIB);
	char *m = weir_map(w, 10 * MIB), outside[1];

	expect(m);
	expect(!weir_map(w, 0));
	expect(!weir_map(w, 4096 * MIB));
	expect_eq(weir_unmap(w, outside, 4096), -EINVAL);
	expect_eq(weir_unmap(w, m, 0), -EINVAL);
	expect_eq(weir_unmap(w, m + 1, 4096), -EINVAL);
	expect_eq(weir_advise(w, outside, 1, WEIR_PAGEOUT), -EINVAL);
	expect_eq(weir_advise(w, m, 4096, (enum weir_advice)99), -EINVAL);
	expect_eq(weir_hold(w, outside, 1, 0), -EFAULT);
	expect_eq(weir_hold(w, m, (size_t)-1, 0), -EFAULT);
	expect_eq(weir_hold(w, m, 0, 0), 0);
	expect_eq(weir_unmap(w, m, 10 * MIB), 0);
	expect_eq(weir_advise(w, m, 4096, WEIR_DONTNEED), -EINVAL);
	weir_destroy(w);
}

static void test_advice(void)
{
	struct weir *w = open_weir(16 * MIB);
	char *m = weir_map(w, 64 * MIB);
	struct weir_stats s;

	memset(m, 7, MIB);
	expect_eq(weir_advise(w, m, MIB, WEIR_PAGEOUT), 256);
	expect_eq(weir_advise(w, m, MIB, WEIR_WILLNEED), 0);
	weir_stats(w, &s);
	expect_eq(s.pages_in, 256);
	expect_eq(weir_advise(w, m, MIB, WEIR_COLD), 0);
	expect_eq(m[5], 7);
	expect_eq(weir_advise(w, m, MIB, WEIR_DONTNEED), 0);
	for (size_t i = 0; i < MIB; i += 512)
		expect_eq(m[i], 0);
	weir_destroy(w);
}

/* Nothing is held, and SIGBUS is not ours. */
static void test_faults_by_thread(void)
{
	struct weir_options options = { .memory = 16 * MIB, .window = 1024 * MIB, .faults = WEIR_FAULTS_THREAD };
	struct sigaction before, after;
	int fds[2];
	struct weir *w;
	char *m;
	int ret;

	expect_eq(sigaction(SIGBUS, NULL, &before), 0);
	ret = weir_init(&options, &w);
	if (ret == -EPERM || ret == -EINVAL) {
		printf("# no faults by thread for this user, or this kernel\n");
		return;
	}
	expect_eq(ret, 0);
	expect_eq(sigaction(SIGBUS, NULL, &after), 0);
	expect(before.sa_sigaction == after.sa_sigaction);
	expect_eq(weir_swapon(w, "zram"), 0);
	m = weir_map(w, 64 * MIB);
	memset(m, 7, 32 * MIB);
	expect_eq(pipe(fds), 0);
	for (size_t at = 0; at < 32 * MIB; at += 32768) {
		expect_eq(write(fds[1], m + at, 32768), 32768);
		expect_eq(read(fds[0], m + 32 * MIB + at, 32768), 32768);
	}
	expect(!memcmp(m, m + 32 * MIB, 32 * MIB));
	close(fds[0]);
	close(fds[1]);
	weir_destroy(w);
}

/* Cold pages leave before older ones. */
static void test_cold_pages_leave_first(void)
{
	struct weir *w = open_weir(16 * MIB);
	char *old, *cold, *more;
	struct weir_stats before, after;

	old = weir_map(w, 4 * MIB);
	cold = weir_map(w, 4 * MIB);
	more = weir_map(w, 64 * MIB);
	memset(old, 1, 4 * MIB);
	memset(cold, 2, 4 * MIB);
	expect_eq(weir_advise(w, cold, 4 * MIB, WEIR_COLD), 0);
	memset(more, 3, 8 * MIB);
	weir_stats(w, &before);
	for (size_t i = 0; i < 4 * MIB; i += 4096)
		expect_eq(old[i], 1);
	weir_stats(w, &after);
	expect(after.pages_in - before.pages_in < 100);
	weir_destroy(w);
}

static sigjmp_buf escape;
static void *fault_addr;
static int fault_code;

static void on_segv(int sig, siginfo_t *info, void *uc)
{
	(void)sig;
	(void)uc;
	fault_addr = info->si_addr;
	fault_code = info->si_code;
	siglongjmp(escape, 1);
}

/* A stray pointer is the program's own SIGSEGV, at the right address, before and after adoption. */
static void test_unmapped_memory_is_a_segv(void)
{
	struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO }, old;
	struct weir *w = open_weir(16 * MIB);

	sigaction(SIGSEGV, &action, &old);
	for (int managed = 0; managed < 2; managed++) {
		char *m = weir_map(w, managed ? 64 * MIB : MIB);

		m[5] = 1;
		expect_eq(weir_unmap(w, m, MIB), 0);
		fault_addr = NULL;
		if (!sigsetjmp(escape, 1))
			((struct { char c; } *)m)[100].c = 1;
		expect(fault_addr == m + 100);
	}
	sigaction(SIGSEGV, &old, NULL);
	weir_destroy(w);
}

/* SIGBUS for other reasons reaches the handler that was there before. */
static void test_foreign_sigbus_is_passed_on(void)
{
	struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	struct weir *w;
	char path[] = "/tmp/weir-test-XXXXXX", *map;
	int fd = mkstemp(path);

	expect(fd >= 0);
	unlink(path);
	sigaction(SIGBUS, &action, NULL);
	w = open_weir(16 * MIB);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	expect(map != MAP_FAILED);
	fault_addr = NULL;
	if (!sigsetjmp(escape, 1))
		expect(map[10] == 99 && "beyond the end of the file");
	expect(fault_addr == map + 10);
	expect_eq(fault_code, BUS_ADRERR);
	weir_destroy(w);
	signal(SIGBUS, SIG_DFL);
}

static int oom_pipe[2];

static void tell_oom(const char *why)
{
	if (write(oom_pipe[1], why, strlen(why)) < 0)
		_exit(3);
}

/* Full swap is told, with figures, before it kills. */
static void test_out_of_memory_is_told_before_it_kills(void)
{
	char text[512] = "";
	int status;
	pid_t pid;

	expect_eq(pipe(oom_pipe), 0);
	pid = fork();
	if (pid == 0) {
		struct weir_options options = { .memory = 16 * MIB, .out_of_memory = tell_oom, .window = 1024 * MIB };
		uint64_t seed = 1, *m;
		struct weir *w;

		if (weir_init(&options, &w) || weir_swapon(w, "zram"))
			_exit(4);
		m = weir_map(w, 64 * MIB);
		for (size_t i = 0; i < 64 * MIB / 8; i++)
			m[i] = test_random(&seed); /* incompressible */
		_exit(5);
	}
	close(oom_pipe[1]);
	expect(read(oom_pipe[0], text, sizeof(text) - 1) > 0);
	expect_eq(waitpid(pid, &status, 0), pid);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	expect(strstr(text, "limit 16M") && strstr(text, "swap is full"));
}

int main(void)
{
	struct weir_options options = { .memory = 64 * MIB };
	struct weir *w;
	int ret = weir_init(&options, &w);

	if (ret == -ENOSYS || ret == -EPERM)
		test_skip("no userfaultfd here");
	expect_eq(ret, 0);
	weir_destroy(w);
	run_test(test_options_are_checked);
	run_test(test_devices_are_checked);
	run_test(test_ranges_are_checked);
	run_test(test_advice);
	run_test(test_cold_pages_leave_first);
	run_test(test_faults_by_thread);
	run_test(test_unmapped_memory_is_a_segv);
	run_test(test_foreign_sigbus_is_passed_on);
	run_test(test_out_of_memory_is_told_before_it_kills);
	return 0;
}
