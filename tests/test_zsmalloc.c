// SPDX-License-Identifier: MIT
/*
 * The size-class store alone: a shadow of every object, the walker after every phase, and a counting charge hook whose
 * sum must match both the store's own figure and what mincore(2) says is resident.
 */
#include "swap/zsmalloc.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "base/os.h"
#include "swap/pages.h"
#include "sync/atomic.h"
#include "anonymous.h"
#include "test.h"

struct account {
	struct atomic64 charged;
	u64 limit; /* pages */
};

static int charge(void *ctx, u64 pages)
{
	struct account *a = ctx;

	if (atomic64_fetch_add(&a->charged, pages) + pages <= a->limit)
		return 0;
	atomic64_fetch_sub(&a->charged, pages);
	return -ENOMEM;
}

static void uncharge(void *ctx, u64 pages)
{
	struct account *a = ctx;

	expect(atomic64_fetch_sub(&a->charged, pages) >= pages);
}

static struct account account;
static struct swap_memory memory = { .charge = charge, .uncharge = uncharge, .ctx = &account };

static struct zs_pool *pool_open(u64 nr_objects, u64 limit)
{
	struct zs_pool *pool;

	account = (struct account){ .limit = limit };
	expect_eq(zs_create(nr_objects, &memory, &pool), 0);
	return pool;
}

static void pool_check(struct zs_pool *pool)
{
	struct zs_stats stats;

	expect(zs_is_valid(pool));
	zs_stats(pool, &stats);
	expect_eq(stats.nr_pages, atomic64_read(&account.charged));
	expect(stats.nr_pages_max >= stats.nr_pages);
}

/* Of what is charged, what stays. */
static u64 table_pages(struct zs_pool *pool)
{
	struct zs_stats stats;

	zs_stats(pool, &stats);
	return stats.nr_table_pages;
}

static void pool_close(struct zs_pool *pool)
{
	pool_check(pool);
	zs_destroy(pool);
	expect_eq(atomic64_read(&account.charged), 0);
}

/* An object is filled with a byte of its own number; the first four bytes, where there are as many, are the number. */
struct object {
	struct zs_handle handle;
	u32 size;
};

static void object_fill(struct zs_pool *pool, const struct object *o, u32 no)
{
	char *p = zs_map(pool, o->handle);

	memset(p, (int)(no % 251), o->size);
	if (o->size >= sizeof(no))
		memcpy(p, &no, sizeof(no));
}

static void object_verify(struct zs_pool *pool, const struct object *o, u32 no)
{
	const char *p = zs_map(pool, o->handle);
	u32 head = no;

	if (o->size >= sizeof(no))
		memcpy(&head, p, sizeof(head));
	expect_eq(head, no);
	for (u32 i = sizeof(no); i < o->size; i++) {
		if (p[i] != (char)(no % 251))
			expect(0 && "object overwritten");
	}
}

/* Every size there is, each alone and beside others. */
static void test_every_size(void)
{
	static struct object objects[PAGE_SIZE + 1];
	struct zs_pool *pool = pool_open(PAGE_SIZE, UINT64_MAX);

	for (u32 size = 1; size <= PAGE_SIZE; size++) {
		objects[size].size = size;
		expect_eq(zs_alloc(pool, size, &objects[size].handle), 0);
		object_fill(pool, &objects[size], size);
	}
	pool_check(pool);
	for (u32 size = 1; size <= PAGE_SIZE; size++)
		object_verify(pool, &objects[size], size);
	for (u32 size = 1; size <= PAGE_SIZE; size++)
		zs_free(pool, objects[size].handle);
	pool_close(pool);
}

/* One class can hold all objects that the pool was made for, whichever class it is. */
static void test_room_for_one_size(void)
{
	static struct zs_handle handles[3000];
	static const u32 sizes[] = { 1, 64, 65, 1000, 2049, 3584, 4096 };

	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		struct zs_pool *pool = pool_open(ARRAY_SIZE(handles), UINT64_MAX);

		for (size_t i = 0; i < ARRAY_SIZE(handles); i++)
			expect_eq(zs_alloc(pool, sizes[s], &handles[i]), 0);
		pool_check(pool);
		for (size_t i = 0; i < ARRAY_SIZE(handles); i++)
			zs_free(pool, handles[i]);
		pool_close(pool);
	}
}

