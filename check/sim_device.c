// SPDX-License-Identifier: MIT
#include "sim_device.h"

#include <errno.h>
#include <string.h>

#include "trace.h"

static struct sim_device *device_of(struct swap_device *dev)
{
	return container_of(dev, struct sim_device, dev);
}

static void slot_step(struct sim_device *d, u32 slot, const void *page)
{
	struct sched_use uses[2];
	u32 nr = 0;

	if (!sched_running())
		return;
	uses[nr++] = (struct sched_use){ .obj = sched_object_of(&d->slot[slot]), .write = true };
	if (world_is_frame(page))
		uses[nr++] = (struct sched_use){ .obj = sched_object_of(page), .write = true };
	sched_op_many(uses, nr);
}

/* Part of the step at hand: what all slots have in common. */
static void device_use(const void *field, bool write)
{
	if (sched_running())
		sched_also(sched_object_of(field), write);
}

/* An operation takes time: two of them may meet on a slot, or on the frame that it goes to or comes from. */
static void slot_begin(struct sim_device *d, u32 slot, bool write, const void *page)
{
	must(slot < d->dev.nr_slots);
	slot_step(d, slot, page);
	device_use(&d->is_closed, false);
	if (d->is_closed)
		sched_found(FOUND_DEVICE, "%s is used after it was closed", d->dev.name);
	if (world_cfg()->reports_misuse && d->users[slot])
		sched_found(FOUND_DEVICE, "two operations on slot %u at a time", slot);
	d->users[slot]++;
	world_frame_use(page, !write, true);
}

static void slot_end(struct sim_device *d, u32 slot, bool write, const void *page)
{
	slot_step(d, slot, page);
	d->users[slot]--;
	world_frame_use(page, !write, false);
}

static int sim_read(struct swap_device *dev, u32 slot, void *page)
{
	struct sim_device *d = device_of(dev);
	struct content *to = page;
	int ret = 0;

	slot_begin(d, slot, false, page);
	device_use(&d->fail_reads, d->fail_reads > 0);
	if (d->fail_reads || (d->bad && d->full[slot] && d->slot[slot].word[0] == d->bad)) {
		d->fail_reads -= d->fail_reads > 0;
		*to = (struct content){ { GARBAGE, GARBAGE } };
		trace_slot("read failed:", d, slot, NULL);
		ret = -EIO;
	} else if (!d->full[slot]) {
		if (world_cfg()->reports_misuse)
			sched_found(FOUND_DEVICE, "slot %u is read, and has no data", slot);
		*to = (struct content){ { GARBAGE, GARBAGE } };
		trace_slot("read", d, slot, to);
	} else {
		*to = d->slot[slot];
		trace_slot("read", d, slot, to);
	}
	slot_end(d, slot, false, page);
	return ret;
}

static int sim_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct sim_device *d = device_of(dev);
	int ret = 0;

	slot_begin(d, slot, true, page);
	device_use(&d->stuck, false);
	while (d->stuck && sched_running())
		sync_wait32(&d->writing, 0);
	device_use(&d->fail_writes, d->fail_writes > 0);
	if (d->fail_writes) {
		d->fail_writes--;
		trace_slot("write failed:", d, slot, page);
		ret = -EIO;
	} else {
		memcpy(&d->slot[slot], page, sizeof(d->slot[slot]));
		d->full[slot] = true;
		trace_slot("write", d, slot, page);
	}
	slot_end(d, slot, true, page);
	return ret;
}

static void sim_discard(struct swap_device *dev, u32 slot)
{
	struct sim_device *d = device_of(dev);

	slot_begin(d, slot, true, NULL);
	d->users[slot]--;
	d->full[slot] = false;
	trace_slot("discard", d, slot, NULL);
}

/* Any of them: the core may not rely on more. */
static u32 sim_coldest(struct swap_device *dev, u64 idle_ns, u32 *slots, u32 nr)
{
	u32 got = 0;

	(void)idle_ns;
	for (; got < nr && got < dev->nr_slots; got++)
		slots[got] = got;
	return got;
}

/* Data that moves is read at one time and found in its new place at another. */
static u32 sim_move(struct swap_device *dev, const char *what, const u32 *slots, u32 nr)
{
	struct sim_device *d = device_of(dev);
	u32 moved = 0;

	for (u32 i = 0; i < nr; i++) {
		struct content data;
		bool full;

		slot_begin(d, slots[i], true, NULL);
		data = d->slot[slots[i]];
		full = d->full[slots[i]];
		trace_slot(what, d, slots[i], NULL);
		slot_end(d, slots[i], true, NULL);
		d->slot[slots[i]] = data;
		d->full[slots[i]] = full;
		moved += full;
	}
	return moved;
}

static u32 sim_demote(struct swap_device *dev, const u32 *slots, u32 nr, bool urgent)
{
	(void)urgent;
	return sim_move(dev, "demote", slots, nr);
}

static u32 sim_sparse(struct swap_device *dev, u32 *slots, u32 nr)
{
	return sim_coldest(dev, 0, slots, nr);
}

static u32 sim_compact(struct swap_device *dev, const u32 *slots, u32 nr, u32 *nr_pages)
{
	*nr_pages = 0;
	return sim_move(dev, "compact", slots, nr);
}

static bool sim_is_below(struct swap_device *dev, u32 slot)
{
	(void)dev;
	(void)slot;
	return false;
}

static u64 sim_hollow(struct swap_device *dev)
{
	(void)dev;
	return 0;
}

static bool sim_patches(struct swap_device *dev, u32 slot)
{
	(void)dev;
	(void)slot;
	return true;
}

static void sim_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	(void)dev;
	*stats = (struct swap_device_stats){ 0 };
}

static void sim_close(struct swap_device *dev)
{
	struct sim_device *d = device_of(dev);

	for (u32 i = 0; i < dev->nr_slots; i++) {
		slot_step(d, i, NULL);
		if (d->users[i])
			sched_found(FOUND_DEVICE, "%s is closed while it works on slot %u", dev->name, i);
	}
	device_use(&d->is_closed, true);
	d->is_closed = true;
}

static const struct swap_device_ops sim_ops = {
	.read = sim_read,
	.write = sim_write,
	.discard = sim_discard,
	.stats = sim_stats,
	.coldest = sim_coldest,
	.demote = sim_demote,
	.is_below = sim_is_below,
	.hollow = sim_hollow,
	.sparse = sim_sparse,
	.compact = sim_compact,
	.patches = sim_patches,
	.close = sim_close,
};

void sim_device_init(struct sim_device *d, const char *name, const struct world_config *cfg)
{
	*d = (struct sim_device){ 0 };
	d->dev = (struct swap_device){
		.ops = &sim_ops,
		.name = name,
		.prio = SWAP_PRIO_DEFAULT,
		.flags = (cfg->asynchronous ? 0u : SWAP_SYNCHRONOUS_IO) | (cfg->discard ? SWAP_DISCARD : 0u) |
			 (cfg->demotes ? SWAP_DEMOTES : 0u) | (cfg->compacts ? SWAP_COMPACTS : 0u) |
			 (cfg->patches ? SWAP_PATCHES : 0u),
		.nr_slots = cfg->nr_slots,
	};
	must(cfg->nr_slots <= WORLD_SLOTS_MAX);
}

void sim_device_unstick(struct sim_device *d)
{
	device_use(&d->stuck, true);
	d->stuck = false;
	atomic32_set(&d->writing, 1);
	sync_wake32_all(&d->writing);
}
