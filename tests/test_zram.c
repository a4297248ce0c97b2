// SPDX-License-Identifier: MIT
/* What is zram's own: the kinds of slots, what each costs, damage told from data, memory given back. */
#include "swap/zram.h"

#include <pthread.h>

#include "anonymous.h"
#include "device_pages.h"
#include "sync/lock.h"

static struct page_limit account;
static u8 page[PAGE_SIZE], back[PAGE_SIZE];

static struct swap_device_stats stats_of(struct swap_device *dev)
{
	struct swap_device_stats stats;

	dev->ops->stats(dev, &stats);
	expect_eq(stats.mem_used_total, atomic64_read(&account.charged) * PAGE_SIZE);
	return stats;
}

static void device_close(struct swap_device *dev)
{
	expect(zram_is_valid(dev));
	dev->ops->close(dev);
	expect_eq(atomic64_read(&account.charged), 0);
}

static void write_page(struct swap_device *dev, u32 slot, enum page_kind kind, u64 number)
{
	page_make(page, kind, number);
	expect_eq(dev->ops->write(dev, slot, page), 0);
}

static void verify_page(struct swap_device *dev, u32 slot, enum page_kind kind, u64 number)
{
	page_make(page, kind, number);
	expect_eq(dev->ops->read(dev, slot, back), 0);
	expect(memcmp(page, back, PAGE_SIZE) == 0);
}

static void test_same_filled_is_an_entry(void)
{
	struct swap_device *dev = device_open("zram", 100, &account);

	for (u32 i = 0; i < 100; i++)
		write_page(dev, i, i % 2 ? PAGE_SAME : PAGE_ZERO, i);
	expect_eq(atomic64_read(&account.charged), 1);
	expect_eq(stats_of(dev).same_pages, 100);
	expect_eq(stats_of(dev).orig_data_size, 100 * PAGE_SIZE);
	expect_eq(stats_of(dev).compr_data_size, 0);
	for (u32 i = 0; i < 100; i++)
		verify_page(dev, i, i % 2 ? PAGE_SAME : PAGE_ZERO, i);
	/* One differing bit anywhere makes it an ordinary page. */
	for (u32 bit = 0; bit < 8 * PAGE_SIZE; bit += 4093) {
		page_make(page, PAGE_SAME, 5);
		page[bit / 8] ^= (u8)(1u << bit % 8);
		expect_eq(dev->ops->write(dev, 0, page), 0);
		expect_eq(stats_of(dev).same_pages, 99);
		expect_eq(dev->ops->read(dev, 0, back), 0);
		expect(memcmp(page, back, PAGE_SIZE) == 0);
	}
	device_close(dev);
}

static void test_incompressible_costs_a_page(void)
{
	struct swap_device *dev = device_open("zram", 1000, &account);

	for (u32 i = 0; i < 1000; i++)
		write_page(dev, i, PAGE_RANDOM, i);
	expect_eq(stats_of(dev).huge_pages, 1000);
	expect_eq(stats_of(dev).compr_data_size, 1000 * PAGE_SIZE);
	expect_eq(zram_table_pages(dev), 4 + 1);
	expect_eq(atomic64_read(&account.charged), 1000 + zram_table_pages(dev));
	for (u32 i = 0; i < 1000; i++)
		verify_page(dev, i, PAGE_RANDOM, i);
	device_close(dev);
}

/* The share of random bytes runs from none to all: results of every size, both sides of the bound for raw ones. */
static void test_every_ratio(const char *spec)
{
	struct swap_device *dev = device_open(spec, PAGE_SIZE / 8, &account);
	u64 before = 0;

	for (u32 i = 0; i < PAGE_SIZE / 8; i++) {
		struct swap_device_stats stats;
		u64 size;

		page_make(page, PAGE_RANDOM, i);
		memset(page + (size_t)i * 8, 'x', PAGE_SIZE - (size_t)i * 8);
		expect_eq(dev->ops->write(dev, i, page), 0);
		stats = stats_of(dev);
		size = stats.compr_data_size - before;
		expect(size <= PAGE_SIZE * 7 / 8 || size == PAGE_SIZE);
		before = stats.compr_data_size;
		expect_eq(dev->ops->read(dev, i, back), 0);
		expect(memcmp(page, back, PAGE_SIZE) == 0);
	}
	expect(stats_of(dev).huge_pages > 20);
	expect(stats_of(dev).huge_pages < 100);
	device_close(dev);
}

