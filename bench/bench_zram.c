// SPDX-License-Identifier: MIT
/*
 * Time per page of zram's write, read and discard over the pages of a real file, with the bare library calls on the
 * same pages beside them: all taken turn by turn in one run, medians over the rounds. And the store's loss, full, and
 * when nine pages of ten have gone, before and after compaction.
 *
 *   bench_zram FILE [MiB [ROUNDS]]
 */
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "swap/zram.h"
#include "sync/wait.h"

enum { ROUNDS_MAX = 101 };

enum measure { BARE_COMPRESS, BARE_DECOMPRESS, WRITE_FRESH, WRITE_OVER, READ, DISCARD, NR_MEASURES };

static const char *const measure_names[NR_MEASURES] = {
	"bare compress", "bare decompress", "write, empty device", "write, over old data", "read", "discard",
};

struct bench {
	const char *spec;
	bool zstd;
	int level;
	struct swap_device *dev;
	const char *pages;
	u32 nr_pages;
	u32 tables; /* pages that the full device's entries and descriptors lie on */
	char *results; /* a page of room for each page's bare result */
	int *lens;
	void *state; /* LZ4's, or the ZSTD_CCtx */
	void *dstate;
	double us[NR_MEASURES][ROUNDS_MAX];
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench_zram: %s\n", what);
	exit(1);
}

static const char *page_at(const struct bench *b, u32 i)
{
	return b->pages + (size_t)i * PAGE_SIZE;
}

/* Incompressible pages come out as 0 and are not timed in decompression, neither bare nor through the device. */
static void bare_compress(struct bench *b)
{
	const int room = (int)PAGE_SIZE / 8 * 7;

	for (u32 i = 0; i < b->nr_pages; i++) {
		char *result = b->results + (size_t)i * PAGE_SIZE;

		if (b->zstd) {
			size_t len = ZSTD_compressCCtx(b->state, result, (size_t)room, page_at(b, i), PAGE_SIZE,
						       b->level);

			b->lens[i] = ZSTD_isError(len) ? 0 : (int)len;
		} else {
			b->lens[i] = LZ4_compress_fast_extState(b->state, page_at(b, i), result, (int)PAGE_SIZE, room,
								b->level);
		}
	}
}

static u32 bare_decompress(struct bench *b)
{
	static char page[PAGE_SIZE];
	u32 done = 0;

	for (u32 i = 0; i < b->nr_pages; i++) {
		const char *result = b->results + (size_t)i * PAGE_SIZE;

		if (!b->lens[i])
			continue;
		if (b->zstd)
			ZSTD_decompressDCtx(b->dstate, page, PAGE_SIZE, result, (size_t)b->lens[i]);
		else
			LZ4_decompress_safe(result, page, b->lens[i], (int)PAGE_SIZE);
		done++;
	}
	return done;
}

static u32 device_read(struct bench *b)
{
	static char page[PAGE_SIZE];
	u32 done = 0;

	for (u32 i = 0; i < b->nr_pages; i++) {
		if (!b->lens[i])
			continue;
		if (b->dev->ops->read(b->dev, i, page) != 0 || page[i % PAGE_SIZE] != page_at(b, i)[i % PAGE_SIZE])
			die("read failed");
		done++;
	}
	return done;
}

static void device_write(struct bench *b)
{
	for (u32 i = 0; i < b->nr_pages; i++) {
		if (b->dev->ops->write(b->dev, i, page_at(b, i)) != 0)
			die("write failed");
	}
}

static void device_discard(struct bench *b)
{
	for (u32 i = 0; i < b->nr_pages; i++)
		b->dev->ops->discard(b->dev, i);
}

static void take(struct bench *b, enum measure m, int round, u64 start, u32 nr)
{
	b->us[m][round] = nr ? (double)(sync_clock_ns() - start) / 1000 / nr : 0;
}

