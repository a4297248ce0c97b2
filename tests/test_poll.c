// SPDX-License-Identifier: MIT
/* Who may poll, and when nobody does for a while. */
#include "sync/poll.h"

#include <pthread.h>
#include <sched.h>

#include "sync/wait.h"
#include "test.h"

static struct sync_poll poll;
static struct atomic32 stop;

/* Polls for what never comes; returns how long. */
static u64 poll_in_vain(void)
{
	struct sync_poll_wait wait;
	u64 begun = sync_clock_ns();

	sync_poll_begin(&poll, &wait);
	while (sync_poll_again(&poll, &wait))
		continue;
	sync_poll_end(&poll, &wait);
	return sync_clock_ns() - begun;
}

static void test_one_processor_is_left_to_others(void)
{
	struct sync_poll_wait wait, other;

	sync_poll_init(&poll, 3);
	expect(sync_poll_pays(&poll));
	sync_poll_begin(&poll, &wait);
	expect(sync_poll_pays(&poll));
	sync_poll_begin(&poll, &other);
	expect(!sync_poll_pays(&poll));
	sync_poll_end(&poll, &wait);
	expect(sync_poll_pays(&poll));
	sync_poll_end(&poll, &other);
}

static void test_a_single_processor_is_polled_on(void)
{
	struct sync_poll_wait wait;

	sync_poll_init(&poll, 1);
	expect(sync_poll_pays(&poll));
	sync_poll_begin(&poll, &wait);
	expect(!sync_poll_pays(&poll));
	sync_poll_end(&poll, &wait);
}

/* In a child nobody polls, whoever did in the parent. */
static void test_all_begins_anew_after_fork(void)
{
	struct sync_poll_wait wait;

	sync_poll_init(&poll, 2);
	sync_poll_begin(&poll, &wait);
	sync_poll_init(&poll, 2);
	expect(sync_poll_pays(&poll));
}

/* Once or twice is an accident; whoever is in time in between has shown that it was. */
static void test_what_takes_long_again_and_again_is_slept_for(void)
{
	struct sync_poll_wait wait;
	u32 waits = 0;

	sync_poll_init(&poll, 2);
	for (u32 i = 0; i < 100; i++) {
		(void)poll_in_vain();
		sync_poll_begin(&poll, &wait);
		sync_poll_end(&poll, &wait);
		expect_eq(atomic32_read(&poll.long_waits), 0);
	}
	/* Others may want the processor of this test, which is another reason to rest. */
	for (sync_poll_init(&poll, 2); waits < 1000 && !atomic64_read(&poll.rests_until_ns); waits++)
		(void)poll_in_vain();
	expect(waits > 0 && atomic64_read(&poll.rests_until_ns) > 0);
	while (sync_clock_ns() < atomic64_read(&poll.rests_until_ns))
		sched_yield();
	expect(sync_poll_pays(&poll));
}

static void *burn(void *arg)
{
	(void)arg;
	while (!atomic32_read(&stop))
		continue;
	return NULL;
}

/* With another thread on the only processor that we may use, the first offer is taken, for a time slice. */
static void test_whoever_wants_the_processor_gets_it(void)
{
	cpu_set_t before, one;
	pthread_t burner;
	u64 rests = 0;

	expect_eq(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	CPU_SET((unsigned int)sched_getcpu(), &one);
	expect_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	expect_eq(pthread_create(&burner, NULL, burn, NULL), 0);
	for (u32 tries = 0; tries < 1000 && rests < 100000000; tries++) {
		u64 until;

		sync_poll_init(&poll, 2);
		(void)poll_in_vain();
		until = atomic64_read(&poll.rests_until_ns);
		rests = until > sync_clock_ns() ? until - sync_clock_ns() : 0;
	}
	expect(rests >= 100000000);
	atomic32_set(&stop, 1);
	expect_eq(pthread_join(burner, NULL), 0);
	expect_eq(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void)
{
	run_test(test_one_processor_is_left_to_others);
	run_test(test_a_single_processor_is_polled_on);
	run_test(test_all_begins_anew_after_fork);
	run_test(test_what_takes_long_again_and_again_is_slept_for);
	run_test(test_whoever_wants_the_processor_gets_it);
	return 0;
}
