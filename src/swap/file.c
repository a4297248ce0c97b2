// SPDX-License-Identifier: MIT
/*
 * A slot's page is at a location of the space, which the slot's word in `table` names. Every write goes to a new
 * location, and the old one is given back when the data is safe: a write that fails leaves the slot as it was, and what
 * a forked child still reads is never written over.
 *
 * Who holds the slot's pin reads and writes its word; the rest of the driver has no state of its own but the pools of
 * rings, batches and bounce pages, whose bits acquire and release them.
 */
#include "swap/file.h"

#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/print.h"
#include "base/spares.h"
#include "base/syscall.h"
#include "swap/counters.h"
#include "swap/file_backing.h"
#include "swap/pages.h"
#include "swap/slot_table.h"
#include "swap/space.h"
#include "swap/uring.h"
#include "sync/bits.h"

enum {
	BATCHES = 8,
	BOUNCES = 16,
	LABEL_PAGES = 1,
	POLLED_PAGES = 8,
};

/* What a batch works with; more than a stack should hold. */
struct file_batch {
	u32 nr, nr_requests;
	u8 order[SWAP_BATCH_MAX]; /* of the pages that are transferred, by location */
	u32 location[SWAP_BATCH_MAX]; /* by place in the caller's array */
	u8 first[SWAP_BATCH_MAX]; /* in `order`, of each request */
	struct iovec iov[SWAP_BATCH_MAX];
	struct uring_io request[SWAP_BATCH_MAX];
};

_Static_assert((int)SWAP_BATCH_MAX <= (int)URING_ENTRIES, "a batch is one submission");

struct file {
	struct swap_device dev;
	struct swap_device_config cfg; /* to open it again */
	struct file_backing backing;
	struct atomic32 no_punch; /* the file system cannot */
	bool begun; /* and tried again, if memory could not be managed then */
	struct page_account account;
	struct slot_table table; /* of u32: location + 1, 0: nothing is there */
	struct space space;
	struct uring_pool rings;
	struct sync_poll poll;
	struct atomic64 free_batches, free_bounces; /* bits.h */
	struct atomic32 given; /* bumped with each that comes free */
	struct file_batch *batches;
	char *bounces; /* pages for transfers to where the kernel cannot */
	struct swap_counters counters;
};

static struct file *file_of(struct swap_device *dev)
{
	return container_of(dev, struct file, dev);
}

/* ---- one page ---- */

static u64 offset_of(u32 location)
{
	return pages_to_bytes((u64)location + LABEL_PAGES);
}

/* All of the page, or -errno; a file that ends before it has lost it. */
static int transfer_whole(struct file *f, bool write, u32 location, char *page)
{
	size_t done = 0;

	while (done < PAGE_SIZE) {
		long ret = sys4(write ? SYS_pwrite64 : SYS_pread64, f->backing.fd, page + done, PAGE_SIZE - done,
				offset_of(location) + done);

		if (ret == -EINTR || ret == -EAGAIN)
			continue;
		if (ret == 0)
			return -EIO;
		if (ret < 0)
			return (int)ret;
		done += (size_t)ret;
	}
	return 0;
}

/* A fault waits for these few pages, and the disk takes little longer than the thread's way back from its sleep. */
static struct sync_poll *how_to_wait(struct file *f, bool write, u32 nr)
{
	if (write || nr > POLLED_PAGES || !f->cfg.poll || !f->backing.direct || !sync_poll_pays(&f->poll))
		return NULL;
	return &f->poll;
}

static bool read_polled(struct file *f, u32 location, char *page)
{
	struct iovec iov = { .iov_base = page, .iov_len = PAGE_SIZE };
	struct uring_io io = { .iov = &iov, .nr_iov = 1, .offset = offset_of(location) };
	struct sync_poll *poll = how_to_wait(f, false, 1);

	return poll && uring_do(&f->rings, f->backing.fd, false, &io, 1, poll) && io.result == (long)PAGE_SIZE;
}

