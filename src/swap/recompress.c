// SPDX-License-Identifier: MIT
#include "swap/recompress.h"

#include <errno.h>
#include <string.h>

#include "base/os.h"
#include "sync/wait.h"

enum {
	WAITED_NS = 500000, /* a page takes 20 to 60 us, and the time slice of another thread 3 ms */
	REST_NS = 200000000,
	BUFFERS = 2, /* pages */
};

int recompress_open(struct recompress *r, enum swap_switch mode)
{
	int ret;

	*r = (struct recompress){ .always = mode == SWITCH_ON };
	if (mode == SWITCH_OFF)
		return 0;
	r->page = os_reserve(BUFFERS * PAGE_SIZE);
	if (!r->page)
		return -ENOMEM;
	/* Touched now: later there may be no memory. */
	memset(r->page, 1, BUFFERS * PAGE_SIZE);
	r->result = r->page + PAGE_SIZE;
	ret = zcomp_open(ZCOMP_ZSTD, 0, &r->zcomp);
	if (ret)
		recompress_close(r);
	return ret;
}

void recompress_close(struct recompress *r)
{
	if (r->zcomp)
		zcomp_close(r->zcomp);
	os_unreserve(r->page, BUFFERS * PAGE_SIZE);
	*r = (struct recompress){ 0 };
}

static u32 compress(struct recompress *r)
{
	struct zcomp_stream *stream = zcomp_stream_get(r->zcomp);
	u32 len = zcomp_compress(r->zcomp, stream, r->page);

	memcpy(r->result, stream->result, len);
	zcomp_stream_put(r->zcomp, stream);
	return len;
}

u32 recompress(struct recompress *r, struct zcomp *from, const void *data, u32 size)
{
	u64 begun, ended;
	u32 len = 0;

	if (!r->zcomp)
		return 0;
	begun = sync_clock_ns();
	if (!r->always && begun < r->rests_until_ns)
		return 0;
	if (!zcomp_decompress(from, data, size, r->page))
		len = compress(r);
	if (!r->always) {
		sync_yield();
		ended = sync_clock_ns();
		if (ended - begun > WAITED_NS)
			r->rests_until_ns = ended + REST_NS;
	}
	return len < size ? len : 0;
}

int recompress_decode(struct recompress *r, const void *data, u32 size, void *page)
{
	return r->zcomp ? zcomp_decompress(r->zcomp, data, size, page) : -EIO;
}
