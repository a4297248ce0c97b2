// SPDX-License-Identifier: MIT
/*
 * The ring and the engine's loop, with a backend in memory that can be held up: what killed processes leave is
 * recovered, and never meets what others do. Faults injected: processes killed with cells in every state, an engine
 * that does not answer, one that ends, requests that make no sense.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "engine/engine.h"
#include "sync/wait.h"
#include "test.h"

enum { NR_PAGES = 1024 };

#define LONG_NS 20000000000ull

static struct engine engine;
static pthread_t engine_thread;
static struct atomic32 stop;

/* ---- the backend ---- */

static u8 store[NR_PAGES][PAGE_SIZE];
static u32 held[RING_CELLS], nr_held; /* guarded by `lock` */
static bool holding, tainting;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void carry_out(u32 cell)
{
	struct ring_cell *c = engine_cell(&engine, cell);

	if (c->op == RING_READ)
		memcpy(ring_page(engine.ring, cell), store[c->location], PAGE_SIZE);
	else if (c->op == RING_WRITE)
		memcpy(store[c->location], ring_page(engine.ring, cell), PAGE_SIZE);
	else
		memset(store[c->location], 0, c->nr * PAGE_SIZE);
	engine_complete(&engine, cell, 0, tainting ? CELL_TAINTED : 0);
}

static void submit(struct engine *e, const u32 *cells, u32 nr)
{
	(void)e;
	pthread_mutex_lock(&lock);
	for (u32 i = 0; i < nr; i++) {
		if (holding)
			held[nr_held++] = cells[i];
		else
			carry_out(cells[i]);
	}
	pthread_mutex_unlock(&lock);
}

static void hold(void)
{
	pthread_mutex_lock(&lock);
	holding = true;
	pthread_mutex_unlock(&lock);
}

static void go_on(void)
{
	pthread_mutex_lock(&lock);
	holding = false;
	while (nr_held)
		carry_out(held[--nr_held]);
	pthread_mutex_unlock(&lock);
}

static void wait_held(u32 nr)
{
	for (u32 now = 0; now < nr;) {
		pthread_mutex_lock(&lock);
		now = nr_held;
		pthread_mutex_unlock(&lock);
		usleep(1000);
	}
}

static const struct engine_backend backend = { .name = "memory", .submit = submit };

static void *engine_run(void *arg)
{
	(void)arg;
	engine_serve(&engine, &backend, &stop);
	return NULL;
}

static void begin(void)
{
	int fd;

	expect_eq(ring_create(&engine.ring, &fd), 0);
	close(fd);
	engine.ring->nr_pages = NR_PAGES;
	engine.ring->engine = process_own_id();
	atomic32_set(&stop, 0);
	expect_eq(pthread_create(&engine_thread, NULL, engine_run, NULL), 0);
}

static void finish(void)
{
	atomic32_store_release(&stop, 1);
	ring_submit(engine.ring, NULL, 0);
	pthread_join(engine_thread, NULL);
	ring_close(engine.ring);
}

/* ---- clients ---- */

static void fill(u32 cell, enum ring_op op, u64 location, u8 byte)
{
	struct ring_cell *c = &engine.ring->cell[cell];

	c->op = op;
	c->location = location;
	c->nr = 1;
	memset(ring_page(engine.ring, cell), byte, PAGE_SIZE);
}

static u32 ask(u64 id, enum ring_op op, u64 location, u8 byte)
{
	u32 cell;

	expect_eq(ring_claim(engine.ring, id, op, &cell, 1), 1);
	fill(cell, op, location, byte);
	ring_submit(engine.ring, &cell, 1);
	return cell;
}

static int answer(u32 cell)
{
	int err;

	expect_eq(ring_wait(engine.ring, cell, LONG_NS), 0);
	err = engine.ring->cell[cell].err;
	ring_free(engine.ring, cell);
	return err;
}

static u32 nr_free(void)
{
	u32 cells[RING_CELLS], nr = ring_try_claim(engine.ring, process_own_id(), RING_READ, cells, RING_CELLS);

	for (u32 i = 0; i < nr; i++) { /* through all states, as only what is done can be freed */
		fill(cells[i], RING_READ, 0, 0);
	}
	ring_submit(engine.ring, cells, nr);
	for (u32 i = 0; i < nr; i++)
		expect_eq(answer(cells[i]), 0);
	return nr;
}

