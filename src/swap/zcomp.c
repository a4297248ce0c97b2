// SPDX-License-Identifier: MIT
#include "swap/zcomp.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/os.h"
#include "swap/pages.h"
#include "swap/zcomp_dict.h"
#include "sync/wait.h"

enum {
	STREAMS_MIN = 4,
	STREAMS_SPARE = 2, /* beyond one per processor: a preempted holder does not stop the others */
	STREAMS_MAX = 63,
	STATE_ALIGN = 64,
	POOL_WAITERS_BIT = 31,
};

#define POOL_WAITERS ((u64)1 << POOL_WAITERS_BIT)

/*
 * `word`: one bit per free stream, and POOL_WAITERS: somebody may sleep. Every change is a CAS on the whole word.
 * Taking is an acquire and meets the release of putting, so the last owner's writes to the stream are seen. A put
 * clears POOL_WAITERS in the same step, hence changes the low half, on which waiters sleep, and wakes all of them.
 */
struct zcomp_pool {
	struct atomic64 word;
	u32 nr_streams;
	struct zcomp_stream streams[STREAMS_MAX];
};

struct zcomp {
	const struct zcomp_ops *ops;
	int level;
	struct zcomp_dict *dict; /* NULL: the algorithm has none */
	void *mem; /* states and result buffers of all streams */
	size_t mem_bytes;
	struct zcomp_pool compress;
	struct zcomp_pool decompress; /* no streams if the algorithm needs no state: apart, so that reads never wait
					 for writes, which take ten times as long */
};

const struct zcomp_ops *const zcomp_algos[] = {
	[ZCOMP_LZ4] = &zcomp_lz4,
	[ZCOMP_ZSTD] = &zcomp_zstd,
	[ZCOMP_ZSTD_DICT] = &zcomp_zstd_dict,
	NULL,
};

bool zcomp_level_is_valid(enum zcomp_algo algo, int level)
{
	const struct zcomp_ops *ops = algo < ARRAY_SIZE(zcomp_algos) - 1 ? zcomp_algos[algo] : NULL;

	return ops && (!level || (level >= ops->level_min && level <= ops->level_max));
}

static u64 stream_bit(u32 i)
{
	return (u64)1 << (i < POOL_WAITERS_BIT ? i : i + 1);
}

static u32 bit_stream(u64 bit)
{
	u32 i = (u32)__builtin_ctzll(bit);

	must(i != POOL_WAITERS_BIT);
	return i < POOL_WAITERS_BIT ? i : i - 1;
}

static struct zcomp_stream *pool_get(struct zcomp_pool *pool)
{
	u64 word = atomic64_read(&pool->word);

	must(pool->nr_streams > 0);
	for (;;) {
		u64 free = word & ~POOL_WAITERS;

		if (free) {
			u64 bit = free & -free;

			if (atomic64_cas_acquire(&pool->word, &word, word & ~bit))
				return &pool->streams[bit_stream(bit)];
		} else if (word & POOL_WAITERS || atomic64_cas_acquire(&pool->word, &word, word | POOL_WAITERS)) {
			sync_wait64(&pool->word, (u32)POOL_WAITERS);
			word = atomic64_read(&pool->word);
		}
	}
}

static void pool_put(struct zcomp_pool *pool, struct zcomp_stream *stream)
{
	u64 bit = stream_bit((u32)(stream - pool->streams));
	u64 word = atomic64_read(&pool->word);

	do {
		must(!(word & bit));
	} while (!atomic64_cas_release(&pool->word, &word, (word | bit) & ~POOL_WAITERS));
	if (word & POOL_WAITERS)
		sync_wake64(&pool->word);
}

struct zcomp_stream *zcomp_stream_get(struct zcomp *z)
{
	return pool_get(&z->compress);
}

void zcomp_stream_put(struct zcomp *z, struct zcomp_stream *stream)
{
	pool_put(&z->compress, stream);
}

u32 zcomp_compress(struct zcomp *z, struct zcomp_stream *stream, const void *page)
{
	u32 len = z->ops->compress(stream->state, z->level, page, stream->result);

	must(len <= ZCOMP_RESULT_MAX);
	return len;
}

int zcomp_decompress(struct zcomp *z, const void *data, u32 len, void *page)
{
	struct zcomp_stream *stream;
	int ret;

	if (!z->decompress.nr_streams)
		return z->ops->decompress(NULL, data, len, page);
	stream = pool_get(&z->decompress);
	ret = z->ops->decompress(stream->state, data, len, page);
	pool_put(&z->decompress, stream);
	return ret;
}

/* Cuts aligned pieces off *mem. */
static void *mem_cut(char **mem, size_t bytes)
{
	void *piece = *mem;

	*mem += ALIGN_UP(bytes, STATE_ALIGN);
	return piece;
}

