// SPDX-License-Identifier: MIT
/*
 * weir-rados: pages in the objects of a Ceph pool, by librados.
 *
 * An object holds 512 pages and is named weir.RUN.NUMBER; requests of one batch that meet in an object are one
 * operation. librados waits and repeats by itself, without end, so nothing here times out; threads of librados's
 * complete the cells.
 *
 * weir.RUN.owner says whose objects these are, and counts up as long as that process lives. It is the first object of a
 * run and the last to go. An engine that begins looks for owners that have ended, however they ended, and removes what
 * they have left: at once where it can see that the process is gone, otherwise after having watched the count stand
 * still for some minutes.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <rados/librados.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/assert.h"
#include "engine/engine.h"
#include "base/process.h"
#include "sync/wait.h"

enum {
	OBJECT_SHIFT = 9,
	OBJECT_PAGES = 1 << OBJECT_SHIFT,
	GROUP_MAX = 32, /* pages in an operation */
	REMOVALS = 32, /* at once */
	NAME_SIZE = 80,
	OWNERS_MAX = 256,
};

#define PAGES_DEFAULT ((u64)1 << 28) /* 1 TiB: nothing is taken before it is written */
#define PAGES_MAX ((u64)1 << 30)
#define BEAT_NS 30000000000ull
#define WATCH_NS 180000000000ull /* six beats */
#define STALL_NS 2000000000ull
#define LEAVE_NS 30000000000ull

struct request {
	struct request *next;
	u32 op, nr, nr_extents;
	rados_write_op_t write;
	rados_read_op_t read;
	u32 cells[GROUP_MAX];
	size_t got[GROUP_MAX]; /* bytes, by extent of a read */
	int result[GROUP_MAX];
	u8 pages[GROUP_MAX]; /* by extent */
};

static struct {
	struct engine *e;
	rados_t cluster;
	rados_ioctx_t io;
	char run[17];
	char machine[ENGINE_MACHINE];
	u64 nr_pages;
	struct atomic64 *written; /* bit per object that may exist */
	struct atomic64 progress_ns; /* when the last answer came, or the first of the requests went */
	struct atomic32 in_flight;
	u64 beat, beat_ns; /* keeper's thread */
	bool told; /* keeper's thread: the reason says that nothing comes */
	pthread_t reclaimer;

	pthread_mutex_t lock; /* guards what follows */
	struct request request[RING_CELLS];
	struct request *free;
} c = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- names ---- */

static void object_name(char name[NAME_SIZE], u64 object)
{
	snprintf(name, NAME_SIZE, "weir.%s.%" PRIx64, c.run, object);
}

static void owner_name(char name[NAME_SIZE], const char *run)
{
	snprintf(name, NAME_SIZE, "weir.%.16s.owner", run);
}

/* ---- requests ---- */

static struct request *request_get(void)
{
	struct request *r;

	pthread_mutex_lock(&c.lock);
	r = c.free;
	must(r); /* as many as there are cells */
	c.free = r->next;
	pthread_mutex_unlock(&c.lock);
	r->nr = r->nr_extents = 0;
	r->write = NULL;
	r->read = NULL;
	return r;
}

static void request_put(struct request *r)
{
	if (r->write)
		rados_release_write_op(r->write);
	if (r->read)
		rados_release_read_op(r->read);
	pthread_mutex_lock(&c.lock);
	r->next = c.free;
	c.free = r;
	pthread_mutex_unlock(&c.lock);
}

static void complete_all(struct request *r, int err)
{
	u32 flags = r->op != RING_READ && err && err != -ENOSPC ? CELL_TAINTED : 0;

	for (u32 i = 0; i < r->nr; i++)
		engine_complete(c.e, r->cells[i], err, flags);
}

static void complete_reads(struct request *r)
{
	u32 cell = 0;

	for (u32 i = 0; i < r->nr_extents; i++) {
		bool good = !r->result[i] && r->got[i] == r->pages[i] * PAGE_SIZE;

		for (u32 k = 0; k < r->pages[i]; k++)
			engine_complete(c.e, r->cells[cell++], good ? 0 : -EIO, 0);
	}
	must(cell == r->nr);
}

/* All of an object, or a part of it that is not needed any more; the last object may be a short one. */
static bool is_whole(const struct ring_cell *cell)
{
	return cell->location % OBJECT_PAGES == 0 &&
	       (cell->nr >= OBJECT_PAGES || cell->location + cell->nr == c.nr_pages);
}

