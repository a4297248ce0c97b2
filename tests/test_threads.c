// SPDX-License-Identifier: MIT
#include <limits.h>
#include <pthread.h>
#include <threads.h>
#include <time.h>

#include "signal_rig.h"

enum { NR_SEQUENTIAL = 2000, NR_AT_ONCE = 200 };

static struct atomic32 go, handled;
static __thread uintptr_t handler_frame;
static __thread int handler_flags;

static stack_t kernel_stack(void)
{
	stack_t ss;

	expect_eq(sys2(SYS_sigaltstack, NULL, &ss), 0);
	return ss;
}

static void expect_ours(const stack_t *ss)
{
	uintptr_t base = (uintptr_t)ss->ss_sp;

	expect_eq(ss->ss_flags & SS_DISABLE, 0);
	expect(ss->ss_size > THREAD_ALTSTACK_BYTES - 1024 && ss->ss_size <= THREAD_ALTSTACK_BYTES);
	expect(base + ss->ss_size <= RIG_WINDOW || base >= RIG_WINDOW + RIG_WINDOW_BYTES);
}

static bool on_stack(const stack_t *ss, uintptr_t sp)
{
	return sp - (uintptr_t)ss->ss_sp < ss->ss_size;
}

static void note_frame(int sig)
{
	stack_t ss;

	(void)sig;
	handler_frame = (uintptr_t)__builtin_frame_address(0);
	expect_eq(sigaltstack(NULL, &ss), 0);
	handler_flags = ss.ss_flags;
	errno = 0;
	if (ss.ss_flags & SS_ONSTACK) {
		expect_eq(sigaltstack(&ss, NULL), -1);
		expect_eq(errno, EPERM);
	}
	atomic32_add_return(&handled, 1);
}

/* ---- what a thread has ---- */

static void *has_stack(void *arg)
{
	stack_t ss = kernel_stack();

	expect_ours(&ss);
	signal(SIGBUS, note_frame);
	raise(SIGBUS);
	expect(on_stack(&ss, handler_frame));
	return arg;
}

static int has_stack_c11(void *arg)
{
	has_stack(arg);
	return 7;
}

static void test_new_threads_have_one(void)
{
	pthread_t thread;
	thrd_t c11;
	void *result;
	int code;

	has_stack(NULL);
	expect_eq(pthread_create(&thread, NULL, has_stack, &go), 0);
	expect_eq(pthread_join(thread, &result), 0);
	expect(result == &go);
	expect_eq(thrd_create(&c11, has_stack_c11, NULL), thrd_success);
	expect_eq(thrd_join(c11, &code), thrd_success);
	expect_eq(code, 7);
}

static void *asks_for_its_own(void *arg)
{
	static char mem[1 << 16];
	stack_t mine = { .ss_sp = mem, .ss_size = sizeof(mem) }, got, ours = kernel_stack();
	stack_t first;
	struct sigaction act = { .sa_flags = SA_ONSTACK };

	expect_eq(sigaltstack(NULL, &first), 0); /* none, or a sanitizer's */
	expect_eq(sigaltstack(&mine, &got), 0);
	expect(got.ss_sp == first.ss_sp);
	expect_eq(got.ss_flags, first.ss_flags);
	got = kernel_stack();
	expect(got.ss_sp == ours.ss_sp);
	expect_eq(sigaltstack(NULL, &got), 0);
	expect(got.ss_sp == mem);
	expect_eq(got.ss_size, sizeof(mem));
	expect_eq(got.ss_flags, 0);

	act.sa_handler = note_frame;
	expect_eq(sigaction(SIGUSR1, &act, NULL), 0);
	raise(SIGUSR1);
	expect_eq(handler_flags, SS_ONSTACK);
	expect(on_stack(&ours, handler_frame));

	mine.ss_size = 100;
	expect_eq(sigaltstack(&mine, NULL), -1);
	expect_eq(errno, ENOMEM);
	mine.ss_flags = 64;
	expect_eq(sigaltstack(&mine, NULL), -1);
	expect_eq(errno, EINVAL);
	mine = (stack_t){ .ss_flags = SS_DISABLE };
	expect_eq(sigaltstack(&mine, &got), 0);
	expect(got.ss_sp == mem);
	expect_eq(sigaltstack(NULL, &got), 0);
	expect_eq(got.ss_flags, SS_DISABLE);
	got = kernel_stack();
	expect(got.ss_sp == ours.ss_sp);
	expect_eq(sigaltstack(&first, NULL), 0);
	return arg;
}

static void test_program_stack_is_virtual(void)
{
	pthread_t thread;

	asks_for_its_own(NULL);
	expect_eq(pthread_create(&thread, NULL, asks_for_its_own, NULL), 0);
	expect_eq(pthread_join(thread, NULL), 0);
}

