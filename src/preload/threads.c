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
#include "preload/quiesce.h"
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
	/* Its creator's, then its own, and pool_lock's when it is gone. More of them stand at the stack's lower end. */
	unsigned int nr_held;
} __attribute__((aligned(64)));

/* Held until the thread is gone. At the end of a thread its stack is nearly empty. */
struct held_range {
	uintptr_t addr;
	size_t bytes;
};

enum {
	HELD_MAX = THREAD_ALTSTACK_BYTES / 4 / sizeof(struct held_range),
	ROBUST_MAX = 2048,	/* entries that the kernel looks at */
	BLOCK_BYTES = 64 << 10, /* of a stack's upper end: the control block and what is thread-local */
};

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
void (*threads_release)(uintptr_t addr, size_t bytes);
void (*threads_leave)(void);
static struct atomic32 main_ended; /* set once, by the thread that has the process's id; a fork child has a new one */
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

static struct held_range *held_ranges(const struct altstack *s)
{
	return (struct held_range *)(void *)altstack_base(s);
}

static bool overlaps_window(uintptr_t addr, size_t bytes)
{
	return bytes && addr < window_end && addr + bytes > window_start && addr + bytes > addr;
}

static int hold_for(struct altstack *s, uintptr_t addr, size_t bytes)
{
	int err;

	if (!threads_hold || !overlaps_window(addr, bytes) || s->nr_held == HELD_MAX)
		return 0;
	err = threads_hold(addr, bytes);
	if (!err)
		held_ranges(s)[s->nr_held++] = (struct held_range){ addr, bytes };
	return err;
}

