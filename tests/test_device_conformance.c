// SPDX-License-Identifier: MIT
/*
 * What every swap device must do, run over every driver and configuration in specs[]. A slot is used
 * by one thread at a time, as the core promises. Faults injected: refused charges. Devices that need an engine come as
 * arguments, under a `weir run` that has started it.
 */
#include <pthread.h>

#include "device_pages.h"

/* Devices work inside signal handlers: once open, neither they nor their libraries may allocate. */
static struct atomic64 nr_allocations;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t nr, size_t size);

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	atomic64_fetch_add(&nr_allocations, 1);
	return __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t nr, size_t size)
{
	atomic64_fetch_add(&nr_allocations, 1);
	return __libc_calloc(nr, size);
}
#endif

enum { NR_SLOTS = 512, CACHED_PAGES_MAX = 64, DESCRIPTOR_PAGES_MAX = 64 };

static const struct spec {
	const char *text;
	u32 tables; /* pages that zram and filters keep for NR_SLOTS slots */
	u32 buffers; /* and for a batch */
} specs[] = {
	{ "zram", 2, 0 },
	{ "zram:level=8", 2, 0 },
	{ "zram:algo=zstd,level=1", 2, 0 },
	{ "zram:algo=zstd,level=9", 2, 0 },
	{ "zram:stats=on", 2, 0 },
	{ "zram:checksum=on", 3, 0 },
	{ "zram:crypt=on", 5, 32 },
	{ "zram:error=corrupt:count=0", 2, 0 },
	{ "zram:stats=on,checksum=on,crypt=on,error=corrupt:count=0", 6, 32 },
	{ "brd", 0, 0 },
	{ "brd:read_delay=10us", 0, 0 },
	{ "brd:stats=on", 0, 0 },
	{ "brd:checksum=on", 1, 0 },
	{ "brd:crypt=on", 3, 32 },
	{ "brd:error=write:eio:count=0", 0, 0 },
	{ "brd:delay=read:1us", 0, 0 },
	{ "file:.,crypt=off,checksum=off", 0, 0 },
	{ "file:.,direct=off,crypt=off,checksum=on", 1, 0 },
	{ "file:.,prealloc=on", 3, 32 },
	{ "file:.,poll=off", 3, 32 },
	{ "brd:delay=1us,error=corrupt:count=0,crypt=on,checksum=on,stats=on", 4, 32 },
};

static struct page_limit account;
static const struct spec *spec;

struct pages {
	u8 page[PAGE_SIZE];
	u8 back[PAGE_SIZE];
};

static int write_page(struct swap_device *dev, u32 slot, enum page_kind kind, u64 number, struct pages *p)
{
	page_make(p->page, kind, number);
	return dev->ops->write(dev, slot, p->page);
}

static void verify_page(struct swap_device *dev, u32 slot, enum page_kind kind, u64 number, struct pages *p)
{
	page_make(p->page, kind, number);
	memset(p->back, 0xa5, PAGE_SIZE);
	expect_eq(dev->ops->read(dev, slot, p->back), 0);
	expect(memcmp(p->page, p->back, PAGE_SIZE) == 0);
}

static struct pages buffers;

/* Of zram's size classes each has a page of descriptors or none, or a few. */
static u32 descriptor_pages_max(const struct swap_device *dev)
{
	return strcmp(dev->name, "zram") == 0 ? DESCRIPTOR_PAGES_MAX : 0;
}

static void expect_used(struct swap_device *dev, u64 nr_slots)
{
	struct swap_device_stats stats;

	dev->ops->stats(dev, &stats);
	expect_eq(stats.orig_data_size, nr_slots * PAGE_SIZE);
	expect_eq(stats.mem_used_total, atomic64_read(&account.charged) * PAGE_SIZE);
	expect(stats.mem_used_max >= stats.mem_used_total);
	if (nr_slots == 0) {
		expect_eq(stats.compr_data_size, 0);
		expect_eq(stats.same_pages, 0);
		expect_eq(stats.huge_pages, 0);
		expect(atomic64_read(&account.charged) <=
		       CACHED_PAGES_MAX + spec->tables + spec->buffers + descriptor_pages_max(dev));
	}
}

static void discard_all(struct swap_device *dev)
{
	for (u32 i = 0; i < dev->nr_slots; i++)
		dev->ops->discard(dev, i);
	expect_used(dev, 0);
}

