// SPDX-License-Identifier: MIT
/*
 * A slot holds nothing, one repeated 64-bit word, a compressed page or a raw one; the last two lie in the size-class
 * store. A checksum over what is stored is made at write and compared at read before anything is decompressed, so
 * that damaged memory is told as -EIO and never handed on.
 *
 * Slot entries need no lock: each is used by the holder of the slot's pin alone. The store and the compression streams
 * have locks of their own, and no lock is held from one call to the other.
 */
#include "swap/zram.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/os.h"
#include "swap/counters.h"
#include "swap/pages.h"
#include "swap/zcomp.h"
#include "swap/zsmalloc.h"

enum zram_slot_state {
	SLOT_EMPTY = 0, /* untouched table memory reads as this */
	SLOT_SAME,
	SLOT_COMPRESSED,
	SLOT_RAW,
};

struct zram_slot {
	u64 word; /* SLOT_SAME: the element; else the object's handle */
	u32 checksum; /* of the element's or the object's bytes */
	u16 size; /* of the object */
	u16 state; /* enum zram_slot_state */
};

_Static_assert(sizeof(struct zram_slot) == 16, "the slot table is part of the cost of a stored page");

struct zram {
	struct swap_device dev;
	struct zcomp *zcomp;
	struct zs_pool *store;
	struct zram_slot *slots;
	struct swap_counters counters;
};

/* Pages are looked at as words here, whatever the program keeps in them. */
typedef u64 __attribute__((may_alias)) page_word;

enum { PAGE_WORDS = PAGE_SIZE / sizeof(u64) };

static struct zram *zram_of(struct swap_device *dev)
{
	return container_of(dev, struct zram, dev);
}

static struct zram_slot *zram_slot(struct zram *z, u32 slot)
{
	must(slot < z->dev.nr_slots);
	return &z->slots[slot];
}

static struct zs_handle slot_handle(const struct zram_slot *s)
{
	must(s->state == SLOT_COMPRESSED || s->state == SLOT_RAW);
	return (struct zs_handle){ s->word };
}

static u32 checksum(const void *data, size_t len)
{
	return (u32)XXH3_64bits(data, len);
}

static bool page_is_same_filled(const void *page, u64 *element)
{
	const page_word *w = page;

	/* Most pages that begin with a run end differently. */
	if (w[0] != w[PAGE_WORDS - 1])
		return false;
	for (int i = 1; i < PAGE_WORDS; i++) {
		if (w[i] != w[0])
			return false;
	}
	*element = w[0];
	return true;
}

static void page_fill(void *page, u64 element)
{
	page_word *w = page;

	for (int i = 0; i < PAGE_WORDS; i++)
		w[i] = element;
}

/* Puts bytes into the store and describes them in *s. 0 or what zs_alloc() returns. */
static int zram_store(struct zram *z, struct zram_slot *s, enum zram_slot_state state, const void *data, u32 size)
{
	struct zs_handle handle;
	int ret = zs_alloc(z->store, size, &handle);

	if (ret)
		return ret;
	memcpy(zs_map(z->store, handle), data, size);
	*s = (struct zram_slot){
		.word = handle.value,
		.checksum = checksum(data, size),
		.size = (u16)size,
		.state = (u16)state,
	};
	return 0;
}

static int zram_store_page(struct zram *z, struct zram_slot *s, const void *page)
{
	struct zcomp_stream *stream = zcomp_stream_get(z->zcomp);
	u32 len = zcomp_compress(z->zcomp, stream, page);
	int ret = 0;

	if (len)
		ret = zram_store(z, s, SLOT_COMPRESSED, stream->result, len);
	zcomp_stream_put(z->zcomp, stream);
	return len ? ret : zram_store(z, s, SLOT_RAW, page, PAGE_SIZE);
}

/* sign is 1 for a slot that got its data, -1 for one that loses it. */
static void zram_count(struct zram *z, u32 slot, const struct zram_slot *s, int sign)
{
	const u64 one = (u64)(s64)sign;

	swap_counter_add(&z->counters, slot, COUNT_PAGES, one);
	if (s->state == SLOT_SAME)
		swap_counter_add(&z->counters, slot, COUNT_SAME_PAGES, one);
	else
		swap_counter_add(&z->counters, slot, COUNT_COMPR_BYTES, one * s->size);
	if (s->state == SLOT_RAW)
		swap_counter_add(&z->counters, slot, COUNT_HUGE_PAGES, one);
}

static void zram_discard(struct swap_device *dev, u32 slot)
{
	struct zram *z = zram_of(dev);
	struct zram_slot *s = zram_slot(z, slot);

	if (s->state == SLOT_EMPTY)
		return;
	zram_count(z, slot, s, -1);
	if (s->state != SLOT_SAME)
		zs_free(z->store, slot_handle(s));
	*s = (struct zram_slot){ .state = SLOT_EMPTY };
}

