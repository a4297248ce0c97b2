// SPDX-License-Identifier: MIT
#include "sync/thread.h"

#include <asm/prctl.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"
#include "sync/wait.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

enum {
	STACK_BYTES = 256 << 10,
	TLS_BYTES = 16 << 10, /* libc's negative-offset TLS lies below the thread pointer */
};

#ifdef SANITIZED

static void *pthread_main(void *arg)
{
	struct sync_thread *t = arg;

	t->fn(t->arg);
	return NULL;
}

int sync_thread_start(struct sync_thread *t, void (*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	int err;

	t->fn = fn;
	t->arg = arg;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create((pthread_t *)&t->pthread, NULL, pthread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

void sync_thread_join(struct sync_thread *t)
{
	pthread_join((pthread_t)t->pthread, NULL);
}

void sync_thread_forget(struct sync_thread *t)
{
	t->pthread = 0;
}

#else

/* First C code of the new thread. The kernel clears t->tid when it has gone. */
__attribute__((used)) static void thread_main(struct sync_thread *t)
{
	t->fn(t->arg);
	for (;;)
		sys1(SYS_exit, 0); /* past the net, which traps the exits of others */
}

/*
 * clone(2) by hand: the child starts on an empty stack, so it must not return through this frame. `top` holds the
 * sync_thread for the child to pick up.
 */
static long clone_onto(unsigned long flags, void **top, struct atomic32 *tid, void *tls)
{
	register void *r10 __asm__("r10") = tid;
	register void *r8 __asm__("r8") = tls;
	long ret;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov (%%rsp), %%rdi\n\t"
			 "call *%[entry]\n\t"
			 "hlt\n\t"
			 "1:\n\t"
			 : "=a"(ret)
			 : "a"((long)SYS_clone), "D"(flags), "S"(top), "d"(tid), "r"(r10), "r"(r8),
			   [entry] "b"(thread_main)
			 : "rcx", "r11", "memory");
	return ret;
}

int sync_thread_start(struct sync_thread *t, void (*fn)(void *arg), void *arg)
{
	const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
				    CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	u64 all = ~(u64)0, old = 0;
	char *mem = os_reserve(STACK_BYTES + TLS_BYTES + PAGE_SIZE);
	void **top, **tcb;
	long ret;

	if (!mem)
		return -ENOMEM;
	t->stack = mem;
	t->fn = fn;
	t->arg = arg;
	atomic32_set(&t->tid, ~0u);
	top = (void **)(void *)(mem + STACK_BYTES - 64);
	*top = t;
	tcb = (void **)(void *)(mem + STACK_BYTES + TLS_BYTES);
	tcb[0] = tcb; /* %fs:0 and %fs:16 point at the block itself, as the x86-64 TLS ABI has it */
	tcb[2] = tcb;
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(old));
	ret = clone_onto(flags, top, &t->tid, tcb);
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	if (ret < 0) {
		os_unreserve(mem, STACK_BYTES + TLS_BYTES + PAGE_SIZE);
		t->stack = NULL;
		return (int)ret;
	}
	return 0;
}

void sync_thread_join(struct sync_thread *t)
{
	u32 tid;

	must(t->stack);
	/* CLONE_CHILD_CLEARTID wakes with a shared futex, which a private wait would miss: hence the plain one. */
	while ((tid = atomic32_load_acquire(&t->tid)) != 0)
		sys4(SYS_futex, &t->tid.v, 0 /* FUTEX_WAIT */, tid, NULL);
	sync_thread_forget(t);
}

void sync_thread_forget(struct sync_thread *t)
{
	os_unreserve(t->stack, STACK_BYTES + TLS_BYTES + PAGE_SIZE);
	t->stack = NULL;
}

#endif
