// SPDX-License-Identifier: MIT
/*
 * A slot's page is at a location of the space (swap/space.h), which the slot's entry names. Every write goes to a new
 * location, and the old one is given back when the data is safe: a write that fails leaves the slot as it was, and what
 * a forked child still reads is never written over. Who holds the slot's pin reads and writes its entry.
 *
 * Requests are waited for without bound: the engine bounds them where that is wanted (timeout=), or is found dead.
 */
#include "swap/remote.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/print.h"
#include "base/process.h"
#include "swap/counters.h"
#include "swap/pages.h"
#include "swap/ring.h"
#include "swap/slot_table.h"
#include "swap/space.h"
#include "sync/wait.h"

#define STALL_NS 3000000000ull /* waiting for longer is told */

/* An entry is its location plus 1, and perhaps TAINTED; 0: the slot holds nothing. */
#define TAINTED (1u << 31) /* what is there is good, but nothing else may be written there */

struct remote {
	struct swap_device dev;
	struct ring *ring;
	struct page_account account; /* pages of the table */
	struct slot_table table; /* of u32 */
	struct space space;
	struct swap_counters counters;
	char target[SWAP_TEXT_SIZE]; /* for messages */
};

static struct remote *remote_of(struct swap_device *dev)
{
	return container_of(dev, struct remote, dev);
}

static u64 process_of(const struct remote *r)
{
	return r->space.self;
}

/* Nothing is stored there any more. What is tainted is not given back: see ring.h. */
static void location_give(struct remote *r, u32 location)
{
	if (!(location & TAINTED))
		space_give(&r->space, location);
}

/* ---- messages ---- */

static const char *reason_of(struct remote *r, char text[RING_TEXT])
{
	memcpy(text, r->ring->reason, RING_TEXT);
	text[RING_TEXT - 1] = '\0';
	return text;
}

static void tell_failure(struct remote *r)
{
	const char *what;
	char text[RING_TEXT];

	if (atomic32_xchg_acquire(&r->ring->told, 1))
		return;
	if (ring_has_ended(r->ring))
		what = "its engine has ended, and with it all that was stored";
	else
		what = reason_of(r, text);
	print_err("swap device %s:%s: %s", r->dev.name, r->target, what);
}

static u32 seconds(u64 ns)
{
	return (u32)(ns / 1000000000);
}

static void tell_stall(struct remote *r)
{
	char text[RING_TEXT];
	u32 since = seconds(sync_clock_ns() - STALL_NS) | 1; /* not 0 */

	if (atomic32_read(&r->ring->stalled) || atomic32_xchg_acquire(&r->ring->stalled, since))
		return;
	reason_of(r, text);
	print_err("swap device %s:%s: no answer for %u s%s%s; waiting", r->dev.name, r->target, seconds(STALL_NS),
		  text[0] ? ": " : "", text);
}

static void tell_recovery(struct remote *r)
{
	u32 since;

	if (likely(!atomic32_read(&r->ring->stalled)))
		return;
	since = atomic32_xchg_acquire(&r->ring->stalled, 0);
	if (since)
		print_err("swap device %s:%s: answers again, after %u s", r->dev.name, r->target,
			  seconds(sync_clock_ns()) - since);
}

/* ---- entries ---- */

static u32 *slot_entry(struct remote *r, u32 slot)
{
	return slot_table_entry(&r->table, slot);
}

static void entry_clear(struct remote *r, u32 slot)
{
	u32 *entry = slot_entry(r, slot), location = *entry - 1;

	*entry = 0;
	swap_counter_add(&r->counters, slot, COUNT_PAGES, -(u64)1);
	swap_counter_add(&r->counters, slot, COUNT_COMPR_BYTES, -(u64)PAGE_SIZE);
	location_give(r, location);
}

static void entry_set(struct remote *r, u32 slot, u32 location)
{
	if (*slot_entry(r, slot))
		entry_clear(r, slot);
	*slot_entry(r, slot) = location + 1;
	swap_counter_add(&r->counters, slot, COUNT_PAGES, 1);
	swap_counter_add(&r->counters, slot, COUNT_COMPR_BYTES, PAGE_SIZE);
}