static void check_every_kind(struct swap_device *dev)
{
	for (u32 i = 0; i < NR_SLOTS; i++)
		expect_eq(write_page(dev, i, i % NR_PAGE_KINDS, i, &buffers), 0);
	expect_used(dev, NR_SLOTS);
	for (u32 i = 0; i < NR_SLOTS; i++)
		verify_page(dev, i, i % NR_PAGE_KINDS, i, &buffers);
	/* Reading takes nothing away. */
	for (u32 i = NR_SLOTS; i-- > 0;)
		verify_page(dev, i, i % NR_PAGE_KINDS, i, &buffers);
}

/* From every kind to every kind. */
static void check_overwrite(struct swap_device *dev)
{
	for (u32 from = 0; from < NR_PAGE_KINDS; from++) {
		for (u32 to = 0; to < NR_PAGE_KINDS; to++) {
			u32 slot = from * NR_PAGE_KINDS + to;

			expect_eq(write_page(dev, slot, from, slot, &buffers), 0);
			expect_eq(write_page(dev, slot, to, slot + 1000, &buffers), 0);
			verify_page(dev, slot, to, slot + 1000, &buffers);
		}
	}
	expect_used(dev, NR_SLOTS);
}

static void check_discard(struct swap_device *dev)
{
	for (u32 i = 0; i < NR_SLOTS; i += 2)
		dev->ops->discard(dev, i);
	expect_used(dev, NR_SLOTS / 2);
	for (u32 i = 0; i < NR_SLOTS; i += 2) {
		expect_eq(dev->ops->read(dev, i, buffers.back), -EIO);
		dev->ops->discard(dev, i);
	}
	expect_used(dev, NR_SLOTS / 2);
	for (u32 i = 0; i < NR_SLOTS; i += 2)
		expect_eq(write_page(dev, i, (i + 2) % NR_PAGE_KINDS, i + 7, &buffers), 0);
	for (u32 i = 0; i < NR_SLOTS; i += 2)
		verify_page(dev, i, (i + 2) % NR_PAGE_KINDS, i + 7, &buffers);
	/* A slot that comes and goes, as under a program that writes what it has just read. */
	for (u32 n = 0; n < 1000; n++) {
		dev->ops->discard(dev, 3);
		expect_eq(write_page(dev, 3, n % NR_PAGE_KINDS, n, &buffers), 0);
	}
	verify_page(dev, 3, 999 % NR_PAGE_KINDS, 999, &buffers);
	discard_all(dev);
}

/* The whole device holds the worst that can be written to it, and takes it again after it was emptied. */
static void check_full(struct swap_device *dev)
{
	for (int round = 0; round < 3; round++) {
		for (u32 i = 0; i < NR_SLOTS; i++)
			expect_eq(write_page(dev, i, PAGE_RANDOM, i + (u32)round, &buffers), 0);
		expect_used(dev, NR_SLOTS);
		for (u32 i = 0; i < NR_SLOTS; i++)
			verify_page(dev, i, PAGE_RANDOM, i + (u32)round, &buffers);
		discard_all(dev);
	}
}

/* The pages themselves are in memory that is charged. */
static bool is_in_memory(const struct swap_device *dev)
{
	return dev->flags & SWAP_SYNCHRONOUS_IO;
}

static bool needs_engine(const struct swap_device *dev)
{
	return swap_driver_of(&(struct swap_device_config){ .driver = dev->name })->engine != NULL;
}

static void check_refused_charge(struct swap_device *dev)
{
	struct swap_device_stats before, after;
	u32 stored = 0, room = NR_SLOTS / 4 - spec->tables;

	if (!is_in_memory(dev))
		return;
	dev->ops->stats(dev, &before);
	atomic64_set(&account.limit, NR_SLOTS / 4);
	for (u32 i = 0; i < NR_SLOTS; i++) {
		int ret = write_page(dev, i, PAGE_RANDOM, i, &buffers);

		expect(ret == 0 || ret == -ENOSPC);
		expect(ret == 0 || i + descriptor_pages_max(dev) >= room);
		stored += ret == 0;
	}
	expect(stored <= room && stored + descriptor_pages_max(dev) >= room);
	dev->ops->stats(dev, &after);
	expect_eq(after.failed_writes - before.failed_writes, NR_SLOTS - stored);
	/* Refusals cost the written slot only, and only until memory is back. */
	for (u32 i = 0; i < stored; i++)
		verify_page(dev, i, PAGE_RANDOM, i, &buffers);
	expect_used(dev, stored);
	atomic64_set(&account.limit, UINT64_MAX);
	for (u32 i = stored; i < NR_SLOTS; i++)
		expect_eq(write_page(dev, i, PAGE_RANDOM, i, &buffers), 0);
	for (u32 i = 0; i < NR_SLOTS; i++)
		verify_page(dev, i, PAGE_RANDOM, i, &buffers);
	discard_all(dev);
}

