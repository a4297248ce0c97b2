// SPDX-License-Identifier: MIT
#include <errno.h>

#include "base/os.h"
#include "swap/filter.h"
#include "sync/wait.h"

struct filter_stats {
	struct swap_filter filter;
	struct swap_times *times;
	struct swap_times own;
};

static struct filter_stats *stats_of(struct swap_device *dev)
{
	return container_of(dev, struct filter_stats, filter.dev);
}

static void times_add(struct swap_op_times *t, u64 started_ns, u64 pages, u64 errors)
{
	u64 ns = sync_clock_ns() - started_ns;
	u64 max = atomic64_read(&t->ns_max);
	u32 bucket = ns ? 64 - (u32)__builtin_clzll(ns) : 0;

	atomic64_fetch_add(&t->calls[min_u64(bucket, SWAP_TIMES_BUCKETS - 1)], 1);
	atomic64_fetch_add(&t->pages, pages);
	atomic64_fetch_add(&t->ns, ns);
	if (errors)
		atomic64_fetch_add(&t->errors, errors);
	while (ns > max && !atomic64_cas_relaxed(&t->ns_max, &max, ns))
		;
}

u64 swap_times_calls(const struct swap_op_times *t)
{
	u64 calls = 0;

	for (int i = 0; i < SWAP_TIMES_BUCKETS; i++)
		calls += atomic64_read(&t->calls[i]);
	return calls;
}

u64 swap_times_percentile(const struct swap_op_times *t, u32 percent)
{
	u64 wanted = DIV_ROUND_UP(swap_times_calls(t) * percent, 100), seen = 0;

	if (!wanted)
		return 0;
	for (int i = 0; i < SWAP_TIMES_BUCKETS - 1; i++) {
		seen += atomic64_read(&t->calls[i]);
		if (seen >= wanted)
			return min_u64((u64)1 << i, atomic64_read(&t->ns_max));
	}
	return atomic64_read(&t->ns_max);
}

static u64 count_errors(const struct swap_io *io, u32 nr)
{
	u64 errors = 0;

	for (u32 i = 0; i < nr; i++)
		errors += io[i].err != 0;
	return errors;
}

static int stats_read(struct swap_device *dev, u32 slot, void *page)
{
	struct filter_stats *s = stats_of(dev);
	u64 started_ns = sync_clock_ns();
	int ret = s->filter.below->ops->read(s->filter.below, slot, page);

	times_add(&s->times->read, started_ns, 1, ret != 0);
	return ret;
}

static int stats_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct filter_stats *s = stats_of(dev);
	u64 started_ns = sync_clock_ns();
	int ret = s->filter.below->ops->write(s->filter.below, slot, page);

	times_add(&s->times->write, started_ns, 1, ret != 0);
	return ret;
}

static void stats_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_stats *s = stats_of(dev);
	u64 started_ns = sync_clock_ns();

	swap_device_read_pages(s->filter.below, io, nr);
	times_add(&s->times->read, started_ns, nr, count_errors(io, nr));
}

static void stats_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_stats *s = stats_of(dev);
	u64 started_ns = sync_clock_ns();

	swap_device_write_pages(s->filter.below, io, nr);
	times_add(&s->times->write, started_ns, nr, count_errors(io, nr));
}

static void stats_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	filter_report(dev, stats);
	stats->times = stats_of(dev)->times;
}

/* What the child does is not the parent's to count. */
static int stats_fork_child(struct swap_device *dev)
{
	struct filter_stats *s = stats_of(dev);

	if (s->times != &s->own) {
		s->own = *s->times;
		s->times = &s->own;
	}
	return filter_fork_child(dev);
}

static void stats_close(struct swap_device *dev)
{
	struct filter_stats *s = stats_of(dev);

	filter_close(&s->filter);
	os_unreserve(s, sizeof(*s));
}

static const struct swap_device_ops stats_ops = {
	.read = stats_read,
	.write = stats_write,
	.read_pages = stats_read_pages,
	.write_pages = stats_write_pages,
	.discard = filter_discard,
	.stats = stats_stats,
	FILTER_PASSES_ON,
	.fork_child = stats_fork_child,
	.close = stats_close,
};

int filter_stats_open(struct swap_device *below, struct swap_times *times, struct swap_device **out)
{
	struct filter_stats *s = os_reserve(sizeof(*s));

	if (!s)
		return -ENOMEM;
	filter_init(&s->filter, &stats_ops, below);
	s->times = times ? times : &s->own;
	*out = &s->filter.dev;
	return 0;
}
