// SPDX-License-Identifier: MIT
#include "mm/lru.h"

#include <errno.h>

#include "base/mutation.h"
#include "sync/score.h"

enum {
	CHUNK_ENTRIES = (PAGE_SIZE - 16) / sizeof(u32),
	AGE_MAX = 255,
	GAP_SCORE_MAX = 256,
	MISSED_ALL = 1 << 16,
	MISSED_SHIFT = 6, /* the average is of so many samples, as a power of two, */
	MISSED_SAMPLES = 8, /* of which one page in so many is one */
	GAP_WEIGHT = 4, /* calls that one such fault is worth */
	KEPT_WEIGHT = 2, /* it pays while fewer than one in so many of those that are kept are written to */
};

/* A page of entries; those in [first, last) are waiting. Chunks are named by index, 0 is none. */
struct lru_chunk {
	u32 next;
	u32 first, last;
	u32 unused;
	u32 entries[CHUNK_ENTRIES];
};

_Static_assert(sizeof(struct lru_chunk) == PAGE_SIZE, "a chunk is charged as one page");

/* ---- a queue ---- */

static int queue_init(struct lru_queue *q, u32 nr)
{
	/* Full chunks for every entry, one partly empty at either end, and the unused index 0. */
	u32 nr_chunks = nr / CHUNK_ENTRIES + 4;

	*q = (struct lru_queue){ .nr_chunks = nr_chunks, .high_water = 1 };
	q->chunks = vm_table_alloc((size_t)nr_chunks * sizeof(struct lru_chunk));
	return q->chunks ? 0 : -ENOMEM;
}

static void queue_destroy(struct lru_queue *q)
{
	vm_table_free(q->chunks, (size_t)q->nr_chunks * sizeof(struct lru_chunk));
	q->chunks = NULL;
}

static u32 chunk_get(struct lru_queue *q, u32 *fresh)
{
	u32 c = q->free;

	if (c) {
		q->free = q->chunks[c].next;
	} else {
		c = q->high_water++;
		must(c < q->nr_chunks);
		(*fresh)++;
	}
	q->chunks[c].next = 0;
	q->chunks[c].first = q->chunks[c].last = 0;
	return c;
}

static void chunk_put(struct lru_queue *q, u32 c)
{
	q->chunks[c].next = q->free;
	q->free = c;
}

/* A chunk that becomes real memory is charged. */
static void queue_push(struct mm *mm, struct lru_queue *q, u32 entry)
{
	struct lru_chunk *tail;
	u32 fresh = 0;

	mutex_lock(&q->lock);
	tail = &q->chunks[q->tail];
	if (!q->tail || tail->last == CHUNK_ENTRIES) {
		u32 c = chunk_get(q, &fresh);

		if (q->tail)
			tail->next = c;
		else
			q->head = c;
		q->tail = c;
		tail = &q->chunks[c];
	}
	tail->entries[tail->last++] = entry;
	q->length++;
	mutex_unlock(&q->lock);
	if (fresh)
		budget_charge_tables(mm, fresh);
}

/* To the front: it is the next. */
static void queue_unpop(struct mm *mm, struct lru_queue *q, u32 entry)
{
	struct lru_chunk *head;
	u32 fresh = 0;

	mutex_lock(&q->lock);
	head = &q->chunks[q->head];
	if (!q->head || head->first == 0) {
		u32 c = chunk_get(q, &fresh);

		q->chunks[c].next = q->head;
		if (!q->head)
			q->tail = c;
		q->head = c;
		head = &q->chunks[c];
		head->first = head->last = CHUNK_ENTRIES;
	}
	head->entries[--head->first] = entry;
	q->length++;
	mutex_unlock(&q->lock);
	if (fresh)
		budget_charge_tables(mm, fresh);
}

