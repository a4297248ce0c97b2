/* SPDX-License-Identifier: MIT */
/*
 * Moves a signal's frame from our alternate stack to the stack that was interrupted. The kernel cannot write a frame
 * where a page is absent: it would end the process. So after adoption it writes all of them on our stack, and the
 * handler of a program that wants its signals where it stands finds them there, as if the kernel had put them there.
 */
#pragma once

#include <ucontext.h>

#include "preload/signals.h"

/*
 * From a handler of ours, whose frame is `uc`: when it returns, `act`'s handler runs on the interrupted stack, with
 * the mask that is in force now, and when that one returns, what was interrupted goes on. Faults are served meanwhile.
 */
void frame_move(int sig, const siginfo_t *info, ucontext_t *uc, const struct signal_raw_action *act);