/* What is under way comes free when it is done. */
static void recover(void)
{
	for (int tries = 0; nr_free() < RING_CELLS; tries++) {
		expect(tries < 1000);
		usleep(1000);
		ring_reap(engine.ring);
	}
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	expect_eq(waitpid(pid, NULL, 0), pid);
}

/* Runs fn in a child, which is killed once it has done so. */
static void in_killed_child(void (*fn)(void))
{
	int fds[2];
	char byte;
	pid_t pid;

	expect_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		fn();
		expect_eq(write(fds[1], "", 1), 1);
		pause();
		_exit(1);
	}
	expect_eq(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	close(fds[1]);
	end_child(pid);
}

static void test_every_page(void)
{
	u64 id = process_own_id();
	u32 cells[64];

	begin();
	for (u32 at = 0; at < NR_PAGES; at += 64) {
		expect_eq(ring_try_claim(engine.ring, id, RING_WRITE, cells, 64), 64);
		for (u32 i = 0; i < 64; i++)
			fill(cells[i], RING_WRITE, at + i, (u8)(at / 64 + i));
		ring_submit(engine.ring, cells, 64);
		for (u32 i = 64; i-- > 0;)
			expect_eq(answer(cells[i]), 0);
	}
	for (u32 at = 0; at < NR_PAGES; at++) {
		u32 cell = ask(id, RING_READ, at, 0xee);

		expect_eq(ring_wait(engine.ring, cell, LONG_NS), 0);
		expect_eq(((u8 *)ring_page(engine.ring, cell))[PAGE_SIZE - 1], (u8)(at / 64 + at % 64));
		ring_free(engine.ring, cell);
	}
	expect_eq(nr_free(), RING_CELLS);
	finish();
}

static void test_nonsense_is_refused(void)
{
	u64 id = process_own_id();
	u32 cell;

	begin();
	expect_eq(answer(ask(id, RING_READ, NR_PAGES, 0)), -EINVAL);
	expect_eq(answer(ask(id, RING_WRITE, UINT64_MAX, 0)), -EINVAL);
	expect_eq(answer(ask(id, RING_TRIM + 1, 0, 0)), -EINVAL);
	expect_eq(ring_claim(engine.ring, id, RING_TRIM, &cell, 1), 1);
	fill(cell, RING_TRIM, NR_PAGES - 1, 0);
	engine.ring->cell[cell].nr = 2;
	ring_submit(engine.ring, &cell, 1);
	expect_eq(answer(cell), -EINVAL);
	finish();
}

/* Writes leave room for reads, and who finds no cell is woken. */
static void *free_later(void *arg)
{
	usleep(50000);
	go_on();
	for (u32 i = 0; i < RING_WRITE_CELLS; i++)
		expect_eq(answer(((u32 *)arg)[i]), 0);
	return NULL;
}

static void test_all_taken(void)
{
	u64 id = process_own_id();
	u32 cells[RING_WRITE_CELLS], one, trim;
	pthread_t thread;

	begin();
	hold();
	expect_eq(ring_try_claim(engine.ring, id, RING_WRITE, cells, RING_WRITE_CELLS), RING_WRITE_CELLS);
	for (u32 i = 0; i < RING_WRITE_CELLS; i++)
		fill(cells[i], RING_WRITE, i, 1);
	ring_submit(engine.ring, cells, RING_WRITE_CELLS);
	expect_eq(ring_try_claim(engine.ring, id, RING_WRITE, &one, 1), 0);
	trim = ask(id, RING_TRIM, 900, 0); /* who does this may have cells of writes */
	wait_held(RING_WRITE_CELLS + 1);
	expect_eq(ring_wait(engine.ring, cells[0], 1000000), -ETIMEDOUT);
	expect_eq(pthread_create(&thread, NULL, free_later, cells), 0);
	one = ask(id, RING_WRITE, 500, 2); /* sleeps until then */
	expect_eq(answer(one), 0);
	pthread_join(thread, NULL);
	expect_eq(answer(trim), 0);
	expect_eq(nr_free(), RING_CELLS);
	finish();
}

