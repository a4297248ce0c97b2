// SPDX-License-Identifier: MIT
/*
 * Pages a second at depth, through driver, ring and engine, and by a bare loop of the client library with the same
 * number of single-page requests in flight.
 *
 *   bench_remote weir "" PAGES DEPTH       under `weir run --swap`, on the device that it names in WEIR_SWAP
 *   bench_remote nbd URI PAGES DEPTH
 *   bench_remote rados POOL PAGES DEPTH CONF
 *
 * Each prints "write PAGES_PER_SECOND read PAGES_PER_SECOND". Pages are written in order and read at random, each once.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "swap/swap_device.h"
#include "sync/wait.h"
#ifdef HAVE_NBD
#include <libnbd.h>
#endif
#ifdef HAVE_RADOS
#include <rados/librados.h>
#endif

enum { DEPTH_MAX = 64, OBJECT_PAGES = 512 };

static u32 nr_pages, depth;
static u32 *order;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench_remote: %s\n", what);
	exit(1);
}

static u32 random_below(u64 *seed, u32 limit)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (u32)((*seed >> 33) % limit);
}

static void shuffle(void)
{
	u64 seed = 1;

	for (u32 i = 0; i < nr_pages; i++)
		order[i] = i;
	for (u32 i = nr_pages - 1; i > 0; i--) {
		u32 k = random_below(&seed, i + 1), t = order[i];

		order[i] = order[k];
		order[k] = t;
	}
}

static void page_fill(u8 *page, u32 number)
{
	for (u32 i = 0; i < PAGE_SIZE / sizeof(u32); i++)
		((u32 *)(void *)page)[i] = number * 2654435761u + i;
}

static void report(u64 write_ns, u64 read_ns)
{
	printf("write %.0f read %.0f\n", nr_pages * 1e9 / (double)write_ns, nr_pages * 1e9 / (double)read_ns);
}

/* ---- weir: batches of DEPTH pages by one thread ---- */

static u8 pages[DEPTH_MAX][PAGE_SIZE] __attribute__((aligned(4096)));

static u64 run_device(struct swap_device *dev, bool write)
{
	u64 begin = sync_clock_ns();

	for (u32 at = 0; at < nr_pages; at += depth) {
		struct swap_io io[DEPTH_MAX];
		u32 nr = (u32)min_u64(depth, nr_pages - at);

		for (u32 i = 0; i < nr; i++) {
			io[i] = (struct swap_io){ .slot = write ? at + i : order[at + i], .page = pages[i] };
			if (write)
				page_fill(pages[i], at + i);
		}
		if (write)
			swap_device_write_pages(dev, io, nr);
		else
			swap_device_read_pages(dev, io, nr);
		for (u32 i = 0; i < nr; i++) {
			if (io[i].err)
				die("the device fails");
		}
	}
	return sync_clock_ns() - begin;
}

static void bench_weir(void)
{
	struct swap_device_config cfg;
	struct swap_device *dev;
	const char *spec = getenv("WEIR_SWAP");
	char err[256];
	u64 write_ns;

	if (swap_device_parse(spec ? spec : "", &cfg, err, sizeof(err)))
		die(err);
	cfg.size = (u64)nr_pages * PAGE_SIZE;
	if (swap_device_open(&cfg, &dev))
		die("the device cannot be opened");
	write_ns = run_device(dev, true);
	report(write_ns, run_device(dev, false));
	dev->ops->close(dev);
}

/* ---- libnbd ---- */