static void test_every_ratio_lz4(void)
{
	test_every_ratio("zram");
}

static void test_every_ratio_zstd(void)
{
	test_every_ratio("zram:algo=zstd");
}

static void test_every_level(void)
{
	char spec[64];
	u64 size[2][20] = { { 0 } };

	for (int algo = 0; algo < 2; algo++) {
		for (int level = 1; level <= 19; level++) {
			struct swap_device *dev;

			snprintf(spec, sizeof(spec), "zram:algo=%s,level=%d", algo ? "zstd" : "lz4", level);
			dev = device_open(spec, 64, &account);
			for (u32 i = 0; i < 64; i++)
				write_page(dev, i, i % NR_PAGE_KINDS, i);
			for (u32 i = 0; i < 64; i++)
				verify_page(dev, i, i % NR_PAGE_KINDS, i);
			size[algo][level] = stats_of(dev).compr_data_size;
			device_close(dev);
		}
	}
	expect(size[0][19] > size[0][1]);
	expect(size[1][19] < size[1][1]);
	expect(size[1][3] < size[0][1]);
}

static void test_damage_is_told(void)
{
	static const char *const specs[] = { "zram", "zram:algo=zstd", "zram:algo=zstd:dict" };

	for (size_t s = 0; s < ARRAY_SIZE(specs); s++) {
		struct swap_device *dev = device_open(specs[s], NR_PAGE_KINDS + 1, &account);

		for (u32 i = 0; i < NR_PAGE_KINDS; i++)
			write_page(dev, i, i, i);
		for (u32 i = 0; i < NR_PAGE_KINDS; i++) {
			zram_corrupt_for_test(dev, i);
			expect_eq(dev->ops->read(dev, i, back), -EIO);
			expect_eq(stats_of(dev).failed_reads, i + 1);
		}
		/* Only what was hit is lost, and not for ever. */
		for (u32 i = 0; i < NR_PAGE_KINDS; i++) {
			write_page(dev, i, i, i + 50);
			verify_page(dev, i, i, i + 50);
		}
		expect_eq(dev->ops->read(dev, NR_PAGE_KINDS, back), -EIO);
		device_close(dev);
	}
}

static void test_memory_goes_back(void)
{
	enum { NR = 5000 };
	struct swap_device *dev = device_open("zram", NR, &account);
	u64 seed = 3;

	for (int round = 0; round < 3; round++) {
		for (u32 i = 0; i < NR; i++)
			write_page(dev, i, i % NR_PAGE_KINDS, test_random(&seed));
		expect(atomic64_read(&account.charged) > NR / 5);
		expect(zram_is_valid(dev));
		for (u32 i = 0; i < NR; i++)
			dev->ops->discard(dev, round == 1 ? NR - 1 - i : i);
		expect(zram_table_pages(dev) <= 20 + 49);
		expect(atomic64_read(&account.charged) <= zram_table_pages(dev) + 64);
		expect(zram_is_valid(dev));
	}
	expect(stats_of(dev).mem_used_max > NR / 5 * PAGE_SIZE);
	device_close(dev);
}

/* Slots in use move as the core has it done: asked for, pinned, moved. */
static u32 compact_once(struct swap_device *dev, u64 *freed)
{
	u32 slots[SWAP_BATCH_MAX], nr = dev->ops->sparse(dev, slots, ARRAY_SIZE(slots)), nr_pages, moved;

	expect(nr <= ARRAY_SIZE(slots));
	moved = dev->ops->compact(dev, slots, nr, &nr_pages);
	expect(moved <= nr);
	*freed += nr_pages;
	return moved;
}

