// SPDX-License-Identifier: MIT
#include <errno.h>
#include <string.h>

#include "base/os.h"
#include "base/parse.h"
#include "swap/filter.h"
#include "sync/wait.h"

struct filter_delay {
	struct swap_filter filter;
	struct swap_delay delay;
};

static struct filter_delay *delay_of(struct swap_device *dev)
{
	return container_of(dev, struct filter_delay, filter.dev);
}

static void delay_sleep(u64 ns)
{
	if (ns)
		os_sleep_until_ns(sync_clock_ns() + ns);
}

/* After the read: what the caller holds grows stale meanwhile. And before the write, while the page may change again.
 */
static int delay_read(struct swap_device *dev, u32 slot, void *page)
{
	struct filter_delay *d = delay_of(dev);
	int ret = d->filter.below->ops->read(d->filter.below, slot, page);

	delay_sleep(d->delay.read_ns);
	return ret;
}

static int delay_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct filter_delay *d = delay_of(dev);

	delay_sleep(d->delay.write_ns);
	return d->filter.below->ops->write(d->filter.below, slot, page);
}

static void delay_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_delay *d = delay_of(dev);

	swap_device_read_pages(d->filter.below, io, nr);
	delay_sleep(d->delay.read_ns);
}

static void delay_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_delay *d = delay_of(dev);

	delay_sleep(d->delay.write_ns);
	swap_device_write_pages(d->filter.below, io, nr);
}

static void delay_close(struct swap_device *dev)
{
	struct filter_delay *d = delay_of(dev);

	filter_close(&d->filter);
	os_unreserve(d, sizeof(*d));
}

static const struct swap_device_ops delay_ops = {
	.read = delay_read,
	.write = delay_write,
	.read_pages = delay_read_pages,
	.write_pages = delay_write_pages,
	.discard = filter_discard,
	.stats = filter_report,
	FILTER_PASSES_ON,
	.fork_child = filter_fork_child,
	.close = delay_close,
};

int filter_delay_open(struct swap_device *below, const struct swap_delay *delay, struct swap_device **out)
{
	struct filter_delay *d = os_reserve(sizeof(*d));

	if (!d)
		return -ENOMEM;
	filter_init(&d->filter, &delay_ops, below);
	d->delay = *delay;
	if (delay->async)
		d->filter.dev.flags &= ~(u32)SWAP_SYNCHRONOUS_IO;
	*out = &d->filter.dev;
	return 0;
}