/* Slots all over the device in one batch, of which some fail: each has its own result. */
static void check_batches(struct swap_device *dev)
{
	static _Alignas(PAGE_SIZE) u8 pages[SWAP_BATCH_MAX][PAGE_SIZE];
	struct swap_io io[SWAP_BATCH_MAX];

	for (u32 nr = 1; nr <= SWAP_BATCH_MAX; nr += 21) {
		for (u32 i = 0; i < nr; i++) {
			io[i] = (struct swap_io){ .slot = (i * 37 + nr) % NR_SLOTS, .page = pages[i], .err = 1 };
			page_make(pages[i], i % NR_PAGE_KINDS, i + nr);
		}
		swap_device_write_pages(dev, io, nr);
		for (u32 i = 0; i < nr; i++)
			expect_eq(io[i].err, 0);
		expect_used(dev, nr);
		for (u32 i = 0; i < nr; i += 5)
			dev->ops->discard(dev, io[i].slot);
		memset(pages, 0xa5, sizeof(pages));
		swap_device_read_pages(dev, io, nr);
		for (u32 i = 0; i < nr; i++) {
			expect_eq(io[i].err, i % 5 ? 0 : -EIO);
			page_make(buffers.page, i % NR_PAGE_KINDS, i + nr);
			expect(io[i].err || memcmp(buffers.page, pages[i], PAGE_SIZE) == 0);
		}
		discard_all(dev);
	}
}

struct soak {
	struct swap_device *dev;
	u64 seed;
	u32 first, nr, nr_steps;
};

/* The shadow of slot i is what page_make(kind[i], number[i]) makes; number 0 means that it holds nothing. */
static void *soak_slots(void *arg)
{
	struct soak *s = arg;
	struct swap_device *dev = s->dev;
	u8 kind[NR_SLOTS] = { 0 };
	u64 number[NR_SLOTS] = { 0 };
	struct pages p;

	for (u32 n = 1; n <= s->nr_steps; n++) {
		u32 i = (u32)(test_random(&s->seed) % s->nr);
		u32 op = (u32)(test_random(&s->seed) % 8);

		if (op < 3 && number[i]) {
			verify_page(dev, s->first + i, kind[i], number[i], &p);
		} else if (op < 6) {
			u8 new_kind = (u8)(test_random(&s->seed) % NR_PAGE_KINDS);

			if (write_page(dev, s->first + i, new_kind, n, &p) == 0) {
				kind[i] = new_kind;
				number[i] = n;
			}
		} else {
			dev->ops->discard(dev, s->first + i);
			number[i] = 0;
		}
	}
	for (u32 i = 0; i < s->nr; i++) {
		if (number[i])
			verify_page(dev, s->first + i, kind[i], number[i], &p);
	}
	return NULL;
}

static void check_soak(struct swap_device *dev, u64 limit)
{
	struct soak s = { .dev = dev, .seed = 42, .nr = NR_SLOTS, .nr_steps = needs_engine(dev) ? 800 : 8000 };

	atomic64_set(&account.limit, limit);
	soak_slots(&s);
	atomic64_set(&account.limit, UINT64_MAX);
	discard_all(dev);
}

