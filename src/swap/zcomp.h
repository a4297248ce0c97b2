/* SPDX-License-Identifier: MIT */
/*
 * Compression of single pages: one front, one const table of functions per algorithm.
 *
 * All memory is taken at zcomp_open(); nothing here allocates later. The algorithms' working memory comes in streams,
 * a few more than there are processors; who finds none free sleeps. A stream belongs to its taker alone.
 */
#pragma once

#include "base/types.h"
#include "swap/swap_device.h"
#include "sync/atomic.h"

/*
 * A result longer than 7/8 of a page counts as incompressible: it would save less than the store loses on a bad day,
 * and cost a decompression at every read. The bound also stops the compressors early on such pages.
 */
enum { ZCOMP_RESULT_MAX = (int)PAGE_SIZE / 8 * 7 };

/* What an algorithm implements. States are memory of the given size, aligned to 64 bytes; 0 bytes: needs none. */
struct zcomp_ops {
	const char *name;
	int level_min, level_max, level_default;
	bool has_dict; /* its states are zcomp_dict.h's */
	size_t (*compress_state_bytes)(int level);
	size_t (*decompress_state_bytes)(void);
	/* Prepare a state once; what they return is passed to the functions below. NULL: it does not work. */
	void *(*compress_init)(void *mem, size_t bytes, int level);
	void *(*decompress_init)(void *mem, size_t bytes);
	/* Length of the result, or 0 if it is longer than ZCOMP_RESULT_MAX. */
	u32 (*compress)(void *state, int level, const void *page, void *result);
	/* 0, or -EIO unless it yields exactly one page. Safe with any input. */
	int (*decompress)(void *state, const void *data, u32 len, void *page);
};

extern const struct zcomp_ops zcomp_lz4;
extern const struct zcomp_ops zcomp_zstd;
extern const struct zcomp_ops zcomp_zstd_dict;
extern const struct zcomp_ops *const zcomp_algos[]; /* by enum zcomp_algo; NULL-ended */

struct zcomp_stream {
	void *state;
	void *result; /* compression streams only: ZCOMP_RESULT_MAX bytes; a page long, for who needs one meanwhile */
};

struct zcomp;

/* Level 0 stands for the algorithm's own choice. */
bool zcomp_level_is_valid(enum zcomp_algo algo, int level);

/* 0, -ENOMEM, or -EIO: the library fails its self test. Not from a signal handler; the other functions may be. */
int must_check zcomp_open(enum zcomp_algo algo, int level, struct zcomp **out);
void zcomp_close(struct zcomp *z);

/*
 * Of algorithms with a dictionary: whom its memory is charged to, before the first page; how much that is just now; and
 * making it, by a background thread, one at a time, once enough pages have been compressed (zcomp_dict.h).
 */
void zcomp_set_memory(struct zcomp *z, const struct swap_memory *memory);
u64 zcomp_nr_pages(const struct zcomp *z);
void zcomp_train(struct zcomp *z);

/* Context: no lock held, as it may sleep until a stream is free. */
struct zcomp_stream *zcomp_stream_get(struct zcomp *z);
void zcomp_stream_put(struct zcomp *z, struct zcomp_stream *stream);

/* Leaves the result in stream->result; returns its length, or 0 for an incompressible page. */
u32 zcomp_compress(struct zcomp *z, struct zcomp_stream *stream, const void *page);

/* 0 or -EIO. Takes a stream of its own where the algorithm needs one. */
int zcomp_decompress(struct zcomp *z, const void *data, u32 len, void *page);
