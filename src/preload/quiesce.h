/* SPDX-License-Identifier: MIT */
/*
 * Brings every other thread of the process out of the kernel, where it may be inside a system call that began before
 * the seccomp filter and points into the window.
 *
 * Each thread is sent SIGSYS with a cookie and acknowledges it from weir's handler; then it has been in user mode
 * since the filter came, and whatever it calls next meets the filter. Calls that the kernel does not restart by itself
 * after a handler (epoll_wait, nanosleep, ...) are begun again by the handler.
 *
 * One caller at a time. Needs weir's SIGSYS handler (SA_RESTART), and /proc.
 */
#pragma once

#include <signal.h>

#include "base/types.h"

/*
 * After the filter is in place for all threads, before the first page may leave. 0; -ETIMEDOUT (a thread sleeps
 * uninterruptibly, waits for a vfork child, or has SIGSYS blocked, for longer than quiesce_ns_max); -errno of /proc.
 */
int must_check quiesce_syscalls(uintptr_t window, size_t bytes);

/*
 * Stops every other thread in the handler, for installing the filter in a process that has threads already: a thread
 * that libc has all signals blocked in (pthread_create, posix_spawn) dies if the filter comes just then, as a trap with
 * SIGSYS blocked kills. None is when all are parked, nor is any inside a system call. 0 and then quiesce_release() is
 * due, after no more than a few system calls and no lock that libc or the program has; or -errno, and none is parked.
 */
int must_check quiesce_park(void);
void quiesce_release(void);

/* Is no thread of the program left but the caller, and `but`? False if unknown. */
bool quiesce_is_last(u32 but);

/* First thing in the SIGSYS handler. True: it was one of ours, return. */
bool quiesce_ack(const siginfo_t *info, void *ucontext);

/* A thread of weir's own, which blocks all signals and makes no calls with window pointers. Context: any. */
void quiesce_exempt(u32 tid);

/* In a forked child: those threads are not there. Context: single-threaded. */
void quiesce_forget_exempt(void);

/* How long both wait for a thread, in nanoseconds; tests shorten it. */
extern u64 quiesce_ns_max;
