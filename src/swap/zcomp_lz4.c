// SPDX-License-Identifier: MIT
#include <errno.h>
#include <lz4.h>

#include "swap/zcomp.h"

static size_t lz4_compress_state_bytes(int level)
{
	(void)level;
	return (size_t)LZ4_sizeofState();
}

static size_t lz4_decompress_state_bytes(void)
{
	return 0;
}

static void *lz4_compress_init(void *mem, size_t bytes, int level)
{
	(void)bytes;
	(void)level;
	return mem;
}

/* `level` is LZ4's acceleration: higher is faster and compresses less. */
static u32 lz4_compress(void *state, int level, const void *page, void *result)
{
	return (u32)LZ4_compress_fast_extState(state, page, result, (int)PAGE_SIZE, ZCOMP_RESULT_MAX, level);
}

static int lz4_decompress(void *state, const void *data, u32 len, void *page)
{
	(void)state;
	return LZ4_decompress_safe(data, page, (int)len, (int)PAGE_SIZE) == (int)PAGE_SIZE ? 0 : -EIO;
}

const struct zcomp_ops zcomp_lz4 = {
	.name = "lz4",
	.level_min = 1,
	.level_max = 19,
	.level_default = 1,
	.compress_state_bytes = lz4_compress_state_bytes,
	.decompress_state_bytes = lz4_decompress_state_bytes,
	.compress_init = lz4_compress_init,
	.compress = lz4_compress,
	.decompress = lz4_decompress,
};
