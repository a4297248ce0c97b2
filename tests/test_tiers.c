// SPDX-License-Identifier: MIT
/*
 * zram with a lower device: what goes down comes back, whatever is dropped, rewritten, refused or damaged meanwhile,
 * and the lower device's pages are full, given back and used again.
 */
#include <pthread.h>

#include "device_pages.h"
#include "swap/lower.h"
#include "swap/zram.h"
#include "sync/lock.h"

enum { SLOTS = 4096, BATCH = SWAP_BATCH_MAX };

static struct page_limit account;
static struct lower_counts counts;
static struct swap_device *dev;
static struct swap_device *lower;
static enum swap_switch recompress = SWITCH_OFF; /* sizes are to be the same in each run */
static struct {
	enum page_kind kind;
	u64 number; /* 0: nothing is there */
} wanted[SLOTS];

static void setup(const char *lower_spec, u64 lower_slots)
{
	struct swap_device_config cfg;
	struct page_limit unused;
	char err[256];

	memset(&counts, 0, sizeof(counts));
	memset(wanted, 0, sizeof(wanted));
	lower = device_open(lower_spec, lower_slots, &unused);
	expect_eq(swap_device_parse("zram", &cfg, err, sizeof(err)), 0);
	cfg.size = SLOTS * PAGE_SIZE;
	cfg.lower = lower;
	cfg.lower_counts = &counts;
	cfg.recompress = recompress;
	expect_eq(swap_device_open(&cfg, &dev), 0);
	expect(dev->flags & SWAP_DEMOTES);
	dev->memory = page_limit_hooks(&account);
}

static int try_put(u32 slot, enum page_kind kind, u64 number)
{
	char page[PAGE_SIZE];
	int ret;

	page_make(page, kind, number);
	ret = dev->ops->write(dev, slot, page);
	if (ret)
		return ret;
	wanted[slot].kind = kind;
	wanted[slot].number = number;
	return 0;
}

static void put(u32 slot, enum page_kind kind, u64 number)
{
	expect_eq(try_put(slot, kind, number), 0);
}

static void drop(u32 slot)
{
	dev->ops->discard(dev, slot);
	wanted[slot].number = 0;
}

static bool page_is_wanted(u32 slot, const void *page)
{
	char good[PAGE_SIZE];

	page_make(good, wanted[slot].kind, wanted[slot].number);
	return !memcmp(page, good, PAGE_SIZE);
}

static void verify(u32 slot)
{
	char page[PAGE_SIZE];

	if (!wanted[slot].number)
		return;
	expect_eq(dev->ops->read(dev, slot, page), 0);
	expect(page_is_wanted(slot, page));
}

static void verify_all(void)
{
	for (u32 slot = 0; slot < SLOTS; slot++)
		verify(slot);
	expect(zram_is_valid(dev));
}

/* By batches, as the core reads ahead. */
static void verify_batches(u32 first, u32 nr)
{
	static char pages[BATCH][PAGE_SIZE];
	struct swap_io io[BATCH];

	for (u32 at = first; at < first + nr; at += BATCH) {
		u32 n = 0;

		for (u32 slot = at; slot < at + BATCH && slot < first + nr; slot++) {
			if (wanted[slot].number)
				io[n] = (struct swap_io){ .slot = slot, .page = pages[n] }, n++;
		}
		swap_device_read_pages(dev, io, n);
		for (u32 i = 0; i < n; i++) {
			expect_eq(io[i].err, 0);
			expect(page_is_wanted(io[i].slot, io[i].page));
		}
	}
}

/* Until nothing more goes down, or `most` runs; returns how many slots went. */
static u32 demote(u64 idle_ns, u32 most)
{
	u32 slots[BATCH], moved = 0, now = 1;

	for (u32 runs = 0; now && runs < most; runs++) {
		u32 nr = dev->ops->coldest(dev, idle_ns, slots, BATCH);

		now = nr ? dev->ops->demote(dev, slots, nr, false) : 0;
		moved += now;
	}
	return moved;
}

