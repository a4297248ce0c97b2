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
	expect(!zcomp_level_is_valid((enum zcomp_algo)2, 0));
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

int main(void)
{
	run_test(test_levels);
	run_test(test_damaged_input);
	run_test(test_more_users_than_streams);
	run_test(test_sleepers_are_woken);
	return 0;
}
