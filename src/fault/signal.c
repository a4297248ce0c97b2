// SPDX-License-Identifier: MIT
#include "fault/signal.h"

#include <errno.h>
#include <string.h>
#include <ucontext.h>

#include "base/os.h"
#include "base/print.h"
#include "base/syscall.h"
#include "fault/gate.h"
#include "mm/budget.h"
#include "mm/fault.h"
#include "weir.h"

enum { ERROR_CODE_WRITE = 1 << 1 }; /* x86 page-fault error code */

/* One line with the figures that tell why nothing more could leave. */
static void describe_oom(struct mm *mm, char *line, size_t size)
{
	struct weir_stats s;
	char limit[16], resident[16], stored[16], swapped[16], part[16], share[48] = "";
	u64 bound;

	mm_stats_sum(mm->stats, &s);
	bound = s.limit_memory ? s.limit_memory : s.limit_resident;
	if (mm->budget.more)
		print_to(share, sizeof(share), ", of which this process had %s",
			 print_size(part, sizeof(part), pages_to_bytes(budget_limit(mm))));
	print_to(line, size,
		 "out of memory: limit %s%s, resident %s, compressed store and tables %s holding %s of swapped pages; "
		 "swap is full and nothing more can leave",
		 print_size(limit, sizeof(limit), bound), share, print_size(resident, sizeof(resident), s.resident),
		 print_size(stored, sizeof(stored), s.stored), print_size(swapped, sizeof(swapped), s.swapped));
}

/* Swap full is told before it kills. */
_Noreturn void fault_out_of_memory(struct mm *mm, void (*out_of_memory)(const char *why))
{
	char line[320];

	describe_oom(mm, line, sizeof(line));
	if (out_of_memory)
		out_of_memory(line);
	else
		print_err("%s; ending the program", line);
	for (;;)
		sys2(SYS_kill, sys0(SYS_getpid), SIGKILL);
}

/*
 * An address in the window that nothing is mapped at: SIGSEGV, as it would be without us. It is queued to this thread
 * and arrives when the handler returns, before the access is repeated. A thread that has SIGSEGV blocked would fault
 * for ever instead; the kernel kills such a thread, and so does the default action.
 */
static void send_segv(const siginfo_t *bus, ucontext_t *uc)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = SIGSEGV;
	info.si_code = SEGV_MAPERR;
	info.si_addr = bus->si_addr;
	if (sigismember(&uc->uc_sigmask, SIGSEGV)) {
		signal(SIGSEGV, SIG_DFL);
		sigdelset(&uc->uc_sigmask, SIGSEGV);
	}
	sys4(SYS_rt_tgsigqueueinfo, sys0(SYS_getpid), os_gettid(), SIGSEGV, &info);
}

void fault_tell(struct mm *mm, enum fault_result result, vpn_t vpn)
{
	void *addr = (void *)vm_address(&mm->vm, vpn);
	struct swap_place place;

	if (result == FAULT_LOST)
		print_err("the kernel refused to install the page at %p: SIGBUS", addr);
	else if (result == FAULT_IO_ERROR && fault_place(mm, vpn, &place))
		print_err("the page at %p cannot be read back from swap device %s%s%s, offset %llu "
			  "(device error or corrupt data): SIGBUS",
			  addr, place.device, place.target[0] ? ":" : "", place.target,
			  (unsigned long long)place.offset);
	else if (result == FAULT_IO_ERROR)
		print_err("the page at %p cannot be read back from swap (device error or corrupt data): SIGBUS", addr);
}

static enum fault_result serve(struct mm *mm, uintptr_t addr, bool write)
{
	u32 shard = gate_enter(&core_gate);
	vpn_t vpn = vm_vpn(&mm->vm, addr);
	enum fault_result result = handle_mm_fault(mm, vpn, write);

	fault_tell(mm, result, vpn);
	gate_leave(&core_gate, shard);
	return result;
}

enum signal_outcome fault_signal(struct mm *mm, const siginfo_t *info, void *ucontext,
				 void (*out_of_memory)(const char *why))
{
	ucontext_t *uc = ucontext;
	uintptr_t addr = (uintptr_t)info->si_addr;
	int saved_errno = errno;
	enum signal_outcome outcome = SIGNAL_SERVED;

	if (info->si_code <= 0 || !vm_owns(&mm->vm, addr))
		return SIGNAL_NOT_OURS;
	switch (serve(mm, addr, uc->uc_mcontext.gregs[REG_ERR] & ERROR_CODE_WRITE)) {
	case FAULT_DONE:
	case FAULT_RETRY:
		break;
	case FAULT_UNMAPPED:
		send_segv(info, uc);
		break;
	case FAULT_FOREIGN:
		outcome = SIGNAL_NOT_OURS;
		break;
	case FAULT_OOM:
		fault_out_of_memory(mm, out_of_memory);
	case FAULT_IO_ERROR:
	case FAULT_LOST:
		outcome = SIGNAL_NOT_OURS;
		break;
	}
	errno = saved_errno;
	return outcome;
}