static u32 count_below(void)
{
	u32 nr = 0;

	for (u32 slot = 0; slot < SLOTS; slot++)
		nr += dev->ops->is_below(dev, slot);
	return nr;
}

static u64 lower_used(void)
{
	struct swap_device_stats stats = { 0 };

	lower->ops->stats(lower, &stats);
	return stats.orig_data_size >> PAGE_SHIFT;
}

static void teardown(void)
{
	for (u32 slot = 0; slot < SLOTS; slot++)
		drop(slot);
	expect_eq(lower_used(), 0);
	dev->ops->close(dev);
	expect_eq(atomic64_read(&account.charged), 0);
}

static void test_pages_below_are_full(void)
{
	struct swap_device_stats stats = { 0 };
	u64 stored, bytes;

	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 2048; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	dev->ops->stats(dev, &stats);
	bytes = stats.compr_data_size;
	stored = atomic64_read(&account.charged);
	expect_eq(demote(0, UINT32_MAX), 2048);
	expect_eq(count_below(), 2048);
	/* All but the end of each batch, and the places that two pages without a neighbour leave. */
	expect(lower_used() * PAGE_SIZE <= bytes + bytes / 16);
	expect_eq(atomic64_read(&counts.pages_down), lower_used());
	expect_eq(atomic64_read(&counts.objects_down), 2048);
	/* brd's pages are charged as well. */
	expect(atomic64_read(&account.charged) - lower_used() < stored);
	verify_all();
	verify_batches(0, 2048);
	expect_eq(atomic64_read(&counts.errors), 0);
	teardown();
}

/* What zstd makes smaller goes down so; all of it comes back, also when it is packed again; damage is found. */
static void test_recompression(void)
{
	struct swap_device_stats before = { 0 }, after = { 0 };
	char page[PAGE_SIZE];
	u64 saved;

	recompress = SWITCH_ON;
	setup("brd", 1024);
	for (u32 slot = 0; slot < 2048; slot++)
		put(slot, slot % 8 == 7 ? PAGE_RANDOM : PAGE_TEXT, slot + 1);
	dev->ops->stats(dev, &before);
	demote(0, UINT32_MAX);
	expect(count_below() > 1024);
	dev->ops->stats(dev, &after);
	saved = atomic64_read(&counts.bytes_saved);
	expect(atomic64_read(&counts.recompressed) > 512);
	expect(saved > 0);
	expect_eq(before.compr_data_size - after.compr_data_size, saved);
	verify_all();
	verify_batches(0, 2048);
	/* Sparse pages of it are packed again, as they are. */
	for (u32 slot = 0; slot < 2048; slot++) {
		if (slot % 16 && dev->ops->is_below(dev, slot))
			drop(slot);
	}
	demote(UINT64_MAX, 64);
	verify_all();
	expect(dev->ops->is_below(dev, 0));
	zram_corrupt_for_test(dev, 0);
	expect_eq(dev->ops->read(dev, 0, page), -EIO);
	teardown();

	/* By itself it does as many as others let it; nothing is lost. */
	recompress = SWITCH_DEFAULT;
	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 2048; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	expect_eq(demote(0, UINT32_MAX), 2048);
	expect(atomic64_read(&counts.recompressed) <= 2048);
	verify_all();
	teardown();
	recompress = SWITCH_OFF;
}

/* Nobody is made to wait for that. */
static void test_recompression_is_left_out_where_pages_wait(void)
{
	u32 slots[BATCH], nr;

	recompress = SWITCH_DEFAULT;
	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 512; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	while ((nr = dev->ops->coldest(dev, 0, slots, BATCH)) && dev->ops->demote(dev, slots, nr, true))
		;
	expect_eq(count_below(), 512);
	expect_eq(atomic64_read(&counts.recompressed), 0);
	verify_all();
	teardown();
	recompress = SWITCH_OFF;
}