static u64 resident_pages(const char *addr, u64 nr_pages)
{
	u64 resident = 0;

	for (u64 i = 0; i < nr_pages; i++) {
		unsigned char in = 0;

		expect_eq(mincore((void *)(uintptr_t)(addr + i * PAGE_SIZE), PAGE_SIZE, &in), 0);
		resident += in & 1;
	}
	return resident;
}

/* Filled and emptied, the store keeps next to nothing charged, and the kernel agrees that the pages are gone. */
static void test_memory_goes_back(void)
{
	enum { NR = 4000, TABLES = 4 };
	static struct zs_handle handles[NR];
	struct zs_pool *pool = pool_open(NR, UINT64_MAX);
	const char *first;
	u64 charged;

	for (int i = 0; i < NR; i++) {
		expect_eq(zs_alloc(pool, PAGE_SIZE, &handles[i]), 0);
		memset(zs_map(pool, handles[i]), i, PAGE_SIZE);
	}
	/* Objects of a page each lie one after the other in a fresh pool. */
	first = zs_map(pool, handles[0]);
	expect(zs_map(pool, handles[NR - 1]) == first + (NR - 1) * PAGE_SIZE);
	expect_eq(atomic64_read(&account.charged), NR + TABLES);
	expect_eq(resident_pages(first, NR), NR);
	for (int i = 0; i < NR; i++)
		zs_free(pool, handles[i]);
	charged = atomic64_read(&account.charged) - TABLES;
	expect(charged <= 64);
	expect(resident_pages(first, NR) <= charged);
	pool_check(pool);
	/* And what went back can be had again. */
	for (int i = 0; i < NR; i++)
		expect_eq(zs_alloc(pool, PAGE_SIZE, &handles[i]), 0);
	expect_eq(atomic64_read(&account.charged), NR + TABLES);
	pool_close(pool);
}

/* Objects that nobody touches take nothing but descriptors: these are charged, and the kernel agrees. */
static void test_descriptors_are_charged(void)
{
	enum { NR = 200000 };
	static const struct {
		u32 size, objects_per_page; /* of descriptors */
	} kinds[] = { { PAGE_SIZE, 1024 }, { PAGE_SIZE / 2, 2 * 256 } };
	static struct zs_handle handles[NR];

	memset(handles, 1, sizeof(handles));
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct zs_pool *pool = pool_open(NR, UINT64_MAX);
		u64 before = anonymous_pages(), tables = DIV_ROUND_UP(NR, kinds[k].objects_per_page);

		for (u32 i = 0; i < NR; i++)
			expect_eq(zs_alloc(pool, kinds[k].size, &handles[i]), 0);
		expect_anonymous(before, tables);
		expect_eq(atomic64_read(&account.charged), (u64)NR * kinds[k].size / PAGE_SIZE + tables);
		for (u32 i = 0; i < NR; i++)
			zs_free(pool, handles[i]);
		expect(atomic64_read(&account.charged) <= tables + 64);
		pool_close(pool);
	}
}

