/* SPDX-License-Identifier: MIT */
/*
 * Guests are ordinary programs, with nothing of weir in them. Each case prints what the kernel answered; the driver,
 * test_guests.sh, runs it plainly and under weir, where everything is paged out before each call, and compares.
 *
 *   GUEST list          the names of the cases
 *   GUEST CASE...       runs these
 *
 * With GUEST_STORM in the environment a thread pages the arena out all the time.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE ((size_t)4096)
#define WINDOW 0x200000000000ul

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define expect(cond)                                                                                                   \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "guest: line %d: %s (errno %d)\n", __LINE__, #cond, errno);                    \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

enum { ARENA_BYTES = 128 << 20 };

static char *arena;
static size_t arena_used;

/* Pages of the arena, which are absent once page_out() has run. */
static inline void *take(size_t bytes)
{
	void *p;

	if (!arena) {
		arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		expect(arena != MAP_FAILED);
		expect(!getenv("WEIR_MEMORY") || (uintptr_t)arena >> 40 == WINDOW >> 40);
	}
	p = arena + arena_used;
	arena_used += (bytes + 2 * PAGE - 1) & ~(PAGE - 1);
	expect(arena_used <= ARENA_BYTES);
	return p;
}

static inline void *take_copy(const void *src, size_t bytes)
{
	return memcpy(take(bytes), src, bytes);
}

static inline char *take_string(const char *s)
{
	return take_copy(s, strlen(s) + 1);
}

static inline void page_out(void)
{
	int saved = errno;

	if (arena_used)
		madvise(arena, arena_used, MADV_PAGEOUT);
	errno = saved;
}

/* Makes one call with everything paged out and prints the result. */
#define say(call)                                                                                                      \
	do {                                                                                                           \
		long said_;                                                                                            \
		page_out();                                                                                            \
		errno = 0;                                                                                             \
		said_ = (long)(call);                                                                                  \
		printf("%s = %ld%s%s\n", #call, said_, said_ < 0 ? " " : "", said_ < 0 ? strerrorname_np(errno) : ""); \
	} while (0)

#define show(value) printf("%s: %ld\n", #value, (long)(value))

static inline unsigned long guest_hash(const void *p, size_t bytes)
{
	const unsigned char *b = p;
	unsigned long h = 14695981039346656037ul;

	for (size_t i = 0; i < bytes; i++)
		h = (h ^ b[i]) * 1099511628211ul;
	return h;
}

/* One byte in 64 is random: it compresses well. */
static inline void fill(void *p, size_t bytes, unsigned long seed)
{
	unsigned char *b = p;

	for (size_t i = 0; i < bytes; i++) {
		if (i % 64 == 0)
			seed = seed * 6364136223846793005ul + 1442695040888963407ul;
		b[i] = (unsigned char)(i % 64 ? i >> 12 : seed >> 56);
	}
}

static void *storm_main(void *arg)
{
	for (;;) {
		page_out();
		usleep(200);
	}
	return arg;
}

struct guest_case {
	const char *name;
	void (*run)(void);
};

static inline int guest_main(int argc, char **argv, const struct guest_case *cases, size_t nr)
{
	sigset_t all, old;
	pthread_t thread;

	if (argc == 2 && !strcmp(argv[1], "list")) {
		for (size_t i = 0; i < nr; i++)
			puts(cases[i].name);
		return 0;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	take(PAGE);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	if (getenv("GUEST_STORM"))
		expect(!pthread_create(&thread, NULL, storm_main, NULL));
	sigprocmask(SIG_SETMASK, &old, NULL);
	for (int a = 1; a < argc; a++) {
		size_t i = 0;

		while (i < nr && strcmp(cases[i].name, argv[a]))
			i++;
		expect(i < nr);
		cases[i].run();
	}
	fflush(stdout);
	return 0;
}
