// SPDX-License-Identifier: MIT
/*
 * Alternate stacks come from a pool that only grows. A thread cannot give its own back: until the kernel has let go of
 * the task a signal may still land on it, after every destructor that we could register. So each stack names its
 * owner, and one whose owner tgkill() no longer finds (ESRCH) is free; a tid that was given out again only delays that.
 * The look is taken when the pool would have to grow past twice what was alive at the last look, so it costs a call or
 * two per thread created, and the pool stays below twice the largest number of threads alive at once, plus 16.
 *
 * Lock: pool_lock, taken with all signals really blocked (a handler may attach its thread); under it only memory of
 * our own is touched.
 */
#include "preload/threads.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <threads.h>
#include <ucontext.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"
#include "preload/real.h"
#include "preload/signals.h"
#include "sync/lock.h"

enum {
	POOL_SLACK = 16,
	OWNER_FREE = 0,
	OWNER_STARTING = -1, /* taken for a thread that does not run yet */
	ALTSTACK_MIN = 2048, /* MINSIGSTKSZ, as the kernel checks it */
};

/*
 * Lies at the upper end of its own stack's mapping, above the part that the kernel knows:
 * guard page | THREAD_ALTSTACK_BYTES, the last of them this.
 */
struct altstack {
	struct altstack *next; /* all there are; set before the stack is published, then constant */
	struct altstack *next_free; /* pool_lock */
	/*
	 * Pool_lock, with one exception: the new thread replaces OWNER_STARTING by its tid. Relaxed: whoever looks
	 * before that sees a stack that is taken, either way.
	 */
	struct atomic32 owner;
	/* What the new thread is to run: its creator writes, and pthread_create is the release. */
	void *(*start)(void *arg);
	thrd_start_t start_c11;
	void *arg;
} __attribute__((aligned(64)));

static struct mutex pool_lock;
/* All pool_lock; nr_all is also read without, as a statistic. */
static struct altstack *pool_all, *pool_free;
static struct atomic32 nr_all;
static unsigned int nr_before_look = POOL_SLACK;

/* Written once in threads_init(), before there is a second thread. */
static uintptr_t window_start, window_end;

static struct atomic64 real_pthread_create, real_thrd_create;

/* Initial-exec TLS. A vfork child shares both with its parent's thread, which sleeps meanwhile. */
static __thread struct altstack *own;
static __thread stack_t asked; /* the program's sigaltstack; ss_size 0: none */

int (*threads_hold)(uintptr_t addr, size_t bytes);
void (*threads_leave)(void);
static pthread_key_t leave_key;
static struct atomic32 leave_key_made; /* set once by the constructor */

/* ---- the pool ---- */

static char *altstack_base(const struct altstack *s)
{
	return (char *)s + sizeof(*s) - THREAD_ALTSTACK_BYTES;
}

static stack_t altstack_describe(const struct altstack *s)
{
	return (stack_t){
		.ss_sp = altstack_base(s),
		.ss_size = THREAD_ALTSTACK_BYTES - sizeof(*s),
	};
}

static struct altstack *altstack_create_locked(void)
{
	char *mem = os_reserve(PAGE_SIZE + THREAD_ALTSTACK_BYTES);
	struct altstack *s;

	if (!mem)
		return NULL;
	if (sys3(SYS_mprotect, mem, PAGE_SIZE, PROT_NONE) != 0) {
		os_unreserve(mem, PAGE_SIZE + THREAD_ALTSTACK_BYTES);
		return NULL;
	}
	must((uintptr_t)mem >= window_end || (uintptr_t)mem + PAGE_SIZE + THREAD_ALTSTACK_BYTES <= window_start);
	s = (struct altstack *)(void *)(mem + PAGE_SIZE + THREAD_ALTSTACK_BYTES) - 1;
	s->next = pool_all;
	pool_all = s;
	atomic32_add_return(&nr_all, 1);
	return s;
}

static void altstack_free_locked(struct altstack *s)
{
	atomic32_set(&s->owner, OWNER_FREE);
	s->next_free = pool_free;
	pool_free = s;
}

