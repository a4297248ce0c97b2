// SPDX-License-Identifier: MIT
/* Pages that come back from a device below zram: those that are wanted often lie in zram from then on, others not. */
#include "mm/demote.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/reclaim.h"
#include "mm/swap_slots.h"
#include "mm_rig.h"

enum { CLIMB_PAGES = 512, OTHERS = 1024, LIMIT_PAGES = 4096 };

static enum vm_method method;
static enum swapin_policy policy;
static u64 *others;

static bool is_below(const u64 *page)
{
	u64 pte = pte_read(&mm, vpn_of(page));

	return pte_has_entry(pte) && swap_is_below(&mm, pte_to_swp_entry(pte));
}

static u32 nr_below(const u64 *m, u32 first, u32 end)
{
	u32 nr = 0;

	for (u32 i = first; i < end; i++)
		nr += is_below(m + i * WORDS);
	return nr;
}

static void out(u64 *m, u32 first, u32 end)
{
	expect_eq(mm_pageout(&mm, vpn_of(m + first * WORDS), end - first), end - first);
}

/* So many other pages leave. */
static void pass_time(u32 nr)
{
	for (u32 i = 0; i < nr; i += OTHERS) {
		for (u32 k = 0; k < OTHERS; k++)
			others[k * WORDS] = i + k;
		out(others, 0, OTHERS);
	}
}

/* All pages are below. */
static u64 *pages_below(void)
{
	u64 *m;

	rig_create_resident(LIMIT_PAGES, method, policy, NULL);
	expect_eq(mm_swapon(&mm, rig_open("zram", rig_open("brd", NULL))), 0);
	mm.readahead = false;
	m = map_pages(CLIMB_PAGES);
	others = map_pages(OTHERS);
	for (u32 i = 0; i < CLIMB_PAGES; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(mm_adopt(&mm), 0);
	kwriteback_stop(&mm); /* what goes down is told here */
	out(m, 0, CLIMB_PAGES);
	while (demote_run(&mm, 0))
		;
	expect_eq(nr_below(m, 0, CLIMB_PAGES), CLIMB_PAGES);
	return m;
}

static void teardown(u64 *m)
{
	for (u32 i = 0; i < CLIMB_PAGES; i++)
		expect(page_is(m + i * WORDS, i));
	kswapd_stop(&mm);
	mm_assert_valid(&mm);
	mm_destroy(&mm);
}

static void test_what_is_wanted_soon_climbs(void)
{
	u64 *m = pages_below();

	for (u32 i = 0; i < CLIMB_PAGES; i++) {
		u64 pte;

		expect(page_is(m + i * WORDS, i));
		pte = pte_read(&mm, vpn_of(m + i * WORDS));
		expect(pte_is_present(pte) && !pte_has_entry(pte) && (pte & PTE_WARM));
	}
	out(m, 0, CLIMB_PAGES);
	expect_eq(nr_below(m, 0, CLIMB_PAGES), 0);
	teardown(m);
}

static void test_what_is_wanted_late_stays_below(void)
{
	u64 *m = pages_below(), written;

	pass_time(LIMIT_PAGES + OTHERS);
	for (u32 i = 0; i < CLIMB_PAGES; i++) {
		u64 pte;

		expect(page_is(m + i * WORDS, i));
		pte = pte_read(&mm, vpn_of(m + i * WORDS));
		expect(pte_is_clean(pte) && !(pte & PTE_WARM));
	}
	written = counter(STAT_PAGES_OUT);
	out(m, 0, CLIMB_PAGES);
	expect_eq(counter(STAT_PAGES_OUT), written);
	expect_eq(nr_below(m, 0, CLIMB_PAGES), CLIMB_PAGES);
	teardown(m);
}

/* They have come back once: others go down before them, though these are younger. */
static void test_what_has_climbed_stays(void)
{
	u64 *m = pages_below(), *once = map_pages(OTHERS);
	u32 moved = 0;

	for (u32 i = 0; i < CLIMB_PAGES; i++)
		expect(page_is(m + i * WORDS, i));
	out(m, 0, CLIMB_PAGES);
	for (u32 i = 0; i < OTHERS; i++)
		fill_page(once + i * WORDS, i);
	out(once, 0, OTHERS);
	while (moved < OTHERS / 2)
		moved += demote_run(&mm, 0);
	expect_eq(nr_below(m, 0, CLIMB_PAGES), 0);
	/* Seen again after however long, they are still what is wanted often. */
	pass_time(LIMIT_PAGES + OTHERS);
	for (u32 i = 0; i < CLIMB_PAGES; i++) {
		m[i * WORDS]++;
		expect(pte_read(&mm, vpn_of(m + i * WORDS)) & PTE_WARM);
		m[i * WORDS]--;
	}
	teardown(m);
}

static void run_all(void)
{
	run_test(test_what_is_wanted_soon_climbs);
	run_test(test_what_is_wanted_late_stays_below);
	run_test(test_what_has_climbed_stays);
}

int main(void)
{
	rig_run_all_ways(rig_on_sigbus, &method, &policy, run_all);
	return 0;
}
