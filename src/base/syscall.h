/* SPDX-License-Identifier: MIT */
/*
 * Raw system calls: no errno, no cancellation point, no libc. Results are 0.. or -errno.
 *
 * Everything below src/mm's seams goes through here, for two reasons: the code runs in signal handlers and in
 * threads that libc does not know, and under `weir run` the call must be made from the gadget page, whose
 * instruction pointer the seccomp filter lets pass (fault/net.h). syscall_use_gadget() switches to it.
 */
#pragma once

#include <sys/syscall.h>

#include "base/types.h"

typedef long (*syscall_fn)(long nr, long a, long b, long c, long d, long e, long f);

/* The plain `syscall` instruction in this library's own text. */
long syscall_direct(long nr, long a, long b, long c, long d, long e, long f);

/* Context: once, while no other thread makes system calls through here, or idempotently. */
void syscall_use_gadget(syscall_fn fn);

extern syscall_fn syscall_entry;

#define SYSCALL_ARG(x) ((long)(x))
#define sys6(nr, a, b, c, d, e, f)                                                                                     \
	syscall_entry((nr), SYSCALL_ARG(a), SYSCALL_ARG(b), SYSCALL_ARG(c), SYSCALL_ARG(d), SYSCALL_ARG(e),            \
		      SYSCALL_ARG(f))
#define sys5(nr, a, b, c, d, e) sys6(nr, a, b, c, d, e, 0)
#define sys4(nr, a, b, c, d) sys6(nr, a, b, c, d, 0, 0)
#define sys3(nr, a, b, c) sys6(nr, a, b, c, 0, 0, 0)
#define sys2(nr, a, b) sys6(nr, a, b, 0, 0, 0, 0)
#define sys1(nr, a) sys6(nr, a, 0, 0, 0, 0, 0)
#define sys0(nr) sys6(nr, 0, 0, 0, 0, 0, 0)
