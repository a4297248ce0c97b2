/* SPDX-License-Identifier: MIT */
/* Threads that are nothing but stacks: switching is a few instructions, so a run of a scenario takes microseconds. */
#pragma once

#include "base/types.h"

enum { FIBER_STACK_BYTES = 64 << 10 };

struct fiber {
	void *sp; /* where it stands when it does not run */
	char *stack;
};

/*
 * Allocates the stack, with a guard page below it: each `n` has its place, the same in every process, as there is code
 * that goes by where its stack is (fault/gate.c). 0, -ENOMEM, or -EEXIST.
 */
int must_check fiber_init(struct fiber *f, u32 n);

/* Next time the fiber is switched to, it calls fn(arg), which never returns. */
void fiber_prepare(struct fiber *f, void (*fn)(void *arg), void *arg);

void fiber_switch(struct fiber *from, struct fiber *to);

static inline bool fiber_owns(const struct fiber *f, const void *addr)
{
	return (uintptr_t)addr - (uintptr_t)f->stack < FIBER_STACK_BYTES;
}
