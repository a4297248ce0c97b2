/* SPDX-License-Identifier: MIT */
/*
 * A private alternate signal stack for every thread of the program: weir's handlers must not run on a stack that may
 * itself be absent (a coroutine's, in the window), nor on one of a few KiB.
 *
 * Covered: pthread_create and thrd_create through the PLT. Threads that libc makes inside itself (timer_create with
 * SIGEV_THREAD, aio, getaddrinfo_a) have no such stack until threads_attach_context() or their first sigaltstack();
 * their own stack comes from libc's internal mmap, outside the window, so that is sound as well.
 *
 * The program's sigaltstack is virtual: recorded per thread and reported back, never installed. Its SA_ONSTACK
 * handlers run on ours, which is larger than any it is likely to bring.
 */
#pragma once

#include <signal.h>

#include "base/types.h"

enum { THREAD_ALTSTACK_BYTES = 256 << 10 };

/*
 * Keeps what the kernel looks at by itself resident until the thread is gone: the control block on a stack that the
 * program brings (pthread_attr_setstack), and at its end the robust mutexes that it still owns. 0 or -errno. May be
 * NULL.
 */
extern int (*threads_hold)(uintptr_t addr, size_t bytes);
extern void (*threads_release)(uintptr_t addr, size_t bytes);

/*
 * A thread is about to end by exit(2). From the SIGSYS handler. The last one takes the process along, which our own
 * threads would keep alive.
 */
void threads_exit(int status);

/* In a fork child, whose holds have all been dropped: those of its one thread again. */
void threads_hold_again(void);

/* Runs in each thread that came through the wrappers when it ends, unless it ends by a raw exit. May be NULL. */
extern void (*threads_leave)(void);

/* Context: once, single-threaded, before any of the others. */
void threads_init(uintptr_t window, size_t window_bytes);

/* Gives the calling thread its stack; nothing if it has one. 0 or -errno (-EPERM: it runs on an alternate stack). */
int must_check threads_attach_self(void);

/* The same from a SIGBUS or SIGSYS handler of ours; takes effect when the handler returns. */
int must_check threads_attach_context(void *ucontext);

/*
 * sigaltstack(2) for the calling thread, whose stack pointer is `sp`, on copies of the user's structures (`ss` may be
 * NULL, *old is always filled on success); ucontext NULL outside handlers. 0 or -errno.
 */
long threads_altstack(const stack_t *ss, stack_t *old, uintptr_t sp, void *ucontext);

/* Is this the stack pointer of code that runs on the calling thread's alternate stack? */
bool threads_on_altstack(uintptr_t sp);

/* Around a clone without CLONE_VM, with all signals blocked. */
void threads_fork_begin(void);
void threads_fork_end(bool child);

/*
 * Calls fn on a stack outside the window. A program may run on a stack of its own inside it (a coroutine's), any page
 * of which can be absent or locked, so whoever takes a lock or blocks SIGBUS must not stand there. Elsewhere just a
 * call.
 */
long threads_call_outside(long (*fn)(void *arg), void *arg);

/* Alternate stacks that exist, in use or not: for tests and statistics. */
unsigned int threads_altstacks(void);