/* A refused charge fails the allocation, leaves all as it was, and is got over once memory is there. */
static void test_refused_charge(void)
{
	enum { LIMIT = 100, NR = LIMIT - 1 /* and a page of descriptors */ };
	struct zs_handle handles[NR + 1], small;
	struct zs_pool *pool = pool_open(1000, LIMIT);

	for (int i = 0; i < NR; i++)
		expect_eq(zs_alloc(pool, PAGE_SIZE, &handles[i]), 0);
	expect_eq(zs_alloc(pool, PAGE_SIZE, &handles[NR]), -ENOMEM);
	expect_eq(zs_alloc(pool, 100, &small), -ENOMEM);
	pool_check(pool);
	/* Empty zspages of one class make room for another. */
	for (int i = 0; i < 10; i++)
		zs_free(pool, handles[i]);
	expect_eq(zs_alloc(pool, 100, &small), 0);
	expect(atomic64_read(&account.charged) <= LIMIT);
	pool_check(pool);
	/* At the limit a larger class lends a place. */
	while (zs_alloc(pool, PAGE_SIZE, &handles[0]) == 0)
		;
	expect_eq(zs_alloc(pool, 64, &small), 0);
	pool_check(pool);
	/* Every Nth refusal, until none is met. */
	pool_close(pool);
	for (u64 limit = 0; limit < 60; limit++) {
		int failures = 0;

		pool = pool_open(1000, limit);
		for (u32 size = 64; size <= 4096; size += 64)
			failures += zs_alloc(pool, size, &small) != 0;
		expect(failures > 0);
		account.limit = UINT64_MAX;
		for (u32 size = 64; size <= 4096; size += 64)
			expect_eq(zs_alloc(pool, size, &small), 0);
		pool_close(pool);
	}
}

/* At the limit every freed place can be taken again, also while a fuller zspage waits for its next page. */
static void test_freed_places_at_the_limit(void)
{
	enum { NR = 140, NR_FREED = 4 };
	struct zs_handle handles[NR];

	for (u32 n = 0; n < 40 * 35; n++) {
		struct zs_pool *pool = pool_open(NR, UINT64_MAX);
		u32 size = 100 * (1 + n / 40);

		/* Ends at every place of the last zspage. */
		for (u32 i = 0; i < NR - n % 40; i++)
			expect_eq(zs_alloc(pool, size, &handles[i]), 0);
		for (int i = 0; i < NR_FREED; i++)
			zs_free(pool, handles[i]);
		account.limit = atomic64_read(&account.charged);
		for (int i = 0; i < NR_FREED; i++)
			expect_eq(zs_alloc(pool, size, &handles[i]), 0);
		pool_close(pool);
	}
}

/* More scattered pages than one batch has ranges for; runs in both directions merge. */
static void test_batch_of_many(void)
{
	enum { NR = 1000 };
	static struct page_batch batch;
	char *mem = pages_reserve(NR * PAGE_SIZE);

	memset(mem, 1, NR * PAGE_SIZE);
	for (u32 i = 0; i < NR / 2; i += 2)
		page_batch_add(&batch, mem + i * PAGE_SIZE, 1);
	for (u32 i = NR - 1; i >= NR / 2; i--)
		page_batch_add(&batch, mem + i * PAGE_SIZE, 1);
	expect_eq(page_batch_flush(&batch), NR / 4 + NR / 2);
	expect_eq(page_batch_flush(&batch), 0);
	for (u32 i = 0; i < NR; i++)
		expect_eq(resident_pages(mem + i * PAGE_SIZE, 1), i < NR / 2 && i % 2);
	os_unreserve(mem, NR * PAGE_SIZE);
}

/* Sizes as LZ4 makes of real pages: a hump about 1400 bytes, some very small, some kept raw. */
static u32 realistic_size(u64 *seed)
{
	u64 kind = test_random(seed) % 100;
	u32 sum = 0;

	if (kind < 8)
		return 30 + (u32)(test_random(seed) % 220);
	if (kind < 18)
		return PAGE_SIZE;
	for (int i = 0; i < 4; i++)
		sum += (u32)(test_random(seed) % 700);
	return 40 + sum;
}

static double pool_loss(struct zs_pool *pool, u64 object_bytes)
{
	struct zs_stats stats;

	zs_stats(pool, &stats);
	return (double)((stats.nr_pages - stats.nr_table_pages) * PAGE_SIZE) / (double)object_bytes - 1;
}

