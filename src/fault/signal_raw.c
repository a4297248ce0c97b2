// SPDX-License-Identifier: MIT
/* The kernel's signal calls, see signal_raw.h. No lock and no state: every function is one or two system calls. */
#include "fault/signal_raw.h"

#include "base/assert.h"
#include "base/syscall.h"

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

_Static_assert(sizeof(struct signal_raw_action) == 32, "the kernel's struct sigaction has 32 bytes on x86-64");

/*
 * The very bytes of libc's restorer (mov $15, %rax; syscall), which libgcc and gdb recognise. The nop before it keeps
 * the return address minus one, where unwinders look first, out of the function in front.
 */
__asm__(".text\n\t"
	".p2align 4\n\t"
	"nop\n"
	".globl signal_raw_restorer\n\t"
	".hidden signal_raw_restorer\n\t"
	".type signal_raw_restorer, @function\n"
	"signal_raw_restorer:\n\t"
	".byte 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00\n\t"
	"syscall\n\t"
	".size signal_raw_restorer, . - signal_raw_restorer\n");

int signal_raw_action(int sig, const struct signal_raw_action *act, struct signal_raw_action *old)
{
	struct signal_raw_action with;

	if (act) {
		with = *act;
		if (!(with.flags & SA_RESTORER)) {
			with.flags |= SA_RESTORER;
			with.restorer = (uintptr_t)signal_raw_restorer;
		}
		act = &with;
	}
	return (int)sys4(SYS_rt_sigaction, sig, act, old, sizeof(u64));
}

int signal_raw_install(int sig, signal_raw_fn fn, unsigned long flags, u64 mask, struct signal_raw_action *old)
{
	struct signal_raw_action act = { .handler = (uintptr_t)fn, .flags = SA_SIGINFO | flags, .mask = mask };

	return signal_raw_action(sig, &act, old);
}

void signal_raw_mask(int how, u64 set, u64 *old)
{
	long ret = sys4(SYS_rt_sigprocmask, how, &set, old, sizeof(u64));

	must(ret == 0);
}

u64 signal_raw_mask_get(void)
{
	u64 now = 0;
	long ret = sys4(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &now, sizeof(u64));

	must(ret == 0);
	return now;
}

void signal_raw_die(int sig)
{
	const struct signal_raw_action fallback = { .handler = (uintptr_t)SIG_DFL };

	signal_raw_action(sig, &fallback, NULL);
	signal_raw_mask(SIG_UNBLOCK, signal_raw_bit(sig), NULL);
	sys3(SYS_tgkill, sys0(SYS_getpid), sys0(SYS_gettid), sig);
	for (;;)
		sys1(SYS_exit_group, 128 + sig);
}