/* ---- many ---- */

static void *nothing(void *arg)
{
	return arg;
}

static void *waits_for_go(void *arg)
{
	while (!atomic32_load_acquire(&go))
		usleep(1000);
	return arg;
}

static void test_memory_is_bounded(void)
{
	static pthread_t threads[NR_AT_ONCE];
	pthread_attr_t detached;

	for (int i = 0; i < NR_SEQUENTIAL; i++) {
		pthread_t thread;

		expect_eq(pthread_create(&thread, NULL, nothing, NULL), 0);
		expect_eq(pthread_join(thread, NULL), 0);
	}
	/* A thread that is joined may still be on its way out of the kernel: some more than main's and one. */
	expect(threads_altstacks() <= 100);
	for (int round = 0; round < 3; round++) {
		atomic32_set(&go, 0);
		for (int i = 0; i < NR_AT_ONCE; i++)
			expect_eq(pthread_create(&threads[i], NULL, waits_for_go, NULL), 0);
		expect(threads_altstacks() > NR_AT_ONCE);
		atomic32_store_release(&go, 1);
		for (int i = 0; i < NR_AT_ONCE; i++)
			expect_eq(pthread_join(threads[i], NULL), 0);
	}
	expect(threads_altstacks() <= 2 * (NR_AT_ONCE + 2) + 16);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < NR_SEQUENTIAL; i++) {
		pthread_t thread;
		int err = pthread_create(&thread, &detached, nothing, NULL);

		expect(err == 0 || err == EAGAIN);
		if (i % 32 == 0)
			usleep(1000);
	}
	expect(threads_altstacks() <= 4 * (NR_AT_ONCE + 2) + 16);
}

static void *creates(void *arg)
{
	for (int i = 0; i < 200; i++) {
		pthread_t thread;

		expect_eq(pthread_create(&thread, NULL, has_stack, NULL), 0);
		expect_eq(pthread_join(thread, NULL), 0);
	}
	return arg;
}

static void test_creators_in_parallel(void)
{
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		expect_eq(pthread_create(&threads[i], NULL, creates, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		expect_eq(pthread_join(threads[i], NULL), 0);
}

/* ---- the ends of a thread ---- */

static struct atomic32 left;

static void count_leave(void)
{
	atomic32_add_return(&left, 1);
}

static void *exits(void *arg)
{
	pthread_exit(arg);
}

static void *is_cancelled(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void test_ends(void)
{
	pthread_t thread;
	void *result;

	threads_leave = count_leave;
	expect_eq(pthread_create(&thread, NULL, nothing, &left), 0);
	expect_eq(pthread_join(thread, &result), 0);
	expect(result == &left);
	expect_eq(pthread_create(&thread, NULL, exits, &left), 0);
	expect_eq(pthread_join(thread, &result), 0);
	expect(result == &left);
	expect_eq(pthread_create(&thread, NULL, is_cancelled, NULL), 0);
	usleep(20000);
	expect_eq(pthread_cancel(thread), 0);
	expect_eq(pthread_join(thread, &result), 0);
	expect(result == PTHREAD_CANCELED);
	expect_eq(atomic32_read(&left), 3);
	threads_leave = NULL;
}

/* ---- threads of libc's own ---- */

static struct atomic32 fired;

static void timer_thread(union sigval value)
{
	stack_t ss = kernel_stack(), mine = { .ss_sp = value.sival_ptr, .ss_size = 8192 };

	if (ss.ss_flags & SS_DISABLE) { /* a sanitizer's wrapper may have been faster */
		expect_eq(sigaltstack(&mine, NULL), 0);
		ss = kernel_stack();
	}
	expect_ours(&ss);
	atomic32_add_return(&fired, 1);
}

static void test_thread_of_libc(void)
{
	static char mem[8192];
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = timer_thread };
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	timer_t timer;

	event.sigev_value.sival_ptr = mem;
	expect_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	expect_eq(timer_settime(timer, 0, &soon, NULL), 0);
	for (int i = 0; i < 5000 && !atomic32_load_acquire(&fired); i++)
		usleep(1000);
	expect_eq(atomic32_read(&fired), 1);
	timer_delete(timer);
}

static void attach_in_handler(int sig, siginfo_t *info, void *ucontext)
{
	(void)sig;
	(void)info;
	expect_eq(threads_attach_context(ucontext), 0);
}

static void *attaches_in_handler(void *arg)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO };
	stack_t ss;

	/* libc's own pthread_create: the wrapper has not seen this thread. */
	act.sa_sigaction = attach_in_handler;
	expect_eq(sigaction(SIGUSR2, &act, NULL), 0);
	raise(SIGUSR2);
	ss = kernel_stack();
	expect_ours(&ss);
	raise(SIGUSR2);
	return arg;
}

