// SPDX-License-Identifier: MIT
#include "preload/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/print.h"
#include "base/spares.h"
#include "fault/gate.h"
#include "mm/budget.h"
#include "mm/swapoff.h"
#include "preload/signals.h"
#include "sync/thread.h"
#include "sync/wait.h"
#include "tree/swaps.h"

enum { STEP_PAGES = 128, NOT_OPEN = -1, NONE = SWAPS_DEVICES_MAX };

#define RECALL_NS 2000000000ull
#define LOOK_NS 10000000ull

/* Written at start, by the thread inside the gate, and in a forked child. */
static struct {
	struct swaps *swaps; /* NULL: there is no list */
	struct run_counters *counters;
	enum swap_switch recompress; /* of what goes below */
	struct swaps_row *row;
	struct sync_thread thread;
	bool started, refused; /* there is no memory for it */
	int type[SWAPS_DEVICES_MAX]; /* what the mm calls it, or NOT_OPEN */
	struct swap_device *lower[SWAPS_DEVICES_MAX]; /* of the device before, which closes it; or NULL */
	u32 failed[SWAPS_DEVICES_MAX]; /* the request that could not be carried out, and is not tried again */
	u32 leaving; /* the device that `off` takes off, NONE: none */
	struct swapoff off;
} devices = { .leaving = NONE };

/* ---- opening ---- */

static int open_one(struct mm *mm, const char *spec, struct swap_device *lower, struct swap_device **out, char *err,
		    size_t err_size)
{
	struct swap_device_config cfg;
	int ret = swap_device_parse(spec, &cfg, err, err_size);

	if (ret)
		return ret;
	if (!cfg.size)
		cfg.size = mm_default_swap_bytes(mm);
	cfg.times = &devices.counters->times;
	cfg.lower = lower;
	cfg.recompress = devices.recompress;
	cfg.lower_counts = &devices.counters->lower;
	ret = swap_device_open(&cfg, out);
	if (ret)
		print_to(err, err_size, "%s",
			 ret == -EOPNOTSUPP ? "this processor has no AES for the swap device's crypt; say crypt=off"
					    : "the swap device cannot be opened");
	return ret;
}

/* On error `lower` is closed, too. */
static int open_with(struct mm *mm, const char *spec, struct swap_device *lower, struct swap_device **out, char *err,
		     size_t err_size)
{
	int ret = open_one(mm, spec, lower, out, err, err_size);

	if (ret && lower)
		lower->ops->close(lower);
	return ret;
}

static int swap_on(struct mm *mm, struct swap_device *dev, char *err, size_t err_size)
{
	int ret = mm_swapon(mm, dev);

	if (!ret)
		return 0;
	dev->ops->close(dev);
	print_to(err, err_size, "the swap devices cannot be opened");
	return ret;
}

/* The program may close what it likes, but not what is kept for devices. */
static bool is_guarded(struct swap_device *dev)
{
	int fds[SWAP_FDS_MAX], nr = swap_device_begin(dev, true, fds);

	for (int i = 0; i < nr; i++) {
		if (!spares_has(fds[i]))
			return false;
	}
	return nr >= 0;
}

/* From memory that others can write to. */
static int open_one_listed(struct mm *mm, const struct swaps_device *listed, struct swap_device *lower,
			   struct swap_device **out, char *err, size_t err_size)
{
	char spec[SWAPS_SPEC];

	memcpy(spec, listed->spec, sizeof(spec));
	spec[sizeof(spec) - 1] = '\0';
	return open_with(mm, spec, lower, out, err, err_size);
}

/* `late`: memory is managed already. */
static int open_listed(struct mm *mm, u32 at, bool late, char *err, size_t err_size)
{
	struct swaps_device *listed = &devices.swaps->device[at];
	bool tiered = at + 1 < SWAPS_DEVICES_MAX && at + 1 < atomic32_load_acquire(&devices.swaps->nr_devices) &&
		      listed[1].below;
	struct swap_device *lower = NULL, *dev;
	int ret = tiered ? open_one_listed(mm, listed + 1, NULL, &lower, err, err_size) : 0;

	if (!ret)
		ret = open_one_listed(mm, listed, lower, &dev, err, err_size);
	if (ret)
		return ret;
	dev->prio = listed->prio;
	if (late && !is_guarded(dev)) {
		dev->ops->close(dev);
		return -EMFILE;
	}
	ret = swap_on(mm, dev, err, err_size);
	if (ret)
		return ret;
	devices.type[at] = (int)atomic32_read(&mm->nr_swap) - 1;
	if (tiered)
		devices.lower[at + 1] = lower;
	return 0;
}