static bool is_aligned(const struct file *f, const void *page)
{
	return ((uintptr_t)page & (f->backing.memory_align - 1)) == 0;
}

static int transfer(struct file *f, bool write, u32 location, void *page)
{
	char *bounce;
	u32 bit;
	int ret;

	if (likely(is_aligned(f, page)))
		return !write && read_polled(f, location, page) ? 0 : transfer_whole(f, write, location, page);
	bit = bits_get(&f->free_bounces, &f->given);
	bounce = f->bounces + ((size_t)bit << PAGE_SHIFT);
	if (write)
		memcpy(bounce, page, PAGE_SIZE);
	ret = transfer_whole(f, write, location, bounce);
	if (!write && !ret)
		memcpy(page, bounce, PAGE_SIZE);
	bits_put(&f->free_bounces, &f->given, bit);
	return ret;
}

/* ---- slots ---- */

static u32 *slot_word(struct file *f, u32 slot)
{
	return slot_table_entry(&f->table, slot);
}

static int read_error(struct file *f, u32 slot)
{
	swap_counter_add(&f->counters, slot, COUNT_FAILED_READS, 1);
	return -EIO;
}

static int write_error(struct file *f, u32 slot, int err)
{
	swap_counter_add(&f->counters, slot, COUNT_FAILED_WRITES, 1);
	return err == -ENOSPC || err == -EDQUOT || err == -EFBIG ? -ENOSPC : -EIO;
}

static void slot_set(struct file *f, u32 slot, u32 location)
{
	u32 *word = slot_word(f, slot), old = *word;

	*word = location + 1;
	if (old) {
		space_give(&f->space, old - 1);
		return;
	}
	swap_counter_add(&f->counters, slot, COUNT_PAGES, 1);
	swap_counter_add(&f->counters, slot, COUNT_COMPR_BYTES, PAGE_SIZE);
}

static int file_read(struct swap_device *dev, u32 slot, void *page)
{
	struct file *f = file_of(dev);
	u32 word = *slot_word(f, slot);

	if (!word || transfer(f, false, word - 1, page))
		return read_error(f, slot);
	return 0;
}

/* The space is full: in place, where nobody else can see it. */
static int write_in_place(struct file *f, u32 slot, void *page)
{
	u32 word = *slot_word(f, slot);

	if (!word || !space_is_ours(&f->space, word - 1))
		return -ENOSPC;
	return transfer(f, true, word - 1, page);
}

static int file_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct file *f = file_of(dev);
	void *data = (void *)(uintptr_t)page; /* read only, by the same function that reads to it */
	u32 location;
	int ret = slot_table_charge(&f->table, slot) ? -ENOSPC : 0;

	if (ret)
		return write_error(f, slot, ret);
	if (!space_take(&f->space, &location, 1)) {
		ret = write_in_place(f, slot, data);
	} else {
		ret = transfer(f, true, location, data);
		if (ret)
			space_give(&f->space, location);
		else
			slot_set(f, slot, location);
	}
	return ret ? write_error(f, slot, ret) : 0;
}

static void file_discard(struct swap_device *dev, u32 slot)
{
	struct file *f = file_of(dev);
	u32 *word = slot_word(f, slot), old = *word;

	/* Read first: a page of the table that was never written is not to come into being. */
	if (!old)
		return;
	*word = 0;
	swap_counter_add(&f->counters, slot, COUNT_PAGES, -(u64)1);
	swap_counter_add(&f->counters, slot, COUNT_COMPR_BYTES, -(u64)PAGE_SIZE);
	space_give(&f->space, old - 1);
}

/* ---- batches ---- */

/* Enters a page, by location; they mostly come in order. */
static void batch_add(struct file_batch *b, u32 index)
{
	u32 at = b->nr++;

	for (; at > 0 && b->location[b->order[at - 1]] > b->location[index]; at--)
		b->order[at] = b->order[at - 1];
	b->order[at] = (u8)index;
}