#ifdef HAVE_NBD
static u64 run_nbd(struct nbd_handle *nbd, bool write)
{
	u64 begin = sync_clock_ns();
	s64 cookie[DEPTH_MAX];

	for (u32 at = 0, done = 0; done < nr_pages;) {
		for (; at < nr_pages && at - done < depth; at++) {
			u32 page = write ? at : order[at];
			u8 *data = pages[at % depth];

			if (write)
				page_fill(data, page);
			cookie[at % depth] = write ? nbd_aio_pwrite(nbd, data, PAGE_SIZE, (u64)page * PAGE_SIZE,
								    NBD_NULL_COMPLETION, 0)
						   : nbd_aio_pread(nbd, data, PAGE_SIZE, (u64)page * PAGE_SIZE,
								   NBD_NULL_COMPLETION, 0);
			if (cookie[at % depth] < 0)
				die(nbd_get_error());
		}
		while (done < at && nbd_aio_command_completed(nbd, (u64)cookie[done % depth]) == 1)
			done++;
		if (done < at && (at == nr_pages || at - done == depth) && nbd_poll(nbd, -1) < 0)
			die(nbd_get_error());
	}
	return sync_clock_ns() - begin;
}

static void bench_nbd(const char *uri)
{
	struct nbd_handle *nbd = nbd_create();
	u64 write_ns;

	if (!nbd || nbd_connect_uri(nbd, uri))
		die(nbd_get_error());
	write_ns = run_nbd(nbd, true);
	report(write_ns, run_nbd(nbd, false));
	nbd_close(nbd);
}
#endif

/* ---- librados ---- */

#ifdef HAVE_RADOS
static u64 run_rados(rados_ioctx_t io, bool write)
{
	u64 begin = sync_clock_ns();
	rados_completion_t completion[DEPTH_MAX];

	for (u32 at = 0, done = 0; done < nr_pages;) {
		for (; at < nr_pages && at - done < depth; at++) {
			u32 page = write ? at : order[at];
			u64 offset = (u64)(page % OBJECT_PAGES) * PAGE_SIZE;
			char name[32], *data = (char *)pages[at % depth];

			snprintf(name, sizeof(name), "bench.%u", page / OBJECT_PAGES);
			if (write)
				page_fill(pages[at % depth], page);
			rados_aio_create_completion2(NULL, NULL, &completion[at % depth]);
			if (write ? rados_aio_write(io, name, completion[at % depth], data, PAGE_SIZE, offset)
				  : rados_aio_read(io, name, completion[at % depth], data, PAGE_SIZE, offset))
				die("librados fails");
		}
		rados_aio_wait_for_complete(completion[done % depth]);
		if (rados_aio_get_return_value(completion[done % depth]) < 0)
			die("the cluster fails");
		rados_aio_release(completion[done++ % depth]);
	}
	return sync_clock_ns() - begin;
}

static void bench_rados(const char *pool, const char *conf)
{
	rados_t cluster;
	rados_ioctx_t io;
	char name[32];
	u64 write_ns;

	if (rados_create(&cluster, NULL) || rados_conf_read_file(cluster, conf) || rados_connect(cluster) ||
	    rados_ioctx_create(cluster, pool, &io))
		die("the cluster cannot be reached");
	write_ns = run_rados(io, true);
	report(write_ns, run_rados(io, false));
	for (u32 i = 0; i <= nr_pages / OBJECT_PAGES; i++) {
		snprintf(name, sizeof(name), "bench.%u", i);
		rados_remove(io, name);
	}
	rados_ioctx_destroy(io);
	rados_shutdown(cluster);
}
#endif

int main(int argc, char **argv)
{
	const char *mode = argc > 4 ? argv[1] : "";

	nr_pages = argc > 4 ? (u32)atol(argv[3]) : 0;
	depth = argc > 4 ? (u32)atol(argv[4]) : 0;
	if (!nr_pages || !depth || depth > DEPTH_MAX)
		die("usage: bench_remote weir|nbd|rados TARGET PAGES DEPTH [CONF]");
	order = calloc(nr_pages, sizeof(*order));
	if (!order)
		die("no memory");
	shuffle();
	if (!strcmp(mode, "weir"))
		bench_weir();
#ifdef HAVE_NBD
	else if (!strcmp(mode, "nbd"))
		bench_nbd(argv[2]);
#endif
#ifdef HAVE_RADOS
	else if (!strcmp(mode, "rados") && argc > 5)
		bench_rados(argv[2], argv[5]);
#endif
	else
		die("this client library is not built in");
	return 0;
}
