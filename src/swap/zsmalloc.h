/* SPDX-License-Identifier: MIT */
/*
 * A store for compressed pages, after Linux zsmalloc: objects of 1 to 4096 bytes packed by size class, and the memory
 * of emptied places given back to the kernel. It does not move objects by itself, does not know what they hold or whose
 * they are, and does not count who uses them.
 *
 * Objects of a class lie in zspages, runs of 1 to 8 pages; an object may straddle the pages of its run. Each class has
 * its own stretch of a reserved arena, so a run is contiguous in memory and a handle is arithmetic: class, zspage,
 * object. Physical pages come with the first touch and leave with an emptied zspage.
 *
 * Context of all but create and destroy: any thread, signal handlers too (locks inside). The owner of a handle orders
 * its own map and free.
 */
#pragma once

#include "base/types.h"
#include "swap/swap_device.h"

struct zs_pool;

struct zs_handle {
	u64 value;
};

struct zs_stats {
	u64 nr_pages; /* charged, cached empty zspages included */
	u64 nr_pages_max;
	u64 nr_table_pages; /* of nr_pages, those with descriptors: they stay */
	u64 nr_objects;
	u64 object_bytes; /* places taken, each counted at the size of its class */
	u64 metadata_bytes; /* descriptors ever used */
};

/*
 * Room for nr_objects objects of any mix of sizes. `memory` may be filled in later, before the first zs_alloc().
 * 0 or -ENOMEM: no address space.
 */
int must_check zs_create(u64 nr_objects, const struct swap_memory *memory, struct zs_pool **out);

/* Objects that are left die with the pool; all that is charged is uncharged. */
void zs_destroy(struct zs_pool *pool);

/* 0, -ENOMEM: the charge was refused, or -ENOSPC: the arena is full. */
int must_check zs_alloc(struct zs_pool *pool, u32 size, struct zs_handle *handle);

/* Returns how many pages it has left with nothing in them. */
u32 zs_free(struct zs_pool *pool, struct zs_handle handle);

/* Gives the cached empty zspages back. */
void zs_trim(struct zs_pool *pool);

/* How large the object may become where it is. */
u32 zs_room(const struct zs_pool *pool, struct zs_handle handle);

/* The object's bytes; stays valid until zs_free(). */
void *zs_map(const struct zs_pool *pool, struct zs_handle handle);

/*
 * Compaction, by whoever owns the objects: of one that is sparse, take a place in a fuller zspage of its class
 * (zs_alloc_fuller), copy it there, and free the old place. What is left alone is in zspages that are full, or the only
 * partial ones of their class.
 *
 * zs_is_sparse: should the object move? A hint, for any value that was a handle once, or never.
 * zs_alloc_fuller: charges nothing; false: there is no such place. The caller owns the object, and both places then.
 * zs_compactable_pages: how many pages it would empty to move all that should, up to one zspage a class.
 */
bool zs_is_sparse(struct zs_pool *pool, struct zs_handle handle);
bool must_check zs_alloc_fuller(struct zs_pool *pool, struct zs_handle handle, struct zs_handle *fuller);
u64 zs_compactable_pages(struct zs_pool *pool);

void zs_stats(struct zs_pool *pool, struct zs_stats *stats);

/* Walks everything: lists, free chains, counts, charges. Context: no operation in flight. */
bool zs_is_valid(struct zs_pool *pool);
