// SPDX-License-Identifier: MIT
/*
 * The core on a real userfaultfd, through the internal interface: contents survive every way out and back, counts
 * add up, limits are kept. Each test runs with MOVE and with COPY, with each swap-in policy.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/os.h"
#include "fault/hold.h"
#include "fault/signal.h"
#include "mm/budget.h"
#include "mm/frames.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/reclaim.h"
#include "mm/swap_slots.h"
#include "mm/swapoff.h"
#include "swap/zram.h"
#include "weir.h"
#include "mm_rig.h"

enum {
	LIMIT_PAGES = 4096, /* 16 MiB */
	REGION_PAGES = 4 * LIMIT_PAGES,
	WINDOW_PAGES = 1 << 20,
	NR_CPUS = 2,
};

static enum vm_method method;
static u32 nr_cpus = NR_CPUS; /* what the core is told */
static enum swapin_policy policy;

/* Where a SIGBUS that the core passes on is awaited, and the address it came with. */
static sigjmp_buf *bus_escape;
static void *bus_addr;

/* For the next setup: the limit is shared (below). */
static bool (*shared_more)(struct mm *any, u32 nr, enum budget_patience patience);
static u32 shared_grant;

static void on_sigbus(int sig, siginfo_t *info, void *uc)
{
	if (fault_signal(&mm, info, uc, NULL) == SIGNAL_SERVED)
		return;
	bus_addr = info->si_addr;
	if (bus_escape)
		siglongjmp(*bus_escape, sig);
	signal(sig, SIG_DFL);
}

static void setup_limits(const char *swap, u64 memory_pages, u64 resident_pages)
{
	struct mm_config cfg = {
		.memory_pages = memory_pages,
		.resident_pages = resident_pages,
		.nr_pages = WINDOW_PAGES,
		.nr_cpus = nr_cpus,
		.method = method,
		.policy = policy,
		.stats = &stats,
		.more = shared_more,
		.granted = shared_grant,
	};

	rig_create(&cfg, swap);
}

static void setup(const char *swap)
{
	setup_limits(swap, LIMIT_PAGES, 0);
}

/* Stops the background reclaimer first: what mm_assert_valid walks must be quiet. */
static void teardown(void)
{
	struct weir_stats s;

	kswapd_stop(&mm);
	mm_assert_valid(&mm);
	mm_stats_sum(&stats, &s);
	if (s.limit_memory)
		expect(s.total_peak <= s.limit_memory);
	if (s.limit_resident)
		expect(s.resident_peak <= s.limit_resident);
	mm_destroy(&mm);
}

static void test_below_the_limit_nothing_is_managed(void)
{
	u64 *m;

	setup("zram");
	m = map_pages(LIMIT_PAGES / 2);
	for (u32 i = 0; i < LIMIT_PAGES / 2; i++)
		fill_page(m + i * WORDS, i);
	expect(!mm_is_adopted(&mm));
	expect(!mm.vm.registered);
	expect_eq(counter(STAT_FAULT_ZERO), 0);
	expect_eq(mm_unmap(&mm, vpn_of(m), LIMIT_PAGES / 2), 0);
	teardown();
}

static void test_fill_and_verify_over_the_limit(void)
{
	u64 *m;

	setup("zram");
	m = map_pages(REGION_PAGES);
	expect(mm_is_adopted(&mm));
	for (u32 i = 0; i < REGION_PAGES; i++)
		fill_page(m + i * WORDS, i);
	for (int pass = 0; pass < 2; pass++) {
		for (u32 i = 0; i < REGION_PAGES; i++)
			expect(page_is(m + i * WORDS, i));
	}
	expect(counter(STAT_PAGES_OUT) > REGION_PAGES / 2);
	teardown();
}

static void test_untouched_pages_read_as_zero(void)
{
	u64 *m;

	setup("zram");
	m = map_pages(REGION_PAGES);
	for (u32 i = 0; i < REGION_PAGES; i++)
		expect_eq(m[i * WORDS + i % WORDS], 0);
	for (u32 i = 0; i < REGION_PAGES; i++)
		expect_eq(m[i * WORDS], 0);
	teardown();
}

static void test_adoption_learns_what_is_resident(void)
{
	u64 *a, *b;

	setup("zram");
	a = map_pages(LIMIT_PAGES / 2);
	for (u32 i = 0; i < LIMIT_PAGES / 2; i += 2)
		fill_page(a + i * WORDS, i + 7);
	expect(!mm_is_adopted(&mm));
	b = map_pages(REGION_PAGES);
	expect(mm_is_adopted(&mm));
	for (u32 i = 0; i < REGION_PAGES; i++)
		fill_page(b + i * WORDS, i);
	for (u32 i = 0; i < LIMIT_PAGES / 2; i++) {
		if (i % 2)
			expect_eq(a[i * WORDS], 0);
		else
			expect(page_is(a + i * WORDS, i + 7));
	}
	teardown();
}

/* Others come and go meanwhile: what is out does not come back hot, which would keep no slot. */
static void pass_time(u64 *others, u32 from, u32 to)
{
	for (u32 i = from; i < to; i++)
		others[i * WORDS] = i;
	mm_pageout(&mm, vpn_of(others + from * WORDS), to - from);
}