static void test_compaction(const char *spec, bool filtered)
{
	enum { NR = 20000 };
	static bool kept[NR];
	struct swap_device *dev = device_open(spec, NR, &account);
	u64 seed = 6, full, before, freed = 0, after;
	u32 moved = 0, nr_kept = 0, now;

	for (u32 i = 0; i < NR; i++)
		write_page(dev, i, i % NR_PAGE_KINDS, i);
	full = atomic64_read(&account.charged);
	expect_eq(compact_once(dev, &freed), 0);
	for (u32 i = 0; i < NR; i++) {
		kept[i] = test_random(&seed) % 10 == 0;
		nr_kept += kept[i];
		if (!kept[i])
			dev->ops->discard(dev, i);
	}
	before = atomic64_read(&account.charged);
	for (now = 1; now; moved += now)
		now = compact_once(dev, &freed);
	after = atomic64_read(&account.charged);
	printf("%s: 10 %% of %.1f MiB in %.1f MiB, compacted %.1f MiB by %u moves of %u slots\n", spec,
	       (double)full / 256, (double)before / 256, (double)after / 256, moved, nr_kept);
	expect(moved > 0 && moved <= 2 * nr_kept);
	expect(after <= full / 10 + full / 50 + 64);
	expect(before - after <= freed + 64);
	for (u32 i = 0; i < NR; i++) {
		if (kept[i])
			verify_page(dev, i, i % NR_PAGE_KINDS, i);
	}
	if (filtered)
		dev->ops->close(dev);
	else
		device_close(dev);
}

static void test_compaction_alone(void)
{
	test_compaction("zram", false);
	test_compaction("zram:algo=zstd", false);
}

static void test_compaction_filtered(void)
{
	test_compaction("zram:checksum=on,stats=on", true);
}

/* Threads that write, read and discard slots of their own, and one that compacts: pins are stood in for by locks. */
enum { BUSY_SLOTS = 12000, BUSY_THREADS = 2, BUSY_STEPS = 60000 };

static struct swap_device *busy_dev;
static struct mutex busy_pin[BUSY_SLOTS];
static u32 busy_version[BUSY_SLOTS]; /* 0: empty; under the slot's pin, as the next */
static u64 busy_word[BUSY_SLOTS]; /* what one of its words was changed to; 0: none */
static struct atomic32 busy_left;

static void busy_page(u32 slot, u8 *want)
{
	page_make(want, slot % NR_PAGE_KINDS, busy_version[slot]);
	if (busy_word[slot])
		memcpy(want + slot % (PAGE_SIZE / 8) * 8, &busy_word[slot], sizeof(busy_word[slot]));
}

static void busy_step(u64 *seed, u8 *want, u8 *got, bool shrink)
{
	u32 slot = (u32)(test_random(seed) % BUSY_SLOTS);

	mutex_lock(&busy_pin[slot]);
	if (busy_version[slot]) {
		busy_page(slot, want);
		expect_eq(busy_dev->ops->read(busy_dev, slot, got), 0);
		expect(memcmp(want, got, PAGE_SIZE) == 0);
		if (test_random(seed) % 2) {
			busy_word[slot] = test_random(seed);
			busy_page(slot, want);
			expect_eq(busy_dev->ops->write(busy_dev, slot, want), 0);
		} else {
			busy_dev->ops->discard(busy_dev, slot);
			busy_version[slot] = 0;
			busy_word[slot] = 0;
		}
	} else if (!shrink || test_random(seed) % 16 == 0) {
		busy_version[slot] = 1 + (u32)(test_random(seed) % 1000);
		page_make(want, slot % NR_PAGE_KINDS, busy_version[slot]);
		expect_eq(busy_dev->ops->write(busy_dev, slot, want), 0);
	}
	mutex_unlock(&busy_pin[slot]);
}

static void *busy_thread(void *arg)
{
	static _Thread_local u8 want[PAGE_SIZE], got[PAGE_SIZE];
	u64 seed = (u64)(uintptr_t)arg;

	/* It fills, and thins out, by turns. */
	for (u32 n = 0; n < BUSY_STEPS; n++)
		busy_step(&seed, want, got, n / (BUSY_STEPS / 4) % 2);
	atomic32_add_return(&busy_left, -1u);
	return NULL;
}

