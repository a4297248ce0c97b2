// SPDX-License-Identifier: MIT
#include "mm/pte.h"

#include "base/mutation.h"
#include "mm/budget.h"

/* The first write to a page of the table makes it real memory: charge it. */
static void pte_touch(struct mm *mm, vpn_t vpn)
{
	struct atomic64 *table = &mm->pte_tables[vpn.val / PTES_PER_PAGE];

	if (likely(atomic64_read(table) & TABLE_TOUCHED))
		return;
	if (!(atomic64_fetch_or(table, TABLE_TOUCHED) & TABLE_TOUCHED))
		budget_charge_tables(mm, 1);
}

static u64 pte_without_lock(u64 pte)
{
	return pte & ~(PTE_LOCKED | PTE_WAITERS);
}

/* Announces the sleeper in the word itself: the unlock that clears both bits wakes it. */
static void pte_sleep(struct atomic64 *word, u64 seen)
{
	if (!(seen & PTE_WAITERS) && !atomic64_cas_relaxed(word, &seen, seen | PTE_WAITERS))
		return;
	sync_wait64(word, (u32)(seen | PTE_WAITERS));
}

bool pte_trylock(struct mm *mm, vpn_t vpn, u64 *pte)
{
	struct atomic64 *word = &mm->ptes[vpn.val];
	u64 old;

	check(vpn.val < mm->vm.nr_pages);
	pte_touch(mm, vpn);
	old = atomic64_read(word);
	do {
		if (old & PTE_LOCKED)
			return false;
	} while (!atomic64_cas_acquire(word, &old, old | PTE_LOCKED));
	check(pte_is_valid(old));
	*pte = pte_without_lock(old);
	return true;
}

u64 pte_lock(struct mm *mm, vpn_t vpn)
{
	u64 pte;

	while (!pte_trylock(mm, vpn, &pte))
		pte_wait_unlocked(mm, vpn);
	return pte;
}

void pte_wait_unlocked(struct mm *mm, vpn_t vpn)
{
	struct atomic64 *word = &mm->ptes[vpn.val];
	u64 old = atomic64_read(word);

	if (old & PTE_LOCKED)
		pte_sleep(word, old);
}

void pte_unlock(struct mm *mm, vpn_t vpn, u64 pte)
{
	struct atomic64 *word = &mm->ptes[vpn.val];
	u64 old = atomic64_read(word);
	u64 new;

	check(pte_is_valid(pte));
	do {
		must(old & PTE_LOCKED);
		new = (pte_without_lock(pte) & ~PTE_HOLD_MASK) | (mutate(MUTATE_HOLDS_LOST) ? 0 : old & PTE_HOLD_MASK);
	} while (!atomic64_cas_release(word, &old, new));
	if ((old & PTE_WAITERS) && !mutate(MUTATE_PTE_NO_WAKE))
		sync_wake64(word);
}

bool pte_hold(struct mm *mm, vpn_t vpn, bool write, bool untouched_ok)
{
	struct atomic64 *word = &mm->ptes[vpn.val];
	u64 old;

	pte_touch(mm, vpn);
	old = atomic64_read(word);
	do {
		if (((old & PTE_LOCKED) && !mutate(MUTATE_HOLD_LOCKED)) || (write && pte_is_protected(old)))
			return false;
		if (!pte_is_present(old) && !(untouched_ok && pte_is_none(old)))
			return false;
		if ((old & PTE_HOLD_MASK) == PTE_HOLDS_STUCK)
			return true;
	} while (!atomic64_cas_acquire(word, &old, old + PTE_HOLD));
	return true;
}

void pte_unhold(struct mm *mm, vpn_t vpn)
{
	struct atomic64 *word = &mm->ptes[vpn.val];
	u64 old = atomic64_read(word);

	do {
		if ((old & PTE_HOLD_MASK) == PTE_HOLDS_STUCK)
			return;
		must(pte_is_held(old));
	} while (!atomic64_cas_release(word, &old, old - PTE_HOLD));
}
