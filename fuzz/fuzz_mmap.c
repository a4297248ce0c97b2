// SPDX-License-Identifier: MIT
/*
 * One random sequence of memory calls, and a line for each with what came of it: return value, errno, bytes, signals.
 * The same seed makes the same sequence, so a plain run and one under `weir run` must print the same lines;
 * fuzz_mmap.py runs both and compares.
 *
 * Operation number i is a function of (seed, i) alone, so any of them can be left out (--only) and the others stay as
 * they are: that is what makes sequences shrink. The lines name offsets, never addresses.
 *
 *   arena   ARENA_PAGES at a fixed address inside weir's window, where a plain kernel has nothing
 *   slot    a mapping whose address the kernel chose: mremap and mmap without MAP_FIXED bring them
 *
 * What plain Linux leaves open is not asked for, or masked: which VMAs merged (mremap stays within what one call
 * made), what MADV_FREE has freed, what mincore finds resident, when a private page of a file stops following the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	WORDS = PAGE / 8,
	ARENA_PAGES = 96,
	TAIL_PAGES = 32, /* room for mappings that grow over the arena's end; probed like the rest */
	ALL_PAGES = ARENA_PAGES + TAIL_PAGES,
	NR_SLOTS = 4,
	NR_PLACES = NR_SLOTS + 1,
	PLACE_PAGES = ALL_PAGES,
	RUN_PAGES = 24, /* longest range of most operations */
	FILE_PAGES = 12,
	NR_WORKERS = 2,
	BALLAST_PAGES = 2600, /* more than --resident 8M */
	LINE_MAX_BYTES = 512,
};

#define ARENA_ADDR ((uintptr_t)0x208000000000)
#define ARENA_STRIDE ((uintptr_t)1 << 30)

/* Newer than some headers. */
enum {
	ADV_COLD = 20,
	ADV_PAGEOUT = 21,
	ADV_POPULATE_READ = 22,
	ADV_POPULATE_WRITE = 23,
	ADV_DONTNEED_LOCKED = 24,
	ADV_COLLAPSE = 25,
	ADV_GUARD_INSTALL = 102,
	ADV_GUARD_REMOVE = 103,
};

/* Pages with the same id were mapped by one call and never split since: surely one VMA. 0: not mapped. */
struct place {
	uintptr_t base;
	unsigned int pages;
	unsigned int id[PLACE_PAGES];
	unsigned char prot[PLACE_PAGES];
	bool wiped[PLACE_PAGES]; /* has been through WIPEONFORK or the like: its VMAs are hard to foresee */
};

struct worker {
	unsigned int number;
	struct place place[NR_PLACES];
	unsigned int next_id;
	uint64_t rng;
	unsigned int op;
	FILE *out;
	int pipe[2];
	int file, shared;  /* mapped privately, and never written; the one that is written */
	sigjmp_buf escape; /* valid while touching */
	bool touching;
	siginfo_t trap;
	unsigned char copy[PLACE_PAGES][PAGE];
};

static struct options {
	uint64_t seed;
	unsigned int ops;
	const char *only; /* comma-separated numbers, or NULL for all */
	bool evict, ballast, threads, verbose, unprivileged;
} options = { .seed = 1, .ops = 200 };

static _Thread_local struct worker *self;
static struct worker *workers[NR_WORKERS];
static int done;

/* ---- numbers ---- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static unsigned int pick(unsigned int below)
{
	self->rng = mix(self->rng);
	return (unsigned int)(self->rng >> 33) % below;
}

static bool chance(unsigned int percent)
{
	return pick(100) < percent;
}

#define PICK(...) (((const int[]){ __VA_ARGS__ })[pick(sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))])

/* ---- lines ---- */

static __attribute__((format(printf, 1, 2))) void say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vfprintf(self->out, format, ap);
	va_end(ap);
}

static const char *error_name(long ret)
{
	return ret == -1 ? strerrorname_np(errno) : "ok";
}

/* ---- touching memory that may not be there ---- */

static void on_trap(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!self || !self->touching) {
		signal(sig, SIG_DFL);
		return;
	}
	self->trap = *info;
	self->touching = false;
	siglongjmp(self->escape, sig);
}

/* Forwards and byte by byte, as far as it goes: the first bad address is the one that is told. */
static __attribute__((noinline)) void copy_bytes(void *to, const void *from, size_t bytes)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

/* Copies a page, or part of it, to or from `buf`; 0 or the signal that it raised. */
static int touch(uintptr_t addr, void *buf, size_t bytes, bool write)
{
	int sig = sigsetjmp(self->escape, 0);

	if (sig)
		return sig;
	self->touching = true;
	if (write)
		copy_bytes((void *)addr, buf, bytes);
	else
		copy_bytes(buf, (void *)addr, bytes);
	self->touching = false;
	return 0;
}

static int read_page(uintptr_t addr, uint64_t *hash)
{
	uint64_t page[WORDS], h = 0;
	int sig = touch(addr, page, sizeof(page), false);

	for (size_t i = 0; !sig && i < WORDS; i++)
		h = (h ^ page[i]) * 0x100000001b3ull + (h >> 29);
	*hash = h;
	return sig;
}

