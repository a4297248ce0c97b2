// SPDX-License-Identifier: MIT
#include "lab/target_weir.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/os.h"
#include "fault/signal.h"
#include "mm/pte.h"

struct mm lab_mm;
struct mm_stats lab_stats;
static struct sigaction lab_previous;

static void lab_on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	if (fault_signal(&lab_mm, info, ucontext, NULL) == SIGNAL_NOT_OURS)
		signal(sig, SIG_DFL);
}

static u64 block_signals(void)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	return *(u64 *)(void *)&old;
}

static void restore_signals(u64 mask)
{
	sigset_t old;

	sigemptyset(&old);
	memcpy(&old, &mask, sizeof(mask));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int lab_open(const struct lab_config *cfg, char *err, size_t err_size)
{
	u64 pages = bytes_to_pages(cfg->region_bytes);
	struct mm_config mm_cfg = {
		/* Without a limit room for all of it twice: pages leave when they are told to, not for want of room. */
		.resident_pages = cfg->limit_pages ? cfg->limit_pages : 2 * pages + 2 * MM_LIMIT_PAGES_MIN,
		.nr_pages = (u32)(2 * pages + 4096),
		.nr_cpus = os_nr_cpus(),
		.policy = cfg->policy,
		.relax = cfg->relax,
		.no_readahead = cfg->no_readahead,
		.lab = true,
		.stats = &lab_stats,
	};
	struct sigaction action = { .sa_sigaction = lab_on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct swap_device_config dev_cfg;
	struct swap_device *dev;
	int ret = swap_device_parse(cfg->swap, &dev_cfg, err, err_size);

	if (ret)
		return ret;
	if (!dev_cfg.size)
		dev_cfg.size = pages_to_bytes(pages);
	memset(&lab_stats, 0, sizeof(lab_stats));
	ret = mm_create(&lab_mm, &mm_cfg);
	if (ret)
		return ret;
	lab_mm.keep_clean = !cfg->no_keep;
	/*
	 * A second thread that swaps in, or moves what is swapped out, is what the unsafe designs lose data by: there
	 * only where it is asked for.
	 */
	lab_mm.reads_behind = false;
	ret = swap_device_open(&dev_cfg, &dev);
	if (!ret)
		ret = mm_swapon(&lab_mm, dev);
	lab_mm.swap[0].dev_flags &= ~(u32)SWAP_COMPACTS;
	if (!ret)
		ret = mm_adopt(&lab_mm);
	sigfillset(&action.sa_mask);
	if (!ret && sigaction(SIGBUS, &action, &lab_previous))
		ret = -errno;
	if (ret)
		mm_destroy(&lab_mm);
	return ret;
}

void lab_close(void)
{
	sigaction(SIGBUS, &lab_previous, NULL);
	mm_destroy(&lab_mm);
}

static void *lab_map(void *ctx, size_t bytes)
{
	u64 mask = block_signals();
	vpn_t start;
	int ret = mm_map(&lab_mm, (u32)bytes_to_pages(bytes), 1, VM_READ | VM_WRITE, &start);

	(void)ctx;
	restore_signals(mask);
	return ret ? NULL : (void *)vm_address(&lab_mm.vm, start);
}

static void lab_unmap(void *ctx, void *region, size_t bytes)
{
	u64 mask = block_signals();
	int ret = mm_unmap(&lab_mm, vm_vpn(&lab_mm.vm, (uintptr_t)region), (u32)bytes_to_pages(bytes));

	(void)ctx;
	(void)ret;
	restore_signals(mask);
}

static void lab_pageout(void *ctx, void *region, size_t bytes)
{
	u64 mask = block_signals();

	(void)ctx;
	mm_pageout(&lab_mm, vm_vpn(&lab_mm.vm, (uintptr_t)region), (u32)bytes_to_pages(bytes));
	restore_signals(mask);
}

const struct race_target lab_race_target = {
	.map = lab_map,
	.unmap = lab_unmap,
	.pageout = lab_pageout,
};
