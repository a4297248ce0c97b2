// SPDX-License-Identifier: MIT
/* The gate that fork closes: while it is closed nobody else is inside, and everybody gets in again afterwards. */
#include <pthread.h>

#include "fault/gate.h"
#include "test.h"

enum { VISITORS = 4, VISITS = 200000, CLOSINGS = 300 };

static struct gate gate;
static struct atomic32 closed, done;
static u64 shared; /* written by visitors under `visitors`, read by the closer without: the gate must order them */
static struct mutex visitors;

static void *visit(void *arg)
{
	for (int i = 0; i < VISITS; i++) {
		u32 shard = gate_enter(&gate);

		expect(!atomic32_read(&closed));
		mutex_lock(&visitors);
		shared++;
		mutex_unlock(&visitors);
		gate_leave(&gate, shard);
	}
	atomic32_add_return(&done, 1);
	return arg;
}

static void test_nobody_is_inside_while_it_is_closed(void)
{
	pthread_t threads[VISITORS];

	for (int i = 0; i < VISITORS; i++)
		expect_eq(pthread_create(&threads[i], NULL, visit, NULL), 0);
	for (int i = 0; i < CLOSINGS; i++) {
		u64 before;
		u32 shard;

		gate_close(&gate);
		atomic32_set(&closed, 1);
		before = shared;
		sync_yield();
		expect_eq(shared, before);
		atomic32_set(&closed, 0);
		/* The closer itself may pass: what it touches on its way to fork is served. */
		shard = gate_enter(&gate);
		gate_leave(&gate, shard);
		gate_open(&gate);
		sync_yield();
	}
	for (int i = 0; i < VISITORS; i++)
		expect_eq(pthread_join(threads[i], NULL), 0);
	expect_eq(atomic32_read(&done), VISITORS);
	expect_eq(shared, (u64)VISITORS * VISITS);
}

static void test_a_child_finds_it_open(void)
{
	u32 shard;

	gate_close(&gate);
	gate_open_in_child(&gate);
	shard = gate_enter(&gate);
	gate_leave(&gate, shard);
	gate_close(&gate);
	gate_open(&gate);
}

int main(void)
{
	run_test(test_nobody_is_inside_while_it_is_closed);
	run_test(test_a_child_finds_it_open);
	return 0;
}