static int zram_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct zram *z = zram_of(dev);
	struct zram_slot *s = zram_slot(z, slot);
	struct zram_slot new;
	u64 element;

	if (page_is_same_filled(page, &element)) {
		new = (struct zram_slot){
			.word = element,
			.checksum = checksum(&element, sizeof(element)),
			.state = SLOT_SAME,
		};
	} else if (zram_store_page(z, &new, page) != 0) {
		/* The old contents stay until the new ones are safe. */
		swap_counter_add(&z->counters, slot, COUNT_FAILED_WRITES, 1);
		return -ENOSPC;
	}
	zram_discard(dev, slot);
	*s = new;
	zram_count(z, slot, s, 1);
	return 0;
}

static int zram_load(struct zram *z, const struct zram_slot *s, void *page)
{
	const void *data;

	if (s->state == SLOT_EMPTY)
		return -EIO;
	data = s->state == SLOT_SAME ? &s->word : zs_map(z->store, slot_handle(s));
	if (checksum(data, s->state == SLOT_SAME ? sizeof(s->word) : s->size) != s->checksum)
		return -EIO;
	if (s->state == SLOT_SAME)
		page_fill(page, s->word);
	else if (s->state == SLOT_RAW)
		memcpy(page, data, PAGE_SIZE);
	else
		return zcomp_decompress(z->zcomp, data, s->size, page);
	return 0;
}

static int zram_read(struct swap_device *dev, u32 slot, void *page)
{
	struct zram *z = zram_of(dev);
	int ret = zram_load(z, zram_slot(z, slot), page);

	if (ret)
		swap_counter_add(&z->counters, slot, COUNT_FAILED_READS, 1);
	return ret;
}

static void zram_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	struct zram *z = zram_of(dev);
	struct zs_stats store;

	zs_stats(z->store, &store);
	swap_counters_report(&z->counters, stats);
	stats->mem_used_total = pages_to_bytes(store.nr_pages);
	stats->mem_used_max = pages_to_bytes(store.nr_pages_max);
}

static void zram_close(struct swap_device *dev)
{
	struct zram *z = zram_of(dev);

	if (z->store)
		zs_destroy(z->store);
	if (z->zcomp)
		zcomp_close(z->zcomp);
	os_unreserve(z->slots, z->dev.nr_slots * sizeof(*z->slots));
	os_unreserve(z, sizeof(*z));
}

static const struct swap_device_ops zram_ops = {
	.read = zram_read,
	.write = zram_write,
	.discard = zram_discard,
	.stats = zram_stats,
	.close = zram_close,
};

static int zram_open(const struct swap_device_config *cfg, struct swap_device **out)
{
	struct zram *z;
	int ret;

	if (!zcomp_level_is_valid(cfg->algo, cfg->level))
		return -EINVAL;
	z = os_reserve(sizeof(*z));
	if (!z)
		return -ENOMEM;
	z->dev = (struct swap_device){
		.ops = &zram_ops,
		.name = zram_driver.name,
		.flags = SWAP_SYNCHRONOUS_IO | SWAP_DISCARD,
		.nr_slots = (u32)(cfg->size >> PAGE_SHIFT),
	};
	z->slots = pages_reserve(z->dev.nr_slots * sizeof(*z->slots));
	ret = z->slots ? zcomp_open(cfg->algo, cfg->level, &z->zcomp) : -ENOMEM;
	if (!ret)
		ret = zs_create(z->dev.nr_slots, &z->dev.memory, &z->store);
	if (ret) {
		zram_close(&z->dev);
		return ret;
	}
	*out = &z->dev;
	return 0;
}

const struct swap_driver zram_driver = {
	.name = "zram",
	.help = "compressed memory: algo=lz4|zstd, level=1..19, size=SIZE",
	.open = zram_open,
};

void zram_corrupt_for_test(struct swap_device *dev, u32 slot)
{
	struct zram *z = zram_of(dev);
	struct zram_slot *s = zram_slot(z, slot);

	must(s->state != SLOT_EMPTY);
	if (s->state == SLOT_SAME)
		s->word ^= 1;
	else
		((u8 *)zs_map(z->store, slot_handle(s)))[s->size / 2] ^= 1;
}

u64 zram_metadata_bytes(struct swap_device *dev)
{
	struct zram *z = zram_of(dev);
	struct zs_stats store;

	zs_stats(z->store, &store);
	return swap_counter_sum(&z->counters, COUNT_PAGES) * sizeof(struct zram_slot) + store.metadata_bytes;
}

bool zram_is_valid(struct swap_device *dev)
{
	return zs_is_valid(zram_of(dev)->store);
}