static void altstack_free_locked(struct altstack *s)
{
	while (s->nr_held) {
		struct held_range *held = &held_ranges(s)[--s->nr_held];

		threads_release(held->addr, held->bytes);
	}
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

static struct altstack *take_locked(u32 owner)
{
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
	return s;
}

struct request {
	u32 owner;
	uintptr_t hold;		/* upper end of the new thread's stack, 0: libc brings it */
	struct altstack *stack; /* taken or to be given */
};

static long take_outside(void *arg)
{
	struct request *request = arg;
	u32 owner = request->owner;
	u64 mask = signals_lock(&pool_lock);
	struct altstack *s = take_locked(owner);

	signals_unlock(&pool_lock, mask);
	request->stack = s;
	return 0;
}

static long give_outside(void *arg)
{
	struct altstack *s = arg;
	u64 mask = signals_lock(&pool_lock);

	altstack_free_locked(s);
	signals_unlock(&pool_lock, mask);
	return 0;
}

static struct altstack *altstack_take(u32 owner)
{
	struct request request = { .owner = owner };

	threads_call_outside(take_outside, &request);
	return request.stack;
}

static void altstack_give(struct altstack *s)
{
	threads_call_outside(give_outside, s);
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
		atomic32_set(&main_ended, 0);
		pool_free = NULL;
		for (struct altstack *s = pool_all; s; s = s->next) {
			if (s == own)
				continue;
			s->nr_held = 0; /* no hold is the child's */
			altstack_free_locked(s);
		}
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

/*
 * long call_on_stack(void *top, long (*fn)(void *arg), void *arg). The kernel takes the thread to be on its alternate
 * stack then, so handlers nest below.
 */
__asm__(".text\n\t"
	".p2align 4\n\t"
	".type call_on_stack, @function\n"
	"call_on_stack:\n\t"
	".cfi_startproc\n\t"
	"push %rbp\n\t"
	".cfi_adjust_cfa_offset 8\n\t"
	".cfi_rel_offset %rbp, 0\n\t"
	"mov %rsp, %rbp\n\t"
	".cfi_def_cfa_register %rbp\n\t"
	"mov %rdi, %rsp\n\t"
	"mov %rdx, %rdi\n\t"
	"call *%rsi\n\t"
	"leave\n\t"
	".cfi_def_cfa %rsp, 8\n\t"
	"ret\n\t"
	".cfi_endproc\n\t"
	".size call_on_stack, . - call_on_stack\n");
long call_on_stack(void *top, long (*fn)(void *arg), void *arg);

bool threads_on_altstack(uintptr_t sp)
{
	return own && sp - (uintptr_t)altstack_base(own) < THREAD_ALTSTACK_BYTES;
}

long threads_call_outside(long (*fn)(void *arg), void *arg)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	if (likely(sp < window_start || sp >= window_end) || !own)
		return fn(arg);
	return call_on_stack(own, fn, arg);
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

/* Stacks of threads that are gone may still be held. */
static long hold_block_outside(void *arg)
{
	const struct request request = *(const struct request *)arg;
	int err = hold_for(request.stack, request.hold - BLOCK_BYTES, BLOCK_BYTES);
	u64 mask;

	if (!err)
		return 0;
	mask = signals_lock(&pool_lock);
	pool_look_locked();
	signals_unlock(&pool_lock, mask);
	return hold_for(request.stack, request.hold - BLOCK_BYTES, BLOCK_BYTES);
}

/* A stack that the program brings holds the thread's control block, which the kernel writes at its own times. */
static long hold_block(struct altstack *s, const pthread_attr_t *attr)
{
	struct request request = { .stack = s };
	void *addr;
	size_t bytes;

	if (!attr || pthread_attr_getstack(attr, &addr, &bytes) != 0 || !bytes)
		return 0;
	request.hold = (uintptr_t)addr + bytes;
	if (!overlaps_window(request.hold - BLOCK_BYTES, BLOCK_BYTES))
		return 0;
	return threads_call_outside(hold_block_outside, &request);
}

/* ---- the end of a thread ---- */

/* As <linux/futex.h> has them. */
struct robust_head {
	uintptr_t next;
	long offset;
	uintptr_t pending;
};

static void hold_mutex(uintptr_t entry, long offset)
{
	uintptr_t word = (entry & ~(uintptr_t)1) + (uintptr_t)offset, start = entry & ~(uintptr_t)7;

	if (word < start)
		hold_for(own, word, start + sizeof(uintptr_t) - word);
	else
		hold_for(own, start, word + sizeof(u32) - start);
}

/* The kernel walks the list after the last instruction of the thread, and tells those who wait that it has died. */
static void hold_robust_mutexes(void)
{
	struct robust_head head, *at = NULL;
	uintptr_t entry;
	size_t len;

	if (sys3(SYS_get_robust_list, 0, &at, &len) != 0 || !at || len != sizeof(head))
		return;
	if (signals_fetch(&head, (uintptr_t)at, sizeof(head)) != 0)
		return;
	entry = head.next;
	for (int i = 0; i < ROBUST_MAX && (entry & ~(uintptr_t)1) != (uintptr_t)at; i++) {
		hold_mutex(entry, head.offset);
		if (signals_fetch(&entry, entry & ~(uintptr_t)1, sizeof(entry)) != 0)
			return;
	}
	if (head.pending)
		hold_mutex(head.pending, head.offset);
}

void threads_exit(int status)
{
	long pid = sys0(SYS_getpid);

	if (signals_in_vfork_child())
		return;
	if (own && threads_hold)
		hold_robust_mutexes();
	if (sys0(SYS_gettid) == pid)
		atomic32_set(&main_ended, 1);
	if (atomic32_read(&main_ended) && quiesce_is_last((u32)pid))
		sys1(SYS_exit_group, status);
}

void threads_hold_again(void)
{
	unsigned int nr = own ? own->nr_held : 0;

	if (!nr)
		return;
	own->nr_held = 0;
	for (unsigned int i = 0; i < nr; i++)
		must(hold_for(own, held_ranges(own)[i].addr, held_ranges(own)[i].bytes) == 0);
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
	s = altstack_take((u32)OWNER_STARTING);
	if (!s)
		return EAGAIN;
	if (hold_block(s, attr) != 0) {
		altstack_give(s);
		return EAGAIN;
	}
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