static const char *trap_name(int sig)
{
	if (sig == SIGSEGV)
		return self->trap.si_code == SEGV_MAPERR   ? "maperr"
		       : self->trap.si_code == SEGV_ACCERR ? "accerr"
							   : "segv?";
	return self->trap.si_code == BUS_ADRERR ? "adrerr" : "bus?";
}

/* Reads every page of a place and adds what it found to *sum. */
static void probe_place(const struct place *p, uint64_t *sum)
{
	for (unsigned int i = 0; i < p->pages; i++) {
		uint64_t hash = 0;
		uintptr_t addr = p->base + (uintptr_t)i * PAGE;
		int sig = read_page(addr, &hash);

		if (sig) {
			hash = (uint64_t)sig << 8 | (unsigned int)self->trap.si_code;
			if ((uintptr_t)self->trap.si_addr != addr)
				hash += 12345;
		}
		*sum = mix(*sum ^ hash);
		if (options.verbose && sig)
			say(" %u:%s", i, trap_name(sig));
		else if (options.verbose)
			say(" %u:%x", i, (unsigned int)hash);
	}
}

static uint64_t probe_all(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < NR_PLACES; i++) {
		if (options.verbose)
			say(" [%d]", i);
		probe_place(&self->place[i], &sum);
	}
	return sum;
}

/* ---- what is where ---- */

static uintptr_t address(const struct place *p, unsigned int page)
{
	return p->base + (uintptr_t)page * PAGE;
}

/* Marks [first, first + nr) as made by one call (id 0: unmapped); what it cuts in two are two mappings from now on. */
static void mark(struct place *p, unsigned int first, unsigned int nr, bool mapped, int prot)
{
	unsigned int id = mapped ? ++self->next_id : 0;
	unsigned int end = first + nr < PLACE_PAGES ? first + nr : PLACE_PAGES;

	if (end < PLACE_PAGES && p->id[end] && first && p->id[end] == p->id[first - 1]) {
		unsigned int old = p->id[end], new = ++self->next_id;

		for (unsigned int i = end; i < PLACE_PAGES && p->id[i] == old; i++)
			p->id[i] = new;
	}
	for (unsigned int i = first; i < end; i++) {
		p->id[i] = id;
		p->prot[i] = (unsigned char)prot;
	}
}

/* A call that changes what is mapped already: each old mapping in the range becomes another one. */
static void mark_changed(struct place *p, unsigned int first, unsigned int nr, int prot)
{
	for (unsigned int i = first, n; i < first + nr && i < PLACE_PAGES; i += n) {
		n = 1;
		while (i + n < first + nr && i + n < PLACE_PAGES && p->id[i + n] == p->id[i])
			n++;
		if (!p->id[i] && prot >= 0)
			return; /* mprotect stops there */
		if (!p->id[i])
			continue;
		mark(p, i, n, true, prot < 0 ? p->prot[i] : prot);
	}
}

static bool is_one_mapping(const struct place *p, unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i++) {
		if (i >= PLACE_PAGES || !p->id[i] || p->id[i] != p->id[first])
			return false;
	}
	return nr > 0;
}

static bool is_mapped(const struct place *p, unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i++) {
		if (i >= p->pages || !p->id[i])
			return false;
	}
	return true;
}

static bool in_arena(const void *addr)
{
	return (uintptr_t)addr - self->place[0].base < (uintptr_t)ALL_PAGES * PAGE;
}

/* A mapping somewhere: it takes the place of an older one. */
static void slot_take(void *addr, unsigned int pages, int prot)
{
	struct place *p = &self->place[1 + pick(NR_SLOTS)];

	if (p->pages)
		munmap((void *)p->base, (size_t)p->pages * PAGE);
	memset(p, 0, sizeof(*p));
	if (pages > PLACE_PAGES) {
		munmap((void *)((uintptr_t)addr + (uintptr_t)PLACE_PAGES * PAGE), (size_t)(pages - PLACE_PAGES) * PAGE);
		pages = PLACE_PAGES;
	}
	p->base = (uintptr_t)addr;
	p->pages = pages;
	mark(p, 0, pages, true, prot);
}

/* A place and a range in it: the arena mostly. */
struct range {
	struct place *p;
	unsigned int first, nr;
	uintptr_t addr;
	size_t bytes;
};

static struct range pick_range(void)
{
	struct range r = { .p = &self->place[0] };
	struct place *slot = &self->place[1 + pick(NR_SLOTS)];

	if (chance(25) && slot->pages)
		r.p = slot;
	r.first = pick(r.p == &self->place[0] ? ARENA_PAGES : r.p->pages);
	r.nr = 1 + (chance(60) ? pick(4) : pick(RUN_PAGES));
	if (r.first + r.nr > r.p->pages)
		r.nr = r.p->pages - r.first;
	r.addr = address(r.p, r.first);
	r.bytes = (size_t)r.nr * PAGE;
	if (chance(10))
		r.bytes -= pick(PAGE); /* rounded up by the kernel */
	return r;
}

