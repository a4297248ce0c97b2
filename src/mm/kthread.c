// SPDX-License-Identifier: MIT
#include "mm/kthread.h"

#include "base/assert.h"
#include "sync/wait.h"

int kthread_start(struct kthread *k, void (*fn)(void *arg), void *arg)
{
	int ret;

	must(!k->started);
	atomic32_set(&k->stop, 0);
	ret = sync_thread_start(&k->thread, fn, arg);
	k->started = ret == 0;
	return ret;
}

void kthread_stop(struct kthread *k)
{
	if (!k->started)
		return;
	atomic32_store_release(&k->stop, 1);
	atomic32_add_return(&k->wake, 1);
	sync_wake32_all(&k->wake);
	sync_thread_join(&k->thread);
	k->started = false;
}

void kthread_wake(struct kthread *k)
{
	if (!k->started || !atomic32_read(&k->asleep))
		return;
	if (atomic32_xchg_acquire(&k->asleep, 0)) {
		atomic32_add_return(&k->wake, 1);
		sync_wake32_one(&k->wake);
	}
}