static void test_same_filled_pages_stay(void)
{
	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 512; slot++)
		put(slot, slot % 2 ? PAGE_SAME : PAGE_SPARSE, slot + 1);
	expect_eq(demote(0, UINT32_MAX), 256);
	for (u32 slot = 0; slot < 512; slot++)
		expect_eq(dev->ops->is_below(dev, slot), slot % 2 == 0);
	verify_all();
	teardown();
}

/* What was used last stays; a read is a use. */
static void test_the_oldest_go_first(void)
{
	u32 below = 0;

	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 2048; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	for (u32 slot = 0; slot < 256; slot++)
		verify(slot);
	expect(demote(0, 4) >= 128);
	for (u32 slot = 0; slot < 256; slot++)
		expect(!dev->ops->is_below(dev, slot));
	for (u32 slot = 256; slot < 1024; slot++)
		below += dev->ops->is_below(dev, slot);
	expect_eq(below, count_below());
	verify_all();
	teardown();
}

/* Before those that were used, or whose writer says so, go all others but a few. */
static void test_what_was_used_stays(void)
{
	static char page[PAGE_SIZE];
	struct swap_io io = { .page = page, .warm = true };
	u32 moved = 0;

	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 512; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	for (u32 slot = 0; slot < 256; slot++)
		verify(slot);
	for (io.slot = 512; io.slot < 768; io.slot++) {
		page_make(page, PAGE_TEXT, io.slot + 1);
		swap_device_write_pages(dev, &io, 1);
		expect_eq(io.err, 0);
		wanted[io.slot].kind = PAGE_TEXT;
		wanted[io.slot].number = io.slot + 1;
	}
	for (u32 slot = 1024; slot < 2048; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	while (moved < 1024)
		moved += demote(0, 1);
	for (u32 slot = 0; slot < 1024; slot++)
		expect_eq(dev->ops->is_below(dev, slot), slot >= 256 && slot < 512);
	expect_eq(moved + demote(0, UINT32_MAX), 1792);
	verify_all();
	teardown();
}

static void test_incompressible_pages_go_at_once(void)
{
	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 1024; slot++)
		put(slot, slot % 4 ? PAGE_TEXT : PAGE_RANDOM, slot + 1);
	/* Without need, until only a few are left. */
	expect(demote(UINT64_MAX, UINT32_MAX) > 128);
	for (u32 slot = 0; slot < 1024; slot++)
		expect(slot % 4 == 0 || !dev->ops->is_below(dev, slot));
	verify_all();
	teardown();
}

/* Places of what has gone are told, as what is stored next goes there. */
static void test_hollow(void)
{
	u64 full;

	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 2048; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	full = atomic64_read(&account.charged);
	expect(dev->ops->hollow(dev) <= full / 8);
	for (u32 slot = 0; slot < 2048; slot += 2)
		drop(slot);
	expect(dev->ops->hollow(dev) >= full / 4);
	for (u32 slot = 0; slot < 2048; slot += 2)
		put(slot, PAGE_TEXT, slot + 1);
	expect(dev->ops->hollow(dev) <= full / 8);
	expect(atomic64_read(&account.charged) <= full + full / 16);
	teardown();
}

