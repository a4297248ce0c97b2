// SPDX-License-Identifier: MIT
#include "mm/swap_table.h"

#include <errno.h>

#include "base/assert.h"
#include "base/mutation.h"
#include "sync/wait.h"

/* After a step that ended a pin or lock and cleared WAITERS: `old` is the word before it. */
static void slot_wake(struct atomic64 *slot, u64 old)
{
	if ((old & SLOT_WAITERS) && !mutate(MUTATE_SLOT_NO_WAKE))
		sync_wake64(slot);
}

static u64 slot_high(u32 value)
{
	return (u64)value << SLOT_HIGH_SHIFT;
}

/* Without pin, frame, lock and owner: count and BAD only. */
static u64 slot_without_pin(u64 word)
{
	return word & (SLOT_COUNT_MASK | SLOT_BAD);
}

/* The word once a pin or frame goes: a slot that nobody uses stays pinned for the caller to discard. */
static u64 slot_given_up(u64 word, enum slot_left *left)
{
	u64 new = slot_without_pin(word);

	*left = slot_count(new) ? SLOT_IN_USE : SLOT_LAST;
	return *left == SLOT_LAST ? new | SLOT_HAS_CACHE : new;
}

bool slot_alloc(struct atomic64 *slot, u32 owner)
{
	u64 old = 0;

	return atomic64_cas_acquire(slot, &old, 1 | SLOT_HAS_CACHE | slot_high(owner));
}

void slot_mark_bad(struct atomic64 *slot)
{
	u64 old = atomic64_read(slot);

	do {
		must(old & SLOT_HAS_CACHE);
	} while (!atomic64_cas_relaxed(slot, &old, old | SLOT_BAD));
}

void slot_release(struct atomic64 *slot)
{
	u64 old = atomic64_read(slot);

	do {
		must((old & SLOT_HAS_CACHE) && !slot_count(old) && !slot_is_cached(old));
	} while (!atomic64_cas_release(slot, &old, old & SLOT_BAD));
	slot_wake(slot, old);
}

/* What both ways of claiming a slot for a direct read ask for. */
static int slot_is_single(u64 word)
{
	if (word & SLOT_HAS_CACHE)
		return -EEXIST;
	if (slot_count(word) == 0)
		return -ENOENT;
	return slot_count(word) > 1 ? -EMLINK : 0;
}

int slot_prepare(struct atomic64 *slot, u32 owner)
{
	u64 old = atomic64_read(slot);
	int ret;

	do {
		ret = slot_is_single(old);
		if (ret)
			return ret;
	} while (!atomic64_cas_acquire(slot, &old, old | SLOT_HAS_CACHE | slot_high(owner)));
	check(slot_word_is_valid(old));
	return 0;
}

enum slot_left slot_clear(struct atomic64 *slot)
{
	u64 old = atomic64_read(slot);
	enum slot_left left;
	u64 new;

	do {
		must((old & SLOT_HAS_CACHE) && !slot_is_cached(old));
		new = slot_given_up(old, &left);
	} while (!atomic64_cas_release(slot, &old, new));
	slot_wake(slot, old);
	return left;
}

int slot_dup_single(struct atomic64 *slot)
{
	u64 old = atomic64_read(slot);
	int ret;

	do {
		ret = slot_is_single(old);
		if (ret)
			return ret;
	} while (!atomic64_cas_acquire(slot, &old, old + 1));
	return 0;
}

enum slot_left slot_put(struct atomic64 *slot)
{
	u64 old = atomic64_read(slot);
	enum slot_left left;
	u64 new;

	do {
		must(slot_count(old) > 0);
		new = old - 1;
		left = SLOT_IN_USE;
		if (!(old & SLOT_HAS_CACHE) || mutate(MUTATE_FREE_PINNED))
			new = slot_given_up(new, &left);
		/* Acquire: the last user discards what the last pin holder left there. */
	} while (!atomic64_cas_acquire(slot, &old, new));
	return left;
}

