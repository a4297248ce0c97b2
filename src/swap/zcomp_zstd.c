// SPDX-License-Identifier: MIT
/*
 * Contexts live in memory of ours (ZSTD_initStatic*), sized for sources of one page: libzstd then never allocates. The
 * functions for that are in its static-linking section, but are exported by every libzstd.so since 1.3.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include <errno.h>
#include <zstd.h>

#include "swap/zcomp.h"

static size_t zstd_compress_state_bytes(int level)
{
	return ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level, PAGE_SIZE, 0));
}

static size_t zstd_decompress_state_bytes(void)
{
	return ZSTD_estimateDCtxSize();
}

static void *zstd_compress_init(void *mem, size_t bytes, int level)
{
	(void)level;
	return ZSTD_initStaticCCtx(mem, bytes);
}

static void *zstd_decompress_init(void *mem, size_t bytes)
{
	return ZSTD_initStaticDCtx(mem, bytes);
}

/* The only error that a valid context and page can meet is a result that does not fit. */
static u32 zstd_compress(void *state, int level, const void *page, void *result)
{
	size_t len = ZSTD_compressCCtx(state, result, ZCOMP_RESULT_MAX, page, PAGE_SIZE, level);

	return ZSTD_isError(len) ? 0 : (u32)len;
}

static int zstd_decompress(void *state, const void *data, u32 len, void *page)
{
	return ZSTD_decompressDCtx(state, page, PAGE_SIZE, data, len) == PAGE_SIZE ? 0 : -EIO;
}

const struct zcomp_ops zcomp_zstd = {
	.name = "zstd",
	.level_min = 1,
	.level_max = 19,
	.level_default = 3,
	.compress_state_bytes = zstd_compress_state_bytes,
	.decompress_state_bytes = zstd_decompress_state_bytes,
	.compress_init = zstd_compress_init,
	.decompress_init = zstd_decompress_init,
	.compress = zstd_compress,
	.decompress = zstd_decompress,
};