static u32 busy_compact(void)
{
	u32 slots[SWAP_BATCH_MAX], nr = busy_dev->ops->sparse(busy_dev, slots, ARRAY_SIZE(slots)), pinned = 0, freed;
	u32 moved;

	for (u32 i = 0; i < nr; i++) {
		if (mutex_trylock(&busy_pin[slots[i]]))
			slots[pinned++] = slots[i];
	}
	moved = busy_dev->ops->compact(busy_dev, slots, pinned, &freed);
	for (u32 i = 0; i < pinned; i++)
		mutex_unlock(&busy_pin[slots[i]]);
	return moved;
}

static void test_compaction_beside_others(void)
{
	pthread_t threads[BUSY_THREADS];
	u64 moved = 0;

	busy_dev = device_open("zram", BUSY_SLOTS, &account);
	atomic32_set(&busy_left, BUSY_THREADS);
	for (uintptr_t i = 0; i < BUSY_THREADS; i++)
		expect_eq(pthread_create(&threads[i], NULL, busy_thread, (void *)(i + 21)), 0);
	while (atomic32_read(&busy_left))
		moved += busy_compact();
	for (u32 i = 0; i < BUSY_THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("%llu moves beside %u steps\n", (unsigned long long)moved, BUSY_THREADS * BUSY_STEPS);
	expect(moved > 0);
	device_close(busy_dev);
}

static void change_words(u8 *to, u32 nr, u64 *seed)
{
	for (u32 i = 0; i < nr; i++) {
		u64 word = test_random(seed);

		memcpy(to + test_random(seed) % (PAGE_SIZE / 8) * 8, &word, sizeof(word));
	}
}

/* What has changed little costs no compression, and its slot grows by what has changed. */
static void test_a_little_changed_is_a_patch(void)
{
	struct swap_device *dev = device_open("zram", 10, &account);
	u64 seed = 5, before, patches = 0;
	u8 now[PAGE_SIZE];

	page_make(now, PAGE_TEXT, 1);
	expect_eq(dev->ops->write(dev, 3, now), 0);
	expect(dev->ops->patches(dev, 3));
	before = stats_of(dev).compr_data_size;
	/* The same again, and with a word more each time: up to the words' bytes and two for each of them. */
	for (u32 i = 0; i < 20; i++) {
		if (i)
			memcpy(now + i * 3 * 64, &(u64){ test_random(&seed) }, 8);
		expect_eq(dev->ops->write(dev, 3, now), 0);
		expect_eq(stats_of(dev).patched_writes, ++patches);
		expect_eq(stats_of(dev).compr_data_size, before + (i ? i * 10 + 2 : 0));
		expect_eq(dev->ops->read(dev, 3, back), 0);
		expect(memcmp(back, now, PAGE_SIZE) == 0);
	}
	/* Changed back, it is as it was. */
	page_make(now, PAGE_TEXT, 1);
	expect_eq(dev->ops->write(dev, 3, now), 0);
	expect_eq(stats_of(dev).compr_data_size, before);
	patches++;
	/* Much has changed: it is compressed again. */
	change_words(now, 200, &seed);
	expect_eq(dev->ops->write(dev, 3, now), 0);
	expect_eq(stats_of(dev).patched_writes, patches);
	expect_eq(dev->ops->read(dev, 3, back), 0);
	expect(memcmp(back, now, PAGE_SIZE) == 0);
	/* Damage of page or patch is told. */
	change_words(now, 3, &seed);
	expect_eq(dev->ops->write(dev, 3, now), 0);
	expect_eq(stats_of(dev).patched_writes, patches + 1);
	zram_corrupt_for_test(dev, 3);
	expect_eq(dev->ops->read(dev, 3, back), -EIO);
	/* To write to it again makes it good. */
	change_words(now, 1, &seed);
	expect_eq(dev->ops->write(dev, 3, now), 0);
	expect_eq(dev->ops->read(dev, 3, back), 0);
	expect(memcmp(back, now, PAGE_SIZE) == 0);
	/* Of others nothing is to be had. */
	write_page(dev, 4, PAGE_RANDOM, 4);
	write_page(dev, 5, PAGE_ZERO, 0);
	for (u32 slot = 4; slot < 7; slot++)
		expect(!dev->ops->patches(dev, slot));
	device_close(dev);
}

/* Where pages are rewritten altogether, it does not pay to try; where it pays again, that is found out. */
static void test_patches_follow_what_they_bring(void)
{
	struct swap_device *dev = device_open("zram", 1024, &account);
	u32 wanted = 0;

	for (u32 i = 0; i < 1024; i++)
		write_page(dev, i, PAGE_TEXT, i);
	for (u32 i = 0; i < 1024; i++)
		write_page(dev, i, PAGE_TEXT, i + 5000);
	expect_eq(stats_of(dev).patched_writes, 0);
	for (u32 i = 0; i < 1024; i++)
		wanted += dev->ops->patches(dev, i);
	expect(wanted > 0 && wanted < 1024 / 32);
	for (u32 tries = 0; tries < 64; tries++) {
		page_make(page, PAGE_TEXT, 5000);
		page[tries] ^= 1;
		expect_eq(dev->ops->write(dev, 0, page), 0);
	}
	expect(dev->ops->patches(dev, 1));
	device_close(dev);
}

/* Any changes to any pages, also when memory is refused. */
static void patch_at_random(const char *spec)
{
	enum { NR = 64, STEPS = 20000 };
	static u8 now[NR][PAGE_SIZE];
	struct swap_device *dev = device_open(spec, NR, &account);
	u64 seed = 77;

	for (u32 i = 0; i < NR; i++) {
		page_make(now[i], i % NR_PAGE_KINDS, i);
		expect_eq(dev->ops->write(dev, i, now[i]), 0);
	}
	for (u32 n = 0; n < STEPS; n++) {
		u32 slot = (u32)(test_random(&seed) % NR);
		u64 what = test_random(&seed) % 64;

		memcpy(page, now[slot], PAGE_SIZE);
		if (what == 0)
			page_make(page, test_random(&seed) % NR_PAGE_KINDS, n);
		else if (what < 8)
			memset(page + test_random(&seed) % 3000, (int)n, test_random(&seed) % 1000);
		else
			change_words(page, (u32)(what % 32), &seed);
		atomic64_set(&account.limit, n % 3 ? UINT64_MAX : atomic64_read(&account.charged));
		if (!dev->ops->write(dev, slot, page))
			memcpy(now[slot], page, PAGE_SIZE);
		expect_eq(dev->ops->read(dev, slot, back), 0);
		expect(memcmp(back, now[slot], PAGE_SIZE) == 0);
	}
	expect(stats_of(dev).patched_writes > STEPS / 4);
	atomic64_set(&account.limit, UINT64_MAX);
	for (u32 i = 0; i < NR; i++)
		dev->ops->discard(dev, i);
	expect_eq(stats_of(dev).compr_data_size, 0);
	device_close(dev);
}

static void test_any_changes(void)
{
	patch_at_random("zram");
	patch_at_random("zram:algo=zstd,level=1");
	patch_at_random("zram:algo=zstd:dict,level=1");
}

static void test_refused_write_keeps_the_old(void)
{
	enum { NR = 200 };
	struct swap_device *dev = device_open("zram", NR, &account);

	for (u32 i = 0; i < NR; i++)
		write_page(dev, i, PAGE_RANDOM, i);
	atomic64_set(&account.limit, atomic64_read(&account.charged));
	page_make(page, PAGE_RANDOM, 1000);
	for (u32 i = 0; i < NR; i++)
		expect_eq(dev->ops->write(dev, i, page), -ENOSPC);
	expect_eq(stats_of(dev).failed_writes, NR);
	for (u32 i = 0; i < NR; i++)
		verify_page(dev, i, PAGE_RANDOM, i);
	/* Pages that need no memory still go through, and make room. */
	write_page(dev, 0, PAGE_ZERO, 0);
	write_page(dev, 1, PAGE_RANDOM, 2000);
	verify_page(dev, 1, PAGE_RANDOM, 2000);
	atomic64_set(&account.limit, UINT64_MAX);
	for (u32 i = 0; i < NR; i++)
		write_page(dev, i, PAGE_RANDOM, i + 3000);
	for (u32 i = 0; i < NR; i++)
		verify_page(dev, i, PAGE_RANDOM, i + 3000);
	device_close(dev);
}

/* Of the slot table, what was written to is charged, and the kernel agrees; looks at the rest take nothing. */
static void test_the_table_is_charged(void)
{
	enum { NR_PAGES = 2000, STEP = PAGE_SIZE / 16 };
	struct swap_device *dev = device_open("zram", NR_PAGES * STEP, &account);
	u32 slots[SWAP_BATCH_MAX];
	u64 before = anonymous_pages();

	for (u32 i = 0; i < NR_PAGES; i++) {
		expect_eq(dev->ops->read(dev, i * STEP, back), -EIO);
		dev->ops->discard(dev, i * STEP + 1);
	}
	expect_anonymous(before, 0);
	expect_eq(atomic64_read(&account.charged), 0);
	for (u32 i = 0; i < NR_PAGES; i++)
		write_page(dev, i * STEP + i % STEP, PAGE_SAME, i);
	expect_anonymous(before, NR_PAGES);
	expect_eq(atomic64_read(&account.charged), NR_PAGES);
	for (u32 i = 0; i < NR_PAGES * STEP; i++)
		write_page(dev, i, PAGE_ZERO, i);
	expect_eq(dev->ops->sparse(dev, slots, ARRAY_SIZE(slots)), 0);
	for (u32 i = 0; i < NR_PAGES * STEP; i++)
		dev->ops->discard(dev, i);
	expect_eq(atomic64_read(&account.charged), NR_PAGES);
	device_close(dev);
}

/* Where the table cannot grow the write fails and that is all; unless the store has something to give back. */
static void test_refused_table_page(void)
{
	enum { NR = 30, STEP = PAGE_SIZE / 16 };
	struct swap_device *dev = device_open("zram", 3 * STEP, &account);

	write_page(dev, 0, PAGE_ZERO, 0);
	atomic64_set(&account.limit, 1);
	for (enum page_kind kind = 0; kind < NR_PAGE_KINDS; kind++) {
		page_make(page, kind, kind);
		expect_eq(dev->ops->write(dev, STEP, page), -ENOSPC);
		expect_eq(dev->ops->read(dev, STEP, back), -EIO);
	}
	expect_eq(stats_of(dev).failed_writes, NR_PAGE_KINDS);
	expect_eq(stats_of(dev).orig_data_size, PAGE_SIZE);
	write_page(dev, 1, PAGE_SAME, 1);
	atomic64_set(&account.limit, UINT64_MAX);
	for (u32 i = 0; i < NR; i++)
		write_page(dev, i, PAGE_RANDOM, i);
	for (u32 i = 0; i < NR; i++)
		dev->ops->discard(dev, i);
	atomic64_set(&account.limit, atomic64_read(&account.charged));
	expect(atomic64_read(&account.limit) >= NR);
	write_page(dev, STEP, PAGE_RANDOM, 1);
	verify_page(dev, STEP, PAGE_RANDOM, 1);
	device_close(dev);
}

static void test_metadata_per_page(void)
{
	enum { NR = 8000 };
	static const enum page_kind kinds[] = { PAGE_TEXT, PAGE_RANDOM, PAGE_SPARSE, PAGE_ZERO };

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct swap_device *dev = device_open("zram", NR, &account);

		for (u32 i = 0; i < NR; i++)
			write_page(dev, i, kinds[k], i);
		expect(zram_metadata_bytes(dev) <= 24 * NR);
		device_close(dev);
	}
}

int main(void)
{
	run_test(test_same_filled_is_an_entry);
	run_test(test_incompressible_costs_a_page);
	run_test(test_every_ratio_lz4);
	run_test(test_every_ratio_zstd);
	run_test(test_every_level);
	run_test(test_damage_is_told);
	run_test(test_memory_goes_back);
	run_test(test_compaction_alone);
	run_test(test_compaction_filtered);
	run_test(test_compaction_beside_others);
	run_test(test_a_little_changed_is_a_patch);
	run_test(test_patches_follow_what_they_bring);
	run_test(test_any_changes);
	run_test(test_refused_write_keeps_the_old);
	run_test(test_the_table_is_charged);
	run_test(test_refused_table_page);
	run_test(test_metadata_per_page);
	return 0;
}