static bool queue_pop(struct lru_queue *q, u32 *entry)
{
	struct lru_chunk *head;
	bool found;

	mutex_lock(&q->lock);
	found = q->length > 0;
	if (found) {
		head = &q->chunks[q->head];
		*entry = head->entries[head->first++];
		q->length--;
		if (head->first == head->last) {
			u32 next = head->next;

			chunk_put(q, q->head);
			q->head = next;
			if (!next)
				q->tail = 0;
		}
	}
	mutex_unlock(&q->lock);
	return found;
}

/* ---- page tables ---- */

int lru_init(struct mm *mm, u32 nr_pages, u64 limit_pages)
{
	struct lru *lru = &mm->lru;
	u32 nr_tables = DIV_ROUND_UP(nr_pages, PTES_PER_PAGE);

	*lru = (struct lru){ 0 };
	atomic32_set(&mm->lru.keep_score, SCORE_MAX);
	while (limit_pages >> (lru->clock_shift + 1) >= LRU_CLOCK_DEPTH)
		lru->clock_shift++;
	if (queue_init(&lru->oldest, nr_tables))
		return -ENOMEM;
	for (int hint = 0; hint < NR_LRU_HINTS; hint++) {
		if (queue_init(&lru->hinted[hint], nr_tables))
			return -ENOMEM;
	}
	return 0;
}

void lru_destroy(struct lru *lru)
{
	queue_destroy(&lru->oldest);
	for (int hint = 0; hint < NR_LRU_HINTS; hint++)
		queue_destroy(&lru->hinted[hint]);
}

static struct atomic64 *table_word(struct mm *mm, u32 table)
{
	return &mm->pte_tables[table];
}

/* Sets the bit and puts the table into its queue, unless it is there. */
static void table_push(struct mm *mm, u32 table, u64 bit, struct lru_queue *q)
{
	if (!(atomic64_read(table_word(mm, table)) & bit) && !(atomic64_fetch_or(table_word(mm, table), bit) & bit))
		queue_push(mm, q, table);
}

void lru_add(struct mm *mm, vpn_t vpn)
{
	atomic_full_barrier(); /* the page is seen by whoever clears QUEUED after this look at it */
	table_push(mm, vpn.val / PTES_PER_PAGE, TABLE_QUEUED, &mm->lru.oldest);
}

void lru_add_run(struct mm *mm, vpn_t first, long nr)
{
	if (nr <= 0)
		return;
	lru_add(mm, first);
	if ((first.val + (u32)nr - 1) / PTES_PER_PAGE != first.val / PTES_PER_PAGE)
		lru_add(mm, (vpn_t){ first.val + (u32)nr - 1 });
}

void lru_add_hint(struct mm *mm, enum lru_hint hint, vpn_t first, u32 nr)
{
	u32 table = first.val / PTES_PER_PAGE, last = (first.val + nr - 1) / PTES_PER_PAGE;

	lru_give_hinted(mm, hint, table);
	if (last != table)
		lru_give_hinted(mm, hint, last);
}

bool lru_take(struct mm *mm, u32 *table)
{
	return queue_pop(&mm->lru.oldest, table);
}

bool lru_take_hinted(struct mm *mm, enum lru_hint hint, u32 *table)
{
	if (!queue_pop(&mm->lru.hinted[hint], table))
		return false;
	atomic64_fetch_and(table_word(mm, *table), ~TABLE_HINTED(hint));
	return true;
}

void lru_give_hinted(struct mm *mm, enum lru_hint hint, u32 table)
{
	table_push(mm, table, TABLE_HINTED(hint), &mm->lru.hinted[hint]);
}

static bool table_has_pages(struct mm *mm, u32 table)
{
	u32 first = table * PTES_PER_PAGE, end = (u32)min_u64(first + PTES_PER_PAGE, mm->vm.nr_pages);

	for (u32 at = first; at < end; at++) {
		if (pte_may_be_present(pte_read(mm, (vpn_t){ at })))
			return true;
	}
	return false;
}