static void bench_round(struct bench *b, int round)
{
	u64 t = sync_clock_ns();
	u32 nr;

	bare_compress(b);
	take(b, BARE_COMPRESS, round, t, b->nr_pages);
	t = sync_clock_ns();
	device_write(b);
	take(b, WRITE_FRESH, round, t, b->nr_pages);
	t = sync_clock_ns();
	nr = bare_decompress(b);
	take(b, BARE_DECOMPRESS, round, t, nr);
	t = sync_clock_ns();
	nr = device_read(b);
	take(b, READ, round, t, nr);
	t = sync_clock_ns();
	device_write(b);
	take(b, WRITE_OVER, round, t, b->nr_pages);
	t = sync_clock_ns();
	device_discard(b);
	take(b, DISCARD, round, t, b->nr_pages);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(struct bench *b, int rounds, const struct swap_device_stats *full)
{
	u64 store = full->compr_data_size ? full->mem_used_total - pages_to_bytes(b->tables) : 0;

	printf("%s: %u pages, %llu same-filled, %llu incompressible, ratio %.2f, loss %.1f %%, tables %u KiB\n",
	       b->spec, b->nr_pages, (unsigned long long)full->same_pages, (unsigned long long)full->huge_pages,
	       (double)full->orig_data_size / (double)(full->mem_used_total ? full->mem_used_total : 1),
	       store ? 100 * ((double)store / (double)full->compr_data_size - 1) : 0, b->tables * 4);
	for (int m = 0; m < NR_MEASURES; m++) {
		qsort(b->us[m], (size_t)rounds, sizeof(b->us[m][0]), by_value);
		printf("  %-22s %7.2f us per page  (least %.2f)\n", measure_names[m], b->us[m][rounds / 2],
		       b->us[m][0]);
	}
}

/* Of the objects' pages. */
static double device_mib(struct bench *b, u64 *data)
{
	struct swap_device_stats s;

	b->dev->ops->stats(b->dev, &s);
	*data = s.compr_data_size;
	return (double)(s.mem_used_total - pages_to_bytes(zram_table_pages(b->dev))) / (1 << 20);
}

/* Nine of ten go, at random; then what is left is moved together, as often as there is something to move. */
static void bench_compact(struct bench *b)
{
	u64 seed = 1, data, moved = 0, start;
	u32 slots[SWAP_BATCH_MAX], nr, freed;
	double before, after;

	device_write(b);
	for (u32 i = 0; i < b->nr_pages; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		if ((seed >> 33) % 10)
			b->dev->ops->discard(b->dev, i);
	}
	before = device_mib(b, &data);
	start = sync_clock_ns();
	while ((nr = b->dev->ops->sparse(b->dev, slots, SWAP_BATCH_MAX)) > 0)
		moved += b->dev->ops->compact(b->dev, slots, nr, &freed);
	start = sync_clock_ns() - start;
	after = device_mib(b, &data);
	printf("  a tenth left, %.2f MiB: in %.2f MiB, compacted in %.2f MiB; %llu moves, %.2f us each\n",
	       (double)data / (1 << 20), before, after, (unsigned long long)moved,
	       moved ? (double)start / 1000 / (double)moved : 0);
	device_discard(b);
}

static void bench_run(const char *spec, const char *pages, u32 nr_pages, int rounds)
{
	static struct bench b;
	struct swap_device_config cfg;
	struct swap_device_stats full;
	char err[256];

	if (swap_device_parse(spec, &cfg, err, sizeof(err)) != 0)
		die(err);
	cfg.size = (u64)nr_pages * PAGE_SIZE;
	b = (struct bench){ .spec = spec, .zstd = cfg.algo != ZCOMP_LZ4, .level = cfg.level, .pages = pages };
	b.nr_pages = nr_pages;
	b.results = malloc((size_t)nr_pages * PAGE_SIZE);
	b.lens = calloc(nr_pages, sizeof(int));
	b.state = b.zstd ? (void *)ZSTD_createCCtx() : malloc((size_t)LZ4_sizeofState());
	b.dstate = ZSTD_createDCtx();
	if (!b.results || !b.lens || !b.state || !b.dstate || swap_device_open(&cfg, &b.dev) != 0)
		die("no memory");
	/* Twice: the first pages may be samples for a dictionary, which is made here. */
	device_write(&b);
	(void)b.dev->ops->sparse(b.dev, NULL, 0);
	device_discard(&b);
	device_write(&b);
	b.dev->ops->stats(b.dev, &full);
	b.tables = (u32)zram_table_pages(b.dev);
	device_discard(&b);
	bench_round(&b, 0);
	for (int round = 0; round < rounds; round++)
		bench_round(&b, round);
	report(&b, rounds, &full);
	bench_compact(&b);
	b.dev->ops->close(b.dev);
	free(b.results);
	free(b.lens);
	ZSTD_freeDCtx(b.dstate);
	if (b.zstd)
		ZSTD_freeCCtx(b.state);
	else
		free(b.state);
}

int main(int argc, char **argv)
{
	size_t mib = argc > 2 ? (size_t)atoi(argv[2]) : 16;
	int rounds = argc > 3 ? atoi(argv[3]) : 11;
	FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
	char *pages = malloc(mib << 20);
	u32 nr_pages;

	if (!file || !pages || rounds < 1 || rounds > ROUNDS_MAX)
		die("usage: bench_zram FILE [MiB [ROUNDS]]");
	nr_pages = (u32)fread(pages, PAGE_SIZE, (mib << 20) / PAGE_SIZE, file);
	fclose(file);
	if (!nr_pages)
		die("the file has no whole page");
	bench_run("zram:algo=lz4", pages, nr_pages, rounds);
	bench_run("zram:algo=zstd,level=1", pages, nr_pages, rounds);
	bench_run("zram:algo=zstd,level=3", pages, nr_pages, rounds);
	bench_run("zram:algo=zstd:dict,level=3", pages, nr_pages, rounds);
	free(pages);
	return 0;
}
