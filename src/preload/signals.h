/* SPDX-License-Identifier: MIT */
/*
 * The program's signals, with SIGBUS and SIGSYS kept for weir: a fault in the window and a trapped system call arrive
 * as these two, so no mask may block them and no handler may take them away. What the program asks for them is
 * recorded, reported back to it, and honoured by signals_chain() for signals that are not weir's.
 *
 * A handler for SIGSEGV is installed as the program asks, behind a function that corrects si_code.
 *
 * Two ways in: the exported libc functions in signals.c, and signals_call() for the calls that libc makes inside
 * itself and that the seccomp net traps. Until signals_init() all of it passes through to the kernel unchanged.
 */
#pragma once

#include <signal.h>

#include "base/types.h"
#include "fault/signal_raw.h"

/* Records the process, unblocks the two and takes them out of every mask there is. Context: once, single-threaded. */
void signals_init(void);

/*
 * Installs weir's own handler for SIGBUS or SIGSYS, with SA_SIGINFO and SA_ONSTACK; the present disposition becomes
 * the recorded one. `mask` is blocked while the handler runs. A second call replaces weir's handler only. 0 or -errno.
 */
int must_check signals_own(int sig, signal_raw_fn handler, u64 mask, int flags);

/*
 * From weir's handlers, for a signal that is not weir's: does what the kernel would have done. True: the program's
 * handler has run, or the signal is ignored. False: the default action is restored, and the process dies of the
 * signal as soon as the handler returns. May not return at all (siglongjmp). Context: handler, no lock held.
 */
bool signals_chain(int sig, siginfo_t *info, void *ucontext);

/*
 * From the SIGSYS handler: serves rt_sigprocmask, rt_sigaction, sigaltstack and rt_sigsuspend as the kernel would have
 * for the interrupted thread. False: another call.
 */
bool signals_call(long nr, const long args[6], void *ucontext, long *result);

/*
 * How signals_call() reaches the user's memory: plain copies, until the shim puts net_fetch and net_store here, which
 * answer bad pointers with -EFAULT. Set before there is a second thread.
 */
extern int (*signals_fetch)(void *dst, uintptr_t src, size_t len);
extern int (*signals_store)(uintptr_t dst, const void *src, size_t len);

/*
 * From adoption on: the kernel writes all signal frames on our alternate stacks, whose pages are present; handlers
 * that were not installed with SA_ONSTACK get theirs moved to where the program stands (frame.h). Context: once, all
 * other threads parked.
 */
void signals_route(void);

/* Is the address in the window, and nothing mapped there? A SIGSEGV then says so. NULL: never. Lockless. */
extern bool (*signals_unmapped)(const void *addr);

/* A child of vfork or posix_spawn, which shares our memory and must leave what is recorded alone. */
bool signals_in_vfork_child(void);
bool signals_active(void);

/* Around a clone without CLONE_VM, all signals blocked; `child` tells on which side it returns. */
void signals_fork_begin(void);
void signals_fork_end(bool child);

/* Blocks all signals, the two included, for a few instructions on memory of our own. Returns what to restore. */
u64 signals_block(void);
void signals_restore(u64 mask);

/*
 * Takes a lock that handlers of the same thread may want, all signals blocked while it is held, but not while waiting
 * for it: the holder may be parked meanwhile (quiesce.h), and so must we be. Returns the mask for the unlock.
 */
struct mutex;
u64 signals_lock(struct mutex *m);
void signals_unlock(struct mutex *m, u64 mask);
