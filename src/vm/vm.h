/* SPDX-License-Identifier: MIT */
/*
 * SECOND SEAM: what the core needs of an address space. uffd.c implements it with userfaultfd; the model checker
 * implements it with an array of simulated pages.
 *
 * Two ranges. The *window* is the program's memory, named by virtual page number. The *frames* are page-sized places
 * out of the program's reach, named by frame number: the first nr_steal_frames take pages that leave the window, the
 * others are plain memory, which pages are copied to and from.
 *
 * Rules that the implementation relies on, and the core keeps:
 *   - a page's PTE lock is held around install, steal, unprotect and zap of that page;
 *   - install is asked only for pages that the core believes absent, steal only for present ones. The answer is
 *     believed over the core's own word: the program may have called the kernel behind our back.
 * Context of all but open, close and register: any thread, also signal handlers.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

/* Number of a page in the window, from its start. */
typedef struct {
	u32 val;
} vpn_t;

/* Number of a frame. */
typedef struct {
	u32 val;
} frame_t;

enum {
	VM_RUN_MAX = 64, /* the longest run of pages in one call */
	VM_ZERO_PAGES = VM_RUN_MAX,
};

/*
 * The rights of a mapping, and what else is known of it.
 * VM_FOREIGN: the program has mapped something else over these pages; they are the kernel's until they are unmapped.
 */
enum vm_prot {
	VM_NONE = 0,
	VM_READ = 1,
	VM_WRITE = 2,
	VM_EXEC = 4,
	VM_ACCESS = VM_READ | VM_WRITE | VM_EXEC,
	VM_FOREIGN = 8,
	VM_LOCKED = 16, /* mlock: its pages do not leave */
	VM_WIPEONFORK = 32, /* a forked child finds it empty */
	VM_DONTFORK = 64, /* a forked child does not have it */
};

enum vm_method { VM_METHOD_AUTO, VM_METHOD_MOVE, VM_METHOD_COPY };

/*
 * How a fault arrives. SIGNAL: SIGBUS in the faulting thread; the kernel's own accesses fail. THREAD: a message, and
 * the faulting thread sleeps until vm_wake(), the kernel's own accesses included; needs a privilege, Linux 6.6, and
 * MOVE (6.8) unless COPY is forced: only MOVE refuses pages that a device is writing to just now.
 */
enum vm_faults { VM_FAULTS_SIGNAL, VM_FAULTS_THREAD };

struct vm_config {
	uintptr_t window_hint; /* exact address of the window; 0: anywhere */
	u32 nr_pages;
	u32 nr_steal_frames;
	u32 nr_plain_frames;
	enum vm_method method;
	enum vm_faults faults;
	struct atomic64 *moves_unreported; /* counts pages that MOVE took and did not tell of (uffd.c); or NULL */
};

struct vm {
	uintptr_t window;
	u32 nr_pages;
	u32 nr_steal_frames, nr_frames;
	uintptr_t frames;
	const void *zeros; /* VM_ZERO_PAGES pages that read as zero */
	enum vm_method method; /* VM_METHOD_MOVE or VM_METHOD_COPY once registered */
	enum vm_faults faults;
	struct atomic64 *moves_unreported;
	struct atomic32 poisoned; /* vm_poison() was called once; set under the page's PTE lock */
	int uffd, pagemap;
	bool registered;
	bool dumps; /* a crash leaves a core: what is handed out belongs in it */
};

/* Reserves both ranges, nothing accessible, no descriptor opened. 0, -ENOMEM, -EEXIST (the hint is taken). */
int must_check vm_open(struct vm *vm, const struct vm_config *cfg);
void vm_close(struct vm *vm);

/*
 * Makes ready to manage: descriptor, method, frames. 0; -ENOSYS, -EPERM (no userfaultfd, or not for the kernel's own
 * accesses); -EINVAL (too old, or the forced method is missing).
 */
int must_check vm_register(struct vm *vm);

/* Would vm_register work? What it would return. */
int must_check vm_can_register(enum vm_faults faults, enum vm_method method);

/*
 * From here on a first touch of these pages, and a write to a protected one, is a fault for the core to serve.
 * vm_restore makes them so again, absent and without access, after something else was mapped there. 0 or -errno.
 */
int must_check vm_manage(struct vm *vm, vpn_t vpn, u32 nr);
int must_check vm_restore(struct vm *vm, vpn_t vpn, u32 nr);

/* In a forked child of a registered vm: as vm_register, on the same descriptor numbers. vm_manage is due again. */
int must_check vm_fork_child(struct vm *vm);

/* Zero-filled memory for the core's tables, costs nothing until touched; NULL if there is no address space. */
void *vm_table_alloc(size_t bytes);
void vm_table_free(void *table, size_t bytes);