static int place_number(const struct place *p)
{
	return (int)(p - self->place);
}

/* Sometimes spoils the arguments; true if it did, so that nothing is to be marked unless told. */
static bool spoil(struct range *r)
{
	if (!chance(6))
		return false;
	switch (pick(4)) {
	case 0: /* of a slot nobody knows what lies behind it */
		if (r->p != &self->place[0])
			return false;
		r->addr += 1 + pick(PAGE - 1);
		break;
	case 1:
		r->bytes = 0;
		break;
	case 2:
		r->bytes = (size_t)0 - (size_t)pick(3) * PAGE - pick(2);
		break;
	default:
		/* Never a length that some calls would follow as far as there is memory, ours included. */
		r->bytes = (size_t)0 - (size_t)(1 + pick(1000)) * PAGE;
		break;
	}
	return true;
}

static void say_range(const char *name, const struct range *r)
{
	say("%s %d:%u+%u", name, place_number(r->p), r->first, r->nr);
	if (r->addr != address(r->p, r->first))
		say(" addr+%u", (unsigned int)(r->addr - address(r->p, r->first)));
	if (r->bytes != (size_t)r->nr * PAGE)
		say(" bytes=%zx", r->bytes);
}

static void say_result(long ret)
{
	say(" = %s\n", error_name(ret));
}

/* ---- operations ---- */

