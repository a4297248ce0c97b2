// SPDX-License-Identifier: MIT
#include "base/syscall.h"

#if !defined(__x86_64__)
#error "weir runs on x86-64 only: the signal frame and the raw system calls are written for it"
#endif

long syscall_direct(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

syscall_fn syscall_entry = syscall_direct;

void syscall_use_gadget(syscall_fn fn)
{
	syscall_entry = fn;
}
