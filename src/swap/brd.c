// SPDX-License-Identifier: MIT
/*
 * One page of memory per slot, there from its first write until some time after its discard: discarded pages are
 * collected and go back to the kernel many at a time.
 *
 *   EMPTY --write: charge--> USED --discard--> DISCARDED --batch full: release, uncharge--> EMPTY
 *                             ^                    |
 *                             +-------write--------+
 *
 * USED is entered and left by the holder of the slot's pin only. DISCARDED slots stand in the batch and may turn EMPTY
 * under anyone's hands: they are changed under `lock`.
 */
#include "swap/brd.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/os.h"
#include "swap/counters.h"
#include "swap/pages.h"
#include "sync/lock.h"

enum brd_slot_state { SLOT_EMPTY = 0, SLOT_USED, SLOT_DISCARDED };

enum { DISCARDED_MAX = 64 };

struct brd {
	struct swap_device dev;
	u64 read_delay_ns;
	struct page_account account;
	char *data;
	struct atomic32 *states; /* enum brd_slot_state, by slot */

	struct mutex lock; /* guards what follows, and states from and to DISCARDED */
	u32 nr_discarded;
	u32 discarded[DISCARDED_MAX]; /* slots; one that was written again since is no longer DISCARDED, and one
					 discarded twice stands here twice */
	struct page_batch batch;

	struct swap_counters counters;
};

static struct brd *brd_of(struct swap_device *dev)
{
	return container_of(dev, struct brd, dev);
}

static char *brd_page(struct brd *b, u32 slot)
{
	must(slot < b->dev.nr_slots);
	return b->data + ((size_t)slot << PAGE_SHIFT);
}

/* Relaxed: the pin orders USED; whoever sees DISCARDED or EMPTY looks again under the lock or is the pin's holder. */
static enum brd_slot_state brd_state(const struct brd *b, u32 slot)
{
	return (enum brd_slot_state)atomic32_read(&b->states[slot]);
}

static void brd_set_state(struct brd *b, u32 slot, enum brd_slot_state state)
{
	atomic32_set(&b->states[slot], state);
}

static void brd_release_discarded_locked(struct brd *b)
{
	must(mutex_is_locked(&b->lock));
	for (u32 i = 0; i < b->nr_discarded; i++) {
		u32 slot = b->discarded[i];

		if (brd_state(b, slot) != SLOT_DISCARDED)
			continue;
		brd_set_state(b, slot, SLOT_EMPTY);
		page_batch_add(&b->batch, brd_page(b, slot), 1);
	}
	b->nr_discarded = 0;
	page_account_uncharge(&b->account, page_batch_flush(&b->batch));
}

/* Makes the slot's page writable: taken back from the discarded ones, or charged. */
static int brd_claim(struct brd *b, u32 slot)
{
	int ret = 0;

	mutex_lock(&b->lock);
	if (brd_state(b, slot) == SLOT_EMPTY) {
		ret = page_account_charge(&b->account, 1);
		if (ret) {
			brd_release_discarded_locked(b);
			ret = page_account_charge(&b->account, 1);
		}
	}
	if (!ret)
		brd_set_state(b, slot, SLOT_USED);
	mutex_unlock(&b->lock);
	return ret;
}

static int brd_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct brd *b = brd_of(dev);
	char *data = brd_page(b, slot);

	if (brd_state(b, slot) != SLOT_USED) {
		if (brd_claim(b, slot) != 0) {
			swap_counter_add(&b->counters, slot, COUNT_FAILED_WRITES, 1);
			return -ENOSPC;
		}
		swap_counter_add(&b->counters, slot, COUNT_PAGES, 1);
		swap_counter_add(&b->counters, slot, COUNT_COMPR_BYTES, PAGE_SIZE);
	}
	memcpy(data, page, PAGE_SIZE);
	return 0;
}

static int brd_read(struct swap_device *dev, u32 slot, void *page)
{
	struct brd *b = brd_of(dev);
	const char *data = brd_page(b, slot);

	if (brd_state(b, slot) != SLOT_USED) {
		swap_counter_add(&b->counters, slot, COUNT_FAILED_READS, 1);
		return -EIO;
	}
	memcpy(page, data, PAGE_SIZE);
	/* After the copy: what the caller holds grows stale meanwhile, which is what the delay is for. */
	if (b->read_delay_ns)
		os_sleep_until_ns(sync_clock_ns() + b->read_delay_ns);
	return 0;
}

static void brd_discard(struct swap_device *dev, u32 slot)
{
	struct brd *b = brd_of(dev);

	must(slot < b->dev.nr_slots);
	if (brd_state(b, slot) != SLOT_USED)
		return;
	swap_counter_add(&b->counters, slot, COUNT_PAGES, -(u64)1);
	swap_counter_add(&b->counters, slot, COUNT_COMPR_BYTES, -(u64)PAGE_SIZE);
	mutex_lock(&b->lock);
	brd_set_state(b, slot, SLOT_DISCARDED);
	b->discarded[b->nr_discarded++] = slot;
	if (b->nr_discarded == DISCARDED_MAX)
		brd_release_discarded_locked(b);
	mutex_unlock(&b->lock);
}

static void brd_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	struct brd *b = brd_of(dev);

	swap_counters_report(&b->counters, stats);
	stats->mem_used_total = pages_to_bytes(atomic64_read(&b->account.nr_pages));
	stats->mem_used_max = pages_to_bytes(atomic64_read(&b->account.nr_pages_max));
}

static void brd_close(struct swap_device *dev)
{
	struct brd *b = brd_of(dev);

	os_unreserve(b->data, (size_t)b->dev.nr_slots << PAGE_SHIFT);
	os_unreserve(b->states, b->dev.nr_slots * sizeof(*b->states));
	page_account_uncharge(&b->account, atomic64_read(&b->account.nr_pages));
	os_unreserve(b, sizeof(*b));
}

static const struct swap_device_ops brd_ops = {
	.read = brd_read,
	.write = brd_write,
	.discard = brd_discard,
	.stats = brd_stats,
	.close = brd_close,
};

static int brd_open(const struct swap_device_config *cfg, struct swap_device **out)
{
	struct brd *b = os_reserve(sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->dev = (struct swap_device){
		.ops = &brd_ops,
		.name = brd_driver.name,
		.flags = SWAP_SYNCHRONOUS_IO | SWAP_DISCARD,
		.nr_slots = (u32)(cfg->size >> PAGE_SHIFT),
	};
	b->read_delay_ns = cfg->read_delay_ns;
	b->account.memory = &b->dev.memory;
	b->data = pages_reserve((size_t)b->dev.nr_slots << PAGE_SHIFT);
	b->states = pages_reserve(b->dev.nr_slots * sizeof(*b->states));
	if (!b->data || !b->states) {
		brd_close(&b->dev);
		return -ENOMEM;
	}
	*out = &b->dev;
	return 0;
}

const struct swap_driver brd_driver = {
	.name = "brd",
	.help = "plain memory: size=SIZE, read_delay=TIME (ns, us, ms, s)",
	.open = brd_open,
};
