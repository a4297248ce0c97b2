/* SPDX-License-Identifier: MIT */
/*
 * FIRST SEAM, part 4: weir's own threads.
 *
 * They are raw clone(2) tasks, not pthreads: libc keeps its single-threaded fast paths and pthread_exit() of the last
 * pthread still ends the process. Their TLS block is a private zeroed page, so libc code that reads the stack guard
 * or writes errno is harmless, but nothing that needs real TLS (malloc, stdio, locale) may be called. All signals are
 * blocked in them. Sanitizer builds use pthreads, as the sanitizers need their own thread state.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

struct sync_thread {
	struct atomic32 tid; /* cleared and woken by the kernel when the thread is gone */
	void *stack;
	void (*fn)(void *arg);
	void *arg;
	unsigned long pthread;
};

/* Returns 0 or -errno. `t` must outlive the thread. */
int must_check sync_thread_start(struct sync_thread *t, void (*fn)(void *arg), void *arg);

/* Waits until fn has returned, and frees the stack. */
void sync_thread_join(struct sync_thread *t);

/* In a forked child, where the thread is not: frees the copy of its stack. Also for one that was never started. */
void sync_thread_forget(struct sync_thread *t);
