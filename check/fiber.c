// SPDX-License-Identifier: MIT
#include "fiber.h"

#include <errno.h>
#include <sys/mman.h>

/* Saves what the ABI wants kept, exchanges the stacks. */
void fiber_exchange(void **save, void *to);
void fiber_enter(void);

__asm__(".text\n"
	".globl fiber_exchange\n"
	".hidden fiber_exchange\n"
	".type fiber_exchange, @function\n"
	"fiber_exchange:\n\t"
	"push %rbp\n\t"
	"push %rbx\n\t"
	"push %r12\n\t"
	"push %r13\n\t"
	"push %r14\n\t"
	"push %r15\n\t"
	"mov %rsp, (%rdi)\n\t"
	"mov %rsi, %rsp\n\t"
	"pop %r15\n\t"
	"pop %r14\n\t"
	"pop %r13\n\t"
	"pop %r12\n\t"
	"pop %rbx\n\t"
	"pop %rbp\n\t"
	"ret\n"
	".size fiber_exchange, . - fiber_exchange\n"
	/* The first return of a new fiber comes here: rbx is the function, r12 its argument. */
	".globl fiber_enter\n"
	".hidden fiber_enter\n"
	".type fiber_enter, @function\n"
	"fiber_enter:\n\t"
	"mov %r12, %rdi\n\t"
	"xor %ebp, %ebp\n\t"
	"call *%rbx\n\t"
	"hlt\n"
	".size fiber_enter, . - fiber_enter\n");

/* By this choice the first two threads count themselves in the same shard of a gate, and the others do not. */
static const uintptr_t stacks_start = 0x100000040000, stacks_stride = 256 << 10;

int fiber_init(struct fiber *f, u32 n)
{
	char *stack = (char *)(stacks_start + n * stacks_stride);
	void *mem = mmap(stack - PAGE_SIZE, FIBER_STACK_BYTES + PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (mem == MAP_FAILED)
		return -errno;
	if (mprotect(mem, PAGE_SIZE, PROT_NONE))
		return -ENOMEM;
	f->stack = stack;
	return 0;
}

void fiber_prepare(struct fiber *f, void (*fn)(void *arg), void *arg)
{
	/* Six registers, the return address, and two words so that fiber_enter finds the stack aligned. */
	u64 *frame = (u64 *)(void *)(f->stack + FIBER_STACK_BYTES) - 9;

	frame[0] = frame[1] = frame[2] = 0; /* r15, r14, r13 */
	frame[3] = (u64)(uintptr_t)arg; /* r12 */
	frame[4] = (u64)(uintptr_t)fn; /* rbx */
	frame[5] = 0; /* rbp */
	frame[6] = (u64)(uintptr_t)fiber_enter;
	frame[7] = frame[8] = 0;
	f->sp = frame;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
	fiber_exchange(&from->sp, to->sp);
}
