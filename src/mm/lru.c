// SPDX-License-Identifier: MIT
#include "mm/lru.h"

#include <errno.h>

enum { CHUNK_ENTRIES = (PAGE_SIZE - 16) / sizeof(vpn_t) };

/* A page of entries; those in [first, last) are waiting. Chunks are named by index, 0 is none. */
struct lru_chunk {
	u32 next;
	u32 first, last;
	u32 unused;
	vpn_t entries[CHUNK_ENTRIES];
};

_Static_assert(sizeof(struct lru_chunk) == PAGE_SIZE, "a chunk is charged as one page");

int lru_init(struct lru *lru, u32 nr_pages)
{
	/* Full chunks for every page, one partly empty at either end, and the unused index 0. */
	u32 nr_chunks = nr_pages / CHUNK_ENTRIES + 4;

	*lru = (struct lru){ .nr_chunks = nr_chunks, .high_water = 1 };
	lru->chunks = vm_table_alloc((size_t)nr_chunks * sizeof(struct lru_chunk));
	return lru->chunks ? 0 : -ENOMEM;
}

void lru_destroy(struct lru *lru)
{
	vm_table_free(lru->chunks, (size_t)lru->nr_chunks * sizeof(struct lru_chunk));
	lru->chunks = NULL;
}

static u32 chunk_get(struct lru *lru, u32 *fresh)
{
	u32 c = lru->free;

	if (c) {
		lru->free = lru->chunks[c].next;
	} else {
		c = lru->high_water++;
		must(c < lru->nr_chunks);
		(*fresh)++;
	}
	lru->chunks[c].next = 0;
	lru->chunks[c].first = lru->chunks[c].last = 0;
	return c;
}

static void chunk_put(struct lru *lru, u32 c)
{
	lru->chunks[c].next = lru->free;
	lru->free = c;
}

u32 lru_push(struct lru *lru, const vpn_t *vpns, u32 nr)
{
	u32 fresh = 0;

	mutex_lock(&lru->lock);
	for (u32 i = 0; i < nr; i++) {
		struct lru_chunk *tail = &lru->chunks[lru->tail];

		if (!lru->tail || tail->last == CHUNK_ENTRIES) {
			u32 c = chunk_get(lru, &fresh);

			if (lru->tail)
				tail->next = c;
			else
				lru->head = c;
			lru->tail = c;
			tail = &lru->chunks[c];
		}
		tail->entries[tail->last++] = vpns[i];
	}
	lru->length += nr;
	mutex_unlock(&lru->lock);
	return fresh;
}

u32 lru_pop(struct lru *lru, vpn_t *vpns, u32 nr)
{
	u32 got = 0;

	mutex_lock(&lru->lock);
	while (got < nr && lru->head) {
		struct lru_chunk *head = &lru->chunks[lru->head];
		u32 next = head->next;

		while (got < nr && head->first < head->last)
			vpns[got++] = head->entries[head->first++];
		if (head->first < head->last)
			break;
		chunk_put(lru, lru->head);
		lru->head = next;
		if (!next)
			lru->tail = 0;
	}
	must(lru->length >= got);
	lru->length -= got;
	mutex_unlock(&lru->lock);
	return got;
}

u64 lru_length(struct lru *lru)
{
	u64 length;

	mutex_lock(&lru->lock);
	length = lru->length;
	mutex_unlock(&lru->lock);
	return length;
}
