// SPDX-License-Identifier: MIT
#include "preload/frame.h"

#include <string.h>

enum {
	RED_ZONE = 128, /* below the stack pointer, in use by leaf functions */
	UC_BYTES = 304, /* the kernel's ucontext; libc's goes on behind it */
	INFO_BYTES = 128,
	FP_BYTES = 512, /* of the legacy state; more if its software bytes say so */
	FP_SOFTWARE_AT = 464,
	FP_MAGIC = 0x46505853,
	FP_ALIGN = 64,
};

/* The kernel's struct rt_sigframe. */
struct frame {
	uintptr_t restorer;
	u8 uc[UC_BYTES];
	u8 info[INFO_BYTES];
};

#define EFLAGS_CLEARED 0x10500ul /* trap, direction, resume: as the kernel begins a handler */

static size_t fp_bytes(const u8 *fp)
{
	u32 software[2]; /* magic, bytes of all */

	memcpy(software, fp + FP_SOFTWARE_AT, sizeof(software));
	return software[0] == FP_MAGIC ? software[1] : FP_BYTES;
}

void frame_move(int sig, const siginfo_t *info, ucontext_t *uc, const struct signal_raw_action *act)
{
	greg_t *regs = uc->uc_mcontext.gregs;
	uintptr_t at = (uintptr_t)regs[REG_RSP] - RED_ZONE;
	const u8 *fp = (const u8 *)uc->uc_mcontext.fpregs;
	u64 mask = signal_raw_mask_get();
	struct frame *frame;
	void *moved = NULL;

	if (fp) {
		at = ALIGN_DOWN(at - fp_bytes(fp), FP_ALIGN);
		moved = memcpy((void *)at, fp, fp_bytes(fp));
	}
	/* As after a call: the return address, the restorer's, lies 8 below a multiple of 16. */
	at = ALIGN_DOWN(at - sizeof(*frame), 16) - 8;
	frame = (struct frame *)at;
	frame->restorer = act->restorer;
	memcpy(frame->uc, uc, UC_BYTES);
	memcpy(frame->uc + offsetof(ucontext_t, uc_mcontext.fpregs), &moved, sizeof(moved));
	memcpy(frame->info, info, INFO_BYTES);

	regs[REG_RIP] = (greg_t)act->handler;
	regs[REG_RSP] = (greg_t)at;
	regs[REG_RDI] = sig;
	regs[REG_RSI] = (greg_t)(uintptr_t)frame->info;
	regs[REG_RDX] = (greg_t)(uintptr_t)frame->uc;
	regs[REG_RAX] = 0;
	regs[REG_EFL] &= ~(greg_t)EFLAGS_CLEARED;
	memcpy(&uc->uc_sigmask, &mask, sizeof(mask));
}