static int pick_prot(void)
{
	return PICK(PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
		    PROT_WRITE, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void op_map_fixed(void)
{
	struct range r = pick_range();
	int prot = chance(60) ? PROT_READ | PROT_WRITE : pick_prot();
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | PICK(MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE) |
		    PICK(0, 0, 0, MAP_NORESERVE, MAP_POPULATE, MAP_LOCKED, MAP_STACK);
	bool spoilt = spoil(&r);
	void *ret = mmap((void *)r.addr, r.bytes, prot, flags, -1, 0);

	say_range("mmap", &r);
	say(" prot=%d flags=%x = %s", prot, flags, error_name((long)ret));
	say("%s\n", ret == MAP_FAILED || ret == (void *)r.addr ? "" : " elsewhere");
	if (ret != MAP_FAILED && !spoilt)
		mark(r.p, r.first, r.nr, true, prot);
}

static void op_map_file(void)
{
	struct range r = pick_range();
	int prot = PICK(PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE);
	int flags = PICK(MAP_SHARED, MAP_PRIVATE, MAP_PRIVATE) | MAP_FIXED;
	off_t offset = (off_t)pick(FILE_PAGES) * PAGE;
	bool spoilt = spoil(&r), anonymous = chance(20);
	void *ret;

	if (anonymous)
		flags = MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS;
	if (chance(5))
		offset += pick(PAGE);
	ret = mmap((void *)r.addr, r.bytes, prot, flags,
		   anonymous		? -1
		   : flags & MAP_SHARED ? self->shared
					: self->file,
		   offset);
	say_range("mmap-file", &r);
	say(" prot=%d flags=%x offset=%lx = %s\n", prot, flags, (long)offset, error_name((long)ret));
	if (ret != MAP_FAILED && !spoilt)
		mark(r.p, r.first, r.nr, true, prot);
}

/* Without MAP_FIXED: a hint in the arena is followed if it is free, else the kernel chooses. */
static void op_map_hint(void)
{
	unsigned int first = pick(ARENA_PAGES), nr = 1 + pick(RUN_PAGES);
	int prot = pick_prot(), hinted = PICK(0, 1, 1), flags = MAP_PRIVATE | MAP_ANONYMOUS;
	uintptr_t hint = hinted ? address(&self->place[0], first) : 0;
	size_t bytes = (size_t)nr * PAGE;
	void *ret;

	if (chance(4))
		bytes = 0;
	else if (chance(4))
		bytes = ~(size_t)0 - pick(8192);
	else if (chance(4))
		bytes = (size_t)1 << (47 + pick(16));
	if (hinted && chance(10))
		hint += pick(PAGE);
	if (chance(5) && !options.unprivileged) /* which error comes first */
		flags = PICK(MAP_ANONYMOUS, MAP_PRIVATE, MAP_ANONYMOUS | 0x0f, 0);
	ret = mmap((void *)hint, bytes, prot, flags, -1, 0);
	say("mmap-hint %u+%u hint=%d bytes=%zx prot=%d flags=%x = %s %s\n", first, nr, hinted, bytes, prot, flags,
	    error_name((long)ret), ret != MAP_FAILED && in_arena(ret) ? "there" : "");
	if (ret == MAP_FAILED)
		return;
	if (in_arena(ret))
		mark(&self->place[0], (unsigned int)(((uintptr_t)ret - self->place[0].base) / PAGE), nr, true, prot);
	else
		slot_take(ret, nr, prot);
}

static void op_munmap(void)
{
	struct range r = pick_range();
	bool spoilt = r.p == &self->place[0] && spoil(&r);
	int ret;

	/* The kernel may use a hole in a slot for something else. */
	if (r.p != &self->place[0]) {
		r.first = 0;
		r.nr = r.p->pages;
		r.addr = r.p->base;
		r.bytes = (size_t)r.nr * PAGE;
	}
	ret = munmap((void *)r.addr, r.bytes);
	say_range("munmap", &r);
	say_result(ret);
	if (ret || (spoilt && r.bytes != (size_t)r.nr * PAGE))
		return;
	mark(r.p, r.first, r.nr, false, 0);
	if (r.p != &self->place[0])
		memset(r.p, 0, sizeof(*r.p));
}

static void op_mprotect(void)
{
	struct range r = pick_range();
	int prot = pick_prot(), ret, err;
	bool spoilt = spoil(&r);

	if (chance(4))
		prot |= PICK(0x100, PROT_GROWSDOWN, PROT_GROWSUP, PROT_GROWSDOWN | PROT_GROWSUP, 8);
	ret = mprotect((void *)r.addr, r.bytes, prot);
	err = errno;
	say_range("mprotect", &r);
	say(" prot=%x", (unsigned int)prot);
	say_result(ret);
	if (!spoilt && (!ret || err == ENOMEM))
		mark_changed(r.p, r.first, r.nr, prot & 7);
}

static void mremap_done(const struct range *r, unsigned int new_nr, int flags, unsigned int to, void *ret, int prot)
{
	bool moved = ret != (void *)r->addr, keeps = (flags & MREMAP_DONTUNMAP) != 0;

	/* Of a slot nobody may know whether it moved. */
	if (r->p != &self->place[0] && !(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))) {
		memset(r->p, 0, sizeof(*r->p));
		slot_take(ret, new_nr, prot);
		return;
	}
	/* The kernel unlocks all of the old VMA, however little of it was asked for. */
	for (unsigned int i = 0; keeps && i < r->p->pages; i++)
		munlock((void *)address(r->p, i), PAGE);
	if (keeps) /* and the new one, where it could merge with the old */
		munlock(ret, (size_t)new_nr * PAGE);
	if (moved && !keeps) {
		mark(r->p, r->first, r->nr, false, 0);
		/* A hole in a slot is not ours any more: all of it goes. */
		if (r->p != &self->place[0]) {
			munmap((void *)r->p->base, (size_t)r->first * PAGE);
			munmap((void *)(r->addr + (uintptr_t)r->nr * PAGE),
			       (size_t)(r->p->pages - r->first - r->nr) * PAGE);
			memset(r->p, 0, sizeof(*r->p));
		}
	}
	if (flags & MREMAP_FIXED)
		mark(&self->place[0], to, new_nr, true, prot);
	else if (moved && in_arena(ret)) /* DONTUNMAP takes the new address as a hint */
		mark(&self->place[0], (unsigned int)(((uintptr_t)ret - self->place[0].base) / PAGE), new_nr, true,
		     prot);
	else if (moved)
		slot_take(ret, new_nr, prot);
	else
		mark(r->p, r->first, new_nr, true, prot);
	if (!moved && new_nr < r->nr)
		mark(r->p, r->first + new_nr, r->nr - new_nr, false, 0);
}

static void op_mremap(void)
{
	struct range r = pick_range();
	int flags = PICK(0, MREMAP_MAYMOVE, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP);
	unsigned int new_nr = chance(40) ? r.nr : 1 + pick(RUN_PAGES), to = pick(ARENA_PAGES);
	size_t new_bytes;
	uintptr_t target;
	void *ret;
	int prot;

	if (options.unprivileged) /* the kernel forgets what it has unlocked */
		flags &= ~MREMAP_DONTUNMAP;
	if (chance(4))
		flags = PICK(MREMAP_FIXED, MREMAP_DONTUNMAP, 8, MREMAP_MAYMOVE | 16);
	if (r.p != &self->place[0] && !(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))) {
		/* A slot's neighbours are the kernel's secret: whole, and free to move. */
		flags |= MREMAP_MAYMOVE;
		r.first = 0;
		r.nr = r.p->pages;
		r.addr = r.p->base;
		new_nr = chance(50) ? r.nr : 1 + pick(PLACE_PAGES);
	}
	/* What is one VMA to the kernel beyond that depends on its history. */
	if (!is_one_mapping(r.p, r.first, r.nr) && is_mapped(r.p, r.first, 1)) {
		say("mremap %d:%u+%u not one mapping\n", place_number(r.p), r.first, r.nr);
		return;
	}
	r.bytes = (size_t)r.nr * PAGE;
	new_bytes = (size_t)new_nr * PAGE;
	target = address(&self->place[0], to);
	prot = r.p->prot[r.first];
	if (chance(3))
		r.addr += pick(PAGE);
	if (chance(3))
		r.bytes = chance(50) ? 0 : r.bytes - pick(PAGE);
	if (chance(3))
		new_bytes = PICK(0, 0, -1, -4096, 1);
	if (chance(3))
		target += (uintptr_t)pick(PAGE);
	ret = mremap((void *)r.addr, r.bytes, new_bytes, flags, (void *)target);
	say_range("mremap", &r);
	say(" to=%zx flags=%x at=%u+%x = %s%s\n", new_bytes, (unsigned int)flags, to, (unsigned int)(target % PAGE),
	    error_name((long)ret),
	    ret == MAP_FAILED || (r.p != &self->place[0] && !in_arena(ret)) ? ""
	    : in_arena(ret)						    ? " there"
									    : " away");
	if (ret != MAP_FAILED)
		mremap_done(&r, (unsigned int)((new_bytes + PAGE - 1) / PAGE), flags, to, ret, prot);
	else if (flags & MREMAP_FIXED && is_mapped(r.p, r.first, r.nr))
		self->next_id++; /* the destination may have gone already */
}