static void test_idle(void)
{
	struct atomic32 never = { 0 };

	setup("brd", SLOTS);
	for (u32 slot = 0; slot < 256; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	expect_eq(demote(3600 * 1000000000ull, UINT32_MAX), 0);
	sync_wait32_timeout(&never, 0, 2000000);
	expect_eq(demote(1000000, UINT32_MAX), 256);
	verify_all();
	teardown();
}

static void test_pages_below_are_given_back(void)
{
	u64 seed = 7, pages;

	setup("brd", SLOTS);
	for (u32 slot = 0; slot < SLOTS; slot++)
		put(slot, slot % 8 ? PAGE_SPARSE : PAGE_RANDOM, slot + 1);
	expect_eq(demote(0, UINT32_MAX), SLOTS);
	pages = lower_used();
	for (u32 slot = 0; slot < SLOTS; slot++) {
		if (test_random(&seed) % 4)
			drop(slot);
	}
	expect(lower_used() < pages);
	verify_all();
	for (u32 round = 0; round < 8; round++) {
		for (u32 slot = 0; slot < SLOTS; slot++) {
			if (test_random(&seed) % 4 == 0)
				put(slot, test_random(&seed) % NR_PAGE_KINDS, SLOTS * (round + 1) + slot);
			else if (test_random(&seed) % 8 == 0)
				drop(slot);
		}
		demote(0, 8 + round);
		verify_all();
	}
	verify_batches(0, SLOTS);
	teardown();
}

/* A device of which every page has something that lives, and hardly more: there is room again after cleaning. */
static void test_cleaning(void)
{
	u32 below;

	setup("brd", 256);
	for (u32 slot = 0; slot < SLOTS; slot++)
		put(slot, PAGE_SPARSE, slot + 1);
	demote(0, UINT32_MAX);
	expect(lower_used() > 224);
	for (u32 slot = 0; slot < SLOTS; slot++) {
		if (slot % 16 && dev->ops->is_below(dev, slot))
			drop(slot);
	}
	demote(UINT64_MAX, 64);
	expect(lower_used() <= 224);
	for (u32 slot = 0; slot < 512; slot++) {
		if (!wanted[slot].number)
			put(slot, PAGE_TEXT, slot + 1);
	}
	below = count_below();
	expect(demote(0, 8) > 0);
	expect(count_below() > below);
	verify_all();
	teardown();
}

/* The store's copies stay where the write fails, of one page or of all. */
static void test_writes_fail(void)
{
	setup("brd:error=write:eio:rate=1/3", SLOTS);
	for (u32 slot = 0; slot < 1024; slot++)
		put(slot, slot % 8 ? PAGE_TEXT : PAGE_RANDOM, slot + 1);
	demote(0, 256);
	expect(count_below() > 256);
	expect(atomic64_read(&counts.errors) > 0);
	verify_all();
	teardown();

	setup("brd:error=write:enospc", SLOTS);
	for (u32 slot = 0; slot < 256; slot++)
		put(slot, PAGE_TEXT, slot + 1);
	expect_eq(demote(0, 16), 0);
	expect_eq(lower_used(), 0);
	verify_all();
	teardown();
}

/* An error that goes away is not told; what comes back wrong is. */
static void test_reads_fail(void)
{
	char page[PAGE_SIZE];

	setup("brd:error=read:eio:rate=1/10", SLOTS);
	for (u32 slot = 0; slot < 128; slot++)
		put(slot, PAGE_RANDOM, slot + 1);
	expect_eq(demote(0, UINT32_MAX), 128);
	for (u32 slot = 0; slot < 64; slot++)
		verify(slot);
	verify_batches(64, 64);
	teardown();

	setup("brd:error=read:corrupt", SLOTS);
	for (u32 slot = 0; slot < 64; slot++)
		put(slot, PAGE_RANDOM, slot + 1);
	expect_eq(demote(0, UINT32_MAX), 64);
	expect_eq(dev->ops->read(dev, 0, page), -EIO);
	teardown();
}

/* Memory is used up when it is to be freed: what it takes to go down was kept ready. */
static void test_memory_is_used_up(void)
{
	u32 full = 0;

	setup("file:.,crypt=on", SLOTS);
	atomic64_set(&account.limit, 1024);
	while (!try_put(full, PAGE_RANDOM, full + 1))
		full++;
	expect(full > 512 && full < 1024);
	expect(demote(0, 4) > 0);
	expect_eq(try_put(full, PAGE_RANDOM, full + 1), 0);
	verify_all();
	teardown();
}

/* ---- threads ---- */

enum { THREADS = 4, THREAD_SLOTS = 256, STEPS = 4000 };

static struct mutex pins[THREADS * THREAD_SLOTS]; /* as the core has one for each slot */
static struct atomic32 running;

static void *use_slots(void *arg)
{
	u32 first = (u32)(uintptr_t)arg * THREAD_SLOTS;
	u64 seed = first + 1;

	for (u32 step = 0; step < STEPS; step++) {
		u32 slot = first + (u32)(test_random(&seed) % THREAD_SLOTS), what = (u32)(test_random(&seed) % 8);

		mutex_lock(&pins[slot]);
		if (what == 0)
			drop(slot);
		else if (what < 4)
			put(slot, test_random(&seed) % NR_PAGE_KINDS, (u64)slot << 32 | (step + 1));
		else
			verify(slot);
		mutex_unlock(&pins[slot]);
	}
	atomic32_sub_return(&running, 1);
	return NULL;
}

/* Everything that may go, all the time. */
static void demote_under(void)
{
	u32 slots[BATCH], nr = dev->ops->coldest(dev, 0, slots, BATCH), pinned = 0;

	for (u32 i = 0; i < nr; i++) {
		if (mutex_trylock(&pins[slots[i]]))
			slots[pinned++] = slots[i];
	}
	if (pinned)
		dev->ops->demote(dev, slots, pinned, false);
	for (u32 i = 0; i < pinned; i++)
		mutex_unlock(&pins[slots[i]]);
}

static void test_threads(void)
{
	pthread_t thread[THREADS];

	setup("file:.", SLOTS);
	atomic32_set(&running, THREADS);
	for (u32 i = 0; i < THREADS; i++)
		expect_eq(pthread_create(&thread[i], NULL, use_slots, (void *)(uintptr_t)i), 0);
	while (atomic32_load_acquire(&running))
		demote_under();
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	expect(atomic64_read(&counts.objects_down) > 0);
	verify_all();
	teardown();
}

static void test_options(void)
{
	struct swap_writeback w;

	expect_eq(swap_writeback_parse(NULL, &w), 0);
	expect(!w.off && w.watermark == 75 && w.idle_ns == UINT64_MAX);
	expect_eq(swap_writeback_parse("off", &w), 0);
	expect(w.off);
	expect_eq(swap_writeback_parse("idle=2s,watermark=50", &w), 0);
	expect(!w.off && w.watermark == 50 && w.idle_ns == 2000000000);
	expect(w.recompress == SWITCH_DEFAULT);
	expect_eq(swap_writeback_parse("recompress=off", &w), 0);
	expect(w.recompress == SWITCH_OFF && w.watermark == 75);
	expect_eq(swap_writeback_parse("watermark=50,recompress=on", &w), 0);
	expect(w.recompress == SWITCH_ON && w.watermark == 50);
	expect_eq(swap_writeback_parse("recompress=auto", &w), 0);
	expect(w.recompress == SWITCH_DEFAULT);
	expect_eq(swap_writeback_parse("recompress=some", &w), -EINVAL);
	expect_eq(swap_writeback_parse("recompress", &w), -EINVAL);
	expect_eq(swap_writeback_parse("on", &w), -EINVAL);
	expect_eq(swap_writeback_parse("watermark=0", &w), -EINVAL);
	expect_eq(swap_writeback_parse("watermark=100", &w), -EINVAL);
	expect_eq(swap_writeback_parse("idle=0s", &w), -EINVAL);
	expect_eq(swap_writeback_parse("idle", &w), -EINVAL);
	expect_eq(swap_writeback_parse("", &w), -EINVAL);
}

int main(void)
{
	run_test(test_options);
	run_test(test_pages_below_are_full);
	run_test(test_recompression);
	run_test(test_recompression_is_left_out_where_pages_wait);
	run_test(test_same_filled_pages_stay);
	run_test(test_the_oldest_go_first);
	run_test(test_what_was_used_stays);
	run_test(test_incompressible_pages_go_at_once);
	run_test(test_hollow);
	run_test(test_idle);
	run_test(test_pages_below_are_given_back);
	run_test(test_cleaning);
	run_test(test_writes_fail);
	run_test(test_reads_fail);
	run_test(test_memory_is_used_up);
	run_test(test_threads);
	return 0;
}