void lru_give(struct mm *mm, u32 table, bool seen, bool has_more)
{
	if (has_more) {
		queue_unpop(mm, &mm->lru.oldest, table);
		return;
	}
	if (seen) {
		queue_push(mm, &mm->lru.oldest, table);
		return;
	}
	atomic64_fetch_and(table_word(mm, table), ~TABLE_QUEUED);
	atomic_full_barrier(); /* meets lru_add() */
	if (!mutate(MUTATE_TABLE_NO_LOOK) && table_has_pages(mm, table))
		table_push(mm, table, TABLE_QUEUED, &mm->lru.oldest);
}

void lru_adapt(struct mm *mm, u32 age, u32 seen, u32 old, u32 oldest)
{
	u32 new = age;

	if (!seen)
		return;
	if (!old)
		new -= age / 8 + (age > 0);
	else if (old * 4 < seen)
		new -= age > 0;
	else if (old * 2 > seen)
		new += age < min_u64(oldest - oldest / 8, AGE_MAX);
	if (new != age)
		atomic32_set(&mm->lru.evict_age, new);
}

void lru_kept(struct mm *mm, u32 nr)
{
	if (score_pays(&mm->lru.keep_score))
		score_up(&mm->lru.keep_score, nr);
}

void lru_clean_left(struct mm *mm, u64 pte)
{
	u32 now;

	if (score_pays(&mm->lru.keep_score))
		return;
	now = lru_now(mm);
	if (lru_ticks(now, pte) < ((now - atomic32_read(&mm->lru.keep_ended)) & PTE_STAMP_MAX))
		score_up(&mm->lru.keep_score, 1);
}

void lru_clean_written(struct mm *mm)
{
	bool pays = score_pays(&mm->lru.keep_score);

	score_down(&mm->lru.keep_score, pays ? KEPT_WEIGHT : 1);
	if (pays && !score_pays(&mm->lru.keep_score))
		atomic32_set(&mm->lru.keep_ended, lru_now(mm));
}

bool lru_keeps(const struct mm *mm, vpn_t vpn)
{
	return score_pays_or_tries(&mm->lru.keep_score, vpn.val ^ lru_now(mm));
}

bool lru_has_room(const struct mm *mm)
{
	return atomic32_read(&mm->lru.missed) < MISSED_ALL / LRU_MISSED_PART;
}

/* By how many ticks ages could be longer without the copies that are kept, or would have to be shorter with them. */
static u64 copies_depth(const struct mm *mm)
{
	u64 stored = budget_stored(budget_used(mm)), slots = atomic64_read(&mm->stats->swapped);

	if (lru_has_room(mm))
		slots -= min_u64(stored, slots);
	return min_u64(stored, 4 * slots) * lru_depth(mm) / max_u64(slots, 1);
}

void lru_came_back(struct mm *mm, vpn_t vpn, u64 old)
{
	struct atomic32 *missed = &mm->lru.missed;
	u32 average;

	if (((vpn.val + 1) * 0x9e3779b1u) >> 16 & (MISSED_SAMPLES - 1) || !budget_store_competes(mm))
		return;
	average = atomic32_read(missed);
	if (lru_ticks(lru_now_out(mm), old) < copies_depth(mm))
		average += (MISSED_ALL - average) >> MISSED_SHIFT;
	else
		average -= average >> MISSED_SHIFT;
	atomic32_set(missed, average);
}

void lru_gap_written(struct mm *mm)
{
	u32 score = atomic32_read(&mm->lru.gap_score);

	if (score < GAP_SCORE_MAX)
		atomic32_set(&mm->lru.gap_score, score + GAP_WEIGHT);
}

bool lru_releases_gap(struct mm *mm)
{
	u32 score = atomic32_read(&mm->lru.gap_score);

	if (score)
		atomic32_set(&mm->lru.gap_score, score - 1);
	return score > 0;
}

u64 lru_length(struct mm *mm)
{
	u64 length;

	mutex_lock(&mm->lru.oldest.lock);
	length = mm->lru.oldest.length;
	mutex_unlock(&mm->lru.oldest.lock);
	return length;
}