/*
 * After it each byte is as it was or zero (the kernel may drop a page while it is read); then the matter is settled,
 * for both runs to go on alike.
 */
static void op_free(void)
{
	struct range r = pick_range();
	bool odd = false;
	int ret;

	for (unsigned int i = 0; i < r.nr; i++) {
		if (touch(r.addr + (uintptr_t)i * PAGE, self->copy[i], PAGE, false))
			memset(self->copy[i], 0, PAGE);
	}
	r.bytes = (size_t)r.nr * PAGE;
	ret = madvise((void *)r.addr, r.bytes, MADV_FREE);
	say_range("madvise-free", &r);
	say(" = %s", error_name(ret));
	for (unsigned int i = 0; i < r.nr; i++) {
		unsigned char now[PAGE];

		if (touch(r.addr + (uintptr_t)i * PAGE, now, PAGE, false))
			continue;
		for (unsigned int j = 0; j < PAGE; j++)
			odd |= now[j] && now[j] != self->copy[i][j];
	}
	for (unsigned int i = 0; i < r.nr; i++)
		madvise((void *)(r.addr + (uintptr_t)i * PAGE), PAGE, MADV_DONTNEED);
	say("%s\n", odd ? " neither old nor zero" : "");
}

static void op_madvise(void)
{
	static const int rare[] = { MADV_NORMAL,
				    MADV_RANDOM,
				    MADV_SEQUENTIAL,
				    MADV_HUGEPAGE,
				    MADV_NOHUGEPAGE,
				    MADV_DONTDUMP,
				    MADV_DODUMP,
				    MADV_MERGEABLE,
				    MADV_UNMERGEABLE,
				    MADV_REMOVE,
				    99,
				    5,
				    -1 };
	struct range r = pick_range();
	int advice = PICK(MADV_DONTNEED, MADV_DONTNEED, MADV_WILLNEED, ADV_COLD, ADV_PAGEOUT, ADV_PAGEOUT,
			  ADV_POPULATE_READ, ADV_POPULATE_WRITE, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_DONTFORK,
			  MADV_DOFORK, ADV_DONTNEED_LOCKED, MADV_DONTNEED);
	int ret;

	if (chance(15))
		advice = rare[pick(sizeof(rare) / sizeof(rare[0]))];
	spoil(&r);
	/* On x86 writable is readable, for all but this. */
	for (unsigned int i = r.first; advice == ADV_POPULATE_READ && i < r.first + r.nr; i++)
		advice = r.p->prot[i] == PROT_WRITE ? ADV_POPULATE_WRITE : advice;
	ret = madvise((void *)r.addr, r.bytes, advice);
	say_range("madvise", &r);
	say(" advice=%d", advice);
	say_result(ret);
	mark_changed(r.p, r.first, r.nr, -1);
}

static void op_lock(void)
{
	struct range r = pick_range();
	int kind = PICK(0, 0, 1, 1, 2, 3, 4);
	int ret;

	spoil(&r);
	if (kind == 1)
		ret = munlock((void *)r.addr, r.bytes);
	else if (kind == 0)
		ret = mlock((void *)r.addr, r.bytes);
	else
		ret = mlock2((void *)r.addr, r.bytes, (unsigned int)(kind == 2 ? 0 : kind == 3 ? MLOCK_ONFAULT : 6));
	say_range("mlock", &r);
	say(" kind=%d", kind);
	say_result(ret);
	mark_changed(r.p, r.first, r.nr, -1);
}

/* Locked only until the next few operations are done: with everything locked there is little to see. */
static void op_lock_all(void)
{
	int flags =
		PICK(MCL_FUTURE, MCL_CURRENT, MCL_FUTURE | MCL_ONFAULT, MCL_CURRENT | MCL_FUTURE, 0, MCL_ONFAULT, 16);
	int ret;

	if (options.threads) {
		say("mlockall left out\n"); /* it is the other thread's affair, too */
		return;
	}
	if (options.ballast) /* too much to be locked, under weir */
		flags &= ~MCL_CURRENT;
	ret = chance(50) ? munlockall() : mlockall(flags);
	/* Under weir, MCL_CURRENT is for the window alone. */
	for (int i = 1; !ret && i < NR_PLACES && (flags & MCL_CURRENT); i++)
		mlock((void *)self->place[i].base, (size_t)self->place[i].pages * PAGE);
	say("mlockall %x = %s\n", (unsigned int)flags, error_name(ret));
	for (int i = 0; i < NR_PLACES; i++)
		mark_changed(&self->place[i], 0, PLACE_PAGES, -1);
}