static void check_threads(struct swap_device *dev, u64 limit)
{
	enum { NR_THREADS = 4 };
	pthread_t threads[NR_THREADS];
	struct soak s[NR_THREADS];

	atomic64_set(&account.limit, limit);
	for (u32 i = 0; i < NR_THREADS; i++) {
		s[i] = (struct soak){
			.dev = dev,
			.seed = i + 1,
			.first = i * (NR_SLOTS / NR_THREADS),
			.nr = NR_SLOTS / NR_THREADS,
			.nr_steps = needs_engine(dev) ? 600 : 3000,
		};
		expect_eq(pthread_create(&threads[i], NULL, soak_slots, &s[i]), 0);
	}
	for (u32 i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic64_set(&account.limit, UINT64_MAX);
	discard_all(dev);
}

static void check_device(void)
{
	struct swap_device *dev = device_open(spec->text, NR_SLOTS, &account);
	u64 allocated = atomic64_read(&nr_allocations);

	expect(strncmp(spec->text, dev->name, strlen(dev->name)) == 0);
	expect(is_in_memory(dev) ==
	       !(swap_driver_of(&(struct swap_device_config){ .driver = dev->name })->flags & SWAP_DRIVER_EXTERNAL));
	expect(dev->flags & SWAP_DISCARD);
	expect_used(dev, 0);
	expect_eq(dev->ops->read(dev, 0, buffers.back), -EIO);
	discard_all(dev);
	check_every_kind(dev);
	check_overwrite(dev);
	check_discard(dev);
	check_full(dev);
	check_refused_charge(dev);
	check_batches(dev);
	check_soak(dev, UINT64_MAX);
	check_soak(dev, NR_SLOTS / 5);
	expect_eq(atomic64_read(&nr_allocations), allocated);
	check_threads(dev, UINT64_MAX);
	check_threads(dev, NR_SLOTS / 5);
	/* Closed with data in it. */
	check_every_kind(dev);
	dev->ops->close(dev);
	expect_eq(atomic64_read(&account.charged), 0);
	printf("ok %s\n", spec->text);
	fflush(stdout);
}

static void test_allocations_are_seen(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
	u64 before = atomic64_read(&nr_allocations);

	free(strdup(specs[0].text));
	expect_eq(atomic64_read(&nr_allocations), before + 1);
#endif
}

/* Without hooks nobody counts, and all else is the same. */
static void test_no_hooks(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct swap_device *dev = device_open(specs[i].text, NR_SLOTS, &account);

		dev->memory = (struct swap_memory){ .ctx = NULL };
		for (u32 n = 0; n < NR_SLOTS; n++)
			expect_eq(write_page(dev, n, n % NR_PAGE_KINDS, n, &buffers), 0);
		for (u32 n = 0; n < NR_SLOTS; n++)
			verify_page(dev, n, n % NR_PAGE_KINDS, n, &buffers);
		dev->ops->close(dev);
	}
}

static void test_good_specs(void)
{
	struct swap_device_config cfg;
	char err[256];

	expect_eq(swap_device_parse("zram", &cfg, err, sizeof(err)), 0);
	expect(strcmp(cfg.driver, "zram") == 0);
	expect_eq(cfg.size, 0);
	expect_eq(cfg.algo, ZCOMP_LZ4);
	expect_eq(cfg.level, 1);
	expect_eq(swap_device_parse("zram:size=1.5G,level=7,algo=zstd", &cfg, err, sizeof(err)), 0);
	expect_eq(cfg.size, 3ull << 29);
	expect_eq(cfg.algo, ZCOMP_ZSTD);
	expect_eq(cfg.level, 7);
	expect_eq(swap_device_parse("zram:algo=zstd", &cfg, err, sizeof(err)), 0);
	expect_eq(cfg.level, 3);
	expect_eq(swap_device_parse("brd:read_delay=1ms,size=64k", &cfg, err, sizeof(err)), 0);
	expect(strcmp(cfg.driver, "brd") == 0);
	expect_eq(cfg.size, 65536);
	expect_eq(cfg.read_delay_ns, 1000000);
}

#define COMMON_OPTIONS "prio, stats, checksum, crypt, error, delay"