/* An execve while other threads waited for their requests. */
static void test_earlier_program(void)
{
	u64 id = process_own_id();
	u32 cells[10];

	begin();
	expect_eq(ring_try_claim(engine.ring, id, RING_WRITE, cells, 10), 10);
	(void)ask(id, RING_WRITE, 7, 0xdd);
	expect_eq(ring_join(engine.ring, id), 0);
	expect_eq(store[7][0], 0xdd);
	expect_eq(nr_free(), RING_CELLS);
	finish();
}

/* Nobody takes an extent again where a write or a trim may still come. */
static void test_tainted(void)
{
	static const struct space_ops none;
	u32 cell, flags;

	begin();
	expect_eq(space_open(&engine.space, NR_PAGES, NULL, &none), 0);
	expect_eq(space_enter(&engine.space), 0);
	tainting = true;
	cell = ask(process_own_id(), RING_WRITE, SPACE_EXTENT + 7, 1);
	expect_eq(ring_wait(engine.ring, cell, LONG_NS), 0);
	flags = engine.ring->cell[cell].flags;
	expect_eq(flags, CELL_TAINTED);
	expect_eq(space_nr_held(&engine.space), 1);
	ring_free(engine.ring, cell);
	expect_eq(answer(ask(process_own_id(), RING_TRIM, 0, 0)), 0);
	expect_eq(space_nr_held(&engine.space), 2);
	tainting = false;
	space_close(&engine.space);
	finish();
}

static void child_claims(void)
{
	u32 cells[100];

	expect_eq(ring_try_claim(engine.ring, process_own_id(), RING_WRITE, cells, 100), 100);
}

static void child_writes(void)
{
	ask(process_own_id(), RING_WRITE, 7, 0xdd);
}

static void child_joins(void)
{
	expect_eq(ring_join(engine.ring, process_own_id()), 0);
}

static void test_killed_owners(void)
{
	begin();
	in_killed_child(child_claims);
	in_killed_child(child_writes);
	in_killed_child(child_joins);
	expect_eq(ring_join(engine.ring, process_own_id()), 0);
	expect_eq(ring_reap(engine.ring), 1); /* ourselves */
	recover();
	expect_eq(store[7][0], 0xdd);
	finish();
}

/* What a killed process has under way stays out of the way of who has its location now. */
static void test_killed_writer_comes_first(void)
{
	u32 cell;

	begin();
	hold();
	in_killed_child(child_writes);
	wait_held(1);
	expect_eq(ring_reap(engine.ring), 0);
	cell = ask(process_own_id(), RING_WRITE, 7, 0x11);
	expect_eq(ring_wait(engine.ring, cell, 50000000), -ETIMEDOUT);
	expect_eq(nr_held, 1); /* only the dead one's has come to the backend */
	go_on();
	expect_eq(answer(cell), 0);
	expect_eq(store[7][0], 0x11);
	recover();
	finish();
}

static void test_ended_engine(void)
{
	u64 id = process_own_id();
	u32 cell;

	begin();
	hold();
	cell = ask(id, RING_READ, 0, 0);
	wait_held(1);
	ring_end(engine.ring);
	expect(ring_has_ended(engine.ring));
	expect_eq(ring_wait(engine.ring, cell, LONG_NS), -EPIPE);
	expect_eq(ring_claim(engine.ring, id, RING_READ, &cell, 1), 0);
	go_on();
	finish();
}

static void test_killed_engine_is_noticed(void)
{
	pid_t pid;

	begin();
	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	engine.ring->engine = process_own_id() + ((u64)(pid - getpid()) << PROCESS_START_BITS);
	expect(!ring_has_ended(engine.ring));
	end_child(pid);
	expect(ring_has_ended(engine.ring));
	finish();
}

int main(void)
{
	run_test(test_every_page);
	run_test(test_nonsense_is_refused);
	run_test(test_all_taken);
	run_test(test_earlier_program);
	run_test(test_tainted);
	run_test(test_killed_owners);
	run_test(test_killed_writer_comes_first);
	run_test(test_ended_engine);
	run_test(test_killed_engine_is_noticed);
	return 0;
}