static void op_mincore(void)
{
	struct range r = pick_range();
	unsigned char vec[PLACE_PAGES + 1];
	bool bad = chance(5), odd = false;
	int ret;

	spoil(&r);
	memset(vec, 0x55, sizeof(vec));
	ret = mincore((void *)r.addr, r.bytes, bad ? (unsigned char *)8 : vec);
	for (unsigned int i = 0; ret == 0 && i < r.nr && r.bytes; i++)
		odd |= !bad && vec[i] > 1;
	odd |= ret == 0 && r.bytes == (size_t)r.nr * PAGE && vec[r.nr] != 0x55;
	say_range("mincore", &r);
	say(" bad=%d = %s%s\n", bad, error_name(ret), odd ? " odd bytes" : "");
}

static void op_msync(void)
{
	struct range r = pick_range();
	int flags = PICK(MS_SYNC, MS_ASYNC, MS_SYNC | MS_INVALIDATE, MS_SYNC | MS_ASYNC, 0, 64, MS_INVALIDATE);
	int ret;

	spoil(&r);
	ret = msync((void *)r.addr, r.bytes, flags);
	say_range("msync", &r);
	say(" flags=%d", flags);
	say_result(ret);
}

static void op_write(void)
{
	struct range r = pick_range();
	unsigned char *buf = self->copy[0];
	unsigned int start = pick(PAGE), bytes = 1 + pick(PAGE - start), wrong = 0;
	uint64_t pattern = mix(self->rng);
	int kind = PICK(0, 1, 1, 2);

	for (unsigned int i = 0; i < PAGE; i += 8) {
		/* Pages of one word, of text, of noise: what compresses in every way. */
		uint64_t word = kind == 0 ? 0 : kind == 1 ? pattern : mix(pattern + i);

		memcpy(buf + i, &word, 8);
	}
	if (chance(40)) {
		start = 0;
		bytes = PAGE;
	}
	say_range("write", &r);
	say(" %u+%u kind=%d", start, bytes, kind);
	for (unsigned int i = 0; i < r.nr; i++) {
		uintptr_t addr = address(r.p, r.first + i) + start;
		int sig = touch(addr, buf, bytes, true);

		if (!sig)
			continue;
		wrong += (uintptr_t)self->trap.si_addr != addr;
		say(" %u:%s", i, trap_name(sig));
	}
	say("%s\n", wrong ? " wrong address" : "");
}

static void op_read(void)
{
	struct range r = pick_range();
	uint64_t sum = 0;

	say_range("read", &r);
	for (unsigned int i = 0; i < r.nr; i++) {
		uint64_t hash = 0;
		int sig = read_page(address(r.p, r.first + i), &hash);

		if (sig)
			say(" %u:%s", i, trap_name(sig));
		sum = mix(sum ^ hash);
	}
	say(" = %llx\n", (unsigned long long)sum);
}

/* Buffers for system calls, which may begin and end anywhere. */
static void op_transfer(void)
{
	struct range r = pick_range();
	unsigned int start = chance(50) ? 0 : pick(PAGE), kind = pick(7);
	size_t bytes = r.bytes > start ? r.bytes - start : 1;
	void *buf = (void *)(r.addr + start);
	struct iovec iov[2] = { { buf, bytes / 2 }, { (char *)buf + bytes / 2, bytes - bytes / 2 } };
	unsigned char *own = self->copy[0];
	ssize_t ret = -1, back = -1;

	if (bytes > 60000)
		bytes = 60000; /* a pipe's worth */
	if (r.p != &self->place[0] && kind == 6)
		kind = 0; /* a string that ends in no NUL would be followed behind the slot */
	switch (kind) {
	case 0:
		ret = write(self->pipe[1], buf, bytes);
		break;
	case 1:
		memset(own, 'a' + (int)pick(26), bytes);
		back = write(self->pipe[1], own, bytes);
		ret = read(self->pipe[0], buf, bytes);
		break;
	case 2:
		ret = pwrite(self->shared, buf, bytes, pick(4) * 1000);
		break;
	case 3:
		ret = pread(self->file, buf, bytes, pick(4) * 1000);
		break;
	case 4:
		ret = writev(self->pipe[1], iov, 2);
		break;
	case 5:
		ret = preadv(self->file, iov, 2, 100);
		break;
	default:
		ret = access(buf, F_OK);
		break;
	}
	say_range("transfer", &r);
	say(" %u kind=%u = %zd %s", start, kind, ret, error_name(ret));
	/* What is left in the pipe is part of the outcome. */
	if (kind == 0 || kind == 1 || kind == 4) {
		uint64_t sum = 0;

		while ((back = read(self->pipe[0], own, PAGE)) > 0) {
			for (ssize_t i = 0; i < back; i++)
				sum = (sum ^ own[i]) * 0x100000001b3ull;
		}
		say(" left %llx", (unsigned long long)sum);
	}
	say("\n");
}