/* A page of the table that was never written is not to come into being. */
static bool has_page(struct remote *r, u32 slot)
{
	return slot_table_is_charged(&r->table, slot) && *slot_entry(r, slot);
}

/* ---- requests ---- */

static void request_fill(struct remote *r, u32 cell, enum ring_op op, u32 location, u32 nr)
{
	struct ring_cell *c = &r->ring->cell[cell];

	c->op = op;
	c->location = location & ~TAINTED;
	c->nr = nr;
}

/* Waits for a request. Frees the cell, unless the engine has ended: then nobody uses the ring any more. */
static int request_wait(struct remote *r, u32 cell, void *page, u32 *flags)
{
	int ret;

	*flags = 0;
	while ((ret = ring_wait(r->ring, cell, STALL_NS)) == -ETIMEDOUT)
		tell_stall(r);
	if (!ret) {
		ret = r->ring->cell[cell].err;
		*flags = r->ring->cell[cell].flags;
		if (!ret && page)
			memcpy(page, ring_page(r->ring, cell), PAGE_SIZE);
		ring_free(r->ring, cell);
		if (!ret)
			tell_recovery(r);
	}
	return ret;
}

static int request_finish(struct remote *r, u32 cell, void *page, u32 *flags)
{
	int ret = request_wait(r, cell, page, flags);

	if (ret && ret != -ENOSPC)
		tell_failure(r);
	return ret == -ENOSPC ? ret : ret ? -EIO : 0;
}

static int read_end(struct remote *r, const struct swap_io *io, u32 cell)
{
	u32 flags;

	return request_finish(r, cell, io->page, &flags);
}

static int write_end(struct remote *r, const struct swap_io *io, u32 cell, u32 location)
{
	u32 flags;
	int ret = request_finish(r, cell, NULL, &flags);

	if (flags & CELL_TAINTED)
		location |= TAINTED;
	if (ret)
		location_give(r, location);
	else
		entry_set(r, io->slot, location);
	return ret;
}

/*
 * Requests for as many pages as there are cells for; `todo`: which of io, `locations`: where they go. Returns how many;
 * 0: the engine has ended.
 */
static u32 read_some(struct remote *r, struct swap_io *io, const u8 *todo, u32 nr)
{
	u32 cells[SWAP_BATCH_MAX], got = ring_claim(r->ring, process_of(r), RING_READ, cells, nr);

	for (u32 i = 0; i < got; i++)
		request_fill(r, cells[i], RING_READ, *slot_entry(r, io[todo[i]].slot) - 1, 1);
	ring_submit(r->ring, cells, got);
	/* From the last on: when that is done most are, and need no sleep of their own. */
	for (u32 i = got; i-- > 0;)
		io[todo[i]].err = read_end(r, &io[todo[i]], cells[i]);
	return got;
}

static u32 write_some(struct remote *r, struct swap_io *io, const u8 *todo, const u32 *locations, u32 nr)
{
	u32 cells[SWAP_BATCH_MAX], got = ring_claim(r->ring, process_of(r), RING_WRITE, cells, nr);

	for (u32 i = 0; i < got; i++) {
		request_fill(r, cells[i], RING_WRITE, locations[i], 1);
		memcpy(ring_page(r->ring, cells[i]), io[todo[i]].page, PAGE_SIZE);
	}
	ring_submit(r->ring, cells, got);
	for (u32 i = got; i-- > 0;)
		io[todo[i]].err = write_end(r, &io[todo[i]], cells[i], locations[i]);
	return got;
}

static void count_failures(struct remote *r, enum swap_counter which, const struct swap_io *io, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		if (io[i].err)
			swap_counter_add(&r->counters, io[i].slot, which, 1);
	}
}