/* Loss and descriptors stay within their bounds, fresh and after the contents have been exchanged many times. */
static void test_loss_is_small(void)
{
	enum { NR = 40000 };
	static struct object objects[NR];
	struct zs_pool *pool = pool_open(NR, UINT64_MAX);
	struct zs_stats stats;
	u64 seed = 1, bytes = 0;

	for (u32 i = 0; i < NR; i++) {
		objects[i].size = realistic_size(&seed);
		bytes += objects[i].size;
		expect_eq(zs_alloc(pool, objects[i].size, &objects[i].handle), 0);
	}
	zs_stats(pool, &stats);
	printf("%u objects, %.0f bytes on average: loss %.1f %%, descriptors %.1f bytes an object\n", NR,
	       (double)bytes / NR, 100 * pool_loss(pool, bytes), (double)stats.metadata_bytes / NR);
	expect(pool_loss(pool, bytes) < 0.08);
	expect(stats.metadata_bytes <= 8 * NR);
	for (u32 n = 0; n < 10 * NR; n++) {
		struct object *o = &objects[test_random(&seed) % NR];

		zs_free(pool, o->handle);
		bytes -= o->size;
		o->size = realistic_size(&seed);
		bytes += o->size;
		expect_eq(zs_alloc(pool, o->size, &o->handle), 0);
	}
	zs_stats(pool, &stats);
	printf("after 10 exchanges of each: loss %.1f %%, descriptors %.1f bytes an object\n",
	       100 * pool_loss(pool, bytes), (double)stats.metadata_bytes / NR);
	expect(pool_loss(pool, bytes) < 0.12);
	expect(stats.metadata_bytes <= 8 * NR);
	pool_close(pool);
}

/* How much of what is freed at random goes back without compaction: less than all. */
static void test_random_drain(void)
{
	enum { NR = 40000 };
	static struct object objects[NR];
	struct zs_pool *pool = pool_open(NR, UINT64_MAX);
	u64 seed = 9, bytes = 0;

	for (u32 i = 0; i < NR; i++) {
		objects[i].size = realistic_size(&seed);
		bytes += objects[i].size;
		expect_eq(zs_alloc(pool, objects[i].size, &objects[i].handle), 0);
	}
	for (u32 percent = 25; percent <= 100; percent += 25) {
		for (u32 i = 0; i < NR; i++) {
			if (!objects[i].size || test_random(&seed) % 100 >= 25 * 100 / (125 - percent))
				continue;
			zs_free(pool, objects[i].handle);
			bytes -= objects[i].size;
			objects[i].size = 0;
		}
		if (percent < 100)
			printf("%u %% freed at random: %.1f MiB in %.1f MiB\n", percent, (double)bytes / (1 << 20),
			       (double)atomic64_read(&account.charged) / 256);
		expect(zs_is_valid(pool));
	}
	expect_eq(bytes, 0);
	expect(atomic64_read(&account.charged) <= table_pages(pool) + 64);
	pool_close(pool);
}

/* A pass over all objects, as whoever owns them makes it; returns how many have moved. */
static u32 compact(struct zs_pool *pool, struct object *objects, u32 nr, u64 *nr_pages)
{
	u32 moved = 0;

	for (u32 i = 0; i < nr; i++) {
		struct zs_handle old = objects[i].handle, new;

		if (!objects[i].size || !zs_is_sparse(pool, old) || !zs_alloc_fuller(pool, old, &new))
			continue;
		memcpy(zs_map(pool, new), zs_map(pool, old), objects[i].size);
		objects[i].handle = new;
		*nr_pages += zs_free(pool, old);
		moved++;
	}
	return moved;
}