/* The child sees the same bytes, those of wiped and left-out ranges excepted, and what it writes stays its own. */
static void op_fork(void)
{
	uint64_t sum = 0;
	int pipe_fd[2], status = 0;
	pid_t pid;

	fflush(self->out);
	if (pipe2(pipe_fd, O_CLOEXEC))
		abort();
	pid = fork();
	if (pid == 0) {
		FILE *out = fdopen(pipe_fd[1], "w");

		self->out = out;
		sum = probe_all();
		for (unsigned int i = 0; i < ALL_PAGES; i += 3) {
			unsigned char buf[8] = "child!!";

			touch(address(&self->place[0], i) + 8 * (i % 7), buf, sizeof(buf), true);
		}
		say(" then");
		sum = mix(sum ^ probe_all());
		if (chance(50))
			sum += (uint64_t)madvise((void *)self->place[0].base, (size_t)ALL_PAGES * PAGE, MADV_DONTNEED);
		sum = mix(sum ^ probe_all());
		say(" = %llx\n", (unsigned long long)sum);
		fflush(out);
		_exit(0);
	}
	close(pipe_fd[1]);
	say("fork %s", pid < 0 ? strerrorname_np(errno) : "");
	for (ssize_t n; (n = read(pipe_fd[0], self->copy, sizeof(self->copy))) > 0;)
		fwrite(self->copy, 1, (size_t)n, self->out);
	close(pipe_fd[0]);
	if (pid > 0 && waitpid(pid, &status, 0) != pid)
		abort();
	if (status)
		say(" child's status %x\n", (unsigned int)status);
}

static void op_brk(void)
{
	static unsigned char *bottom;
	static size_t grown;
	unsigned int pages = 1 + pick(8);
	unsigned char *was = sbrk(0);
	void *ret;
	size_t odd = 0;

	if (!bottom)
		bottom = was;
	if (options.threads || was != bottom + grown) {
		say("brk not ours\n");
		return;
	}
	if (chance(50) || grown < (size_t)pages * PAGE) {
		ret = sbrk((intptr_t)pages * PAGE + 64);
		say("brk +%u = %s", pages, error_name((long)ret));
		for (size_t i = 0; ret != (void *)-1 && i < (size_t)pages * PAGE; i += 512)
			odd += was[i] != 0;
		if (ret != (void *)-1) {
			memset(was, 7, (size_t)pages * PAGE + 64);
			grown += (size_t)pages * PAGE + 64;
		}
	} else {
		ret = sbrk(-(intptr_t)pages * PAGE);
		say("brk -%u = %s", pages, error_name((long)ret));
		grown -= ret != (void *)-1 ? (size_t)pages * PAGE : 0;
		for (size_t i = 0; i < grown; i += 512)
			odd += bottom[i] != 7;
		if (ret != (void *)-1) /* what is left of the last page is not cleared for its next use */
			memset(bottom + grown, 0, (size_t)((0 - (uintptr_t)(bottom + grown)) % PAGE));
	}
	say(" at %zx, %zu odd\n", (size_t)((unsigned char *)sbrk(0) - bottom), odd);
}

static void op_probe(void)
{
	say("probe");
	say(" = %llx\n", (unsigned long long)probe_all());
}

/* ---- the sequence ---- */

static const struct {
	unsigned int weight;
	void (*run)(void);
} table[] = {
	{ 12, op_map_fixed }, { 4, op_map_file }, { 5, op_map_hint }, { 8, op_munmap }, { 10, op_mprotect },
	{ 12, op_mremap },    { 4, op_free },	  { 16, op_madvise }, { 6, op_lock },	{ 1, op_lock_all },
	{ 2, op_mincore },    { 2, op_msync },	  { 20, op_write },   { 6, op_read },	{ 8, op_transfer },
	{ 2, op_fork },	      { 2, op_brk },	  { 6, op_probe },
};

static void run_op(unsigned int number)
{
	unsigned int total = 0, at;

	self->op = number;
	self->rng = mix(options.seed * 1000003 + number * 7919 + self->number * 104729);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		total += table[i].weight;
	at = pick(total);
	say("%u ", number);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (at < table[i].weight) {
			table[i].run();
			return;
		}
		at -= table[i].weight;
	}
}

static bool is_wanted(unsigned int number)
{
	char text[16];
	const char *at = options.only;
	size_t len = (size_t)snprintf(text, sizeof(text), "%u", number);

	if (!at)
		return true;
	for (; at; at = strchr(at, ','), at = at ? at + 1 : NULL) {
		if (!strncmp(at, text, len) && (at[len] == ',' || !at[len]))
			return true;
	}
	return false;
}

