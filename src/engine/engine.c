// SPDX-License-Identifier: MIT
#include "engine/engine.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/process.h"
#include "sync/wait.h"
#include "tree/pool.h"

enum { LOOK_MS = 100, ARGUMENTS = 5 };

#define SLEEP_NS 1000000000ull
#define ORDER_NS 1000000ull

/* ---- for backends ---- */

const char *engine_option(const struct engine *e, const char *key)
{
	size_t len = strlen(key);

	for (int i = 0; i < e->argc; i++) {
		if (!strncmp(e->argv[i], key, len) && e->argv[i][len] == '=')
			return e->argv[i] + len + 1;
	}
	return "";
}

u64 engine_option_number(const struct engine *e, const char *key)
{
	return strtoull(engine_option(e, key), NULL, 10);
}

int engine_error(struct engine *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->error, sizeof(e->error), fmt, ap);
	va_end(ap);
	return -1;
}

void engine_reason(struct engine *e, const char *fmt, ...)
{
	char text[RING_TEXT] = "";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < ' ')
			*p = ' ';
	}
	memcpy(e->ring->reason, text, sizeof(text));
}

void engine_machine(char machine[ENGINE_MACHINE])
{
	char boot[40] = "", space[32] = "";
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");

	if (file) {
		if (fgets(boot, sizeof(boot), file))
			boot[strcspn(boot, "\n")] = '\0';
		fclose(file);
	}
	if (readlink("/proc/self/ns/pid", space, sizeof(space) - 1) < 0)
		snprintf(space, sizeof(space), "pid:?");
	snprintf(machine, ENGINE_MACHINE, "%.39s/%.28s", boot, space);
}

void engine_complete(struct engine *e, u32 cell, int err, u32 flags)
{
	const struct ring_cell *c = engine_cell(e, cell);

	/* Before its owner hears of it, and may give the extent back. */
	for (u32 i = 0; flags & CELL_TAINTED && i < c->nr; i += SPACE_EXTENT)
		space_hold(&e->space, (u32)c->location + i);
	ring_complete(e->ring, cell, err, flags);
}

/* ---- the ring's thread ---- */

static bool comes_before(const struct ring_cell *a, const struct ring_cell *b)
{
	return a->op != b->op ? a->op < b->op : a->location < b->location;
}

/* Batches come in order, mostly: few steps. */
static void sort_cells(struct engine *e, u32 *cells, u32 nr)
{
	for (u32 i = 1; i < nr; i++) {
		u32 cell = cells[i], j = i;

		for (; j > 0 && comes_before(engine_cell(e, cell), engine_cell(e, cells[j - 1])); j--)
			cells[j] = cells[j - 1];
		cells[j] = cell;
	}
}

/* What a cell asks for may have been written by anybody who can open the ring. */
static u32 refuse_wrong(struct engine *e, u32 *cells, u32 nr)
{
	u32 good = 0;

	for (u32 i = 0; i < nr; i++) {
		const struct ring_cell *c = engine_cell(e, cells[i]);

		if (c->op <= RING_TRIM && c->nr > 0 && (c->nr == 1 || c->op == RING_TRIM) &&
		    c->location < e->ring->nr_pages && c->nr <= e->ring->nr_pages - c->location)
			cells[good++] = cells[i];
		else
			engine_complete(e, cells[i], -EINVAL, 0);
	}
	return good;
}

/* What may be changing on the device: the writes and trims that the backend has. */
struct changes {
	u64 first[RING_CELLS], end[RING_CELLS];
	u32 nr;
};

static void changes_add(struct changes *changes, const struct ring_cell *c)
{
	if (c->op == RING_READ)
		return;
	changes->first[changes->nr] = c->location;
	changes->end[changes->nr++] = c->location + c->nr;
}

/* Of all that is RUNNING but the `nr` cells that have just come. */
static void changes_look(struct engine *e, struct changes *changes, const u32 *cells, u32 nr)
{
	bool is_new[RING_CELLS] = { false };

	changes->nr = 0;
	for (u32 i = 0; i < nr; i++)
		is_new[cells[i]] = true;
	for (u32 i = 0; i < RING_CELLS; i++) {
		if (!is_new[i] && ring_is_running(e->ring, i))
			changes_add(changes, engine_cell(e, i));
	}
}

static bool changes_meet(const struct changes *changes, const struct ring_cell *c)
{
	for (u32 i = 0; i < changes->nr; i++) {
		if (c->location < changes->end[i] && changes->first[i] < c->location + c->nr)
			return true;
	}
	return false;
}

/*
 * No two requests overlap, but for one case: a process was killed, another has its locations by now, and a request of
 * the dead one is still under way. The new one then comes after it, or the dead one's comes not at all. Splits the
 * cells: those that may go are first. Returns how many; *left: how many follow that wait.
 */
static u32 order_requests(struct engine *e, u32 *cells, u32 nr, u32 *left)
{
	u32 wait[RING_CELLS], go = 0;
	struct changes changes;

	*left = 0;
	changes_look(e, &changes, cells, nr);
	for (u32 i = 0; i < nr; i++) {
		const struct ring_cell *c = engine_cell(e, cells[i]);

		if (!changes_meet(&changes, c)) {
			changes_add(&changes, c);
			cells[go++] = cells[i];
		} else if (process_is_dead(atomic64_read(&c->owner))) {
			engine_complete(e, cells[i], -EIO, 0);
		} else {
			wait[(*left)++] = cells[i];
		}
	}
	memcpy(cells + go, wait, *left * sizeof(*cells));
	return go;
}