/* Neighbours become one request, and pages that follow each other in memory, too, one part of it. */
static void batch_plan(struct file_batch *b, const struct swap_io *io)
{
	u32 nr_iov = 0;

	b->nr_requests = 0;
	for (u32 i = 0; i < b->nr; i++) {
		u32 at = b->location[b->order[i]];
		void *page = io[b->order[i]].page;
		struct uring_io *r = &b->request[b->nr_requests];

		if (i && at == b->location[b->order[i - 1]] + 1) {
			struct iovec *last = &b->iov[nr_iov - 1];

			r--;
			if ((char *)last->iov_base + last->iov_len == page) {
				last->iov_len += PAGE_SIZE;
				continue;
			}
			r->nr_iov++;
		} else {
			b->first[b->nr_requests++] = (u8)i;
			*r = (struct uring_io){ .iov = &b->iov[nr_iov], .nr_iov = 1, .offset = offset_of(at) };
		}
		b->iov[nr_iov++] = (struct iovec){ .iov_base = page, .iov_len = PAGE_SIZE };
	}
}

static void batch_run(struct file *f, struct file_batch *b, bool write)
{
	struct sync_poll *poll = how_to_wait(f, write, b->nr);

	if ((b->nr_requests > 1 || poll) &&
	    uring_do(&f->rings, f->backing.fd, write, b->request, b->nr_requests, poll))
		return;
	for (u32 i = 0; i < b->nr_requests; i++) {
		struct uring_io *r = &b->request[i];

		r->result = sys5(write ? SYS_pwritev : SYS_preadv, f->backing.fd, r->iov, r->nr_iov, r->offset, 0);
	}
}

/* What a request has not done is done page by page: an error costs the page that it hit. */
static void batch_results(struct file *f, struct file_batch *b, struct swap_io *io, bool write)
{
	for (u32 i = 0; i < b->nr_requests; i++) {
		u32 end = i + 1 < b->nr_requests ? b->first[i + 1] : b->nr;
		long done = b->request[i].result;

		for (u32 k = b->first[i]; k < end; k++, done -= (long)PAGE_SIZE) {
			struct swap_io *one = &io[b->order[k]];

			one->err = 0;
			if (done < (long)PAGE_SIZE)
				one->err = transfer(f, write, b->location[b->order[k]], one->page);
		}
	}
}

static struct file_batch *batch_get(struct file *f)
{
	u32 bit;

	if (!bits_tryget(&f->free_batches, &bit))
		return NULL;
	f->batches[bit].nr = 0;
	return &f->batches[bit];
}

static void batch_put(struct file *f, struct file_batch *b)
{
	bits_put(&f->free_batches, &f->given, (u32)(b - f->batches));
}

static void file_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct file *f = file_of(dev);
	struct file_batch *b = nr > 1 ? batch_get(f) : NULL;

	must(nr <= SWAP_BATCH_MAX);
	for (u32 i = 0; i < nr; i++) {
		u32 word = *slot_word(f, io[i].slot);

		if (!b || !word || !is_aligned(f, io[i].page)) {
			io[i].err = file_read(dev, io[i].slot, io[i].page);
			continue;
		}
		b->location[i] = word - 1;
		batch_add(b, i);
	}
	if (!b)
		return;
	batch_plan(b, io);
	batch_run(f, b, false);
	batch_results(f, b, io, false);
	for (u32 i = 0; i < b->nr; i++) {
		if (io[b->order[i]].err)
			io[b->order[i]].err = read_error(f, io[b->order[i]].slot);
	}
	batch_put(f, b);
}

/* Locations for all that can go in the batch, in the order of the pages. Returns how many got none. */
static u32 batch_take(struct file *f, struct file_batch *b, struct swap_io *io, u32 nr, u8 *alone)
{
	u32 taken[SWAP_BATCH_MAX], wanted = 0, got, used = 0, nr_alone = 0;

	for (u32 i = 0; i < nr; i++) {
		io[i].err = !is_aligned(f, io[i].page) || slot_table_charge(&f->table, io[i].slot);
		wanted += !io[i].err;
	}
	got = wanted ? space_take(&f->space, taken, wanted) : 0;
	for (u32 i = 0; i < nr; i++) {
		if (io[i].err || used == got) {
			alone[nr_alone++] = (u8)i;
			continue;
		}
		b->location[i] = taken[used++];
		batch_add(b, i);
	}
	return nr_alone;
}

