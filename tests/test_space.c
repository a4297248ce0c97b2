// SPDX-License-Identifier: MIT
/*
 * The space of a backing store that processes share. The store is an array in shared memory: whoever takes a location
 * writes his own mark there, and a discard wipes it, so what is handed out twice or discarded too early is seen by its
 * owner. Processes are killed at any instant.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "swap/space.h"
#include "test.h"

enum { NR = 64 * SPACE_EXTENT + 100, NR_EXTENTS = 65 };

static struct atomic32 *store; /* by location: the owner's mark */
static struct atomic32 *nr_discarded, *next_mark;
static struct space space;

static void wipe(void *ctx, u32 location, u32 nr)
{
	(void)ctx;
	for (u32 i = 0; i < nr; i++)
		atomic32_set(&store[location + i], 0);
	atomic32_add_return(nr_discarded, nr);
}

static const struct space_ops ops = { .discard = wipe };

static void begin(void)
{
	memset(store, 0, NR * sizeof(*store));
	atomic32_set(nr_discarded, 0);
	expect_eq(space_open(&space, NR, NULL, &ops), 0);
}

/* Takes all that can be had, and gives it back. Returns how much that is. */
static u32 take_all(void)
{
	static u32 got[NR];
	static u8 seen[NR];
	u32 nr = 0, more;

	memset(seen, 0, sizeof(seen));
	while (nr < NR && (more = space_take(&space, got + nr, NR - nr < 64 ? NR - nr : 64)) != 0)
		nr += more;
	expect(nr < NR || space_take(&space, &more, 1) == 0);
	for (u32 i = 0; i < nr; i++) {
		expect(got[i] < NR && !seen[got[i]]);
		seen[got[i]] = 1;
	}
	for (u32 i = 0; i < nr; i++)
		space_give(&space, got[i]);
	return nr;
}

static void expect_all_free(void)
{
	expect_eq(take_all(), NR);
	expect(space_nr_held(&space) <= 1);
}

static void test_take_and_give(void)
{
	u32 at[64];

	begin();
	expect_eq(space_take(&space, at, 64), 64);
	for (u32 i = 1; i < 64; i++)
		expect_eq(at[i], at[i - 1] + 1);
	for (u32 i = 0; i < 64; i++)
		space_give(&space, at[i]);
	expect_all_free();
	/* All but the one that stays at hand have been discarded. */
	expect(atomic32_read(nr_discarded) >= NR - SPACE_EXTENT);
	space_close(&space);
}

