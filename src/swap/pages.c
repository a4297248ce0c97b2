// SPDX-License-Identifier: MIT
#include "swap/pages.h"

#include <sys/mman.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"

void *pages_reserve(size_t bytes)
{
	void *addr = os_reserve(bytes);

	if (addr) {
		sys3(SYS_madvise, addr, ALIGN_UP(bytes, PAGE_SIZE), MADV_NOHUGEPAGE);
		sys3(SYS_madvise, addr, ALIGN_UP(bytes, PAGE_SIZE), MADV_DONTDUMP);
	}
	return addr;
}

int page_account_charge(struct page_account *account, u64 nr_pages)
{
	const struct swap_memory *memory = account->memory;
	int ret = memory->charge ? memory->charge(memory->ctx, nr_pages) : 0;
	u64 now, max;

	if (ret)
		return ret;
	now = atomic64_fetch_add(&account->nr_pages, nr_pages) + nr_pages;
	max = atomic64_read(&account->nr_pages_max);
	while (now > max && !atomic64_cas_relaxed(&account->nr_pages_max, &max, now))
		;
	return 0;
}

void page_account_uncharge(struct page_account *account, u64 nr_pages)
{
	const struct swap_memory *memory = account->memory;
	u64 before = atomic64_fetch_sub(&account->nr_pages, nr_pages);

	must(before >= nr_pages);
	if (memory->uncharge && nr_pages)
		memory->uncharge(memory->ctx, nr_pages);
}

static void release_ranges(struct page_batch *batch)
{
	for (u32 i = os_release_ranges(batch->ranges, batch->nr_ranges); i < batch->nr_ranges; i++)
		os_release(batch->ranges[i].iov_base, batch->ranges[i].iov_len);
	batch->nr_ranges = 0;
}

void page_batch_add(struct page_batch *batch, void *addr, u64 nr_pages)
{
	struct iovec *last = batch->nr_ranges ? &batch->ranges[batch->nr_ranges - 1] : NULL;
	size_t bytes = pages_to_bytes(nr_pages);

	must(((uintptr_t)addr & ~PAGE_MASK) == 0);
	batch->nr_pages += nr_pages;
	if (last && (char *)last->iov_base + last->iov_len == addr) {
		last->iov_len += bytes;
		return;
	}
	if (last && (char *)addr + bytes == last->iov_base) {
		last->iov_base = addr;
		last->iov_len += bytes;
		return;
	}
	if (batch->nr_ranges == PAGE_BATCH_RANGES)
		release_ranges(batch);
	batch->ranges[batch->nr_ranges++] = (struct iovec){ .iov_base = addr, .iov_len = bytes };
}

u64 page_batch_flush(struct page_batch *batch)
{
	u64 nr_pages = batch->nr_pages;

	release_ranges(batch);
	batch->nr_pages = 0;
	return nr_pages;
}