/* Before its owner hears of it, and somebody may write there again. */
static void forget_removed(const struct request *r)
{
	const struct ring_cell *cell = engine_cell(c.e, r->cells[0]);
	u64 object = cell->location >> OBJECT_SHIFT;

	if (r->op == RING_TRIM && is_whole(cell))
		atomic64_fetch_and(&c.written[object / 64], ~((u64)1 << object % 64));
}

/* Called by a thread of librados's. */
static void on_completion(rados_completion_t completion, void *arg)
{
	struct request *r = arg;
	int ret = rados_aio_get_return_value(completion);

	if (ret == -ENOENT && r->op == RING_TRIM)
		ret = 0;
	if (ret < 0 && ret != -ENOSPC)
		engine_reason(c.e, "the cluster answers: %s", strerror(-ret));
	atomic64_set(&c.progress_ns, sync_clock_ns());
	if (ret >= 0)
		forget_removed(r);
	if (ret >= 0 && r->op == RING_READ)
		complete_reads(r);
	else
		complete_all(r, ret < 0 ? (ret == -ENOSPC ? ret : -EIO) : 0);
	rados_aio_release(completion);
	request_put(r);
	atomic32_sub_return(&c.in_flight, 1);
}

static void add_extent(struct request *r, u64 location, u32 nr, u32 cell)
{
	u64 offset = (location % OBJECT_PAGES) << PAGE_SHIFT;
	char *data = ring_page(c.e->ring, cell);
	size_t bytes = nr * PAGE_SIZE;
	u32 i = r->nr_extents++;

	r->pages[i] = (u8)nr;
	if (r->op == RING_WRITE)
		rados_write_op_write(r->write, data, bytes, offset); /* copies */
	else
		rados_read_op_read(r->read, offset, bytes, data, &r->got[i], &r->result[i]);
}

static void add_trim(struct request *r, const struct ring_cell *cell)
{
	if (is_whole(cell))
		rados_write_op_remove(r->write);
	else
		rados_write_op_zero(r->write, (cell->location % OBJECT_PAGES) << PAGE_SHIFT, cell->nr * PAGE_SIZE);
}

static void start(struct request *r, u64 object)
{
	rados_completion_t completion;
	char name[NAME_SIZE];
	int ret;

	object_name(name, object);
	if (r->op == RING_WRITE)
		atomic64_fetch_or(&c.written[object / 64], (u64)1 << object % 64);
	if (atomic32_add_return(&c.in_flight, 1) == 1)
		atomic64_set(&c.progress_ns, sync_clock_ns());
	ret = rados_aio_create_completion2(r, on_completion, &completion);
	if (!ret) {
		ret = r->op == RING_READ ? rados_aio_read_op_operate(r->read, c.io, completion, name, 0)
					 : rados_aio_write_op_operate(r->write, c.io, completion, name, NULL, 0);
		if (ret)
			rados_aio_release(completion);
	}
	if (!ret)
		return;
	engine_reason(c.e, "the cluster cannot be asked: %s", strerror(-ret));
	complete_all(r, -EIO);
	request_put(r);
	atomic32_sub_return(&c.in_flight, 1);
}

/* Cells of one operation and one object become one operation. Returns how many are dealt with. */
static u32 submit_some(const u32 *cells, u32 nr)
{
	const struct ring_cell *first = engine_cell(c.e, cells[0]);
	u64 object = first->location >> OBJECT_SHIFT;
	struct request *r = request_get();
	u32 begin = 0;

	r->op = first->op;
	if (r->op == RING_READ)
		r->read = rados_create_read_op();
	else
		r->write = rados_create_write_op();
	while (r->nr < nr && r->nr < GROUP_MAX) {
		const struct ring_cell *cell = engine_cell(c.e, cells[r->nr]);

		if (cell->op != r->op || cell->location >> OBJECT_SHIFT != object)
			break;
		r->cells[r->nr] = cells[r->nr];
		r->nr++;
		if (r->op == RING_TRIM) {
			add_trim(r, cell);
			break;
		}
	}
	/* Neighbours on the device and in memory are one extent. */
	for (u32 i = 1; i <= r->nr && r->op != RING_TRIM; i++) {
		if (i < r->nr && cells[i] == cells[i - 1] + 1 &&
		    engine_cell(c.e, cells[i])->location == engine_cell(c.e, cells[i - 1])->location + 1)
			continue;
		add_extent(r, engine_cell(c.e, cells[begin])->location, i - begin, cells[begin]);
		begin = i;
	}
	nr = r->nr; /* it may end before start() returns */
	start(r, object);
	return nr;
}