static void test_clean_pages_leave_for_free(void)
{
	u64 *m, *others, sum = 0, out;

	setup_limits("zram", 0, LIMIT_PAGES);
	m = map_pages(LIMIT_PAGES);
	others = map_pages(LIMIT_PAGES);
	for (u32 i = 0; i < LIMIT_PAGES; i++)
		fill_page(m + i * WORDS, i);
	/* All out, all in by reads, all out again: the second time nothing is written. */
	mm_pageout(&mm, vpn_of(m), LIMIT_PAGES);
	pass_time(others, 0, 1200);
	for (u32 i = 0; i < 1000; i++)
		sum += m[i * WORDS];
	out = counter(STAT_PAGES_OUT);
	mm_pageout(&mm, vpn_of(m), 1000);
	expect_eq(counter(STAT_PAGES_OUT), out);
	expect(counter(STAT_PAGES_OUT_CLEAN) >= 900);
	/* A write to a clean page must not be lost. */
	pass_time(others, 1200, 2000);
	for (u32 i = 0; i < 1000; i++)
		sum += m[i * WORDS];
	for (u32 i = 0; i < 1000; i++)
		m[i * WORDS + 1] = ~(u64)i;
	expect(counter(STAT_FAULT_WRITE) >= 900);
	mm_pageout(&mm, vpn_of(m), 1000);
	for (u32 i = 0; i < 1000; i++)
		expect_eq(m[i * WORDS + 1], ~(u64)i);
	expect(sum != 0);
	teardown();
}