static void file_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct file *f = file_of(dev);
	struct file_batch *b = nr > 1 ? batch_get(f) : NULL;
	u8 alone[SWAP_BATCH_MAX];
	u32 nr_alone;

	must(nr <= SWAP_BATCH_MAX);
	if (!b) {
		for (u32 i = 0; i < nr; i++)
			io[i].err = file_write(dev, io[i].slot, io[i].page);
		return;
	}
	nr_alone = batch_take(f, b, io, nr, alone);
	batch_plan(b, io);
	batch_run(f, b, true);
	batch_results(f, b, io, true);
	for (u32 i = 0; i < b->nr; i++) {
		struct swap_io *one = &io[b->order[i]];
		u32 location = b->location[b->order[i]];

		if (one->err) {
			space_give(&f->space, location);
			one->err = write_error(f, one->slot, one->err);
		} else {
			slot_set(f, one->slot, location);
		}
	}
	batch_put(f, b);
	for (u32 i = 0; i < nr_alone; i++)
		io[alone[i]].err = file_write(dev, io[alone[i]].slot, io[alone[i]].page);
}

/* The descriptor knows the file by the name that it has now; the specification is one of weir run's making. */
static void file_place(struct swap_device *dev, u32 slot, struct swap_place *place)
{
	struct file *f = file_of(dev);
	u32 word = *slot_word(f, slot);
	char path[32];
	long len;

	print_to(path, sizeof(path), "/proc/self/fd/%d", f->backing.fd);
	len = sys3(SYS_readlink, path, place->target, sizeof(place->target) - 1);
	place->target[len > 0 ? len : 0] = '\0';
	if (word)
		place->offset = offset_of(word - 1);
}

/* ---- life ---- */

static void file_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	struct file *f = file_of(dev);

	swap_counters_report(&f->counters, stats);
	stats->mem_used_total = pages_to_bytes(atomic64_read(&f->account.nr_pages));
	stats->mem_used_max = pages_to_bytes(atomic64_read(&f->account.nr_pages_max));
}

static void punch(void *ctx, u32 location, u32 nr)
{
	struct file *f = ctx;

	if (!f->backing.punch || atomic32_read(&f->no_punch))
		return;
	if (sys4(SYS_fallocate, f->backing.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_of(location),
		 pages_to_bytes(nr)))
		atomic32_set(&f->no_punch, 1);
}

static int open_backing(struct file *f)
{
	char err[8];

	if (f->cfg.space[0])
		return file_backing_join(&f->cfg, &f->backing);
	return file_backing_open(&f->cfg, &f->backing, err, sizeof(err));
}

static int file_begin(struct swap_device *dev, bool forked, int *fds)
{
	struct file *f = file_of(dev);
	bool is_open = file_backing_is_open(&f->backing);
	int ret = is_open ? 0 : open_backing(f);

	if (ret)
		return ret;
	if (forked)
		space_begin(&f->space);
	fds[0] = f->backing.fd;
	ret = 1 + (int)uring_pool_begin(&f->rings, !f->begun || !is_open, fds + 1);
	f->begun = true;
	return ret;
}

static int file_fork_begin(struct swap_device *dev)
{
	return space_fork_begin(&file_of(dev)->space);
}

static void file_fork_parent(struct swap_device *dev, int pid)
{
	space_fork_parent(&file_of(dev)->space, pid);
}

static int file_fork_child(struct swap_device *dev)
{
	struct file *f = file_of(dev);

	uring_pool_fork_child(&f->rings);
	sync_poll_init(&f->poll, os_nr_cpus());
	return space_fork_child(&f->space);
}

