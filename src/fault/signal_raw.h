/* SPDX-License-Identifier: MIT */
/*
 * Signals without libc: the kernel's own rt_sigaction and rt_sigprocmask, through base/syscall.h and so past the
 * seccomp net. glibc's versions hide signals 32 and 33, keep locks around some actions and are themselves trapped.
 *
 * Sets are the kernel's 64-bit masks, bit sig - 1. Context of all: any thread, also signal handlers.
 */
#pragma once

#include <signal.h>

#include "base/types.h"

/* The kernel's struct sigaction. */
struct signal_raw_action {
	uintptr_t handler; /* SIG_DFL, SIG_IGN, or a function of one or (SA_SIGINFO) three arguments */
	unsigned long flags;
	uintptr_t restorer;
	u64 mask;
};

typedef void (*signal_raw_fn)(int sig, siginfo_t *info, void *ucontext);

static inline u64 signal_raw_bit(int sig)
{
	return (u64)1 << (sig - 1);
}

/* Without these two a fault or a trapped call ends the process, so no mask may ever hold them. */
#define SIGNAL_RAW_NEVER_BLOCKED (signal_raw_bit(SIGBUS) | signal_raw_bit(SIGSYS))

/* Returns from a handler. The unwinders know it by its bytes, so it has no unwind entry of its own. */
void signal_raw_restorer(void);

/* As rt_sigaction; an action without SA_RESTORER gets ours. Either pointer may be NULL. */
int signal_raw_action(int sig, const struct signal_raw_action *act, struct signal_raw_action *old);

/* Installs fn with SA_SIGINFO | flags. */
int signal_raw_install(int sig, signal_raw_fn fn, unsigned long flags, u64 mask, struct signal_raw_action *old);

/* how: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK; old may be NULL. */
void signal_raw_mask(int how, u64 set, u64 *old);
u64 signal_raw_mask_get(void);

/* Ends the process as an unhandled `sig` does. */
_Noreturn void signal_raw_die(int sig);