static void rados_submit(struct engine *e, const u32 *cells, u32 nr)
{
	(void)e;
	for (u32 i = 0; i < nr;)
		i += submit_some(cells + i, nr - i);
}

/* ---- the owner's object ---- */

struct owner {
	char run[17];
	char machine[ENGINE_MACHINE];
	u64 process, beat;
};

static int owner_text(char *text, size_t size)
{
	return snprintf(text, size, "%s %" PRIu64 " %" PRIu64 "\n", c.machine, c.e->ring->engine, c.beat);
}

static int owner_read(const char *run, struct owner *owner)
{
	char name[NAME_SIZE], text[256];
	int len;

	owner_name(name, run);
	len = rados_read(c.io, name, text, sizeof(text) - 1, 0);
	if (len < 0)
		return len;
	text[len] = '\0';
	snprintf(owner->run, sizeof(owner->run), "%.16s", run);
	return sscanf(text, "%71s %" SCNu64 " %" SCNu64, owner->machine, &owner->process, &owner->beat) == 3 ? 0
													     : -EINVAL;
}

static void beat(void)
{
	rados_completion_t completion;
	char name[NAME_SIZE], text[256];
	int len;

	c.beat++;
	len = owner_text(text, sizeof(text));
	owner_name(name, c.run);
	if (rados_aio_create_completion2(NULL, NULL, &completion))
		return;
	rados_aio_write_full(c.io, name, completion, text, (size_t)len);
	rados_aio_release(completion);
}

/* ---- removing ---- */

struct removals {
	rados_completion_t completion[REMOVALS];
	u32 nr;
	u64 deadline;
};

/* False: the cluster takes too long. */
static bool removals_wait(struct removals *r)
{
	bool done = true;

	for (u32 i = 0; i < r->nr; i++) {
		while (done && !rados_aio_is_complete(r->completion[i])) {
			poll(NULL, 0, 2);
			done = sync_clock_ns() < r->deadline;
		}
		rados_aio_release(r->completion[i]);
	}
	r->nr = 0;
	return done;
}

static bool removals_add(struct removals *r, const char *name)
{
	if (r->nr == REMOVALS && !removals_wait(r))
		return false;
	if (rados_aio_create_completion2(NULL, NULL, &r->completion[r->nr]))
		return false;
	rados_aio_remove(c.io, name, r->completion[r->nr++]);
	return true;
}

/* The owner's object last, or nobody would know whose the others are. */
static void remove_owner(struct removals *r, const char *run)
{
	char name[NAME_SIZE];

	owner_name(name, run);
	if (removals_wait(r) && removals_add(r, name))
		removals_wait(r);
}

static void remove_run(const char *run)
{
	struct removals r = { .deadline = UINT64_MAX };
	char prefix[NAME_SIZE], owner[NAME_SIZE];
	const char *name;
	rados_list_ctx_t list;

	snprintf(prefix, sizeof(prefix), "weir.%.16s.", run);
	owner_name(owner, run);
	if (rados_nobjects_list_open(c.io, &list))
		return;
	while (!rados_nobjects_list_next(list, &name, NULL, NULL)) {
		if (!strncmp(name, prefix, strlen(prefix)) && strcmp(name, owner))
			removals_add(&r, name);
	}
	rados_nobjects_list_close(list);
	remove_owner(&r, run);
}

/* ---- what dead runs have left ---- */

static u32 list_owners(struct owner *owners)
{
	rados_list_ctx_t list;
	const char *name;
	char run[17];
	u32 nr = 0;
	int len;

	if (rados_nobjects_list_open(c.io, &list))
		return 0;
	while (nr < OWNERS_MAX && !rados_nobjects_list_next(list, &name, NULL, NULL)) {
		len = 0;
		if (sscanf(name, "weir.%16[0-9a-f].owner%n", run, &len) == 1 && len && !name[len] &&
		    strcmp(run, c.run) && !owner_read(run, &owners[nr]))
			nr++;
	}
	rados_nobjects_list_close(list);
	return nr;
}

/* Once, beside the work: whoever begins later looks again. */
static void *reclaim_main(void *arg)
{
	static struct owner owners[OWNERS_MAX];
	u32 nr = list_owners(owners), unknown = 0;

	(void)arg;
	for (u32 i = 0; i < nr; i++) {
		if (strcmp(owners[i].machine, c.machine))
			owners[unknown++] = owners[i];
		else if (process_is_dead(owners[i].process))
			remove_run(owners[i].run);
	}
	if (!unknown)
		return NULL;
	poll(NULL, 0, (int)(WATCH_NS / 1000000));
	for (u32 i = 0; i < unknown; i++) {
		struct owner now;

		if (!owner_read(owners[i].run, &now) && now.beat == owners[i].beat && now.process == owners[i].process)
			remove_run(owners[i].run);
	}
	return NULL;
}