/* Frees the stacks of threads that are gone. */
static void pool_look_locked(void)
{
	long pid = sys0(SYS_getpid);
	unsigned int nr_alive = 0;

	for (struct altstack *s = pool_all; s; s = s->next) {
		u32 owner = atomic32_read(&s->owner);

		if (owner == OWNER_FREE)
			continue;
		if (owner != (u32)OWNER_STARTING && sys3(SYS_tgkill, pid, owner, 0) == -ESRCH)
			altstack_free_locked(s);
		else
			nr_alive++;
	}
	nr_before_look = 2 * nr_alive + POOL_SLACK;
}

static struct altstack *altstack_take(u32 owner)
{
	u64 mask = signals_lock(&pool_lock);
	struct altstack *s;

	if (!pool_free && atomic32_read(&nr_all) >= nr_before_look)
		pool_look_locked();
	s = pool_free;
	if (s)
		pool_free = s->next_free;
	else
		s = altstack_create_locked();
	if (s) {
		check(atomic32_read(&s->owner) == OWNER_FREE);
		atomic32_set(&s->owner, owner);
	}
	signals_unlock(&pool_lock, mask);
	return s;
}

static void altstack_give(struct altstack *s)
{
	u64 mask = signals_lock(&pool_lock);

	altstack_free_locked(s);
	signals_unlock(&pool_lock, mask);
}

unsigned int threads_altstacks(void)
{
	return atomic32_read(&nr_all); /* a statistic: a stale one is as good */
}

void threads_fork_begin(void)
{
	mutex_lock(&pool_lock);
}

void threads_fork_end(bool child)
{
	if (child) {
		pool_free = NULL;
		for (struct altstack *s = pool_all; s; s = s->next)
			if (s != own)
				altstack_free_locked(s);
		if (own)
			atomic32_set(&own->owner, (u32)os_gettid());
	}
	mutex_unlock(&pool_lock);
}

/* ---- the calling thread ---- */

static bool stack_contains(const stack_t *ss, uintptr_t sp)
{
	return !(ss->ss_flags & SS_DISABLE) && sp - (uintptr_t)ss->ss_sp < ss->ss_size;
}

/* What was installed before ours is what the program (or a sanitizer) believes to be installed. */
static void adopt(struct altstack *s, const stack_t *old)
{
	atomic32_set(&s->owner, (u32)os_gettid());
	asked = old->ss_flags & SS_DISABLE ? (stack_t){ 0 } : *old;
	own = s;
}

/* Makes `s` the calling thread's stack. */
static int install(struct altstack *s)
{
	stack_t ours = altstack_describe(s), old;
	long ret = sys2(SYS_sigaltstack, &ours, &old);

	if (ret == 0)
		adopt(s, &old);
	return (int)ret;
}

int threads_attach_self(void)
{
	struct altstack *s;
	int err;

	if (own)
		return 0;
	s = altstack_take((u32)os_gettid());
	if (!s)
		return -ENOMEM;
	err = install(s);
	if (err)
		altstack_give(s);
	return err;
}

int threads_attach_context(void *ucontext)
{
	ucontext_t *uc = ucontext;
	struct altstack *s;

	if (own)
		return 0;
	/* Sigreturn would refuse, in silence, to take away the stack that it returns to. */
	if (stack_contains(&uc->uc_stack, (uintptr_t)uc->uc_mcontext.gregs[REG_RSP]))
		return -EPERM;
	s = altstack_take((u32)os_gettid());
	if (!s)
		return -ENOMEM;
	adopt(s, &uc->uc_stack);
	uc->uc_stack = altstack_describe(s);
	return 0;
}

/* The kernel's tests, in its order, on what the program believes. */
static long altstack_ask(const stack_t *ss, bool on_stack)
{
	int mode = ss->ss_flags & ~(int)(1u << 31); /* SS_AUTODISARM: ours stays armed, it holds nested handlers */

	if (on_stack)
		return -EPERM;
	if (mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE)
		return -EINVAL;
	if (mode == SS_DISABLE) {
		asked = (stack_t){ 0 };
		return 0;
	}
	if (ss->ss_size < ALTSTACK_MIN)
		return -ENOMEM;
	asked = *ss;
	asked.ss_flags &= ~SS_ONSTACK;
	return 0;
}