static void remote_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct remote *r = remote_of(dev);
	u8 todo[SWAP_BATCH_MAX];
	u32 nr_todo = 0, got;

	must(nr <= SWAP_BATCH_MAX);
	for (u32 i = 0; i < nr; i++) {
		io[i].err = -EIO; /* also of what the engine does not live to see */
		if (has_page(r, io[i].slot))
			todo[nr_todo++] = (u8)i;
	}
	for (u32 done = 0; done < nr_todo; done += got) {
		got = read_some(r, io, todo + done, nr_todo - done);
		if (!got) {
			tell_failure(r);
			break;
		}
	}
	count_failures(r, COUNT_FAILED_READS, io, nr);
}

static void remote_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct remote *r = remote_of(dev);
	u32 locations[SWAP_BATCH_MAX], nr_todo = 0, most = 0, got;
	u8 todo[SWAP_BATCH_MAX];

	must(nr <= SWAP_BATCH_MAX);
	for (u32 i = 0; i < nr; i++) {
		io[i].err = -ENOSPC;
		if (!slot_table_charge(&r->table, io[i].slot))
			todo[most++] = (u8)i;
	}
	nr_todo = most ? space_take(&r->space, locations, most) : 0;
	for (u32 done = 0; done < nr_todo; done += got) {
		got = write_some(r, io, todo + done, locations + done, nr_todo - done);
		if (got)
			continue;
		tell_failure(r);
		for (; done < nr_todo; done++) {
			location_give(r, locations[done]);
			io[todo[done]].err = -EIO;
		}
	}
	count_failures(r, COUNT_FAILED_WRITES, io, nr);
}

/* ---- the interface ---- */

static int remote_read(struct swap_device *dev, u32 slot, void *page)
{
	struct swap_io io = { .slot = slot, .page = page };

	remote_read_pages(dev, &io, 1);
	return io.err;
}

static int remote_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct swap_io io = { .slot = slot, .page = (void *)(uintptr_t)page };

	remote_write_pages(dev, &io, 1);
	return io.err;
}

static void remote_discard(struct swap_device *dev, u32 slot)
{
	struct remote *r = remote_of(dev);

	if (has_page(r, slot))
		entry_clear(r, slot);
}

static void remote_place(struct swap_device *dev, u32 slot, struct swap_place *place)
{
	struct remote *r = remote_of(dev);

	strcpy(place->target, r->target);
	if (has_page(r, slot))
		place->offset = pages_to_bytes((*slot_entry(r, slot) - 1) & ~TAINTED);
}

static void remote_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	struct remote *r = remote_of(dev);

	swap_counters_report(&r->counters, stats);
	stats->mem_used_total = pages_to_bytes(atomic64_read(&r->account.nr_pages));
	stats->mem_used_max = pages_to_bytes(atomic64_read(&r->account.nr_pages_max));
}

/*
 * Whole extents, while nobody else has them; waits, so that whoever takes one next writes after it. Without an answer
 * for long it is left out: what is there then stays until the end of the run.
 */
static void trim(void *ctx, u32 location, u32 nr)
{
	struct remote *r = ctx;
	u32 cells[SWAP_BATCH_MAX], flags, got;

	for (u32 end = location + nr; location < end && !atomic32_read(&r->ring->stalled);) {
		got = ring_claim(r->ring, process_of(r), RING_TRIM, cells,
				 (u32)min_u64(DIV_ROUND_UP(end - location, SPACE_EXTENT), SWAP_BATCH_MAX));
		if (!got)
			return;
		for (u32 i = 0; i < got; i++, location += SPACE_EXTENT)
			request_fill(r, cells[i], RING_TRIM, location, (u32)min_u64(end - location, SPACE_EXTENT));
		ring_submit(r->ring, cells, got);
		for (u32 i = got; i-- > 0;)
			(void)request_wait(r, cells[i], NULL, &flags);
	}
}

static int remote_begin(struct swap_device *dev, bool forked, int *fds)
{
	struct remote *r = remote_of(dev);

	(void)fds;
	if (!forked)
		return 0;
	space_begin(&r->space);
	return ring_join(r->ring, process_of(r));
}

static int remote_fork_begin(struct swap_device *dev)
{
	return space_fork_begin(&remote_of(dev)->space);
}

static void remote_fork_parent(struct swap_device *dev, int pid)
{
	space_fork_parent(&remote_of(dev)->space, pid);
}

