// SPDX-License-Identifier: MIT
#include "swap/slot_table.h"

#include <errno.h>

#include "base/assert.h"
#include "base/os.h"

static size_t table_bytes(const struct slot_table *t)
{
	return (size_t)t->nr_slots << t->entry_shift;
}

static size_t marks_bytes(const struct slot_table *t)
{
	return bytes_to_pages(table_bytes(t)) * sizeof(*t->charged);
}

int slot_table_init(struct slot_table *t, u32 nr_slots, u32 entry_bytes, struct page_account *account)
{
	must(entry_bytes && !(entry_bytes & (entry_bytes - 1)) && entry_bytes <= PAGE_SIZE);
	*t = (struct slot_table){
		.entry_shift = (u32)__builtin_ctz(entry_bytes),
		.nr_slots = nr_slots,
		.account = account,
	};
	t->entries = pages_reserve(table_bytes(t));
	t->charged = pages_reserve(marks_bytes(t));
	return t->entries && t->charged ? 0 : -ENOMEM;
}

void slot_table_destroy(struct slot_table *t)
{
	os_unreserve(t->entries, table_bytes(t));
	os_unreserve(t->charged, marks_bytes(t));
}

static struct atomic32 *table_mark(const struct slot_table *t, u32 slot)
{
	must(slot < t->nr_slots);
	return &t->charged[((size_t)slot << t->entry_shift) >> PAGE_SHIFT];
}

/* Relaxed: the mark guards no data, and a stale 0 is settled by the compare-and-swap. */
bool slot_table_is_charged(const struct slot_table *t, u32 slot)
{
	return atomic32_read(table_mark(t, slot)) != 0;
}

int slot_table_charge(struct slot_table *t, u32 slot)
{
	u32 old = 0;
	int ret;

	if (slot_table_is_charged(t, slot))
		return 0;
	ret = page_account_charge(t->account, 1);
	/* Two slots of one page may come here at once: one of the charges is too many. */
	if (!ret && !atomic32_cas_acquire(table_mark(t, slot), &old, 1))
		page_account_uncharge(t->account, 1);
	return ret;
}

void *slot_table_entry(const struct slot_table *t, u32 slot)
{
	must(slot < t->nr_slots);
	return t->entries + ((size_t)slot << t->entry_shift);
}
