/* SPDX-License-Identifier: MIT */
/*
 * Handlers of the program's that weir stands before. The kernel tells a handler nothing but the signal, so each action
 * that differs has an entry of its own: a few bytes of code, whose address is what the kernel is given. So one
 * rt_sigaction(2) changes all of an action at once, for other threads, for handlers and for a vfork child.
 *
 * Entries are never given back, as a handler may be on its way through one; programs have a few.
 */
#pragma once

#include <signal.h>

#include "fault/signal_raw.h"

/*
 * Puts the entry for `act` in its place: the handler, and SA_SIGINFO. All else stays, so the mask is not in the entry.
 * Where ROUTES_MAX others are in use `act` stays as it is, and the handler is called without weir, on the stack that
 * the kernel chooses. Lockless. Context: any thread, handlers, vfork children.
 */
void route_install(struct signal_raw_action *act);

/* If `act`, as the kernel tells it, is an entry: what the program asked for. Context: as above. */
void route_resolve(struct signal_raw_action *act);

/* What an entry calls, in the kernel's handler; `act` has no mask. Defined by whoever installs entries. */
void route_deliver(int sig, siginfo_t *info, void *ucontext, const struct signal_raw_action *act);

enum { ROUTES_MAX = 512 };