/* After most was freed at random: what is left moves together, and nearly all of the rest goes back. */
static void test_compaction(void)
{
	enum { NR = 40000 };
	static struct object objects[NR];

	for (u32 percent = 10; percent <= 90; percent += 40) {
		struct zs_pool *pool = pool_open(NR, UINT64_MAX);
		u64 seed = percent, bytes = 0, before, emptied = 0, gain;
		u32 moved = 0, passes = 0, now;

		for (u32 i = 0; i < NR; i++) {
			objects[i].size = realistic_size(&seed);
			expect_eq(zs_alloc(pool, objects[i].size, &objects[i].handle), 0);
			object_fill(pool, &objects[i], i);
		}
		for (u32 i = 0; i < NR; i++) {
			if (test_random(&seed) % 100 < percent) {
				zs_free(pool, objects[i].handle);
				objects[i].size = 0;
			}
			bytes += objects[i].size;
		}
		before = atomic64_read(&account.charged);
		gain = zs_compactable_pages(pool);
		do {
			now = compact(pool, objects, NR, &emptied);
			moved += now;
			passes++;
			pool_check(pool);
		} while (now);
		printf("%u %% freed: %.1f MiB in %.1f MiB, compacted %.1f MiB: %u moves, %u passes\n", percent,
		       (double)bytes / (1 << 20), (double)before / 256, (double)atomic64_read(&account.charged) / 256,
		       moved, passes);
		expect(passes < 20);
		/* A class's partly carved zspage may be left beside another. */
		expect(zs_compactable_pages(pool) <= gain / 20);
		expect(emptied + gain / 20 >= gain);
		expect(pool_loss(pool, bytes) < 0.12);
		for (u32 i = 0; i < NR; i++) {
			if (objects[i].size)
				object_verify(pool, &objects[i], i);
		}
		pool_close(pool);
	}
}

/* What was never a handle, or is one no longer, is no object that should move. */
static void test_sparse_is_a_hint(void)
{
	struct zs_pool *pool = pool_open(1000, UINT64_MAX);
	struct zs_handle handles[100];
	u64 seed = 5;

	for (u32 i = 0; i < ARRAY_SIZE(handles); i++)
		expect_eq(zs_alloc(pool, 100, &handles[i]), 0);
	for (u32 i = 0; i < 10000; i++) {
		struct zs_handle any = { test_random(&seed) >> test_random(&seed) % 64 };

		expect(!zs_is_sparse(pool, any));
	}
	for (u32 i = 0; i < ARRAY_SIZE(handles); i++)
		zs_free(pool, handles[i]);
	for (u32 i = 0; i < ARRAY_SIZE(handles); i++)
		expect(!zs_is_sparse(pool, handles[i]));
	pool_close(pool);
}

static void soak(struct zs_pool *pool, u64 seed, u32 nr, u32 nr_steps)
{
	struct object *objects = calloc(nr, sizeof(*objects));

	for (u32 n = 0; n < nr_steps; n++) {
		u32 no = (u32)(test_random(&seed) % nr);
		struct object *o = &objects[no];

		if (o->size) {
			object_verify(pool, o, no);
			zs_free(pool, o->handle);
			o->size = 0;
			continue;
		}
		o->size = 1 + (u32)(test_random(&seed) % PAGE_SIZE);
		if (zs_alloc(pool, o->size, &o->handle) == 0)
			object_fill(pool, o, no);
		else
			o->size = 0;
	}
	for (u32 no = 0; no < nr; no++) {
		if (objects[no].size) {
			object_verify(pool, &objects[no], no);
			zs_free(pool, objects[no].handle);
		}
	}
	free(objects);
}

static void test_soak_at_the_limit(void)
{
	struct zs_pool *pool = pool_open(2000, 700);

	soak(pool, 7, 2000, 60000);
	expect(atomic64_read(&account.charged) <= table_pages(pool) + 64);
	pool_close(pool);
}

static struct zs_pool *shared_pool;

static void *soak_thread(void *arg)
{
	soak(shared_pool, (u64)(uintptr_t)arg, 600, 20000);
	return NULL;
}

static void test_threads(void)
{
	pthread_t threads[4];

	shared_pool = pool_open(2400, 900);
	for (uintptr_t i = 0; i < ARRAY_SIZE(threads); i++)
		expect_eq(pthread_create(&threads[i], NULL, soak_thread, (void *)(i + 11)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	pool_close(shared_pool);
}

int main(void)
{
	run_test(test_every_size);
	run_test(test_room_for_one_size);
	run_test(test_memory_goes_back);
	run_test(test_descriptors_are_charged);
	run_test(test_refused_charge);
	run_test(test_freed_places_at_the_limit);
	run_test(test_batch_of_many);
	run_test(test_loss_is_small);
	run_test(test_random_drain);
	run_test(test_compaction);
	run_test(test_sparse_is_a_hint);
	run_test(test_soak_at_the_limit);
	run_test(test_threads);
	return 0;
}
