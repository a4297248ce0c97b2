// SPDX-License-Identifier: MIT
/*
 * zstd with a dictionary. The first byte of each object says whether it was compressed with it.
 *
 *            the first page,         the last sample      train
 *   DICT_NEW ---------------> SAMPLING ------------> FULL -----> READY
 *       charge refused: NONE                              fails: NONE
 *
 * FULL is set by a release, after all samples, and meets train's acquire; READY likewise meets everybody else's.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include "swap/zcomp_dict.h"

#include <errno.h>
#include <string.h>
#include <zstd.h>

#include "base/assert.h"
#include "base/os.h"
#include "swap/pages.h"
#include "swap/zcomp.h"

enum {
	DICT_BYTES = 64 << 10,
	NR_SAMPLES = 512, /* pages */
	SAMPLE_EVERY = 8, /* of the first pages that are compressed */
	GRAM = 8, /* bytes that are looked up together */
	SEGMENT = 256, /* the dictionary is put together of such */
	HASH_BITS = 17,
	EPOCH = NR_SAMPLES * (int)PAGE_SIZE / (DICT_BYTES / SEGMENT), /* of each the best segment is taken */
	STATE_ALIGN = 64,
};

enum dict_state { DICT_NEW, DICT_SAMPLING, DICT_FULL, DICT_READY, DICT_NONE };

enum object_kind { OBJECT_PLAIN, OBJECT_DICT };

struct zcomp_dict {
	struct atomic32 state; /* enum dict_state */
	struct atomic32 nr_seen; /* pages while sampling */
	struct atomic32 nr_taken; /* samples that are complete; a release each, the last one's meets all by its RMW */
	int level;
	struct page_account account;
	struct swap_memory nobody;
	char *mem;
	size_t kept_bytes, mem_bytes; /* the first of them stay */
	/* Kept. */
	u8 *content;
	void *compress_space, *decompress_space;
	size_t compress_bytes, decompress_bytes;
	const ZSTD_CDict *compress;
	const ZSTD_DDict *decompress;
	u32 content_bytes;
	/* Until it is trained. */
	u8 *samples;
	u16 *grams; /* by hash: how many samples have it and no segment of the dictionary has */
	u16 *window; /* by hash: the last sample seen with it, then how often the segment has it */
};

/* The head of a stream's state. */
struct dict_stream {
	struct zcomp_dict *dict;
	void *ctx; /* libzstd's */
};

/* ---- choosing the content ---- */

static u32 gram_hash(const u8 *p)
{
	u64 gram;

	memcpy(&gram, p, GRAM);
	return (u32)(gram * 0xcf1bbcdcb7a56463u >> (64 - HASH_BITS));
}

static void count_grams(struct zcomp_dict *d)
{
	for (u32 i = 0; i < NR_SAMPLES; i++) {
		const u8 *page = d->samples + (size_t)i * PAGE_SIZE;

		for (u32 at = 0; at + GRAM <= PAGE_SIZE; at++) {
			u32 h = gram_hash(page + at);

			if (d->window[h] == i + 1)
				continue;
			d->window[h] = (u16)(i + 1);
			d->grams[h]++;
		}
	}
	memset(d->window, 0, sizeof(u16) << HASH_BITS);
}

/* What a gram is worth: one that only its own page has is worth nothing. */
static u32 gram_score(const struct zcomp_dict *d, u32 h)
{
	return d->grams[h] > 1 ? d->grams[h] : 0;
}

/* The segment of [begin, begin + EPOCH) whose different grams are worth most; returns what. */
static u64 best_segment(struct zcomp_dict *d, const u8 *begin, const u8 **best)
{
	const u8 *first = begin, *at = begin;
	u64 score = 0, best_score = 0;

	for (; at + GRAM <= begin + EPOCH; at++) {
		u32 h = gram_hash(at);

		if (!d->window[h]++)
			score += gram_score(d, h);
		if (at + GRAM - first > SEGMENT) {
			h = gram_hash(first++);
			if (!--d->window[h])
				score -= gram_score(d, h);
		}
		if (score > best_score) {
			best_score = score;
			*best = first;
		}
	}
	for (; first < at; first++)
		d->window[gram_hash(first)] = 0;
	return best_score;
}