/* ---- the keeper's ---- */

static void rados_tick(struct engine *e)
{
	u64 now = sync_clock_ns(), progress = atomic64_read(&c.progress_ns);
	bool stalled = atomic32_load_acquire(&c.in_flight) && now > progress && now - progress > STALL_NS;

	if (now - c.beat_ns > BEAT_NS) {
		c.beat_ns = now;
		beat();
	}
	if (stalled && !c.told)
		engine_reason(e, "the cluster is silent (too few of its OSDs up?)");
	else if (!stalled && c.told)
		engine_reason(e, "%s", "");
	c.told = stalled;
}

/* ---- the beginning ---- */

static int connect_cluster(struct engine *e)
{
	const char *conf = engine_option(e, "conf"), *user = engine_option(e, "user"),
		   *pool = engine_option(e, "target"), *space = engine_option(e, "namespace");
	int ret = rados_create(&c.cluster, user[0] ? user : NULL);

	if (ret)
		return engine_error(e, "librados cannot begin: %s", strerror(-ret));
	ret = rados_conf_read_file(c.cluster, conf[0] ? conf : NULL);
	if (ret)
		return engine_error(e, "%s cannot be read: %s; say conf=PATH", conf[0] ? conf : "ceph.conf",
				    strerror(-ret));
	rados_conf_set(c.cluster, "client_mount_timeout", "20");
	ret = rados_connect(c.cluster);
	if (ret)
		return engine_error(e, "the cluster cannot be reached: %s", strerror(-ret));
	ret = rados_ioctx_create(c.cluster, pool, &c.io);
	if (ret)
		return engine_error(e, "the pool %s cannot be opened: %s", pool, strerror(-ret));
	if (space[0])
		rados_ioctx_set_namespace(c.io, space);
	rados_set_pool_full_try(c.io); /* an error instead of silence where the cluster is full */
	return 0;
}

static int write_owner(struct engine *e)
{
	char name[NAME_SIZE], text[256];
	int len = owner_text(text, sizeof(text)), ret;

	owner_name(name, c.run);
	ret = rados_write_full(c.io, name, text, (size_t)len);
	return ret ? engine_error(e, "the pool cannot be written to: %s", strerror(-ret)) : 0;
}

static int rados_open(struct engine *e, u64 *nr_pages)
{
	u64 random, size = engine_option_number(e, "size");

	c.e = e;
	c.nr_pages = size ? min_u64(size >> PAGE_SHIFT, PAGES_MAX) : PAGES_DEFAULT;
	c.written = calloc((c.nr_pages >> OBJECT_SHIFT) / 64 + 1, sizeof(*c.written));
	if (!c.written)
		return engine_error(e, "no memory");
	for (u32 i = 0; i < RING_CELLS; i++) {
		c.request[i].next = c.free;
		c.free = &c.request[i];
	}
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = sync_clock_ns();
	snprintf(c.run, sizeof(c.run), "%016" PRIx64, random);
	engine_machine(c.machine);
	c.beat_ns = sync_clock_ns();
	if (connect_cluster(e) || write_owner(e))
		return -1;
	if (pthread_create(&c.reclaimer, NULL, reclaim_main, NULL))
		return engine_error(e, "no thread can be started");
	*nr_pages = c.nr_pages;
	return 0;
}

/* ---- the end ---- */

/* What the cluster does not do in time the next run does. Nobody waits for it, so the process just ends. */
static void rados_leave(struct engine *e)
{
	struct removals r = { .deadline = sync_clock_ns() + LEAVE_NS };
	char name[NAME_SIZE];
	bool ok = true;

	(void)e;
	while (atomic32_load_acquire(&c.in_flight) && sync_clock_ns() < r.deadline)
		poll(NULL, 0, 2);
	for (u64 object = 0; ok && object <= (c.nr_pages - 1) >> OBJECT_SHIFT; object++) {
		if (!(atomic64_read(&c.written[object / 64]) & (u64)1 << object % 64))
			continue;
		object_name(name, object);
		ok = removals_add(&r, name);
	}
	if (ok)
		remove_owner(&r, c.run);
	_exit(0);
}

static const struct engine_backend rados_backend = {
	.name = "rados",
	.open = rados_open,
	.submit = rados_submit,
	.tick = rados_tick,
	.close = rados_leave,
};

int main(int argc, char **argv)
{
	return engine_main(&rados_backend, argc, argv);
}