static void test_attach_in_handler(void)
{
	int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
		(int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT,
											       "pthread_create");
	pthread_t thread;

	expect(create);
	expect_eq(create(&thread, NULL, attaches_in_handler, NULL), 0);
	expect_eq(pthread_join(thread, NULL), 0);
}

/* ---- stacks of the program's ---- */

static uintptr_t held_addr;
static size_t held_bytes;
static int hold_result, nr_released;

static int hold(uintptr_t addr, size_t bytes)
{
	held_addr = addr;
	held_bytes = bytes;
	return hold_result;
}

static void release(uintptr_t addr, size_t bytes)
{
	expect_eq(addr, held_addr);
	expect_eq(bytes, held_bytes);
	nr_released++;
}

static void test_stack_in_window_is_held(void)
{
	char *window = rig_window();
	size_t bytes = RIG_WINDOW_BYTES / 2;
	pthread_attr_t attr;
	pthread_t thread;

	threads_hold = hold;
	threads_release = release;
	expect_eq(pthread_create(&thread, NULL, nothing, NULL), 0);
	expect_eq(pthread_join(thread, NULL), 0);
	expect_eq(held_bytes, 0);
	expect_eq(pthread_attr_init(&attr), 0);
	expect_eq(pthread_create(&thread, &attr, nothing, NULL), 0);
	expect_eq(pthread_join(thread, NULL), 0);
	expect_eq(held_bytes, 0);
	expect_eq(pthread_attr_setstack(&attr, window + bytes, bytes), 0);
	hold_result = -ENOMEM;
	expect_eq(pthread_create(&thread, &attr, has_stack, NULL), EAGAIN);
	hold_result = 0;
	expect_eq(pthread_create(&thread, &attr, has_stack, NULL), 0);
	expect_eq(pthread_join(thread, NULL), 0);
	/* Its upper end, where the control block is. */
	expect_eq(held_addr + held_bytes, RIG_WINDOW + 2 * bytes);
	expect(held_bytes >= 16384);
	/* Many one after the other: what the dead have held is given back. */
	for (int i = 0; i < 200; i++) {
		expect_eq(pthread_create(&thread, &attr, has_stack, NULL), 0);
		expect_eq(pthread_join(thread, NULL), 0);
	}
	expect(nr_released > 100);
	threads_hold = NULL;
	munmap(window, RIG_WINDOW_BYTES);
}

/* A coroutine's stack that is not there: the fault is served on the thread's alternate stack. */
static void test_absent_stack_is_served(void)
{
	size_t bytes = 4 * PAGE_SIZE;
	int fd = memfd_create("stack", MFD_CLOEXEC);
	char *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	u32 before = atomic32_read(&rig_buses);

	expect(fd >= 0 && stack != MAP_FAILED);
	rig_served.fd = fd;
	rig_served.start = (uintptr_t)stack;
	rig_served.bytes = bytes;
	__asm__ volatile("mov %%rsp, %%rbx\n\t"
			 "mov %0, %%rsp\n\t"
			 "push $77\n\t"
			 "mov %%rbx, %%rsp\n\t"
			 :
			 : "r"(stack + bytes)
			 : "rbx", "memory");
	rig_served.fd = -1;
	expect_eq(atomic32_read(&rig_buses), before + 1);
	expect_eq(stack[bytes - 8], 77);
	munmap(stack, bytes);
	close(fd);
}

/* ---- fork ---- */

static void after_fork(void)
{
	unsigned int nr = threads_altstacks();
	pthread_t thread;

	expect(nr > 1);
	has_stack(NULL);
	for (int i = 0; i < 100; i++) {
		expect_eq(pthread_create(&thread, NULL, has_stack, NULL), 0);
		expect_eq(pthread_join(thread, NULL), 0);
	}
	expect_eq(threads_altstacks(), nr);
}

static void test_fork(void)
{
	int status = rig_in_child(after_fork);

	expect(WIFEXITED(status));
	expect_eq(WEXITSTATUS(status), 0);
}

int main(void)
{
	signal(SIGBUS, SIG_DFL); /* a sanitizer has its own */
	rig_start();
	run_test(test_new_threads_have_one);
	run_test(test_program_stack_is_virtual);
	run_test(test_ends);
	run_test(test_thread_of_libc);
	run_test(test_attach_in_handler);
	run_test(test_stack_in_window_is_held);
	run_test(test_absent_stack_is_served);
	run_test(test_creators_in_parallel);
	run_test(test_fork); /* before threads that nobody joins: they may have a sanitizer's lock at the fork */
	run_test(test_memory_is_bounded);
	return 0;
}