/* From the end, which is the cheapest to refer to. */
static void choose_content(struct zcomp_dict *d)
{
	u8 *to = d->content + DICT_BYTES;

	count_grams(d);
	for (u32 i = 0; i < DICT_BYTES / SEGMENT; i++) {
		const u8 *best = NULL;

		if (!best_segment(d, d->samples + (size_t)i * EPOCH, &best))
			continue;
		to -= SEGMENT;
		memcpy(to, best, SEGMENT);
		for (u32 at = 0; at + GRAM <= SEGMENT; at++)
			d->grams[gram_hash(best + at)] = 0;
	}
	d->content_bytes = (u32)(d->content + DICT_BYTES - to);
	memmove(d->content, to, d->content_bytes);
}

/* ---- the dictionary ---- */

static ZSTD_compressionParameters dict_params(int level)
{
	return ZSTD_getCParams(level, PAGE_SIZE, DICT_BYTES);
}

static bool digest(struct zcomp_dict *d)
{
	if (!d->content_bytes)
		return false;
	d->compress = ZSTD_initStaticCDict(d->compress_space, d->compress_bytes, d->content, d->content_bytes,
					   ZSTD_dlm_byRef, ZSTD_dct_rawContent, dict_params(d->level));
	d->decompress = ZSTD_initStaticDDict(d->decompress_space, d->decompress_bytes, d->content, d->content_bytes,
					     ZSTD_dlm_byRef, ZSTD_dct_rawContent);
	return d->compress && d->decompress;
}

bool zcomp_dict_train(struct zcomp_dict *d)
{
	u32 state = atomic32_load_acquire(&d->state);
	u64 temporary = bytes_to_pages(d->mem_bytes - d->kept_bytes);
	bool ready;

	if (state != DICT_FULL)
		return state == DICT_READY;
	choose_content(d);
	ready = digest(d);
	os_release(d->mem + d->kept_bytes, d->mem_bytes - d->kept_bytes);
	page_account_uncharge(&d->account, temporary);
	atomic32_store_release(&d->state, ready ? DICT_READY : DICT_NONE);
	return ready;
}

static void dict_sample(struct zcomp_dict *d, const void *page)
{
	u32 old = DICT_NEW, no;

	if (atomic32_read(&d->state) == DICT_NEW && atomic32_cas_acquire(&d->state, &old, DICT_NONE)) {
		if (!page_account_charge(&d->account, bytes_to_pages(d->mem_bytes)))
			atomic32_store_release(&d->state, DICT_SAMPLING);
	}
	if (atomic32_load_acquire(&d->state) != DICT_SAMPLING)
		return;
	no = atomic32_add_return(&d->nr_seen, 1) - 1;
	if (no % SAMPLE_EVERY || no / SAMPLE_EVERY >= NR_SAMPLES)
		return;
	memcpy(d->samples + (size_t)(no / SAMPLE_EVERY) * PAGE_SIZE, page, PAGE_SIZE);
	atomic_full_barrier(); /* the sample, before it is counted */
	if (atomic32_add_return(&d->nr_taken, 1) == NR_SAMPLES)
		atomic32_store_release(&d->state, DICT_FULL);
}

bool zcomp_dict_begin_test(struct zcomp_dict *d)
{
	u64 seed = 1;

	for (u32 i = 0; i < DICT_BYTES; i++) {
		seed = seed * 6364136223846793005u + 1;
		d->content[i] = (u8)(seed >> 60);
	}
	d->content_bytes = DICT_BYTES;
	if (!digest(d))
		return false;
	atomic32_set(&d->state, DICT_READY);
	return true;
}

void zcomp_dict_end_test(struct zcomp_dict *d)
{
	atomic32_set(&d->state, DICT_NEW);
	os_release(d->mem, d->kept_bytes);
}

static void *dict_cut(char **at, size_t bytes)
{
	void *piece = *at;

	*at += ALIGN_UP(bytes, PAGE_SIZE);
	return piece;
}

static void dict_lay_out(struct zcomp_dict *d, char *mem)
{
	char *at = mem;

	d->content = dict_cut(&at, DICT_BYTES);
	d->compress_space = dict_cut(&at, d->compress_bytes);
	d->decompress_space = dict_cut(&at, d->decompress_bytes);
	d->kept_bytes = (size_t)(at - mem);
	d->samples = dict_cut(&at, NR_SAMPLES * PAGE_SIZE);
	d->grams = dict_cut(&at, sizeof(u16) << HASH_BITS);
	d->window = dict_cut(&at, sizeof(u16) << HASH_BITS);
	d->mem_bytes = (size_t)(at - mem);
}

