/* SPDX-License-Identifier: MIT */
/*
 * Faults by signal: SIGBUS in the faulting thread, told apart and served. Used by the library's handler (weir.c) and
 * by the shim's (preload/main.c), which differ only in how they pass on what is not ours.
 */
#pragma once

#include <signal.h>

#include "mm/mm.h"

enum signal_outcome {
	SIGNAL_SERVED, /* return from the handler: the access is repeated, or another signal is on its way */
	SIGNAL_NOT_OURS, /* pass it on to the program's own handler or the default action */
};

/*
 * Context: SIGBUS handler with all signals blocked; keeps errno. `out_of_memory` may be NULL; after it returns, or in
 * its place after a message on stderr, the process is ended by SIGKILL.
 */
enum signal_outcome fault_signal(struct mm *mm, const siginfo_t *info, void *ucontext,
				 void (*out_of_memory)(const char *why));

/*
 * Says on stderr why a page is refused: of FAULT_IO_ERROR, with the place of its copy, and of FAULT_LOST; nothing of
 * other results. Context: any where handle_mm_fault() may be called, inside the gate.
 */
void fault_tell(struct mm *mm, enum fault_result result, vpn_t vpn);

/* Ends the process, after `out_of_memory` or a message. Context: any. */
_Noreturn void fault_out_of_memory(struct mm *mm, void (*out_of_memory)(const char *why));