/* What is taken off at this very moment may be gone already. */
static int open_list(struct mm *mm, char *err, size_t err_size)
{
	u32 nr = (u32)min_u64(atomic32_load_acquire(&devices.swaps->nr_devices), SWAPS_DEVICES_MAX);

	for (u32 i = 0; i < nr; i++) {
		struct swaps_device *listed = &devices.swaps->device[i];
		int ret = 0;

		if (swaps_state(listed) == SWAPS_ON && !listed->below)
			ret = open_listed(mm, i, false, err, err_size);
		if (ret && swaps_state(listed) == SWAPS_ON)
			return ret;
	}
	return 0;
}

/* Cuts the next line off *specs; false: there is none. */
static bool next_spec(const char **specs, char *spec, size_t size)
{
	size_t len = strcspn(*specs, "\n");

	if (!len || len >= size)
		return false;
	memcpy(spec, *specs, len);
	spec[len] = '\0';
	*specs += len + ((*specs)[len] != '\0');
	return true;
}

/* In the order of the environment, but that zram, the first, has the second below it. */
static int open_environment(struct mm *mm, bool tiered, char *err, size_t err_size)
{
	const char *specs = getenv(WEIR_ENV_SWAP);
	char spec[4 * SWAP_TEXT_SIZE], next[4 * SWAP_TEXT_SIZE];
	int ret = 0;

	if (!specs || !specs[0])
		specs = "zram";
	tiered = tiered && !strncmp(specs, "zram", 4);
	while (!ret && next_spec(&specs, spec, sizeof(spec))) {
		struct swap_device *lower = NULL, *dev;

		if (tiered && next_spec(&specs, next, sizeof(next)))
			ret = open_one(mm, next, NULL, &lower, err, err_size);
		tiered = false;
		if (!ret)
			ret = open_with(mm, spec, lower, &dev, err, err_size);
		if (!ret)
			ret = swap_on(mm, dev, err, err_size);
	}
	if (ret || !specs[0])
		return ret;
	print_to(err, err_size, "the swap devices cannot be opened");
	return -EINVAL;
}

int devices_open(struct mm *mm, struct run_counters *counters, char *err, size_t err_size)
{
	const char *path = getenv(WEIR_ENV_SWAPS);
	struct swap_writeback writeback;

	devices.counters = counters;
	for (u32 i = 0; i < SWAPS_DEVICES_MAX; i++)
		devices.type[i] = NOT_OPEN;
	if (swap_writeback_parse(getenv(WEIR_ENV_WRITEBACK), &writeback)) {
		print_to(err, err_size, "WEIR_WRITEBACK is not what weir run --writeback takes");
		return -EINVAL;
	}
	devices.recompress = writeback.recompress;
	if (path && !swaps_open(path, &devices.swaps))
		return open_list(mm, err, err_size);
	devices.swaps = NULL;
	return open_environment(mm, !writeback.off, err, err_size);
}

bool devices_may_change(void)
{
	return devices.swaps != NULL;
}

/* ---- following the list: the thread, inside the gate ---- */

static void failed(u32 at, u32 seq, int err)
{
	devices.failed[at] = seq;
	atomic32_set(&devices.row->culprit, at);
	atomic32_set(&devices.row->error, (u32)-err);
}

static void switch_on(struct mm *mm, u32 at, u32 seq)
{
	char ignored[160];
	u64 nofile;
	int ret;

	if (devices.type[at] != NOT_OPEN) {
		swapoff_cancel(mm, (u32)devices.type[at]);
		if (devices.leaving == at)
			devices.leaving = NONE;
		return;
	}
	nofile = os_nofile_raise();
	ret = open_listed(mm, at, true, ignored, sizeof(ignored));
	os_nofile_restore(nofile);
	if (ret)
		failed(at, seq, ret);
}

/* True: there is more to do. One device at a time. */
static bool switch_off(struct mm *mm, u32 at, u32 seq)
{
	int ret;

	if (devices.type[at] == NOT_OPEN || (devices.leaving != NONE && devices.leaving != at))
		return devices.type[at] != NOT_OPEN;
	ret = devices.leaving == at ? 0 : swapoff_begin(mm, (u32)devices.type[at], &devices.off);
	if (!ret) {
		devices.leaving = at;
		ret = swapoff_step(mm, &devices.off, STEP_PAGES);
	}
	if (ret > 0)
		return true;
	devices.leaving = NONE;
	if (ret) {
		failed(at, seq, ret);
		return false;
	}
	devices.type[at] = NOT_OPEN;
	if (at + 1 < SWAPS_DEVICES_MAX)
		devices.lower[at + 1] = NULL;
	return false;
}

