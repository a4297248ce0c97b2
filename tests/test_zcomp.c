// SPDX-License-Identifier: MIT
/* The compressors' front: there and back at every level, damaged input, and streams that run out. */
#include "swap/zcomp.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/os.h"
#include "device_pages.h"

static u8 page[PAGE_SIZE], back[PAGE_SIZE];

static struct zcomp *open_zcomp(enum zcomp_algo algo, int level)
{
	struct zcomp *z;

	expect_eq(zcomp_open(algo, level, &z), 0);
	return z;
}

static void test_levels(void)
{
	expect(zcomp_level_is_valid(ZCOMP_LZ4, 0));
	expect(zcomp_level_is_valid(ZCOMP_ZSTD, 19));
	expect(!zcomp_level_is_valid(ZCOMP_ZSTD, 20));
	expect(!zcomp_level_is_valid(ZCOMP_ZSTD, -1));
	expect(!zcomp_level_is_valid((enum zcomp_algo)3, 0));
	for (int algo = 0; zcomp_algos[algo]; algo++) {
		for (int level = 0; level <= 19; level++) {
			struct zcomp *z = open_zcomp((enum zcomp_algo)algo, level);
			struct zcomp_stream *s = zcomp_stream_get(z);

			for (u32 i = 0; i < 50; i++) {
				u32 len;

				page_make(page, i % NR_PAGE_KINDS, i);
				len = zcomp_compress(z, s, page);
				expect_eq(len == 0, i % NR_PAGE_KINDS == PAGE_RANDOM);
				if (!len)
					continue;
				expect_eq(zcomp_decompress(z, s->result, len, back), 0);
				expect(memcmp(page, back, PAGE_SIZE) == 0);
			}
			zcomp_stream_put(z, s);
			zcomp_close(z);
		}
	}
}

/* Damage may go unseen here, as the checksums are zram's, but it never leaves the page. */
static void test_damaged_input(void)
{
	static u8 guarded[3 * PAGE_SIZE];
	u64 seed = 5;

	for (int algo = 0; zcomp_algos[algo]; algo++) {
		struct zcomp *z = open_zcomp((enum zcomp_algo)algo, 0);
		struct zcomp_stream *s = zcomp_stream_get(z);
		u8 *result = s->result;
		u32 failed = 0, len;

		memset(guarded, 0x5a, sizeof(guarded));
		for (int i = 0; i < 3000; i++) {
			page_make(page, i % 2 ? PAGE_TEXT : PAGE_SPARSE, (u64)i);
			len = zcomp_compress(z, s, page);
			result[test_random(&seed) % len] ^= (u8)(1 + test_random(&seed) % 255);
			failed += zcomp_decompress(z, result, len, guarded + PAGE_SIZE) != 0;
			failed += zcomp_decompress(z, result, len / 2, guarded + PAGE_SIZE) != 0;
		}
		expect(failed >= 3000);
		for (size_t i = 0; i < PAGE_SIZE; i++) {
			expect_eq(guarded[i], 0x5a);
			expect_eq(guarded[2 * PAGE_SIZE + i], 0x5a);
		}
		zcomp_stream_put(z, s);
		zcomp_close(z);
	}
}

static u32 nr_streams(void)
{
	u32 nr = os_nr_cpus() + 2;

	return nr < 4 ? 4 : nr > 63 ? 63 : nr;
}

struct user {
	struct zcomp *z;
	struct atomic32 in_use;
	u32 nr_streams;
};

static void *use_streams(void *arg)
{
	struct user *u = arg;
	u8 from[PAGE_SIZE], to[PAGE_SIZE];

	for (u32 i = 0; i < 400; i++) {
		struct zcomp_stream *s = zcomp_stream_get(u->z);
		u32 now = atomic32_add_return(&u->in_use, 1);
		u32 len;

		expect(now <= u->nr_streams);
		page_make(from, PAGE_TEXT, i);
		len = zcomp_compress(u->z, s, from);
		expect_eq(zcomp_decompress(u->z, s->result, len, to), 0);
		expect(memcmp(from, to, PAGE_SIZE) == 0);
		atomic32_sub_return(&u->in_use, 1);
		zcomp_stream_put(u->z, s);
	}
	return NULL;
}

/* More threads than streams: all get on, none is handed out twice. */
static void test_more_users_than_streams(void)
{
	enum { NR_THREADS = 24 };
	pthread_t threads[NR_THREADS];

	for (int algo = 0; zcomp_algos[algo]; algo++) {
		struct user u = { .z = open_zcomp((enum zcomp_algo)algo, 0), .nr_streams = nr_streams() };

		for (int i = 0; i < NR_THREADS; i++)
			expect_eq(pthread_create(&threads[i], NULL, use_streams, &u), 0);
		for (int i = 0; i < NR_THREADS; i++)
			pthread_join(threads[i], NULL);
		expect_eq(atomic32_read(&u.in_use), 0);
		zcomp_close(u.z);
	}
}

static struct atomic32 got;

static void *get_one(void *arg)
{
	struct zcomp *z = arg;
	struct zcomp_stream *s = zcomp_stream_get(z);

	atomic32_add_return(&got, 1);
	zcomp_stream_put(z, s);
	return NULL;
}

