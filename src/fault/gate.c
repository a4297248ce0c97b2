// SPDX-License-Identifier: MIT
#include "fault/gate.h"

#include "base/mutation.h"

enum { DRAIN_LOOK_NS = 1000000 };

struct gate core_gate;

/* As in mm/stats.c: the stack tells threads apart well enough. */
static u32 this_shard(void)
{
	u64 key = (u64)(uintptr_t)__builtin_frame_address(0) >> 15;

	return (u32)((key * 0x9e3779b97f4a7c15ull) >> 60);
}

static void leave(struct gate *gate, u32 shard)
{
	u32 left = atomic32_sub_return(&gate->shard[shard].inside, 1);

	must(left != ~0u);
	atomic_full_barrier(); /* our going is seen before we look for a closer who waits for it */
	if (left == 0 && atomic32_read(&gate->closed) && !mutate(MUTATE_LEAVE_NO_WAKE))
		sync_wake32_all(&gate->shard[shard].inside);
}

u32 gate_enter(struct gate *gate)
{
	u32 shard = this_shard();

	for (;;) {
		u32 closer;

		atomic32_add_return(&gate->shard[shard].inside, 1);
		atomic_full_barrier(); /* we are counted before we look at the gate; meets gate_close */
		closer = atomic32_load_acquire(&gate->closed);
		if (likely(!closer) || closer == sync_thread_id() || mutate(MUTATE_GATE_LETS_IN))
			return shard;
		leave(gate, shard);
		sync_wait32(&gate->closed, closer);
	}
}

void gate_leave(struct gate *gate, u32 shard)
{
	leave(gate, shard);
}

void gate_close(struct gate *gate)
{
	mutex_lock(&gate->lock);
	atomic32_store_release(&gate->closed, sync_thread_id());
	atomic_full_barrier(); /* closed before we count; meets gate_enter */
	for (u32 i = 0; i < GATE_SHARDS; i++) {
		u32 inside;

		while (!mutate(MUTATE_GATE_NO_DRAIN) && (inside = atomic32_load_acquire(&gate->shard[i].inside)) != 0)
			sync_wait32_timeout(&gate->shard[i].inside, inside, DRAIN_LOOK_NS);
	}
}

void gate_open(struct gate *gate)
{
	atomic32_store_release(&gate->closed, 0);
	if (!mutate(MUTATE_GATE_NO_WAKE))
		sync_wake32_all(&gate->closed);
	mutex_unlock(&gate->lock);
}

void gate_open_in_child(struct gate *gate)
{
	*gate = (struct gate){ 0 };
}