static bool zcomp_init_streams(struct zcomp *z, u32 nr, size_t compress_bytes, size_t decompress_bytes)
{
	char *mem = z->mem;

	for (u32 i = 0; i < nr; i++) {
		struct zcomp_stream *stream = &z->compress.streams[i];

		stream->state = z->ops->compress_init(mem_cut(&mem, compress_bytes), compress_bytes, z->level);
		stream->result = mem_cut(&mem, PAGE_SIZE);
		if (!stream->state)
			return false;
		if (z->dict)
			zcomp_dict_attach(stream->state, z->dict);
		z->compress.nr_streams = i + 1;
		atomic64_fetch_or(&z->compress.word, stream_bit(i));
	}
	for (u32 i = 0; decompress_bytes && i < nr; i++) {
		struct zcomp_stream *stream = &z->decompress.streams[i];

		stream->state = z->ops->decompress_init(mem_cut(&mem, decompress_bytes), decompress_bytes);
		if (!stream->state)
			return false;
		if (z->dict)
			zcomp_dict_attach(stream->state, z->dict);
		z->decompress.nr_streams = i + 1;
		atomic64_fetch_or(&z->decompress.word, stream_bit(i));
	}
	return true;
}

static bool there_and_back(struct zcomp *z, char *pages)
{
	struct zcomp_stream *stream = zcomp_stream_get(z);
	u32 len = zcomp_compress(z, stream, pages);
	bool passed = len > 0 && zcomp_decompress(z, stream->result, len, pages + PAGE_SIZE) == 0 &&
		      memcmp(pages, pages + PAGE_SIZE, PAGE_SIZE) == 0;

	zcomp_stream_put(z, stream);
	return passed;
}

/*
 * One page there and back. Besides proving the library, this binds what is bound lazily: the first call through a PLT
 * entry takes the dynamic loader's lock, and later calls come from signal handlers that may interrupt its holder.
 */
static bool zcomp_self_test(struct zcomp *z)
{
	char *pages = os_reserve(2 * PAGE_SIZE);
	bool passed;

	if (!pages)
		return false;
	for (u32 i = 0; i < PAGE_SIZE; i++)
		pages[i] = (char)(i % 97 + i / 512);
	passed = there_and_back(z, pages);
	if (z->dict) {
		passed = passed && zcomp_dict_begin_test(z->dict) && there_and_back(z, pages);
		zcomp_dict_end_test(z->dict);
	}
	os_unreserve(pages, 2 * PAGE_SIZE);
	return passed;
}

int zcomp_open(enum zcomp_algo algo, int level, struct zcomp **out)
{
	struct zcomp *z = os_reserve(sizeof(*z));
	size_t compress_bytes, decompress_bytes;
	u32 nr = os_nr_cpus() + STREAMS_SPARE;

	must(zcomp_level_is_valid(algo, level));
	if (!z)
		return -ENOMEM;
	nr = nr < STREAMS_MIN ? STREAMS_MIN : nr > STREAMS_MAX ? STREAMS_MAX : nr;
	z->ops = zcomp_algos[algo];
	z->level = level ? level : z->ops->level_default;
	if (z->ops->has_dict && zcomp_dict_open(z->level, &z->dict)) {
		zcomp_close(z);
		return -ENOMEM;
	}
	compress_bytes = z->ops->compress_state_bytes(z->level);
	decompress_bytes = z->ops->decompress_state_bytes();
	z->mem_bytes =
		nr * (ALIGN_UP(compress_bytes, STATE_ALIGN) + ALIGN_UP(decompress_bytes, STATE_ALIGN) + PAGE_SIZE);
	z->mem = pages_reserve(z->mem_bytes);
	if (!z->mem) {
		zcomp_close(z);
		return -ENOMEM;
	}
	if (!zcomp_init_streams(z, nr, compress_bytes, decompress_bytes) || !zcomp_self_test(z)) {
		zcomp_close(z);
		return -EIO;
	}
	*out = z;
	return 0;
}

void zcomp_set_memory(struct zcomp *z, const struct swap_memory *memory)
{
	if (z->dict)
		zcomp_dict_set_memory(z->dict, memory);
}

u64 zcomp_nr_pages(const struct zcomp *z)
{
	return z->dict ? zcomp_dict_nr_pages(z->dict) : 0;
}

void zcomp_train(struct zcomp *z)
{
	if (z->dict)
		(void)zcomp_dict_train(z->dict);
}

void zcomp_close(struct zcomp *z)
{
	zcomp_dict_close(z->dict);
	os_unreserve(z->mem, z->mem_bytes);
	os_unreserve(z, sizeof(*z));
}
