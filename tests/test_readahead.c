// SPDX-License-Identifier: MIT
/* Which pages come in ahead, where memory is free and where it is not. */
#include "mm/readahead.h"

#include "mm/budget.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/reclaim.h"
#include "mm_rig.h"
#include "weir.h"

enum { PAGES = 1024, LIMIT_PAGES = 8 * PAGES, BLOCK = 16 };

static enum vm_method method;
static enum swapin_policy policy;
static const char *swap;

/* `nr` pages, each of which knows its number, all but the last `stay` of them swapped out; the first begins a block. */
static u64 *pages_out(u32 nr, u32 stay)
{
	u64 *m;

	rig_create_resident(LIMIT_PAGES, method, policy, swap);
	m = map_pages(nr + BLOCK);
	m += (BLOCK - vpn_of(m).val % BLOCK) % BLOCK * WORDS;
	for (u32 i = 0; i < nr; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(mm_adopt(&mm), 0);
	expect_eq(mm_pageout(&mm, vpn_of(m), nr - stay), nr - stay);
	kswapd_stop(&mm); /* nothing else is to leave or come */
	return m;
}

static void teardown(void)
{
	mm_assert_valid(&mm);
	mm_destroy(&mm);
}

static u32 nr_present(const u64 *m, u32 nr)
{
	u32 present = 0;

	for (u32 i = 0; i < nr; i++)
		present += pte_is_present(pte_read(&mm, vpn_of(m + i * WORDS)));
	return present;
}

static u64 nr_ahead(void)
{
	struct weir_stats s;

	mm_stats_sum(&stats, &s);
	return s.pages_ahead;
}

static void expect_all(const u64 *m, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		expect(page_is(m + i * WORDS, i));
}

/* Two pages of a block say nothing, the third brings the rest, and no other block. */
static void test_where_memory_is_free_some_pages_bring_their_block(void)
{
	const u64 *m = pages_out(PAGES, 0);

	for (u32 i = 0; i < PAGES / BLOCK; i += 2) {
		const u64 *block = m + i * BLOCK * WORDS;

		expect(page_is(block + 5 * WORDS, i * BLOCK + 5));
		expect(page_is(block + 11 * WORDS, i * BLOCK + 11));
		expect_eq(nr_present(block, BLOCK), 2);
		expect(page_is(block + 2 * WORDS, i * BLOCK + 2));
		expect_eq(nr_present(block, 2 * BLOCK), BLOCK);
	}
	expect_eq(nr_ahead(), PAGES / 2 / BLOCK * (BLOCK - 3));
	expect_all(m, PAGES);
	teardown();
}

/* With three quarters in use each of them is brought for itself. */
static void test_where_memory_is_not_free_they_bring_nothing(void)
{
	const u32 stay = 3 * LIMIT_PAGES / 4, out = LIMIT_PAGES / 16;
	const u64 *m = pages_out(out + stay, stay);

	expect(budget_free(&mm) < LIMIT_PAGES / 4);
	for (u32 i = 0; i < out; i += 3)
		expect(page_is(m + i * WORDS, i));
	expect_eq(nr_present(m, out), (out + 2) / 3);
	expect_eq(nr_ahead(), 0);
	expect_all(m, out + stay);
	teardown();
}

/* What was written to in the meantime is as new as it was, whoever brings it. */
static void test_writes_bring_their_block_as_well(void)
{
	u64 *m = pages_out(PAGES, 0);

	for (u32 i = 0; i < PAGES; i += 4)
		m[i * WORDS]++;
	expect_eq(nr_present(m, PAGES), PAGES);
	for (u32 i = 0; i < PAGES; i++)
		m[i * WORDS] -= i % 4 == 0;
	expect_all(m, PAGES);
	teardown();
}

/* The next page of a stream is nobody's block. */
static void test_a_stream_is_read_ahead_without_an_end(void)
{
	const u64 *m = pages_out(PAGES, 0);

	expect_all(m, PAGES);
	expect(nr_ahead() > PAGES * 9 / 10);
	teardown();
}

static void run_all(void)
{
	static const char *const devices[] = { "zram", "brd:delay=1us+async", NULL };

	/* Nothing is read ahead through the swap cache, but for devices that are not synchronous. */
	if (policy != SWAPIN_DIRECT)
		return;
	for (u32 i = 0; devices[i]; i++) {
		swap = devices[i];
		printf("# %s\n", swap);
		run_test(test_where_memory_is_free_some_pages_bring_their_block);
		run_test(test_where_memory_is_not_free_they_bring_nothing);
		run_test(test_writes_bring_their_block_as_well);
		run_test(test_a_stream_is_read_ahead_without_an_end);
	}
}

int main(void)
{
	rig_run_all_ways(rig_on_sigbus, &method, &policy, run_all);
	return 0;
}