void engine_serve(struct engine *e, const struct engine_backend *backend, struct atomic32 *stop)
{
	u32 cells[RING_CELLS], left = 0; /* the first of them wait for others */

	while (!atomic32_load_acquire(stop)) {
		u32 seen = atomic32_load_acquire(&e->ring->doorbell), new = ring_collect(e->ring, cells + left), nr;

		if (!new) {
			ring_sleep(e->ring, seen, left ? ORDER_NS : SLEEP_NS);
			if (!left)
				continue;
		}
		nr = left + refuse_wrong(e, cells + left, new);
		sort_cells(e, cells, nr);
		nr = order_requests(e, cells, nr, &left);
		if (nr)
			backend->submit(e, cells, nr);
		memmove(cells, cells + nr, left * sizeof(*cells));
	}
}

/* ---- the keeper ---- */

struct keeper {
	struct engine *e;
	const struct engine_backend *backend;
	struct pool *pool; /* NULL: none */
	int command_fd; /* a pidfd */
	struct atomic32 stop;
	pthread_t thread;
};

/* Twice nobody, after the command or swapoff: a process that has just begun may not have entered yet. */
static void *keeper_main(void *arg)
{
	struct keeper *k = arg;
	struct pollfd command = { .fd = k->command_fd, .events = POLLIN };

	for (int nobody = 0; nobody < 2;) {
		bool command_lives = poll(&command, 1, nobody || command.fd < 0 ? 0 : LOOK_MS) <= 0 && command.fd >= 0;
		u32 members = ring_reap(k->e->ring);
		bool retired = atomic32_load_acquire(&k->e->ring->retired);

		if (k->backend->tick)
			k->backend->tick(k->e);
		if (command_lives && !retired)
			continue;
		if (!command_lives)
			command.fd = -1;
		if (retired) {
			members += space_is_shared(&k->e->space); /* children that begin have a row before they join */
		} else if (k->pool) {
			pool_reap(k->pool, NULL, true);
			members += pool_sum(k->pool).members;
		}
		nobody = members ? 0 : nobody + 1;
		poll(NULL, 0, LOOK_MS);
	}
	atomic32_store_release(&k->stop, 1);
	ring_submit(k->e->ring, NULL, 0); /* rings the bell */
	return NULL;
}

/* ---- the beginning ---- */

/* Kept out of the kernel's swap, page by page as they are touched: this memory is on the way of others out of memory.
 */
static void lock_memory(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_MEMLOCK, &all) == 0 ||
	    (getrlimit(RLIMIT_MEMLOCK, &all) == 0 && all.rlim_cur == RLIM_INFINITY))
		mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

static void report(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		_exit(1); /* nobody listens any more */
	close(fd);
}

static int inherited(const char *text)
{
	return (int)strtol(text, NULL, 10);
}

/* For the programs of the run, and for what this process must keep them from (space_hold). */
static int make_space(struct engine *e, u32 nr)
{
	static const struct space_ops none;
	char path[32];
	int fd, ret = space_create(nr, &fd);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = space_open(&e->space, nr, path, &none);
	e->ring->space_fd = fd;
	return ret ? ret : space_enter(&e->space);
}

static struct pool *map_pool(int fd)
{
	struct pool *pool = NULL;
	char path[32];

	if (fd < 0)
		return NULL;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return pool_open(path, &pool) ? NULL : pool;
}

/*
 * RING REPORT COMMAND POOL, descriptors by number, then key=value of the device. Not for users: src/cli/engine.c has
 * made this process an orphan with all signals blocked and nothing else open.
 */
int engine_main(const struct engine_backend *backend, int argc, char **argv)
{
	static struct engine e;
	static struct keeper k;
	int ring_fd, report_fd, pool_fd;
	u64 nr_pages = 0;

	if (argc < ARGUMENTS) {
		fprintf(stderr, "%s: is started by `weir run --swap %s:...`\n", argv[0], backend->name);
		return 2;
	}
	ring_fd = inherited(argv[1]);
	report_fd = inherited(argv[2]);
	pool_fd = inherited(argv[4]);
	k = (struct keeper){ .e = &e, .backend = backend, .command_fd = inherited(argv[3]) };
	e.argc = argc - ARGUMENTS;
	e.argv = argv + ARGUMENTS;
	lock_memory();
	k.pool = map_pool(pool_fd);
	if (ring_map(ring_fd, &e.ring)) {
		report(report_fd, "the ring cannot be mapped");
		return 1;
	}
	e.ring->engine = process_own_id();
	if (backend->open(&e, &nr_pages)) {
		report(report_fd, e.error);
		return 1;
	}
	e.ring->nr_pages = nr_pages;
	if (make_space(&e, (u32)nr_pages)) {
		report(report_fd, "no memory for the space that the processes share");
		return 1;
	}
	if (pthread_create(&k.thread, NULL, keeper_main, &k)) {
		report(report_fd, "no thread can be started");
		return 1;
	}
	report(report_fd, "ok");
	engine_serve(&e, backend, &k.stop);
	pthread_join(k.thread, NULL);
	ring_end(e.ring);
	backend->close(&e);
	return 0;
}