/* The program has mapped something else behind our back: it cannot be protected, stays, and costs no slot. */
static void test_pages_that_cannot_be_protected_stay(void)
{
	u64 *m;

	setup("zram");
	m = map_pages(4);
	expect_eq(mm_adopt(&mm), 0);
	m[0] = 1;
	expect(mmap(m, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == m);
	m[0] = 2;
	if (method == VM_METHOD_COPY) { /* UFFDIO_MOVE takes it all the same */
		expect_eq(mm_pageout(&mm, vpn_of(m), 1), 0);
		expect_eq(swap_used(&mm), 0);
		expect_eq(m[0], 2);
	}
	teardown();
}

static void test_dropped_pages_read_as_zero_and_give_all_back(void)
{
	u64 *m, used;

	setup("zram");
	m = map_pages(REGION_PAGES);
	for (u32 i = 0; i < REGION_PAGES; i++)
		fill_page(m + i * WORDS, i);
	mm_drop(&mm, vpn_of(m), REGION_PAGES);
	/* What the background reclaimer is writing just now keeps its slot until that has ended. */
	for (int i = 0; i < 5000 && swap_used(&mm) > 0; i++)
		usleep(1000);
	expect_eq(swap_used(&mm), 0);
	used = budget_resident(atomic64_read(&mm.budget.used));
	expect(used <= FRAME_RUN * mm.frames.runs.nr + frames_nr_charged(&mm));
	for (u32 i = 0; i < REGION_PAGES; i += 97)
		expect_eq(m[i * WORDS], 0);
	expect_eq(mm_unmap(&mm, vpn_of(m), REGION_PAGES), 0);
	teardown();
}

/* ---- a limit that is shared: what the tests have for other processes ---- */

static struct atomic32 others_free; /* pages that more() may take; it runs in the SIGBUS handler and in kswapd */
static struct atomic32 last_was_asked;

static bool more(struct mm *any, u32 nr, enum budget_patience patience)
{
	u32 free = atomic32_read(&others_free), got;

	if (patience == BUDGET_LAST)
		atomic32_set(&last_was_asked, 1);
	do {
		got = (u32)min_u64(nr, free);
		if (!got || (patience == BUDGET_SPARE && got < nr))
			return false;
	} while (!atomic32_cas_acquire(&others_free, &free, free - got));
	budget_raise(any, got);
	return true;
}

/* A grant of 0: the least. Returns that. */
static u32 setup_shared(u64 memory_pages, u64 resident_pages, u32 grant, u32 spare)
{
	struct mm_config cfg = { .memory_pages = memory_pages, .resident_pages = resident_pages, .nr_cpus = NR_CPUS };
	u32 least = mm_share_min(&cfg);

	shared_more = more;
	shared_grant = grant ? grant : least;
	setup_limits("zram", memory_pages, resident_pages);
	shared_more = NULL;
	atomic32_set(&others_free, spare);
	atomic32_set(&last_was_asked, 0);
	return least;
}

static void fill_and_verify(u64 *m, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		fill_page(m + i * WORDS, i);
	for (u32 i = 0; i < nr; i++)
		expect(page_is(m + i * WORDS, i));
}

/* A quarter of the limit is granted, another is to be had, and never more is in use. */
static void test_a_grant_grows_and_is_kept(void)
{
	struct weir_stats s;
	u64 *m;

	setup_shared(LIMIT_PAGES, 0, LIMIT_PAGES / 4, LIMIT_PAGES / 4);
	m = map_pages(LIMIT_PAGES);
	expect(mm_is_adopted(&mm));
	expect_eq(atomic32_read(&others_free), LIMIT_PAGES / 4); /* to adopt was cheaper than to take all of it */
	fill_and_verify(m, LIMIT_PAGES);
	expect_eq(atomic32_read(&others_free), 0);
	expect_eq(budget_limit(&mm), LIMIT_PAGES / 2);
	mm_stats_sum(&stats, &s);
	expect(s.total_peak <= LIMIT_PAGES / 2 * PAGE_SIZE);
	expect(s.total_peak > LIMIT_PAGES / 4 * PAGE_SIZE);
	expect(counter(STAT_PAGES_OUT) > 0);
	expect(!atomic32_read(&last_was_asked));
	teardown();
}

/* Pages leave so that others may have theirs; not below the least, and the rest is as good as before. */
static void test_what_is_granted_can_be_given_back(void)
{
	u32 least = setup_shared(LIMIT_PAGES, 0, LIMIT_PAGES, 0), given;
	u64 *m = map_pages(2 * LIMIT_PAGES);

	fill_and_verify(m, 2 * LIMIT_PAGES);
	given = mm_give(&mm, LIMIT_PAGES / 4);
	expect_eq(given, LIMIT_PAGES / 4);
	expect_eq(budget_limit(&mm), LIMIT_PAGES * 3 / 4);
	expect(budget_resident(budget_used(&mm)) + budget_stored(budget_used(&mm)) <= LIMIT_PAGES * 3 / 4);
	fill_and_verify(m, 2 * LIMIT_PAGES);
	/* What the store holds stays, and with it room to work: not all of this can be had. */
	expect(given + mm_give(&mm, LIMIT_PAGES) < LIMIT_PAGES - least);
	for (u32 i = 0; i < 2 * LIMIT_PAGES; i++)
		expect(page_is(m + i * WORDS, i));
	teardown();

	least = setup_shared(LIMIT_PAGES, 0, LIMIT_PAGES, 0);
	m = map_pages(2 * LIMIT_PAGES);
	fill_and_verify(m, 64);
	expect_eq(mm_give(&mm, LIMIT_PAGES), LIMIT_PAGES - least);
	expect_eq(mm_give(&mm, 1), 0);
	fill_and_verify(m, LIMIT_PAGES / 8);
	teardown();
}

/* What reclaim and its frames have for good is in it: enough remains to work with, from the first fault on. */
static void test_the_least_grant_is_enough(void)
{
	const u64 limits[][2] = { { LIMIT_PAGES, 0 }, { 0, LIMIT_PAGES }, { 32 * LIMIT_PAGES, 16 * LIMIT_PAGES } };

	for (u32 i = 0; i < ARRAY_SIZE(limits); i++) {
		u32 least = setup_shared(limits[i][0], limits[i][1], 0, 0);
		u64 *m = map_pages(least);

		expect(mm_is_adopted(&mm));
		fill_and_verify(m, least);
		expect(budget_resident(budget_used(&mm)) <= budget_limit(&mm));
		expect(counter(STAT_PAGES_OUT) > 0);
		expect_eq(mm_give(&mm, 1), 0);
		teardown();
	}
}

/* A large grant has all spare runs and buffers, a small one none, and what is in use goes when it is put back. */
static void test_spare_frames_follow_the_grant(void)
{
	const u32 limit = 16 * LIMIT_PAGES;
	struct frame_set *runs = &mm.frames.runs, *buffers = &mm.frames.buffers;
	frame_t first[FRAME_BUFFERS_MAX];
	u64 spare_pages, free;

	nr_cpus = 16;
	setup_shared(limit, 0, limit, 0);
	(void)map_pages(2 * limit);
	expect(mm_is_adopted(&mm));
	expect(runs->nr_max > runs->nr && buffers->nr_max > buffers->nr);
	spare_pages = (runs->nr_max - runs->nr + buffers->nr_max - buffers->nr) * FRAME_RUN;
	expect_eq(atomic64_read(&runs->spare) | atomic64_read(&buffers->spare), 0);
	free = budget_free(&mm);
	frames_trim(&mm);
	expect_eq(budget_free(&mm), free + spare_pages);

	for (u32 i = 0; i <= buffers->nr; i++)
		expect(frame_buffer_tryget(&mm, &first[i]));
	expect_eq(frame_set_nr_later(buffers), 1);
	expect_eq(budget_free(&mm), free + spare_pages - FRAME_RUN);
	expect(mm_give(&mm, limit) > limit / 2);
	expect_eq(frame_set_nr_later(buffers), 1);
	for (u32 i = 0; i <= buffers->nr; i++)
		frame_buffer_put(&mm, first[i]);
	expect_eq(frame_set_nr_later(buffers), 0);
	expect_eq(frame_set_nr_later(runs), 0);
	teardown();
	nr_cpus = NR_CPUS;
}

/* Before adoption: what is handed out is granted, and what was given back is spare. */
static void test_unmanaged_memory_is_granted(void)
{
	u64 *m;

	setup_shared(LIMIT_PAGES, 0, LIMIT_PAGES / 4, LIMIT_PAGES / 4);
	m = map_pages(LIMIT_PAGES / 4);
	expect(!mm_is_adopted(&mm));
	expect_eq(budget_limit(&mm), LIMIT_PAGES / 4 + mm.budget.reserve + mm.budget.overhead);
	expect_eq(mm_give_spare(&mm, LIMIT_PAGES), 0);
	expect_eq(mm_unmap(&mm, vpn_of(m), LIMIT_PAGES / 8), 0);
	expect_eq(mm_give_spare(&mm, LIMIT_PAGES), LIMIT_PAGES / 8);
	expect_eq(budget_limit(&mm), LIMIT_PAGES / 8 + mm.budget.reserve + mm.budget.overhead);
	expect(!mm_is_adopted(&mm));
	teardown();
}

/* The same part of both limits; of a resident limit alone. */
static void test_both_limits_are_shared(void)
{
	struct weir_stats s;
	u64 *m;

	setup_shared(LIMIT_PAGES, LIMIT_PAGES / 2, LIMIT_PAGES / 2, LIMIT_PAGES / 4);
	m = map_pages(LIMIT_PAGES);
	fill_and_verify(m, LIMIT_PAGES);
	mm_stats_sum(&stats, &s);
	expect_eq(atomic32_read(&others_free), 0);
	expect(s.total_peak <= LIMIT_PAGES * 3 / 4 * PAGE_SIZE);
	expect(s.resident_peak <= LIMIT_PAGES * 3 / 8 * PAGE_SIZE);
	expect_eq(mm_give(&mm, 64), 64);
	teardown();

	setup_shared(0, LIMIT_PAGES, LIMIT_PAGES / 2, 0);
	m = map_pages(LIMIT_PAGES);
	fill_and_verify(m, LIMIT_PAGES);
	mm_stats_sum(&stats, &s);
	expect(s.resident_peak <= LIMIT_PAGES / 2 * PAGE_SIZE);
	expect_eq(mm_give(&mm, 640), 640);
	fill_and_verify(m, LIMIT_PAGES);
	teardown();
}

static void test_held_pages_stay(void)
{
	u64 *m;
	u8 present[16];

	setup("zram");
	m = map_pages(REGION_PAGES);
	for (u32 i = 0; i < REGION_PAGES; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(hold_range(&mm, (uintptr_t)m, 16 * PAGE_SIZE, true), 0);
	for (u32 i = 16; i < REGION_PAGES; i++)
		expect(page_is(m + i * WORDS, i));
	mm_pageout(&mm, vpn_of(m), REGION_PAGES);
	expect_eq(vm_resident(&mm.vm, vpn_of(m), 16, present), 0);
	for (u32 i = 0; i < 16; i++)
		expect(present[i]);
	release_range(&mm, (uintptr_t)m, 16 * PAGE_SIZE);
	expect_eq(mm_pageout(&mm, vpn_of(m), 16), 16);
	expect_eq(hold_range(&mm, (uintptr_t)m, (size_t)LIMIT_PAGES * PAGE_SIZE, false), -ENOMEM);
	expect_eq(atomic64_read(&mm.nr_held), 0);
	expect_eq(hold_range(&mm, (uintptr_t)(m + REGION_PAGES * WORDS), 8, false), -EFAULT);
	teardown();
}

static void test_corrupt_object_is_an_error_never_wrong_data(void)
{
	u64 pte, *m;

	setup("zram");
	m = map_pages(LIMIT_PAGES);
	expect_eq(mm_adopt(&mm), 0);
	fill_page(m, 1);
	fill_page(m + WORDS, 2);
	expect_eq(mm_pageout(&mm, vpn_of(m), 2), 2);
	pte = pte_read(&mm, vpn_of(m));
	expect(pte_is_swap(pte));
	zram_corrupt_for_test(mm.swap[0].dev, swp_offset(pte_to_swp_entry(pte)));
	expect_eq(hold_range(&mm, (uintptr_t)m, 8, false), -EIO);
	/* A touch is a SIGBUS at that address, each time; the page beside it is whole. */
	for (int i = 0; i < 2; i++) {
		sigjmp_buf escape;

		bus_addr = NULL;
		bus_escape = &escape;
		if (!sigsetjmp(escape, 1))
			expect(m[3] == 0 && "never reached");
		bus_escape = NULL;
		expect(bus_addr == &m[3]);
	}
	expect(page_is(m + WORDS, 2));
	teardown();
}

static void test_swapoff_brings_everything_back(void)
{
	u64 *m;

	setup("zram");
	m = map_pages(LIMIT_PAGES / 2);
	expect_eq(mm_adopt(&mm), 0);
	for (u32 i = 0; i < LIMIT_PAGES / 2; i++)
		fill_page(m + i * WORDS, i);
	mm_pageout(&mm, vpn_of(m), LIMIT_PAGES / 2);
	expect_eq(mm_swapoff(&mm, "nothing"), -ENOENT);
	expect_eq(mm_swapoff(&mm, "zram"), 0);
	for (u32 i = 0; i < LIMIT_PAGES / 2; i++)
		expect(page_is(m + i * WORDS, i));
	teardown();
}

static void test_swapoff_that_does_not_fit_is_refused(void)
{
	u64 *m;

	setup("zram");
	m = map_pages(REGION_PAGES);
	for (u32 i = 0; i < REGION_PAGES; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(mm_swapoff(&mm, "zram"), -ENOMEM);
	for (u32 i = 0; i < REGION_PAGES; i++)
		expect(page_is(m + i * WORDS, i));
	teardown();
}

static void fill_region(u64 *m)
{
	for (u32 i = 0; i < REGION_PAGES; i++)
		fill_page(m + i * WORDS, i);
}

static void expect_region(const u64 *m)
{
	for (u32 i = 0; i < REGION_PAGES; i++)
		expect(page_is(m + i * WORDS, i));
}

static void test_swapoff_can_be_given_up_between_two_steps(void)
{
	u32 nr = LIMIT_PAGES / 2;
	struct swapoff off;
	u64 *m, used;

	setup("zram");
	m = map_pages(nr);
	expect_eq(mm_adopt(&mm), 0);
	for (u32 i = 0; i < nr; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(mm_pageout(&mm, vpn_of(m), nr), nr);
	expect_eq(swapoff_nr_absent(&mm), nr);
	expect_eq(swapoff_begin(&mm, 0, &off), 0);
	expect_eq(swapoff_begin(&mm, 0, &off), -ENOENT);
	expect_eq(swapoff_step(&mm, &off, 64), 1);
	kswapd_stop(&mm); /* it reads ahead */
	used = atomic64_read(&mm.swap[0].used);
	expect(used > 0 && used <= nr - 64); /* fewer by what was read ahead */
	swapoff_cancel(&mm, 0);
	expect_eq(swapoff_step(&mm, &off, 64), -ENOMEM);
	expect_eq(atomic32_read(&mm.swap[0].state), SWAP_ON);
	expect_eq(atomic64_read(&mm.swap[0].used), used);
	for (u32 i = 0; i < nr; i++)
		expect(page_is(m + i * WORDS, i));
	teardown();
}

static void test_who_would_be_out_of_memory_takes_a_leaving_device_back(void)
{
	struct swapoff off;
	u64 *m;

	setup("zram");
	m = map_pages(REGION_PAGES);
	fill_region(m);
	expect_eq(swapoff_begin(&mm, 0, &off), 0);
	/* Written to, so that none can leave without a slot. */
	for (u32 i = 0; i < REGION_PAGES; i++) {
		expect(page_is(m + i * WORDS, i));
		fill_page(m + i * WORDS, i);
	}
	expect_eq(atomic32_read(&mm.swap[0].state), SWAP_ON);
	expect_region(m);
	expect_eq(swapoff_step(&mm, &off, 64), -ENOMEM);
	teardown();
}

static void test_swapoff_goes_to_the_other_devices(void)
{
	struct swap_device_config cfg;
	struct swap_device *dev;
	char err[160];
	u64 *m;

	setup("zram");
	m = map_pages(REGION_PAGES);
	fill_region(m);
	expect_eq(swap_device_parse("zram:size=256M", &cfg, err, sizeof(err)), 0);
	expect_eq(swap_device_open(&cfg, &dev), 0);
	expect_eq(mm_swapon(&mm, dev), 0);
	expect_eq(mm_swapoff(&mm, "zram"), 0); /* the first of that name */
	expect_eq(atomic32_read(&mm.swap[0].state), SWAP_OFF);
	expect_eq(atomic64_read(&mm.swap[0].used), 0);
	expect(atomic64_read(&mm.swap[1].used) >= REGION_PAGES - LIMIT_PAGES);
	expect_region(m);
	teardown();
}

static void test_full_swap_is_out_of_memory_and_loses_nothing(void)
{
	u32 fit = LIMIT_PAGES + 400, got = 0;
	u64 *m;

	setup_limits("brd:size=1M", 0, LIMIT_PAGES); /* 256 slots */
	m = map_pages(fit);
	while (got < fit && hold_range(&mm, (uintptr_t)(m + got * WORDS), 8, true) == 0) {
		fill_page(m + got * WORDS, got);
		release_range(&mm, (uintptr_t)(m + got * WORDS), 8);
		got++;
	}
	expect(got >= LIMIT_PAGES - mm.budget.reserve - frames_nr_charged(&mm) && got < fit);
	/* With room for one page (and a read frame), all the others can be looked at again. */
	mm_drop(&mm, vpn_of(m), 2);
	for (u32 i = 2; i < got; i++)
		expect(page_is(m + i * WORDS, i));
	teardown();
}

/* ---- devices that fail, or take their time ---- */

/* A slot that cannot be written is never handed out again; its page stays, and leaves by another. */
static void test_slots_that_fail_are_retired(void)
{
	static const char *const specs[] = { "brd:error=write:eio:after=1000:rate=1/400",
					     "brd:delay=1us+async,error=write:eio:after=1000:rate=1/400" };
	struct weir_stats s;

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		setup_limits(specs[i], 0, LIMIT_PAGES);
		fill_and_verify(map_pages(REGION_PAGES), REGION_PAGES);
		kswapd_stop(&mm);
		mm_stats_sum(&stats, &s);
		expect(s.write_errors > 10);
		expect_eq(atomic64_read(&mm.swap[0].nr_bad), s.write_errors);
		teardown();
	}
}

/* When all of a device fails its slots are not to blame: few are retired, and the next device is used. */
static void test_a_device_that_fails_is_left_alone(void)
{
	u64 *m;

	setup_limits("brd:error=write:eio:after=1000", 0, LIMIT_PAGES);
	rig_swapon("brd");
	m = map_pages(REGION_PAGES);
	fill_and_verify(m, REGION_PAGES);
	expect(atomic64_read(&mm.swap[0].nr_bad) > 0);
	expect(atomic64_read(&mm.swap[0].nr_bad) <= 4 * FRAME_RUN);
	expect(atomic64_read(&mm.swap[1].used) > REGION_PAGES / 2);
	teardown();
}

static void test_reads_of_a_slow_device_are_tried_again(void)
{
	struct weir_stats s;

	setup_limits("brd:delay=1us+async,error=read:eio:after=5000:count=3", 0, LIMIT_PAGES);
	fill_and_verify(map_pages(REGION_PAGES), REGION_PAGES);
	mm_stats_sum(&stats, &s);
	expect_eq(s.read_errors, 0);
	expect(s.pages_ahead > REGION_PAGES / 2);
	teardown();
}

static u64 used_of(u32 type)
{
	return atomic64_read(&mm.swap[type].used);
}

static void test_priorities_say_which_device_is_used(void)
{
	setup_limits("brd:prio=-3", 0, LIMIT_PAGES);
	rig_swapon("brd:size=8M,prio=7"); /* 2048 slots */
	rig_swapon("brd:prio=-1");
	rig_swapon("brd:prio=-1");
	fill_and_verify(map_pages(REGION_PAGES), REGION_PAGES);
	expect_eq(used_of(0), 0);
	expect(used_of(1) > 2048 - 2 * FRAME_RUN);
	expect(used_of(2) > REGION_PAGES / 4 && used_of(3) > REGION_PAGES / 4);
	teardown();
}

/* ---- many threads ---- */

enum { STRESS_THREADS = 4, STRESS_PAGES = 3 * LIMIT_PAGES / 2 };

struct worker {
	pthread_t thread;
	u64 *m;
	u64 seed;
	u64 counts[STRESS_PAGES];
};

static struct atomic32 stress_stop;

/* Adds to random pages: each thread to its own word, so that the sum of a page tells of a lost store. */
static void *stress_add(void *arg)
{
	struct worker *w = arg;
	u32 id = (u32)(w->seed & 0xff);

	for (u32 n = 0; n < 60000; n++) {
		u32 page = (u32)(test_random(&w->seed) % STRESS_PAGES);

		if (test_random(&w->seed) % 4 == 0) {
			expect_eq(w->m[page * WORDS + id], w->counts[page]);
		} else {
			w->m[page * WORDS + id]++;
			w->counts[page]++;
		}
	}
	return NULL;
}

static void *stress_pageout(void *arg)
{
	u64 *m = arg, seed = 99;

	while (!atomic32_load_acquire(&stress_stop)) {
		u32 at = (u32)(test_random(&seed) % (STRESS_PAGES - 128));
		sigset_t all, old;

		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		mm_pageout(&mm, vpn_of(m + at * WORDS), 128);
		if (mm.budget.more)
			atomic32_add_return(&others_free, mm_give(&mm, FRAME_RUN));
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	return NULL;
}

static void verify_every_page(void)
{
	struct worker *workers = calloc(STRESS_THREADS, sizeof(*workers));
	pthread_t pageout;
	u64 *m;

	m = map_pages(STRESS_PAGES);
	atomic32_set(&stress_stop, 0);
	expect_eq(pthread_create(&pageout, NULL, stress_pageout, m), 0);
	for (u32 i = 0; i < STRESS_THREADS; i++) {
		workers[i].m = m;
		workers[i].seed = 0x100 * (i + 1) + i;
		expect_eq(pthread_create(&workers[i].thread, NULL, stress_add, &workers[i]), 0);
	}
	for (u32 i = 0; i < STRESS_THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	atomic32_store_release(&stress_stop, 1);
	pthread_join(pageout, NULL);
	for (u32 p = 0; p < STRESS_PAGES; p++) {
		for (u32 i = 0; i < STRESS_THREADS; i++)
			expect_eq(m[p * WORDS + i], workers[i].counts[p]);
	}
	free(workers);
	teardown();
}

static void threads_verify_every_page(const char *swap)
{
	setup_limits(swap, 0, LIMIT_PAGES);
	verify_every_page();
}

/* The grant goes up and down, and with it the spare frames. */
static void test_threads_verify_every_page_of_a_shared_limit(void)
{
	nr_cpus = 16;
	setup_shared(0, LIMIT_PAGES, LIMIT_PAGES, 0);
	expect(mm.frames.buffers.nr_max > mm.frames.buffers.nr);
	verify_every_page();
	nr_cpus = NR_CPUS;
}

static void test_threads_verify_every_page_under_reclaim(void)
{
	threads_verify_every_page("zram");
}

/* Writes that take their time are more than one background thread can do, and there is room for others. */
static void test_the_background_thread_gets_help(void)
{
	nr_cpus = 6;
	setup_limits("brd:delay=write:200us", 0, LIMIT_PAGES);
	fill_and_verify(map_pages(REGION_PAGES), REGION_PAGES);
	kswapd_stop(&mm);
	expect(mm.kswapd.nr_helpers_max == 4);
	expect_eq(mm.kswapd.nr_helpers, 0);
	expect(mm.kswapd.helpers_started > 0);
	teardown();
	threads_verify_every_page("zram");
	nr_cpus = NR_CPUS;
}

static void test_threads_verify_every_page_of_a_slow_device(void)
{
	threads_verify_every_page("brd:delay=20us+async,error=read:eio:rate=1/5000+write:eio:rate=1/5000");
}

/* Faults against unmap and drop: threads map, fill, verify and unmap regions of their own while others reclaim. */
static void *stress_map(void *arg)
{
	u64 seed = *(u64 *)arg;

	for (u32 n = 0; n < 300; n++) {
		u32 nr = 1 + (u32)(test_random(&seed) % 200);
		sigset_t all, old;
		vpn_t start;
		u64 *m;

		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		expect_eq(mm_map(&mm, nr, 1, VM_READ | VM_WRITE, &start), 0);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		m = (u64 *)vm_address(&mm.vm, start);
		for (u32 i = 0; i < nr; i++) {
			expect_eq(m[i * WORDS + 5], 0);
			fill_page(m + i * WORDS, seed + i);
		}
		for (u32 i = 0; i < nr; i++)
			expect(page_is(m + i * WORDS, seed + i));
		pthread_sigmask(SIG_SETMASK, &all, &old);
		if (n % 2)
			mm_drop(&mm, start, nr);
		expect_eq(mm_unmap(&mm, start, nr), 0);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	return NULL;
}

static void test_threads_map_and_unmap_under_reclaim(void)
{
	u64 seeds[STRESS_THREADS], *m;
	pthread_t threads[STRESS_THREADS], pageout;

	setup("zram");
	m = map_pages(STRESS_PAGES);
	expect_eq(mm_adopt(&mm), 0);
	for (u32 i = 0; i < STRESS_PAGES; i++)
		fill_page(m + i * WORDS, i);
	atomic32_set(&stress_stop, 0);
	expect_eq(pthread_create(&pageout, NULL, stress_pageout, m), 0);
	for (u32 i = 0; i < STRESS_THREADS; i++) {
		seeds[i] = i + 1;
		expect_eq(pthread_create(&threads[i], NULL, stress_map, &seeds[i]), 0);
	}
	for (u32 i = 0; i < STRESS_THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic32_store_release(&stress_stop, 1);
	pthread_join(pageout, NULL);
	for (u32 i = 0; i < STRESS_PAGES; i++)
		expect(page_is(m + i * WORDS, i));
	teardown();
}

enum { MOVE_PAGES = 300, MOVE_TAIL = 20 };

/* Page i is untouched, dirty, clean or swapped out, by turns. */
static u64 *mixed_pages(void)
{
	u64 *m = map_pages(MOVE_PAGES), sum = 0;

	for (u32 i = 0; i < MOVE_PAGES; i++) {
		if (i % 4)
			fill_page(m + i * WORDS, i);
	}
	mm_pageout(&mm, vpn_of(m), MOVE_PAGES);
	for (u32 i = 0; i < MOVE_PAGES; i++) {
		if (i % 4 == 1)
			m[i * WORDS] += 0; /* a write: comes back dirty */
		else if (i % 4 == 2)
			sum += m[i * WORDS + 1];
	}
	expect(!mm_is_adopted(&mm) || sum != 1);
	return m;
}

static bool mixed_is(const u64 *m, u32 i)
{
	static const u64 zeros[WORDS];

	return i % 4 && i < MOVE_PAGES ? page_is(m + i * WORDS, i) : !memcmp(m + i * WORDS, zeros, PAGE_SIZE);
}

static void move_mixed(bool adopt, bool keep)
{
	u32 extra = keep ? 0 : MOVE_TAIL;
	u64 *m, *to;

	setup("zram");
	if (adopt)
		expect_eq(mm_adopt(&mm), 0);
	m = mixed_pages();
	to = map_pages(MOVE_PAGES + extra);
	fill_page(to, 77); /* goes */
	expect_eq(mm_move(&mm, vpn_of(m), MOVE_PAGES, vpn_of(to), MOVE_PAGES + extra, keep), 0);
	expect_eq(mm_is_adopted(&mm), adopt);
	/* Nothing of it may have gone to the device for the move. */
	for (u32 i = 0; i < MOVE_PAGES + extra; i++)
		expect(mixed_is(to, i));
	expect_eq(mm_is_free(&mm, vpn_of(m), MOVE_PAGES), !keep);
	for (u32 i = 0; keep && i < MOVE_PAGES; i++)
		expect_eq(m[i * WORDS + 1], 0);
	expect_eq(mm_pageout(&mm, vpn_of(to), MOVE_PAGES) > 0, adopt);
	for (u32 i = 0; i < MOVE_PAGES + extra; i++)
		expect(mixed_is(to, i));
	teardown();
}

static void test_moved_pages_keep_their_contents(void)
{
	for (int i = 0; i < 4; i++)
		move_mixed(i % 2, i / 2);
}

static void test_a_move_of_what_is_not_one_mapping_is_refused(void)
{
	u64 *m, *to;

	setup("zram");
	m = map_pages(16);
	to = map_pages(32);
	expect_eq(mm_protect(&mm, (vpn_t){ vpn_of(m).val + 8 }, 8, VM_READ), 0);
	fill_page(to, 5);
	expect_eq(mm_move(&mm, vpn_of(m), 16, vpn_of(to), 32, false), -EFAULT);
	expect(page_is(to, 5));
	expect_eq(mm_move(&mm, (vpn_t){ vpn_of(to).val + 100 }, 1, vpn_of(to), 1, false), -EFAULT);
	teardown();
}

static void test_locked_pages_stay(void)
{
	u8 present[16];
	u64 *m, *big;

	setup("zram");
	m = map_pages(16);
	big = map_pages(REGION_PAGES);
	for (u32 i = 0; i < 16; i++)
		fill_page(m + i * WORDS, i);
	expect_eq(mm_lock(&mm, vpn_of(m), 16), 0);
	for (u32 i = 0; i < REGION_PAGES; i++)
		fill_page(big + i * WORDS, i);
	expect_eq(mm_pageout(&mm, vpn_of(m), 16), 0);
	expect_eq(vm_resident(&mm.vm, vpn_of(m), 16, present), 0);
	for (u32 i = 0; i < 16; i++)
		expect(present[i] && page_is(m + i * WORDS, i));
	/* Half of the limit and no more. */
	expect_eq(mm_lock(&mm, vpn_of(big), LIMIT_PAGES / 2), -EAGAIN);
	expect_eq(mm_unlock(&mm, vpn_of(m), 16), 0);
	expect_eq(mm_pageout(&mm, vpn_of(m), 16), 16);
	expect(page_is(m + 3 * WORDS, 3));
	/* Locked, a range can be dropped and unmapped still. */
	expect_eq(mm_lock(&mm, vpn_of(m), 16), 0);
	mm_drop(&mm, vpn_of(m), 8);
	expect_eq(m[3 * WORDS + 1], 0);
	expect_eq(mm_unmap(&mm, vpn_of(m), 16), 0);
	expect_eq(atomic64_read(&mm.areas.nr_locked), 0);
	teardown();
}

enum { THINNED = REGION_PAGES / 2, EACH = 8 /* of so many pages one is kept */ };

static struct atomic32 thinned_stop;
static u64 *thinned;

static u64 thin_word(u32 page, u32 word)
{
	return page * 2654435761u + word / 8;
}

static void thin_verify(u32 page)
{
	for (u32 w = 0; w < WORDS; w++)
		expect_eq(thinned[page * WORDS + w], thin_word(page, w));
}

static void *thin_reader(void *arg)
{
	u64 seed = (u64)(uintptr_t)arg;

	while (!atomic32_read(&thinned_stop))
		thin_verify((u32)(test_random(&seed) % (THINNED / EACH / 4)) * EACH);
	return NULL;
}

/* After a mass of pages was freed the store's memory goes back, while the rest is read, and its slots stay what they
 * are. */
static void test_what_is_left_in_the_store_moves_together(void)
{
	pthread_t reader;
	struct swap_device_stats dev;
	struct weir_stats s;
	u64 full;

	setup("zram");
	thinned = map_pages(THINNED);
	for (u32 p = 0; p < THINNED; p++) {
		for (u32 w = 0; w < WORDS; w++)
			thinned[p * WORDS + w] = thin_word(p, w);
	}
	mm_pageout(&mm, vpn_of(thinned), THINNED);
	mm.swap[0].dev->ops->stats(mm.swap[0].dev, &dev);
	full = dev.mem_used_total;
	expect_eq(mm_adopt(&mm), 0);
	for (u32 p = 0; p < THINNED; p++) {
		if (p % EACH)
			mm_drop(&mm, vpn_of(thinned + p * WORDS), 1);
	}
	expect_eq(pthread_create(&reader, NULL, thin_reader, (void *)(uintptr_t)3), 0);
	/* The background thread does it by itself; a tenth of a second each. */
	for (u32 tries = 0; tries < 600; tries++) {
		mm.swap[0].dev->ops->stats(mm.swap[0].dev, &dev);
		if (dev.mem_used_total < full / 4)
			break;
		usleep(100000);
	}
	atomic32_set(&thinned_stop, 1);
	pthread_join(reader, NULL);
	atomic32_set(&thinned_stop, 0);
	for (u32 p = 0; p < THINNED; p += EACH)
		thin_verify(p);
	mm_stats_sum(&stats, &s);
	printf("# store %llu KiB full, %llu KiB compacted: %llu moves freed %llu KiB\n", (unsigned long long)full >> 10,
	       (unsigned long long)dev.mem_used_total >> 10, (unsigned long long)s.pages_compacted,
	       (unsigned long long)s.compact_freed >> 10);
	expect(dev.mem_used_total < full / 4);
	expect(s.pages_compacted > 0 && s.compact_freed > 0);
	teardown();
}

/* What passes over the region in order brought in, the last of them. */
static u64 pages_in_of_the_last_pass(const u64 *m, u32 nr, int passes)
{
	u64 before = 0;

	for (int pass = 0; pass < passes; pass++) {
		before = counter(STAT_PAGES_IN);
		for (u32 i = 0; i < nr; i++)
			expect_eq(m[i * WORDS], i + 1);
	}
	return counter(STAT_PAGES_IN) - before;
}

static u64 *map_numbered(u32 nr)
{
	u64 *m = map_pages(nr);

	for (u32 i = 0; i < nr; i++)
		m[i * WORDS] = i + 1;
	return m;
}

/* By age alone each page would leave just before its turn. */
static void test_of_a_loop_over_too_much_a_part_stays(void)
{
	const u32 nr = 5 * LIMIT_PAGES / 2;
	u64 in;

	setup_limits("zram", 0, LIMIT_PAGES);
	in = pages_in_of_the_last_pass(map_numbered(nr), nr, 6);
	printf("# %llu of %u pages read in a pass\n", (unsigned long long)in, nr);
	expect(in < nr * 9 / 10);
	teardown();
}

/* What lies there unused gives way to a loop that would fit without it. */
static void test_of_a_loop_that_fits_all_stays(void)
{
	const u32 nr = 3 * LIMIT_PAGES / 4;
	u64 *unused, *m, in;

	setup_limits("zram", 0, LIMIT_PAGES);
	m = map_numbered(nr);
	unused = map_numbered(LIMIT_PAGES);
	in = pages_in_of_the_last_pass(m, nr, 4);
	printf("# %llu of %u pages read in a pass\n", (unsigned long long)in, nr);
	expect(in < nr / 4);
	expect_eq(unused[5 * WORDS], 6);
	teardown();
}

/* What says that a page came in ahead of a stream stays behind when it is moved as swapped. */
static void test_pages_of_a_stream_are_moved(void)
{
	const u32 nr = 5 * LIMIT_PAGES / 2, tail = 512;
	u64 *m, *to;

	setup_limits("zram", 0, LIMIT_PAGES);
	m = map_numbered(nr);
	(void)pages_in_of_the_last_pass(m, nr, 2);
	to = map_pages(tail);
	expect_eq(mm_move(&mm, vpn_of(m + (nr - tail) * WORDS), tail, vpn_of(to), tail, false), 0);
	for (u32 i = 0; i < tail; i++)
		expect_eq(to[i * WORDS], nr - tail + i + 1);
	teardown();
}

static void run_all(void)
{
	static const char *const methods[] = { "auto", "move", "copy" }, *const policies[] = { "direct", "cached" };

	printf("# pages leave by %s, come back %s\n", methods[method], policies[policy]);
	run_test(test_below_the_limit_nothing_is_managed);
	run_test(test_fill_and_verify_over_the_limit);
	run_test(test_untouched_pages_read_as_zero);
	run_test(test_adoption_learns_what_is_resident);
	run_test(test_clean_pages_leave_for_free);
	run_test(test_pages_that_cannot_be_protected_stay);
	run_test(test_dropped_pages_read_as_zero_and_give_all_back);
	run_test(test_a_grant_grows_and_is_kept);
	run_test(test_what_is_granted_can_be_given_back);
	run_test(test_the_least_grant_is_enough);
	run_test(test_spare_frames_follow_the_grant);
	run_test(test_unmanaged_memory_is_granted);
	run_test(test_both_limits_are_shared);
	run_test(test_held_pages_stay);
	run_test(test_corrupt_object_is_an_error_never_wrong_data);
	run_test(test_swapoff_brings_everything_back);
	run_test(test_swapoff_that_does_not_fit_is_refused);
	run_test(test_swapoff_can_be_given_up_between_two_steps);
	run_test(test_who_would_be_out_of_memory_takes_a_leaving_device_back);
	run_test(test_swapoff_goes_to_the_other_devices);
	run_test(test_full_swap_is_out_of_memory_and_loses_nothing);
	run_test(test_slots_that_fail_are_retired);
	run_test(test_a_device_that_fails_is_left_alone);
	run_test(test_reads_of_a_slow_device_are_tried_again);
	run_test(test_priorities_say_which_device_is_used);
	run_test(test_threads_verify_every_page_under_reclaim);
	run_test(test_threads_verify_every_page_of_a_shared_limit);
	run_test(test_threads_verify_every_page_of_a_slow_device);
	run_test(test_the_background_thread_gets_help);
	run_test(test_threads_map_and_unmap_under_reclaim);
	run_test(test_what_is_left_in_the_store_moves_together);
	run_test(test_moved_pages_keep_their_contents);
	run_test(test_a_move_of_what_is_not_one_mapping_is_refused);
	run_test(test_locked_pages_stay);
	/* Streams are what readahead sees, past the swap cache. */
	if (policy == SWAPIN_DIRECT) {
		run_test(test_of_a_loop_over_too_much_a_part_stays);
		run_test(test_of_a_loop_that_fits_all_stays);
		run_test(test_pages_of_a_stream_are_moved);
	}
}

int main(void)
{
	rig_run_all_ways(on_sigbus, &method, &policy, run_all);
	return 0;
}
