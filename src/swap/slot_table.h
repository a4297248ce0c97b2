/* SPDX-License-Identifier: MIT */
/*
 * A few bytes for each slot of a device, in memory that is charged page by page when it is first written to and stays
 * until the end. Entries that were never written are zero.
 *
 * No locks: an entry is used by the holder of its slot's pin. Which pages are charged is settled by compare-and-swap.
 */
#pragma once

#include "swap/pages.h"

struct slot_table {
	u8 *entries;
	u32 entry_shift; /* log2 of an entry's bytes, which divide a page */
	u32 nr_slots;
	struct atomic32 *charged; /* per page of entries: 1 once it is */
	struct page_account *account;
};

/* 0 or -ENOMEM (address space). */
int must_check slot_table_init(struct slot_table *t, u32 nr_slots, u32 entry_bytes, struct page_account *account);

/* The account's charges are its owner's to give back. */
void slot_table_destroy(struct slot_table *t);

/* Before the entry is written to. 0, or what the account refuses with. */
int must_check slot_table_charge(struct slot_table *t, u32 slot);

void *slot_table_entry(const struct slot_table *t, u32 slot);

/* Was any entry of this one's page ever written to? */
bool slot_table_is_charged(const struct slot_table *t, u32 slot);