/*
 * Puts copies of `nr` consecutive source pages into consecutive absent pages, from the first on; write-protected if
 * `protect`. Returns how many were installed (> 0), or -EEXIST if the first one is present, or another -errno.
 */
long must_check vm_install(struct vm *vm, vpn_t vpn, const void *src, u32 nr, bool protect);

/*
 * Takes `nr` consecutive pages, not write-protected, out of the window into consecutive empty frames; with
 * VM_METHOD_MOVE or VM_FAULTS_THREAD only. Returns how many left (> 0), or for the first page -ENOENT (it is absent) or
 * another -errno (it cannot leave in this way).
 */
long must_check vm_steal(struct vm *vm, vpn_t vpn, frame_t frame, u32 nr);

/*
 * With VM_FAULTS_THREAD, takes out a page that may be read and not written, which MOVE does not do: it is made writable
 * for that moment, with write protection over it, so that a write meanwhile is still a fault. `prot` are the rights of
 * the page's mapping, which nobody changes meanwhile. 1, or -EBUSY: it stays as it is.
 */
long must_check vm_steal_unwritable(struct vm *vm, vpn_t vpn, frame_t frame, unsigned int prot);

/*
 * Copies `nr` pages, wherever they are, into consecutive plain frames. Returns how many; fewer than `nr`: the next one
 * could not be read (absent, or without rights). The program may be writing to them meanwhile.
 */
u32 vm_read_pages(struct vm *vm, const vpn_t *vpns, frame_t frame, u32 nr);

/* Lets present pages be written again; the opposite. 0 or -errno. */
int must_check vm_unprotect(struct vm *vm, vpn_t vpn, u32 nr);
int must_check vm_protect(struct vm *vm, vpn_t vpn, u32 nr);

/*
 * Drops pages: absent afterwards. vm_zap_pages: `nr` <= VM_RUN_MAX wherever they are, with one flush where the kernel
 * can. vm_zap_frames: steal frames. Cannot fail on valid ranges.
 */
void vm_zap(struct vm *vm, vpn_t vpn, u32 nr);
void vm_zap_pages(struct vm *vm, const vpn_t *vpns, u32 nr);
void vm_zap_frames(struct vm *vm, frame_t frame, u32 nr);

/* The frame's bytes. A steal frame is readable only while it holds a page. */
void *vm_frame_data(const struct vm *vm, frame_t frame);

/* Access rights of window pages, of enum vm_prot those in VM_ACCESS. 0 or -ENOMEM (too many mappings). */
int must_check vm_protect_range(struct vm *vm, vpn_t vpn, u32 nr, unsigned int prot);

/* The kernel's own lock on window pages, against its swap and for its count of them; brings none in. As mlock. */
int must_check vm_lock_range(struct vm *vm, vpn_t vpn, u32 nr, bool lock);

/*
 * Takes one page of the window to another place in it. Once registered: 0, -ENOENT (it is absent) or another -errno.
 * vm_remap does that before, with nr pages, present or not, that the caller has made accessible for the time: 0 or
 * -errno, and all is where it was.
 */
int must_check vm_move(struct vm *vm, vpn_t from, vpn_t to);
int must_check vm_remap(struct vm *vm, vpn_t from, vpn_t to, u32 nr);

/* One byte per page: non-zero where the kernel has a page. 0 or -errno. nr <= VM_RESIDENT_MAX. */
enum { VM_RESIDENT_MAX = 256 };
int must_check vm_resident(struct vm *vm, vpn_t vpn, u32 nr, u8 *present);

/* ---- VM_FAULTS_THREAD ---- */

struct vm_fault {
	vpn_t vpn;
	bool write;
	u32 tid; /* who faults */
};

enum { VM_FAULTS_MAX = 16 };

/*
 * Sleeps for up to timeout_ms until there are faults, and takes at most `nr` of them: how many, 0 after the time, or
 * -errno. Any number of threads may wait; each fault goes to one of them.
 */
long must_check vm_next_faults(struct vm *vm, struct vm_fault *faults, u32 nr, int timeout_ms);

/* Lets whoever sleeps on a fault of this page try again. */
void vm_wake(struct vm *vm, vpn_t vpn);

/* From now on, and until a zap, each access to an absent page is SIGBUS, or EFAULT for the kernel's. 0 or -errno. */
int must_check vm_poison(struct vm *vm, vpn_t vpn);

static inline uintptr_t vm_address(const struct vm *vm, vpn_t vpn)
{
	return vm->window + ((uintptr_t)vpn.val << PAGE_SHIFT);
}

static inline bool vm_owns(const struct vm *vm, uintptr_t addr)
{
	return addr - vm->window < (uintptr_t)vm->nr_pages << PAGE_SHIFT;
}

static inline vpn_t vm_vpn(const struct vm *vm, uintptr_t addr)
{
	return (vpn_t){ (u32)((addr - vm->window) >> PAGE_SHIFT) };
}
