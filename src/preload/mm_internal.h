/* SPDX-License-Identifier: MIT */
/*
 * The mmap family's files among themselves: mm.c (mmap, munmap, mprotect, mremap, and what the program calls),
 * mm_range.c (madvise, mlock, mincore, msync: calls on ranges that may have holes), mm_limits.c (what the program may
 * have of them), brk.c.
 * All of it is 0 or more, or -errno. Context: the program's own, or the SIGSYS handler; nothing is locked.
 */
#pragma once

#include <sys/mman.h>

#include "base/syscall.h"
#include "preload/shim.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

/* The end of what an address may be: the kernel's TASK_SIZE with four levels of tables. */
#define TASK_BYTES (((u64)1 << 47) - PAGE_SIZE)

static inline bool in_window(const struct mm *mm, uintptr_t addr)
{
	return mm && vm_owns(&mm->vm, addr);
}

static inline uintptr_t area_address(const struct mm *mm, const struct area *a)
{
	return vm_address(&mm->vm, (vpn_t){ a->start });
}

static inline size_t area_bytes(const struct area *a)
{
	return pages_to_bytes(a->end - a->start);
}

static inline unsigned int to_vm_prot(int prot)
{
	return (prot & PROT_READ ? VM_READ : 0) | (prot & PROT_WRITE ? VM_WRITE | VM_READ : 0) |
	       (prot & PROT_EXEC ? VM_EXEC | VM_READ : 0);
}

/* Pages of the range that are mapped, with all of these marks of enum vm_prot. */
u64 count_pages(struct mm *mm, vpn_t start, u32 nr, unsigned int marks);

/* A range of whole pages inside the window; false if it leaves it or is malformed. */
bool window_range(const struct mm *mm, uintptr_t addr, size_t len, vpn_t *start, u32 *nr);

/* mm_range.c. Addresses are in the window; args as the system call has them. */
long range_mprotect(struct mm *mm, uintptr_t addr, size_t len, int prot);
long range_madvise(struct mm *mm, uintptr_t addr, size_t len, int advice);
long range_mlock(struct mm *mm, uintptr_t addr, size_t len, unsigned int flags);
long range_munlock(struct mm *mm, uintptr_t addr, size_t len);
long range_mincore(struct mm *mm, uintptr_t addr, size_t len, uintptr_t vec);
long range_msync(struct mm *mm, uintptr_t addr, size_t len, int flags);

/* mlockall and munlockall, of the window; what mlockall wants of mappings to come: MCL_FUTURE and MCL_ONFAULT, or 0. */
long lock_all(struct mm *mm, int flags);
long unlock_all(struct mm *mm);
int lock_future(void);
void lock_fork_child(void);

/* A new mapping that is to be locked, by MAP_LOCKED or mlockall; on error it is unmapped again. 0 or -EAGAIN. */
long lock_new(struct mm *mm, vpn_t start, u32 nr, bool populate);

/* Brings in what is accessible, as far as it fits. */
void populate_new(struct mm *mm, vpn_t start, u32 nr, unsigned int prot);

/* mm_limits.c: may the process lock at all (-EPERM), and `pages` more (0 or `refusal`)? */
long limit_lock(struct mm *mm, u64 pages, long refusal);
/* May it map `pages` more of the window? 0 or -ENOMEM. */
long limit_address_space(struct mm *mm, u64 pages);
/* All that it has mapped, weir's own left out, in pages. */
u64 limit_mapped(struct mm *mm);
/* Around the set-up of the window: what is mapped in between is weir's own. */
void limit_begin(void);
void limit_end(void);