static void test_bad_specs(void)
{
	static const struct {
		const char *spec, *err;
	} rows[] = {
		{ "zam", "unknown swap device \"zam\" (known: zram, brd, file, nbd, rados)" },
		{ "", "unknown swap device \"\" (known: zram, brd, file, nbd, rados)" },
		{ "zram=3:size=1M", "unknown swap device \"zram\" (known: zram, brd, file, nbd, rados)" },
		{ "zram:algp=lz4", "zram: unknown option \"algp\" (known: algo, level, size, " COMMON_OPTIONS ")" },
		{ "zram:", "zram: unknown option \"\" (known: algo, level, size, " COMMON_OPTIONS ")" },
		{ "zram:size=1M,", "zram: unknown option \"\" (known: algo, level, size, " COMMON_OPTIONS ")" },
		{ "zram:algo=gzip", "zram: algo=gzip: expected lz4 or zstd or zstd:dict" },
		{ "zram:level=99", "zram: level=99: expected 1 to 19" },
		{ "zram:algo=zstd,level=0", "zram: level=0: expected 1 to 19" },
		{ "zram:level=x", "zram: level=x: expected 1 to 19" },
		{ "zram:level=", "zram: level=: expected 1 to 19" },
		{ "zram:size=1k", "zram: size=1k: expected 4K to 1T, such as 512M" },
		{ "zram:size=1025G", "zram: size=1025G: expected 4K to 1T, such as 512M" },
		{ "zram:size=big", "zram: size=big: expected 4K to 1T, such as 512M" },
		{ "zram:size=1M,size=2M", "zram: option \"size\" is given twice" },
		{ "zram:size",
		  "zram: option \"size\" has no value (size=...: uncompressed bytes that the device holds)" },
		{ "brd:algo=lz4", "brd: unknown option \"algo\" (known: size, read_delay, " COMMON_OPTIONS ")" },
		{ "file", "file: no path given (file:path: a directory, a file or a block device)" },
		{ "file:/tmp,direct=1", "file: direct=1: expected on or off" },
		{ "file:/tmp,size=2T", "file: size=2T: expected 4K to 1T, such as 512M" },
		{ "nbd", "nbd: no URI given (nbd:URI: where the server is, such as nbd://host/export)" },
		{ "nbd:nbd://h,connections=17", "nbd: connections=17: expected 1 to 16" },
		{ "nbd:nbd://h,timeout=500ms",
		  "nbd: timeout=500ms: expected a time up to 86400s, such as 10us or 1ms" },
		{ "nbd:nbd://h,conf=x", "nbd: unknown option \"conf\" (known: connections, timeout, overwrite, size, "
					"ring, space, " COMMON_OPTIONS ")" },
		{ "rados:", "rados: no POOL given (rados:POOL: the pool that takes the pages)" },
		{ "brd:read_delay=5", "brd: read_delay=5: expected a time up to 60s, such as 10us or 1ms" },
		{ "brd:crypt=yes", "brd: crypt=yes: expected on or off" },
		{ "brd:checksum=", "brd: checksum=: expected on or off" },
		{ "brd:crypt=on,crypt=off", "brd: option \"crypt\" is given twice" },
		{ "brd:stats", "brd: option \"stats\" has no value (stats=...: measure each call)" },
	};
	struct swap_device_config cfg;
	char err[256], text[400];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		expect_eq(swap_device_parse(rows[i].spec, &cfg, err, sizeof(err)), -EINVAL);
		if (strcmp(err, rows[i].err) != 0) {
			fprintf(stderr, "\"%s\": \"%s\", expected \"%s\"\n", rows[i].spec, err, rows[i].err);
			exit(1);
		}
	}
	/* Too long for any meaning, and for a small buffer. */
	for (size_t len = 0; len < sizeof(text) - 16; len++) {
		strcpy(text, "zram:level=");
		memset(text + 11, '0', len);
		strcpy(text + 11 + len, "5x");
		expect_eq(swap_device_parse(text, &cfg, err, 1 + len % 32), -EINVAL);
		expect_eq(swap_device_parse(text + 5, &cfg, err, sizeof(err)), -EINVAL);
	}
}

static void test_bad_configs(void)
{
	struct swap_device_config cfg = { .driver = "zram", .size = 0 };
	struct swap_device *dev;

	expect_eq(swap_device_open(&cfg, &dev), -EINVAL);
	cfg.size = 1 << 20;
	cfg.level = 20;
	expect_eq(swap_device_open(&cfg, &dev), -EINVAL);
	cfg.level = 0;
	cfg.algo = (enum zcomp_algo)3;
	expect_eq(swap_device_open(&cfg, &dev), -EINVAL);
	cfg.algo = ZCOMP_LZ4;
	cfg.driver = "tape";
	expect_eq(swap_device_open(&cfg, &dev), -EINVAL);
	for (size_t i = 0; swap_drivers[i]; i++)
		expect(swap_drivers[i]->help && swap_drivers[i]->name);
}

/* One that needs an engine, with its filters as they are by default: crypt. */
static void check_spec(const char *text)
{
	const struct spec external = { text, 3, 32 };

	spec = &external;
	check_device();
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		check_spec(argv[i]);
	if (argc > 1)
		return 0;
	run_test(test_good_specs);
	run_test(test_bad_specs);
	run_test(test_bad_configs);
	run_test(test_allocations_are_seen);
	run_test(test_no_hooks);
	for (spec = specs; spec < specs + ARRAY_SIZE(specs); spec++)
		check_device();
	return 0;
}
