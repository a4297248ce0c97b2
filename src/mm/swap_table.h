/* SPDX-License-Identifier: MIT */
/*
 * The swap table: one atomic word per slot, and every legal change of it. Nothing else writes the words.
 *
 *   63..32  frame number (FRAME) or name of the thread that owns the pin (sync_owner_id)
 *    22     DIRTY      the frame is newer than the device
 *    21     WRITEBACK  the frame is being written to the slot
 *    20     WAITERS    somebody sleeps on this word
 *    19     LOCKED     the cached frame is in exclusive use ("folio lock")
 *    18     FRAME      the slot is in the swap cache, in that frame
 *    17     HAS_CACHE  pinned: by a swap-in or swap-out, or by the swap cache (FRAME)
 *    16     BAD        never handed out
 *   15..0   count      PTEs that name the slot
 *
 *                 alloc                    publish                      writeback ends
 *      free (0) ---------> 1|HAS_CACHE ---------------> 1|HAS_CACHE|FRAME ------------> 1
 *         ^                    ^  |                          | lock, take back          ^ |
 *         |                    |  | release                  v                          | |
 *         +--------------------+--+------- 0|HAS_CACHE <-----+--------------------------+-+
 *                                          (discard)                   prepare/clear: 1 <-> 1|HAS_CACHE
 *
 * A slot is free when its word is 0, and only then can it be handed out. Whoever takes count and pin to nothing gets
 * the pin back in the same step (SLOT_LAST) and with it the duty to discard the data and then to release the slot.
 *
 * Orders: taking a pin or the folio lock is an acquire, giving it up or publishing a frame is a release, so the data
 * of slot and frame are handed over from one pin holder to the next. A sleeper sets WAITERS by compare-and-swap; each
 * step that ends a pin or lock clears WAITERS in the same read-modify-write and then wakes all.
 *
 * This file and swap_table.c use nothing but sync/atomic.h and one sleep/wake pair, so that a checker for C11 weak
 * memory can read them unmodified.
 * Context of all: any thread, also signal handlers; only slot_wait() sleeps.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

#define SLOT_COUNT_MASK ((u64)0xffff)
#define SLOT_BAD ((u64)1 << 16)
#define SLOT_HAS_CACHE ((u64)1 << 17)
#define SLOT_FRAME ((u64)1 << 18)
#define SLOT_LOCKED ((u64)1 << 19)
#define SLOT_WAITERS ((u64)1 << 20)
#define SLOT_WRITEBACK ((u64)1 << 21)
#define SLOT_DIRTY ((u64)1 << 22)
#define SLOT_HIGH_SHIFT 32

/* Taking a slot word apart. */
static inline u32 slot_count(u64 word)
{
	return (u32)(word & SLOT_COUNT_MASK);
}

static inline bool slot_is_cached(u64 word)
{
	return (word & SLOT_FRAME) != 0;
}

static inline bool slot_is_busy(u64 word)
{
	return (word & SLOT_LOCKED) || ((word & SLOT_HAS_CACHE) && !(word & SLOT_FRAME));
}

static inline u32 slot_frame(u64 word)
{
	return (u32)(word >> SLOT_HIGH_SHIFT);
}

static inline u32 slot_owner(u64 word)
{
	return (u32)(word >> SLOT_HIGH_SHIFT);
}

static inline bool slot_word_is_valid(u64 word)
{
	if ((word & SLOT_FRAME) && !(word & SLOT_HAS_CACHE))
		return false;
	if ((word & (SLOT_LOCKED | SLOT_WRITEBACK | SLOT_DIRTY)) && !(word & SLOT_FRAME))
		return false;
	return (word & SLOT_HAS_CACHE) || !(word >> SLOT_HIGH_SHIFT);
}

/* A look without a pin: a hint, everybody looks again in the compare-and-swap of the step it takes. */
static inline u64 slot_read(const struct atomic64 *slot)
{
	return atomic64_read(slot);
}

/* What giving something up left behind. */
enum slot_left {
	SLOT_IN_USE, /* the slot has users or another pin */
	SLOT_LAST, /* it has none, and the caller has its pin: discard, then slot_release() */
};

/* Hands out a free slot with count 1, pinned by `owner`; false if it is not free. Acquire: meets slot_release. */
bool slot_alloc(struct atomic64 *slot, u32 owner);

/* The slot cannot be written: slot_release() leaves it BAD. The caller has its pin. */
void slot_mark_bad(struct atomic64 *slot);

/* Ends the life of a slot of which the caller has the pin and nobody is a user. Release: meets slot_alloc. */
void slot_release(struct atomic64 *slot);

/*
 * swapcache_prepare: pins a slot with one user for a swap-in past the swap cache. 0; -EEXIST: another has the pin or
 * it is in the swap cache; -ENOENT: no user is left; -EMLINK: more than one user. Acquire: meets swapcache_clear,
 * slot_cache_remove and slot_writeback_end.
 */
int slot_prepare(struct atomic64 *slot, u32 owner);

/* swapcache_clear: ends the pin of slot_prepare or slot_alloc. Release. */
enum slot_left slot_clear(struct atomic64 *slot);

/*
 * One user more, if the slot has just one and is neither pinned nor cached. 0 or as slot_prepare. Only the policy that
 * raises the count instead of pinning uses it. Acquire, as it reads the slot.
 */
int slot_dup_single(struct atomic64 *slot);

/* One user less. Relaxed: the pin orders the data, not the count. */
enum slot_left slot_put(struct atomic64 *slot);

/* Puts a frame under a slot that the caller has pinned: into the swap cache, unlocked or LOCKED. Release. */
void slot_publish(struct atomic64 *slot, u32 frame, bool dirty);

/* Pins a slot without a frame for a read through the swap cache, LOCKED under `frame`. As slot_prepare, any count. */
int slot_cache_add(struct atomic64 *slot, u32 frame);

/* Locks the cached frame. 0 and the word; -EAGAIN: locked or pinned (slot_wait); -ENOENT: not in the cache. Acquire. */
int slot_cache_lock(struct atomic64 *slot, u64 *word);

/* Ends the folio lock. Release. */
void slot_cache_unlock(struct atomic64 *slot);

/*
 * Ends the folio lock, and the frame's place in the swap cache unless it is under writeback: then it stays, and the
 * writer cleans up. `puts` users are dropped in the same step. *detached tells whether the frame is the caller's now.
 * Release.
 */
enum slot_left slot_cache_remove(struct atomic64 *slot, u32 puts, bool *detached);

/*
 * Begins writeback of the frame. 0; -EAGAIN: locked (slot_wait); -ENOENT: `frame` has left the cache. Acquire.
 * slot_writeback_end: -EAGAIN: locked (slot_wait); else 0, the frame is out of the cache, *left tells about the slot.
 * Both with `frame` as the guard: only its owner publishes it.
 */
int slot_writeback_begin(struct atomic64 *slot, u32 frame);
int slot_writeback_end(struct atomic64 *slot, enum slot_left *left);

/* Sleeps while the slot's word is still `seen` and busy. May return early. */
void slot_wait(struct atomic64 *slot, u64 seen);

/* The same while it is pinned or in the swap cache. */
void slot_wait_cached(struct atomic64 *slot, u64 seen);