/* What this process has there, for whoever asks. */
static void tell(struct mm *mm, u32 at)
{
	struct swap_device_stats stats = { 0 };
	struct swap_device *dev = devices.lower[at];
	u64 used, size;

	if (devices.type[at] != NOT_OPEN)
		dev = mm->swap[devices.type[at]].dev;
	atomic32_set(&devices.row->device[at].on, dev != NULL);
	if (!dev)
		return;
	dev->ops->stats(dev, &stats);
	used = devices.lower[at] ? stats.orig_data_size >> PAGE_SHIFT : atomic64_read(&mm->swap[devices.type[at]].used);
	size = dev->nr_slots;
	atomic64_set(&devices.row->device[at].used, used);
	atomic64_set(&devices.row->device[at].size, size);
	atomic64_set(&devices.row->device[at].stored, stats.mem_used_total >> PAGE_SHIFT);
}

/* One round over all devices. True: there is more to do. */
static bool follow(struct mm *mm, u32 seq)
{
	u32 nr = (u32)min_u64(atomic32_load_acquire(&devices.swaps->nr_devices), SWAPS_DEVICES_MAX);
	bool more = false;

	for (u32 i = 0; i < nr; i++) {
		struct swaps_device *listed = &devices.swaps->device[i];
		enum swaps_state state = swaps_state(listed);

		if (state == SWAPS_NONE || listed->below || devices.failed[i] == seq)
			continue;
		if (state == SWAPS_ON)
			switch_on(mm, i, seq);
		else
			more |= switch_off(mm, i, seq);
	}
	for (u32 i = 0; i < nr; i++)
		tell(mm, i);
	if (more)
		return true;
	atomic64_set(&devices.row->swapped, swapoff_nr_absent(mm));
	atomic64_set(&devices.row->resident, budget_resident(budget_used(mm)));
	atomic64_set(&devices.row->limit, budget_limit(mm));
	return false;
}

static void devices_main(void *arg)
{
	struct mm *mm = arg;
	u32 last = 0;

	devices.row = swaps_enter(devices.swaps, sync_thread_id());
	if (!devices.row)
		return;
	for (;;) {
		u32 seq = atomic32_load_acquire(&devices.swaps->seq), shard;
		bool more;

		if (seq != last)
			atomic32_set(&devices.row->error, 0);
		last = seq;
		shard = gate_enter(&core_gate);
		more = follow(mm, seq);
		gate_leave(&core_gate, shard);
		if (more)
			continue;
		atomic32_store_release(&devices.row->done, seq);
		sync_wake32_all(&devices.row->done);
		swaps_wait(devices.swaps, seq);
	}
}

/* ---- life ---- */

void devices_start(struct mm *mm)
{
	if (!devices.swaps || devices.started || signals_in_vfork_child())
		return;
	devices.started = sync_thread_start(&devices.thread, devices_main, mm) == 0;
	devices.refused = !devices.started;
}

bool devices_are_late(const struct mm *mm)
{
	return devices.swaps && !devices.started && !devices.refused && mm_is_adopted(mm);
}

void devices_fork_child(struct mm *mm)
{
	if (devices.started)
		sync_thread_forget(&devices.thread);
	devices.started = false;
	devices.row = NULL;
	if (devices.leaving != NONE)
		swapoff_cancel(mm, (u32)devices.type[devices.leaving]);
	devices.leaving = NONE;
	/* Numbers of requests begin at 1. */
	memset(devices.failed, 0, sizeof(devices.failed));
}

bool devices_recall(void)
{
	struct swaps_row *row = devices.row;
	u64 deadline;
	u32 seq;

	if (!devices.swaps || !swaps_recall(devices.swaps))
		return false;
	if (!row || atomic32_read(&row->tid) == sync_thread_id())
		return true;
	seq = atomic32_load_acquire(&devices.swaps->seq);
	deadline = sync_clock_ns() + RECALL_NS;
	while (sync_clock_ns() < deadline) {
		u32 done = atomic32_load_acquire(&row->done);

		if ((int)(done - seq) >= 0)
			break;
		sync_wait32_timeout(&row->done, done, LOOK_NS);
	}
	return true;
}
