// SPDX-License-Identifier: MIT
/*
 * The pool of one limit for many processes: never more granted than there is, nothing lost by processes that are
 * killed or stopped at any instant, and the poorer come first.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/wait.h"
#include "test.h"
#include "tree/pool.h"

enum {
	LIMIT = 16384,
	LEAST = 512,
	PROCESSES = 12,
	KILLS = 120,
};

static struct pool *pool;
static int pool_fd;

/* In memory that all processes share: what each believes it has, lowered before it gives and raised after it took. */
static struct shared {
	struct atomic32 kept[PROCESSES];
	struct atomic32 joins, takes, step;
} * shared;

static void setup(u32 limit)
{
	expect_eq(pool_create(limit, LEAST, 2, &pool, &pool_fd), 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	expect(shared != MAP_FAILED);
}

static void teardown(void)
{
	close(pool_fd);
	munmap(shared, sizeof(*shared));
}

static void sleep_ms(u32 ms)
{
	usleep(ms * 1000);
}

/* A child that does `work` and then sleeps until it is killed. */
static pid_t start(void (*work)(u32 number), u32 number)
{
	pid_t pid = fork();

	expect(pid >= 0);
	if (pid)
		return pid;
	work(number);
	for (;;)
		pause();
}

static void end(pid_t pid)
{
	int status;

	expect(!kill(pid, SIGKILL));
	expect(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static void await_step(u32 step)
{
	while (atomic32_load_acquire(&shared->step) < step)
		sleep_ms(1);
}

static struct pool_member join(void)
{
	struct pool_member m;

	expect_eq(pool_join(&m, pool, 5000000000), 0);
	return m;
}

static void expect_all_free(void)
{
	struct pool_totals totals;

	pool_reap(pool, NULL, true);
	totals = pool_sum(pool);
	expect_eq(totals.members, 0);
	expect_eq(totals.granted, 0);
}

/* Takes and gives at random for ever. */
static void churn(u32 number)
{
	u64 seed = (u64)getpid() * 0x9e3779b97f4a7c15ull + 1;
	struct pool_member m = join();
	struct atomic32 *kept = &shared->kept[number];

	atomic32_set(kept, LEAST);
	atomic32_add_return(&shared->joins, 1);
	for (;;) {
		u32 nr = (u32)(test_random(&seed) >> 32) % 2000 + 1, got;

		if (test_random(&seed) & 1) {
			got = pool_take(&m, 1, nr);
			atomic32_add_return(kept, got);
			atomic32_add_return(&shared->takes, got != 0);
			if (!got)
				pool_want(&m, nr);
		} else if (atomic32_read(kept) > LEAST) {
			nr = (u32)min_u64(nr, atomic32_read(kept) - LEAST);
			atomic32_sub_return(kept, nr);
			pool_give(&m, nr);
		}
	}
}

static void stop_all(const pid_t *pids)
{
	int status;

	for (u32 i = 0; i < PROCESSES; i++)
		expect(!kill(pids[i], SIGSTOP));
	for (u32 i = 0; i < PROCESSES; i++)
		expect(waitpid(pids[i], &status, WUNTRACED) == pids[i] && WIFSTOPPED(status));
}

/* All are stopped, wherever they are. */
static void expect_within_limit(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < PROCESSES; i++)
		sum += atomic32_read(&shared->kept[i]);
	expect(sum <= LIMIT);
}

static void test_killed_and_stopped_at_any_instant(void)
{
	u64 seed = 7;
	pid_t pids[PROCESSES];

	setup(LIMIT);
	for (u32 i = 0; i < PROCESSES; i++)
		pids[i] = start(churn, i);
	for (u32 n = 0; n < KILLS; n++) {
		u32 i = (u32)(test_random(&seed) >> 32) % PROCESSES;

		usleep((u32)(test_random(&seed) >> 32) % 3000);
		end(pids[i]);
		atomic32_set(&shared->kept[i], 0);
		pids[i] = start(churn, i);
		if (n % 4)
			continue;
		stop_all(pids);
		expect_within_limit();
		/* Those who go on while some are stopped are not held up. */
		for (u32 j = 0; j < PROCESSES; j++)
			expect(!kill(pids[j], j % 3 ? SIGCONT : SIGSTOP));
		usleep(500);
		for (u32 j = 0; j < PROCESSES; j++)
			kill(pids[j], SIGCONT);
	}
	expect(atomic32_read(&shared->joins) > KILLS / 4);
	expect(atomic32_read(&shared->takes) > KILLS);
	for (u32 i = 0; i < PROCESSES; i++)
		end(pids[i]);
	expect_all_free();
	expect(atomic64_read(&pool->granted_peak) <= LIMIT);
	expect(atomic64_read(&pool->granted_peak) > LIMIT / 2);
	teardown();
}

static void hold_least(u32 number)
{
	join();
	atomic32_add_return(&shared->joins, 1);
	atomic32_set(&shared->kept[number % PROCESSES], LEAST);
}

/* A limit for four: the fifth is refused, and has room when one has ended. */
static void test_no_room_for_another(void)
{
	struct pool_member m;
	pid_t pids[4];

	setup(4 * LEAST);
	for (u32 i = 0; i < 4; i++)
		pids[i] = start(hold_least, i);
	while (atomic32_read(&shared->joins) < 4)
		sleep_ms(1);
	expect_eq(pool_join(&m, pool, 20000000), -EAGAIN);
	expect_eq(atomic64_read(&pool->nr_refused), 1);
	expect_eq(pool_sum(pool).members, 4);
	end(pids[2]);
	expect_eq(pool_join(&m, pool, 20000000), 0);
	expect_eq(pool_granted(&m), LEAST);
	for (u32 i = 0; i < 4; i++) {
		if (i != 2)
			end(pids[i]);
	}
	teardown();
}

/* Zombies have no memory: nobody need wait for their parents. */
static void test_thousands_of_short_processes(void)
{
	pid_t pid;

	setup(LIMIT);
	for (u32 i = 0; i < 2000; i++) {
		pid = fork();
		expect(pid >= 0);
		if (pid == 0) {
			join();
			_exit(0);
		}
		if (i % 8 == 0) {
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		}
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	expect_eq(atomic64_read(&pool->nr_joined), 2000);
	expect_eq(atomic64_read(&pool->nr_refused), 0);
	expect_all_free();
	teardown();
}

/* What an exec does: the same process joins again, and begins with the least. */
static void test_another_program_takes_up_the_record(void)
{
	struct pool_member before, after;

	setup(LIMIT);
	before = join();
	expect_eq(pool_take(&before, 1000, 1000), 1000);
	after = join();
	expect(after.slot == before.slot);
	expect_eq(pool_granted(&after), LEAST);
	expect_eq(pool_sum(pool).members, 1);
	expect_eq(atomic64_read(&pool->nr_joined), 1);
	teardown();
}

/* Has a quarter, wants more from step 1 on. */
static void poor(u32 number)
{
	struct pool_member m = join();
	u32 got;

	expect(pool_take(&m, LIMIT / 4 - LEAST, LIMIT / 4 - LEAST));
	atomic32_set(&shared->kept[number], pool_granted(&m));
	atomic32_add_return(&shared->joins, 1);
	await_step(1);
	expect_eq(pool_take(&m, 100, 100), 0);
	expect(pool_want(&m, 100));
	atomic32_store_release(&shared->step, 2);
	await_step(3);
	got = pool_take(&m, 1, 100);
	expect_eq(got, 100);
	atomic32_store_release(&shared->step, 4);
}

/* The rich is asked, for no more than what makes them equal; what it gives is the poor one's. */
static void test_the_rich_give_to_the_poor(void)
{
	struct pool_member rich;
	struct pool_request request;
	pid_t pid;

	setup(LIMIT);
	rich = join();
	atomic32_set(&rich.slot->can_give, 1);
	pid = start(poor, 1);
	while (!atomic32_read(&shared->joins))
		sleep_ms(1);
	expect(pool_take(&rich, LIMIT * 3 / 4 - LEAST, LIMIT * 3 / 4 - LEAST));
	request = pool_request_take(&rich);
	expect_eq(request.give, 0);
	atomic32_store_release(&shared->step, 1);
	await_step(2);
	request = pool_request_take(&rich);
	expect(request.give >= 100 && request.give <= LIMIT / 4 && request.trim);
	expect(!pool_want(&rich, 100)); /* it is above the level itself */
	pool_want_no_more(&rich);
	pool_give(&rich, 100);
	expect_eq(pool_take(&rich, 1, 100), 0);
	atomic32_store_release(&shared->step, 3);
	await_step(4);
	end(pid);
	expect_eq(pool_take(&rich, 1, LIMIT), 0); /* the dead has it still */
	pool_reap(pool, &rich, true);
	expect_eq(pool_take(&rich, 1, LIMIT), LIMIT / 4 + 100);
	teardown();
}

static void test_open_by_path(void)
{
	struct pool *other;
	char path[64];

	setup(LIMIT);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), pool_fd);
	expect_eq(pool_open(path, &other), 0);
	expect(other != pool && other->limit == LIMIT && other->least == LEAST);
	munmap(other, PAGE_SIZE);
	expect_eq(pool_open("/proc/self/fd/4000", &other), -ENOENT);
	expect_eq(pool_open("/dev/null", &other), -EINVAL);
	expect_eq(pool_create(LEAST, LEAST, 2, &other, &pool_fd), -EINVAL);
	teardown();
}

int main(void)
{
	run_test(test_open_by_path);
	run_test(test_no_room_for_another);
	run_test(test_another_program_takes_up_the_record);
	run_test(test_the_rich_give_to_the_poor);
	run_test(test_thousands_of_short_processes);
	run_test(test_killed_and_stopped_at_any_instant);
	return 0;
}