static void file_close(struct swap_device *dev)
{
	struct file *f = file_of(dev);

	space_close(&f->space);
	uring_pool_close(&f->rings);
	if (f->backing.fd >= 0)
		spares_close(f->backing.fd);
	slot_table_destroy(&f->table);
	os_unreserve(f->batches, BATCHES * sizeof(*f->batches));
	os_unreserve(f->bounces, BOUNCES * PAGE_SIZE);
	page_account_uncharge(&f->account, atomic64_read(&f->account.nr_pages));
	os_unreserve(f, sizeof(*f));
}

static const struct swap_device_ops file_ops = {
	.read = file_read,
	.write = file_write,
	.read_pages = file_read_pages,
	.write_pages = file_write_pages,
	.discard = file_discard,
	.stats = file_stats,
	.place = file_place,
	.begin = file_begin,
	.fork_begin = file_fork_begin,
	.fork_parent = file_fork_parent,
	.fork_child = file_fork_child,
	.close = file_close,
};

static int open_tables(struct file *f)
{
	const struct space_ops ops = { .discard = punch, .ctx = f };
	u32 nr = f->backing.nr_pages - LABEL_PAGES;

	f->dev.nr_slots = nr;
	f->batches = pages_reserve(BATCHES * sizeof(*f->batches));
	f->bounces = pages_reserve(BOUNCES * PAGE_SIZE);
	if (slot_table_init(&f->table, nr, sizeof(u32), &f->account) || !f->batches || !f->bounces)
		return -ENOMEM;
	return space_open(&f->space, nr, f->cfg.space[0] ? f->cfg.space : NULL, &ops);
}

static int file_open(const struct swap_device_config *cfg, struct swap_device **out)
{
	struct file *f = os_reserve(sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	f->dev = (struct swap_device){ .ops = &file_ops, .name = file_driver.name, .flags = SWAP_DISCARD };
	f->cfg = *cfg;
	f->account.memory = &f->dev.memory;
	f->backing.fd = -1;
	bits_init(&f->free_batches, BATCHES);
	bits_init(&f->free_bounces, BOUNCES);
	uring_pool_init(&f->rings, (u32)min_u64(os_nr_cpus(), URING_RINGS_MAX));
	sync_poll_init(&f->poll, os_nr_cpus());
	ret = open_backing(f);
	if (!ret)
		ret = open_tables(f);
	if (ret) {
		file_close(&f->dev);
		return ret;
	}
	*out = &f->dev;
	return 0;
}

/* ---- for weir run ---- */

static int file_share(struct swap_device_config *cfg, int *fds, char *err, size_t err_size)
{
	struct file_backing b;
	int ret = file_backing_open(cfg, &b, err, err_size);

	if (ret)
		return ret;
	ret = space_create(b.nr_pages - LABEL_PAGES, &fds[1]);
	if (ret) {
		print_to(err, err_size, "file: no memory to share it (error %d)", -ret);
		sys1(SYS_close, b.fd);
		return ret;
	}
	fds[0] = b.fd;
	cfg->size = pages_to_bytes(b.nr_pages - LABEL_PAGES);
	cfg->direct = b.direct;
	cfg->prealloc = !b.punch; /* to those who join: it stays as it is */
	return 2;
}

static void file_share_spec(const struct swap_device_config *cfg, u32 holder, const int *fds, char *spec, size_t size)
{
	print_to(spec, size, "file:/proc/%u/fd/%d,space=/proc/%u/fd/%d,size=%llu,direct=%s,prealloc=%s,poll=%s", holder,
		 fds[0], holder, fds[1], (unsigned long long)cfg->size, cfg->direct ? "on" : "off",
		 cfg->prealloc ? "on" : "off", cfg->poll ? "on" : "off");
}

const struct swap_driver file_driver = {
	.name = "file",
	.flags = SWAP_DRIVER_EXTERNAL,
	.help = "a file or block device: PATH, size=SIZE, direct=on|off, prealloc=on|off, poll=on|off, force=on",
	.open = file_open,
	.share = file_share,
	.share_spec = file_share_spec,
};