/* Nobody gets a stream while all are out; one that comes back serves every sleeper in turn. */
static void test_sleepers_are_woken(void)
{
	enum { NR_STREAMS_MAX = 64, NR_SLEEPERS = 5 };
	struct zcomp *z = open_zcomp(ZCOMP_LZ4, 0);
	struct zcomp_stream *streams[NR_STREAMS_MAX];
	pthread_t threads[NR_SLEEPERS];
	u32 nr = nr_streams();

	for (u32 i = 0; i < nr; i++)
		streams[i] = zcomp_stream_get(z);
	for (int i = 0; i < NR_SLEEPERS; i++)
		expect_eq(pthread_create(&threads[i], NULL, get_one, z), 0);
	usleep(50000);
	expect_eq(atomic32_read(&got), 0);
	zcomp_stream_put(z, streams[0]);
	for (int i = 0; i < NR_SLEEPERS; i++)
		pthread_join(threads[i], NULL);
	expect_eq(atomic32_read(&got), NR_SLEEPERS);
	for (u32 i = 1; i < nr; i++)
		zcomp_stream_put(z, streams[i]);
	zcomp_close(z);
}

/* What pages of text compress to, all together; object 0 is kept. */
static u64 compress_all(struct zcomp *z, u32 nr, u8 *first, u32 *first_len)
{
	struct zcomp_stream *s = zcomp_stream_get(z);
	u64 bytes = 0;

	for (u32 i = 0; i < nr; i++) {
		u32 len;

		page_make(page, PAGE_TEXT, i);
		len = zcomp_compress(z, s, page);
		expect(len > 0);
		expect_eq(zcomp_decompress(z, s->result, len, back), 0);
		expect(memcmp(page, back, PAGE_SIZE) == 0);
		if (!i) {
			memcpy(first, s->result, len);
			*first_len = len;
		}
		bytes += len;
	}
	zcomp_stream_put(z, s);
	return bytes;
}

static struct zcomp *dict_zcomp;
static struct atomic32 dict_stop;

static void *dict_thread(void *arg)
{
	static _Thread_local u8 want[PAGE_SIZE], have[PAGE_SIZE];

	for (u64 i = 0; !atomic32_read(&dict_stop); i++) {
		struct zcomp_stream *s = zcomp_stream_get(dict_zcomp);
		u32 len;

		page_make(want, PAGE_TEXT, i);
		len = zcomp_compress(dict_zcomp, s, want);
		expect(len > 0);
		expect_eq(zcomp_decompress(dict_zcomp, s->result, len, have), 0);
		expect(memcmp(want, have, PAGE_SIZE) == 0);
		zcomp_stream_put(dict_zcomp, s);
	}
	return arg;
}

/* Made while others compress; what was compressed before it can still be read, and pages are smaller. */
static void test_dictionary(void)
{
	enum { NR = 4200 };
	static u8 old[ZCOMP_RESULT_MAX], now[ZCOMP_RESULT_MAX];
	static struct page_limit account;
	struct swap_memory memory = page_limit_hooks(&account);
	struct zcomp *z = open_zcomp(ZCOMP_ZSTD_DICT, 0);
	u32 old_len, now_len;
	u64 plain, with, sampling;
	pthread_t thread;

	zcomp_set_memory(z, &memory);
	expect_eq(zcomp_nr_pages(z), 0);
	zcomp_train(z);
	plain = compress_all(z, NR, old, &old_len);
	sampling = zcomp_nr_pages(z);
	expect(sampling > 0 && sampling == atomic64_read(&account.charged));
	dict_zcomp = z;
	expect_eq(pthread_create(&thread, NULL, dict_thread, NULL), 0);
	zcomp_train(z);
	zcomp_train(z);
	with = compress_all(z, NR, now, &now_len);
	atomic32_set(&dict_stop, 1);
	pthread_join(thread, NULL);
	printf("%llu bytes a page, %llu with a dictionary; %llu pages while sampling, then %llu\n",
	       (unsigned long long)plain / NR, (unsigned long long)with / NR, (unsigned long long)sampling,
	       (unsigned long long)zcomp_nr_pages(z));
	expect(with < plain);
	expect(zcomp_nr_pages(z) < sampling / 4 && zcomp_nr_pages(z) == atomic64_read(&account.charged));
	page_make(page, PAGE_TEXT, 0);
	expect_eq(zcomp_decompress(z, old, old_len, back), 0);
	expect(memcmp(page, back, PAGE_SIZE) == 0);
	expect(now_len < old_len);
	zcomp_close(z);
	expect_eq(atomic64_read(&account.charged), 0);
}

/* Where there is no memory for it, pages are compressed without. */
static void test_no_memory_for_a_dictionary(void)
{
	enum { NR = 4200 };
	static u8 object[ZCOMP_RESULT_MAX];
	static struct page_limit account;
	struct swap_memory memory = page_limit_hooks(&account);
	struct zcomp *z = open_zcomp(ZCOMP_ZSTD_DICT, 0);
	u32 len;
	u64 plain;

	atomic64_set(&account.limit, 100);
	zcomp_set_memory(z, &memory);
	plain = compress_all(z, NR, object, &len);
	atomic64_set(&account.limit, UINT64_MAX);
	zcomp_train(z);
	expect_eq(compress_all(z, NR, object, &len), plain);
	expect_eq(zcomp_nr_pages(z), 0);
	/* One that says it has been compressed with a dictionary is damaged. */
	object[0] = 1;
	expect_eq(zcomp_decompress(z, object, len, back), -EIO);
	zcomp_close(z);
}

int main(void)
{
	run_test(test_levels);
	run_test(test_damaged_input);
	run_test(test_more_users_than_streams);
	run_test(test_sleepers_are_woken);
	run_test(test_dictionary);
	run_test(test_no_memory_for_a_dictionary);
	return 0;
}