static int wait_for(pid_t pid)
{
	int status;

	expect_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* What another process holds for good is given back, and then nobody's. */
static void test_hold(void)
{
	u32 at, size;
	pid_t pid;

	begin();
	atomic32_set(next_mark, 0);
	pid = fork();
	if (pid == 0) {
		space_begin(&space);
		expect_eq(space_enter(&space), 0);
		while (!atomic32_load_acquire(next_mark))
			usleep(1000);
		space_hold(&space, atomic32_read(next_mark) - 1);
		atomic32_store_release(next_mark, 0);
		for (;;)
			pause();
	}
	expect_eq(space_take(&space, &at, 1), 1);
	atomic32_store_release(next_mark, at + 1);
	while (atomic32_load_acquire(next_mark))
		usleep(1000);
	space_give(&space, at);
	size = at >> SPACE_EXTENT_SHIFT == NR_EXTENTS - 1 ? NR % SPACE_EXTENT : SPACE_EXTENT;
	expect_eq(take_all(), NR); /* who has the extent may go on with it */
	expect_eq(take_all(), NR - size);
	kill(pid, SIGKILL);
	wait_for(pid);
	expect_all_free();
	space_close(&space);
}

/* fork(2) with what a device does around it. */
static pid_t fork_shared(void)
{
	pid_t pid;

	expect_eq(space_fork_begin(&space), 0);
	pid = fork();
	if (pid == 0)
		expect_eq(space_fork_child(&space), 0);
	else
		space_fork_parent(&space, pid);
	return pid;
}

static void take_marked(u32 *at, u32 nr, u32 mark)
{
	expect_eq(space_take(&space, at, nr), nr);
	for (u32 i = 0; i < nr; i++) {
		expect_eq(atomic32_read(&store[at[i]]), 0);
		atomic32_set(&store[at[i]], mark);
	}
}

static void expect_marks(const u32 *at, u32 nr, u32 mark)
{
	for (u32 i = 0; i < nr; i++)
		expect_eq(atomic32_read(&store[at[i]]), mark);
}

/* Either may be the last that holds what both had, and neither takes locations there meanwhile. */
static void test_fork(void)
{
	enum { N = 3 * SPACE_EXTENT / 2 };
	static u32 at[N], more[N];
	int go[2], status;
	char c;

	for (int child_last = 0; child_last < 2; child_last++) {
		pid_t pid;

		begin();
		expect_eq(pipe(go), 0);
		take_marked(at, N, 7);
		pid = fork_shared();
		if (pid == 0) {
			expect(!child_last || read(go[0], &c, 1) == 1);
			take_marked(more, N, 8);
			expect_marks(at, N, 7);
			for (u32 i = 0; i < N; i++)
				space_give(&space, at[i]);
			expect_marks(more, N, 8);
			_exit(0);
		}
		if (child_last) {
			for (u32 i = 0; i < N; i++)
				space_give(&space, at[i]);
			expect_marks(at, N, 7);
			expect_eq(write(go[1], "", 1), 1);
		}
		status = wait_for(pid);
		expect_eq(status, 0);
		if (!child_last) {
			expect_marks(at, N, 7);
			take_marked(more, N, 9);
			expect_marks(at, N, 7);
			for (u32 i = 0; i < N; i++) {
				space_give(&space, at[i]);
				space_give(&space, more[i]);
			}
		}
		expect_all_free();
		close(go[0]);
		close(go[1]);
		space_close(&space);
	}
}

/* With the child gone the rest of what was shared is taken again. */
static void test_alone_again(void)
{
	u32 at[2];
	pid_t pid;

	begin();
	expect_eq(space_take(&space, &at[0], 1), 1);
	expect(space_is_ours(&space, at[0]));
	pid = fork_shared();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	expect(!space_is_ours(&space, at[0]));
	for (int i = 0; i < 1000; i++) {
		expect_eq(space_take(&space, &at[1], 1), 1);
		expect(at[0] / SPACE_EXTENT != at[1] / SPACE_EXTENT);
		space_give(&space, at[1]);
	}
	kill(pid, SIGKILL);
	wait_for(pid);
	space_give(&space, at[0]);
	expect_all_free();
	space_close(&space);
}

/* A forking thread may still be served between the preparation and the call. */
static void test_on_the_way_to_fork(void)
{
	enum { N = SPACE_EXTENT };
	static u32 before[N], between[N];
	pid_t pid;
	int status;

	for (int empty = 0; empty < 2; empty++) {
		begin();
		if (!empty)
			take_marked(before, N, 5);
		expect_eq(space_fork_begin(&space), 0);
		take_marked(between, N, 6);
		for (u32 i = 0; i < N && !empty; i++)
			space_give(&space, before[i]);
		pid = fork();
		if (pid == 0) {
			expect_eq(space_fork_child(&space), 0);
			usleep(20000);
			expect_marks(between, N, 6);
			for (u32 i = 0; i < N; i++)
				space_give(&space, between[i]);
			expect_eq(space_nr_held(&space), 0);
			_exit(0);
		}
		space_fork_parent(&space, pid);
		for (u32 i = 0; i < N; i++)
			space_give(&space, between[i]);
		status = wait_for(pid);
		expect_eq(status, 0);
		expect_eq(space_nr_held(&space), 0);
		expect_all_free();
		space_close(&space);
	}
}

static void test_fork_that_fails(void)
{
	u32 at;

	begin();
	expect_eq(space_take(&space, &at, 1), 1);
	expect_eq(space_fork_begin(&space), 0);
	space_fork_parent(&space, -1);
	expect(space_is_ours(&space, at));
	space_give(&space, at);
	expect_all_free();
	space_close(&space);
}

/* More processes than there are rows: the fork fails, and nothing else does. */
static void test_no_row(void)
{
	struct process self;
	u32 at, row = 0;

	begin();
	expect_eq(space_take(&space, &at, 1), 1);
	process_read_self(&self);
	for (u32 i = 0; i < SPACE_ROWS_MAX; i++) {
		if (!atomic64_read(&space.shared->name[i]))
			atomic64_set(&space.shared->name[row = i], process_id(&self) << 28);
	}
	atomic32_set(&space.shared->nr_used, SPACE_ROWS_MAX);
	expect_eq(space_fork_begin(&space), -EAGAIN);
	expect(space_take(&space, &at, 1) == 1);
	atomic64_set(&space.shared->name[row], 0);
	expect_eq(space_fork_begin(&space), 0);
	space_fork_parent(&space, -1);
	space_close(&space);
}

/* A child that begins after its row has gone to another knows. */
static void test_late_child(void)
{
	u32 at;
	pid_t pid;
	int status;

	begin();
	expect_eq(space_take(&space, &at, 1), 1);
	expect_eq(space_fork_begin(&space), 0);
	atomic64_set(&space.shared->name[space.child_row], 0);
	pid = fork();
	if (pid == 0)
		_exit(space_fork_child(&space) == -ESTALE ? 0 : 1);
	space_fork_parent(&space, 0);
	status = wait_for(pid);
	expect_eq(status, 0);
	space_close(&space);
}

static void test_killed(void)
{
	u32 at[2 * SPACE_EXTENT];
	pid_t pid;

	begin();
	for (int i = 0; i < 8; i++) {
		pid = fork_shared();
		if (pid == 0) {
			take_marked(at, ARRAY_SIZE(at), (u32)i + 1);
			kill(getpid(), SIGKILL);
		}
		wait_for(pid);
	}
	expect(space_nr_held(&space) >= 8);
	expect_all_free();
	space_close(&space);
}

/* Several want the same extent at the same instant, again and again. */
static void race_run(struct atomic32 *arrived, u32 nr_racers, u32 mark)
{
	u32 at, round = 0;

	alarm(60); /* the others may have failed */
	for (int i = 0; i < 3000; i++) {
		atomic32_add_return(arrived, 1);
		for (round += nr_racers; atomic32_load_acquire(arrived) < round;)
			;
		if (space_take(&space, &at, 1)) {
			expect_eq(atomic32_read(&store[at]), 0);
			atomic32_set(&store[at], mark);
			for (int k = 0; k < 50; k++)
				expect_eq(atomic32_read(&store[at]), mark);
			atomic32_set(&store[at], 0);
			space_give(&space, at);
		}
		/* Gives the extent back that is at hand. */
		expect_eq(space_fork_begin(&space), 0);
		space_fork_parent(&space, -1);
	}
}

static void test_race(void)
{
	struct atomic32 *arrived = next_mark;
	pid_t pid[2];

	memset(store, 0, NR * sizeof(*store));
	expect_eq(space_open(&space, 4 * SPACE_EXTENT, NULL, &ops), 0);
	atomic32_set(arrived, 0);
	for (u32 i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = fork_shared();
		if (pid[i] == 0) {
			race_run(arrived, ARRAY_SIZE(pid), i + 1);
			_exit(0);
		}
	}
	for (u32 i = 0; i < ARRAY_SIZE(pid); i++)
		expect_eq(wait_for(pid[i]), 0);
	space_close(&space);
}

/* ---- the storm ---- */

struct storm {
	u64 seed;
	u32 nr;
	u32 at[600], mark[600];
};

static void storm_step(struct storm *s)
{
	u32 i;

	switch (test_random(&s->seed) % 4) {
	case 0:
	case 1:
		if (s->nr == ARRAY_SIZE(s->at) || !space_take(&space, &s->at[s->nr], 1))
			return;
		s->mark[s->nr] = atomic32_add_return(next_mark, 1);
		atomic32_set(&store[s->at[s->nr]], s->mark[s->nr]);
		s->nr++;
		return;
	case 2:
		if (!s->nr)
			return;
		i = (u32)(test_random(&s->seed) % s->nr);
		expect_eq(atomic32_read(&store[s->at[i]]), s->mark[i]);
		space_give(&space, s->at[i]);
		s->nr--;
		s->at[i] = s->at[s->nr];
		s->mark[i] = s->mark[s->nr];
		return;
	default:
		for (i = 0; i < s->nr; i += 16)
			expect_eq(atomic32_read(&store[s->at[i]]), s->mark[i]);
	}
}

/* Each child is killed some time later, whatever it is doing. */
static void storm_fork(struct storm *s, int depth);

static void storm_run(struct storm *s, int depth, u32 nr_steps)
{
	for (u32 n = 0; n < nr_steps; n++) {
		storm_step(s);
		if (depth < 3 && test_random(&s->seed) % 128 == 0)
			storm_fork(s, depth);
	}
	for (u32 i = 0; i < s->nr; i++)
		expect_eq(atomic32_read(&store[s->at[i]]), s->mark[i]);
}

static void storm_fork(struct storm *s, int depth)
{
	pid_t pid;
	int status;

	if (space_fork_begin(&space))
		return;
	pid = fork();
	if (pid == 0) {
		expect_eq(space_fork_child(&space), 0);
		s->seed ^= (u64)getpid() << 20;
		signal(SIGCHLD, SIG_IGN);
		storm_run(s, depth + 1, 20000);
		_exit(0);
	}
	space_fork_parent(&space, pid < 0 ? -1 : pid);
	if (pid < 0)
		return;
	for (u32 n = 0; n < test_random(&s->seed) % 400; n++)
		storm_step(s);
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) == pid)
		expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_storm(void)
{
	static struct storm s[3];
	pid_t pid[ARRAY_SIZE(s)];

	begin();
	for (u32 i = 0; i < ARRAY_SIZE(s); i++) {
		s[i].seed = 99 + i;
		pid[i] = fork_shared();
		if (pid[i] == 0) {
			storm_run(&s[i], 0, 10000);
			_exit(0);
		}
	}
	for (u32 i = 0; i < ARRAY_SIZE(s); i++)
		expect_eq(wait_for(pid[i]), 0);
	/* Rows of children that were killed with their parents before either could name them wait for ten seconds. */
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	signal(SIGTERM, SIG_DFL);
	for (int i = 0; i < 1500 && take_all() < NR; i++)
		usleep(10000);
	expect_all_free();
	space_close(&space);
}

