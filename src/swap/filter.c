// SPDX-License-Identifier: MIT
#include "swap/filter.h"

static int charge_through(void *ctx, u64 pages)
{
	struct swap_filter *f = ctx;

	return f->dev.memory.charge ? f->dev.memory.charge(f->dev.memory.ctx, pages) : 0;
}

static void uncharge_through(void *ctx, u64 pages)
{
	struct swap_filter *f = ctx;

	if (f->dev.memory.uncharge)
		f->dev.memory.uncharge(f->dev.memory.ctx, pages);
}

void filter_init(struct swap_filter *f, const struct swap_device_ops *ops, struct swap_device *below)
{
	f->dev = (struct swap_device){
		.ops = ops,
		.name = below->name,
		.flags = below->flags,
		.nr_slots = below->nr_slots,
	};
	f->below = below;
	f->account.memory = &f->dev.memory;
	below->memory = (struct swap_memory){ charge_through, uncharge_through, f };
}

void filter_discard(struct swap_device *dev, u32 slot)
{
	struct swap_device *below = filter_of(dev)->below;

	below->ops->discard(below, slot);
}

void filter_report(struct swap_device *dev, struct swap_device_stats *stats)
{
	struct swap_filter *f = filter_of(dev);

	f->below->ops->stats(f->below, stats);
	stats->mem_used_total += pages_to_bytes(atomic64_read(&f->account.nr_pages));
	stats->mem_used_max += pages_to_bytes(atomic64_read(&f->account.nr_pages_max));
	stats->failed_reads += atomic64_read(&f->failed_reads);
	stats->failed_writes += atomic64_read(&f->failed_writes);
}

int filter_read(struct swap_device *dev, u32 slot, void *page)
{
	struct swap_filter *f = filter_of(dev);
	int ret = f->below->ops->read(f->below, slot, page);

	return ret ? ret : f->verify(f, slot, page);
}

void filter_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct swap_filter *f = filter_of(dev);

	swap_device_read_pages(f->below, io, nr);
	for (u32 i = 0; i < nr; i++) {
		if (!io[i].err)
			io[i].err = f->verify(f, io[i].slot, io[i].page);
	}
}

u32 filter_coldest(struct swap_device *dev, u64 idle_ns, u32 *slots, u32 nr)
{
	struct swap_device *below = filter_of(dev)->below;

	return below->ops->coldest(below, idle_ns, slots, nr);
}

u32 filter_demote(struct swap_device *dev, const u32 *slots, u32 nr, bool urgent)
{
	struct swap_device *below = filter_of(dev)->below;

	return below->ops->demote(below, slots, nr, urgent);
}

bool filter_is_below(struct swap_device *dev, u32 slot)
{
	struct swap_device *below = filter_of(dev)->below;

	return below->ops->is_below(below, slot);
}

u64 filter_hollow(struct swap_device *dev)
{
	struct swap_device *below = filter_of(dev)->below;

	return below->ops->hollow(below);
}

void filter_place(struct swap_device *dev, u32 slot, struct swap_place *place)
{
	swap_device_place(filter_of(dev)->below, slot, place);
}

u32 filter_sparse(struct swap_device *dev, u32 *slots, u32 nr)
{
	struct swap_device *below = filter_of(dev)->below;

	return below->ops->sparse(below, slots, nr);
}

bool filter_patches(struct swap_device *dev, u32 slot)
{
	struct swap_device *below = filter_of(dev)->below;

	return below->ops->patches(below, slot);
}

u32 filter_compact(struct swap_device *dev, const u32 *slots, u32 nr, u32 *nr_pages)
{
	struct swap_device *below = filter_of(dev)->below;

	return below->ops->compact(below, slots, nr, nr_pages);
}

int filter_begin(struct swap_device *dev, bool forked, int *fds)
{
	return swap_device_begin(filter_of(dev)->below, forked, fds);
}

int filter_fork_begin(struct swap_device *dev)
{
	return swap_device_fork_begin(filter_of(dev)->below);
}

void filter_fork_parent(struct swap_device *dev, int pid)
{
	swap_device_fork_parent(filter_of(dev)->below, pid);
}

int filter_fork_child(struct swap_device *dev)
{
	return swap_device_fork_child(filter_of(dev)->below);
}

void filter_close(struct swap_filter *f)
{
	f->below->ops->close(f->below);
	page_account_uncharge(&f->account, atomic64_read(&f->account.nr_pages));
}

static bool switch_is_on(enum swap_switch value, bool by_default)
{
	return value == SWITCH_DEFAULT ? by_default : value == SWITCH_ON;
}

int filters_open(const struct swap_device_config *cfg, bool external, struct swap_device **dev)
{
	bool crypt = switch_is_on(cfg->crypt, external);
	int ret = 0;

	if (cfg->delay.read_ns || cfg->delay.write_ns || cfg->delay.async)
		ret = filter_delay_open(*dev, &cfg->delay, dev);
	if (!ret && cfg->errors.nr)
		ret = filter_error_open(*dev, &cfg->errors, dev);
	if (!ret && crypt)
		ret = filter_crypt_open(*dev, dev);
	/* What crypt lets pass is authentic already. */
	if (!ret && switch_is_on(cfg->checksum, external && !crypt))
		ret = filter_checksum_open(*dev, dev);
	if (!ret && cfg->stats)
		ret = filter_stats_open(*dev, cfg->times, dev);
	if (ret)
		(*dev)->ops->close(*dev);
	return ret;
}
