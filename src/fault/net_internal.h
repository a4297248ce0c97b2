/* SPDX-License-Identifier: MIT */
/*
 * Shared by the files of the net: one trapped call (struct net_trap), the table of calls, the record of holds.
 * Everything here runs in the SIGSYS handler: raw system calls only, bounded stack, no lock.
 */
#pragma once

#include <errno.h>
#include <ucontext.h>

#include "base/syscall.h"
#include "base/types.h"
#include "fault/net.h"

#define NET_GADGET 0x1ffff0000000ul
#define NET_TRAP_DATA 0x7765 /* in si_errno: this trap is ours */

enum {
	NET_CHUNK = 256 << 10, /* bytes that one step of a transfer holds */
	NET_IOVECS = 64, /* entries that one step of a transfer takes */
	NET_HOLDS = 144, /* ranges that a thread can hold; futex_waitv needs 129 */
};

/* What the filter does with a call. */
enum net_class {
	NET_UNLISTED, /* any argument that points into the window traps */
	NET_NONE, /* no pointers: never traps */
	NET_PTR, /* the table's pointers trap, and those of `nonzero` that are not NULL */
	NET_ALWAYS,
	NET_FORK, /* traps without CLONE_VM */
	NET_GUARD, /* EBADF for the guarded descriptor */
	NET_ENOSYS,
};

/* What an argument points to, so how long it is. */
enum net_kind {
	NET_ARG_SCALAR,
	NET_ARG_FIXED, /* size bytes */
	NET_ARG_FOREVER, /* size bytes, and the kernel keeps the pointer */
	NET_ARG_LEN, /* args[by] bytes, at most size of them if that is not 0 */
	NET_ARG_COUNT, /* args[by] times size bytes */
	NET_ARG_LENPTR, /* *(u32 *)args[by] bytes */
	NET_ARG_STRING,
	NET_ARG_FDSET, /* args[by] bits */
	NET_ARG_MSGBUF, /* a long and args[by] bytes */
	NET_ARG_MASK, /* a signal mask, replaced by a copy without SIGBUS and SIGSYS */
	NET_ARG_MASKPTR, /* pselect6: a pointer to such a mask and its size */
	NET_ARG_SELF, /* the call's own function takes care of it */
};

enum net_dir { NET_READ, NET_WRITE, NET_EITHER };

struct net_arg {
	u8 kind, dir, by;
	u32 size;
};

struct net_trap;
typedef long (*net_call_fn)(struct net_trap *t);

struct net_call {
	u8 class;
	u8 nonzero; /* bit per argument */
	u8 guard; /* the argument with the descriptor */
	net_call_fn fn;
	struct net_arg arg[6];
};

/*
 * Calls of class PTR that also trap when an argument has, or has not, one of these values in its masked part: their
 * pointers are nested.
 */
struct net_special {
	u16 nr;
	u8 arg;
	bool differs;
	u32 mask, value;
};

#define NET_NR_MAX 470
extern const struct net_special net_specials[];
extern const unsigned int net_specials_nr;
const struct net_call *net_call_find(long nr);
unsigned int net_call_mask(const struct net_call *call);

/* One trapped call, on the handler's stack. */
struct net_trap {
	uintptr_t id; /* the handler's frame: names the call in the record of holds */
	uintptr_t sp; /* of the interrupted program */
	ucontext_t *uc;
	const struct net_call *call;
	long nr, args[6];
	unsigned int pushed; /* ranges recorded by this call */
	u64 mask;
	struct {
		uintptr_t mask;
		size_t size;
	} maskptr;
};

struct net_state {
	uintptr_t start, end; /* the window */
	const struct net_ops *ops;
};

extern struct net_state net_state;

/* Descriptors that the program cannot close: ranges in ascending order, which do not touch. Written before arming. */
enum { NET_GUARDS_MAX = 8 };
struct net_guards {
	unsigned int nr;
	struct net_guard {
		unsigned int first, last;
	} guard[NET_GUARDS_MAX];
};

extern struct net_guards net_guards;

static inline bool net_in_window(uintptr_t addr)
{
	return addr >= net_state.start && addr < net_state.end;
}

static inline long net_syscall(long nr, const long args[6])
{
	return sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

/* net_hold.c */
void net_trap_begin(struct net_trap *t);
bool net_trap_lost_holds(const struct net_trap *t);
void net_trap_release_to(struct net_trap *t, unsigned int mark);
void net_forget_holds(void);
/*
 * Holds what of the range lies in the window, until the trap ends. Where only its beginning is mapped just that is
 * held, and 0 returned: the kernel finds the bad page itself. Else -ENOMEM.
 */
int must_check net_hold(struct net_trap *t, uintptr_t addr, size_t len, enum net_dir dir);
/* As net_hold up to the NUL, or max bytes. */
int must_check net_hold_string(struct net_trap *t, uintptr_t addr, size_t max);
/* Makes a string resident without keeping it. False: it ends in a bad pointer. */
bool net_touch_string(uintptr_t addr, size_t max);

/* net_calls.c */
/* Is it the core's business even where the kernel's accesses are served? */
bool net_call_is_core(long nr);
int must_check net_hold_args(struct net_trap *t);
long net_call_run(struct net_trap *t);

/* net_io.c */
long net_do_read(struct net_trap *t);
long net_do_write(struct net_trap *t);
long net_do_pread(struct net_trap *t);
long net_do_pwrite(struct net_trap *t);
long net_do_readv(struct net_trap *t);
long net_do_writev(struct net_trap *t);
long net_do_preadv(struct net_trap *t);
long net_do_pwritev(struct net_trap *t);
long net_do_getrandom(struct net_trap *t);
long net_do_sendmsg(struct net_trap *t);
long net_do_recvmsg(struct net_trap *t);
long net_do_sendmmsg(struct net_trap *t);
long net_do_recvmmsg(struct net_trap *t);
long net_do_vmsplice(struct net_trap *t);
long net_do_process_vm(struct net_trap *t);

/* net_filter.c */
enum { NET_TEXT_MAX = 16 };

/* Where this program's text lies, both ends included, in MiB. */
struct net_text {
	unsigned int nr;
	struct net_range {
		u32 first, last;
	} range[NET_TEXT_MAX];
};

/* 0, or -errno without /proc. */
int must_check net_text_find(struct net_text *text);
struct sock_filter;
/* Writes the filter, whose traps are for calls from `text`, and returns its length. */
unsigned int net_filter_make(struct sock_filter *out, unsigned int max, const struct net_text *text);

/* net.c */
void net_count_efault(long nr);