static int remote_fork_child(struct swap_device *dev)
{
	struct remote *r = remote_of(dev);
	int ret = space_fork_child(&r->space);

	return ret ? ret : ring_join(r->ring, process_of(r));
}

static void remote_close(struct swap_device *dev)
{
	struct remote *r = remote_of(dev);

	if (r->space.shared)
		space_close(&r->space);
	if (r->ring) {
		ring_leave(r->ring, process_own_id());
		ring_close(r->ring);
	}
	if (r->table.nr_slots)
		slot_table_destroy(&r->table);
	page_account_uncharge(&r->account, atomic64_read(&r->account.nr_pages));
	os_unreserve(r, sizeof(*r));
}

static const struct swap_device_ops remote_ops = {
	.read = remote_read,
	.write = remote_write,
	.read_pages = remote_read_pages,
	.write_pages = remote_write_pages,
	.discard = remote_discard,
	.stats = remote_stats,
	.place = remote_place,
	.begin = remote_begin,
	.fork_begin = remote_fork_begin,
	.fork_parent = remote_fork_parent,
	.fork_child = remote_fork_child,
	.close = remote_close,
};

/* The ring first: nothing of an earlier program is under way any more when its locations are given back. */
static int open_all(struct remote *r, const struct swap_device_config *cfg)
{
	const struct space_ops ops = { .discard = trim, .ctx = r };
	int ret;

	if (!cfg->ring[0] || !cfg->space[0])
		return -ENOTCONN;
	ret = ring_open(cfg->ring, &r->ring);
	if (!ret)
		ret = ring_join(r->ring, process_own_id());
	if (ret)
		return ret;
	r->dev.nr_slots = (u32)min_u64(min_u64(cfg->size >> PAGE_SHIFT, SWAP_SLOTS_MAX), r->ring->nr_pages);
	ret = slot_table_init(&r->table, r->dev.nr_slots, sizeof(u32), &r->account);
	return ret ? ret : space_open(&r->space, (u32)r->ring->nr_pages, cfg->space, &ops);
}

static int remote_open(const struct swap_device_config *cfg, const char *name, struct swap_device **out)
{
	struct remote *r = os_reserve(sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->dev = (struct swap_device){ .ops = &remote_ops, .name = name, .flags = SWAP_DISCARD };
	r->account.memory = &r->dev.memory;
	strcpy(r->target, cfg->target);
	ret = open_all(r, cfg);
	if (ret)
		remote_close(&r->dev);
	else
		*out = &r->dev;
	return ret;
}

/* ---- for weir run ---- */

static void remote_share_spec(const struct swap_device_config *cfg, u32 engine, const int *fds, char *spec, size_t size)
{
	size_t len;

	print_to(spec, size, "%s:%s,ring=/proc/%u/fd/%d,space=/proc/%u/fd/%d", cfg->driver, cfg->target, engine, fds[0],
		 engine, fds[1]);
	len = strlen(spec);
	if (cfg->size)
		print_to(spec + len, size - len, ",size=%llu", (unsigned long long)cfg->size);
}

static int nbd_open(const struct swap_device_config *cfg, struct swap_device **out)
{
	return remote_open(cfg, nbd_driver.name, out);
}

static int rados_open(const struct swap_device_config *cfg, struct swap_device **out)
{
	return remote_open(cfg, rados_driver.name, out);
}

const struct swap_driver nbd_driver = {
	.name = "nbd",
	.flags = SWAP_DRIVER_EXTERNAL,
	.help = "network block device: nbd:URI[,connections=N,timeout=TIME,overwrite=on,size=SIZE]",
	.engine = "weir-nbd",
	.package = "libnbd0",
	.open = nbd_open,
	.share_spec = remote_share_spec,
};

const struct swap_driver rados_driver = {
	.name = "rados",
	.flags = SWAP_DRIVER_EXTERNAL,
	.help = "Ceph cluster: rados:POOL[,conf=PATH,namespace=NAME,user=NAME,size=SIZE]",
	.engine = "weir-rados",
	.package = "librados2",
	.open = rados_open,
	.share_spec = remote_share_spec,
};
