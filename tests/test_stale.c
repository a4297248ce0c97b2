// SPDX-License-Identifier: MIT
/*
 * Slots that are kept for pages which are written to: they are written again, and follow their pages; and for how long
 * slots are kept for pages that are read and then written to.
 */
#include <sys/mman.h>

#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/reclaim.h"
#include "mm/swap_slots.h"
#include "mm_rig.h"

enum { STALE_PAGES = 256, KEPT_PAGES = 1024, LIMIT_PAGES = 4096 };

static enum vm_method method;
static enum swapin_policy policy;

static void create(const char *device)
{
	rig_create_resident(LIMIT_PAGES, method, policy, device); /* all copies may be kept */
	mm.keep_hot = true; /* all that is out comes back at once */
}

/* Stops the background reclaimer first: what mm_assert_valid walks must be quiet. */
static void teardown(void)
{
	kswapd_stop(&mm);
	mm_assert_valid(&mm);
	mm_destroy(&mm);
}

/* Pages that were written to after they had been out, each but for every fourth; their slots are kept. */
static u64 *stale_pages(void)
{
	u64 *m;

	create("zram");
	m = map_pages(STALE_PAGES);
	for (u32 i = 0; i < STALE_PAGES; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(mm_adopt(&mm), 0);
	expect_eq(mm_pageout(&mm, vpn_of(m), STALE_PAGES), STALE_PAGES);
	for (u32 i = 0; i < STALE_PAGES; i++)
		m[i * WORDS] += i % 4;
	for (u32 i = 0; i < STALE_PAGES; i++)
		expect(pte_is_stale(pte_read(&mm, vpn_of(m + i * WORDS))));
	expect_eq(swap_used(&mm), STALE_PAGES);
	return m;
}

static bool stale_is(u64 *m, u32 i)
{
	bool same;

	m[i * WORDS] -= i % 4;
	same = page_is(m + i * WORDS, i);
	m[i * WORDS] += i % 4;
	return same;
}

/* Written where it was, the next copy is a patch, or none. */
static void test_a_page_that_was_written_to_keeps_its_slot(void)
{
	u64 *m = stale_pages();
	struct swap_device_stats dev;
	u64 bytes;

	mm.swap[0].dev->ops->stats(mm.swap[0].dev, &dev);
	bytes = dev.compr_data_size;
	for (int pass = 1; pass < 4; pass++) {
		expect_eq(mm_pageout(&mm, vpn_of(m), STALE_PAGES), STALE_PAGES);
		expect_eq(swap_used(&mm), STALE_PAGES);
		mm.swap[0].dev->ops->stats(mm.swap[0].dev, &dev);
		expect_eq(dev.patched_writes, pass * STALE_PAGES);
		expect_eq(dev.compr_data_size, bytes + STALE_PAGES / 4 * 3 * 12);
		for (u32 i = 0; i < STALE_PAGES; i++)
			expect(stale_is(m, i));
	}
	expect_eq(mm_unmap(&mm, vpn_of(m), STALE_PAGES), 0);
	expect_eq(swap_used(&mm), 0);
	teardown();
}

/* A stale copy goes with its page, and is let go of where the device leaves, or the kernel has dropped the page. */
static void test_stale_copies_follow_their_pages(void)
{
	u64 *m = stale_pages(), *to = map_pages(STALE_PAGES);
	u8 present;

	expect_eq(mm_move(&mm, vpn_of(m), STALE_PAGES, vpn_of(to), STALE_PAGES, false), 0);
	for (u32 i = 0; i < STALE_PAGES; i++)
		expect(pte_is_stale(pte_read(&mm, vpn_of(to + i * WORDS))) && stale_is(to, i));
	expect_eq(mm_pageout(&mm, vpn_of(to), STALE_PAGES / 2), STALE_PAGES / 2);
	for (u32 i = 0; i < STALE_PAGES; i++)
		expect(stale_is(to, i));
	mm_drop(&mm, vpn_of(to), 8);
	expect_eq(swap_used(&mm), STALE_PAGES - 8);
	expect_eq(madvise(to + 8 * WORDS, PAGE_SIZE, MADV_DONTNEED), 0);
	expect_eq(to[8 * WORDS], 0);
	expect_eq(vm_resident(&mm.vm, vpn_of(to + 8 * WORDS), 1, &present), 0);
	expect(present && !pte_is_stale(pte_read(&mm, vpn_of(to + 8 * WORDS))));
	expect_eq(swap_used(&mm), STALE_PAGES - 9);
	rig_swapon("brd");
	expect_eq(mm_swapoff(&mm, "zram"), 0);
	for (u32 i = 9; i < STALE_PAGES; i++)
		expect(!pte_is_stale(pte_read(&mm, vpn_of(to + i * WORDS))) && stale_is(to, i));
	expect_eq(swap_used(&mm), 0);
	teardown();
}

/* Of a stream that writes, those let their slots go whose next copy could not be a patch. */
static void test_what_cannot_be_patched_keeps_no_slot(void)
{
	u64 seed = 9, *m;

	create("zram");
	m = map_pages(STALE_PAGES);
	for (u32 i = 0; i < STALE_PAGES; i++) {
		fill_page(m + i * WORDS, i);
		for (u32 w = 0; i % 3 == 1 && w < WORDS; w++)
			m[i * WORDS + w] = test_random(&seed);
	}
	expect_eq(mm_adopt(&mm), 0);
	expect_eq(mm_pageout(&mm, vpn_of(m), STALE_PAGES), STALE_PAGES);
	for (u32 i = 0; i < STALE_PAGES; i++)
		m[i * WORDS]++;
	for (u32 i = 0; i < STALE_PAGES; i++)
		expect_eq(pte_is_stale(pte_read(&mm, vpn_of(m + i * WORDS))), i % 3 != 1);
	expect_eq(swap_used(&mm), STALE_PAGES - STALE_PAGES / 3);
	teardown();
}

/* How many of the pages in [first, end) keep their slots when they are read. `write`: then each is written to. */
static u32 nr_kept(u64 *m, u32 first, u32 end, bool write)
{
	u32 nr = 0;

	for (u32 i = first; i < end; i++) {
		u64 *at = m + i * WORDS;

		expect(page_is(at, i));
		nr += pte_is_clean(pte_read(&mm, vpn_of(at)));
		if (write)
			atomic64_set((struct atomic64 *)at, *at);
		/* Half a window behind, one leaves. */
		expect_eq(mm_pageout(&mm, vpn_of(m + (i + KEPT_PAGES) % (2 * KEPT_PAGES) * WORDS), 1), 1);
	}
	return nr;
}

/* Those that left for free, having come before the first write, do not hold it up. */
static void test_writers_soon_keep_no_slots(void)
{
	u64 *m;

	create("brd");
	mm.readahead = false;
	m = map_pages(2 * KEPT_PAGES);
	for (u32 i = 0; i < 2 * KEPT_PAGES; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(mm_adopt(&mm), 0);
	expect_eq(mm_pageout(&mm, vpn_of(m), KEPT_PAGES), KEPT_PAGES);
	expect_eq(nr_kept(m, 0, KEPT_PAGES, false), KEPT_PAGES);
	expect(nr_kept(m, KEPT_PAGES, 2 * KEPT_PAGES, true) < KEPT_PAGES * 3 / 4);
	expect(nr_kept(m, 0, KEPT_PAGES, true) < KEPT_PAGES / 16);
	/* A few are tried, and when these leave for free, more are. */
	for (int pass = 0; pass < 4; pass++) {
		nr_kept(m, KEPT_PAGES, 2 * KEPT_PAGES, false);
		nr_kept(m, 0, KEPT_PAGES, false);
	}
	expect_eq(nr_kept(m, KEPT_PAGES, 2 * KEPT_PAGES, false), KEPT_PAGES);
	teardown();
}

static void run_all(void)
{
	run_test(test_writers_soon_keep_no_slots);
	run_test(test_a_page_that_was_written_to_keeps_its_slot);
	run_test(test_stale_copies_follow_their_pages);
	run_test(test_what_cannot_be_patched_keeps_no_slot);
}

int main(void)
{
	rig_run_all_ways(rig_on_sigbus, &method, &policy, run_all);
	return 0;
}