long threads_altstack(const stack_t *ss, stack_t *old, uintptr_t sp, void *ucontext)
{
	bool child = signals_in_vfork_child(), on_stack;
	long ret = 0;

	if (!own && ss && signals_active() && !child)
		ret = ucontext ? threads_attach_context(ucontext) : threads_attach_self();
	if (ret != 0)
		return ret;
	if (!own)
		return sys2(SYS_sigaltstack, ss, old);
	/* A handler of the program on our stack is, to the program, one on its own. */
	on_stack = asked.ss_size != 0 && sp - (uintptr_t)altstack_base(own) < THREAD_ALTSTACK_BYTES;
	*old = asked;
	if (asked.ss_size == 0)
		old->ss_flags = SS_DISABLE;
	else if (on_stack)
		old->ss_flags |= SS_ONSTACK;
	return ss && !child ? altstack_ask(ss, on_stack) : 0;
}

/* ---- new threads ---- */

/*
 * First code of ours in the new thread. A sanitizer's sigaltstack() may have attached it already. Without the stack the
 * thread can still run: handlers then use its own.
 */
static void enter(struct altstack *s)
{
	if (own || install(s) != 0)
		altstack_give(s);
	if (threads_leave && atomic32_read(&leave_key_made))
		pthread_setspecific(leave_key, s);
}

static void leave(void *unused)
{
	(void)unused;
	threads_leave();
}

static void *run_pthread(void *arg)
{
	struct altstack *s = arg;
	void *(*start)(void *) = s->start;

	arg = s->arg;
	enter(s);
	return start(arg);
}

static int run_c11(void *arg)
{
	struct altstack *s = arg;
	thrd_start_t start = s->start_c11;

	arg = s->arg;
	enter(s);
	return start(arg);
}

/* A stack that the program brings holds the thread's control block, which the kernel writes at its own times. */
static int hold_stack(const pthread_attr_t *attr)
{
	void *addr;
	size_t bytes;

	if (!attr || !threads_hold || pthread_attr_getstack(attr, &addr, &bytes) != 0)
		return 0;
	if ((uintptr_t)addr >= window_end || (uintptr_t)addr + bytes <= window_start || (uintptr_t)addr + bytes < bytes)
		return 0;
	return threads_hold((uintptr_t)addr, bytes);
}

void threads_init(uintptr_t window, size_t window_bytes)
{
	window_start = window;
	window_end = window + window_bytes;
}

/* Not in threads_init(), which may run inside the first malloc. */
__attribute__((constructor)) static void prepare(void)
{
	real_function(&real_pthread_create, "pthread_create");
	real_function(&real_thrd_create, "thrd_create");
	if (pthread_key_create(&leave_key, leave) == 0)
		atomic32_set(&leave_key_made, 1);
}

/* The stack is taken here, where failure can still be reported, and carries what the thread is to run. */
EXPORT int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr, void *(*start)(void *),
			  void *restrict arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
		(int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))real_function(
			&real_pthread_create, "pthread_create");
	struct altstack *s;
	int err;

	if (!signals_active() || signals_in_vfork_child())
		return real(thread, attr, start, arg);
	if (hold_stack(attr) != 0)
		return EAGAIN;
	s = altstack_take((u32)OWNER_STARTING);
	if (!s)
		return EAGAIN;
	s->start = start;
	s->arg = arg;
	err = real(thread, attr, run_pthread, s);
	if (err)
		altstack_give(s);
	return err;
}

EXPORT int thrd_create(thrd_t *thread, thrd_start_t start, void *arg)
{
	int (*real)(thrd_t *, thrd_start_t, void *) =
		(int (*)(thrd_t *, thrd_start_t, void *))real_function(&real_thrd_create, "thrd_create");
	struct altstack *s;
	int err;

	if (!real)
		return thrd_error;
	if (!signals_active() || signals_in_vfork_child())
		return real(thread, start, arg);
	s = altstack_take((u32)OWNER_STARTING);
	if (!s)
		return thrd_nomem;
	s->start_c11 = start;
	s->arg = arg;
	err = real(thread, run_c11, s);
	if (err != thrd_success)
		altstack_give(s);
	return err;
}
