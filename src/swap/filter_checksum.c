// SPDX-License-Identifier: MIT
/* The sums stay in memory, so data of another slot or of an earlier write is found as well as damage. */
#include <errno.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/os.h"
#include "swap/filter.h"
#include "swap/slot_table.h"

struct filter_checksum {
	struct swap_filter filter;
	struct slot_table sums; /* u64; 0: the slot holds nothing */
};

static struct filter_checksum *checksum_of(struct swap_device *dev)
{
	return container_of(dev, struct filter_checksum, filter.dev);
}

static u64 *checksum_entry(const struct filter_checksum *c, u32 slot)
{
	return slot_table_entry(&c->sums, slot);
}

static u64 checksum_make(const void *page)
{
	u64 sum = XXH3_64bits(page, PAGE_SIZE);

	return sum ? sum : 1;
}

/* The result of a read that the device below says went well. */
static int checksum_verify(struct swap_filter *f, u32 slot, void *page)
{
	struct filter_checksum *c = checksum_of(&f->dev);
	u64 expected = *checksum_entry(c, slot);

	if (expected && checksum_make(page) == expected)
		return 0;
	atomic64_fetch_add(&f->failed_reads, 1);
	return expected ? -EBADMSG : -EIO;
}

static int checksum_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct filter_checksum *c = checksum_of(dev);
	int ret;

	if (slot_table_charge(&c->sums, slot)) {
		atomic64_fetch_add(&c->filter.failed_writes, 1);
		return -ENOSPC;
	}
	ret = c->filter.below->ops->write(c->filter.below, slot, page);
	/* Until then the old data and the old sum belong together. */
	if (!ret)
		*checksum_entry(c, slot) = checksum_make(page);
	return ret;
}

/* Where the table cannot grow the pages go one by one, so that those fail that have no place in it, and no others. */
static void checksum_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_checksum *c = checksum_of(dev);
	u32 fit = 0;

	while (fit < nr && !slot_table_charge(&c->sums, io[fit].slot))
		fit++;
	swap_device_write_pages(c->filter.below, io, fit);
	for (u32 i = 0; i < fit; i++) {
		if (!io[i].err)
			*checksum_entry(c, io[i].slot) = checksum_make(io[i].page);
	}
	for (u32 i = fit; i < nr; i++)
		io[i].err = checksum_write(dev, io[i].slot, io[i].page);
}

static void checksum_discard(struct swap_device *dev, u32 slot)
{
	struct filter_checksum *c = checksum_of(dev);

	if (slot_table_is_charged(&c->sums, slot))
		*checksum_entry(c, slot) = 0;
	filter_discard(dev, slot);
}

static void checksum_close(struct swap_device *dev)
{
	struct filter_checksum *c = checksum_of(dev);

	filter_close(&c->filter);
	slot_table_destroy(&c->sums);
	os_unreserve(c, sizeof(*c));
}

static const struct swap_device_ops checksum_ops = {
	.read = filter_read,
	.write = checksum_write,
	.read_pages = filter_read_pages,
	.write_pages = checksum_write_pages,
	.discard = checksum_discard,
	.stats = filter_report,
	FILTER_PASSES_ON,
	.fork_child = filter_fork_child,
	.close = checksum_close,
};

int filter_checksum_open(struct swap_device *below, struct swap_device **out)
{
	struct filter_checksum *c = os_reserve(sizeof(*c));
	int ret;

	if (!c)
		return -ENOMEM;
	ret = slot_table_init(&c->sums, below->nr_slots, sizeof(u64), &c->filter.account);
	if (ret) {
		slot_table_destroy(&c->sums);
		os_unreserve(c, sizeof(*c));
		return ret;
	}
	filter_init(&c->filter, &checksum_ops, below);
	c->filter.verify = checksum_verify;
	*out = &c->filter.dev;
	return 0;
}