void slot_publish(struct atomic64 *slot, u32 frame, bool dirty)
{
	u64 old = atomic64_read(slot);
	u64 new;

	do {
		must((old & SLOT_HAS_CACHE) && !slot_is_cached(old));
		new = slot_without_pin(old) | SLOT_HAS_CACHE | SLOT_FRAME | (dirty ? SLOT_DIRTY : 0) | slot_high(frame);
	} while (!atomic64_cas_release(slot, &old, new));
	if (!mutate(MUTATE_PUBLISH_NO_WAKE))
		slot_wake(slot, old);
}

int slot_cache_add(struct atomic64 *slot, u32 frame)
{
	u64 old = atomic64_read(slot);

	do {
		if (old & SLOT_HAS_CACHE)
			return -EEXIST;
		if (slot_count(old) == 0)
			return -ENOENT;
	} while (!atomic64_cas_acquire(slot, &old, old | SLOT_HAS_CACHE | SLOT_FRAME | SLOT_LOCKED | slot_high(frame)));
	return 0;
}

int slot_cache_lock(struct atomic64 *slot, u64 *word)
{
	u64 old = atomic64_read(slot);

	do {
		if (slot_is_busy(old))
			return -EAGAIN;
		if (!slot_is_cached(old))
			return -ENOENT;
	} while (!atomic64_cas_acquire(slot, &old, old | SLOT_LOCKED));
	*word = old;
	return 0;
}

void slot_cache_unlock(struct atomic64 *slot)
{
	u64 old = atomic64_read(slot);

	do {
		must(old & SLOT_LOCKED);
	} while (!atomic64_cas_release(slot, &old, old & ~(SLOT_LOCKED | SLOT_WAITERS)));
	slot_wake(slot, old);
}

enum slot_left slot_cache_remove(struct atomic64 *slot, u32 puts, bool *detached)
{
	u64 old = atomic64_read(slot);
	enum slot_left left;
	u64 new;

	do {
		must((old & SLOT_LOCKED) && slot_count(old) >= puts);
		new = old - puts;
		*detached = !(old & SLOT_WRITEBACK);
		left = SLOT_IN_USE;
		if (*detached)
			new = slot_given_up(new, &left);
		else
			new &= ~(SLOT_LOCKED | SLOT_WAITERS);
	} while (!atomic64_cas_acq_rel(slot, &old, new));
	slot_wake(slot, old);
	return left;
}

int slot_writeback_begin(struct atomic64 *slot, u32 frame)
{
	u64 old = atomic64_read(slot);

	do {
		if (!slot_is_cached(old) || slot_frame(old) != frame)
			return -ENOENT;
		if (old & SLOT_LOCKED)
			return -EAGAIN;
		must(!(old & SLOT_WRITEBACK));
	} while (!atomic64_cas_acquire(slot, &old, old | SLOT_WRITEBACK));
	return 0;
}

int slot_writeback_end(struct atomic64 *slot, enum slot_left *left)
{
	u64 old = atomic64_read(slot);
	u64 new;

	do {
		must(old & SLOT_WRITEBACK);
		if ((old & SLOT_LOCKED) && !mutate(MUTATE_DETACH_LOCKED))
			return -EAGAIN;
		new = slot_given_up(old, left);
	} while (!atomic64_cas_acq_rel(slot, &old, new));
	slot_wake(slot, old);
	return 0;
}

/* Announces the sleeper in the word itself, unless it has changed: the step that clears WAITERS wakes it. */
static void slot_sleep(struct atomic64 *slot, u64 seen)
{
	if (!(seen & SLOT_WAITERS) && !mutate(MUTATE_SLEEP_UNANNOUNCED) &&
	    !atomic64_cas_relaxed(slot, &seen, seen | SLOT_WAITERS))
		return;
	sync_wait64(slot, (u32)(seen | SLOT_WAITERS));
}

void slot_wait(struct atomic64 *slot, u64 seen)
{
	if (slot_is_busy(seen))
		slot_sleep(slot, seen);
}

void slot_wait_cached(struct atomic64 *slot, u64 seen)
{
	if (seen & SLOT_HAS_CACHE)
		slot_sleep(slot, seen);
}