/* By path, as programs of one run find it; a program's successor gives back what that has held. */
static void test_by_path(void)
{
	struct space other;
	char path[64];
	u32 at;
	int fd;

	expect_eq(space_create(NR, &fd), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	expect_eq(space_open(&space, NR, path, &ops), 0);
	expect_eq(space_take(&space, &at, 1), 1);
	expect_eq(space_open(&other, NR, path, &ops), 0);
	expect_eq(space_nr_held(&other), 0);
	space_close(&other);
	expect_eq(space_open(&other, NR + 1, path, &ops), -EINVAL);
	expect_eq(space_open(&other, NR, "/dev/null", &ops), -EINVAL);
	expect_eq(space_open(&other, NR, "/dev/no/such", &ops), -ENOENT);
	close(fd);
}

int main(void)
{
	size_t bytes = NR * sizeof(*store) + 4096;
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	expect(map != MAP_FAILED);
	store = map;
	nr_discarded = &store[NR];
	next_mark = &store[NR + 1];
	setpgid(0, 0);
	run_test(test_take_and_give);
	run_test(test_hold);
	run_test(test_fork);
	run_test(test_alone_again);
	run_test(test_on_the_way_to_fork);
	run_test(test_fork_that_fails);
	run_test(test_no_row);
	run_test(test_late_child);
	run_test(test_killed);
	run_test(test_by_path);
	run_test(test_race);
	run_test(test_storm);
	return 0;
}
