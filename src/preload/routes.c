// SPDX-License-Identifier: MIT
/*
 * A slot's state goes FREE, TAKEN, READY. Whoever turns FREE to TAKEN by compare-and-swap writes the words; READY is a
 * release that meets the acquires of whoever compares or delivers. Nobody waits for a slot that is TAKEN: its owner may
 * be the code that this handler has interrupted. Then the same action has two slots, which does no harm.
 */
#include "preload/routes.h"

#include "base/assert.h"
#include "sync/atomic.h"

enum { FREE, TAKEN, READY };
enum { ENTRY_BYTES = 16 };

struct route {
	struct atomic32 state;
	struct atomic64 handler, flags, restorer;
};

static struct route routes[ROUTES_MAX];
_Static_assert(ROUTES_MAX == 512, "the number of entries below");

/* Each entry adds a fourth argument, its number, to the handler's three. */
__asm__(".text\n\t"
	".p2align 4\n\t"
	".hidden route_entries\n\t"
	".globl route_entries\n\t"
	".type route_entries, @function\n"
	"route_entries:\n\t"
	".cfi_startproc\n\t"
	".set number, 0\n\t"
	".rept 512\n\t"
	".p2align 4\n\t"
	"movl $number, %ecx\n\t"
	"jmp route_enter\n\t"
	".set number, number + 1\n\t"
	".endr\n\t"
	".p2align 4\n\t"
	".cfi_endproc\n\t"
	".size route_entries, . - route_entries\n");

extern const u8 route_entries[];

/* Called by the entries alone. */
__attribute__((visibility("hidden"), used)) void route_enter(int sig, siginfo_t *info, void *ucontext, u32 number);

static void route_read(struct route *r, struct signal_raw_action *act)
{
	act->handler = atomic64_read(&r->handler);
	act->flags = atomic64_read(&r->flags);
	act->restorer = atomic64_read(&r->restorer);
}

void route_enter(int sig, siginfo_t *info, void *ucontext, u32 number)
{
	struct signal_raw_action act = { 0 };

	must(atomic32_load_acquire(&routes[number].state) == READY);
	route_read(&routes[number], &act);
	route_deliver(sig, info, ucontext, &act);
}

static bool route_matches(struct route *r, const struct signal_raw_action *act)
{
	return atomic32_load_acquire(&r->state) == READY && atomic64_read(&r->handler) == act->handler &&
	       atomic64_read(&r->flags) == act->flags && atomic64_read(&r->restorer) == act->restorer;
}

static bool route_fill(struct route *r, const struct signal_raw_action *act)
{
	u32 was = FREE;

	if (!atomic32_cas_acquire(&r->state, &was, TAKEN))
		return false;
	atomic64_set(&r->handler, act->handler);
	atomic64_set(&r->flags, act->flags);
	atomic64_set(&r->restorer, act->restorer);
	atomic32_store_release(&r->state, READY);
	return true;
}

void route_install(struct signal_raw_action *act)
{
	u64 start = (act->handler >> 4) + act->flags;

	for (u32 i = 0; i < ROUTES_MAX; i++) {
		u32 number = (u32)(start + i) % ROUTES_MAX;

		if (!route_matches(&routes[number], act) && !route_fill(&routes[number], act))
			continue;
		act->handler = (uintptr_t)route_entries + (size_t)number * ENTRY_BYTES;
		act->flags |= SA_SIGINFO;
		return;
	}
}

void route_resolve(struct signal_raw_action *act)
{
	uintptr_t offset = act->handler - (uintptr_t)route_entries;

	if (offset >= (uintptr_t)ROUTES_MAX * ENTRY_BYTES)
		return;
	must(atomic32_load_acquire(&routes[offset / ENTRY_BYTES].state) == READY);
	route_read(&routes[offset / ENTRY_BYTES], act);
}
