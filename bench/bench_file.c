// SPDX-License-Identifier: MIT
/*
 * The file device alone: MiB/s of writes and reads in batches of 64 neighbours, as swap-out and readahead make them,
 * and of single random reads by some threads, as faults make them. bench/file.sh compares it with fio.
 *
 *   bench_file PATH MIB THREADS
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "swap/swap_device.h"
#include "sync/wait.h"

enum { READS_PER_THREAD = 2000, THREADS_MAX = 64 };

static _Alignas(PAGE_SIZE) u8 pages[SWAP_BATCH_MAX][PAGE_SIZE];
static struct swap_device *dev;
static u32 nr_slots;

static void die(const char *what)
{
	fprintf(stderr, "bench_file: %s\n", what);
	exit(1);
}

static double batches(void (*transfer)(struct swap_device *dev, struct swap_io *io, u32 nr))
{
	struct swap_io io[SWAP_BATCH_MAX];
	u64 start = sync_clock_ns();

	for (u32 first = 0; first + SWAP_BATCH_MAX <= nr_slots; first += SWAP_BATCH_MAX) {
		for (u32 i = 0; i < SWAP_BATCH_MAX; i++)
			io[i] = (struct swap_io){ .slot = first + i, .page = pages[i] };
		transfer(dev, io, SWAP_BATCH_MAX);
		for (u32 i = 0; i < SWAP_BATCH_MAX; i++) {
			if (io[i].err)
				die("a transfer failed");
		}
	}
	return (double)pages_to_bytes(nr_slots) / (1 << 20) / ((double)(sync_clock_ns() - start) / 1e9);
}

static void *read_random(void *arg)
{
	_Alignas(PAGE_SIZE) u8 page[PAGE_SIZE];
	u64 seed = (uintptr_t)arg + 1;

	for (u32 i = 0; i < READS_PER_THREAD; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		if (dev->ops->read(dev, (u32)(seed >> 33) % nr_slots, page))
			die("a read failed");
	}
	return NULL;
}

static double random_reads(u32 nr_threads)
{
	pthread_t threads[THREADS_MAX];
	u64 start = sync_clock_ns();

	for (u32 i = 0; i < nr_threads; i++) {
		if (pthread_create(&threads[i], NULL, read_random, (void *)(uintptr_t)i))
			die("no thread");
	}
	for (u32 i = 0; i < nr_threads; i++)
		pthread_join(threads[i], NULL);
	return (double)pages_to_bytes((u64)nr_threads * READS_PER_THREAD) / (1 << 20) /
	       ((double)(sync_clock_ns() - start) / 1e9);
}

int main(int argc, char **argv)
{
	u32 mib = argc > 2 ? (u32)atoi(argv[2]) : 4, nr_threads = argc > 3 ? (u32)atoi(argv[3]) : 2;
	struct swap_device_config cfg;
	char spec[SWAP_TEXT_SIZE], err[256];

	if (!mib || !nr_threads || nr_threads > THREADS_MAX)
		die("usage: bench_file PATH MIB THREADS");
	snprintf(spec, sizeof(spec), "file:%s,force=on", argc > 1 ? argv[1] : ".");
	if (swap_device_parse(spec, &cfg, err, sizeof(err)))
		die(err);
	if (swap_device_open(&cfg, &dev))
		die("the device cannot be opened");
	nr_slots = (u32)min_u64(mib << (20 - PAGE_SHIFT), dev->nr_slots);
	memset(pages, 0x5a, sizeof(pages));
	printf("write %.0f ", batches(swap_device_write_pages));
	for (u32 slot = 0; slot < nr_slots; slot++)
		dev->ops->discard(dev, slot);
	printf("again %.0f ", batches(swap_device_write_pages));
	printf("read %.0f ", batches(swap_device_read_pages));
	printf("random %.1f\n", random_reads(nr_threads));
	dev->ops->close(dev);
	return 0;
}
