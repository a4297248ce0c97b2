// SPDX-License-Identifier: MIT
#include "sync/poll.h"

#include "sync/wait.h"

enum {
	OFFER_NS = 10000,
	LATE_NS = 10000, /* another thread was there; alone it takes 1 us */
	LATE_REST_NS = 500000,
	SLICE_NS = 2000000, /* it wants more than a moment: its time slice is 3 ms */
	SLICE_REST_NS = 200000000,
	LONG_NS = 200000,
	LONG_WAITS = 8, /* in a row: it is no accident */
	LONG_REST_NS = 20000000,
	LOOKS = 4, /* between two looks at the clock */
};

void sync_poll_init(struct sync_poll *poll, u32 nr_cpus)
{
	atomic32_set(&poll->polling, 0);
	atomic32_set(&poll->long_waits, 0);
	atomic64_set(&poll->rests_until_ns, 0);
	poll->max = nr_cpus > 1 ? nr_cpus - 1 : 1;
}

static void rest(struct sync_poll *poll, u64 until_ns)
{
	atomic64_set(&poll->rests_until_ns, until_ns);
}

/* Offers the processor to others. False: they want it. */
static bool offer(struct sync_poll *poll, struct sync_poll_wait *wait, u64 now)
{
	u64 away;

	sync_yield();
	wait->offered_ns = sync_clock_ns();
	away = wait->offered_ns - now;
	if (away <= LATE_NS)
		return true;
	rest(poll, wait->offered_ns + (away > SLICE_NS ? SLICE_REST_NS : LATE_REST_NS));
	wait->gave_up = true;
	return false;
}

bool sync_poll_pays(const struct sync_poll *poll)
{
	return atomic32_read(&poll->polling) < poll->max && sync_clock_ns() >= atomic64_read(&poll->rests_until_ns);
}

void sync_poll_begin(struct sync_poll *poll, struct sync_poll_wait *wait)
{
	atomic32_add_return(&poll->polling, 1);
	wait->begun_ns = sync_clock_ns();
	wait->offered_ns = 0; /* at once: what is awaited takes longer */
	wait->gave_up = false;
}

bool sync_poll_again(struct sync_poll *poll, struct sync_poll_wait *wait)
{
	u64 now;

	for (u32 i = 0; i < LOOKS; i++)
		atomic_pause();
	now = sync_clock_ns();
	if (now - wait->begun_ns > LONG_NS) {
		if (atomic32_add_return(&poll->long_waits, 1) % LONG_WAITS == 0)
			rest(poll, now + LONG_REST_NS);
		wait->gave_up = true;
		return false;
	}
	return now - wait->offered_ns < OFFER_NS || offer(poll, wait, now);
}

void sync_poll_end(struct sync_poll *poll, const struct sync_poll_wait *wait)
{
	if (!wait->gave_up && atomic32_read(&poll->long_waits))
		atomic32_set(&poll->long_waits, 0);
	atomic32_sub_return(&poll->polling, 1);
}
