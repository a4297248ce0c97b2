/* SPDX-License-Identifier: MIT */
/*
 * Litmus tests: the ordering that the core relies on, in as few C11 atomics as will show it. Each file states what it
 * stands for and the outcome that must never be. The names of the steps are those of src/mm.
 *
 * Exhaustively, under RC11 or IMM, where GenMC is installed:
 *     genmc --imm -- -DLITMUS_ONCE -Icheck/litmus check/litmus/publish.c
 * Else stress.c runs them in a loop: on x86-64 that can only show what total store order allows.
 */
#pragma once

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { LITMUS_THREADS = 2 };

/* Each file defines these: the two threads, what is before, and what must hold after (false: the forbidden outcome). */
void litmus_reset(void);
void *litmus_thread_0(void *arg);
void *litmus_thread_1(void *arg);
bool litmus_allowed(void);

#ifdef LITMUS_ONCE
int main(void)
{
	pthread_t t[LITMUS_THREADS];

	litmus_reset();
	pthread_create(&t[0], 0, litmus_thread_0, 0);
	pthread_create(&t[1], 0, litmus_thread_1, 0);
	pthread_join(t[0], 0);
	pthread_join(t[1], 0);
	assert(litmus_allowed());
	return 0;
}
#endif
