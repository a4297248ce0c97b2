/* SPDX-License-Identifier: MIT */
/*
 * Filters: swap devices that stand before another one and change what passes. filters_open() stacks them in one
 * order, so that what `error` and `delay` do to a device happens below `checksum` and `crypt`, as if the device did it:
 *
 *   core -> stats -> checksum -> crypt -> error -> delay -> device
 *
 * A filter has the name, the size and the flags of what is below it, and passes batches on as batches. Each open
 * takes the device below over, unless it fails. As for all devices: any thread, also signal handlers.
 */
#pragma once

#include "swap/pages.h"
#include "swap/swap_device.h"
#include "sync/atomic.h"

struct swap_filter {
	struct swap_device dev; /* as the core sees it */
	struct swap_device *below;
	struct page_account account; /* memory of the filter's own */
	/* What the device below does not know to have failed. */
	struct atomic64 failed_reads, failed_writes;
	/* For filter_read and filter_read_pages: what comes of a page that the device below has read. */
	int (*verify)(struct swap_filter *f, u32 slot, void *page);
};

static inline struct swap_filter *filter_of(struct swap_device *dev)
{
	return container_of(dev, struct swap_filter, dev);
}

/*
 * Puts the filters that are asked for, or that an external device has by default, before *dev. On failure *dev is
 * closed.
 */
int must_check filters_open(const struct swap_device_config *cfg, bool external, struct swap_device **dev);

/* Makes *f a device before `below`, which from here on charges through it. */
void filter_init(struct swap_filter *f, const struct swap_device_ops *ops, struct swap_device *below);

/*
 * As ops of filters that have nothing to add: they do what the device below does, and report the filter's own part; the
 * reads let `verify` have its word.
 */
void filter_discard(struct swap_device *dev, u32 slot);
void filter_report(struct swap_device *dev, struct swap_device_stats *stats);
int filter_read(struct swap_device *dev, u32 slot, void *page);
void filter_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr);
u32 filter_coldest(struct swap_device *dev, u64 idle_ns, u32 *slots, u32 nr);
u32 filter_demote(struct swap_device *dev, const u32 *slots, u32 nr, bool urgent);
bool filter_is_below(struct swap_device *dev, u32 slot);
u64 filter_hollow(struct swap_device *dev);
void filter_place(struct swap_device *dev, u32 slot, struct swap_place *place);
u32 filter_sparse(struct swap_device *dev, u32 *slots, u32 nr);
bool filter_patches(struct swap_device *dev, u32 slot);
u32 filter_compact(struct swap_device *dev, const u32 *slots, u32 nr, u32 *nr_pages);
int filter_begin(struct swap_device *dev, bool forked, int *fds);
int filter_fork_begin(struct swap_device *dev);
void filter_fork_parent(struct swap_device *dev, int pid);
int filter_fork_child(struct swap_device *dev);

/* Rows that the ops of every filter have: what concerns the device below alone. */
#define FILTER_PASSES_ON                                                                                               \
	.coldest = filter_coldest, .demote = filter_demote, .is_below = filter_is_below, .begin = filter_begin,        \
	.sparse = filter_sparse, .compact = filter_compact, .fork_begin = filter_fork_begin,                           \
	.fork_parent = filter_fork_parent, .place = filter_place, .patches = filter_patches, .hollow = filter_hollow

/* Closes what is below and gives the charges back; the filter's own memory is still to be freed. */
void filter_close(struct swap_filter *f);

/* Log2 histogram: bucket n holds calls that took less than 2^n ns, and the last one all others. */
enum { SWAP_TIMES_BUCKETS = 40 };

struct swap_op_times {
	struct atomic64 pages, errors;
	struct atomic64 ns, ns_max;
	struct atomic64 calls[SWAP_TIMES_BUCKETS]; /* a batch is one call */
};

/* Plain memory without pointers, which may be shared. Any thread adds; sums may lag by the calls in flight. */
struct swap_times {
	struct swap_op_times read, write;
};

u64 swap_times_calls(const struct swap_op_times *t);

/* The upper end, in ns, of the bucket below which lie `percent` of the calls; never above the maximum. 0: no calls. */
u64 swap_times_percentile(const struct swap_op_times *t, u32 percent);

/* Counts in *times, or in memory of its own if that is NULL, and always so in a forked child. */
int must_check filter_stats_open(struct swap_device *below, struct swap_times *times, struct swap_device **out);

/* Keeps XXH3-64 of each page: 8 bytes a slot. What comes back changed is -EBADMSG. */
int must_check filter_checksum_open(struct swap_device *below, struct swap_device **out);

/*
 * AES-256-GCM with a key of this process: 24 bytes a slot. What was changed, comes from another slot or from an
 * earlier write is -EBADMSG. -EOPNOTSUPP, -ELIBBAD as swap_device_open().
 */
int must_check filter_crypt_open(struct swap_device *below, struct swap_device **out);

int must_check filter_error_open(struct swap_device *below, const struct swap_errors *errors, struct swap_device **out);

int must_check filter_delay_open(struct swap_device *below, const struct swap_delay *delay, struct swap_device **out);

/* "TIME" or "read:TIME+write:TIME", "+async" after it. 0 or -EINVAL. */
int must_check swap_delay_parse(const char *text, struct swap_delay *delay);

/* "RULE+RULE...", a rule being words joined by ':', such as "read:corrupt:rate=1/100:count=5". 0 or -EINVAL. */
int must_check swap_errors_parse(const char *text, struct swap_errors *errors);