int zcomp_dict_open(int level, struct zcomp_dict **out)
{
	struct zcomp_dict *d = os_reserve(sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->level = level;
	atomic32_set(&d->state, DICT_NONE); /* until it is tested */
	d->account.memory = &d->nobody;
	d->compress_bytes = ZSTD_estimateCDictSize_advanced(DICT_BYTES, dict_params(level), ZSTD_dlm_byRef);
	d->decompress_bytes = ZSTD_estimateDDictSize(DICT_BYTES, ZSTD_dlm_byRef);
	dict_lay_out(d, NULL);
	d->mem = pages_reserve(d->mem_bytes);
	if (!d->mem) {
		zcomp_dict_close(d);
		return -ENOMEM;
	}
	dict_lay_out(d, d->mem);
	*out = d;
	return 0;
}

void zcomp_dict_close(struct zcomp_dict *d)
{
	if (!d)
		return;
	page_account_uncharge(&d->account, atomic64_read(&d->account.nr_pages));
	os_unreserve(d->mem, d->mem_bytes);
	os_unreserve(d, sizeof(*d));
}

void zcomp_dict_set_memory(struct zcomp_dict *d, const struct swap_memory *memory)
{
	d->account.memory = memory;
}

u64 zcomp_dict_nr_pages(const struct zcomp_dict *d)
{
	return atomic64_read(&d->account.nr_pages);
}

/* ---- the algorithm ---- */

void zcomp_dict_attach(void *state, struct zcomp_dict *dict)
{
	((struct dict_stream *)state)->dict = dict;
}

static size_t head_bytes(void)
{
	return ALIGN_UP(sizeof(struct dict_stream), STATE_ALIGN);
}

static size_t dict_compress_state_bytes(int level)
{
	size_t with = ZSTD_estimateCCtxSize_usingCParams(dict_params(level));
	size_t without = ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level, PAGE_SIZE, 0));

	return head_bytes() + (with > without ? with : without);
}

static size_t dict_decompress_state_bytes(void)
{
	return head_bytes() + ZSTD_estimateDCtxSize();
}

static void *dict_compress_init(void *mem, size_t bytes, int level)
{
	struct dict_stream *stream = mem;

	(void)level;
	stream->ctx = ZSTD_initStaticCCtx((char *)mem + head_bytes(), bytes - head_bytes());
	return stream->ctx ? stream : NULL;
}

static void *dict_decompress_init(void *mem, size_t bytes)
{
	struct dict_stream *stream = mem;

	stream->ctx = ZSTD_initStaticDCtx((char *)mem + head_bytes(), bytes - head_bytes());
	return stream->ctx ? stream : NULL;
}

static u32 dict_compress(void *state, int level, const void *page, void *result)
{
	struct dict_stream *stream = state;
	struct zcomp_dict *d = stream->dict;
	const size_t room = ZCOMP_RESULT_MAX - 1;
	bool ready = atomic32_load_acquire(&d->state) == DICT_READY;
	u8 *to = result;
	size_t len;

	if (!ready)
		dict_sample(d, page);
	to[0] = ready ? OBJECT_DICT : OBJECT_PLAIN;
	len = ready ? ZSTD_compress_usingCDict(stream->ctx, to + 1, room, page, PAGE_SIZE, d->compress)
		    : ZSTD_compressCCtx(stream->ctx, to + 1, room, page, PAGE_SIZE, level);
	return ZSTD_isError(len) ? 0 : (u32)len + 1;
}

static int dict_decompress(void *state, const void *data, u32 len, void *page)
{
	struct dict_stream *stream = state;
	struct zcomp_dict *d = stream->dict;
	const u8 *from = data;
	size_t got;

	if (len < 2 || from[0] > OBJECT_DICT)
		return -EIO;
	if (from[0] == OBJECT_PLAIN)
		got = ZSTD_decompressDCtx(stream->ctx, page, PAGE_SIZE, from + 1, len - 1);
	else if (atomic32_load_acquire(&d->state) == DICT_READY)
		got = ZSTD_decompress_usingDDict(stream->ctx, page, PAGE_SIZE, from + 1, len - 1, d->decompress);
	else
		return -EIO;
	return got == PAGE_SIZE ? 0 : -EIO;
}

const struct zcomp_ops zcomp_zstd_dict = {
	.name = "zstd:dict",
	.level_min = 1,
	.level_max = 19,
	.level_default = 3,
	.has_dict = true,
	.compress_state_bytes = dict_compress_state_bytes,
	.decompress_state_bytes = dict_decompress_state_bytes,
	.compress_init = dict_compress_init,
	.decompress_init = dict_decompress_init,
	.compress = dict_compress,
	.decompress = dict_decompress,
};