/* A beginning: most of the arena mapped, and some of it written. */
static void furnish(void)
{
	struct place *p = &self->place[0];

	for (unsigned int first = 0; first + 24 < ARENA_PAGES; first += 30) {
		if (mmap((void *)address(p, first), (size_t)26 * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
			abort();
		mark(p, first, 26, true, PROT_READ | PROT_WRITE);
		for (unsigned int i = 0; i < 20; i++)
			memset((void *)address(p, first + i), (int)(first + i), PAGE / 2);
	}
}

static void *run_worker(void *arg)
{
	struct place *arena;

	self = arg;
	arena = &self->place[0];
	arena->base = ARENA_ADDR + self->number * ARENA_STRIDE;
	arena->pages = ALL_PAGES;
	furnish();
	for (unsigned int i = 0; i < options.ops; i++) {
		if (is_wanted(i))
			run_op(i);
		fflush(self->out);
	}
	self->rng = 1;
	say("end ");
	op_probe();
	fflush(self->out);
	return NULL;
}

/* Under weir: throws everything out all the time. It changes no byte, so the other run need not have it. */
static void *run_evictor(void *arg)
{
	uint64_t *ballast = arg;
	uint64_t rng = options.seed;

	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < 64; i++) {
			uintptr_t base = ARENA_ADDR + rng % NR_WORKERS * ARENA_STRIDE;

			rng = mix(rng);
			if (rng % 3) {
				madvise((void *)(base + (rng >> 20) % ALL_PAGES * PAGE), (1 + (rng >> 40) % 64) * PAGE,
					ADV_PAGEOUT);
			} else {
				const struct place *p = &workers[0]->place[1 + (rng >> 20) % NR_SLOTS];

				madvise((void *)__atomic_load_n(&p->base, __ATOMIC_RELAXED), (size_t)8 * PAGE,
					ADV_PAGEOUT);
			}
			for (int j = 0; j < 8; j++) {
				rng = mix(rng);
				ballast[(rng >> 8) % BALLAST_PAGES * WORDS]++;
			}
		}
		usleep(200);
	}
	return NULL;
}

/* ---- the beginning ---- */

static struct worker *worker_new(unsigned int number, FILE *out)
{
	/* In the program's own file-backed memory would be best; what weir manages does as well, and is a test. */
	struct worker *w = calloc(1, sizeof(*w));
	unsigned char page[PAGE];

	if (!w || pipe2(w->pipe, O_NONBLOCK))
		abort();
	fcntl(w->pipe[1], F_SETPIPE_SZ, 1 << 20);
	w->number = number;
	w->out = out;
	w->file = memfd_create("fuzz", 0);
	w->shared = memfd_create("fuzz-shared", 0);
	for (int i = 0; i < FILE_PAGES; i++) {
		memset(page, 'A' + i, sizeof(page));
		if (write(w->file, page, PAGE) != PAGE || write(w->shared, page, PAGE) != PAGE)
			abort();
	}
	return w;
}

static void install_handlers(void)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO | SA_NODEFER };

	act.sa_sigaction = on_trap;
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
}

/* Without the right to lock what it likes, a program meets RLIMIT_MEMLOCK. */
static void drop_privilege(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	struct rlimit limit = { (rlim_t)40 * PAGE, (rlim_t)40 * PAGE };

	if (syscall(SYS_capget, &header, data))
		abort();
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, data) || setrlimit(RLIMIT_MEMLOCK, &limit))
		abort();
}

static int usage(void)
{
	fputs("usage: fuzz_mmap [--seed N] [--ops N] [--only I,J,...] [--threads] [--ballast [--evict]] "
	      "[--unprivileged] "
	      "[--verbose]\n",
	      stderr);
	return 2;
}

static bool parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(argv[i], "--seed") && value)
			options.seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--ops") && value)
			options.ops = (unsigned int)strtoul(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--only") && value)
			options.only = argv[++i];
		else if (!strcmp(argv[i], "--threads"))
			options.threads = true;
		else if (!strcmp(argv[i], "--ballast"))
			options.ballast = true;
		else if (!strcmp(argv[i], "--evict"))
			options.evict = true;
		else if (!strcmp(argv[i], "--unprivileged"))
			options.unprivileged = true;
		else if (!strcmp(argv[i], "--verbose"))
			options.verbose = true;
		else
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	unsigned int nr;
	pthread_t thread[NR_WORKERS], evictor;
	char *text[NR_WORKERS];
	size_t size[NR_WORKERS];
	void *ballast = NULL;

	if (!parse(argc, argv))
		return usage();
	nr = options.threads ? NR_WORKERS : 1;
	install_handlers();
	if (options.unprivileged)
		drop_privilege();
	for (unsigned int i = 0; i < nr; i++)
		workers[i] = worker_new(i, options.threads ? open_memstream(&text[i], &size[i]) : stdout);
	if (options.ballast)
		ballast = mmap(NULL, (size_t)BALLAST_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
	if (ballast == MAP_FAILED || (options.evict && pthread_create(&evictor, NULL, run_evictor, ballast)))
		abort();
	if (!options.threads)
		run_worker(workers[0]);
	for (unsigned int i = 0; options.threads && i < nr; i++) {
		if (pthread_create(&thread[i], NULL, run_worker, workers[i]))
			abort();
	}
	for (unsigned int i = 0; options.threads && i < nr; i++) {
		pthread_join(thread[i], NULL);
		fclose(workers[i]->out);
		printf("thread %u\n%s", i, text[i]);
	}
	__atomic_store_n(&done, 1, __ATOMIC_RELEASE);
	if (options.evict)
		pthread_join(evictor, NULL);
	return 0;
}
