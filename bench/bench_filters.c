// SPDX-License-Identifier: MIT
/*
 * What do the filters cost? Pages written to and read from a device that only copies them, plainly and through each
 * filter, one by one and in batches of 64; nanoseconds per page, what the copy takes off. Interleaved.
 *
 *   bench_filters [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "swap/filter.h"
#include "sync/wait.h"

enum { SLOTS = 256, PASSES = 8, ROUNDS_MAX = 1001 };

static u8 store[SLOTS][PAGE_SIZE] __attribute__((aligned(4096)));
static u8 pages[SLOTS][PAGE_SIZE] __attribute__((aligned(4096)));

static int copy_read(struct swap_device *dev, u32 slot, void *page)
{
	(void)dev;
	memcpy(page, store[slot], PAGE_SIZE);
	return 0;
}

static int copy_write(struct swap_device *dev, u32 slot, const void *page)
{
	(void)dev;
	memcpy(store[slot], page, PAGE_SIZE);
	return 0;
}

static void copy_discard(struct swap_device *dev, u32 slot)
{
	(void)dev;
	(void)slot;
}

static void copy_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	(void)dev;
	*stats = (struct swap_device_stats){ 0 };
}

static void copy_close(struct swap_device *dev)
{
	(void)dev;
}

static const struct swap_device_ops copy_ops = {
	.read = copy_read,
	.write = copy_write,
	.discard = copy_discard,
	.stats = copy_stats,
	.close = copy_close,
};

enum way { WAY_NONE, WAY_STATS, WAY_CHECKSUM, WAY_CRYPT, WAY_BOTH, NR_WAYS };
enum step { WRITE, READ, WRITE_BATCH, READ_BATCH, NR_STEPS };

static const char *const names[NR_WAYS] = { "the copy alone", "stats", "checksum", "crypt", "crypt and checksum" };
static struct swap_device devices[NR_WAYS];
static u64 ns[NR_WAYS][NR_STEPS][ROUNDS_MAX];

static void fail(const char *what)
{
	fprintf(stderr, "bench_filters: %s\n", what);
	exit(1);
}

static struct swap_device *open_way(enum way way)
{
	struct swap_device *dev = &devices[way];
	int ret = 0;

	*dev = (struct swap_device){ .ops = &copy_ops, .name = "copy", .nr_slots = SLOTS };
	if (way == WAY_CRYPT || way == WAY_BOTH)
		ret = filter_crypt_open(dev, &dev);
	if (!ret && (way == WAY_CHECKSUM || way == WAY_BOTH))
		ret = filter_checksum_open(dev, &dev);
	if (!ret && way == WAY_STATS)
		ret = filter_stats_open(dev, NULL, &dev);
	if (ret)
		fail(strerror(-ret));
	return dev;
}

static void do_batches(struct swap_device *dev, bool is_write)
{
	struct swap_io io[SWAP_BATCH_MAX];

	for (u32 slot = 0; slot < SLOTS; slot += SWAP_BATCH_MAX) {
		for (u32 i = 0; i < SWAP_BATCH_MAX; i++)
			io[i] = (struct swap_io){ .slot = slot + i, .page = pages[slot + i] };
		if (is_write)
			swap_device_write_pages(dev, io, SWAP_BATCH_MAX);
		else
			swap_device_read_pages(dev, io, SWAP_BATCH_MAX);
		for (u32 i = 0; i < SWAP_BATCH_MAX; i++) {
			if (io[i].err)
				fail("a page failed");
		}
	}
}

static void do_step(struct swap_device *dev, enum step step)
{
	int ret = 0;

	if (step == WRITE_BATCH || step == READ_BATCH) {
		do_batches(dev, step == WRITE_BATCH);
		return;
	}
	for (u32 slot = 0; slot < SLOTS; slot++) {
		if (step == WRITE)
			ret |= dev->ops->write(dev, slot, pages[slot]);
		else
			ret |= dev->ops->read(dev, slot, pages[slot]);
	}
	if (ret)
		fail("a page failed");
}

static u64 measure(struct swap_device *dev, enum step step)
{
	u64 started = sync_clock_ns();

	for (int i = 0; i < PASSES; i++)
		do_step(dev, step);
	return (sync_clock_ns() - started) / (PASSES * SLOTS);
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 median(u64 *values, int nr)
{
	qsort(values, (size_t)nr, sizeof(*values), compare);
	return values[nr / 2];
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 101;
	struct swap_device *dev[NR_WAYS];
	u64 seed = 1;

	if (rounds < 1 || rounds > ROUNDS_MAX)
		fail("ROUNDS is 1 to 1001");
	for (size_t i = 0; i < sizeof(pages); i++)
		((u8 *)pages)[i] = (u8)((seed = seed * 6364136223846793005ull + 1442695040888963407ull) >> 56);
	for (int way = 0; way < NR_WAYS; way++)
		dev[way] = open_way((enum way)way);
	for (int round = 0; round < rounds; round++) {
		for (int way = 0; way < NR_WAYS; way++) {
			for (int step = 0; step < NR_STEPS; step++)
				ns[way][step][round] = measure(dev[way], (enum step)step);
		}
	}
	printf("%-20s %10s %10s %14s %14s  ns a page, medians of %d\n", "", "write", "read", "write by 64",
	       "read by 64", rounds);
	for (int way = 0; way < NR_WAYS; way++) {
		printf("%-20s", names[way]);
		for (int step = 0; step < NR_STEPS; step++) {
			u64 base = way ? ns[WAY_NONE][step][rounds / 2] : 0;

			printf(" %*lld", step < WRITE_BATCH ? 10 : 14,
			       (long long)(median(ns[way][step], rounds) - base));
		}
		putchar('\n');
		dev[way]->ops->close(dev[way]);
	}
	return 0;
}
